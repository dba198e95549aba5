"""The SQLite store keeps the contract of `core/ports/store.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.defects import assert_found
from tests.contract.suite import LeaseContract, Opener, StoreContract
from tests.support.everyday import spread
from tests.support.seeded import seed
from voiceflow_worker.backends.sqlite import open_sqlite, write
from voiceflow_worker.backends.sqlite.connection import SQL
from voiceflow_worker.backends.sqlite.write import FileWriting
from voiceflow_worker.backends.writing import Writing
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


# The rules that it shares with the store in memory are broken there too (tests/backends/test_store_contract.py).
MUTATIONS: dict[str, tuple[Callable[..., Any], str, str, str]] = {
    "no revision is compared": (
        Writing.answer, "self._refused_changes(write, revisions, at) or ", "",
        "test_a_refused_write_keeps_no_other_from_being_written",
    ),
    "no record refuses": (
        Writing._failed_by, "if len(counted) > most:", "if False:",
        "test_two_writes_that_contradict_each_other_are_never_both_written",
    ),
    "a gate is never closed": (
        Writing._failed_by, "if has == value:", "if True:",
        "test_nothing_is_written_under_a_gate_whose_closing_has_returned",
    ),
    "it is never too late": (
        Writing._failed_by, "if self.clock_now() >= until", "if False",
        "test_what_must_be_written_before_a_time_is_judged_by_the_clock_of_the_store",
    ),
    "every put replaces": (
        FileWriting._put, "if put.mode is Mode.ALWAYS:", "if True:", "test_a_put_does_what_its_mode_says",
    ),
    "a drop forgets its value": (
        FileWriting.store, "drop.member, drop.value)", "drop.member, None)",
        "test_a_drop_deletes_a_record_that_has_its_value",
    ),
    "nobody is woken": (
        FileWriting.store, "if write.wakes is not None:", "if False:",
        "test_each_write_that_wakes_the_queue_raises_its_count",
    ),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(("function", "was", "now", "test"), spread(MUTATIONS, every=4))
async def test_the_contract_finds_that(
    function: Callable[..., Any], was: str, now: str, test: str, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence that is broken on purpose turns its test red."""
    seed(monkeypatch, function, was, now)
    async with open_sqlite(f"sqlite:///{tmp_path}/calls.db") as store:
        await assert_found(test, store)


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
