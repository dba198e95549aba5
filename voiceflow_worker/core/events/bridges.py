"""Bridges from a menu: the check whether the second party may be called now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from voiceflow_worker.core.events.callers import MenuCall
from voiceflow_worker.core.numbers.locks import BESIDE, BESIDE_PLACES, BRIDGED, NAMESPACE, NumberLocks, beside, notes_of
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import spellings


class Bridges:
    """Checks and locks the numbers to which a menu wants to bridge a call.

    A queued call can wait until a number is free, but a person on the line cannot wait. So a bridge is refused only if
    the number is on the suppression list, if it is the destination of another open call of a queue and not a shared
    number, or if the person's call has ended. Several bridges may share a number, such as that of a service desk. Up to
    four of them lock it at the same time, and further bridges go on without a lock. Queues do not call the number of a
    bridge until the person's call has its summary. If that call has no job, queues do not call the number for as long
    as a phone may ring.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._records = store.records
        self._policy = policy
        self._locks = NumberLocks(store.records, policy)
        self._suppression = SuppressionList(store)

    async def refusal(self, numbers: Sequence[str], *, line: MenuCall, session_id: str | None) -> str | None:
        """Lock these numbers until the call ends. Returns None if they may be called, else the reason as a clause.

        Raises StoreError.
        """
        listed = await self._suppression.standing(numbers)
        for number in numbers:
            if number in listed:
                return listed[number].in_words_of(number)
        wanted = self._locks.of_second_parties(numbers)
        if not wanted:
            return None
        owner, lasts = self._owner(line, session_id)
        now = self._store.clock.now()
        if line.job is not None:
            await self._note(owner, wanted, until=now + lasts, now=now)
        standing = await self._records.put_if_absent(
            NAMESPACE, dict.fromkeys(wanted, owner), expires_at=now + lasts, now=now, keep_later_end=True
        )
        others = _others(standing, owner)
        called = await self._called(others, line)
        if called is None and others:
            await self._beside(others, owner, until=now + lasts, now=now)
            # A call of a queue may have locked a number since: it takes its own lock, and then reads the further locks.
            held = await self._records.get(NAMESPACE, list(others), now=now)
            called = await self._called(_others(held, owner), line)
        # A refused bridge keeps its locks until the call ends: another bridge of the call may make these numbers ring.
        return await self._why_over(line, owner, wanted) or called

    async def _beside(self, numbers: Iterable[str], owner: str, *, until: datetime, now: datetime) -> None:
        """Store a further lock for each number that is locked already.

        A number has at most three further locks. If all three are taken, the bridge goes on without a lock on it.
        """
        left = list(numbers)
        for place in BESIDE_PLACES:
            keys = {number: f"{number} {place}" for number in left}
            standing = await self._records.put_if_absent(
                BESIDE, dict.fromkeys(keys.values(), owner), expires_at=until, now=now
            )
            left = [number for number, key in keys.items() if standing[key] != owner]
            if not left:
                return

    async def _note(self, owner: str, numbers: Sequence[str], *, until: datetime, now: datetime) -> None:
        """Note the numbers, before they are locked, so that the end of the session releases them.

        A call has a limited number of notes. The last note takes the numbers of all further bridges too.
        """
        text, noted, key = " ".join(sorted(numbers)), "", owner
        for key in notes_of(owner):
            noted = (await self._records.put_if_absent(BRIDGED, {key: text}, expires_at=until, now=now))[key]
            if noted == text:
                return
        both = " ".join(sorted({*noted.split(), *numbers}))
        await self._records.put(BRIDGED, {key: both}, expires_at=until, now=now)

    async def _why_over(self, line: MenuCall, owner: str, numbers: Sequence[str]) -> str | None:
        """If the session has ended meanwhile, release the numbers and return a clause that says so; else None."""
        if line.job is None or line.number is None:
            return None
        job = (await self._store.jobs.get([line.job.id])).get(line.job.id)
        post = None if job is None else job.post(line.number)
        if post is None or post.outcome is None:
            return None
        await self._locks.release_bridged([owner], now=self._store.clock.now())
        # Another key press with the same numbers may have deleted their note before these locks were stored.
        await self._records.delete(NAMESPACE, dict.fromkeys(numbers, owner))
        await self._records.delete(BESIDE, dict.fromkeys(beside(numbers), owner))
        return "the call has ended"

    def _owner(self, line: MenuCall, session_id: str | None) -> tuple[str, timedelta]:
        if line.job is None or line.number is None:
            return f"session {session_id}", self._policy.ringing
        return line.job.request_id(line.number), self._policy.ringing + self._policy.longest_call

    async def _called(self, held: Mapping[str, str], line: MenuCall) -> str | None:
        """A clause that names the first number that another job is calling now, and the job; None without one."""
        owners = {number: job_of(owner) for number, owner in held.items()}
        holders: dict[str, str] = {number: post[0] for number, post in owners.items() if post is not None}
        own = None if line.job is None else line.job.id
        if not holders:
            return None
        jobs = await self._store.jobs.get(list(dict.fromkeys(holders.values())))
        for number, holder in holders.items():
            job = jobs.get(holder)
            if job is not None and holder != own and number in spellings(job.destination):
                return f"its second party {number} is being called in call {holder}"
        return None


def _others(standing: Mapping[str, str], owner: str) -> dict[str, str]:
    return {number: held for number, held in standing.items() if held != owner}
