"""A queue with everything that is going on in it, and what stands in its way, as interfaces and metrics tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from voiceflow_worker.backends.health import CLOCKS_AGREE, clock_ahead
from voiceflow_worker.campaigns.schedules import Schedule, read_schedules
from voiceflow_worker.core.base.background import Task, failing_here
from voiceflow_worker.core.base.clock import SET_CLOCK, off_in_words
from voiceflow_worker.core.heartbeats import (
    FEW_REFUSED,
    HEARD,
    LIMITS_DIFFER,
    NO_RECEIVER,
    REFUSED,
    REGISTER,
    Heartbeats,
)
from voiceflow_worker.core.imports import StagedImport
from voiceflow_worker.finding import Diagnosis, Remedy, failure, ok, warning
from voiceflow_worker.ivr.approval import BUILT_IN
from voiceflow_worker.ivr.menu_data import unserved_in_words, unserved_menus
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words, in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words, resume_of
from voiceflow_worker.reporting.status import QueueStatus
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations

OF_STORE = frozenset({"store", "clock", "faults"})
"""The conditions that are about no single queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeQueue:
    """The status of a queue, its open escalations, its schedules, and its menus that no running receiver serves.

    `clock_ahead` is how far the clock of the store is ahead of that of this machine. `unheard` says why workers and
    receivers cannot say that they run, as far as that is known; None if they can, or are seen.
    """

    status: QueueStatus
    escalations: list[EscalationStatus]
    schedules: list[Schedule]
    unserved: list[str]
    clock_ahead: timedelta = timedelta()
    unheard: str | None = None

    def as_json(self) -> dict[str, object]:
        """The queue as JSON, for scripts."""
        return {
            **self.status.as_json(),
            "conditions": [each.as_json() for each in self.conditions],
            "escalations": [each.as_json() for each in self.escalations],
            "schedules": [each.as_json() for each in self.schedules],
        }

    @property
    def conditions(self) -> list[Diagnosis]:
        """What stands in the way of its calls, each with its name and what to do, as every interface tells it."""
        found, sees_all = self.status, self.unheard is None
        named = {
            "store": self._of_store(),
            "clock": self._of_clocks(),
            "workers": _of_workers(found) if sees_all else (),
            "holds": (replace(_of_hold(gate), about=gate) for gate in found.holds if gate.start is None),
            "imports": map(_of_import, found.imports),
            "faults": of_faults(found.failing),
            "outcomes": _of_outcomes(found, sees_all=sees_all),
            "unreported": _of_unreported(found),
            "menus": _of_menus(self.unserved) if sees_all else (),
            "records": _of_records(found),
            "doubts": _of_doubts(found),
            "schedules": (replace(_of_schedule(each), about=each) for each in self.schedules),
        }
        return [
            replace(each, check=name, about=None if name in OF_STORE else each.about or found)
            for name, some in named.items()
            for each in some
        ]

    def _of_store(self) -> Iterator[Diagnosis]:
        if self.unheard is not None:
            yield failure(
                f"not every worker and receiver is heard: {self.unheard}",
                remedy="once the store takes writes (see the check `store` of `voiceflow doctor`), those that run are "
                f"heard within {HEARD.seconds} s: then start what is missing",
            )

    def _of_clocks(self) -> Iterator[Diagnosis]:
        if self.status.clock is not None:
            yield failure(self.status.clock.in_words(), remedy=SET_CLOCK)
        if abs(self.clock_ahead) > CLOCKS_AGREE:
            off = off_in_words(self.clock_ahead, of="this machine")
            yield warning(f"the clock of the store is {off}; calls are due by the store's", remedy=SET_CLOCK)


def _of_workers(found: QueueStatus) -> Iterator[Diagnosis]:
    if found.due and not found.workers:
        waited = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
        are = "is due," if found.due == 1 else "are due, the oldest"
        yield warning(
            f"no worker is running, but {count_of(found.due, 'call')} {are} for {waited}",
            remedy="`voiceflow worker` sends due calls",
        )
    if len(found.person_limits) > 1:
        yield warning(
            f"{LIMITS_DIFFER} ({', '.join(found.person_limits)}): the fewest calls in the longest time count",
            remedy="start them all with the same --max-per-person, or VOICEFLOW_MAX_PER_PERSON",
        )


_REMEDIES = {REFUSED: REGISTER, FEW_REFUSED: REGISTER, Task.CLOCK_OFF: SET_CLOCK}


def of_faults(failing: Mapping[str, str]) -> Iterator[Diagnosis]:
    """What workers and receivers say that fails now, in their heartbeats or of this process: a line for each cause."""
    causes: dict[str, list[str]] = {}
    for task, error in failing.items():
        causes.setdefault(error.partition(": ")[2].partition("; seen by ")[0] or error, []).append(task)
    for tasks in causes.values():
        first = min(tasks, key=lambda task: failing[task])  # which begins with the time
        if first in _REMEDIES:
            told = warning if first == FEW_REFUSED else failure
            yield told(f"{first}: {failing[first]}", remedy=_REMEDIES[first])
        else:
            more = f", and {len(tasks) - 1} more" if tasks[1:] else ""
            remedy = "it is tried again; if it lasts, the logs of workers and receivers have more"
            yield warning(f"failing: {first}{more} ({failing[first]})", remedy=remedy)


def health(failing: Mapping[str, str]) -> dict[str, object]:
    """The document of /healthz, which is served with 200 even if tasks fail: a restart would cut POSTs."""
    if not failing:
        return {"status": "ok"}
    return {
        "status": "failing",
        "failing": [{"task": task, "error": error} for task, error in failing.items()],
        "conditions": [replace(each, check="faults").as_json() for each in of_faults(failing)],
    }


def _of_outcomes(found: QueueStatus, *, sees_all: bool) -> Iterator[Diagnosis]:
    submitted, late = found.states[JobState.SUBMITTED], found.overdue_outcomes
    if submitted and sees_all and not found.has_receiver:
        without = f"{NO_RECEIVER}: {count_of(submitted, 'call')} without a summary"
        yield warning(without, remedy="run `voiceflow serve`")
    if found.silence is not None and found.silence.goes_on and REFUSED not in found.failing:
        yield failure(
            f"no event of 8x8 has arrived since {in_words(found.silence.since)}, and "
            f"{count_of(found.silence.calls, 'call')} placed since then should have had one",
            remedy="correct what the checks `webhook` and `webhook address` of `voiceflow doctor` name",
        )
    elif late:
        yield warning(
            f"outcomes overdue: {count_of(late, 'call')} accepted long ago, and no summary came",
            remedy="correct what the checks `webhook` and `webhook address` of `voiceflow doctor` name; `voiceflow "
            "reconcile` looks for them in the log of 8x8",
        )


def _of_unreported(found: QueueStatus) -> Iterator[Diagnosis]:
    missed, silence = found.missed_until, found.silence
    calls, why = found.unreported, "events were refused, or nobody listened,"
    if silence is not None and not silence.goes_on and (missed is None or missed < silence.until):
        missed, calls, why = silence.until, silence.calls, f"no event of 8x8 arrived from {in_words(silence.since)}"
    if calls and missed is not None:
        yield warning(
            f"up to {count_of(calls, 'call')} ended without an outcome: {why} until {in_words(missed)}",
            remedy="workers look for them in the log of 8x8; `voiceflow reconcile --submitted` does so now",
        )


def _of_menus(unserved: Sequence[str]) -> Iterator[Diagnosis]:
    if unserved:
        own = BUILT_IN.issuperset(unserved)  # which no receiver needs to be told
        how = "`voiceflow serve`" if own else "`voiceflow serve --ivr MODULE:MENU`, with --ivr once for each of them"
        yield failure(unserved_in_words(unserved), remedy=f"run {how}, with this store")


def _of_hold(gate: Gate) -> Diagnosis:
    said = closed_in_words(gate)
    if gate.state is GateState.CANCELLED:
        return ok(said)
    if GateKind.MAY_LACK in gate.kinds:
        return failure(
            said,
            remedy="do not resume yet: add opt-outs that are missing (`voiceflow suppress add`), run `voiceflow "
            f"reconcile`, resolve the calls that stay in doubt (`voiceflow calls resolve`), then {resume_of(gate)}",
        )
    if gate.until is not None:
        return warning(said, remedy="wait: a hold with a time ends by itself")
    return warning(said, remedy=f"correct the cause, then {resume_of(gate)}")


def _of_import(found: StagedImport) -> Diagnosis:
    said = f"{count_of(found.calls, 'staged call')}: {closed_in_words(found.gate)}"
    remedy = Remedy.DECIDE_STAGED.typed.replace("ID", found.gate.name)
    if found.gate.is_half_applied:  # it is neither released nor discarded
        remedy = "start the same list again, or a newer one with `--replace`, which completes it"
    return replace(warning(said, remedy=remedy), about=found.gate)


def _of_records(found: QueueStatus) -> Iterator[Diagnosis]:
    if found.unreadable.count:
        yield failure(
            f"unreadable: {found.unreadable.in_words()}, and nothing happens to them: {found.unreadable.example}",
            remedy="if a newer version of voiceflow-worker uses this store, upgrade this installation. Otherwise they "
            "are damaged: keep a copy of the store, restore it from a backup (`voiceflow restore` for SQLite), or look "
            "for them in the log of 8x8 and enqueue those that were not called under another unique key; `voiceflow "
            "calls cancel ID` ends one of them",
        )


def _of_doubts(found: QueueStatus) -> Iterator[Diagnosis]:
    if found.doubts:
        yield warning(
            f"in doubt: {count_of(found.doubts, 'call')} may have been placed, and will not be sent again without "
            "evidence",
            remedy="look for them in the log of 8x8 with `voiceflow reconcile`; resolve the rest (`voiceflow calls "
            "list --state in_doubt`) by hand with `voiceflow calls resolve`",
        )


def _of_schedule(schedule: Schedule) -> Diagnosis:
    said = f"schedule {'; '.join(filter(None, (schedule.last.in_words(), schedule.later_in_words())))}"
    if schedule.overdue_since is not None:
        return failure(
            said,
            remedy="run `voiceflow schedule` with its file. If it is no longer used, this failure disappears after "
            "some days",
        )
    if schedule.last.is_undone:
        return failure(
            said,
            remedy="correct the cause. To call the people of a missed run now, enqueue their file with --campaign and "
            "the --batch of the run",
        )
    return ok(said)


async def read_queue(calls: CallQueue) -> WholeQueue:
    """Read all of a queue. Raises StoreError."""
    status, unheard = await calls.status(), None
    if not (status.workers and status.has_receiver):
        unheard = failing_here().get(Task.HEARTBEAT)
        if unheard is None and (last := await Heartbeats(calls.store).silent_since()) is not None:
            unheard = f"one fell silent at {in_words(last)}: it was killed, or the store was away or took no write"
    return WholeQueue(
        status=status,
        escalations=await Escalations(calls).recent(),
        schedules=await read_schedules(calls.store, calls.name),
        unserved=await unserved_menus(calls.store, status.menus),
        clock_ahead=clock_ahead(calls.store.clock),
        unheard=unheard,
    )
