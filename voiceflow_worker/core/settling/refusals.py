"""Refusals that stop a queue or a batch.

8x8 refuses every row if the account does not have the voice, or if the source may not call. Without a hold, a campaign
of 50,000 rows would fail row by row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.record_set import RecordSet
from voiceflow_worker.core.settling.holds import order_gate, stop_rules
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.status import api_code, session_error

_VOICE = re.compile(r'"voiceProfile":("(?:[^"\\]|\\.)*")')

_log = structlog.get_logger("voiceflow.worker")


def voices_of(job: Job) -> list[str]:
    """The voices that a call's flow names, each once."""
    return list(dict.fromkeys(json.loads(found) for found in _VOICE.findall(job.body)))


RUNS = "refused-run"
KEPT = timedelta(days=1)
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
        self._runs = RecordSet(store, RUNS, write=str, read=_number, keep_for=KEPT)
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
                runs.setdefault(_prefix(each.job.queue, each.job.batch_id, each.code), []).append(each)
            elif runs or self._ours:
                ended = {_prefix(each.job.queue, each.job.batch_id, code) for code in codes}
                runs = {prefix: run for prefix, run in runs.items() if prefix not in ended}
                over |= {ours for prefix in ended if (ours := prefix + self._me) in self._ours}
        if not over and not runs:
            return
        try:
            async with self._one_at_a_time:
                if over:
                    await self._runs.remove(over)
                    self._ours -= over
                for prefix, run in runs.items():
                    await self._count(prefix, run)
        except StoreError as error:
            jobs = [each.job.id for each in answers if each.code is not None]
            _log.warning("refusals were not counted: the store failed", jobs=jobs, error=str(error))

    async def forget(self, queue: str, batch_id: str | None) -> None:
        """Reset the counts of refusals of a batch, or of calls without a batch, in all processes. Raises StoreError."""
        for code in ANSWER_CODES | SUMMARY_CODES:
            runs = await self._runs.all(prefix=_prefix(queue, batch_id, code))
            await self._runs.remove(key for key, _ in runs)

    async def _count(self, prefix: str, run: Sequence[Noted]) -> None:
        job, code = run[-1].job, run[-1].code
        limit = await self._limit(job)
        if limit <= 0 or code is None:
            return
        ours = prefix + self._me
        before = (await self._runs.get([ours])).get(ours) or 0
        self._ours.add(ours)
        await self._runs.put({ours: before + len(run)})
        # Read after the write: of several processes that count at once, the last sees the runs of all.
        runs = {key: length or 0 for key, length in await self._runs.page(prefix=prefix)}
        if sum(runs.values()) < limit:
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
        await self._runs.remove(runs)
        self._ours.discard(ours)

    async def _limit(self, job: Job) -> int:
        """The number of refusals that holds the batch of a job; 0 for none. Rules that cannot be read do not count."""
        if job.batch_id is None:
            return DEFAULT_LIMIT
        rules = next(iter((await self._rules.get([f"{job.queue}/{job.batch_id}"])).values()), None)
        return DEFAULT_LIMIT if rules is None or rules.after_refused is None else rules.after_refused


def _prefix(queue: str, batch_id: str | None, code: int) -> str:
    batch = batch_id or ""
    # With the length of the name, because one batch's name may be the beginning of another's.
    return f"{queue}/{code}/{len(batch)}/{batch}/"


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
