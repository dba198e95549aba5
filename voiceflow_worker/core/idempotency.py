"""Idempotency: what is begun under the key of a request, once and whole, however often it is asked for.

A call is under its unique key. A campaign has a record (`StartKey`), which the write that begins its import stores, and
the one that ends it completes. An action of people has one too (`NamedStart`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from msgspec import Struct

from voiceflow_worker.core.base.identity import keyed_digest, new_revision
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Claim, Put, Result, Same, Write
from voiceflow_worker.errors import (
    OtherRequestError,
    RequestInProgressError,
    StoreVersionError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.values import canonical_json
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


CAMPAIGN_KEYS: Final = "campaign-key"
"""Namespace of the campaigns that programs start under keys, by a keyed digest of the key."""


class KeyedStart(Struct, frozen=True, kw_only=True):
    """A campaign that a program starts under a key: the `digest` of its request, and the queue and batch.

    `at` is when it was first asked for, and `taken` what it took from the settings then. `run` is the import that has
    begun for it, and `result` the counts of that once it has ended.
    """

    digest: str
    at: datetime
    queue: str
    batch: str
    taken: dict[str, Any] = {}
    run: str | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKey:
    """The key of a start, with its record in the store as it was read, and what is stored of the start."""

    group: str
    keep_for: timedelta
    standing: str | None
    start: KeyedStart

    @classmethod
    async def of(cls, store: Store, key: str, *, digest: str, keep_for: timedelta, **about: Any) -> Self:
        """Return the start under this key, as it stands or as it begins now.

        Raises OtherRequestError if the key belongs to another request, and StoreError.
        """
        start = KeyedStart(digest=digest, at=store.clock.now(), **about)
        new = cls(group=keyed_digest(store.id, key), keep_for=keep_for, standing=None, start=start)
        return await new.read(store)

    async def read(self, store: Store) -> Self:
        """Return the start as it stands now. Raises OtherRequestError and StoreError."""
        records = (await store.records({CAMPAIGN_KEYS: [self.group]}, now=store.clock.now()))[CAMPAIGN_KEYS]
        if not records:
            return self
        start = json_codec(KeyedStart).value(records[0].value)
        if start.digest != self.start.digest:
            raise OtherRequestError(
                f"the Idempotency-Key belongs to another request, of {in_words(start.at)}. Nothing was done; give this "
                "request a key of its own"
            )
        return replace(self, standing=records[0].value, start=start)

    @property
    def is_new(self) -> bool:
        """Whether nothing has begun under the key."""
        return self.standing is None

    @property
    def condition(self) -> Same:
        """The condition that nothing else has begun under the key."""
        return Same(CAMPAIGN_KEYS, self.group, self.standing)

    def put(self, *, run: str, result: Mapping[str, Any] | None = None) -> Put:
        """Return the record of the start, whose import has this id; with its `result` once it has ended."""
        start = replace(self.start, run=run, result=None if result is None else dict(result))
        return Put(CAMPAIGN_KEYS, self.group, json_codec(KeyedStart).text(start), self.start.at + self.keep_for)
