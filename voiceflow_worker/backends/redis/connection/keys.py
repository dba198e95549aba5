"""The names of Redis keys. The part in braces is the hash tag. It alone decides the hash slot of a key in a cluster.

All keys of a queue are in one hash slot, so that a single script can change jobs, indexes and events atomically. The
hash slot of a job follows from its id, which begins with the name of the queue.

All records of a namespace are in one hash slot, so that a request for many keys (`put_if_absent`, `delete`, `scan`)
takes one trip. Records in more hash slots would hardly reduce the load of a node: the three scripts for the records of
a phone call are short, and the three for its job are long.

The name of a queue has no colon. All other hash tags have a colon, so none of them is the hash tag of a queue.
"""

from __future__ import annotations

from voiceflow_worker.model.jobs.job import JobState


class Keys:
    """The keys of one store. All of them begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.schema = f"{prefix}:{{store:}}:schema"
        self.queues = f"{prefix}:{{store:}}:queues"
        self.namespaces = f"{prefix}:{{store:}}:namespaces"

    def queue(self, queue: str) -> str:
        """The beginning of all keys of a queue."""
        return f"{self._prefix}:{{{queue}}}"

    def namespace(self, namespace: str) -> str:
        """The beginning of all keys of a namespace of records."""
        return f"{self._prefix}:{{records:{namespace}}}"


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
