"""Calls in menus: whose call an event is of, the keys that were pressed, and the numbers that a menu bridges to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import job_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Result, Write, WriteResult
from voiceflow_worker.core.settling.changes import Changes, Sessions
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import entry_of, listed_groups
from voiceflow_worker.core.writes import NUMBER
from voiceflow_worker.errors import IllegalMoveError, JobNotFoundError, StaleJobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.evidence import MOST_PRESSES, found_placed, has_press, with_press
from voiceflow_worker.model.jobs.job import Job, KeyPress, Post
from voiceflow_worker.model.jobs.lifecycle import with_post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import Likeness, aliases, canonical_number, likeness
from voiceflow_worker.model.reports.events import CallAction, Direction

ROUNDS = 20
"""The most times that a bridge is tried while other writers change the job."""


class Bridges:
    """Checks and notes the numbers to which a menu wants to bridge a call.

    A queued call can wait until a number is free, but a person on the line cannot wait. So a bridge is refused only if
    the number is on the suppression list, if it is the destination of another open call of a queue and not a shared
    number, or if the person's call has ended. Any number of bridges may share a number, such as that of a service desk.
    Queues do not call the number of a bridge until the person's call has its summary. If that call has no job, queues
    do not call the number for as long as a phone may ring.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._policy = policy

    async def refusal(self, numbers: Sequence[str], *, call: MenuCall, session_id: str | None) -> str | None:
        """Note these numbers until the call ends. Returns None if they may be called, else the reason as a clause.

        Raises StoreError, and StaleJobError if other writers change the job at every try.
        """
        how: dict[str, Any] = {"policy": self._policy, "store_id": self._store.id}
        if call.job is None or call.number is None:
            write = writes.bridge_of_session(str(session_id), numbers, at=self._store.clock.now(), **how)
            return self._refusal(await self._write(write), numbers)
        job = call.job
        for _ in range(ROUNDS):
            post = job.post(call.number)
            if post is None or post.outcome is not None:
                return "the call has ended"
            _, write = writes.bridge(job, call.number, numbers, at=self._store.clock.now(), **how)
            answer = await self._write(write)
            if answer.result is not Result.STALE:
                return self._refusal(answer, numbers)
            found = (await get_jobs(self._store, [job.id])).get(job.id)
            if found is None:
                return "the call has ended"
            job = found
        raise StaleJobError(job.id)

    async def _write(self, write: Write) -> WriteResult:
        return (await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now()))[0]

    def _refusal(self, answer: WriteResult, numbers: Sequence[str]) -> str | None:
        if answer.result is Result.DONE or answer.record is None:
            return None
        group = answer.record.group
        number = next(each for each in numbers if group in self._groups(each))
        if isinstance(answer.condition, AtMost) and answer.condition.namespace == SUPPRESSED:
            return entry_of(answer.record).in_words_of(number)
        owner = job_of(answer.record.value)
        holder = answer.record.value if owner is None else owner[0]
        return f"its second party {number} is being called in call {holder}"

    def _groups(self, number: str) -> tuple[str, ...]:
        store_id = self._store.id
        return *listed_groups([number], store_id=store_id), *writes.locked_groups([number], store_id=store_id)


@dataclass(frozen=True, slots=True)
class MenuCall:
    """One call in a menu, with the keys pressed. A call that this store made has a job and a POST number."""

    job: Job | None
    number: int | None
    presses: tuple[KeyPress, ...]


class MenuCalls:
    """Finds the calls of events and stores their key presses. Any number of receivers may share a store."""

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._policy = policy
        self._changes = Changes(store, policy)
        self._sessions = Sessions(store)

    async def find(self, event: CallAction) -> MenuCall:
        """Find the call of an event, by the event's session, else by the event's two numbers.

        At most one open POST matches the numbers. A match shows that this POST was placed. The match is stored before
        `find` returns: a job in doubt is settled, and the call of later events is found by their session. A call that
        this store did not make has no job. Raises StoreUnavailableError.
        """
        session = event.session_id
        if session is not None:
            found = await self._sessions.find([session])
            if session in found:
                job_id, number = found[session]
                job = (await get_jobs(self._store, [job_id])).get(job_id)
                post = None if job is None else job.post(number)
                if job is not None and post is not None and _is_to_another(event, job.parties_of(post)):
                    # The answer that named this session was left over from another POST on the same connection.
                    return await self._stray(session)
                if job is not None and post is not None and post.session_id in {None, session}:
                    return MenuCall(job, number, post.presses)
                if job is None:
                    # The job was pruned, or the session is of another program's call: no other job fits either.
                    return await self._stray(session)
        bound = await self._by_numbers(event)
        if bound is not None:
            return bound
        return await self._stray(session)

    async def pressed(self, call: MenuCall, press: KeyPress, *, session_id: str | None) -> None:
        """Store a key press with its call, whatever state the job is in. A repeated event adds nothing.

        The key press is durable when this returns. Nothing is stored for a deleted job, or for a POST with
        `MOST_PRESSES` key presses. Raises StoreUnavailableError, and StaleJobError if other writers change the job at
        every try. After an error the key press is not stored, and the answer to the event must say so.
        """
        if call.job is None:
            if session_id is not None and not has_press(call.presses, press):
                await self._sessions.press(session_id, press)
            return
        with suppress(JobNotFoundError):  # it has been pruned
            await self._changes.change(call.job.id, partial(with_press, number=call.number, press=press), base=call.job)

    async def _by_numbers(self, event: CallAction) -> MenuCall | None:
        """Find the call whose POST holds the lock on the called number, if the event fits this POST; else None."""
        if event.direction is Direction.INBOUND or event.destination is None or event.session_id is None:
            return None
        now = self._store.clock.now()
        called = writes.locked_groups([canonical_number(event.destination)], store_id=self._store.id)
        locks = (await self._store.records({NUMBER: called}, now=now))[NUMBER]
        named = job_of(locks[0].value) if locks else None
        if named is None:
            return None
        job_id, number = named
        job = (await get_jobs(self._store, [job_id])).get(job_id)
        post = None if job is None else job.post(number)
        if job is None or post is None or not _fits(job, post, event):
            return None
        if post.session_id is None:
            session_id = event.session_id
            try:
                changed = await self._changes.change(
                    job_id, lambda job: _bound(job, number, session_id, at=now, policy=self._policy), base=job
                )
            except (JobNotFoundError, IllegalMoveError):
                return None
            job = changed.new
            post = job.post(number)
        if post is None or post.session_id != event.session_id:
            return None  # the answer to the POST has come meanwhile, with another session
        return MenuCall(job, number, post.presses)

    async def _stray(self, session_id: str | None) -> MenuCall:
        """Return the call of a session without a known POST."""
        found = {} if session_id is None else await self._sessions.presses([session_id])
        return MenuCall(None, None, found.get(session_id or "", ())[-MOST_PRESSES:])


def _is_to_another(event: CallAction, parties: Iterable[str]) -> bool:
    """Return whether an outbound event names a called number that is none of the `parties` of its POST."""
    if event.direction is not Direction.OUTBOUND or event.destination is None:
        return False
    return all(likeness(event.destination, number) is Likeness.OTHER for number in parties)


def _fits(job: Job, post: Post, event: CallAction) -> bool:
    """Return whether an event may come from the call of `post`, by its numbers."""
    return (
        post.session_id in {None, event.session_id}
        and (post.is_open or post.session_id is not None)
        and job.source == event.source
        and event.destination is not None
        and job.number_of(post) in aliases(canonical_number(event.destination))
    )


def _bound(job: Job, number: int, session_id: str, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job, with POST `number` recorded as placed, in the session that an event named.

    The event was matched to the POST by its numbers. A definite answer to the POST outweighs this match.
    """
    after = found_placed(job, number, session_id=session_id, outcome=None, at=at, policy=policy)
    post, before = after.post(number), job.post(number)
    if post is None or before is None or post.message == before.message:
        return after
    return with_post(after, replace(post, message="a call action event came from this call"))
