"""A store in Redis or Valkey: a single server, a Cluster, or servers behind Sentinel."""

try:
    import hiredis as _  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"{_missing}: Redis and Valkey need an extra: pip install 'voiceflow-worker[redis]'", name=_missing.name
    ) from _missing

from voiceflow_worker.backends.redis.store import RedisStore, open_redis

__all__ = ["RedisStore", "open_redis"]
