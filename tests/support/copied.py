"""A copy of what a store in memory has, on which something can be tried."""

from __future__ import annotations

from collections import Counter, defaultdict

from voiceflow_worker.backends.memory.store import Memory


def copied(memory: Memory) -> Memory:
    """A copy of these contents."""
    copy = Memory()
    for name, value in vars(memory).items():
        setattr(copy, name, value.copy() if isinstance(value, dict) else value)
    copy.recorded = {namespace: dict(records) for namespace, records in memory.recorded.items()}
    copy.live = defaultdict(Counter, {key: Counter(counts) for key, counts in memory.live.items()})
    return copy
