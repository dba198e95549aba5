"""What a task orders in each of its tries: what a first try has stored stands, and the library adds what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from airflow_provider.calls.failures import has_none, never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import lost_redial, was_cancelled_by_task
from voiceflow_worker import Job, JobState
from voiceflow_worker.campaigns.calls.options import CallAgain, states_of
from voiceflow_worker.core.idempotency import KeyMatch


class OnClear(StrEnum):
    """The behaviour of a task that a user clears after its call has ended."""

    SAME_CALL = "same_call"
    """The task shows the outcome of the earlier call."""
    CALL_AGAIN = "call_again"
    """The task calls again, once per clear."""


class TaskOrders:
    """The orders of a task instance: a call of an earlier try stands, whatever the task says by then.

    A call that certainly rang nobody's phone is made again in three cases: a task cancelled it when it was stopped,
    `again` names its state, or a user cleared the task since. (A clear makes a call that a person cancelled only if it
    is the only call of its task.) If the task calls once in all runs, the call of another run is made again only if it
    was not sent and no person cancelled it. With CALL_AGAIN, a clear also makes a call again that has ended, but never
    one in doubt. The instances of a mapped task share a call to a number if they say the same.

    `on_clear` is for a task with one call. A campaign has None, and its `batch_id`.
    """

    other = (
        "another instance of this task calls the number of this row with a different text; give each row a unique_key"
    )

    def __init__(
        self,
        identity: TaskIdentity,
        *,
        again: CallAgain = False,
        on_clear: OnClear | None = None,
        batch_id: str | None = None,
    ) -> None:
        self._identity = identity
        self._again = states_of(again)
        self._on_clear = on_clear
        self._batch_id = batch_id
        self.stopped: dict[str, Job] = {}
        """The calls that were met whose redial a task cancelled, by id. The redial goes on."""
        self.elsewhere: set[str] = set()
        """The waiting calls that were met in the batch of an instance that had another index before a clear, by id."""
        self.differing: set[str] = set()
        """The calls that were met which say something else than their rows do now, by id."""

    def key(self, called: str, place: int) -> str:
        """Return the unique key of a row."""
        return self._identity.call_key(called, place)

    def match(self, owner: Job, digest: str) -> KeyMatch:
        """Return whether this call stands for a row or a task with its key."""
        if self._is_again(owner):
            return KeyMatch.AGAIN
        if self._identity.is_of_other_run(owner.data):
            return KeyMatch.SAME
        is_siblings = self._identity.is_sibling_of(owner.data)
        if is_siblings and owner.body_digest != digest:
            return KeyMatch.OTHER
        if owner.body_digest != digest:
            self.differing.add(owner.id)
        if lost_redial(owner):
            self.stopped[owner.id] = owner
        is_waiting = owner.state in {JobState.QUEUED, JobState.LEASED} and owner.attempt == 0
        if self._batch_id is not None and is_waiting and not is_siblings and not self._is_here(owner):
            self.elsewhere.add(owner.id)
        return KeyMatch.SAME

    def is_own(self, job: Job) -> bool:
        """Return whether the keys of this task find this call."""
        return self._identity.own_data().items() <= (job.data or {}).items()

    def problems(self, row: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        """Return the columns whose text has the word None."""
        return [
            (str(name), f"has the word None ({value!r}): a value was missing")
            for name, value in row.items()
            if isinstance(value, str) and has_none(value)
        ]

    def _is_again(self, job: Job) -> bool:
        is_silent = never_rang(job)
        if was_cancelled_by_task(job) or (is_silent and job.state in self._again):
            return True
        if self._identity.is_of_other_run(job.data):
            return is_silent and job.state is not JobState.CANCELLED
        if not self._identity.was_cleared_since(job.data):
            return False
        if is_silent:
            return self._on_clear is not None or job.state is not JobState.CANCELLED
        return self._on_clear is OnClear.CALL_AGAIN and job.state.is_final

    def _is_here(self, job: Job) -> bool:
        is_mine = self._batch_id == self._identity.batch_id() or self._identity.owns(job.data)
        return is_mine and job.batch_id == self._batch_id
