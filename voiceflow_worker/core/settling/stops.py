"""Holds after refusals in a row, and after doubts in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Drop
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.reports.outcome import BODY_CODES
from voiceflow_worker.model.reports.status import session_error
from voiceflow_worker.model.text.wording import in_words

LIMITS_KEPT = timedelta(days=400)

_log = structlog.get_logger("voiceflow.stops")


def refusal_limits(store: Store) -> RecordSet[int]:
    """The number of refusals in a row after which a batch is held; 0 for never. In the group of its queue."""
    return json_records(store, "refusal-limit", int, keep_for=LIMITS_KEPT)


_VOICE = re.compile(r'"voiceProfile":("(?:[^"\\]|\\.)*")')


def voices_of(job: Job) -> list[str]:
    """The voices that a call's flow names, each once."""
    return list(dict.fromkeys(json.loads(found) for found in _VOICE.findall(job.body)))


RUNS = "refused-run"
RUNS_KEPT = timedelta(days=1)
DEFAULT_LIMIT = 10
"""The number of refusals in a row after which a batch is held, unless it has a limit of its own."""

VOICE_REFUSED, SOURCE_REFUSED, SOURCE_NOT_LISTED = -1002, -1014, -2008
ANSWER_CODES = frozenset({VOICE_REFUSED, SOURCE_REFUSED})
"""Codes of answers that every row gets, because their cause is in the account or the flow."""
SUMMARY_CODES = ANSWER_CODES | BODY_CODES | {SOURCE_NOT_LISTED}
"""Codes in session summaries that every row gets, because their cause is in the account or the flow."""


class AnswerCode(Struct, frozen=True):
    """The answer to a call: the code with which it was refused, and 8x8's words; `code` None if it was taken.

    With `is_summary`, the summary of a call that was taken has the code.
    """

    job: Job
    code: int | None = None
    message: str = ""
    is_summary: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """The refusals of a batch for one reason since the last success, in all processes.

    `successes` is the number of successes of the batch when the last refusal was counted. With `token`, two counts that
    come to the same are two.
    """

    length: int
    successes: int
    token: str


class RefusalRuns:
    """Counts consecutive refusals by batch and code, over all processes, and holds a batch at its limit.

    There is one count for each batch and code, in the store. It begins anew when the counters of the batch show a
    success since the last refusal, and when a person resumes the batch. So a success costs nothing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limits = refusal_limits(store)
        self._runs = json_records(store, RUNS, _Run, keep_for=RUNS_KEPT)

    async def note(self, answers: Sequence[AnswerCode]) -> None:
        """Count the refusals among these answers, which came in this order and are stored.

        If the store fails, the refusals are not counted.
        """
        runs: dict[tuple[str, str | None, str], list[AnswerCode]] = {}
        ended: set[tuple[str, str | None, str]] = set()
        for each in answers:
            if each.code is not None:
                runs.setdefault((each.job.queue, each.job.batch_id, _counter(each)), []).append(each)
                continue
            for key in [key for key in runs if key[:2] == (each.job.queue, each.job.batch_id)]:
                del runs[key]
                ended.add(key)
        for key, run in runs.items():
            try:
                await self._count(*key, run, begins_anew=key in ended)
            except StoreError as error:
                jobs = [each.job.id for each in run]
                _log.warning("refusals were not counted: the store failed", jobs=jobs, error=str(error))

    @staticmethod
    def reset(queue: str, batch_id: str | None) -> tuple[Drop, ...]:
        """What resets the counts of refusals of a batch, or of calls without a batch and of doubts."""
        counters = [*map(str, ANSWER_CODES), *(f"{code}s" for code in SUMMARY_CODES)]
        members = [_member(batch_id, counter) for counter in counters]
        return tuple(Drop(RUNS, queue, None, member) for member in (*members, *([] if batch_id else [DOUBTS])))

    async def _count(
        self, queue: str, batch_id: str | None, counter: str, run: Sequence[AnswerCode], *, begins_anew: bool
    ) -> None:
        job = run[-1].job
        limit = await self._limit(job)
        if limit <= 0:
            return
        successes = _successes(await totals_of(self._store, queue, batch_id), run[-1])

        def longer(before: _Run | None) -> _Run:
            goes_on = not begins_anew and before is not None and successes == before.successes
            earlier = before.length if goes_on and before is not None else 0
            return _Run(earlier + len(run), successes, new_revision())

        if (await self._runs.within(queue).change(_member(batch_id, counter), longer)).length < limit:
            return
        reason = _reason(run[-1], count=limit)
        gate = Gate.of(queue, batch_id, GateState.HELD, since=self._store.clock.now(), reason=reason)
        await order_gate(self._store, gate, drops=self.reset(queue, batch_id))
        _log.error(
            "a queue or batch is held: its calls are refused for the same reason",
            scope=gate.scope.value,
            name=gate.name,
            reason=gate.reason,
        )

    async def _limit(self, job: Job) -> int:
        """The number of refusals that holds the batch of a job; 0 for none. One that cannot be read does not count."""
        if job.batch_id is None:
            return DEFAULT_LIMIT
        limit = (await self._limits.within(job.queue).get([job.batch_id])).get(job.batch_id)
        return DEFAULT_LIMIT if limit is None else limit


DOUBTS = "doubts"
"""The member of the count of doubts of a queue, beside those of refusals."""
MOST_DOUBTS = 5
"""The number of doubts in a row after which a queue is held."""
DOUBTS_COUNT_FOR = timedelta(minutes=15)
"""Doubts that are further apart are not in a row."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=5)
"""How long a queue is held after doubts in a row. The wait doubles with each call that is tried, and in doubt again."""


@dataclass(frozen=True, slots=True)
class _DoubtRun:
    """The doubts of a queue in a row, of all workers. `held_at` is the time of the newest of its `holds`."""

    length: int
    at: datetime
    token: str
    holds: int = 0
    held_at: datetime | None = None


class DoubtRuns:
    """A circuit breaker: counts consecutive doubts of a queue, over all workers, and holds it for a growing time.

    What makes one call doubtful, such as a 502 or a timeout, makes the next one so. After a hold, each worker tries one
    call (`Worker`). A worker that has had a doubt and gets a clear answer ends the row.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs = json_records(store, RUNS, _DoubtRun, keep_for=RUNS_KEPT)
        self._doubtful: set[str] = set()

    async def note(self, queue: str, doubts: Sequence[AnswerCode], *, is_clear: bool) -> None:
        """Count the doubts of a queue, which are stored; `is_clear` ends their row. If the store fails, do nothing."""
        try:
            if is_clear and queue in self._doubtful:
                await self._runs.within(queue).remove([DOUBTS])
                self._doubtful.discard(queue)
            elif doubts and not is_clear:
                self._doubtful.add(queue)
                await self._count(queue, doubts)
        except StoreError as error:
            jobs = [each.job.id for each in doubts]
            _log.warning("doubts were not counted: the store failed", jobs=jobs, error=str(error))

    async def _count(self, queue: str, doubts: Sequence[AnswerCode]) -> None:
        now = self._store.clock.now()

        def longer(before: _DoubtRun | None) -> _DoubtRun:
            if before is None or before.at < now - DOUBTS_COUNT_FOR:
                before = _DoubtRun(0, now, "")
            began = [post.began_at for each in doubts if (post := each.job.last_post) is not None]
            # Those that were on their way when the queue was held say nothing about the time after that.
            new = sum(before.held_at is None or at > before.held_at for at in began)
            length = before.length + new
            if not new or length < MOST_DOUBTS:
                return replace(before, length=length, at=now, token=new_revision())
            return _DoubtRun(length, now, new_revision(), before.holds + 1, now)

        run = await self._runs.within(queue).change(DOUBTS, longer)
        if run.held_at != now:
            return
        wait = min(FIRST_WAIT * (1 << min(run.holds - 1, 10)), LONGEST_WAIT)
        reason = (
            f"8x8 gave no clear answer, call after call; the last: {doubts[-1].message}. One call is tried at "
            f"{in_words(now + wait)}, and the others go on once 8x8 answers"
        )
        await order_gate(self._store, Gate.of(queue, None, GateState.HELD, since=now, until=now + wait, reason=reason))
        _log.error("a queue is held: its calls are in doubt one after the other", queue=queue, reason=reason)


def _successes(totals: Totals, refused: AnswerCode) -> int:
    """The number of calls that show that a cause of refusals is gone.

    Of an answer these are the calls that were placed; of a summary those with an outcome. That a flow, a speech or a
    file works is shown by those alone that somebody answered.
    """
    if not refused.is_summary:
        return totals.placed
    if refused.code in BODY_CODES:
        return totals.answered
    return sum(count for name, count in totals.outcomes.items() if name not in {"FAILED", "ERROR"})


def _counter(refused: AnswerCode) -> str:
    """The name of the count of refusals of this kind."""
    return f"{refused.code}{'s' if refused.is_summary else ''}"


def _member(batch_id: str | None, counter: str) -> str:
    """The member of the count of a batch in the group of its queue."""
    return f"{counter} {batch_id or ''}"


def _reason(refused: AnswerCode, *, count: int) -> str:
    code, message = refused.code or 0, refused.message
    entry = session_error(code)
    said = f"; 8x8 says: {message}" if message and message.casefold() != entry.meaning.casefold() else ""
    return f"{_cause(refused.job, code)} ({code}, {count} calls in a row){said}. {entry.remedy.removesuffix('.')}"


def _cause(job: Job, code: int) -> str:
    if code in BODY_CODES:
        return session_error(code).meaning
    if code != VOICE_REFUSED:
        return f"8x8 does not let the account call from {job.source}"
    voices = voices_of(job)
    return (
        f"8x8 does not know the voice {', '.join(voices)}" if voices else "8x8 needs a voice, and the flow names none"
    )
