"""Doubts and overdue calls against the log of 8x8: the requests and the evidence.

A session of the log is matched to a POST only if that is unambiguous: exactly one session fits, no other POST is known
to have it, and no other POST in the store could have it. A call without a match stays in doubt, with the reason: a
missing row proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Protocol, TypeVar

from anyio import to_thread
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.ports import CallLog, Store
from voiceflow_worker.core.ports.reads import Due, OfNumber
from voiceflow_worker.core.settling.changes import Changes, Sessions
from voiceflow_worker.core.settling.put_back import PutBack
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.writes import SESSION_KEPT
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_log import (
    LoggedSession,
    LoggedSessions,
    Match,
    Window,
    matched,
    may_own,
    window_of,
)
from voiceflow_worker.model.jobs.evidence import found_placed
from voiceflow_worker.model.jobs.job import Job, JobState, Post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import SEEN
from voiceflow_worker.model.numbers.phone import aliases

SPAN = timedelta(hours=2)
"""The approximate longest range of one export. With 50 calls a second, such an export has 360,000 rows."""
MARGIN = timedelta(minutes=1)
"""Each range begins this much before the first possible time of its calls. 8x8 does not document whether it rounds the
range to minutes."""
PAGE = 500


class _HasWindow(Protocol):
    @property
    def window(self) -> Window: ...


Lookup = TypeVar("Lookup", bound=_HasWindow)


@dataclass(frozen=True, slots=True)
class LogRequest:
    """The next request for a part of the log: request `number` of `count`, made for this many `calls`."""

    number: int
    count: int
    calls: int
    asked: Window


def split_by_time(lookups: Sequence[Lookup]) -> list[list[Lookup]]:
    """Return the calls to look up in groups, the oldest first. Each group needs about `SPAN` of the log."""
    groups: list[list[Lookup]] = []
    for lookup in sorted(lookups, key=lambda each: each.window.since):
        if not groups or lookup.window.until - groups[-1][0].window.since > SPAN:
            groups.append([])
        groups[-1].append(lookup)
    return groups


def range_of(group: Sequence[_HasWindow], *, longest_call: timedelta, latest: datetime) -> Window:
    """Return the range of the log that has the rows of a group, up to `latest`.

    The range covers the longest possible call, because 8x8 does not document which of a row's times counts.
    """
    until = max(lookup.window.until for lookup in group) + longest_call
    return Window(min(lookup.window.since for lookup in group) - MARGIN, min(until, latest))


EVERY = timedelta(minutes=3)
"""The interval at which the workers of a queue together request its log."""
TIMEOUT = timedelta(minutes=10)
"""The time that a call with an overdue summary waits for the log. About three requests may fail in this time."""
MOST = 5000
"""The most calls in doubt, and the most calls without a summary, that a worker reads in one round."""

LEASES = "export-lease"


def log_lease(store: Store, queue: str) -> LeaderLease:
    """Return the lease of the log of a queue. While it is taken, a process has just requested the log."""
    return LeaderLease(store, queue, namespace=LEASES, length=EVERY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Counts of the calls that were checked: each is `placed` or `not_placed`, or stays `open`.

    In a store that was put back, `queued_in_log` are queued calls that are in doubt now, because the log shows them,
    and `queued_not_in_log` those that stay queued.
    """

    looked_at: int = 0
    placed: int = 0
    not_placed: int = 0
    open: int = 0
    queued_in_log: int = 0
    queued_not_in_log: int = 0

    def __add__(self, other: Reconciled) -> Reconciled:
        """Return the counts of the two results, added up."""
        return Reconciled(**{name: count + getattr(other, name) for name, count in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class _Lookup:
    job: Job
    post: Post
    window: Window


class Reconciler:
    """Looks for the calls of one queue in the log of 8x8. Several may run at once: each change is fenced."""

    def __init__(
        self, store: Store, call_log: CallLog, *, queue: str, policy: CallPolicy, changes: Changes | None = None
    ) -> None:
        self._store = store
        self._call_log = call_log
        self._queue = queue
        self._policy = policy
        self._changes = changes or Changes(store, policy)
        self._settler = Settler(store, policy, changes=self._changes)
        self._sessions = Sessions(store)
        self._queues = QueueNames(store)
        self._lease = log_lease(store, queue)
        self._rounds = 0

    async def due(self) -> Reconciled:
        """Look for the due calls in one export of the log, and for those whose summary may have been lost.

        Does nothing if a worker of the queue has done this within `EVERY`.

        Raises `StoreError`, and `CallLogError`; a `CallLogError` means that nothing was changed.
        """
        now = self._store.clock.now()
        if not await self._lease.is_free():
            return Reconciled()
        groups = split_by_time(self._lookups(await self._overdue(now)))
        # The lease is never released, even if the request fails, so that a failing log is not requested in a loop.
        if not groups or not await self._lease.take():
            return Reconciled()
        # One group is read at a time, in rotation: one whose log cannot be read must not keep the others waiting.
        self._rounds += 1
        group = groups[self._rounds % len(groups)]
        return await self._request_log(group, self._range(group))

    async def everything(
        self, *, submitted: bool = False, on_request: Callable[[LogRequest], None] = lambda _: None
    ) -> Reconciled:
        """Check every call in doubt, due or not, and every call whose summary is overdue.

        With `submitted`, also calls whose summary is not due yet: those that the log does not settle go on waiting
        for it, and count as open. `on_request` is called before each log is requested. Raises `CallLogError`, keeping
        the results of earlier logs, and `StoreError`.
        """
        now = self._store.clock.now()
        put_back = PutBack(self._store, self._call_log, queue=self._queue, policy=self._policy, changes=self._changes)

        def asks(number: int, count: int, asked: Window) -> None:
            on_request(LogRequest(number, count, 0, asked))

        found, left = await put_back.look(asks)
        total = Reconciled(queued_in_log=found, queued_not_in_log=left)
        doubts = await find_jobs(self._store, Due(queue=self._queue, state=JobState.IN_DOUBT))
        seen = sum(job.open_post is not None and job.open_post.message == SEEN for job in doubts)
        total += Reconciled(looked_at=seen, open=seen)
        by = None if submitted else now
        overdue = await find_jobs(self._store, Due(queue=self._queue, state=JobState.SUBMITTED, by=by))
        groups = split_by_time(self._lookups([*doubts, *await self._without_early_summary(overdue)]))
        for number, group in enumerate(groups, 1):
            asked = self._range(group)
            on_request(LogRequest(number, len(groups), len(group), asked))
            total += await self._request_log(group, asked)
        return total

    async def _overdue(self, now: datetime) -> list[Job]:
        doubts = await find_jobs(self._store, Due(queue=self._queue, state=JobState.IN_DOUBT, by=now, limit=MOST))
        by = now + max(self._policy.summary_deadline - self._first_check, timedelta())
        silent = await find_jobs(self._store, Due(queue=self._queue, state=JobState.SUBMITTED, by=by, limit=MOST))
        silent = [job for job in silent if job.due_at <= now or self._is_time_for(job, now)]
        return [*doubts, *await self._without_early_summary(silent)]

    @property
    def _first_check(self) -> timedelta:
        """Time after its answer at which the log can have a call that nobody answered."""
        policy = self._policy
        return max(policy.ringing + policy.clock_skew + policy.export_settle, timedelta(minutes=1))

    def _is_time_for(self, job: Job, now: datetime) -> bool:
        """Return whether to look for a call whose summary is not due yet: it may be lost, or the call may still go on.

        That is at its first check, and whenever it is twice as old as then: a call is looked for some six times.
        """
        age = now - (job.due_at - self._policy.summary_deadline)
        age_of_check = self._first_check
        while 2 * age_of_check <= age:
            age_of_check *= 2
        return age_of_check <= age < age_of_check + 2 * EVERY

    async def _without_early_summary(self, jobs: Sequence[Job]) -> list[Job]:
        """Apply early summaries that no worker has applied yet; return the jobs that are still submitted."""
        checked = await gather(*(partial(self._settler.apply_early, job) for job in jobs))
        return [job for job in checked if job.state is JobState.SUBMITTED]

    def _lookups(self, jobs: Sequence[Job]) -> list[_Lookup]:
        posts = [(job, job.open_post) for job in jobs]
        skew = self._policy.clock_skew
        return [
            _Lookup(job, post, window_of(post, skew=skew))
            for job, post in posts
            if post is not None and post.message != SEEN  # which a person decides
        ]

    def _range(self, group: Sequence[_Lookup]) -> Window:
        longest = self._policy.longest_call + self._policy.export_settle
        return range_of(group, longest_call=longest, latest=self._store.clock.now())

    async def _request_log(self, group: Sequence[_Lookup], asked: Window) -> Reconciled:
        log = await self._call_log.logged_calls(since=asked.since, until=asked.until)
        # In a thread: sorting a long log must not hold up the calls that are being sent.
        logged = await to_thread.run_sync(LoggedSessions, log.rows)
        total = Reconciled()
        for start in range(0, len(group), PAGE):
            page = group[start : start + PAGE]
            # Other POSTs are read after the log: a POST that began later has no row in it.
            total += await self._conclude_all([(lookup, await self._match(lookup, logged)) for lookup in page])
        return total

    async def _match(self, lookup: _Lookup, logged: LoggedSessions) -> Match:
        await checkpoint()
        if lookup.post.session_id is not None:
            session = logged.get(lookup.post.session_id)
            if session is not None and not session.may_be_of(lookup.job, lookup.post):
                # The answer that named this session was left over from another POST on the same connection.
                return Match(reason="its session is that of a call to another number in the log of 8x8")
            return Match(session=session, reason="" if session else "its session is not in the log of 8x8")
        candidates = logged.candidates(lookup.job.source, lookup.job.number_of(lookup.post), lookup.window)
        if not candidates:
            return matched((), taken=(), competing=())
        now = self._store.clock.now()
        if lookup.window.since <= now - max(SESSION_KEPT, self._policy.retention):
            return Match(
                reason="the call is so old that a row of 8x8's log which fits it may belong to another call, which "
                "this store has deleted"
            )
        # The other POSTs are read first: a POST that gets its session after this read counts as a rival.
        others = await self._others(lookup)
        owners = await self._sessions.find([each.session_id for each, _ in candidates if each.session_id])
        for session_id, owner in owners.items():
            if owner == (lookup.job.id, lookup.post.number):
                return Match(session=logged.get(session_id))
        named = {post.session_id for post in others if post.session_id is not None}
        skew = self._policy.clock_skew
        competing = [post.client_request_id for post in others if may_own(post, lookup.window, skew=skew)]
        return matched(candidates, taken={*owners, *named}, competing=competing)

    async def _others(self, lookup: _Lookup) -> list[Post]:
        """Return all other POSTs in the store with the same source and destination."""
        names, source = {self._queue, *await self._queues.known()}, lookup.job.source
        posts: list[Post] = []
        for name, number in product(sorted(names), aliases(lookup.job.number_of(lookup.post))):
            for job in await find_jobs(self._store, OfNumber(queue=name, number=number)):
                posts += [
                    post
                    for post in job.posts
                    if (job.source, job.number_of(post)) == (source, number)
                    and (job.id, post.number) != (lookup.job.id, lookup.post.number)
                ]
        return posts

    async def _conclude_all(self, found: Sequence[tuple[_Lookup, Match]]) -> Reconciled:
        results: list[Reconciled] = []

        async def conclude(lookup: _Lookup, match: Match) -> None:
            with contextlib.suppress(JobError):  # it has been deleted
                results.append(_counted(await self._conclude(lookup, match), lookup))

        await gather(*(partial(conclude, *each) for each in found))
        return sum(results, Reconciled())

    async def _conclude(self, lookup: _Lookup, match: Match) -> Job:
        job, now, policy = lookup.job, self._store.clock.now(), self._policy
        if match.session is not None and match.session.session_id is not None:
            placed = await self._settle_placed(lookup, match.session, match.session.session_id)
            if job.state is not JobState.SUBMITTED or placed.state is not JobState.SUBMITTED:
                return placed
            job = placed
        if job.state is JobState.SUBMITTED and now < job.due_at:
            return job
        if job.state is JobState.SUBMITTED:
            return await self._move(job, partial(lifecycle.give_up_waiting, at=now, policy=policy))
        return await self._move(job, partial(lifecycle.check_again, at=now, policy=policy, reason=match.reason))

    async def _settle_placed(self, lookup: _Lookup, session: LoggedSession, session_id: str) -> Job:
        now = self._store.clock.now()
        # An early summary has more than the rows of its session, such as the error code.
        is_early = bool(await self._sessions.early.get([session_id]))
        apply = partial(
            found_placed,
            number=lookup.post.number,
            session_id=session_id,
            outcome=None if is_early else session.outcome,
            at=now,
            policy=self._policy,
        )
        changed = await self._changes.change(lookup.job.id, apply, base=lookup.job)
        return await self._settler.apply_early(changed.new) if is_early else changed.new

    async def _move(self, found: Job, step: Callable[[Job], Job]) -> Job:
        """Apply `step` to a job. If another writer has changed the job since it was found, the job stays as it is."""
        changed = await self._changes.change(
            found.id, lambda job: step(job) if job.revision == found.revision else job, base=found
        )
        return changed.new


def _counted(job: Job, lookup: _Lookup) -> Reconciled:
    post = job.post(lookup.post.number)
    if job.state is JobState.IN_DOUBT or job.state is lookup.job.state:
        return Reconciled(looked_at=1, open=1)
    if post is not None and post.was_placed:
        return Reconciled(looked_at=1, placed=1)
    return Reconciled(looked_at=1, not_placed=1)
