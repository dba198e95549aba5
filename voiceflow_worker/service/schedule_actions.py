"""What people order of a schedule: a run now. The next run is skipped by cancelling its batch (`CancelBatch`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from voiceflow_worker.actions import (
    LONGEST_NAMED,
    ActionRefusedError,
    ActionResult,
    Operator,
    OperatorAction,
    Question,
    UnknownSubjectError,
    changed_since,
    require_name,
)
from voiceflow_worker.campaigns.schedules import Schedule, ScheduledRun, read_schedule
from voiceflow_worker.core.ports.store import BulkWrite, Result, Same, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import by_person, in_words, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow(OperatorAction):
    """A run at once, beside those of the schedule: the batch of this minute, which a process with the file starts."""

    name_of_action: ClassVar[str] = "run-now"
    is_irreversible: ClassVar[bool] = True

    operator: Operator
    queue: str
    schedule: str
    note: str | None = None

    @property
    def label(self) -> str:
        """What the action is about, in words."""
        return f"schedule {self.schedule}"

    def about(self) -> Mapping[str, str | None]:
        """The queue of the schedule, for the audit log."""
        return {"queue": self.queue}

    async def question(self) -> Question:
        """The question, with who is called once more. Raises ActionRefusedError."""
        found = await self._found()
        zone, following, until = found.times.zone, found.following, self._run(found).until
        later = "" if following is None else f" The next run still starts, at {in_words(following, zone)}."
        return Question(
            title=f"Run {self.schedule} now?",
            will_be_called=(
                "All people in its file, as one more batch; without unique_key, also those called before.",
                f"The last run: {found.last.in_words()}.",
            ),
            will_not_be_called=(
                f"Bad rows and suppressed numbers.{later}",
                f"Anybody, if no `voiceflow schedule` with its file runs before {in_words(until, zone)}.",
            ),
            button="Run it now",
            version=self.version_of(_state(found)),
            state=_state(found),
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        """Store the order, if the schedule is still as the question showed it."""
        found, store = await self._found(), self.operator.store
        if state not in {None, _state(found)}:
            raise changed_since(self.label, now=found.last.in_words())
        run = self._run(found)
        put = run.put(store)
        same = (Same(put.namespace, put.group, None, put.member),)
        write = Write(conditions=same, puts=(put,))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=found.now)
        if answer.result is not Result.DONE:
            raise changed_since(self.label)
        until, document = in_words(run.until, run.zone), {**run.as_json(), "next_at": rfc3339(found.following)}
        note = f"the next `voiceflow schedule` with its file starts it; if none looks before {until}, it is missed"
        return ActionResult(message=run.in_words(), documents=(document,), notes=(note,))

    async def _found(self) -> Schedule:
        require_name(self.queue)
        found = await read_schedule(self.operator.store, self.queue, as_stored(self.schedule))
        if found is None:
            raise UnknownSubjectError(
                f"queue {self.queue} has no schedule {self.schedule[:LONGEST_NAMED]!r}: `voiceflow schedules list` "
                "names those that a `voiceflow schedule` has seen"
            )
        return found

    def _run(self, found: Schedule) -> ScheduledRun:
        """The run of now. Raises ActionRefusedError if another one is about to begin."""
        last, now = found.last, found.now
        if last.is_open and last.until > now:
            raise ActionRefusedError(f"a run of {self.schedule} is not over: {last.in_words()}")
        due = next(found.after(max(found.since, now - found.times.recurrence.misfire)), now)
        if due < now:
            raise ActionRefusedError(f"a run of {self.schedule} is due now: {in_words(due, found.times.zone)}")
        said = as_stored(printable_line(by_person(self.operator.actor.called, self.note, "ordered")))
        return replace(found.times.run(now, found.runs), ordered_by=said)


def _state(found: Schedule) -> str:
    """What an order goes by, as one text."""
    return f"{found.last.at.isoformat()} {found.last.state} {found.following}"
