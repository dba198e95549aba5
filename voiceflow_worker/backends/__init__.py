"""Where jobs are kept: a registry from URL to backend, memory, SQLite, and the contract that every backend passes."""

from voiceflow_worker.backends.registry import ENTRY_POINT_GROUP, open_store

__all__ = ["ENTRY_POINT_GROUP", "open_store"]
