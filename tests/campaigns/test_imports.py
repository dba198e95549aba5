"""The import of a campaign, all or nothing: nobody rings before its last call is stored, wherever it was cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.campaigns.conftest import EACH_STORE
from tests.campaigns.reading import file_of
from tests.support.faulty_store import Dies, FaultyStore, Loss, StoreCall
from tests.support.started import report_of
from tests.support.stores import EVERY
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.campaigns import plan
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import IntakeError, InvalidInputError, StoreUnavailableError
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
    fields = {
        "say": "Hello",
        "window": "any",
        "source": "+6531234567",
        "voice_profile": "en-US-JennyNeural",
        "batch": "people",
        **more,
    }
    if rows:
        return Campaign.of({**fields, "rows": [{"destination": each} for each in people]})
    return Campaign.of({**fields, "file": str(file_of(folder, "destination\n" + "\n".join(people) + "\n"))})


async def ringing(store: Store) -> list[str]:
    """The people whose phones would ring now."""
    now = store.clock.now()
    leased = await store.lease("default", worker_id="w", limit=99, until=now + timedelta(hours=1), now=now)
    return sorted(job.destination for job in leased)


async def cut(store: Store, step: int, one: Campaign) -> CallQueue:
    """The queue after a start that died at this step."""
    with pytest.raises(StoreUnavailableError):
        await one.start(CallQueue(Dies(step).over(store)))
    return CallQueue(store)


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


async def back(store: Store) -> None:
    """Bring the calls that are leased back into the queue, as a redial does."""
    for job in await CallQueue(store).find(states=[JobState.LEASED]):
        release = partial(lifecycle.release, at=store.clock.now(), reason=None)
        await Changes(store, CallPolicy()).change(job.id, release)


@EACH_STORE
async def test_of_a_batch_under_way_only_the_new_calls_wait(store: Store, tmp_path: Path) -> None:
    queue = CallQueue(store)
    await campaign(tmp_path, PEOPLE[:2]).start(queue)
    await cut(store, 5, campaign(tmp_path, PEOPLE[2:], priority="5"))
    assert len(await queue.find()) == 4
    drain = DrainCheck(store, queue="default", batch_id=None, policy=CallPolicy())
    assert not await drain.is_done()
    (progress,) = (await read_batches(store, ["default"])).batches
    assert progress.hold is not None
    assert (await queue.status()).waiting.hold == 2
    await queue.hold(batch_id="people")
    assert await ringing(store) == []
    await queue.resume(batch_id="people")
    for _ in range(2):  # redials go on, too
        assert await ringing(store) == PEOPLE[:2]
        await back(store)
    assert await ringing(store) == PEOPLE[:2]
    for job in await queue.find(states=[JobState.QUEUED]):
        await queue.cancel(job.id)
    await campaign(tmp_path, PEOPLE[2:], priority="5").start(queue)
    assert await ringing(store) == PEOPLE[4:], "and the two that a person cancelled stay so"


@EACH_STORE
@pytest.mark.parametrize("releases", [False, True])
async def test_a_start_with_other_people_is_refused_until_a_person_decides_about_the_cut_one(
    store: Store, tmp_path: Path, releases: bool
) -> None:
    queue = await cut(store, 6, campaign(tmp_path))
    people = [*PEOPLE[1:], "+6587654999"]
    for report in (
        await campaign(tmp_path, people).preview(queue),
        await report_of(campaign(tmp_path, people).start(queue)),
    ):
        (told,) = [found.message for found in report.findings if found.is_error]
        assert told.startswith("an import of batch people has not ended: 4 calls are held, of which these rows lack")
    assert (report.refused, await ringing(store)) == (True, [])
    await campaign(tmp_path, PEOPLE[:2], batch="others", say="Bye").start(queue)
    assert await ringing(store) == PEOPLE[:2], "another batch goes on"
    assert await (queue.release_staged("people") if releases else queue.discard_staged("people")) == 4
    assert await ringing(store) == (PEOPLE[:4] if releases else [])
    assert (await read_batch(store, "default", "people")).hold is None
    called = people[-2:] if releases else people
    assert (await campaign(tmp_path, people).start(queue)).enqueued == len(called)
    assert await ringing(store) == called, "nobody has cancelled a call: their import was discarded"


@EACH_STORE
async def test_a_corrected_text_is_refused_until_the_old_one_is_discarded(store: Store, tmp_path: Path) -> None:
    """Whether it would say `again` or not, wherever the old one was cut; no hold and no resume lets that ring."""
    queue = CallQueue(store)
    for step, staged in ((6, 4), (7, 5)):
        batch = f"b{staged}"
        await cut(store, step, campaign(tmp_path, batch=batch))
        corrected = campaign(tmp_path, batch=batch, say="Good day")
        for each in (corrected, replace(corrected, again=True)):
            report = await report_of(each.start(queue))
            assert (report.refused, report.enqueued) == (True, 0)
            assert any(found.kind == "import_cut" for found in report.findings)
        await queue.hold()
        await queue.hold(batch_id=batch)
        await queue.resume(batch_id=batch)
        await queue.resume()
        assert await ringing(store) == []
        (progress,) = [each for each in (await read_batches(store, ["default"])).batches if each.batch_id == batch]
        assert (progress.staged, (await queue.status()).imports[0].calls) == (staged, staged)
        assert await queue.discard_staged(batch) == staged
        assert (await replace(corrected, again=True).start(queue)).enqueued == len(PEOPLE)
        assert await ringing(store) == PEOPLE


Act = Callable[[CallQueue, str], Awaitable[object]]


async def hold_and_resume(queue: CallQueue, batch: str) -> None:
    await queue.hold(batch_id=batch)
    await queue.resume(batch_id=batch)


async def acted_on(
    store: Store, folder: Path, act: Act, step: int, people: list[str], *, dies: bool
) -> tuple[list[str], bool, bool]:
    """Three makers of one import: a person acts before this write of the first one, which then goes on or dies.

    The second one dies before the same write. Returns who rings meanwhile and then, whether there was such a write, and
    whether the act was done.
    """
    batch, rang, writes, done = f"b{step}", list[str](), count(1), list[int]()

    async def acts(call: StoreCall) -> None:
        if call.name == "write" and next(writes) == step:
            with suppress(InvalidInputError):  # it has no calls yet
                await act(CallQueue(store), batch)
                done.append(step)
            rang.extend(await ringing(store))
            if dies:
                first.lose(Loss.BEFORE, times=99)

    first = FaultyStore(store, before=acts)
    for at in (first, Dies(step).over(store), store):
        with suppress(IntakeError, InvalidInputError, StoreUnavailableError):
            await campaign(folder, people, batch=batch).start(CallQueue(at))
        rang += await ringing(store)
        assert rang in ([], people), step
    return rang, next(writes) > step, bool(done)


@EACH_STORE
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("act", [hold_and_resume, CallQueue.discard_staged, CallQueue.cancel_batch])
async def test_whatever_a_person_does_before_any_write_of_an_import_all_of_it_rings_or_nobody(
    store: Store, tmp_path: Path, act: Act, dies: bool
) -> None:
    acts = 0
    for step in count(1):
        people = [f"+65876{step:02}{place:03}" for place in range(3)]
        rang, goes_on, was_done = await acted_on(store, tmp_path, act, step, people, dies=dies)
        assert rang == ([] if act is CallQueue.cancel_batch and was_done else people), step
        assert await CallQueue(store).staged(f"b{step}") == [], step
        acts += was_done
        if not goes_on:
            break
    assert acts >= 2


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
    queue = await cut(store, 7, campaign(tmp_path))
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
@pytest.mark.parametrize("stored", [2, 4])
async def test_a_start_that_goes_on_is_not_ended_by_one_that_has_no_new_calls(
    store: Store, tmp_path: Path, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of its file is started beside it, and knows all of its calls."""
    monkeypatch.setattr(plan, "TIMEOUT", timedelta(0))
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
