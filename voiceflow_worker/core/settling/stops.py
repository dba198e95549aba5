"""Batches that stop themselves by their figures; holds after refusals in a row, and after doubts in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import gates_at, totals_of
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Drop
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import Measured, StopRules, why_stop
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.reports.outcome import BODY_CODES
from voiceflow_worker.model.reports.status import session_error
from voiceflow_worker.model.text.wording import in_words

RULES, MEASURED = "batch-stops", "batch-measured"
KEPT = timedelta(days=400)
READ_EVERY = 5.0
"""Seconds until the rules of a batch are read again. The first calls of a new batch ring for longer."""

_TO_SEND = (JobState.QUEUED, JobState.LEASED)

_log = structlog.get_logger("voiceflow.stops")


def stop_rules(store: Store) -> RecordSet[StopRules]:
    """The stop rules of batches, in the group of their queue."""
    return json_records(store, RULES, StopRules, keep_for=KEPT)


class BatchStops:
    """The rules by which batches of one queue stop themselves. Methods raise StoreError.

    A worker checks the batches whose calls it leases, so the cost does not grow with the batches of the store. Any
    number of workers may check the rules. After a person has resumed a batch, only later figures count, so the old
    figures do not hold it again.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._rules = stop_rules(store).within(queue)
        self._measured = json_records(store, MEASURED, Measured, keep_for=KEPT).within(queue)
        self._sent: set[str] = set()
        self._known: dict[str, StopRules | None] = {}
        self._read_again = 0.0

    async def put(self, batch_id: str, rules: StopRules) -> None:
        """Set the rules of a batch. If a new rule is None, the earlier rule stays."""
        await self._rules.change(batch_id, rules.over)

    def leased(self, jobs: Iterable[Job]) -> None:
        """Note the batches of calls that a worker has leased: the next `check` includes them."""
        self._sent.update(job.batch_id for job in jobs if job.batch_id is not None)

    async def check(self) -> None:
        """Hold the batches that have reached a limit, of those whose calls were leased and that have calls to send."""
        now = self._store.clock.monotonic()
        if now >= self._read_again:
            self._known, self._read_again = {}, now + READ_EVERY
        sent = sorted(self._sent)  # more may be leased meanwhile
        unknown = [batch_id for batch_id in sent if batch_id not in self._known]
        self._known |= dict.fromkeys(unknown) | await self._rules.get(unknown)
        ruled: dict[str, StopRules] = {}
        for batch_id in sent:
            rules = self._known[batch_id]
            if rules is not None and rules.needs_totals:
                ruled[batch_id] = rules
            else:
                self._sent.discard(batch_id)
        if not ruled:
            return
        gates = await gates_at(self._store, self._queue, ruled)
        counted = await self._store.totals(self._queue, batches=list(ruled))
        for (batch_id, rules), totals in zip(ruled.items(), counted, strict=True):
            await self._check(batch_id, rules, gates.get(batch_id), totals)

    async def _check(self, batch_id: str, rules: StopRules, gate: Gate | None, totals: Totals) -> None:
        now = self._store.clock.now()
        is_held = gate is not None and gate.until is None
        is_ours = gate is not None and is_held and GateKind.STOPPED_ITSELF in gate.kinds
        if is_held and not is_ours:
            return  # held or cancelled by a person; checked once it is resumed
        if not any(totals.states[state] for state in _TO_SEND):
            self._sent.discard(batch_id)  # until calls of it are leased again
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
        self._rules = stop_rules(store)
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
        """The number of refusals that holds the batch of a job; 0 for none. Rules that cannot be read do not count."""
        if job.batch_id is None:
            return DEFAULT_LIMIT
        rules = (await self._rules.within(job.queue).get([job.batch_id])).get(job.batch_id)
        return DEFAULT_LIMIT if rules is None or rules.after_refused is None else rules.after_refused


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
            f"8x8 gave no clear answer to {run.length} calls in a row, which are in doubt; the last: "
            f"{doubts[-1].message}. One call is tried at {in_words(now + wait)}, and the others go on once 8x8 answers"
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
