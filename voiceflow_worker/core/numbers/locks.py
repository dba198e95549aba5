"""Locks on phone numbers: one open call per number, across queues."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.numbers.person_cap import PersonCaps
from voiceflow_worker.core.numbers.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.ports import Move, Records
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.one_trip import Claims, LockingMove
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import usual_form
from voiceflow_worker.model.numbers.spellings import all_spellings, spellings

NAMESPACE = "number"
BESIDE = "number-beside"
"""Further locks, for bridges of menus, on numbers that are locked already. A key is the number and 2, 3 or 4."""
BESIDE_PLACES = range(2, 5)
BRIDGED = "bridged"
"""Records of the numbers that menus bridge to the call of a POST, separated by spaces. A key is the `clientRequestId`.
If a call has further records, their keys end with a number from 2 to 8."""
_NOTES = range(2, 9)
_MAY_RING = frozenset({JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Locked:
    """The jobs that have locked all their numbers, and the other jobs, each with its first busy number.

    `read` has the records of other namespaces that were read after all numbers were locked. `partly` has the ids of the
    busy jobs that may have locked some of their numbers.
    """

    jobs: Sequence[Job]
    busy: Sequence[tuple[Job, str]]
    read: Mapping[str, Mapping[str, str]]
    partly: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """The numbers that one POST needs, all or none."""

    job: Job
    owner: str
    numbers: Sequence[str]


class NumberLocks:
    """Locks the numbers of a POST, from before its journal entry until it is settled.

    A job locks all of its numbers or none: its destination, the numbers that are bridged to it, and every other
    spelling of these numbers. So two calls that bridge the same two numbers do not deadlock. A later POST of the same
    job takes over the job's locks. A release frees only the locks of one POST, or, if that POST is not journalled yet,
    only the locks that one lease took. So a late release does no harm. A lock ends by itself when its POST can no
    longer make the number ring: after the submit window and the ringing time, and for a second party, also after the
    longest call and a second ringing time. The locks keep two campaigns from ringing one person at once. They also
    ensure that a row of the log export fits only one call.

    The policy's `shared_numbers` are not locked as second parties: such a line takes many calls at once.
    """

    def __init__(self, records: Records, policy: CallPolicy) -> None:
        self._records = records
        self._claims = Claims(records)
        self._policy = policy
        self._caps = PersonCaps(records, policy)
        self._shared = all_spellings(usual_form(f"+{each.lstrip('+')}") for each in policy.shared_numbers).keys()

    async def lock(
        self, jobs: Sequence[Job], *, now: datetime, then_read: Mapping[str, Sequence[str]] | None = None
    ) -> Locked:
        """Lock the numbers of these jobs for their next POSTs. If two jobs need one number, the first gets it.

        Then read the records with the keys in `then_read`, by namespace.
        """
        wishes: list[_Wish] = []
        busy: dict[str, str] = {}
        wanted: dict[str, str] = {}
        for job in jobs:
            wish = _Wish(job, _next(job), self._numbers(job))
            taken = next((number for number in wish.numbers if number in wanted), None)
            if taken is None:
                wishes.append(wish)
                wanted.update(dict.fromkeys(wish.numbers, wish.owner))
            else:
                busy[job.id] = taken
        # Not durably: the journal entry of the POST makes its locks durable. A worker that stood still must not shorten
        # the locks of a later lease of the same job, so the later end stays.
        reads = then_read or {}
        reads_late = any(self.of_second_parties(job.parties[1:]) for job in jobs)
        claimed = await self._claims.claim(
            NAMESPACE, wanted, expires_at=self._first_end(now), now=now, then_read={} if reads_late else reads
        )
        standing = await self._taken_over(wishes, claimed.standing, now=now)
        for wish in wishes:
            lost = [number for number in wish.numbers if standing[number] != wish.owner]
            if lost:
                others = [number for number in lost if not _same_job(standing[number], wish.owner)]
                busy[wish.job.id] = (others or lost)[0]
        # The locks of busy jobs too: a killed worker may have left locks with a later end, and a release deletes only
        # locks with the end that it names.
        holders = [each.job for each in wishes if any(standing[number] == each.owner for number in each.numbers)]
        for job, number in await self._prolong(holders, now=now) if reads_late else ():
            busy.setdefault(job.id, number)
        locked = [job for job in jobs if job.id not in busy]
        # If locks were taken after the claim (taken over from an older POST, or prolonged), the records are read now.
        is_early = reads_late or standing is not claimed.standing
        read = await self._claims.read(reads, now=now) if locked and is_early else claimed.read
        partly = {job.id for job in holders if job.id in busy}
        return Locked(locked, [(job, busy[job.id]) for job in jobs if job.id in busy], read, partly)

    def are_needed(self, job: Job, *, at: datetime) -> bool:
        """Whether a phone may still ring for a POST of the job.

        If the summary of an earlier POST never came, its numbers are needed until that POST can no longer ring them.
        """
        if job.state in _MAY_RING:
            return True
        until = max((post.valid_until for post in job.posts if post.is_open), default=None)
        return until is not None and at < self._rings_until(until, bridges=len(job.parties) > 1)

    def locking(self, made: Move) -> LockingMove:
        """The move that begins the next POST of a job without a second party, with the locks on its number.

        An entry of the suppression list, or the lock of a menu's bridge, forbids it.
        """
        numbers = self._numbers(made.old)
        return LockingMove(made, _next(made.old), numbers, {SUPPRESSED: numbers, BESIDE: beside(numbers)})

    def locked(self, made: Move) -> LockingMove:
        """The move that begins the next POST of a job that has locked its numbers.

        An entry of the suppression list forbids it.
        """
        return LockingMove(made, _next(made.old), (), {SUPPRESSED: list(all_spellings(made.old.parties))})

    def end_of(self, locked_at: datetime) -> datetime:
        """The end of the locks that jobs without second parties took at `locked_at`."""
        return self._first_end(locked_at)

    def beside(self, jobs: Iterable[Job]) -> list[str]:
        """The keys of further locks on the numbers of these jobs, in the namespace `BESIDE`."""
        return [key for job in jobs for key in beside(self._numbers(job))]

    def bridged(self, jobs: Sequence[Job], held: Mapping[str, str]) -> Sequence[tuple[Job, str]]:
        """The locked jobs that share a number with a menu's bridge, each with that number.

        `held` has the records under the keys that `beside` returns for these jobs. A job locks its numbers, and then
        reads the locks of bridges. A bridge takes its lock, and then reads the locks of jobs. So at least one of the
        two sees the lock of the other.
        """
        if not held:
            return []
        numbers = {key.partition(" ")[0] for key in held}
        return [(job, found) for job in jobs if (found := next((n for n in self._numbers(job) if n in numbers), None))]

    async def release_unsent(self, jobs: Sequence[tuple[Job, datetime]], *, now: datetime) -> None:
        """Release the numbers of leased jobs whose next POST was not begun. Each job comes with the time of its locks.

        Locks that a later lease of the job took are not released: they have a later end. The places that these POSTs
        reserved in the limit per person are freed too.
        """
        await self._caps.free_unsent(jobs, now=now)
        await self._release_leased(jobs)

    async def _release_leased(self, jobs: Sequence[tuple[Job, datetime]]) -> None:
        held: dict[datetime, list[tuple[str, str]]] = {}
        for job, locked_at in jobs:
            seconds = self.of_second_parties(job.parties[1:])
            for number in self._numbers(job):
                end = self._second_end(locked_at) if number in seconds else self._first_end(locked_at)
                held.setdefault(end, []).append((number, _next(job)))
        for end, locks in held.items():
            await self._release(locks, ends_at=end)

    async def release_settled(self, jobs: Collection[Job]) -> None:
        """Release the numbers of jobs whose newest POST is settled."""
        await self._release(
            [(number, job.request_id(job.post_count)) for job in jobs for number in all_spellings(job.parties)]
        )

    async def release_bridged(self, posts: Collection[str], *, now: datetime) -> None:
        """Release the numbers that menus bridged to the calls of these POSTs, whose sessions are over.

        This is needed because a call may end before the bridge makes the number ring. The summary of the call then does
        not name the number.
        """
        if not posts:
            return
        found = await self._records.get(BRIDGED, [key for post in posts for key in notes_of(post)], now=now)
        if found:
            held = [(number, key.partition(" ")[0]) for key, numbers in found.items() for number in numbers.split()]
            await self._release(held)
            await self._release([(key, owner) for number, owner in held for key in beside([number])], namespace=BESIDE)
            await self._records.delete(BRIDGED, dict(found))

    def _numbers(self, job: Job) -> list[str]:
        """All numbers that a job needs, in a fixed order."""
        destination, *others = job.parties
        if not others:
            return sorted(spellings(destination))
        return sorted({*spellings(destination), *self.of_second_parties(others)})

    def of_second_parties(self, numbers: Iterable[str]) -> list[str]:
        """The numbers to lock for these second parties: all their spellings, without shared numbers."""
        return [number for number in all_spellings(numbers) if number not in self._shared]

    async def _taken_over(
        self, wishes: Sequence[_Wish], standing: Mapping[str, str], *, now: datetime
    ) -> Mapping[str, str]:
        """Give each job the locks of its older POSTs, if that locks all its numbers. Returns each number's owner."""
        outlived: dict[str, str] = {}
        wanted: dict[str, str] = {}
        for wish in wishes:
            older = {number: standing[number] for number in wish.numbers if _same_job(standing[number], wish.owner)}
            if older and all(number in older or standing[number] == wish.owner for number in wish.numbers):
                outlived.update(older)
                wanted.update(dict.fromkeys(older, wish.owner))
        if not outlived:
            return standing
        await self._records.delete(NAMESPACE, outlived)
        return {**standing, **await self._put(wanted, now=now, ends_at=self._first_end(now))}

    async def _prolong(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[tuple[Job, str]]:
        """Extend the locks of second parties, who ring only after the first party has answered and heard the text.

        Returns the jobs that have lost a lock meanwhile, each with the number of that lock. A lock is lost if a worker
        that had leased the job earlier has released it.
        """
        seconds = {number: _next(job) for job in jobs for number in self.of_second_parties(job.parties[1:])}
        standing = await self._put(seconds, now=now, ends_at=self._second_end(now))
        lost = {owner: number for number, owner in seconds.items() if standing[number] != owner}
        return [(job, lost[_next(job)]) for job in jobs if _next(job) in lost]

    async def _put(self, wanted: Mapping[str, str], *, now: datetime, ends_at: datetime) -> dict[str, str]:
        if not wanted:
            return {}
        standing = await self._records.put_if_absent(
            NAMESPACE, wanted, expires_at=ends_at, now=now, durably=False, keep_later_end=True
        )
        return dict(standing)

    def _first_end(self, locked_at: datetime) -> datetime:
        return self._rings_until(locked_at + self._policy.submit_window)

    def _second_end(self, locked_at: datetime) -> datetime:
        return self._rings_until(locked_at + self._policy.submit_window, bridges=True)

    def _rings_until(self, valid_until: datetime, *, bridges: bool = False) -> datetime:
        """The last time at which a POST with this `validUntil` can ring a phone (with `bridges`, a second party's)."""
        bridge = self._policy.longest_call + self._policy.ringing if bridges else timedelta()
        return valid_until + self._policy.ringing + bridge

    async def _release(
        self, held: Sequence[tuple[str, str]], *, ends_at: datetime | None = None, namespace: str = NAMESPACE
    ) -> None:
        """Delete each lock, given as number and owner, if it still has this owner, and, if given, this end.

        A number with several owners takes several trips to the store.
        """
        while held:
            trip: dict[str, str | None] = {}
            left: list[tuple[str, str]] = []
            for number, owner in held:
                if number in trip:
                    left.append((number, owner))
                else:
                    trip[number] = owner
            await self._records.delete(namespace, trip, ends_at=ends_at)
            held = left


def beside(numbers: Iterable[str]) -> list[str]:
    """The keys under which further locks of these numbers are kept."""
    return [f"{number} {place}" for number in numbers for place in BESIDE_PLACES]


def notes_of(post: str) -> list[str]:
    """The keys of the records that list the numbers bridged to the call of `post` (a `clientRequestId`)."""
    return [post, *(f"{post} {place}" for place in _NOTES)]


def _next(job: Job) -> str:
    return job.request_id(job.post_count + 1)


def _same_job(owner: str, wanted: str) -> bool:
    """Whether the owner is an older POST of the job that wants the lock."""
    if owner == wanted:
        return False
    one, other = job_of(owner), job_of(wanted)
    return one is not None and other is not None and one[0] == other[0] and one[1] < other[1]
