"""Files that operators upload: packed in the store, for seven days, and gone with an erased person."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from tests.contract.suite import ManualClock
from voiceflow_worker import Store, open_store
from voiceflow_worker.service import uploads
from voiceflow_worker.service.uploads import KEPT_FOR, PIECES, Uploads

pytestmark = pytest.mark.anyio
SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "redis")]


@pytest.mark.parametrize("store_url", ["sqlite", *SERVERS], indirect=True)
async def test_an_upload_comes_back_as_it_was_from_every_receiver(store: Store) -> None:
    content = os.urandom(3_000_000)
    kept = await Uploads(store).keep(content, name="people.xlsx")
    other = Uploads(store)
    assert await other.find(kept.id) == kept
    assert await other.content(kept) == content
    await other.clear()
    assert (await other.find(kept.id), await other.content(kept)) == (None, None)
    assert not (await store.records({PIECES: [(kept.id, "0000")]}, now=store.clock.now()))[PIECES]


async def test_uploads_end_after_seven_days_and_the_oldest_go_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "MOST_STORED", 3000)
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        files = Uploads(store)
        kept = list[uploads.Upload]()
        for place in range(3):
            kept.append(await files.keep(os.urandom(1000), name=f"{place}.csv"))
            clock.jump(timedelta(seconds=1))
        found = [await files.find(each.id) for each in kept]
        assert found == [None, *kept[1:]]
        assert await files.content(kept[0]) is None
        clock.jump(KEPT_FOR)
        assert [await files.find(each.id) for each in kept] == [None, None, None]
        assert await files.content(kept[2]) is None


async def test_an_upload_that_is_erased_while_it_is_stored_is_not_kept(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PIECE", 1000)
    files = Uploads(memory)
    put = memory.write
    steps = 0

    async def erased_meanwhile(*given: object, **more: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 3:
            monkeypatch.undo()
            monkeypatch.setattr(uploads, "_PIECE", 1000)
            await Uploads(memory).clear()
        return await put(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "write", erased_meanwhile)
    kept = await files.keep(os.urandom(3000), name="people.csv")
    assert await files.find(kept.id) is None
    places = [(kept.id, f"{place:04}") for place in range(9)]
    assert not (await memory.records({PIECES: places}, now=memory.clock.now()))[PIECES]
