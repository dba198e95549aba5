"""Stores of jobs: the registry of backends, memory, SQLite, Redis, and the contract that every backend passes."""

from voiceflow_worker.backends.registry import ENTRY_POINT_GROUP, open_store

__all__ = ["ENTRY_POINT_GROUP", "open_store"]
