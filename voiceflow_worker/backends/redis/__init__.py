"""A store in Redis or Valkey: a single server, or servers behind Sentinel."""

from voiceflow_worker.errors import require_extra

require_extra("redis", "redis", "hiredis", what="Redis and Valkey need")

from voiceflow_worker.backends.redis.store import RedisStore, open_redis  # noqa: E402 - it would not say what is missing

__all__ = ["RedisStore", "open_redis"]
