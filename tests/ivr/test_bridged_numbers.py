"""Numbers that a menu connects a caller to: looked up in the suppression list, and not while a queue calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock, commit
from tests.ivr.asking import OURS, Heard, Line, Receiver
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, CallPolicy, CallQueue, End, Job, Menu, Store, SuppressionList
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.writes import BRIDGE, NUMBER, SECOND_PARTY, changed
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.outcome import CallLeg
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

ANA, BEN, DESK = (number(place) for place in range(3))


def put_through(*, fallback: End | CallFlow | None = None) -> Menu:
    menu = Menu("main", prompt="Press 1 for the desk.", voice_profile="en-US-X", fallback=fallback or End("Goodbye."))
    menu.on("1", goto=CallFlow.bridge(source=OURS, destination=DESK))
    return menu


async def called(store: Store, menu: Menu, destination: str) -> Job:
    engine = Engine(store, ScriptedVoice())
    job = await engine.queue.enqueue(menu.call(destination, source=OURS), menu=menu.name)
    await engine.send()
    return await engine.queue.get(job.id)


async def waits_for(store: Store, destination: str) -> str | None:
    """A call of a queue to this number is to be sent: why it waits."""
    engine = Engine(store, ScriptedVoice())
    job = await engine.enqueue(destination)
    await engine.send()
    return (await engine.queue.get(job.id)).reason


async def pressed_1(store: Store, menu: Menu, receiver: Receiver, destination: str = ANA) -> Heard:
    return await Line.of(await called(store, menu, destination)).press(receiver, "1")


async def standing(store: Store, namespace: str) -> dict[str, str]:
    found = await store.records({namespace: Page()}, now=store.clock.now())
    return {record.group: record.value for record in found[namespace]}


async def put_through_to_the_desk(store: Store) -> Job:
    """The call of Ana, who has pressed 1."""
    menu = put_through()
    job = await called(store, menu, ANA)
    assert (await Line.of(job).press(Receiver.of(store, menu), "1")).connected_to == DESK
    return job


async def test_a_menu_bridges_to_nobody_on_the_suppression_list(store: Store) -> None:
    menu = put_through()
    receiver = Receiver.of(store, menu)
    await SuppressionList(store).add(DESK, reason="asked by mail")
    with capture_logs() as logs:
        answer = await pressed_1(store, menu, receiver)
    assert (answer.text, answer.connected_to) == ("Goodbye.", None)
    assert receiver.count("not_bridged") == 1
    event = "a menu could not go on: the caller got its fallback or a hang-up"
    (line,) = [each for each in logs if each["event"] == event]
    assert "asked by mail" in line["reason"]


async def test_a_fallback_that_bridges_to_the_same_number_hangs_up(store: Store) -> None:
    fallback = CallFlow.reply().say("Hold on.", voice_profile="en-US-X").bridge(source=OURS, destination=DESK)
    menu = put_through(fallback=fallback)
    await SuppressionList(store).add(DESK)
    assert await pressed_1(store, menu, Receiver.of(store, menu)) == Heard("", asks=False, connected_to=None)


async def test_nobody_is_put_through_to_somebody_whom_a_queue_calls(store: Store) -> None:
    menu = put_through()
    receiver = Receiver.of(store, menu)
    other = await called(store, menu, DESK)
    answer = await pressed_1(store, menu, receiver)
    assert (answer.text, answer.connected_to) == ("Goodbye.", None)
    assert (await standing(store, NUMBER))[number_digest(DESK, store_id=store.id)] == f"{other.id}.1"


async def settled(store: Store, job: Job, *, rang: bool = True) -> None:
    """The summary of a call that was put through to the desk comes; `rang` says whether the desk rang."""
    summary = SessionSummary(
        session_id=job.session_id,
        status=SessionStatus.COMPLETED,
        client_request_id=f"{job.id}.1",
        call_a=CallLeg(destination=job.destination),
        call_b=CallLeg(destination=DESK) if rang else None,
    )
    await Engine(store, ScriptedVoice()).settler.summary(summary)


def meanwhile(store: Store, happens: Callable[[], Awaitable[object]]) -> FaultyStore:
    """The store; just before a bridge is first stored, something else happens."""
    begun: list[str] = []

    async def before(call: StoreCall) -> None:
        step = call.arguments[0] if call.name == "write" else None
        spaces = {put.namespace for write in step.writes for put in write.puts} if step else set()
        if BRIDGE in spaces and not begun:
            begun.append(call.name)
            await happens()

    return FaultyStore(store, before=before)


@pytest.mark.parametrize("rang", [True, False])
async def test_callers_reach_one_desk_at_a_time_and_queues_leave_it_alone_until_the_last_has_hung_up(
    store: Store, *, rang: bool
) -> None:
    menu = put_through()
    receiver = Receiver.of(store, menu)
    jobs = [await called(store, menu, destination) for destination in (ANA, BEN, number(4), number(5))]
    for job in jobs:
        assert (await Line.of(job).press(receiver, "1")).connected_to == DESK
    for job in jobs:
        assert await waits_for(store, DESK) == "its number is busy with another call"
        await settled(store, job, rang=rang)
    assert await locked(store) == []
    assert await waits_for(store, DESK) is None


async def test_a_call_of_a_queue_that_has_the_number_first_is_not_joined(store: Store) -> None:
    """The first bridge ends, and a queue takes the number, while a second bridge finds it held by the first."""
    menu = put_through()
    receiver = Receiver.of(store, menu)
    first, second = [await called(store, menu, destination) for destination in (ANA, BEN)]
    assert (await Line.of(first).press(receiver, "1")).connected_to == DESK
    sent: list[Job] = []

    async def taken() -> None:
        await settled(store, first)
        sent.append(await called(store, menu, DESK))

    late = Receiver.of(meanwhile(store, taken), menu)
    assert (await Line.of(second).press(late, "1")).connected_to is None
    assert [job.post_count for job in sent] == [1]
    await settled(store, second, rang=False)
    assert await standing(store, BRIDGE) == {}


@pytest.mark.parametrize("written", [DESK, DESK.removeprefix("+")])
async def test_a_shared_number_is_not_locked_by_a_bridge(store: Store, written: str) -> None:
    menu = put_through()
    receiver = Receiver.of(store, menu, policy=CallPolicy(shared_numbers=frozenset({written})))
    assert (await pressed_1(store, menu, receiver)).connected_to == DESK
    assert DESK not in await standing(store, NUMBER)


async def locked(store: Store) -> list[str]:
    """The numbers that have a lock, or a bridge beside."""
    wanted = {space: Page() for space in (NUMBER, SECOND_PARTY, BRIDGE)}
    found = await store.records(wanted, now=store.clock.now())
    return [record.group for records in found.values() for record in records]


async def test_the_desk_stays_locked_until_there_is_evidence_that_the_session_is_over(store: Store) -> None:
    job = await put_through_to_the_desk(store)
    unclear = SessionSummary(session_id=job.session_id, status=None, status_text="NEW", client_request_id=f"{job.id}.1")
    await Engine(store, ScriptedVoice()).settler.summary(unclear)
    assert await waits_for(store, DESK) == "its number is busy with another call"


async def test_a_summary_that_comes_after_the_job_has_ended_frees_the_desk_too(store: Store) -> None:
    job = await put_through_to_the_desk(store)
    job, now = await CallQueue(store).get(job.id), store.clock.now()
    await commit(store, [changed(job, lifecycle.give_up_waiting(job, at=now, policy=CallPolicy()), at=now)[1]])
    await settled(store, job, rang=False)
    assert DESK not in await locked(store)


async def test_ten_numbers_that_one_call_bridges_to_are_all_freed(store: Store) -> None:
    desks = {str(key): number(10 + key) for key in range(10)}
    menu = Menu("main", prompt="Press a key.", voice_profile="en-US-X", fallback=End("Goodbye."))
    for key, desk in desks.items():
        menu.on(key, goto=CallFlow.bridge(source=OURS, destination=desk))
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    line = Line.of(job)
    for key, desk in (*desks.items(), *desks.items()):
        assert (await line.elsewhere().press(receiver, key)).connected_to == desk
    await settled(store, job, rang=False)
    assert await locked(store) == []


async def test_a_key_press_that_comes_after_the_end_of_its_call_locks_nothing(store: Store) -> None:
    menu = put_through()
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    await settled(store, job, rang=False)
    assert (await Line.of(job).press(receiver, "1")).connected_to is None
    assert await locked(store) == []


async def test_a_call_that_ends_while_its_bridge_takes_its_lock_leaves_the_desk_free(store: Store) -> None:
    menu = put_through()
    job = await called(store, menu, ANA)
    ended: list[str] = []

    async def end() -> None:
        ended.append(job.id)
        await settled(store, job, rang=False)

    receiver = Receiver.of(meanwhile(store, end), menu)
    assert (await Line.of(job).press(receiver, "1")).connected_to is None
    assert ended
    assert await locked(store) == []


async def test_two_key_presses_at_once_leave_no_number_locked(store: Store) -> None:
    menu = put_through()
    menu.on("2", goto=CallFlow.bridge(source=OURS, destination=number(7)))
    menu.on("3", goto=CallFlow.bridge(source=OURS, destination=number(8)))
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    line = Line.of(job)
    assert (await line.elsewhere().press(receiver, "1")).connected_to is not None
    pressed: list[str | None] = []

    async def press_3() -> None:
        pressed.append((await line.elsewhere().press(receiver, "3")).connected_to)

    late = Receiver.of(meanwhile(store, press_3), menu)
    assert (await line.elsewhere().press(late, "2")).connected_to == number(7)
    assert pressed == [number(8)]
    await settled(store, job, rang=False)
    assert await locked(store) == []


async def test_a_refused_bridge_keeps_the_lock_of_a_desk_that_an_earlier_key_made_ring(store: Store) -> None:
    menu = put_through()
    menu.on("2", goto=CallFlow.reply().bridge(source=OURS, destination=DESK).bridge(source=OURS, destination=number(7)))
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    await called(store, menu, number(7))
    line = Line.of(job)
    assert (await line.elsewhere().press(receiver, "1")).connected_to == DESK
    assert (await line.elsewhere().press(receiver, "2")).connected_to is None
    assert await waits_for(store, DESK) == "its number is busy with another call"
    await settled(store, job)
    assert await waits_for(store, DESK) is None


async def test_a_call_that_ends_while_its_second_bridge_is_refused_leaves_the_desk_free(store: Store) -> None:
    menu = put_through()
    menu.on("2", goto=CallFlow.bridge(source=OURS, destination=number(7)))
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    other = await called(store, menu, number(7))
    line = Line.of(job)
    assert (await line.elsewhere().press(receiver, "1")).connected_to == DESK
    ended: list[str] = []

    async def end() -> None:
        ended.append(job.id)
        await settled(store, job, rang=False)

    late = Receiver.of(meanwhile(store, end), menu)
    assert (await line.elsewhere().press(late, "2")).connected_to is None
    assert ended
    assert await standing(store, NUMBER) == {number_digest(number(7), store_id=store.id): f"{other.id}.1"}


async def test_a_key_pressed_again_later_still_leaves_its_number_free_in_the_end() -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    menu = put_through()
    menu.on("2", goto=CallFlow.bridge(source=OURS, destination=number(7)))
    receiver = Receiver.of(store, menu)
    job = await called(store, menu, ANA)
    line = Line.of(job)
    for keys, minutes in (("1", 0), ("2", 50), ("1", 12)):
        assert (await line.elsewhere().press(receiver, keys)).connected_to is not None
        clock.advance(timedelta(minutes=minutes))
    await settled(store, job, rang=False)
    assert await locked(store) == []


async def test_the_same_key_twice_while_the_call_ends_leaves_the_desk_free(store: Store) -> None:
    menu = put_through()
    job = await called(store, menu, ANA)
    line = Line.of(job)
    ended: list[str] = []

    async def end() -> None:
        ended.append(job.id)
        await settled(store, job, rang=False)
        assert (await line.elsewhere().press(receiver, "1")).connected_to is None

    receiver = Receiver.of(meanwhile(store, end), menu)
    assert (await line.elsewhere().press(receiver, "1")).connected_to is None
    assert ended
    assert await locked(store) == []
