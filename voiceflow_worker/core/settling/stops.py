"""Batches that stop themselves: by their figures, and by refusals in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.reading import gates_at, totals_of
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import Measured, StopRules, why_stop
from voiceflow_worker.model.reports.status import api_code, session_error

RULES, MEASURED = "batch-stops", "batch-measured"
KEPT = timedelta(days=400)
READ_EVERY = 5.0
"""Seconds until the rules of all batches are read again. The first calls of a new batch ring for longer."""
IDLE = 30.0
"""Seconds until a batch that has nothing to send is checked again."""

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
        await self._rules.change(batch_id, rules.over)

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
        is_ours = gate is not None and is_held and GateKind.STOPPED_ITSELF in gate.kinds
        if is_held and not is_ours:
            return  # held or cancelled by a person; judged once it is resumed
        totals = await totals_of(self._store, self._queue, batch_id)
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
            reason_shown = f"stopped itself: {since}{reason}"
            kinds = frozenset({GateKind.STOPPED_ITSELF})
            held = Gate.of(self._queue, batch_id, GateState.HELD, since=now, reason=reason_shown, kinds=kinds)
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
