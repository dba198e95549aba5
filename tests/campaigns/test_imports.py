"""The import of a campaign, all or nothing: nobody rings before its last call is stored, wherever it was cut."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.campaigns.conftest import EACH_STORE
from tests.campaigns.reading import file_of
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.stores import EVERY
from voiceflow_worker import CallQueue
from voiceflow_worker.actions import ActionRefusedError, Operator
from voiceflow_worker.actions.imports import DiscardStaged, ReleaseStaged
from voiceflow_worker.campaigns import called_before
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.imports import stop_imports
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import ChangedSinceError, IntakeError, StoreUnavailableError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.reporting.batches import read_batch, read_batches

pytestmark = pytest.mark.anyio

PEOPLE = [f"+6587654{place:03}" for place in range(5)]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueueing, "CHUNK", 2)


def campaign(folder: Path, people: list[str] = PEOPLE, *, rows: bool = False, **more: str) -> Campaign:
    fields = {"say": "Hello", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "people", **more}
    if rows:
        return Campaign.of({**fields, "rows": [{"destination": each} for each in people]})
    return Campaign.of({**fields, "file": str(file_of(folder, "destination\n" + "\n".join(people) + "\n"))})


async def ringing(store: Store) -> list[str]:
    """The people whose phones would ring now."""
    now = store.clock.now()
    leased = await store.lease("default", worker_id="w", limit=99, until=now + timedelta(hours=1), now=now)
    return sorted(job.destination for job in leased)


@pytest.mark.parametrize(
    ("store", "rows"),
    [
        *((store, False) for store in EVERY if store != "postgres"),
        ("memory", True),
        pytest.param("postgres", False, marks=pytest.mark.slow),
    ],
    indirect=["store"],
)
async def test_a_start_that_dies_at_any_step_rings_nobody_and_the_same_start_completes_it(
    store: Store, tmp_path: Path, rows: bool
) -> None:
    stored = set[int]()
    for step in range(1, 20):
        batch, people = f"b{step}", [f"+65876{step:02}{place:03}" for place in range(3)]
        one, dies = campaign(tmp_path, people, batch=batch, rows=rows), Dies(step)
        try:
            await one.start(CallQueue(dies.over(store)))
        except StoreUnavailableError:
            calls = await CallQueue(store).find(batch_id=batch)
            stored.add(len(calls))
            assert await ringing(store) == [], "some ring, and others are not stored"
            if calls:
                hold = (await read_batch(store, "default", batch)).hold
                assert hold is not None
                assert "start the same campaign again" in hold.reason
            report = await one.start(CallQueue(store))
            assert (report.enqueued, report.duplicates, report.again) == (3 - len(calls), len(calls), 0)
        assert await ringing(store) == people
        if not dies.is_dead:
            break
    assert stored == {0, 2, 3}, "it died before, between and after the steps that store calls"


@EACH_STORE
async def test_of_a_batch_under_way_only_the_new_calls_wait(store: Store, tmp_path: Path) -> None:
    queue = CallQueue(store)
    await campaign(tmp_path, PEOPLE[:2]).start(queue)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path, PEOPLE[2:], priority="5").start(CallQueue(Dies(5).over(store)))
    assert len(await queue.find()) == 4
    drain = DrainCheck(store, queue="default", batch_id=None, policy=CallPolicy())
    assert not await drain.is_done()
    (progress,) = (await read_batches(store, ["default"])).batches
    assert progress.hold is not None
    assert (await queue.status()).waiting.hold == 2
    assert await ringing(store) == PEOPLE[:2]
    for job in await queue.find(states=[JobState.QUEUED]):
        await queue.cancel(job.id)
    await campaign(tmp_path, PEOPLE[2:], priority="5").start(queue)
    assert await ringing(store) == PEOPLE[4:], "and the two that a person cancelled stay so"


@EACH_STORE
async def test_a_start_with_other_people_leaves_a_cut_one_held_until_a_person_decides(
    store: Store, tmp_path: Path
) -> None:
    queue = CallQueue(store)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(6).over(store)))
    report = await campaign(tmp_path, [*PEOPLE[1:], "+6587654999"]).start(queue)
    (told,) = [found.message for found in report.findings]
    assert told.startswith("an earlier import of batch people was interrupted after 4 calls")
    assert "lack 1 of them" in told
    assert await ringing(store) == [PEOPLE[4], "+6587654999"]
    assert await queue.release_staged("people") == 4
    assert await ringing(store) == PEOPLE[:4]
    assert (await read_batch(store, "default", "people")).hold is None


@EACH_STORE
async def test_a_hold_and_a_resume_do_not_ring_the_calls_of_an_import_that_was_cut_and_corrected(
    store: Store, tmp_path: Path
) -> None:
    """The refusal advises to call these people again: they are called once, with the new text."""
    queue = CallQueue(store)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(6).over(store)))
    corrected = campaign(tmp_path, say="Good day")
    refused = await corrected.start(queue)
    (found,) = refused.findings
    assert (refused.refused, refused.again, Remedy.DECIDE_STAGED.sentence in found.message) == (True, 4, True)
    report = await replace(corrected, again=True).start(queue)
    assert (report.enqueued, "interrupted after 4 calls" in report.findings[0].message) == (5, True)
    await queue.hold()
    await queue.hold(batch_id="people")
    await queue.resume(batch_id="people")
    await queue.resume()
    assert await ringing(store) == PEOPLE
    operator = Operator(store, CallPolicy())
    ways = await ReleaseStaged(operator=operator, queue="default", batch="people").question()
    assert ways.will_be_called[0].startswith("4 calls: an import of batch people")
    assert ways.will_be_called[1].startswith("4 of these calls: and each of these people has another call")
    (progress,) = (await read_batches(store, ["default"])).batches
    assert (progress.staged, (await queue.status()).imports[0].calls) == (4, 4)
    done = await DiscardStaged(operator=operator, queue="default", batch="people").do()
    assert done.documents == ({"batch_id": "people", "discarded": 4},)
    assert (await read_batch(store, "default", "people")).hold is None
    assert await ringing(store) == []
    states = [job.state for job in await queue.find(batch_id="people")]
    assert sorted(states) == [JobState.CANCELLED] * 4 + [JobState.LEASED] * 5


@EACH_STORE
async def test_the_old_file_does_not_ring_people_whom_the_corrected_one_calls(store: Store, tmp_path: Path) -> None:
    """All of its calls were stored before it was cut, so that only its end is missing."""
    queue = CallQueue(store)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(7).over(store)))
    assert len(await queue.find()) == len(PEOPLE)
    await replace(campaign(tmp_path, say="Good day"), again=True).start(queue)
    assert await ringing(store) == PEOPLE
    report = await campaign(tmp_path).start(queue)
    assert (report.refused, report.again, report.enqueued) == (True, 5, 0)
    assert await ringing(store) == []


@EACH_STORE
@pytest.mark.parametrize("discards", [False, True])
async def test_an_import_that_goes_on_ends_when_its_calls_are_released_or_discarded(
    store: Store, tmp_path: Path, discards: bool
) -> None:
    queue, decided = CallQueue(store), list[int]()

    async def decide(call: StoreCall) -> None:
        if call.name == "write" and len(await queue.find()) == 2 and not decided:
            decided.append(2)
            await (queue.discard_staged("people") if discards else queue.release_staged("people"))

    with pytest.raises(IntakeError, match="released or discarded by somebody else"):
        await campaign(tmp_path).start(CallQueue(FaultyStore(store, before=decide)))
    assert decided
    assert len(await queue.find()) == 2, "nothing more is stored"
    assert await ringing(store) == ([] if discards else PEOPLE[:2])


@EACH_STORE
async def test_a_discard_that_dies_at_any_step_goes_on_with_the_same_order(store: Store, tmp_path: Path) -> None:
    queue = CallQueue(store)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(7).over(store)))
    for step in range(1, 20):
        dies = Dies(step)
        try:
            await CallQueue(dies.over(store)).discard_staged("people")
        except StoreUnavailableError:
            assert await ringing(store) == []
        if not dies.is_dead:
            break
    assert await queue.staged("people") == []
    assert {job.state for job in await queue.find()} == {JobState.CANCELLED}


@EACH_STORE
async def test_an_order_about_imports_that_have_changed_since_is_refused(store: Store, tmp_path: Path) -> None:
    queue, operator = CallQueue(store), Operator(store, CallPolicy())
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(6).over(store)))
    act = ReleaseStaged(operator=operator, queue="default", batch="people")
    seen = (await act.question()).version
    await queue.cancel((await queue.find(limit=1))[0].id)
    with pytest.raises(ChangedSinceError, match="batch people of queue default has changed since it was shown"):
        await act.do(seen)
    assert await ringing(store) == []
    assert (await act.do((await act.question()).version)).message == "3 staged calls of batch people may ring"
    with pytest.raises(ActionRefusedError, match="no staged calls"):
        await act.do()


@EACH_STORE
async def test_a_cut_start_is_cancelled_with_its_batch(store: Store, tmp_path: Path) -> None:
    queue = CallQueue(store)
    with pytest.raises(StoreUnavailableError):
        await campaign(tmp_path).start(CallQueue(Dies(6).over(store)))
    assert await queue.cancel_batch("people") == len(await queue.find(batch_id="people"))
    assert await ringing(store) == []
    (hold,) = (await queue.status()).holds
    assert hold.start is None


@EACH_STORE
@pytest.mark.parametrize("stored", [2, 4])
async def test_a_start_that_goes_on_is_not_ended_by_one_that_has_no_new_calls(
    store: Store, tmp_path: Path, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of its file is started beside it, and knows all of its calls."""
    monkeypatch.setattr(called_before, "TIMEOUT", timedelta(0))
    queue, others = CallQueue(store), list[bool]()

    async def another(call: StoreCall) -> None:
        if call.name == "write" and len(await queue.find()) == stored and not others:
            others.append(True)
            with pytest.raises(IntakeError):
                await campaign(tmp_path / "part", PEOPLE[:stored]).start(queue)
            assert await ringing(store) == []

    (tmp_path / "part").mkdir()
    await campaign(tmp_path).start(CallQueue(FaultyStore(store, before=another)))
    assert others
    assert await ringing(store) == PEOPLE


@EACH_STORE
async def test_one_write_stops_the_waiting_calls_of_ended_imports_whatever_they_have_been_through(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, policy = CallQueue(store), CallPolicy()
    await campaign(tmp_path).start(queue, token="stopped")
    await campaign(tmp_path, ["+6587655001"], say="Another").start(queue)
    now = store.clock.now()
    leased = await store.lease("default", worker_id="w", limit=2, until=now + timedelta(hours=1), now=now)
    for back in leased:
        await Changes(store, policy).change(back.id, partial(lifecycle.release, at=now, reason=None))

    async def cut(*_: object, **__: object) -> int:
        raise StoreUnavailableError("cut")

    async def stopped() -> int:
        imports = [("people", "stopped")]
        return await stop_imports(store, "default", imports, by=Actor(), reason="stopped", policy=policy)

    with monkeypatch.context() as patched:
        patched.setattr("voiceflow_worker.core.imports.discard_imports", cut)
        with pytest.raises(StoreUnavailableError):
            await stopped()
    assert await ringing(store) == ["+6587655001"]
    assert await stopped() == len(PEOPLE)
    assert (await count_states(store, "default"))[JobState.CANCELLED] == len(PEOPLE)
