"""Totals in a file: files and processes of before get them too, and wrong ones are found and mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job
from voiceflow_worker.backends.contract.totals import BATCHES, post, totals_are_exact
from voiceflow_worker.core.overview.recount import recount
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


def ended(count: int) -> list[Job]:
    states = list(JobState)
    return [
        sample_job(
            number,
            batch_id=BATCHES[number % 3],
            state=states[number % len(states)],
            posts=(post(status=SessionStatus.COMPLETED, seconds=1.5, digits=str(number % 2)),) if number % 4 else (),
        )
        for number in range(count)
    ]


def edit(tmp_path: Path, statements: str) -> None:
    db: Any = apsw.Connection(f"{tmp_path}/calls.db")
    db.execute(statements)
    db.close()


async def test_what_a_process_of_before_did_not_count_is_found_and_mended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    async with open_store(url) as store:
        await store.jobs.enqueue(ended(30), now=NOW)
        edit(
            tmp_path,
            "UPDATE jobs SET tally = NULL WHERE number % 2; UPDATE totals SET live = live + 3 WHERE batch = ''",
        )
        found = await recount(store, QUEUE, mend=False)
        assert (found.jobs, found.moving, found.mended) == (30, frozenset(), False)
        assert None in found.wrong
        assert "too low" in "".join(found.in_words())
        mended = await recount(store, QUEUE, mend=True)
        assert (mended.wrong, mended.mended) == (found.wrong, True)
        assert (await recount(store, QUEUE, mend=False)).wrong == {}
        await totals_are_exact(store)
