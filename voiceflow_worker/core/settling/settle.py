"""Settling of POSTs: the evidence of answers and session summaries, applied to jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial

import structlog
from msgspec import Struct

from voiceflow_worker.core import logs
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.identity import job_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import report_unreadable, skip_unreadable
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Record
from voiceflow_worker.core.progress import CallProgress, LegState
from voiceflow_worker.core.settling.changes import Changed, Changes, JobChange, Sessions
from voiceflow_worker.core.settling.circuit_breakers import ANSWER_CODES, SUMMARY_CODES, Answer, CircuitBreakers
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import IllegalMoveError, JobNotFoundError, StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, failed_with, mismatched, not_begun, session_of, summarised
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import is_e164
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.outcome import NOT_CONNECTED, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.settle")


class SummaryResult(StrEnum):
    """The effect of a session summary."""

    SETTLED = "settled"
    """The summary was applied: as the first of its POST, or as a further one that counts (`summarised`)."""
    REPEATED = "repeated"
    """The POST had a summary already, and this one changed nothing."""
    EARLY = "early"
    """The session is not known yet. The summary is kept for seven days, and applied when a POST names the session."""
    INCONCLUSIVE = "inconclusive"
    """The status is unknown. The summary proves that the call was placed, and a clear summary is still awaited."""
    UNKNOWN = "unknown"
    """The summary belongs to no call of this store."""


class PostAnswer(Struct, eq=False):
    """The answer to a POST of a job. `number` is the POST's number, `at` the time of the answer.

    `job` is the job as the caller last saw it. The values are computed once. If each try to store them computed them
    again, a correct clock would look wrong compared with the time in the old answer, and each hold would start again.
    `gate` is a hold for this answer that is not stored yet, and `held_until` the time at which the queue opens again
    after a stored one. Without `is_known`, `job` has a journal entry of which it is not known whether it was stored,
    and whose POST certainly did not leave. Without `has_entry`, it could not connect, and has no entry.
    """

    job: Job
    number: int
    verdict: Verdict
    at: datetime
    held_until: datetime | None = None
    is_known: bool = True
    has_entry: bool = True
    gate: Gate | None = None

    def apply(self, job: Job, *, policy: CallPolicy) -> Job:
        """Return the job of the store after this answer."""
        if not self.is_known:
            return not_begun(job, self.job, self.verdict, at=self.at, policy=policy)
        if not self.has_entry:
            if job.state is not JobState.LEASED or job.worker_id != self.job.worker_id or job.post(self.number):
                return job  # its lease has ended
            job = lifecycle.begin(job, at=self.at, lease_until=self.at, policy=policy)
        return answered(job, self.number, self.verdict, at=self.at, policy=policy, held_until=self.held_until)


class Settler:
    """Applies evidence about POSTs, from any process, in any order, any number of times."""

    def __init__(self, store: Store, policy: CallPolicy, *, changes: Changes | None = None) -> None:
        self._store = store
        self._policy = policy
        self._changes = changes or Changes(store, policy)
        self._sessions = Sessions(store)
        self._suppression = SuppressionList(store, policy=policy, by=Actor(on="8x8"))
        self._breakers = CircuitBreakers(store)
        self._progress = CallProgress(store)

    async def verdicts(self, answers: Sequence[PostAnswer]) -> list[Job | BaseException]:
        """Settle POSTs by their answers in one commit; return the job or the error of each."""
        changes = [JobChange(each.job.id, partial(each.apply, policy=self._policy), each.job) for each in answers]
        settled: list[Job | BaseException] = []
        noted: list[Answer] = []
        doubts: dict[str, list[Answer]] = {}
        clear: set[str] = set()
        for each, changed in zip(answers, await self._changes.change_each(changes), strict=True):
            if isinstance(changed, BaseException):
                settled.append(changed)
                continue
            settled.append(changed.new)
            verdict = each.verdict
            is_news = changed.new is not changed.old
            if verdict.kind is VerdictKind.CREATED:
                noted.append(Answer(changed.new))
            elif is_news and verdict.kind is VerdictKind.REFUSED and verdict.code in ANSWER_CODES:
                noted.append(Answer(changed.new, verdict.code, verdict.message))
            if verdict.is_clear:
                clear.add(changed.new.queue)
            elif is_news and verdict.kind is VerdictKind.UNKNOWN and verdict.cause is None:
                doubts.setdefault(changed.new.queue, []).append(Answer(changed.new, message=verdict.message))
        await self._breakers.note(noted)
        for queue in sorted(clear | doubts.keys()):
            await self._breakers.note_doubts(queue, doubts.get(queue, ()), is_clear=queue in clear)
        return settled

    async def failure(self, state: LegState) -> None:
        """Add the SIP code of a leg that failed, as an event has it, to the outcome of its session.

        An outcome that comes later takes the code from the event. Raises StoreError.
        """
        leg = state.failure
        post = None if leg is None else (await self._sessions.find([state.session_id])).get(state.session_id)
        if leg is not None and post is not None:
            with contextlib.suppress(JobNotFoundError):
                await self._changes.change(post[0], partial(failed_with, number=post[1], legs=[leg]))

    async def known(self, ids: Sequence[str]) -> Mapping[str, Job]:
        """Return the jobs with these ids that the store has, and that this version can read. Raises StoreError."""
        return await get_jobs(self._store, ids)

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        """Settle the POST that a session summary (VSS) belongs to, found by its `clientRequestId`, else by its session.

        If this raises `StoreUnavailableError`, the summary is not stored, and the answer to its sender must say so.
        """
        post = job_of(summary.client_request_id) if summary.client_request_id else None
        if post is not None:
            result = await self._summarise(post, summary)
            if result is not SummaryResult.UNKNOWN:
                return result
        if not summary.session_id:
            return SummaryResult.UNKNOWN
        post = (await self._sessions.find([summary.session_id])).get(summary.session_id)
        if post is None and not summary.client_request_id:
            if summary.status is None:
                return SummaryResult.UNKNOWN
            await self._sessions.early.add({summary.session_id: outcome_of(summary)})
            # The answer that names this session may have been stored between the read and the write.
            post = (await self._sessions.find([summary.session_id])).get(summary.session_id)
            if post is None:
                return SummaryResult.EARLY
            await self._sessions.early.remove([summary.session_id])
        if post is None or await self._is_mismatched(post, summary):
            return SummaryResult.UNKNOWN
        return await self._summarise(post, summary)

    async def _is_mismatched(self, post: tuple[str, int], summary: SessionSummary) -> bool:
        """Return whether a summary shows that its session does not belong to the POST to which it was matched.

        A match by numbers is wrong if another program called the same person at the same time. The summary of that call
        must not settle ours: if it is BUSY, a phone that is ringing would be redialled.
        """
        job_id, number = post
        session_id = summary.session_id
        job = (await get_jobs(self._store, [job_id])).get(job_id)
        ours = None if job is None else job.post(number)
        if session_id is None or ours is None:
            return False
        if ours.session_id not in {None, session_id}:
            return True
        if not summary.client_request_id and job is not None and _is_to_others(summary, job.parties_of(ours)):
            # The answer that named this session was left over from another POST on the same connection.
            _log.error(
                "a summary shows that the session of a call is that of a call to another number; it settles nothing",
                job=job.id,
                session=session_id,
            )
            await self._sessions.mark_unmatched(session_id)
            return True
        is_named = ours.verdict is VerdictKind.CREATED and ours.session_id is not None  # by 8x8, and not by numbers
        names_it = summary.client_request_id in {None, "", ours.client_request_id}
        is_of_batch = job is None or summary.client_batch_id in {None, "", job.batch_id}
        if is_named or (names_it and is_of_batch):
            return False
        apply = partial(
            mismatched, number=number, session_id=session_id, at=self._store.clock.now(), policy=self._policy
        )
        with contextlib.suppress(JobNotFoundError):
            await self._changes.change(job_id, apply, base=job)
        await self._sessions.mark_unmatched(session_id)
        return True

    async def apply_early(self, job: Job) -> Job:
        """Apply the early summaries for the sessions of this job."""
        open_sessions = {post.session_id: post.number for post in job.posts if post.session_id and post.outcome is None}
        early = await self._sessions.early.get(open_sessions)
        for session_id, outcome in early.items():
            if outcome is None:
                continue
            job = await self._apply_early_summary((job.id, open_sessions[session_id]), session_id, outcome) or job
        return job

    async def apply_early_records(self, records: Iterable[Record]) -> None:
        """Apply the early summaries in these records whose session has become known.

        The sweep does this. Doing it after each answer would cost a read for every call, and is rarely needed.
        """
        early = self._sessions.early.read({record.group: record.value for record in records})
        posts = await self._sessions.find(early)
        for session_id, outcome in early.items():
            if session_id in posts and outcome is not None:
                with skip_unreadable(f"the summary of session {session_id}"):
                    await self._apply_early_summary(posts[session_id], session_id, outcome)

    async def _apply_early_summary(self, post: tuple[str, int], session_id: str, outcome: Outcome) -> Job | None:
        job_id, number = post
        apply = partial(summarised, number=number, outcome=outcome, at=self._store.clock.now(), policy=self._policy)
        try:
            changed = await self._changes.change(job_id, apply)
        except (JobNotFoundError, IllegalMoveError):
            if await self._is_opt_out_alone(job_id, number, outcome):
                await self._sessions.early.remove([session_id])
            return None
        except StoreVersionError as error:
            report_unreadable(f"call {job_id}", error)
            return None
        if changed.new is not changed.old:
            logs.summarised(changed.new, number, outcome)
        settled = await self._after_summary(changed, number, outcome)
        await self._sessions.early.remove([session_id])
        return settled

    async def _summarise(self, post: tuple[str, int], summary: SessionSummary) -> SummaryResult:
        job_id, number = post
        now = self._store.clock.now()
        apply: Callable[[Job], Job]
        outcome = outcome_of(summary)
        if outcome.status in NOT_CONNECTED:
            outcome = outcome.with_sip_codes(await self._progress.failures(outcome.session_id))
        is_clear = summary.status is not None or await self._is_clear(job_id, number, outcome)
        if not is_clear:
            verdict = Verdict(
                kind=VerdictKind.CREATED,
                message=f"a summary with the unknown status {summary.status_text!r} came for this POST",
                session_id=summary.session_id,
            )
            apply = partial(answered, number=number, verdict=verdict, at=now, policy=self._policy)
        else:
            apply = partial(summarised, number=number, outcome=outcome, at=now, policy=self._policy)
        try:
            changed = await self._changes.change(job_id, apply)
        except (JobNotFoundError, IllegalMoveError):
            # The job was pruned, its store was rolled back, or it was ended without its record.
            is_listed = await self._is_opt_out_alone(job_id, number, outcome)
            return SummaryResult.SETTLED if is_listed else SummaryResult.UNKNOWN
        await self._after_summary(changed, number, outcome)
        if not is_clear:
            return SummaryResult.INCONCLUSIVE
        if changed.new is changed.old:
            return SummaryResult.REPEATED
        logs.summarised(changed.new, number, outcome)
        return SummaryResult.SETTLED

    async def _after_summary(self, changed: Changed, number: int, outcome: Outcome) -> Job:
        """Do what follows from a stored summary: an opt-out, a refusal that counts, a phone that rang after all."""
        post = changed.new.post(number)
        called = None if post is None else changed.new.number_of(post)
        if called is not None and outcome.status_of(called) in OPT_OUTS:
            # Of a repeated summary too: the first time may have been interrupted, or the number is off the list again.
            await self._suppression.end_waiting(await self._suppression.entries_of([called]))
        if changed.new is not changed.old:
            await self._note_summary(changed.new, outcome)
        # Read after the write: an event that is stored meanwhile is found here, or when the call would be sent.
        job = changed.new
        if changed.new is not changed.old and outcome.status in NOT_CONNECTED:
            legs = await self._progress.failures(outcome.session_id)
            job = (await self._changes.change(job.id, partial(failed_with, number=number, legs=legs), base=job)).new
        return await self.look_for_ringing(job)

    async def _note_summary(self, job: Job, outcome: Outcome) -> None:
        """Count a summary that refuses its call, or shows that the cause of refusals is gone."""
        if outcome.code in SUMMARY_CODES:
            await self._breakers.note([Answer(job, outcome.code, outcome.message or "", is_summary=True)])
        elif outcome.status is not None and outcome.status not in _FAILED:
            was_answered = outcome.status in REACHED | OPT_OUTS
            await self._breakers.note([Answer(job, is_summary=True, was_answered=was_answered)])

    async def look_for_ringing(self, job: Job) -> Job:
        """Return the job after a look at what its sessions without a free line (-2010) did by their other events.

        If one of them says that a phone rang, the job is not sent again for it. Other jobs cost no read.
        """
        for post in job.posts:
            session = session_of(post)
            if post.outcome is None or not post.outcome.met_a_full_trunk or session is None:
                continue
            if post.presses or post.bridged or await self._progress.shows_ringing(session):
                rang, now = replace(post.outcome, rang=True), self._store.clock.now()
                apply = partial(summarised, number=post.number, outcome=rang, at=now, policy=self._policy)
                job = (await self._changes.change(job.id, apply)).new
        return job

    async def _is_clear(self, job_id: str, number: int, outcome: Outcome) -> bool:
        """Return whether the person's own leg shows how the call ended, in a summary with an unknown session status."""
        job = (await get_jobs(self._store, [job_id])).get(job_id)
        post = None if job is None else job.post(number)
        return job is not None and post is not None and outcome.status_of(job.number_of(post)) is not None

    async def _is_opt_out_alone(self, job_id: str, number: int, outcome: Outcome) -> bool:
        """Return whether a summary of a POST that its job has lost brings an opt-out, and store that.

        Waiting calls to the number end too.
        """
        job = (await get_jobs(self._store, [job_id])).get(job_id)
        if job is None or job.post(number) is not None:
            return False
        # The record said which of the person's numbers was called; the only leg to another number says it too.
        others = [leg.destination or "" for leg in outcome.legs if outcome.leg_to(job.destination) is None]
        called = next(filter(is_e164, others), job.destination)
        if outcome.status_of(called) not in OPT_OUTS:
            return False
        await self._suppression.add(called, reason=f"opted out: {outcome.status_text}")
        return True


_FAILED = frozenset({SessionStatus.FAILED, SessionStatus.ERROR})
_COMPARED_DIGITS = 7
"""The last digits by which two numbers are compared, however they are spelled."""


def _is_to_others(summary: SessionSummary, parties: Iterable[str]) -> bool:
    """Return whether a summary names the called numbers, and none of them is among the `parties` of a POST."""
    ours = {_last_digits(number) for number in parties}
    called = {_last_digits(leg.destination) for leg in summary.legs if leg.destination}
    known = {digits for digits in called if len(digits) == _COMPARED_DIGITS}
    return bool(called) and known == called and ours.isdisjoint(called)


def _last_digits(number: str) -> str:
    return "".join(filter(str.isdigit, number))[-_COMPARED_DIGITS:]


def outcome_of(summary: SessionSummary) -> Outcome:
    """Return the outcome in a session summary."""
    seconds = None
    if summary.started_at is not None and summary.ended_at is not None:
        seconds = (summary.ended_at - summary.started_at).total_seconds()
    return Outcome(
        status=summary.status,
        status_text=summary.status_text or (summary.status.value if summary.status else "unknown"),
        code=summary.error_code,
        message=summary.error_message,
        session_id=summary.session_id or None,
        started_at=summary.started_at,
        ended_at=summary.ended_at,
        seconds=seconds,
        last_action=summary.last_action,
        legs=summary.legs,
        is_partial=max(summary.call_count or 0, 2 * (summary.call_b is not None)) > len(summary.legs),
    )
