"""A store in the memory of the process, for tests and for embedding. It does not survive the process."""

from voiceflow_worker.backends.memory.older import OlderMemoryStore as MemoryStore
from voiceflow_worker.backends.memory.older import open_memory

__all__ = ["MemoryStore", "open_memory"]
