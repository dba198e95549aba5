"""The SQLite store keeps the contract of `core/ports/store.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.suite import LeaseContract, Opener, StoreContract
from voiceflow_worker.backends.sqlite import open_sqlite, write
from voiceflow_worker.backends.sqlite.connection import SQL
from voiceflow_worker.core.ports.store import Store


class TestSqlite(StoreContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(open_sqlite, f"sqlite:///{tmp_path}/calls.db")


class TestBehindManyHeldCalls(LeaseContract):
    """A lease looks at the open batches one by one."""

    @pytest.fixture
    def opener(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
        monkeypatch.setattr(write, "_MOST_HELD", -1)
        return partial(open_sqlite, f"sqlite:///{tmp_path}/calls.db")


BROKEN_READS: dict[str, tuple[str, str, str]] = {
    "what is due at the very time is left out": ("jobs_due", "<= :by", "< :by"),
    "what is due is in the order of ids": ("jobs_due", "ORDER BY due_at, id", "ORDER BY id"),
    "what waits in a batch is in the order of ids": ("jobs_waiting", "ORDER BY due_at, id", "ORDER BY id"),
    "what lapses at the very time is left out": ("jobs_expired", "<= :at", "< :at"),
    "the newest of a number are the oldest": ("jobs_of_number", "{order}", "ASC"),
    "the newest of a queue are the oldest": ("jobs_of_queue", "{order}", "ASC"),
}
"""Statements that find too little. What a statement finds too much is left out when the rows are read (`find`)."""


async def each_read(store: Store) -> None:
    await StoreContract().test_each_read_has_all_its_jobs_in_its_order(store)
    async with open_sqlite(f"{store.url}-2") as other:
        await StoreContract().test_a_read_gives_its_jobs(other)


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "was", "now"), BROKEN_READS.values(), ids=BROKEN_READS.keys())
async def test_the_contract_finds_that_of_a_read(
    name: str, was: str, now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert was in SQL[name]
    monkeypatch.setitem(SQL, name, SQL[name].replace(was, now))
    async with open_sqlite(f"sqlite:///{tmp_path}/calls.db") as store:
        with pytest.raises(AssertionError):
            await each_read(store)
