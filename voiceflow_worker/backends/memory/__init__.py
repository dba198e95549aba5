"""A store in this process's memory, for tests and for embedding: it keeps every promise but the one about restarts."""

from voiceflow_worker.backends.memory.store import MemoryStore, open_memory

__all__ = ["MemoryStore", "open_memory"]
