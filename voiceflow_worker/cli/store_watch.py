"""A watch that ends a receiver whose store has become unusable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.errors import StoreCorruptError, StoreError, StoreVersionError

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Store

_EVERY = 1.0


async def until_unusable(store: Store) -> None:
    """Look at the store each second. Raises `StoreCorruptError` or `StoreVersionError`; never returns.

    A store that is away is none of these: it may come back.
    """
    while True:
        await anyio.sleep(_EVERY)
        try:
            await store.records.get("queue", [""], now=store.clock.now())
        except StoreError as error:
            if isinstance(error, StoreCorruptError | StoreVersionError):
                raise
