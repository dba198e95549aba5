"""Idempotency: what stands under a key, to a program, a request or a retry that names the key.

The call that has a unique key is the one that is asked for, and nothing is added; or it has ended and is to be made
again, and then a new call takes the key from it in the write that stores it; or it is another call.

An action of people that is asked for with a key has it in its entry of the audit log, which is stored with what the
action changes. Asked for again, it has the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.audit import AUDIT, Actor, AuditEntry, key_group
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import keyed_digest
from voiceflow_worker.core.ports.reading import owners_of
from voiceflow_worker.core.ports.record_set import json_codec
from voiceflow_worker.core.ports.round_trips import confirm
from voiceflow_worker.core.ports.store import BulkWrite, Same, Write
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import (
    CallFlowError,
    KeyConflict,
    KeyConflictError,
    OtherRequestError,
    StoreUnavailableError,
    SuppressedNumberError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import in_words


def request_of(store: Store, key: str, *parts: object) -> str:
    """What tells a request with this key from others, for `Actor.request`. It reveals neither the key nor the parts."""
    return " ".join(keyed_digest(store.id, canonical_json(each)) for each in (key, list(parts)))


async def asked_before(store: Store, request: str) -> AuditEntry | None:
    """The action that was asked for by the same request; None if nothing was. Raises OtherRequestError, StoreError."""
    entry = await _entry_of(store, request)
    if entry is not None and entry.request != request:
        raise OtherRequestError(
            f"the Idempotency-Key belongs to another request, of {in_words(entry.at)}. Nothing was done; give this "
            "request a key of its own"
        )
    if entry is not None:
        await confirm(store)
    return entry


async def keep_answer(store: Store, actor: Actor, answer: Mapping[str, Any]) -> None:
    """Keep the answer to a request with a key, for who asks again. Raises StoreError."""
    assert actor.request is not None  # noqa: S101 - it has a key
    entry = await _entry_of(store, actor.request)
    before = None if entry is None else entry.puts()[-1].value
    entry = entry or AuditEntry.of(actor, "none", at=store.clock.now())  # what changes nothing has no other record
    *_, put = replace(entry, answer=dict(answer)).puts()
    write = Write(conditions=(Same(put.namespace, put.group, before),), puts=(put,))
    await store.write(BulkWrite(writes=(write,)), now=store.clock.now())


async def _entry_of(store: Store, request: str) -> AuditEntry | None:
    found = (await store.records({AUDIT: [key_group(request)]}, now=store.clock.now()))[AUDIT]
    return json_codec(AuditEntry).value(found[0].value) if found else None


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
