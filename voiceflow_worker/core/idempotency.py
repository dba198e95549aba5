"""Idempotency: what stands under a key, to a program, a request or a retry that names the key.

The call that has a unique key is the one that is asked for, and nothing is added; or it has ended and is to be made
again, and then a new call takes the key from it in the write that stores it; or it is another call.

What else is begun once under a name, such as a campaign or an action of people, has a record of its own (`NamedStart`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, Protocol, Self

from voiceflow_worker.core.admission import Admitter, CheckedCall
from voiceflow_worker.core.base.identity import keyed_digest, new_revision
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Claim, Put, Result, Same, Write
from voiceflow_worker.errors import (
    KeyConflict,
    KeyConflictError,
    OtherRequestError,
    RequestInProgressError,
    StoreVersionError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import in_words

NAMED_STARTS: Final = "named-start"
"""Namespace of what was begun under names, by group and name."""
ACTIONS_KEPT: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What is kept of a start.

    `at` is when it was first asked for, and `taken` what it took from elsewhere then. `result` is None until it is
    whole. `token` is new with each one that begins.
    """

    digest: str
    at: datetime
    taken: dict[str, Any]
    result: dict[str, Any] | None = None
    token: str = field(default_factory=new_revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStart:
    """What is begun under a name, once and whole, however often it is asked for: its record, as it is to be written.

    Its record is stored in the write of the first thing that it stores (`claim`), under the condition that no other
    start has the name. Asked for again, it has its result; or it was cut, and goes on as of the time at which it first
    began. Something else that is asked for under the name is refused.
    """

    group: str
    name: str
    keep_for: timedelta
    standing: str | None
    """The record in the store, as text."""
    begun: Begun
    digest: str
    """What stands for the name where that is not shown."""

    @classmethod
    async def of(cls, store: Store, name: str, *, group: str, digest: str, keep_for: timedelta, **taken: Any) -> Self:
        """The start under this name, as it stands or as it begins now; `digest` is that of what is asked for.

        Raises OtherRequestError if the name belongs to something else, and StoreError.
        """
        now, begun = store.clock.now(), None
        records = (await store.records({NAMED_STARTS: [(group, name)]}, now=now))[NAMED_STARTS]
        if records:
            try:
                begun = json_codec(Begun).value(records[0].value)
            except ValueError:
                raise StoreVersionError(
                    "the record of the Idempotency-Key cannot be read, perhaps because a newer version of "
                    "voiceflow-worker wrote it. Nothing was done. Send the request to a server of that version"
                ) from None
        if begun is not None and begun.digest != digest:
            raise OtherRequestError(
                f"the Idempotency-Key belongs to another request, of {in_words(begun.at)}. Nothing was done; give this "
                "request a key of its own"
            )
        if begun is not None and begun.result is not None:
            await confirm(store)
        own = replace(begun, token=new_revision()) if begun else Begun(digest=digest, at=now, taken=taken)
        standing = records[0].value if records else None
        stands_for = keyed_digest(store.id, f"{group} {name}")
        return cls(group=group, name=name, keep_for=keep_for, standing=standing, begun=own, digest=stands_for)

    @classmethod
    async def of_request(cls, store: Store, key: str, *parts: object) -> Self:
        """The action that is asked for with this key. What is stored of it reveals neither the key nor the parts."""
        name, digest = (keyed_digest(store.id, canonical_json(each)) for each in (key, list(parts)))
        return await cls.of(store, name, group="", digest=digest, keep_for=ACTIONS_KEPT)

    @property
    def is_new(self) -> bool:
        """Whether nothing has begun under this name."""
        return self.standing is None

    @property
    def claim(self) -> Claim:
        """The condition of the first thing that it stores, and the record that is stored with that."""
        since = None if self.is_new else self.begun.at
        return Claim(condition=self._is(self.standing), put=self._put(self.begun), id=self.digest, since=since)

    async def finish(self, store: Store, result: Mapping[str, Any]) -> None:
        """Store that it is whole, whether there was anything to store or not.

        Raises RequestInProgressError if another request has begun it meanwhile, and StoreError.
        """
        put = self._put(replace(self.begun, result=dict(result)))
        stands = (self._is(self._put(self.begun).value), self._is(self.standing))
        writes = tuple(Write(conditions=(each,), puts=(put,)) for each in stands)
        answers = await store.write(BulkWrite(writes=writes), now=store.clock.now())
        if not any(each.result is Result.DONE for each in answers):
            raise RequestInProgressError

    def _is(self, text: str | None) -> Same:
        return Same(NAMED_STARTS, self.group, text, self.name)

    def _put(self, begun: Begun) -> Put:
        text = json_codec(Begun).text(begun)
        return Put(NAMED_STARTS, self.group, text, self.begun.at + self.keep_for, member=self.name)


class KeyMatch(Enum):
    """What the call that has a unique key is to the order that names the key."""

    SAME = auto()
    """It is the call that was ordered. Nothing is added."""
    AGAIN = auto()
    """It has ended, and the order is a new call, which takes its key."""
    OTHER = auto()
    """It is another call. Nothing is enqueued."""


class _Queue(Protocol):
    """What is asked of a queue here."""

    store: Store
    name: str
    admitter: Admitter


Judge = Callable[[Job], KeyMatch]
"""What the call that has a key is to an order. It may raise an error that says more."""


async def _looked_up(queue: _Queue, key: str, judge: Judge) -> tuple[Job | None, KeyMatch | None]:
    owner = (await owners_of(queue.store, queue.name, [key])).get(key)
    match = None if owner is None else judge(owner)
    if owner is not None and match is KeyMatch.OTHER:
        raise KeyConflictError([KeyConflict(0, key, owner.id)])
    return owner, match


async def enqueue_idempotent(
    queue: _Queue,
    key: str,
    make: Callable[[], Awaitable[CheckedCall]],
    judge: Judge,
) -> tuple[Job, bool]:
    """The call under this key, and whether it is new. `make` makes the call, with this key, if none stands.

    Raises CallFlowError and SuppressedNumberError, with
    which nothing is stored; OtherRequestError if the key belongs to an erased call; KeyConflictError and StoreError.
    """
    owner, match = await _looked_up(queue, key, judge)
    if owner is not None and match is KeyMatch.SAME:
        await confirm(queue.store)
        return owner, False
    over = {} if owner is None else {key: [owner]}  # only as it was when it was judged
    try:
        (found,) = await queue.admitter.admit_all([await make()], over=over)
        if found.created:
            return found.job, True
    except KeyConflictError:  # somebody was quicker, with another body
        pass
    job, match = await _looked_up(queue, key, judge)
    if job is None:
        raise OtherRequestError(
            f"unique key {key!r} belongs to a call that was erased with its person; nothing was enqueued. Use a new "
            "key for a new call"
        )
    if match is not KeyMatch.SAME:  # that call has ended since
        raise KeyConflictError([KeyConflict(0, key, job.id)])
    return job, False
