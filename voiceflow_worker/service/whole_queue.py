"""A queue with everything that is going on in it, and what is in its way, for interfaces and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio

from voiceflow_worker.core.base.background import Task, failing_here
from voiceflow_worker.core.base.clock import CLOCKS_AGREE, SET_CLOCK, clock_ahead, off_in_words
from voiceflow_worker.core.base.probe import store_probe
from voiceflow_worker.core.heartbeats import (
    HEARD,
    LIMITS_DIFFER,
    NO_RECEIVER,
    Heartbeats,
)
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError
from voiceflow_worker.finding import Diagnosis, Level, failure, warning
from voiceflow_worker.model.jobs.gate import THEN, Gate, GateKind, GateState, HoldKind
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words, in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words, resume_of
from voiceflow_worker.reporting.status import QueueStatus

PROBED_FOR = 1.0
"""Seconds for which a write is tried of a store in which those that were heard are silent."""
OF_STORE = frozenset({"store", "clock", "faults"})
"""The conditions that are about no single queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeQueue:
    """The status of a queue, and its menus that no running receiver serves.

    `clock_ahead` is how far the clock of the store is ahead of that of this machine. `unheard` says why workers and
    receivers cannot say that they run, as far as that is known; None if they can, or are seen. `silent` are those that
    were heard before, and until when.
    """

    status: QueueStatus
    unserved: list[str]
    clock_ahead: timedelta = timedelta()
    unheard: str | None = None
    silent: Mapping[str, datetime] = field(default_factory=dict[str, datetime])

    def as_json(self) -> dict[str, object]:
        """Return the queue as JSON, for scripts."""
        return {
            **self.status.as_json(),
            "conditions": [each.as_json() for each in self.conditions],
        }

    @property
    def conditions(self) -> list[Diagnosis]:
        """Conditions that are in the way of its calls, each with its name and what to do."""
        found, sees_all = self.status, self.unheard is None
        holds = [gate for gate in found.holds if gate.holder is not HoldKind.IMPORT]
        faults = found.failing
        named = {
            "store": self._of_store(),
            "clock": self._of_clocks(),
            "workers": _of_workers(found, self._heard("worker")) if sees_all else (),
            "holds": (each for gate in holds for each in _of_hold(gate)),
            "imports": (_of_import(each, found) for each in found.holds if each.holder is HoldKind.IMPORT),
            "faults": of_faults(faults),
            "limits": _of_limits(found),
            "outcomes": _of_outcomes(found, sees_all=sees_all),
            "menus": _of_menus(self.unserved) if sees_all else (),
            "records": _of_records(found),
            "doubts": _of_doubts(found),
        }
        return [
            replace(each, check=name, about=None if name in OF_STORE else each.about or found)
            for name, some in named.items()
            for each in some
        ]

    def _heard(self, kind: str = "") -> list[str]:
        """Return those who fell silent, of this kind, each with the time."""
        silent = [(name, at) for name, at in sorted(self.silent.items()) if name.startswith(kind)]
        return [f"{name} until {in_words(at)}" for name, at in silent]

    def _of_store(self) -> Iterator[Diagnosis]:
        if self.unheard is not None:
            yield failure(
                f"not every worker and receiver is heard: {'; '.join([self.unheard, *self._heard()])}",
                remedy="once the store takes writes (see the check `store` of `voiceflow doctor`), those that run are "
                f"heard within {HEARD.seconds} s: then start what is missing",
            )

    def _of_clocks(self) -> Iterator[Diagnosis]:
        if abs(self.clock_ahead) > CLOCKS_AGREE:
            off = off_in_words(self.clock_ahead, of="this machine")
            yield warning(f"the clock of the store is {off}; calls are due by the store's", remedy=SET_CLOCK)


def _of_workers(found: QueueStatus, heard: Sequence[str]) -> Iterator[Diagnosis]:
    if found.due and not found.workers:
        waited = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
        are = "is due," if found.due == 1 else "are due, the oldest"
        yield warning(
            "; ".join((f"no worker is running, but {count_of(found.due, 'call')} {are} for {waited}", *heard)),
            remedy="`voiceflow worker` sends due calls",
        )
    if len(found.person_limits) > 1:
        yield warning(
            f"{LIMITS_DIFFER} ({', '.join(found.person_limits)}): the fewest calls in the longest time count",
            remedy="start them all with the same --max-per-person, or VOICEFLOW_MAX_PER_PERSON",
        )


def _of_limits(found: QueueStatus) -> Iterator[Diagnosis]:
    waiting, limits = found.waiting, found.limits
    if waiting.max_active and limits is not None:
        yield warning(
            f"{count_of(waiting.max_active, 'call')} that are due wait for one of {limits.max_active} open calls to end"
            f"; {found.states[JobState.SUBMITTED]} of these wait for their summary",
            remedy="wait for their summaries, or start the workers with a higher --max-active",
        )
    if waiting.worker_may_not_send:
        yield warning(
            f"{count_of(waiting.worker_may_not_send, 'call')} that are due wait, because no worker that runs can send",
            remedy="correct what the line `faults` names",
        )


def of_faults(failing: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield what fails now in workers and receivers, a line for each cause."""
    causes: dict[str, list[str]] = {}
    for task, error in failing.items():
        causes.setdefault(error.partition(": ")[2].partition("; seen by ")[0] or error, []).append(task)
    for tasks in causes.values():
        first = min(tasks, key=lambda task: failing[task])  # which begins with the time
        more = f", and {len(tasks) - 1} more" if tasks[1:] else ""
        remedy = "it is tried again; if it lasts, the logs of workers and receivers have more"
        yield warning(f"failing: {first}{more} ({failing[first]})", remedy=remedy)


def health(failing: Mapping[str, str]) -> dict[str, object]:
    """Return the document of /healthz, which is served with 200 even if tasks fail: a restart would cut POSTs."""
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
    if late:
        yield warning(
            f"outcomes overdue: {count_of(late, 'call')} accepted long ago, and no summary came",
            remedy="correct what the checks `webhook` and `webhook address` of `voiceflow doctor` name; `voiceflow "
            "reconcile` looks for them in the log of 8x8",
        )


def _of_menus(unserved: Sequence[str]) -> Iterator[Diagnosis]:
    if unserved:
        from voiceflow_worker.ivr.menu_data import unserved_in_words  # seldom needed, and slow to load

        how = "run `voiceflow serve --ivr MODULE:MENU`, with --ivr once for each of them, with this store"
        yield failure(unserved_in_words(unserved), remedy=how)


MAY_LACK = (
    "do not resume yet: {before}add opt-outs that are missing (`voiceflow suppress add`), run `voiceflow reconcile`, "
    "resolve the calls that stay in doubt (`voiceflow calls resolve`), enqueue calls that are missing, then {resume}"
)


def _of_hold(gate: Gate) -> Iterator[Diagnosis]:
    """Yield a line for each cause of a hold; the first has what to do, and is about the hold with its cause."""
    first, *others = gate.reason.split(THEN)
    gate = replace(gate, reason=first)
    before = "what the lines after this one say, then " if others else ""
    level, remedy = Level.WARNING, f"correct the cause{'s' if others else ''}, then {resume_of(gate)}"
    if gate.state is GateState.CANCELLED:
        level, remedy = Level.OK, ""
    elif GateKind.MAY_LACK in gate.kinds:
        level, remedy = Level.FAILURE, MAY_LACK.format(before=before, resume=resume_of(gate))
    elif gate.until is not None:
        remedy = "wait: a hold with a time ends by itself"
    yield Diagnosis(level, closed_in_words(gate), remedy or None, about=gate)
    yield from (warning(f"{gate.scope.value} {gate.name} is also held: {each}") for each in others)


def _of_import(gate: Gate, found: QueueStatus) -> Diagnosis:
    remedy = f"import the same list again, or another one; or `voiceflow calls cancel --batch {gate.name}`"
    level = Level.WARNING if gate in found.stopped_imports else Level.OK
    return Diagnosis(level, closed_in_words(gate), remedy, about=gate)


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


async def read_queue(calls: CallQueue) -> WholeQueue:
    """Read all of a queue. Raises StoreError."""
    status, silent, unheard = await calls.status(), dict[str, datetime](), None
    if not (status.workers and status.has_receiver):
        silent, unheard = dict(await Heartbeats(calls.store).silent()), failing_here().get(Task.HEARTBEAT)
    if silent and unheard is None:
        unheard = await _takes_no_write(calls.store) or _SILENT
    unserved: list[str] = []
    if status.menus:
        from voiceflow_worker.ivr.menu_data import unserved_menus  # seldom needed, and slow to load

        unserved = await unserved_menus(calls.store, status.menus)
    return WholeQueue(
        status=status,
        unserved=unserved,
        clock_ahead=clock_ahead(calls.store.clock),
        unheard=unheard,
        silent=silent,
    )


_SILENT = "they were killed, or the store was away or took no write"


async def _takes_no_write(store: Store) -> str | None:
    """Return why the store takes no write now; None if it does."""
    with anyio.move_on_after(PROBED_FOR):
        try:
            await store_probe(store)()
        except StoreError as error:
            return error.in_public
        return None
    return f"the store took no write within {PROBED_FOR:g} s"
