"""Idempotency: what is begun under the key of a request, once and whole, however often it is asked for.

A call is under its unique key. A campaign has a record (`StartKey`), which the write that begins its import stores, and
the one that ends it completes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from msgspec import Struct

from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Put, Same
from voiceflow_worker.errors import (
    OtherRequestError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.wording import in_words

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
        """Return the start under this key, as it is or as it begins now.

        Raises OtherRequestError if the key belongs to another request, and StoreError.
        """
        start = KeyedStart(digest=digest, at=store.clock.now(), **about)
        new = cls(group=keyed_digest(store.id, key), keep_for=keep_for, standing=None, start=start)
        return await new.read(store)

    async def read(self, store: Store) -> Self:
        """Return the start as it is now. Raises OtherRequestError and StoreError."""
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
        """True if nothing has begun under the key."""
        return self.standing is None

    @property
    def condition(self) -> Same:
        """Condition that nothing else has begun under the key."""
        return Same(CAMPAIGN_KEYS, self.group, self.standing)

    def put(self, *, run: str, result: Mapping[str, Any] | None = None) -> Put:
        """Return the record of the start, whose import has this id; with its `result` once it has ended."""
        start = replace(self.start, run=run, result=None if result is None else dict(result))
        return Put(CAMPAIGN_KEYS, self.group, json_codec(KeyedStart).text(start), self.start.at + self.keep_for)
