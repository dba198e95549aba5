"""What 8x8 reports of the account's numbers: what is told of it, and which queues it holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE
from tests.support.manual_time import passing_beside
from tests.support.stores import clocked
from tests.support.voices import ScriptedVoice, created
from tests.support.workers import NO_WEBHOOKS, enqueued, worker_for
from tests.webhooks.test_printed_events import OTHER, numbers
from voiceflow_worker import CallQueue
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.own_numbers import READ_EVERY, OwnNumbers, SourceCheck
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.reports.events import NumbersUpdated, parse_event
from voiceflow_worker.reporting.status import read_status
from voiceflow_worker.service.metrics import QueueFigures, metrics_text
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio

store = clocked("memory")
SPARE = "+6531234569"


async def report(store: Store, *states: tuple[str, str], day: int = 17) -> None:
    event = parse_event(numbers(*states, at=f"2026-02-{day}T05:10:14.760Z"))
    assert isinstance(event, NumbersUpdated)
    await OwnNumbers(store).note(event)


async def hold(store: Store, queue: str = "default") -> str:
    """The reason of the hold of a queue; empty without one."""
    now = store.clock.now()
    return next((gate.reason for gate in await gates_of(store, queue) if gate.is_closed(at=now)), "")


async def test_a_number_that_is_not_active_is_told_until_it_is_and_the_newest_report_counts(store: Store) -> None:
    queue = CallQueue(store, policy=NO_WEBHOOKS)
    await report(store, (SOURCE, "Unhealthy"), (OTHER.removeprefix("+"), "EXPIRING"), (SPARE, "Suspended"))
    await report(store, (SOURCE, "Active"), day=16)  # an older one that came late
    found = (await read_status(store, "default", clock_skew=timedelta(), summary_deadline=timedelta(hours=2))).numbers
    assert [(each.number, each.status) for each in found] == [
        (SOURCE, "Unhealthy"),
        (OTHER, "EXPIRING"),
        (SPARE, "Suspended"),
    ]
    text = metrics_text(QueueFigures(queue=await read_queue(queue))).decode()
    for state, count in {"unhealthy": 1, "expiring": 1, "suspended": 1, "inactive": 0}.items():
        assert f'voiceflow_account_numbers{{state="{state}"}} {count}.0' in text
    await report(store, (SOURCE, "Active"), (SPARE, "Active"), day=18)
    assert [each.number for each in await OwnNumbers(store).not_active()] == [OTHER]
    assert await hold(store) == ""


async def test_an_inactive_source_holds_the_queues_whose_calls_wait_for_it_and_no_others(store: Store) -> None:
    await enqueued(store, 2)
    await CallQueue(store, "reminders").hold(reason="for a test")
    await report(store, (OTHER, "Inactive"), (SOURCE, "Unhealthy"))
    assert await hold(store) == "", "nobody calls from it"
    await report(store, (SOURCE, "Inactive"), day=18)
    assert SOURCE in await hold(store)
    assert "voiceflow batches edit" in await hold(store), "the hold has its remedy"
    assert await hold(store, "reminders") == "for a test"


async def test_a_person_may_resume_and_the_number_holds_the_queue_again_only_once_it_is_inactive_anew(
    store: Store, clock: ManualClock
) -> None:
    queue = await enqueued(store, 2)
    await report(store, (SOURCE, "Inactive"))
    await queue.resume()
    await report(store, (SOURCE, "Inactive"))
    await report(store, (SOURCE, "Inactive"), day=18)
    check = SourceCheck(store, "default")
    check.leased((await queue.find())[:1])
    await check.check()
    assert await hold(store) == "", "what the person knows already"
    clock.advance(timedelta(seconds=READ_EVERY))
    await report(store, (SOURCE, "Active"), day=19)
    await report(store, (SOURCE, "Inactive"), day=20)
    assert SOURCE in await hold(store)


async def test_a_worker_holds_its_queue_at_the_first_call_from_a_number_that_was_inactive_before(
    store: Store, clock: ManualClock
) -> None:
    await report(store, (SOURCE, "Inactive"))
    await enqueued(store, 20)
    voice = ScriptedVoice(answer=lambda _: created())
    worker = worker_for(store, voice, rate=2, concurrency=1)

    async def watch() -> None:
        while not await hold(store):
            await clock.sleep(0.2)
        clock_at = clock.now()
        while clock.now() < clock_at + timedelta(seconds=5):
            await clock.sleep(0.5)
        worker.stop()

    await passing_beside(clock, [worker], watch)
    assert len(voice.placed) < 10


async def test_no_hold_is_stored_of_a_number_that_has_become_active_meanwhile(store: Store) -> None:
    await enqueued(store, 1)

    async def is_active_again(call: StoreCall) -> None:
        writes = call.arguments[0].writes if call.name == "write" else ()
        if any(put.namespace == GATES for write in writes for put in write.puts):
            await report(store, (SOURCE, "Active"), day=19)

    await report(FaultyStore(store, before=is_active_again), (SOURCE, "Inactive"), day=18)
    assert await hold(store) == ""
    assert not [gate for gate in await gates_of(store, "default") if gate.state is GateState.HELD]
