"""Jobs in Redis or Valkey: one machine or several, standalone, behind Sentinel, or a Cluster."""

from voiceflow_worker.backends.redis.store import RedisStore, open_redis

__all__ = ["RedisStore", "open_redis"]
