"""What people do to a schedule: run it now, skip its next run, or take that back. Commands and pages act by these.

An order is a run in the store, as the scheduler's process itself writes it: one that has begun at the time of the
order, which a process with the file completes like a run whose process died; or one that will not start.
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
from voiceflow_worker.core.ports.store import Absent, BulkWrite, Drop, Put, Result, Same, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import by_person, in_words
from voiceflow_worker.service.scheduled_run import (
    CLAIMS,
    RUNS,
    RunState,
    ScheduledRun,
    is_alive,
    last_run,
    run_at,
    run_records,
)

ORDERED = "schedule-ordered"
"""Namespace of what was ordered after the last run of a schedule, by `<queue>/<schedule>/<action>` and that run."""


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
        last = await self._last()
        asked, state = await self.asked(last, await self.run_after(last)), self._state(last)
        return replace(asked, version=self.version_of(state), state=state)

    async def carry_out(self, state: str | None) -> ActionResult:
        """Store the order, if the last run is still the one that the question showed."""
        last, store = await self._last(), self.operator.store
        if state not in {None, self._state(last)}:
            raise changed_since(self.label, now=last.in_words())
        run = await self.run_after(last)
        write = self.write_of(run, run_records(store).text(run), last.key[1])
        # Whoever claims the run after this finds the order.
        write = replace(write, conditions=(Absent(CLAIMS, ("/".join(run.key),)), *write.conditions))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=store.clock.now())
        if answer.result is not Result.DONE:
            raise changed_since(self.label)
        return ActionResult(message=self.done(run), documents=(self.told(run, last).as_json(),))

    def write_of(self, run: ScheduledRun, text: str, after: str) -> Write:
        """What an order of a run `after` another one stores. Of two at once, one is stored."""
        (group, member), ends_at = run.key, run.kept_until(run.at)
        mark = Put(ORDERED, f"{group}/{self.name_of_action}", new_revision(), ends_at, member=after)
        return Write(
            conditions=(Same(RUNS, group, None, member), Same(ORDERED, mark.group, None, mark.member)),
            puts=(Put(RUNS, group, text, ends_at, member=member), mark),
        )

    def done(self, run: ScheduledRun) -> str:
        """The result in a sentence."""
        return run.in_words()

    def told(self, run: ScheduledRun, last: ScheduledRun) -> ScheduledRun:
        """The run as its document tells of it."""
        return run

    @abstractmethod
    async def asked(self, last: ScheduledRun, run: ScheduledRun) -> Question:
        """The question about a run that would be stored."""

    @abstractmethod
    async def run_after(self, last: ScheduledRun) -> ScheduledRun:
        """The run to store, after the last one. Raises ActionRefusedError."""

    def _state(self, last: ScheduledRun) -> str:
        """What an order goes by, as one text."""
        following = last.following(self.operator.store.clock.now())
        return f"{last.at.isoformat()} {last.state} {following and following.isoformat()} {last.skipped}"

    def _by(self, done: str) -> str:
        return as_stored(printable_line(by_person(self.operator.actor.called, self.note, done)))

    async def _last(self) -> ScheduledRun:
        require_name(self.queue)
        last = await last_run(self.operator.store, self.queue, as_stored(self.schedule))
        if last is None:
            raise UnknownSubjectError(
                f"queue {self.queue} has no schedule {self.schedule[:LONGEST_NAMED]!r}: `voiceflow schedules list` "
                "names those that a `voiceflow schedule` has seen"
            )
        return last


class SkipNext(ScheduleAction):
    """The skip of the next run: nobody is called for it."""

    name_of_action: ClassVar[str] = "skip-run"
    stops: ClassVar[bool] = True

    async def asked(self, last: ScheduledRun, run: ScheduledRun) -> Question:
        """The question, with the people of which run are not called."""
        later = "" if run.next_at is None else f" The run after it is at {in_words(run.next_at, run.zone)}."
        return Question(
            title=f"Skip the next run of {self.schedule}?",
            will_be_called=(f"Whom earlier runs call; the last one: {last.in_words()}.{later}",),
            will_not_be_called=(f"The people of the run at {in_words(run.at, run.zone)}.",),
            button="Skip it",
        )

    async def run_after(self, last: ScheduledRun) -> ScheduledRun:
        """The next run, as skipped."""
        at = last.following(self.operator.store.clock.now())
        if last.skipped:
            raise ActionRefusedError(f"the next run of {self.schedule} is skipped already: {last.skipped}")
        if at is None:
            raise ActionRefusedError(f"schedule {self.schedule} has no further run")
        following = next(last.recurrence.after(at), None)
        return ScheduledRun(
            schedule=last.schedule, queue=last.queue, at=at, cron=last.cron, time_zone=last.time_zone, batch_id="",
            state=RunState.SKIPPED, message=self._by("skipped"), next_at=following,
        )  # fmt: skip


class Unskip(ScheduleAction):
    """The end of a skip before the time of the run, which then starts as if nobody had skipped it."""

    name_of_action: ClassVar[str] = "unskip-run"

    async def asked(self, last: ScheduledRun, run: ScheduledRun) -> Question:
        """The question, with who is called again by the schedule."""
        return Question(
            title=f"Let the skipped run of {self.schedule} start?",
            will_be_called=(f"The people of the run at {in_words(run.at, run.zone)}.",),
            will_not_be_called=("Nothing else changes.",),
            button="Let it start",
        )

    async def run_after(self, last: ScheduledRun) -> ScheduledRun:
        """The skipped run."""
        ((_, newest),) = await run_records(self.operator.store).within(last.key[0]).page(limit=1)
        if not last.skipped or newest is None:
            raise ActionRefusedError(f"the next run of {self.schedule} is not skipped")
        return newest

    def write_of(self, run: ScheduledRun, text: str, after: str) -> Write:
        """The run is forgotten, as long as it stands as it was read, and it may be skipped again."""
        group, member = run.key
        drops = (Drop(RUNS, group, None, member), Drop(ORDERED, f"{group}/{SkipNext.name_of_action}", None, after))
        return Write(conditions=(Same(RUNS, group, text, member),), drops=drops)

    def done(self, run: ScheduledRun) -> str:
        """The run that is not skipped any more."""
        return f"{run.schedule}, {in_words(run.at, run.zone)}: not skipped any more"


class RunNow(ScheduleAction):
    """A run at once, beside those of the schedule."""

    name_of_action: ClassVar[str] = "run-now"
    is_irreversible: ClassVar[bool] = True

    async def asked(self, last: ScheduledRun, run: ScheduledRun) -> Question:
        """The question, with who is called once more."""
        next_at = self.told(run, last).next_at
        later = "" if next_at is None else f" The next run still starts, at {in_words(next_at, run.zone)}."
        return Question(
            title=f"Run {self.schedule} now?",
            will_be_called=(
                "All people in its file, as one more batch; without unique_key, also those called before.",
                f"The last run: {last.in_words()}.",
            ),
            will_not_be_called=(f"Bad rows and suppressed numbers.{later}",),
            button="Run it now",
        )

    async def run_after(self, last: ScheduledRun) -> ScheduledRun:
        """A run of now, which a process with the file has to start."""
        store, now = self.operator.store, self.operator.store.clock.now()
        if last.is_open:
            raise ActionRefusedError(f"a run of {self.schedule} is not over: {last.in_words()}")
        if not await is_alive(store, last):
            raise ActionRefusedError(
                f"no `voiceflow schedule` with the file of {self.schedule} is running, so nobody would start it: start "
                "one, then order the run again"
            )
        if last.next_at is not None and last.next_at <= now:
            raise ActionRefusedError(f"a run of {self.schedule} is due now: {in_words(last.next_at, last.zone)}")
        known = [run for _, run in await run_records(store).within(last.key[0]).page() if run is not None]
        run = run_at(now, last.recurrence, schedule=last.schedule, queue=last.queue, known=known)
        # A run that is skipped now comes next once more when somebody takes the skip back.
        skipped = next((each.at for each in known if each.state is RunState.SKIPPED and each.at > now), None)
        return replace(run, ordered_by=self._by("ordered"), next_at=skipped or last.following(now))

    def told(self, run: ScheduledRun, last: ScheduledRun) -> ScheduledRun:
        """The run, with the next one that starts."""
        return replace(run, next_at=last.following(run.at), skipped=last.skipped)
