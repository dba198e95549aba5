"""Runs of refusals: a batch whose calls are refused for one reason that is ours, not the row's, is held.

A voice that the account does not have, or a number that may not call, is refused for every row alike. Without a stop a
campaign of 50,000 rows would fail row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.settling.voice_check import voices_of
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.status import api_code, session_error

RUNS = "refused-run"
LIMITS = "batch-limits"
KEPT = timedelta(days=1)
LIMITS_KEPT = timedelta(days=400)
DEFAULT_LIMIT = 10
"""Refusals in a row that hold a batch, unless it was given another number."""

VOICE_REFUSED, SOURCE_REFUSED, SOURCE_NOT_LISTED = -1002, -1014, -2008
ANSWER_CODES = frozenset({VOICE_REFUSED, SOURCE_REFUSED})
"""8x8 codes of an answer that blame the account or the flow, and would come again for every row."""
SUMMARY_CODES = frozenset({SOURCE_NOT_LISTED})
"""The same for session summaries."""

_log = structlog.get_logger("voiceflow.refusals")


class BatchLimits:
    """What was set for a batch when it was enqueued: after how many refusals in a row it is held."""

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._clock = store.clock

    async def put(self, queue: str, batch_id: str, *, stop_after_refused: int) -> None:
        """Set the number for a batch; 0 is never."""
        now = self._clock.now()
        text = json.dumps({"stop_after_refused": stop_after_refused})
        await self._records.put(LIMITS, {f"{queue}/{batch_id}": text}, expires_at=now + LIMITS_KEPT, now=now)

    async def stop_after_refused(self, queue: str, batch_id: str | None) -> int:
        """The number for this batch; the default where none was set, or where it cannot be read."""
        if batch_id is None:
            return DEFAULT_LIMIT
        key = f"{queue}/{batch_id}"
        text = (await self._records.get(LIMITS, [key], now=self._clock.now())).get(key)
        try:
            number = DEFAULT_LIMIT if text is None else json.loads(text).get("stop_after_refused", DEFAULT_LIMIT)
        except (ValueError, AttributeError):
            number = None
        if isinstance(number, int) and not isinstance(number, bool):
            return number
        _log.warning("the limits of a batch cannot be read; the default counts", queue=queue, batch=batch_id)
        return DEFAULT_LIMIT


class RefusalRuns:
    """Counts refusals in a row by batch and code, over all processes, and holds the batch at its limit.

    Each process keeps the length of its own run in the store; their sum is what counts. A call that is taken ends the
    run of the process that saw it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limits = BatchLimits(store)
        self._me = new_worker_id()
        self._ours: set[str] = set()
        self._one_at_a_time = anyio.Lock()

    async def refused(self, job: Job, code: int, *, message: str) -> None:
        """A call was refused with one of these codes. While the store is away it is not counted."""
        try:
            async with self._one_at_a_time:
                await self._count(job, code, message=message)
        except StoreError as error:
            _log.warning("a refusal was not counted: the store is away", job=job.id, code=code, error=str(error))

    async def taken(self, job: Job, codes: Iterable[int]) -> None:
        """A call of the batch was not refused with any of these codes: their runs are over."""
        if not self._ours:
            return
        over = {key for code in codes if (key := _prefix(job, code) + self._me) in self._ours}
        if not over:
            return
        try:
            await self._store.records.delete(RUNS, dict.fromkeys(over))
        except StoreError as error:
            _log.warning("a run of refusals was not ended: the store is away", job=job.id, error=str(error))
        else:
            self._ours -= over

    async def _count(self, job: Job, code: int, *, message: str) -> None:
        limit = await self._limits.stop_after_refused(job.queue, job.batch_id)
        if limit <= 0:
            return
        records, now = self._store.records, self._store.clock.now()
        prefix = _prefix(job, code)
        ours = prefix + self._me
        runs = {key: _number(text) for key, text in await records.scan(RUNS, now=now, prefix=prefix)}
        runs[ours] = runs.get(ours, 0) + 1
        if sum(runs.values()) < limit:
            self._ours.add(ours)
            await records.put(RUNS, {ours: str(runs[ours])}, expires_at=now + KEPT, now=now)
            return
        gate = Gate(
            queue=job.queue,
            scope=GateScope.QUEUE if job.batch_id is None else GateScope.BATCH,
            name=job.batch_id or job.queue,
            state=GateState.HELD,
            reason=_reason(job, code, count=limit, message=message),
            since=now,
        )
        await self._store.control.gate(gate)
        _log.error("held: calls are refused for one reason", scope=gate.scope.value, name=gate.name, reason=gate.reason)
        # Whoever resumes begins a new run.
        await records.delete(RUNS, dict.fromkeys(runs))
        self._ours.discard(ours)


def _prefix(job: Job, code: int) -> str:
    batch = job.batch_id or ""
    # With its length: one batch's name may begin with another's.
    return f"{job.queue}/{code}/{len(batch)}/{batch}/"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _reason(job: Job, code: int, *, count: int, message: str) -> str:
    entry = session_error(code) if code in SUMMARY_CODES else api_code(code)
    said = f"; 8x8 says: {message}" if message and message.casefold() != entry.meaning.casefold() else ""
    return f"{count} calls in a row were refused with {code} ({entry.meaning}): {_subject(job, code)}{said}"


def _subject(job: Job, code: int) -> str:
    if code != VOICE_REFUSED:
        return f"source {job.source}"
    voices = voices_of(job)
    return f"voice {', '.join(voices)}" if voices else "the flow names no voice"
