"""A store in a schema of a PostgreSQL database."""

try:
    import psycopg as _  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"{_missing}: PostgreSQL needs an extra: pip install 'voiceflow-worker[postgres]'", name=_missing.name
    ) from _missing

from voiceflow_worker.backends.postgres.opening import open_postgres
from voiceflow_worker.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore", "open_postgres"]
