"""The names of Redis keys. The part in braces is the hash tag, which alone chooses the slot in a cluster.

All keys of a queue are in one slot, so that one script can move jobs, indexes and events in one step. A job id begins
with its queue, so it names its slot. All records of a namespace are in one slot too: `put_if_absent` and `delete` take
many keys in one trip, and `scan` needs them in order. A namespace in several slots would need one trip for each, and
relieve a node of less than the load of the queue's own slot: a call takes two short scripts for its number and one for
its session, against three long ones for its job.

A queue's name has no colon, so no queue can share a tag with a namespace or with the store's own keys.
"""

from __future__ import annotations

from voiceflow_worker.model.jobs.job import JobState


class Keys:
    """The keys of one store: everything begins with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.schema = f"{prefix}:{{store:}}:schema"
        self.queues = f"{prefix}:{{store:}}:queues"
        self.namespaces = f"{prefix}:{{store:}}:namespaces"

    def queue(self, queue: str) -> str:
        """What all keys of a queue begin with."""
        return f"{self._prefix}:{{{queue}}}"

    def namespace(self, namespace: str) -> str:
        """What all keys of a namespace of records begin with."""
        return f"{self._prefix}:{{records:{namespace}}}"


def state_index(state: JobState, batch: str | None) -> str:
    """The index of a state by due time, of a queue or of one of its batches, behind the queue's key."""
    return f":state:{state}" if batch is None else f":batch:={batch}:state:{state}"


def id_index(batch: str | None) -> str:
    """The index of all ids, of a queue or of one of its batches, behind the queue's key."""
    return ":ids" if batch is None else f":batch:={batch}:ids"


def totals_key(batch: str | None) -> str:
    """The live totals of a queue or of one of its batches, behind the queue's key."""
    return ":totals" if batch is None else f":batch:={batch}:totals"


def pruned_key(batch: str) -> str:
    """The totals of the deleted jobs of a batch, behind the queue's key."""
    return f":batch:={batch}:pruned"
