"""The names of Redis keys. The part in braces is the hash tag. It alone decides the hash slot of a key in a cluster.

All keys of a store are in one hash slot, so that a single script can change jobs, records, indexes and events together.
One primary of a cluster carries the whole store.
"""

from __future__ import annotations

from voiceflow_worker.model.jobs.job import JobState


class Keys:
    """The keys of one store. `prefix` is their hash tag."""

    def __init__(self, prefix: str) -> None:
        self._tag = f"{{{prefix}}}"
        self.schema = f"{self._tag}:schema"
        self.queues = f"{self._tag}:queues"
        self.namespaces = f"{self._tag}:namespaces"

    def queue(self, queue: str) -> str:
        """The beginning of all keys of a queue."""
        return f"{self._tag}:queue:{queue}"

    def namespace(self, namespace: str) -> str:
        """The beginning of all keys of a namespace of records."""
        return f"{self._tag}:records:{namespace}"


def state_index(state: JobState, batch: str | None) -> str:
    """The key suffix of the index by due time, for the jobs of a batch, or of the whole queue (None), in one state."""
    return f":state:{state}" if batch is None else f":batch:={batch}:state:{state}"


def id_index(batch: str | None) -> str:
    """The key suffix for all job ids of a batch, or of the whole queue (None)."""
    return ":ids" if batch is None else f":batch:={batch}:ids"


def totals_key(batch: str | None) -> str:
    """The key suffix for the live totals of a batch, or of the whole queue (None)."""
    return ":totals" if batch is None else f":batch:={batch}:totals"


def pruned_key(batch: str) -> str:
    """The key suffix for the totals of a batch's deleted jobs."""
    return f":batch:={batch}:pruned"
