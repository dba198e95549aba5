"""The PostgreSQL store: the nine methods of `core/ports/store.py`, each one statement."""

from __future__ import annotations

from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.survey import Durability
from voiceflow_worker.core.ports.store import Clock


class PostgresStore:
    """An open store in a schema of a database. This object belongs to one event loop."""

    def __init__(self, url: str, database: Database, *, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.server = ""
        self.database = database

    @property
    def durability(self) -> Durability:
        """The durability of the server, checked when it was last connected."""
        return self.database.survey.durability
