"""A store in the memory of the process, for tests and for embedding. It does not survive the process."""

from voiceflow_worker.backends.memory.store import MemoryStore, open_memory

__all__ = ["MemoryStore", "open_memory"]
