"""A store in a schema of a PostgreSQL database."""

from voiceflow_worker.errors import require_extra

require_extra("postgres", "psycopg", what="PostgreSQL needs")

from voiceflow_worker.backends.postgres.opening import open_postgres  # noqa: E402 - it would not say what is missing
from voiceflow_worker.backends.postgres.store import PostgresStore  # noqa: E402

__all__ = ["PostgresStore", "open_postgres"]
