"""Bridges that a menu asks for: whether the second party may be rung now, with somebody waiting on the line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from voiceflow_worker.core.events.callers import MenuCall
from voiceflow_worker.core.numbers.locks import NAMESPACE
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import all_spellings, spellings


class Bridges:
    """Looks up the numbers that an answer to a call action event bridges to, and locks them.

    A call of a queue can wait for a number; a person on the line cannot. So a bridge is refused only for a number that
    is on the suppression list, or that a call of a queue is open to. Where other bridges hold the number, as a desk's
    often is, this one goes on beside them. While it lasts, calls of queues leave the number alone: until the summary of
    a call of this store, or as long as a phone rings for a call that is no job.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._policy = policy
        self._suppression = SuppressionList(store)
        self._shared = all_spellings(policy.shared_numbers).keys()

    async def refusal(self, numbers: Sequence[str], *, line: MenuCall, session_id: str | None) -> str | None:
        """Why these may not be rung, as a clause; None if they may be, and are locked. Raises StoreError."""
        listed = await self._suppression.standing(numbers)
        for number in numbers:
            if number in listed:
                return listed[number].in_words_of(number)
        wanted = [number for number in all_spellings(numbers) if number not in self._shared]
        if not wanted:
            return None
        owner, lasts = self._owner(line, session_id)
        now = self._store.clock.now()
        standing = await self._store.records.put_if_absent(
            NAMESPACE, dict.fromkeys(wanted, owner), expires_at=now + lasts, now=now
        )
        called = await self._called({number: held for number, held in standing.items() if held != owner}, line)
        if called is None:
            return None
        await self._store.records.delete(
            NAMESPACE, {number: held for number, held in standing.items() if held == owner}
        )
        return called

    def _owner(self, line: MenuCall, session_id: str | None) -> tuple[str, timedelta]:
        if line.job is None or line.number is None:
            return f"session {session_id}", self._policy.ringing
        return f"{line.job.id}.{line.number}", self._policy.ringing + self._policy.longest_call

    async def _called(self, held: dict[str, str], line: MenuCall) -> str | None:
        """The first number that is itself the destination of another job's open call, with that job."""
        owners = {number: job_of(owner) for number, owner in held.items()}
        holders: dict[str, str] = {number: post[0] for number, post in owners.items() if post is not None}
        own = None if line.job is None else line.job.id
        if not holders:
            return None
        jobs = await self._store.jobs.get(list(dict.fromkeys(holders.values())))
        for number, holder in holders.items():
            job = jobs.get(holder)
            if job is not None and holder != own and number in spellings(job.destination):
                return f"{number}, which it bridges to, is in a call of its own ({holder})"
        return None
