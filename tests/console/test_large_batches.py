"""Batches that are large, which are counted in the background, and stores of many batches."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import httpx
import pytest

from tests.console.signing_in import READERS, receiver, signed_in, with_pages
from tests.console.test_pages import Page, enqueued
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from voiceflow_worker import CallQueue, CallRequest, Store, open_store
from voiceflow_worker.console.routes import batches as batch
from voiceflow_worker.core.ports.background import failing_here
from voiceflow_worker.core.ports.reading import totals_of
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.reporting import breakdown
from voiceflow_worker.reporting.breakdown import COUNTED_AGAIN, LargeBreakdowns

pytestmark = pytest.mark.anyio

ADDRESS = "/ui/batches/march"
CALLS = 7


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are large from five calls on, and are counted two calls at a time."""
    monkeypatch.setattr(batch, "MOST_BROKEN_DOWN", 4)
    monkeypatch.setattr(breakdown, "PAGE", 2)


async def campaign(store: Store) -> Engine:
    engine = Engine(store, ScriptedVoice())
    for place in range(CALLS):
        await engine.enqueue(number(place), batch_id="march")
    for job in (await engine.send())[:3]:
        await engine.summarise(job)
    return engine


async def shows(client: httpx.AsyncClient, *texts: str) -> str:
    """Open the page again and again until it shows these."""
    told = ""

    async def has_them() -> bool:
        nonlocal told
        told = Page((await client.get(ADDRESS)).text).text
        return all(text in told for text in texts)

    await until(has_them)
    return told


def in_english(at: datetime) -> str:
    return f"{at:%b} {at.day}, {at:%Y}, {int(f'{at:%I}')}:{at:%M:%S %p} UTC"


async def test_it_is_counted_in_the_background_and_shown_with_its_time(store_url: str) -> None:
    clock = ManualClock()
    async with open_store(store_url, clock=clock) as store:
        engine = await campaign(store)
        whole = with_pages(store)
        async with whole.running(), signed_in(whole.app, READERS) as client:
            assert "Reasons, times and countries are being counted: 0 % of 7 calls" in (
                Page((await client.get(ADDRESS)).text).text
            )
            at = clock.now()
            told = await shows(client, "By country", "SG 7 3 3 100 %", f"as of {in_english(at)}")
            found = (await engine.queue.report("march")).breakdown
            assert found is not None
            assert f"attempts, with times in {found.time_zone}" in told
            (step,) = found.over_time
            assert f"{step.at:%H:%M} 3 3" in told
            live = await client.get(ADDRESS, headers={"X-Voiceflow-Live": ""})
            assert "By country" in live.text, "it comes into a page that is open"

            await enqueued(store, 1, batch_id="march")
            clock.advance(COUNTED_AGAIN - timedelta(seconds=2))
            assert "SG 7 3 3 100 %" in Page((await client.get(ADDRESS)).text).text, "not again before its time"
            clock.advance(timedelta(seconds=3))
            await shows(client, "SG", "8 3 3 100 %", f"as of {in_english(clock.now())}")


async def test_a_batch_that_has_not_changed_is_not_counted_again(memory: Store) -> None:
    clock, asked = ManualClock(), list[str]()

    async def note(call: StoreCall) -> None:
        asked.append(call.name)

    async with open_store("memory://", clock=clock) as store:
        await campaign(store)
        large = LargeBreakdowns(FaultyStore(store, before=note))
        totals = await totals_of(store, "default", "march")
        assert large.breakdown("default", "march", totals) is None, "nothing counts here yet"
        async with large.running():
            await until(
                lambda: (found := large.breakdown("default", "march", totals)) is not None and found.at is not None
            )
            reads = len(asked)
            for _ in range(10):
                clock.advance(COUNTED_AGAIN * 2)
                found = large.breakdown("default", "march", totals)
                assert (found is not None and found.share is None, len(asked)) == (True, reads)


async def test_a_store_that_was_away_meanwhile_ends_neither_the_receiver_nor_the_count() -> None:
    clock, away = ManualClock(), True

    async def fail(call: StoreCall) -> None:
        if away and call.name == "jobs":
            raise StoreUnavailableError("gone")

    async with open_store("memory://", clock=clock) as store:
        await campaign(store)
        large, totals = LargeBreakdowns(FaultyStore(store, before=fail)), await totals_of(store, "default")
        async with large.running():
            large.breakdown("default", "march", totals)
            await until(lambda: not large._due)
            found = large.breakdown("default", "march", totals)
            assert (found is not None and found.breakdown is None, dict(large._due)) == (True, {}), "not at once again"
            assert "the calls of a batch were not counted for a page" in failing_here()
            away = False
            clock.advance(COUNTED_AGAIN)
            await until(
                lambda: (found := large.breakdown("default", "march", totals)) is not None and found.at is not None
            )


PAGES = (
    "", "/batches", "/batches?name=batch%201", "/batches/batch%207?queue=default", "/calls", "/calls?batch=batch%207",
    "/calls?state=queued", "/calls/{call}", "/doubts", "/escalations", "/schedules", "/suppression", "/campaign",
    "/act/hold?queue=default&batch=batch%207", "/act/hold?of=default/batch%207&of=default/batch%208",
    "/act/cancel-call?filter=batch%3Dbatch%207", "/act/redial?filter=batch%3Dbatch%207%26outcome%3Dbusy",
    "/export/csv?filter=batch%3Dbatch%207", "/?find=%2B6581234567",
)  # fmt: skip


async def many_batches(store: Store, first: int, last: int) -> None:
    """So many batches of two calls."""
    for start in range(first, last, 500):
        await CallQueue(store).enqueue_many(
            [
                CallRequest(flow=flow(f"+65{80000000 + 2 * place + turn}"), batch_id=f"batch {place}")
                for place in range(start, min(start + 500, last))
                for turn in range(2)
            ]
        )


async def trips_of_pages(store: Store) -> dict[str, int]:
    """How often each page asks the store."""
    counted = FaultyStore(store)
    (call, *_) = await CallQueue(store).find(batch_id="batch 7")
    trips = dict[str, int]()
    async with signed_in(receiver(counted)) as client:
        for path in PAGES:
            before = sum(counted.made.values())
            answer = await client.get(f"/ui{path.format(call=call.id)}")
            assert answer.status_code in {200, 303, 409}, path
            trips[path] = sum(counted.made.values()) - before
    return trips


async def test_a_page_asks_a_store_of_many_batches_no_more_often_than_one_of_few(memory: Store) -> None:
    await many_batches(memory, 0, 60)
    few = await trips_of_pages(memory)
    await many_batches(memory, 60, 600)
    many = await trips_of_pages(memory)
    assert few["/batches"] < 20, "no round trip for each of its 50 batches"
    # The place of the last events is found by halving. A search looks through so many names, and no more.
    most = {path: count + 8 for path, count in few.items()} | {"/batches?name=batch%201": 100}
    assert {path: (few[path], count) for path, count in many.items() if count > most[path]} == {}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store_url", ["sqlite", "postgres", "redis"], indirect=True)
async def test_each_page_is_there_in_half_a_second_with_20_000_batches(store: Store) -> None:
    await many_batches(store, 0, 20_000)
    (call, *_) = await CallQueue(store).find(batch_id="batch 7")
    took = dict[str, float]()
    async with signed_in(receiver(store)) as client:
        for path in PAGES:
            if path.startswith("/export"):  # another process writes it
                continue
            times = list[float]()
            for _ in range(3):
                begun = time.perf_counter()
                answer = await client.get(f"/ui{path.format(call=call.id)}")
                times.append(time.perf_counter() - begun)
                assert answer.status_code in {200, 303, 409}, path
            took[path] = round(min(times), 3)
    print(took)  # noqa: T201 - the figures
    assert {path: seconds for path, seconds in took.items() if seconds > 0.5} == {}
