"""Rows that are ordered again by who makes their keys: what stands adds nothing, whatever the rows say by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.campaigns.conftest import EACH_STORE
from voiceflow_worker import CallQueue, Campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.core.admission import Admitter
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio

ANA, BEN, CLEO = "+6587654321", "+6587654322", "+6587654323"


@dataclass
class Ordered:
    """Orders whose calls stand, but for cancelled ones; calls with other words belong to somebody else if `strict`."""

    strict: bool = False
    other = "somebody else calls this number"
    seen: list[str] = field(default_factory=list[str])

    def key(self, called: str, place: int) -> str:
        return f"task/{called}/{place}"

    def match(self, owner: Job, digest: str) -> KeyMatch:
        self.seen.append(owner.id)
        if owner.state is JobState.CANCELLED:
            return KeyMatch.AGAIN
        return KeyMatch.OTHER if self.strict and owner.body_digest != digest else KeyMatch.SAME

    def is_own(self, job: Job) -> bool:
        return (job.unique_key or "").startswith("task/")

    def problems(self, row: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        return [(name, "is wrong") for name, value in row.items() if value == "wrong"]


async def start(queue: CallQueue, *rows: Any, say: str = "Hello.", strict: bool = False, **more: Any) -> EnqueueReport:
    people = [{"destination": row} if isinstance(row, str) else row for row in rows]
    fields = {"say": say, "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "people", **more}
    campaign = Campaign.of({**fields, "rows": people})
    return await replace(campaign, options=replace(campaign.options, orders=Ordered(strict))).start(queue)


async def calls(queue: CallQueue) -> dict[str | None, JobState]:
    return {job.unique_key: job.state for job in await queue.find(limit=None) if job.unique_key is not None}


@EACH_STORE
async def test_rows_that_are_ordered_again_add_only_who_has_no_call(store: Store) -> None:
    queue = CallQueue(store)
    report = await start(queue, ANA, BEN, ANA, {"destination": BEN, "unique_key": "b"})
    assert (report.enqueued, report.duplicates) == (3, 1), "the same words to the same number are one call"
    report = await start(queue, CLEO, {"destination": CLEO, "unique_key": "b"}, f"+65 {BEN[3:]}", ANA, say="Hi.")
    assert (report.enqueued, report.duplicates) == (1, 3)
    keys = {f"task/number {ANA}/0", f"task/number {BEN}/0", "task/key b/0", f"task/number {CLEO}/0"}
    assert await calls(queue) == dict.fromkeys(keys, JobState.QUEUED)
    twice = ({"destination": ANA, "n": "1"}, {"destination": ANA, "n": "2"})
    assert (await start(queue, *twice, say="{{n}}")).enqueued == 1
    other = {"destination": ANA, "n": "3"}
    assert (await start(queue, other, twice[0], twice[1], say="{{n}}")).enqueued == 0, "what was said is not said again"
    assert (await start(queue, twice[0], twice[1], other, say="{{n}}")).enqueued == 1


@EACH_STORE
async def test_a_call_that_is_made_again_hands_its_key_over_and_another_call_makes_its_row_bad(store: Store) -> None:
    queue = CallQueue(store)
    await start(queue, ANA, BEN)
    first, second = sorted(await queue.find(limit=None), key=lambda job: job.destination)
    await queue.cancel(first.id)
    report = await start(queue, ANA, BEN, CLEO, say="Hi.", strict=True)
    assert (report.refused, [found.message for found in report.findings]) == (True, [Ordered.other])
    report = await start(queue, ANA, BEN, say="Hi.")
    assert (report.enqueued, report.duplicates) == (1, 1)
    successor = (await queue.get(first.id)).successor
    assert successor is not None
    waiting = await queue.find(states=[JobState.QUEUED], limit=None)
    assert {(job.id, "Hi." in job.body) for job in waiting} == {(successor, True), (second.id, False)}


@EACH_STORE
async def test_a_call_that_somebody_else_stored_in_between_stands(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, admit, quick = CallQueue(store), Admitter.admit, [True]

    async def beaten(self: Admitter, given: Any, **more: Any) -> Any:
        if quick and more["staging"] is not None:
            quick.clear()
            await self.admit_all([call._replace(digest="f" * 64) for call in given])
        return await admit(self, given, **more)

    monkeypatch.setattr(Admitter, "admit", beaten)
    report = await start(queue, ANA)
    assert (report.enqueued, report.duplicates, report.rejected) == (0, 1, 0)
    assert len(await queue.find(limit=None)) == 1


async def test_rows_that_the_orders_refuse_are_bad_and_name_no_batch_of_their_own(queue: CallQueue) -> None:
    bad = {"destination": BEN, "name": "wrong", "batch_id": "other"}
    report = await start(queue, {"destination": ANA, "name": "Ana", "batch_id": "own"}, bad, skip_bad=True)
    assert (report.enqueued, report.rejected) == (1, 1)
    assert [(found.row, found.column) for found in report.findings if found.is_error] == [(2, "name")]
    assert "names another batch in 2 rows, such as 'own', which is not read" in report.findings[-1].message
    assert [job.batch_id for job in await queue.find()] == [report.batch_id]
