"""A store in one SQLite file, for any number of processes on one machine."""

from voiceflow_worker.backends.sqlite.store import SqliteStore, open_sqlite

__all__ = ["SqliteStore", "open_sqlite"]
