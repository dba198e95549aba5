"""Work that the SQLite backend does quicker than the contract asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from tests.contract.writing import DONE, EXISTS, NOT_FREE, held, new, put
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite import store as sqlite_store
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Delete,
    Drop,
    Insert,
    Mode,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.writes import enqueued

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


async def test_a_change_in_this_process_wakes_at_once(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "POLL_EVERY", 10**6)  # no look for other processes' changes comes to its help
    until = store.clock.now() + HOUR
    seen = await store.wait(QUEUE, seen=0, until=until)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: store.wait(QUEUE, seen=seen, until=until))
            await anyio.wait_all_tasks_blocked()
            await add_jobs(store, [sample_job()])


@pytest.mark.parametrize("wait", [{"due_at": NOW + HOUR}, {"due_at": NOW + HOUR, "batch_id": "later"}], ids=str)
async def test_jobs_that_are_not_due_cost_a_lease_nothing(store: SqliteStore, wait: dict[str, Any]) -> None:
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    store.writer._db._db.set_progress_handler(count, 1)

    async def cost(number: int) -> int:
        nonlocal steps
        await add_jobs(store, [sample_job(number)])
        steps = 0
        leased = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + HOUR, now=NOW)
        assert [job.id for job in leased] == [sample_job(number).id]
        return steps

    alone = await cost(1000)
    await add_jobs(store, [sample_job(number, **wait) for number in range(500)])
    assert await cost(1001) < alone + 50


async def test_a_row_of_a_file_takes_less_than_two_statements(store: SqliteStore) -> None:
    statements = 0

    def count(*_: object) -> bool:
        nonlocal statements
        statements += 1
        return True

    jobs = [sample_job(number, batch_id="b", unique_key=f"k{number}") for number in range(1, 501)]
    writes = [enqueued(job, at=NOW, store_id=store.id, is_campaign=True) for job in jobs]
    store.writer._db._db.exec_trace = count
    answers = await store.write(BulkWrite(writes=tuple(writes)), now=NOW)
    assert {answer.result for answer in answers} == {Result.DONE}
    assert statements < 2 * len(jobs)
    assert [job.id for job in await find_jobs(store, Listing(queue=QUEUE, batch="b", limit=1000))] == [
        job.id for job in jobs
    ]
    assert await find_jobs(store, OfNumber(queue=QUEUE, number=jobs[-1].destination, limit=1000)) == jobs[-1:]


async def test_what_one_write_changes_the_next_ones_of_its_bulk_write_find_changed(store: SqliteStore) -> None:
    """Their checks were read at once, before any of them was written."""
    kept, group = put("a", "kept", mode=Mode.KEEP), AtMost("n", ("a",), 0)
    owner, heir = sample_job(1, unique_key="k"), Insert(sample_job(2, unique_key="k"))
    writes = (
        Write(conditions=(group, Same("n", "a", None)), puts=(kept,)),
        Write(conditions=(group,), puts=(put("b"),)),
        Write(conditions=(Same("n", "a", "kept"),), drops=(Drop("n", "a", None),)),
        Write(conditions=(group, Same("n", "a", None)), puts=(kept,)),
        new(owner),
        Write(changes=(heir,)),
        Write(changes=(Delete(owner, None, tally_change(owner, None)), heir)),
        new(sample_job(3, unique_key="k")),
    )
    results = [answer.result for answer in await store.write(BulkWrite(writes=writes), now=NOW)]
    assert results == [DONE, NOT_FREE, DONE, DONE, DONE, EXISTS, DONE, EXISTS]
    assert await held(store) == {"a": "kept"}
    assert await find_jobs(store, Listing(queue=QUEUE)) == [heir.job]
