"""Rows whose calls have ended, and rows that are ordered again by who makes their keys: what stands adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.campaigns.conftest import EACH_STORE
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.started import report_of
from voiceflow_worker import (
    CallQueue,
    Campaign,
    SuppressionList,
)
from voiceflow_worker.campaigns.calls.options import read_again
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Insert
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import IllegalMoveError, InvalidInputError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

pytestmark = pytest.mark.anyio

PEOPLE = [f"+6587654{place:03}" for place in range(4)]


def campaign(*, keys: bool = False, people: Sequence[str] = PEOPLE, **more: object) -> Campaign:
    rows = [{"destination": each, **({"unique_key": f"k{each}"} if keys else {})} for each in people]
    fields = {
        "say": "Hello",
        "window": "any",
        "source": "+6531234567",
        "voice_profile": "en-US-JennyNeural",
        "batch": "people",
    }
    return Campaign.of({**fields, "rows": rows, **more})


async def all_of(queue: CallQueue) -> list[Job]:
    return list(await queue.find(limit=None))


async def waiting(queue: CallQueue) -> list[Job]:
    return list(await queue.find(states=[JobState.QUEUED], limit=None))


@EACH_STORE
async def test_the_corrected_file_after_a_cancel_says_how_many_and_calls_them_by_a_word(store: Store) -> None:
    queue = CallQueue(store)
    await campaign().start(queue)
    for job in (await all_of(queue))[:3]:
        await queue.cancel(job.id)
    corrected: dict[str, Any] = {"window": "09:00-18:00", "priority": "5", "skip_bad": True}
    report = await report_of(campaign(**corrected).start(queue))
    assert (report.enqueued, report.duplicates, report.as_json()["ended"]) == (0, 3, {"cancelled": 3})
    waits, found = report.findings
    assert waits.fields == ("replace", "batch")
    assert found.message.startswith("3 rows had a call, which has ended, and nobody is called for them: 3 cancelled")
    assert "If the batch was cancelled as a whole, take another `batch`" in found.message
    assert ("again" in found.fields, found.is_error, report.calls_nobody) == (True, False, False)
    assert (report.refused, report.plan["cancelled_by_person"], report.plan["changed"]) == (True, 3, 1)
    corrected["replace"] = True
    assert (await campaign(**corrected, again="expired").start(queue)).enqueued == 0
    preview = await campaign(**corrected, again="cancelled").preview(queue)
    assert (preview.valid, preview.changed, preview.ended) == (3, 0, {})
    report = await campaign(**corrected, again="cancelled").start(queue)
    assert (report.enqueued, report.changed) == (3, 0)
    called = [job for job in await waiting(queue) if job.window is not None]
    assert sorted((job.destination, job.priority) for job in called) == [(each, 5) for each in PEOPLE]
    report = await campaign(**corrected, again="cancelled").start(queue)
    assert (report.enqueued, report.duplicates, report.ended) == (0, 4, {})


@EACH_STORE
async def test_rows_with_keys_of_their_own_are_called_in_another_batch_with_another_text(store: Store) -> None:
    """The batch was cancelled for good, and the text corrected: no row is a duplicate, nor a stranger's key."""
    queue = CallQueue(store)
    await campaign(keys=True).start(queue)
    await queue.cancel_batch("people")
    same = await campaign(keys=True, batch="april").start(queue)
    assert (same.enqueued, same.duplicates, same.ended, same.calls_nobody) == (0, 4, {JobState.CANCELLED: 4}, True)
    other = await report_of(campaign(keys=True, batch="april", say="Good day").start(queue))
    assert (other.ended, other.calls_nobody) == ({JobState.CANCELLED: 4}, True)
    assert "again" in other.findings[0].fields
    report = await report_of(campaign(keys=True, batch="april", say="Good day", again=["cancelled"]).start(queue))
    assert (report.enqueued, report.findings) == (4, ())
    for job in await all_of(queue):
        if job.batch_id == "people":
            (successor,) = await queue.find(unique_key=f"k{job.destination}")
            assert (job.state, job.unique_key, job.successor) == (JobState.CANCELLED, None, successor.id)
            with pytest.raises(IllegalMoveError, match=f"enqueued again as call {successor.id}"):
                await queue.redial(job.id)
            found = successor.batch_id, successor.state, "Good day" in successor.body
            assert found == ("april", JobState.QUEUED, True)


@EACH_STORE
@pytest.mark.parametrize("state", [JobState.EXPIRED, JobState.FAILED])
async def test_each_state_is_counted_and_called_by_its_own_word(store: Store, state: JobState) -> None:
    queue, policy = CallQueue(store), CallPolicy()
    await campaign().start(queue)
    at = store.clock.now()

    def end(job: Job) -> Job:
        return lifecycle.ended(job, state, at=at, reason="over", policy=policy)

    first = (await all_of(queue))[0]
    assert await Changes(store, policy).change_all([first], end) == 1
    report = await campaign().start(queue)
    assert (report.ended, report.enqueued) == ({state: 1}, 0)
    report = await campaign(again=f"cancelled,{state}").start(queue)
    assert (report.enqueued, report.duplicates) == (1, 3)
    assert len(await waiting(queue)) == 4


async def cancelled(store: Store, **more: Any) -> CallQueue:
    """A queue with a batch of which each call was cancelled."""
    queue = CallQueue(store, **more)
    await campaign().start(queue)
    for job in await all_of(queue):
        await queue.cancel(job.id)
    return queue


@EACH_STORE
async def test_a_call_that_is_redialled_meanwhile_is_not_made_again(store: Store) -> None:
    queue, redialled = await cancelled(store), list[str]()

    async def redial(call: StoreCall) -> None:
        is_first = call.name == "write" and not redialled
        if is_first and any(isinstance(each, Insert) for each in call.arguments[0].writes[0].changes):
            redialled.append((await all_of(queue))[0].id)
            await queue.redial(redialled[0])

    report = await campaign(again="cancelled").start(CallQueue(FaultyStore(store, before=redial)))
    assert (report.enqueued, report.duplicates) == (3, 1)
    assert sorted(job.destination for job in await waiting(queue)) == PEOPLE


@EACH_STORE
async def test_a_call_that_was_deleted_is_made_again_too(store: Store) -> None:
    queue = CallQueue(store, policy=CallPolicy(retention=timedelta(0)))
    await campaign(keys=True).start(queue)
    for job in await all_of(queue):
        await queue.cancel(job.id)
    assert await Sweeper(store, queue="default", policy=CallPolicy(retention=timedelta(0))).prune() == 4
    assert (await campaign(keys=True).start(queue)).ended == {JobState.CANCELLED: 4}
    assert (await campaign(keys=True, again="cancelled").start(queue)).enqueued == 4
    assert (await campaign(keys=True, again="cancelled").start(queue)).duplicates == 4


@EACH_STORE
async def test_a_suppressed_person_is_not_called_again(store: Store) -> None:
    queue = await cancelled(store)
    await SuppressionList(store).add(PEOPLE[0])
    report = await campaign(again="cancelled").start(queue)
    assert (report.enqueued, report.suppressed) == (3, 1)


def test_the_word_is_read_alike_everywhere_and_another_is_refused_with_the_right_ones() -> None:
    value: Any
    for value, means in (
        (True, True), ("yes", True), ("no", False), ("Cancelled", {"cancelled"}),
        ("cancelled, expired", {"cancelled", "expired"}), (["failed"], {"failed"}),
    ):  # fmt: skip
        assert read_again(value) == (means if isinstance(means, bool) else frozenset(means))
    for value in ("canceled", "", "completed", "cancelled,unreached", [], 3, "yes,cancelled"):
        with pytest.raises((ValueError, InvalidInputError), match="cancelled,expired,failed"):
            read_again(value)


# -- keys that hold within the batch ---------------------------------------------------------------------------------


@EACH_STORE
async def test_a_key_or_a_number_is_one_call_of_its_batch_whatever_its_row_says(store: Store) -> None:
    queue, ana, ben = CallQueue(store), "+6587654321", "+6587654322"
    fields = {"say": "Hello {{name}}.", "window": "any", "source": "+6531234567", "voice_profile": "en-US-JennyNeural"}

    async def start(batch: str, *rows: dict[str, str]) -> EnqueueReport:
        made = Campaign.of({**fields, "batch": batch, "rows": rows})
        made = replace(made, only_new=True, options=replace(made.options, keys_in_batch=True))
        return await report_of(made.start(queue))

    first = [{"destination": ana, "name": "Ana"}, {"destination": ana, "name": "Ana", "unique_key": "k"}]
    assert (await start("a", *first)).enqueued == 2
    other = [{**each, "name": "Ann"} for each in reversed(first)]
    assert (await start("a", *other, {"destination": ben, "name": "Ben"})).enqueued == 1, "the others stay as they are"
    assert (await start("b", *first)).enqueued == 2, "another batch has its own keys, and may say the same"
    assert (await start("c", first[0], {**first[0], "name": "Bo"})).refused, "two different calls of one key"
    assert len(await queue.find()) == 5
