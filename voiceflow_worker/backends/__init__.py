"""The stores: memory, SQLite, PostgreSQL, Redis, the registry that opens them, and their contract suite."""

from voiceflow_worker.backends.registry import ENTRY_POINT_GROUP, open_store

__all__ = ["ENTRY_POINT_GROUP", "open_store"]
