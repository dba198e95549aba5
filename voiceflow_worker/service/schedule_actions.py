"""What people do to a schedule: run it now, skip its next run, or take that back. Commands and pages act by these.

An order is a run in the store, as the scheduler's process itself writes it: one of the time of the order, which the
next process with the file starts, if it comes within `misfire`; or one that will not start.
"""

from __future__ import annotations

from abc import abstractmethod
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
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.ports.outside import Start, Storing
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Drop, Result, Same, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import by_person, in_words, rfc3339
from voiceflow_worker.service.scheduled_run import (
    LEASES,
    RUNS,
    RunState,
    Schedule,
    ScheduledRun,
    read_schedule,
    run_at,
    run_put,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleAction(OperatorAction):
    """An action on the schedule with this name."""

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
        """The question before the order. Raises ActionRefusedError."""
        found = await self._found()
        state = _state(found)
        return replace(self.asked(found, self.run_of(found)), version=self.version_of(state), state=state)

    async def carry_out(self, state: str | None) -> ActionResult:
        """Store the order, if the schedule is still as the question showed it."""
        found, store = await self._found(), self.operator.store
        if state not in {None, _state(found)}:
            raise changed_since(self.label, now=found.last.in_words())
        run = self.run_of(found)
        write = self.write_of(found, run)
        # Whoever leases the run after this finds the order.
        write = replace(write, conditions=(AtMost(LEASES, ("/".join(run.key),), 0), *write.conditions))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=store.clock.now())
        if answer.result is not Result.DONE:
            raise changed_since(self.label)
        document = {**run.as_json(), "next_at": rfc3339(next(found.after(run.at), None))}
        return ActionResult(message=self.done(run), documents=(document,), notes=self.notes(run))

    def write_of(self, found: Schedule, run: ScheduledRun) -> Write:
        """What an order of a run stores. Of two at once, one is stored."""
        put = run_put(self.operator.store, run, found.now)
        same = (Same(RUNS, put.group, None, put.member),)
        order = Storing(about=("/".join(run.key),), queue=self.queue, puts=(put,), same=same)
        return Write(conditions=same, puts=(put,), orders=(order,))

    def done(self, run: ScheduledRun) -> str:
        """The result in a sentence."""
        return run.in_words()

    def notes(self, run: ScheduledRun) -> tuple[str, ...]:
        """Remarks about an order that is stored."""
        return ()

    @abstractmethod
    def asked(self, found: Schedule, run: ScheduledRun) -> Question:
        """The question about a run that would be stored."""

    @abstractmethod
    def run_of(self, found: Schedule) -> ScheduledRun:
        """The run that is ordered. Raises ActionRefusedError."""

    def _by(self, done: str) -> str:
        return as_stored(printable_line(by_person(self.operator.actor.called, self.note, done)))

    async def _found(self) -> Schedule:
        require_name(self.queue)
        found = await read_schedule(self.operator.store, self.queue, as_stored(self.schedule))
        if found is None:
            raise UnknownSubjectError(
                f"queue {self.queue} has no schedule {self.schedule[:LONGEST_NAMED]!r}: `voiceflow schedules list` "
                "names those that a `voiceflow schedule` has seen"
            )
        return found


def _state(found: Schedule) -> str:
    """What an order goes by, as one text."""
    return f"{found.last.at.isoformat()} {found.last.state} {found.following} {found.skip and found.skip.at}"


class SkipNext(ScheduleAction):
    """The skip of the next run: nobody is called for it."""

    name_of_action: ClassVar[str] = "skip-run"
    stops: ClassVar[bool] = True

    def asked(self, found: Schedule, run: ScheduledRun) -> Question:
        """The question, with the people of which run are not called."""
        later = "" if run.next_at is None else f" The run after it is at {in_words(run.next_at, run.zone)}."
        return Question(
            title=f"Skip the next run of {self.schedule}?",
            will_be_called=(f"Whom earlier runs call; the last one: {found.last.in_words()}.{later}",),
            will_not_be_called=(f"The people of the run at {in_words(run.at, run.zone)}.",),
            button="Skip it",
        )

    def run_of(self, found: Schedule) -> ScheduledRun:
        """The next run, as skipped."""
        if found.skip is not None:
            raise ActionRefusedError(f"the next run of {self.schedule} is skipped already: {found.skip.in_words()}")
        if found.following is None:
            raise ActionRefusedError(f"schedule {self.schedule} has no further run")
        run = replace(found.times, at=found.following, batch_id="", token="")
        return replace(run, state=RunState.SKIPPED, message=self._by("skipped"))


class Unskip(ScheduleAction):
    """The end of a skip before the time of the run, which then starts as if nobody had skipped it."""

    name_of_action: ClassVar[str] = "unskip-run"

    def asked(self, found: Schedule, run: ScheduledRun) -> Question:
        """The question, with who is called again by the schedule."""
        return Question(
            title=f"Let the skipped run of {self.schedule} start?",
            will_be_called=(f"The people of the run at {in_words(run.at, run.zone)}.",),
            will_not_be_called=("Nothing else changes.",),
            button="Let it start",
        )

    def run_of(self, found: Schedule) -> ScheduledRun:
        """The skipped run."""
        if found.skip is None:
            raise ActionRefusedError(f"the next run of {self.schedule} is not skipped")
        return found.skip

    def write_of(self, found: Schedule, run: ScheduledRun) -> Write:
        """The run is forgotten."""
        group, member = run.key
        return Write(
            drops=(Drop(RUNS, group, None, member),), orders=(Start(about=("/".join(run.key),), queue=self.queue),)
        )

    def done(self, run: ScheduledRun) -> str:
        """The run that is not skipped any more."""
        return f"{run.schedule}, {in_words(run.at, run.zone)}: not skipped any more"


class RunNow(ScheduleAction):
    """A run at once, beside those of the schedule."""

    name_of_action: ClassVar[str] = "run-now"
    is_irreversible: ClassVar[bool] = True

    def asked(self, found: Schedule, run: ScheduledRun) -> Question:
        """The question, with who is called once more."""
        zone, next_at = run.zone, found.following
        later = "" if next_at is None else f" The next run still starts, at {in_words(next_at, zone)}."
        return Question(
            title=f"Run {self.schedule} now?",
            will_be_called=(
                "All people in its file, as one more batch; without unique_key, also those called before.",
                f"The last run: {found.last.in_words()}.",
            ),
            will_not_be_called=(
                f"Bad rows and suppressed numbers.{later}",
                f"Anybody, if no `voiceflow schedule` with its file runs before {in_words(run.until, zone)}.",
            ),
            button="Run it now",
        )

    def run_of(self, found: Schedule) -> ScheduledRun:
        """A run of now, for the next process with the file to start."""
        last, now = found.last, found.now
        if last.is_open and last.until > now:
            raise ActionRefusedError(f"a run of {self.schedule} is not over: {last.in_words()}")
        due = next(found.after(max(found.since, now - found.times.recurrence.misfire)), now)
        if due < now:
            raise ActionRefusedError(f"a run of {self.schedule} is due now: {in_words(due, found.times.zone)}")
        run = run_at(now, found.times.recurrence, schedule=last.schedule, queue=last.queue, known=found.runs)
        return replace(run, ordered_by=self._by("ordered"))

    def notes(self, run: ScheduledRun) -> tuple[str, ...]:
        """Who starts it, and until when."""
        until = in_words(run.until, run.zone)
        return (f"the next `voiceflow schedule` with its file starts it; if none looks before {until}, it is missed",)

    def write_of(self, found: Schedule, run: ScheduledRun) -> Write:
        """The run, and the times with another token: of two orders that saw the same, one is stored."""
        times, stored, store = replace(found.times, token=new_revision()), found.stored, self.operator.store
        group, member = times.key
        same = Same(RUNS, group, None if stored is None else stored.value, member)
        return Write(conditions=(same,), puts=tuple(run_put(store, each, found.now) for each in (run, times)))
