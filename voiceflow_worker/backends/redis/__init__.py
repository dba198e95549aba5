"""A store in Redis or Valkey: a single server, a Cluster, or servers behind Sentinel."""

from voiceflow_worker.backends.redis.store import RedisStore, open_redis

__all__ = ["RedisStore", "open_redis"]
