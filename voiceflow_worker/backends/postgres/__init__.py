"""A store in a schema of a PostgreSQL database."""

from voiceflow_worker.backends.postgres.opening import open_postgres
from voiceflow_worker.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore", "open_postgres"]
