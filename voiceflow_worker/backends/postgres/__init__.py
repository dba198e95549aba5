"""A store in a schema of a PostgreSQL database."""

try:
    import psycopg as _  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: PostgreSQL needs an extra: pip install 'voiceflow-worker[postgres]'", name=error.name
    ) from error

from voiceflow_worker.backends.postgres.opening import open_postgres
from voiceflow_worker.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore", "open_postgres"]
