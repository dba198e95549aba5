"""The numbers of the account that 8x8 reports as not active, and the holds of queues that call from an inactive one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from voiceflow_worker.core.base.identity import QueueNames, new_revision
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Same, Wanted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.events import NumbersUpdated, ReportedNumber
from voiceflow_worker.model.text.wording import in_words, rfc3339

NUMBERS, HELD_FOR = "own-number", "own-number-hold"
"""Namespaces of the numbers, and of the holds that were ordered because of one, in its group and by their queue."""
KEPT = timedelta(days=400)
MOST_READ = 500
"""The most waiting calls of a queue, by due time, whose sources are looked at when a number becomes inactive. Those of
later calls are looked at when a worker leases them."""
READ_EVERY = 5.0
"""Seconds until the states of a worker's sources are read again."""
_ROUNDS = 5

_log = structlog.get_logger("voiceflow.numbers")


_REMEDIES = {
    "inactive": "renew it with 8x8, or give the waiting calls another source (`voiceflow enqueue --batch ID --stored "
    "--replace --source NUMBER`)",
    "expiring": "renew it with 8x8, or choose another source for new calls",
}


def what_to_do(status: str) -> str:
    """The remedy for a number with a status other than active, as a clause."""
    return _REMEDIES.get(status.casefold(), "choose another source for new calls until it is active again")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberState:
    """The state of a number of the account. `status` is as 8x8 spells it; it is known since the time `since`.

    `at` is the time of the last update of the number at 8x8.
    """

    number: str
    status: str
    since: datetime
    at: datetime

    @property
    def is_active(self) -> bool:
        """Whether nothing is wrong with the number."""
        return self.status.casefold() == "active"

    @property
    def is_inactive(self) -> bool:
        """Whether calls from the number fail."""
        return self.status.casefold() == "inactive"

    def in_words(self) -> str:
        """The state, as a clause."""
        return f"8x8 reports the number {self.number} as {self.status.lower()} since {in_words(self.since)}"

    def as_json(self) -> dict[str, object]:
        """The state as JSON, for scripts."""
        return {"number": self.number, "status": self.status, "since": rfc3339(self.since)}


class OwnNumbers:
    """What 8x8 reports of the account's numbers (VNU). Reports may come again, and in any order.

    Methods raise StoreError; it is then safe to call them again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._states = json_records(store, NUMBERS, NumberState, keep_for=KEPT)

    async def note(self, event: NumbersUpdated) -> None:
        """Store the states in a report, and hold the queues whose waiting calls have an inactive number as source."""
        now, inactive = self._store.clock.now(), set[str]()
        known = await self._states.get(each.number for each in event.numbers)
        for reported in event.numbers:
            newer = partial(_newer, reported=reported, now=now)
            state = known.get(reported.number)
            if state is None or newer(state) != state:
                state = await self._states.change(reported.number, newer)
            if state.is_inactive:
                inactive.add(state.number)
        for queue in await QueueNames(self._store).known() if inactive else ():
            waiting = await find_jobs(self._store, Due(queue=queue, state=JobState.QUEUED, limit=MOST_READ))
            await self.hold(queue, {job.source for job in waiting}.intersection(inactive))

    async def not_active(self) -> list[NumberState]:
        """The numbers that are reported as anything but active, by number."""
        return [state for state in await self._states.values() if not state.is_active]

    async def hold(self, queue: str, sources: Iterable[str]) -> None:
        """Hold a queue that calls from these numbers, if one is inactive: once each time that it has become so.

        So a person may resume the queue. That the number is inactive is a condition of the write.
        """
        found = await self._states.get(sorted(sources))
        for state in found.values():
            if state is not None and state.is_inactive:
                await self._hold(queue, state)

    async def _hold(self, queue: str, state: NumberState) -> None:
        now = self._store.clock.now()
        reason = f"{state.in_words()}, so calls from it fail: {what_to_do(state.status)}"
        mark = state.since.isoformat()
        for _ in range(_ROUNDS):
            gate_key = (queue, gate_member(None))
            wanted: Wanted = {NUMBERS: [state.number], HELD_FOR: [(state.number, queue)], GATES: [gate_key]}
            found = await self._store.records(wanted, now=now)
            number, held, gates = (found[namespace] for namespace in wanted)
            known = self._states.read({"": number[0].value})[""] if number else None
            if known is None or not known.is_inactive or (held and held[0].value == mark):
                return
            ordered = Gate.of(queue, None, GateState.HELD, since=now, reason=reason)
            gate, write = write_of_order(gates[0] if gates else None, ordered, token=new_revision())
            is_so = Same(NUMBERS, state.number, number[0].value)
            once = Same(HELD_FOR, state.number, held[0].value if held else None, queue)
            put = Put(HELD_FOR, state.number, mark, now + KEPT, member=queue)
            write = replace(write, conditions=(*write.conditions, is_so, once), puts=(*write.puts, put))
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=now)
            if answer.result is Result.DONE:
                _log.error("a queue is held: one of its sources is inactive", queue=queue, reason=gate.reason)
                return


def _newer(before: NumberState | None, *, reported: ReportedNumber, now: datetime) -> NumberState:
    """The state of a number after a report, unless that is older than what is known."""
    new = NumberState(number=reported.number, status=reported.status, since=now, at=reported.at or now)
    if before is None or (new.at >= before.at and new.status.casefold() != before.status.casefold()):
        return new
    return replace(before, at=max(new.at, before.at))


class SourceCheck:
    """Holds a worker's queue if it calls from an inactive number: of the calls that the worker leases, every source."""

    def __init__(self, store: Store, queue: str) -> None:
        self._clock = store.clock
        self._numbers = OwnNumbers(store)
        self._queue = queue
        self._used: set[str] = set()
        self._looked_at: set[str] = set()
        self._read_again = 0.0

    def leased(self, jobs: Sequence[Job]) -> None:
        """Note the sources of leased calls: the next `check` includes them."""
        self._used.update(job.source for job in jobs)

    async def check(self) -> None:
        """Look at the sources that were noted. Those of the last seconds cost no read. Raises StoreError."""
        now = self._clock.monotonic()
        if now >= self._read_again:
            self._looked_at, self._read_again = set(), now + READ_EVERY
        used, self._used = self._used, set()
        if new := used - self._looked_at:
            await self._numbers.hold(self._queue, new)
            self._looked_at |= new
