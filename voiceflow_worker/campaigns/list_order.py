"""What is ordered of a list, and what that makes of a row beside the stored call that has its key or its number."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from voiceflow_worker.campaigns.calls.options import CallAgain, CampaignOptions, states_of
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.values import is_own_key
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.errors import OvertakenError, SuppressedNumber
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.copying import replace as changed_to
from voiceflow_worker.model.jobs.differences import is_changeable, may_become
from voiceflow_worker.model.jobs.job import ENDED_UNSENT, Job, JobState, ReasonKind, person_in
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.queue import CallQueue


def differing_end(job: Job, row: ReadRow) -> End:
    """The end of a row that differs from this call.

    It changes one that waits; of other batches, only one for which nobody was called.
    """
    if is_changeable(job) and (not job.attempt or job.batch_id == (row.call and row.call.batch_id)):
        return End.CHANGED
    return End.OVER if job.state.is_final else End.ON_THE_WAY


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOrder:
    """The order of a list: its `file` and the `column` of its numbers, for findings, and what is done with calls.

    `again`, `replace` and `remove_missing` are those of `EnqueueOptions`; if it `keeps` calls, those that differ or are
    left out stay as they are. `since` is when the start began that goes on now: what was made after that is not changed
    by what it asks for. Without a queue, no store is read. What it only `shows` is not carried out now.
    """

    queue: CallQueue | None
    options: CampaignOptions
    file: str | None
    column: str
    again: CallAgain = False
    replace: bool = False
    remove_missing: bool = False
    keeps: bool = False
    since: datetime | None = None
    shows: bool = False
    states: frozenset[JobState] = field(init=False)
    """The states of ended calls that are made again."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "states", states_of(self.again))

    def match(self, owner: Job, row: ReadRow) -> KeyMatch:
        """What the call that has the key of a row is to it."""
        if owner.state in self.states or owner.reason_kind is ReasonKind.REMOVED:
            return KeyMatch.AGAIN
        if owner.state in ENDED_UNSENT:
            return KeyMatch.SAME  # nobody is called for it, whatever the row says now
        return KeyMatch.OTHER if self.is_other(owner, row) else KeyMatch.SAME

    def is_other(self, owner: Job, row: ReadRow) -> bool:
        """Whether a row differs from the call that has its key."""
        if owner.digest.partition(".")[0] != row.digest.partition(".")[0]:
            return True
        return (
            self.queue is not None and row.call is not None and bool(self.queue.admitter.differences(row.call, owner))
        )

    def judged(self, row: ReadRow, owner: Job) -> ReadRow | None:
        """The row, whose stored call differs, with what is told of that; None if that call is changed.

        Raises OvertakenError.
        """
        if self.since is not None and owner.changed_at > self.since and self._changes(owner, row):
            raise OvertakenError(
                f"the list was ordered at {in_words(self.since)}, and has been overtaken: call {owner.id} of batch "
                f"{owner.batch_id} was enqueued or changed for a row of it since, and stands. Nothing more was changed"
            )
        told = self.differs(row, owner)
        if told is None:
            return None
        return self.silenced(row, Finding(kind="differs", column="unique_key", severity=told[1], message=told[0]))

    def differs(self, row: ReadRow, stands: Job) -> tuple[str, Severity] | None:
        """What is told of a row whose stored call differs from it, with the names of the fields; None if it is changed.

        It is an error while that call waits, unless it `keeps` that, and also if no time is left for the change.
        """
        if self.queue is None or row.call is None:
            return None
        if self.replace and may_become(stands, row.call):
            problems = self.queue.admitter.problems_of_change(row.call, stands)
            return (problems[0].message, Severity.ERROR) if problems else None
        has_keys = is_own_key(stands.unique_key) and not row.has_made_key
        call, batch = stands.id, stands.batch_id or "-"
        differs = " and ".join(self.queue.admitter.differences(row.call, stands))
        remedy = "give it another unique_key" if has_keys else "take another `batch`"
        if differing_end(stands, row) is End.CHANGED:
            waits = f"call {call} of batch {batch} waits for this row with another {differs}. Change it: `replace`; or"
            return f"{waits} for a call of its own {remedy}.", Severity.WARNING if self.keeps else Severity.ERROR
        over = f"call {call} of batch {batch} is {stands.state.value}, with another {differs}: nothing is done for this"
        return f"{over} row. For a call of its own, {remedy}.", Severity.WARNING

    def _changes(self, owner: Job, row: ReadRow) -> bool:
        return self.replace and differing_end(owner, row) is End.CHANGED

    def silenced(self, row: ReadRow, *findings: Finding) -> ReadRow:
        """The row without its call, and why."""
        return row.without_call(*(self.placed(row, found) for found in findings))

    def suppressed(self, row: ReadRow, number: SuppressedNumber) -> ReadRow:
        """The row without its call, because one of its numbers is on the suppression list."""
        message = f"is not called: {number.reason}"
        return self.silenced(row, Finding(column=self.column, severity=Severity.WARNING, message=message))

    def placed(self, row: ReadRow, found: Finding) -> Finding:
        """A finding about a row, with its place and its person."""
        person = person_in((row.call and row.call.data) or {})
        return changed_to(found, file=self.file, row=row.raw.number, person=person)
