"""Imports of campaigns that are cut, as by a kill, so that their calls stay staged."""

from __future__ import annotations

import pytest

from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from voiceflow_worker import CallQueue, Campaign
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Insert
from voiceflow_worker.errors import StoreUnavailableError


async def cut_import(store: Store, calls: int = 3, *, batch: str = "march", say: str = "Hello") -> None:
    """Stage this many calls of a batch, by an import whose process dies after the last of them."""
    staged: list[StoreCall] = []

    async def die(call: StoreCall) -> None:
        if staged:
            raise StoreUnavailableError("killed")
        if call.name == "write" and any(isinstance(each, Insert) for each in call.arguments[0].writes[0].changes):
            staged.append(call)

    # With keys of their own, so that the next import need not wait until the turn of this one has ended.
    rows = [{"destination": number(place), "unique_key": f"{batch} {place}"} for place in range(1, calls + 1)]
    fields = {
        "rows": rows,
        "say": say,
        "window": "any",
        "source": "+6531234567",
        "voice_profile": "en-US-JennyNeural",
        "batch": batch,
    }
    with pytest.raises(StoreUnavailableError):
        await Campaign.of(fields).start(CallQueue(FaultyStore(store, before=die)))
