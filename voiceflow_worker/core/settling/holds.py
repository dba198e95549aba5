"""Holds that answers call for, and the refusals in a row that hold a batch or a queue."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
import structlog

from voiceflow_worker.core import units
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision, new_worker_id
from voiceflow_worker.core.ports.reading import calls_of_start, gates_at, starts_of
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.core.ports.store import GATES, Drop, Result, Step, Unit, gate_from, member_of, start_put
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import Measured, StopRules, why_stop
from voiceflow_worker.model.reports.status import api_code, session_error
from voiceflow_worker.model.reports.verdict import Hold


async def order_gate(store: Store, ordered: Gate, *, over: Callable[[Gate], bool] | None = None) -> Gate:
    """Store the gate that results from an order, and return it. Once this returns, no call leaves against it later.

    The rules are those of `model.jobs.gate.merged`. With `over`, a gate for which it is False stays as it is, and is
    returned. Raises StoreError; the same order may then be given again.
    """
    now = ordered.since
    token = new_revision()
    found = (await store.records({GATES: [(ordered.queue, member_of(ordered))]}, now=now))[GATES]
    standing = found[0] if found else None
    while True:
        if over is not None and standing is not None and not over(was := gate_from(standing)):
            return was
        gate, unit = units.gate_order(standing, ordered, token=token)
        (answer,) = await store.write(Step(units=(unit,)), now=now)
        if answer.result is Result.DONE:
            return gate
        standing = answer.record  # somebody else's order came between


async def end_starts(store: Store, queue: str, batch_id: str, *, among: Container[str] | None = None) -> None:
    """Let the stored calls of starts of a batch be sent, although their last call was not stored. Raises StoreError.

    With `among`, only those starts whose waiting calls all have one of these ids.
    """
    await drop_starts(
        store,
        queue,
        [
            start
            for start in await starts_of(store, queue, batch_id=batch_id)
            if among is None or await _is_among(store, start, among)
        ],
    )


async def drop_starts(store: Store, queue: str, starts: Iterable[Gate]) -> None:
    """Delete the records of these starts. Raises StoreError."""
    puts = [start_put(start) for start in starts]
    drops = tuple(Drop(put.namespace, put.group, None, put.member) for put in puts)
    if drops:
        await store.write(Step(units=(Unit(drops=drops, wakes=queue),)), now=store.clock.now())


async def _is_among(store: Store, start: Gate, ids: Container[str]) -> bool:
    """Whether a start has waiting calls, and only calls with these ids. One without calls may be storing its first."""
    has_calls = False
    async with aclosing(calls_of_start(store, start)) as pages:
        async for page in pages:
            has_calls = has_calls or bool(page)
            if any(job.id not in ids for job in page):
                return False
    return has_calls


FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=60)


class Holds:
    """Closes gates of one queue, and keeps back this worker's calls that have not left.

    A 429 that names no time holds the queue for 1 s. Each such 429 after the end of a pause doubles the next pause, up
    to 60 s. An answer without a hold sets the pause back to 1 s.
    """

    def __init__(self, store: Store, *, queue: str) -> None:
        self._store = store
        self._clock = store.clock
        self._queue = queue
        self._pause = FIRST_PAUSE
        self._paused_until: datetime | None = None
        self._closed_at = float("-inf")
        self.reason: str = ""

    def close(self, hold: Hold) -> Gate:
        """Hold the queue for this worker at once. Pass the returned gate to `order` to hold the queue for all workers.

        Use this only once for each answer: a second use could give the hold a later end.
        """
        now = self._clock.now()
        # Before the trip to the store: calls that have not left yet must not leave.
        self._closed_at = self._clock.monotonic()
        self.reason = hold.reason
        until = None if hold.until_opened else self._until(hold, now)
        return Gate.of(self._queue, None, GateState.HELD, since=now, until=until, reason=hold.reason)

    async def order(self, gate: Gate) -> datetime | None:
        """Close a gate for all workers; returns the time at which it opens, or None if a person must open it."""
        return (await order_gate(self._store, gate)).until

    def heed(self, gate: Gate) -> None:
        """Follow a hold that was read from the store: calls that this worker has leased already must not leave."""
        self._closed_at = self._clock.monotonic()
        self.reason = gate.reason

    def closed_since(self, leased_at: float) -> bool:
        """Whether this worker has seen a hold after `leased_at` (monotonic seconds).

        A job that was leased after the hold is not affected by it: the store's gate has let it pass.
        """
        return self._closed_at >= leased_at

    async def reason_since(self, leased_at: float, *, batch_id: str | None) -> str | None:
        """The reason why a call leased at `leased_at` may not leave now: a hold or a closed gate; None if it may."""
        if self.closed_since(leased_at):
            return self.reason
        for gate in (await gates_at(self._store, self._queue, {None, batch_id})).values():
            if gate.is_closed(at=self._clock.now()):
                return gate.reason or f"the {gate.scope} is {gate.state}"
        return None

    def relax(self) -> None:
        """Set the pause back to 1 s, after an answer without a hold."""
        self._pause = FIRST_PAUSE

    def _until(self, hold: Hold, now: datetime) -> datetime:
        if hold.retry_after is not None:
            return now + hold.retry_after
        if self._paused_until is not None and now < self._paused_until:
            # Fifty calls in flight get the same 429: the pause doubles once, not fifty times.
            return self._paused_until
        self._paused_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._paused_until


RULES, MEASURED = "batch-stops", "batch-measured"
KEPT = timedelta(days=400)
READ_EVERY = 5.0
"""Seconds until the rules of all batches are read again. The first calls of a new batch ring for longer."""
IDLE = 30.0
"""Seconds until a batch that has nothing to send is checked again."""
STOPPED = "stopped itself: "
"""The words with which the reason begins when a batch stopped itself by a rule."""

_TO_SEND = (JobState.QUEUED, JobState.LEASED)

_log = structlog.get_logger("voiceflow.stops")


def stop_rules(store: Store) -> RecordSet[StopRules]:
    """The stop rules of batches, in the group of their queue."""
    return json_records(store, RULES, StopRules, keep_for=KEPT)


class BatchStops:
    """The rules by which batches of one queue stop themselves. Methods raise StoreError.

    Any number of processes may check the rules. After a person has resumed a batch, only later figures count, so the
    old figures do not hold it again.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._rules = stop_rules(store).within(queue)
        self._measured = json_records(store, MEASURED, Measured, keep_for=KEPT).within(queue)
        self._known: dict[str, StopRules] = {}
        self._read_again = 0.0
        self._idle: dict[str, float] = {}

    async def put(self, batch_id: str, rules: StopRules) -> None:
        """Set the rules of a batch. If a new rule is None, the earlier rule stays."""
        before = (await self._rules.get([batch_id])).get(batch_id)
        await self._rules.put({batch_id: rules.over(before)})

    async def look(self) -> None:
        """Hold the batches that have reached a limit and have calls to send."""
        now = self._store.clock.monotonic()
        if now >= self._read_again:
            found = await self._rules.all()
            self._known = {batch_id: rules for batch_id, rules in found if rules is not None and rules.needs_totals}
            self._read_again = now + READ_EVERY
        ruled = [each for each in self._known.items() if self._idle.get(each[0], now) <= now]
        if not ruled:
            return
        gates = await gates_at(self._store, self._queue, [batch_id for batch_id, _ in ruled])
        for batch_id, rules in ruled:
            await self._judge(batch_id, rules, gates.get(batch_id))

    async def _judge(self, batch_id: str, rules: StopRules, gate: Gate | None) -> None:
        now = self._store.clock.now()
        is_held = gate is not None and gate.until is None
        is_ours = gate is not None and is_held and gate.reason.startswith(STOPPED)
        if is_held and not is_ours:
            return  # held or cancelled by a person; judged once it is resumed
        totals = await self._store.totals(self._queue, batch=batch_id)
        if not any(totals.states[state] for state in _TO_SEND):
            self._idle[batch_id] = self._store.clock.monotonic() + IDLE
            return
        measured = Measured.of(totals)
        before = (await self._measured.get([batch_id])).get(batch_id)
        reason = why_stop(rules, measured.since(before))
        if reason is None:
            return
        if not is_ours:
            since = "" if before is None else "since it was resumed, "
            reason_shown = f"{STOPPED}{since}{reason}"
            held = Gate.of(self._queue, batch_id, GateState.HELD, since=now, reason=reason_shown)
            await order_gate(self._store, held)
            _log.error("a batch stopped itself", batch=batch_id, reason=reason)
        # After the hold: a process that dies between the two leaves a batch that is held once more when it is resumed.
        await self._measured.put({batch_id: measured})


_VOICE = re.compile(r'"voiceProfile":("(?:[^"\\]|\\.)*")')


def voices_of(job: Job) -> list[str]:
    """The voices that a call's flow names, each once."""
    return list(dict.fromkeys(json.loads(found) for found in _VOICE.findall(job.body)))


RUNS = "refused-run"
RUNS_KEPT = timedelta(days=1)
DEFAULT_LIMIT = 10
"""The number of refusals in a row after which a batch is held, unless `StopRules` has another."""

VOICE_REFUSED, SOURCE_REFUSED, SOURCE_NOT_LISTED = -1002, -1014, -2008
ANSWER_CODES = frozenset({VOICE_REFUSED, SOURCE_REFUSED})
"""Codes of answers that every row gets, because their cause is in the account or the flow."""
SUMMARY_CODES = frozenset({SOURCE_NOT_LISTED})
"""Codes in session summaries that every row gets, because their cause is in the account or the flow."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The answer to a call: the code with which it was refused, and 8x8's words; `code` None if it was taken."""

    job: Job
    code: int | None = None
    message: str = ""


class RefusalRuns:
    """Counts consecutive refusals by batch and code, over all processes, and holds a batch at its limit.

    Each process stores the length of its own run of refusals; the sum of these lengths counts. A call that is not
    refused ends the run of the process that records this. A person who resumes the batch ends the runs of all
    processes, even of processes that have ended.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules = stop_rules(store)
        self._runs = RecordSet(store, RUNS, write=str, read=_number, keep_for=RUNS_KEPT)
        self._me = new_worker_id()
        self._ours: set[str] = set()
        self._one_at_a_time = anyio.Lock()

    async def note(self, answers: Sequence[Noted], *, codes: Collection[int]) -> None:
        """Count the refusals among these answers, which came in this order. A call that was taken ends its runs.

        `codes` are the codes that are counted. If the store fails, the refusals are not counted.
        """
        runs: dict[str, list[Noted]] = {}
        over: set[str] = set()
        for each in answers:
            if each.code is not None:
                runs.setdefault(_place(each.job.queue, each.job.batch_id, each.code), []).append(each)
            elif runs or self._ours:
                ended = {_place(each.job.queue, each.job.batch_id, code) for code in codes}
                runs = {place: run for place, run in runs.items() if place not in ended}
                over |= ended & self._ours
        if not over and not runs:
            return
        try:
            async with self._one_at_a_time:
                for place in over:
                    await self._runs.within(place).remove([self._me])
                    self._ours.discard(place)
                for place, run in runs.items():
                    await self._count(place, run)
        except StoreError as error:
            jobs = [each.job.id for each in answers if each.code is not None]
            _log.warning("refusals were not counted: the store failed", jobs=jobs, error=str(error))

    async def forget(self, queue: str, batch_id: str | None) -> None:
        """Reset the counts of refusals of a batch, or of calls without a batch, in all processes. Raises StoreError."""
        for code in ANSWER_CODES | SUMMARY_CODES:
            runs = self._runs.within(_place(queue, batch_id, code))
            await runs.remove([process for process, _ in await runs.all()])

    async def _count(self, place: str, run: Sequence[Noted]) -> None:
        job, code = run[-1].job, run[-1].code
        limit = await self._limit(job)
        if limit <= 0 or code is None:
            return
        runs = self._runs.within(place)
        before = (await runs.get([self._me])).get(self._me) or 0
        self._ours.add(place)
        await runs.put({self._me: before + len(run)})
        # Read after the write: of several processes that count at once, the last sees the runs of all.
        lengths = {process: length or 0 for process, length in await runs.page()}
        if sum(lengths.values()) < limit:
            return
        reason = _reason(job, code, count=limit, message=run[-1].message)
        gate = Gate.of(job.queue, job.batch_id, GateState.HELD, since=self._store.clock.now(), reason=reason)
        await order_gate(self._store, gate)
        _log.error(
            "a queue or batch is held: its calls are refused for the same reason",
            scope=gate.scope.value,
            name=gate.name,
            reason=gate.reason,
        )
        # After `resume` a new run begins.
        await runs.remove(lengths)
        self._ours.discard(place)

    async def _limit(self, job: Job) -> int:
        """The number of refusals that holds the batch of a job; 0 for none. Rules that cannot be read do not count."""
        if job.batch_id is None:
            return DEFAULT_LIMIT
        rules = (await self._rules.within(job.queue).get([job.batch_id])).get(job.batch_id)
        return DEFAULT_LIMIT if rules is None or rules.after_refused is None else rules.after_refused


def _place(queue: str, batch_id: str | None, code: int) -> str:
    """The group of the runs of a batch."""
    return f"{queue}/{code}/{batch_id or ''}"


def _number(_: str, text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _reason(job: Job, code: int, *, count: int, message: str) -> str:
    entry = session_error(code) if code in SUMMARY_CODES else api_code(code)
    said = f"; 8x8 says: {message}" if message and message.casefold() != entry.meaning.casefold() else ""
    return f"{_cause(job, code)} ({code}, {count} calls in a row){said}. {entry.remedy.removesuffix('.')}"


def _cause(job: Job, code: int) -> str:
    if code != VOICE_REFUSED:
        return f"8x8 does not let the account call from {job.source}"
    voices = voices_of(job)
    return (
        f"8x8 does not know the voice {', '.join(voices)}" if voices else "8x8 needs a voice, and the flow names none"
    )
