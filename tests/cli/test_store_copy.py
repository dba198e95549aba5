"""`voiceflow store copy`: asks, copies, says what there is now, and can be given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, states, url_of
from tests.support.stores import renumber
from voiceflow_worker import open_store
from voiceflow_worker.core.store_copy import StoreCopy
from voiceflow_worker.errors import StoreUnavailableError

COUNT = 12


@pytest.fixture
def stores(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The URLs of a store with calls, which all other commands use, and of one that is not there."""
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, COUNT)
    return url_of(voiceflow.folder), f"sqlite:///{voiceflow.folder / 'new.db'}"


def test_it_asks_first_and_says_what_there_is(voiceflow: Program, stores: tuple[str, str]) -> None:
    ended = voiceflow("store", "copy", *stores)
    assert ended.code == 2
    assert f"its {COUNT} calls of 1 queue and all else" in ended.err
    assert "Copy the store? Input is not a terminal" in ended.err
    assert not (voiceflow.folder / "new.db").exists()
    assert voiceflow("suppress", "add", "+6587654321").code == 0


def test_it_copies_and_the_old_store_names_the_new_one(
    voiceflow: Program, stores: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = stores
    ended = voiceflow("store", "copy", old, new, "--yes", "--as", "Mary", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["from"] == old
    assert ended.document["to"] == new
    assert ended.document["copied"]["calls"] == COUNT
    for refused in (("resume",), ("hold",), ("suppress", "add", "+6587654321")):
        ended = voiceflow(*refused)
        assert (ended.code, "is closed: it was copied to sqlite:" in ended.err) == (3, True), ended.err
    assert "was copied before: nothing was changed" in voiceflow("store", "copy", old, new, "--yes").out
    ended = voiceflow("store", "copy", old, new, "--abandon")
    assert (ended.code, "is whole" in ended.err) == (2, True)
    monkeypatch.setenv("VOICEFLOW_STORE", new)
    assert "copied from" in voiceflow("status", "--json").document["holds"][0]["reason"]
    assert "store copy by Mary" in voiceflow("audit").out
    assert voiceflow("resume").code == 0


def test_a_copy_that_fails_can_be_given_up(
    voiceflow: Program, stores: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise StoreUnavailableError("the new store is away")

    with monkeypatch.context() as patched:
        patched.setattr(StoreCopy, "_fill", fails)
        ended = voiceflow("store", "copy", *stores, "--yes")
        assert (ended.code, "the new store is away" in ended.err) == (3, True)
    assert voiceflow("resume").code == 3
    assert "is open again" in voiceflow("store", "copy", *stores, "--abandon").out
    assert voiceflow("resume").code == 0
    assert states(voiceflow.folder) == {"queued": COUNT}


def test_what_cannot_be_copied_is_refused_and_stays_open(voiceflow: Program, stores: tuple[str, str]) -> None:
    old, new = stores
    folder = voiceflow.folder
    for pair, why in {
        ("memory://", new): "in memory",
        (f"sqlite:///{folder / 'nothing.db'}", new): "there is no store",
        (old, f"sqlite:///{folder / 'nowhere' / 'new.db'}"): "does not exist",
    }.items():
        ended = voiceflow("store", "copy", *pair, "--yes")
        assert ended.code in {2, 3}
        assert why in ended.err, ended.err
    ended = voiceflow("store", "copy", old, f"sqlite:///{folder}/../{folder.name}/calls.db")  # nothing is asked
    assert (ended.code, ended.out, "is the old store itself" in ended.err) == (2, "", True), ended.err

    async def age(path: Path) -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await renumber(store, -1)

    asyncio.run(age(folder / "new.db"))
    ended = voiceflow("store", "copy", *stores, "--yes")
    assert "first run `voiceflow store upgrade`" in ended.err
    assert voiceflow("suppress", "add", "+6587654321").code == 0
