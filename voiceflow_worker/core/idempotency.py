"""Idempotent enqueueing: what the call that has a unique key is to a program, a request or a retry that names the key.

The call is the one that is asked for, and nothing is added; or it has ended and is to be made again, and then a new
call takes the key from it in the write that stores it; or it is another call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.ports.reading import owners_of
from voiceflow_worker.core.ports.round_trips import confirm
from voiceflow_worker.core.ports.store import Same
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import (
    CallFlowError,
    KeyConflict,
    KeyConflictError,
    OtherRequestError,
    StoreUnavailableError,
    SuppressedNumberError,
)
from voiceflow_worker.model.jobs.job import Job


class KeyMatch(Enum):
    """What the call that has a unique key is to the order that names the key."""

    SAME = auto()
    """It is the call that was ordered. Nothing is added."""
    AGAIN = auto()
    """It has ended, and the order is a new call, which takes its key."""
    OTHER = auto()
    """It is another call. Nothing is enqueued."""


class Orders(Protocol):
    """Who makes the keys of rows, and so can order the same rows again, whatever they say then."""

    @property
    def other(self) -> str:
        """What is said of a row whose key belongs to another call, after the row."""
        ...

    def key(self, called: str, place: int) -> str:
        """The unique key of row number `place` (from 0) of those that call the same: a telephone, or a row's own key.

        `called` is `number <telephone>` or `key <key>`.
        """
        ...

    def match(self, owner: Job, digest: str) -> KeyMatch:
        """What the call that has a key is to a row with this key. `digest` is that of the row's call."""
        ...

    def is_own(self, job: Job) -> bool:
        """Whether the keys find this call, so that no row repeats it by mistake."""
        ...

    def problems(self, row: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        """What makes a row bad beside the rules for all rows, as columns and clauses."""
        ...


Judge = Callable[[Job], KeyMatch]
"""What the call that has a key is to an order. It may raise an error that says more."""


async def existing_call(queue: CallQueue, key: str, judge: Judge) -> Job | None:
    """The call that this key names already; None if there is none. Raises KeyConflictError for another call."""
    owner, match = await _looked_up(queue, key, judge)
    if match is not KeyMatch.SAME:
        return None
    await confirm(queue.store)
    return owner


async def _looked_up(queue: CallQueue, key: str, judge: Judge) -> tuple[Job | None, KeyMatch | None]:
    owner = (await owners_of(queue.store, queue.name, [key])).get(key)
    match = None if owner is None else judge(owner)
    if owner is not None and match is KeyMatch.OTHER:
        raise KeyConflictError([KeyConflict(0, key, owner.id)])
    return owner, match


async def enqueue_idempotent(
    queue: CallQueue,
    key: str,
    make: Callable[[], Awaitable[CheckedCall]],
    judge: Judge,
    *,
    conditions: Sequence[Same] = (),
) -> tuple[Job, bool]:
    """The call under this key, and whether it is new. `make` makes the call, with this key, if none stands.

    It is stored under the `conditions`: IntakeError if one fails. Raises CallFlowError and SuppressedNumberError, with
    which nothing is stored; OtherRequestError if the key belongs to an erased call; KeyConflictError and StoreError.
    """
    owner, match = await _looked_up(queue, key, judge)
    if owner is not None and match is KeyMatch.SAME:
        await confirm(queue.store)
        return owner, False
    over = {} if owner is None else {key: owner}  # only as it was when it was judged
    (result,) = await queue.admitter.admit([await make()], conditions=conditions, over=over)
    if result.findings:
        raise CallFlowError(result.findings)
    if result.suppressed is not None:
        raise SuppressedNumberError([result.suppressed])
    job, match = await _looked_up(queue, key, judge)
    if job is None and not result.is_new:
        raise OtherRequestError(
            f"unique key {key!r} belongs to a call that was erased with its person; nothing was enqueued. Use a new "
            "key for a new call"
        )
    if job is None:
        raise StoreUnavailableError("the call was stored, and is not found yet; repeat the request with the same key")
    if match is not KeyMatch.SAME and not result.is_new:  # somebody was quicker, and that call has ended since
        raise KeyConflictError([KeyConflict(0, key, job.id)])
    return job, result.is_new is True
