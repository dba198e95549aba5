"""The import of a list, all or nothing: its batch is held until the last call is stored, wherever it was cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.desk import FIELDS
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.stores import EVERY
from voiceflow_worker import CallQueue, JobState
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
from voiceflow_worker.campaigns.uncalled import UncalledList
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import IntakeError, InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.gate import HoldKind
from voiceflow_worker.model.jobs.job import ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.reporting.batches import read_batch
from voiceflow_worker.reporting.status import read_status

pytestmark = pytest.mark.anyio
PEOPLE = [f"+6587654{place:03}" for place in range(5)]
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueueing, "CHUNK", 2)


def campaign(people: Sequence[str] = PEOPLE, **more: Any) -> Campaign:
    rows = [{"destination": each, "name": "Ana", "hour": "9:30"} for each in people]
    return Campaign.of({**FIELDS, "batch": "people", "rows": rows, **more})


async def ringing(store: Store) -> list[str]:
    """The people whose phones would ring now."""
    now = store.clock.now()
    leased = await store.lease("default", worker_id="w", limit=99, until=now + timedelta(hours=1), now=now)
    return sorted(job.destination for job in leased)


async def cut(store: Store, one: Campaign, *, after: int = 3) -> None:
    """Start a campaign whose process dies after so many calls were stored."""
    stored = 0

    async def die(call: StoreCall) -> None:
        nonlocal stored
        inserts = call.name == "write" and any(each.changes for each in call.arguments[0].writes)
        if stored >= after:
            raise StoreUnavailableError("killed")
        stored += len(call.arguments[0].writes) if inserts else 0

    with pytest.raises(StoreUnavailableError):
        await one.start(CallQueue(FaultyStore(store, before=die)))


@pytest.mark.parametrize("store", EVERY, indirect=True)
async def test_a_start_that_dies_at_any_step_rings_nobody_and_the_same_list_completes_it(store: Store) -> None:
    stored = set[int]()
    for step in range(1, 30):
        batch, people = f"b{step}", [f"+65876{step:02}{place:03}" for place in range(3)]
        one, dies = campaign(people, batch=batch), Dies(step)
        try:
            await one.start(CallQueue(dies.over(store)))
        except StoreUnavailableError:
            calls = await CallQueue(store).find(batch_id=batch)
            stored.add(len(calls))
            has_ended = not (hold := (await read_batch(store, "default", batch)).hold) and len(calls) == 3
            assert has_ended or await ringing(store) == [], "some ring, and others are not stored"
            assert not calls or has_ended or (hold is not None and "import the same list again" in hold.reason)
            report = await one.start(CallQueue(store))
            assert (report.enqueued, report.duplicates, report.again) == (3 - len(calls), len(calls), 0)
        assert await ringing(store) == people
        if not dies.is_dead:
            break
    assert stored == {0, 2, 3}, "it died before, between and after the steps that store calls"


@EACH_STORE
async def test_a_cut_import_holds_its_batch_and_says_so(store: Store, clock: StillClock) -> None:
    queue = CallQueue(store)
    await campaign(PEOPLE[:2]).start(queue)
    await cut(store, campaign(PEOPLE[2:]), after=2)
    assert len(await queue.find()) == 4
    assert await ringing(store) == [], "those that the batch had are held too"
    assert not await DrainCheck(store, queue="default", batch_id=None, policy=CallPolicy()).is_done()
    await queue.hold(batch_id="people")
    gate = await queue.resume(batch_id="people")
    assert (gate.holder, await ringing(store)) == (HoldKind.IMPORT, []), "a person opens his own hold alone"
    assert await entries_on(store, "default", batch="people", limit=1) != []
    status = await read_status(store, "default", summary_deadline=MINUTE)
    assert ([each.name for each in status.holds], status.stopped_imports) == (["people"], ())
    clock.advance(11 * MINUTE)
    status = await read_status(store, "default", summary_deadline=MINUTE)
    assert [each.name for each in status.stopped_imports] == ["people"]
    await queue.hold(batch_id="people")
    await campaign(PEOPLE[2:]).start(queue)
    assert await ringing(store) == [], "the hold of the person stands through all of it"
    await queue.resume(batch_id="people")
    assert await ringing(store) == PEOPLE


@EACH_STORE
async def test_another_list_waits_a_minute_and_takes_a_cut_import_over(store: Store, clock: StillClock) -> None:
    queue = CallQueue(store)
    await campaign(PEOPLE[:1]).start(queue)
    await cut(store, campaign(PEOPLE[1:]))
    assert len(await queue.find()) == 5
    other = campaign([PEOPLE[0], PEOPLE[1], "+6587654900"])
    with pytest.raises(IntakeError, match="another list is being imported into batch people"):
        await other.start(queue)
    clock.advance(MINUTE)
    report = await other.start(queue)
    assert (report.enqueued, report.duplicates, report.removed) == (1, 2, 3)
    assert await ringing(store) == [PEOPLE[0], PEOPLE[1], "+6587654900"]
    gone = await queue.find(states=[JobState.CANCELLED])
    assert {job.reason_kind for job in gone} == {ReasonKind.REMOVED}
    assert [each.action for each in await entries_on(store, "default", batch="people")] == ["start", "start"]


@EACH_STORE
async def test_an_import_that_was_taken_over_is_planned_anew(store: Store, clock: StillClock) -> None:
    taken = False

    async def meanwhile(call: StoreCall) -> None:
        nonlocal taken
        if not taken and call.name == "write" and any(each.changes for each in call.arguments[0].writes):
            taken = True
            clock.advance(MINUTE)
            await campaign([*PEOPLE[:1], "+6587654900"]).start(CallQueue(store))

    report = await campaign().start(CallQueue(FaultyStore(store, before=meanwhile)))
    assert (report.enqueued, report.duplicates, report.plan["in_no_row"]) == (4, 1, 1)
    assert await ringing(store) == [*PEOPLE, "+6587654900"]


@EACH_STORE
async def test_two_starts_of_one_list_at_once_call_each_person_once(store: Store) -> None:
    begun = 0

    async def beside(call: StoreCall) -> None:
        nonlocal begun
        if call.name == "write" and begun < 1:
            begun += 1
            await campaign().start(CallQueue(store))

    report = await campaign().start(CallQueue(FaultyStore(store, before=beside)))
    assert (report.enqueued, report.duplicates) == (0, 5)
    assert await ringing(store) == PEOPLE


@EACH_STORE
async def test_a_cancel_ends_an_import_and_the_batch_takes_no_list(store: Store) -> None:
    queue = CallQueue(store)
    await cut(store, campaign())
    await queue.cancel_batch("people")
    assert not [each for each in await queue.find() if each.state is not JobState.CANCELLED]
    with pytest.raises(InvalidInputError, match="was cancelled, and its calls are never sent"):
        await campaign().start(queue)


@EACH_STORE
async def test_what_tells_rows_apart_is_a_fact_of_the_batch(store: Store) -> None:
    queue = CallQueue(store)
    keyed = [{"destination": each, "visit": each[-3:], "name": "Ana", "hour": "9"} for each in PEOPLE]
    fields: dict[str, Any] = {"columns": "unique_key=visit", "rows": keyed}
    await campaign().start(queue)
    with pytest.raises(RowsRefusedError, match="batch people distinguishes rows by their number"):
        await campaign(**fields).start(queue)
    await campaign(batch="visits", again="elsewhere", **fields).start(queue)
    empty = [*keyed, {"destination": "+6587654900", "visit": "", "name": "Bob", "hour": "9"}]
    with pytest.raises(RowsRefusedError, match="is empty, and other rows have a unique_key"):
        await campaign(batch="visits", again="elsewhere", columns="unique_key=visit", rows=empty).start(queue)
    other = [{**keyed[0], "hour": "10"}]
    with pytest.raises(RowsRefusedError, match=r"is the key of call default\.\w+ of queue default, batch visits"):
        await campaign(batch="others", columns="unique_key=visit", rows=other).start(queue)
    report = await campaign(batch="others", columns="unique_key=visit", rows=keyed[:1]).start(queue)
    assert (report.enqueued, report.duplicates) == (0, 1), "the same call, which stays in its batch"


@EACH_STORE
async def test_keys_and_words_count_over_the_queues_of_a_store(store: Store) -> None:
    keyed = [{"destination": PEOPLE[0], "unique_key": "order-42", "name": "Ana", "hour": "9"}]
    await campaign(rows=keyed).start(CallQueue(store))
    report = await campaign(rows=keyed).start(CallQueue(store, "evening"))
    assert (report.enqueued, report.duplicates) == (0, 1)
    await campaign(PEOPLE[1:], batch="numbers").start(CallQueue(store))
    with pytest.raises(RowsRefusedError, match="4 of 4 people looked up have a call with the same text in batch"):
        await campaign(PEOPLE[1:], batch="more").start(CallQueue(store, "evening"))


@EACH_STORE
async def test_the_rows_that_call_nobody_are_kept_with_their_batch(store: Store) -> None:
    def rows(*bad: str) -> list[dict[str, str]]:
        people = [*PEOPLE[:2], PEOPLE[0], *bad]
        return [{"destination": each, "name": "Ana", "hour": "9:30"} for each in people]

    async def kept() -> list[tuple[str, str, object]]:
        found = [each async for part in UncalledList(store, "default", "people").read() for each in part]
        return [(each.row, each.result, each.data["destination"]) for each in found]

    queue = CallQueue(store)
    await campaign(rows=rows("nobody"), skip_bad=True).start(queue)
    assert await kept() == [("3", "duplicate", PEOPLE[0]), ("4", "bad", "nobody")]
    await campaign(rows=rows(PEOPLE[4])).start(queue)
    assert await kept() == [("3", "duplicate", PEOPLE[0])], "in place of those of the earlier list"
