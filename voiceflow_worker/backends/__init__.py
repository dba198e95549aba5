"""The stores: memory, SQLite and Redis, the registry that opens them, and the contract suite that tests them."""

from voiceflow_worker.backends.registry import ENTRY_POINT_GROUP, open_store

__all__ = ["ENTRY_POINT_GROUP", "open_store"]
