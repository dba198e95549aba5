"""The limit of attempts to call one person within a span of time, over all batches of a queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core.ports import Jobs, Move, Records
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.model.jobs.job import Job, Post
from voiceflow_worker.model.jobs.person_limit import MOST_ATTEMPTS
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import spellings

NAMESPACE = "person"
LOOK_AGAIN = timedelta(seconds=2)
"""The time until a call over the limit is tried again, if a place should have become free already."""


class PersonCaps:
    """Reserves a place for each attempt to call a person, before the journal entry of its POST.

    A person has as many places as the policy's `max_per_person` allows in its span of time. A taken place is a record.
    It expires one span after the answer of 8x8, or, without an answer, one span after the last moment at which the
    phone can ring. A place is taken in one step of the store, so two workers never take the same place. A call in doubt
    keeps its place. A place is freed if its POST provably reached nobody, or was never begun. A place that a killed
    worker left behind is replaced at the next lease of the job, freed when a call finds no place and the job in `jobs`
    shows that the POST reached nobody, or expires.

    A person is a destination in any spelling. Second parties of a bridge have no places.
    """

    def __init__(self, records: Records, policy: CallPolicy, *, jobs: Jobs | None = None) -> None:
        self._records = records
        self._jobs = jobs
        self._policy = policy

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit per person."""
        return self._policy.max_per_person is not None

    async def reserve(self, jobs: Sequence[Job], *, now: datetime) -> list[tuple[Job, datetime]]:
        """Reserve a place for the next POST of each job; returns the jobs without a place, and when to try again.

        The numbers of the jobs were locked at `now`. Raises StoreError.
        """
        limit = self._policy.max_per_person
        over: list[tuple[Job, datetime]] = []
        left = jobs if limit is not None else ()
        while left and limit is not None:
            held = await self._held(left, now=now)
            await self._delete(
                {key: value for job in left for key, value in held[job.id].items() if _is_free(job, value, now)}
            )
            wishes: list[tuple[Job, str, str]] = []
            full: list[tuple[Job, datetime]] = []
            taking: dict[str, str] = {}
            for job in left:
                standing = {key: value for key, value in held[job.id].items() if not _is_free(job, value, now)}
                wanted_value = _next_value(job, now)
                own = next((each for each in standing.items() if each[1] == wanted_value), None)
                if own is None and len(standing) >= limit.attempts:
                    begun = sorted(map(_begun, standing.values()))
                    until = begun[len(standing) - limit.attempts] + limit.span
                    full.append((job, until if until > now else now + LOOK_AGAIN))
                    taking.update(standing)
                    continue
                key = next(key for key in _places(job) if key not in standing)
                wishes.append((job, *(own or (key, wanted_value))))
            wanted = {key: value for _, key, value in wishes}
            ends = now + self._policy.submit_window + limit.span
            taken = await self._records.put_if_absent(NAMESPACE, wanted, expires_at=ends, now=now)
            left = [job for job, key, value in wishes if taken[key] != value]  # another worker was first
            if full and await self._freed_left_behind(taking, now=now):
                left += [job for job, _ in full]
            else:
                over += full
        return over

    async def _freed_left_behind(self, places: Mapping[str, str], *, now: datetime) -> bool:
        """Free those of these places whose POST reached nobody; returns whether there was one.

        The process that stored this was killed before it freed the place.
        """
        if self._jobs is None:
            return False
        owners = {key: owner for key, value in places.items() if (owner := job_of(_owner(value))) is not None}
        ids = list({job_id for job_id, _ in owners.values()})
        jobs = (await read_each(self._jobs, ids)).jobs
        posts = {key: jobs[job_id].post(number) for key, (job_id, number) in owners.items() if job_id in jobs}
        gone = {key: places[key] for key, post in posts.items() if post is not None and not post.may_have_rung}
        if not gone:
            return False
        await self._delete(gone)
        # Evidence that was stored since the read may show that one of them rang after all.
        await self.restore(list((await read_each(self._jobs, ids)).jobs.values()), now=now)
        return True

    async def free_unsent(self, jobs: Sequence[tuple[Job, datetime]], *, now: datetime) -> None:
        """Free the places of leased jobs whose next POST was not begun. Each job has the time of its reservation."""
        if self._policy.max_per_person is not None and jobs:
            held = await self._held([job for job, _ in jobs], now=now)
            unsent = {_next_value(job, reserved_at) for job, reserved_at in jobs}
            await self._delete({key: value for each in held.values() for key, value in each.items() if value in unsent})

    async def settle(self, moves: Iterable[Move], *, now: datetime) -> None:
        """Free the places of POSTs that reached nobody, and set the ends of the places of placed POSTs.

        A place ends one span after the answer to its POST, or after the POST's `validUntil` if that is earlier. If a
        POST had counted as not placed, and a phone rang for it after all, the POST takes a place again.
        """
        limit = self._policy.max_per_person
        posts = {} if limit is None else {post.client_request_id: post for made in moves for post in _settled(made)}
        if not posts or limit is None:
            return
        jobs = [made.new for made in moves if made.new.posts is not made.old.posts]
        over: dict[str, str] = {}
        ends: dict[datetime, dict[str, str]] = {}
        for places in (await self._held(jobs, now=now)).values():
            for key, value in places.items():
                post = posts.get(_owner(value))
                if post is not None and not post.may_have_rung:
                    over[key] = value
                elif post is not None and post.was_placed:
                    ends.setdefault(_rang_by(post) + limit.span, {})[key] = value
        await self._delete(over)
        await self._put(ends, now=now)
        await self.count_after_all(moves, now=now)

    async def count_after_all(self, moves: Iterable[Move], *, now: datetime) -> None:
        """Take places for POSTs that had counted as not placed, if a phone rang after all. Repeating this is safe."""
        if not self.is_limited:
            return
        rang_after_all = [made.new for made in moves if _rang_after_all(made)]
        if rang_after_all:
            await self.restore(rang_after_all, now=now)

    async def restore(self, jobs: Sequence[Job], *, now: datetime) -> None:
        """Take a place in the limit per person for each POST of these jobs that may have made a phone ring in its span.

        A POST that has a place keeps it. Raises StoreError.
        """
        limit = self._policy.max_per_person
        if limit is None:
            return
        for _ in range(MOST_ATTEMPTS):  # again, if another worker takes a place first
            held = await self._held(jobs, now=now)
            standing = {key: value for each in held.values() for key, value in each.items()}
            owners = set(map(_owner, standing.values()))
            ends: dict[datetime, dict[str, str]] = {}
            for job, post in [(each, post) for each in jobs for post in each.posts]:
                end = _rang_by(post) + limit.span
                free = next((key for key in _places(job) if key not in standing), None)
                if free is not None and post.may_have_rung and end > now and post.client_request_id not in owners:
                    standing[free] = _value_of(post.client_request_id, post.began_at)
                    ends.setdefault(end, {})[free] = standing[free]
            if not ends:
                return
            await self._put(ends, now=now)

    async def _put(self, ends: Mapping[datetime, Mapping[str, str]], *, now: datetime) -> None:
        """Store places, grouped by the times at which they end. A place that is already taken stays as it is."""
        put = self._records.put_if_absent
        await gather(*(partial(put, NAMESPACE, values, expires_at=end, now=now) for end, values in ends.items()))

    async def _held(self, jobs: Iterable[Job], *, now: datetime) -> dict[str, dict[str, str]]:
        keys = {job.id: _places(job) for job in jobs}
        found = await self._records.get(NAMESPACE, list({key for each in keys.values() for key in each}), now=now)
        return {job_id: {key: found[key] for key in each if key in found} for job_id, each in keys.items()}

    async def _delete(self, places: Mapping[str, str]) -> None:
        if places:
            await self._records.delete(NAMESPACE, places)


def _places(job: Job) -> list[str]:
    """The keys of all places of a job's person, also beyond the limit, which may once have been higher."""
    person = min(spellings(job.destination))
    return [f"{job.queue}/{person} {place}" for place in range(1, MOST_ATTEMPTS + 1)]


def _value_of(request_id: str, began_at: datetime) -> str:
    return f"{request_id} {began_at.isoformat()}"


def _next_value(job: Job, now: datetime) -> str:
    return _value_of(job.request_id(job.post_count + 1), now)


def _owner(value: str) -> str:
    return value.partition(" ")[0]


def _begun(value: str) -> datetime:
    return datetime.fromisoformat(value.partition(" ")[2])


def _rang_by(post: Post) -> datetime:
    """The latest time at which the phone can have rung for a POST."""
    return min(post.answered_at or post.valid_until, post.valid_until)


def _is_free(job: Job, value: str, now: datetime) -> bool:
    """Whether a place belongs to an earlier POST of this job that reached nobody, or to an earlier lease of the job."""
    owner = job_of(_owner(value))
    if owner is None or owner[0] != job.id or owner[1] > job.post_count:
        return owner == (job.id, job.post_count + 1) and _begun(value) < now
    post = job.post(owner[1])
    return post is None or not post.may_have_rung


def _settled(made: Move) -> list[Post]:
    """The POSTs that a move changes."""
    if made.new.posts is made.old.posts:
        return []
    return [post for post in made.new.posts if post != made.old.post(post.number)]


def _rang_after_all(made: Move) -> bool:
    """Whether a move shows that a phone may have rung for a POST that had counted as not placed."""
    return any(
        post.may_have_rung and (was := made.old.post(post.number)) is not None and not was.may_have_rung
        for post in _settled(made)
    )
