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
from voiceflow_worker import (
    CallFlow,
    CallPolicy,
    CallQueue,
    Job,
    Menu,
    Store,
    SuppressionList,
)
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.writes import BRIDGE, NUMBER, SECOND_PARTY, changed
from voiceflow_worker.ivr import End
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.outcome import CallLeg
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

ANA, BEN, DESK = (number(place) for place in range(3))


def put_through(*desks: str, fallback: End | CallFlow | None = None) -> Menu:
    """A menu whose keys lead to these numbers; 1 to the desk, and others to numbers of their own."""
    menu = Menu("main", prompt="Press a key.", voice_profile="en-US-X", fallback=fallback or End("Goodbye."))
    for key, desk in enumerate(desks or (DESK, number(7), number(8)), 1):
        menu.on(str(key % 10), goto=CallFlow.bridge(source=OURS, destination=desk))
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


async def standing(store: Store, namespace: str) -> dict[str, str]:
    found = await store.records({namespace: Page()}, now=store.clock.now())
    return {record.group: record.value for record in found[namespace]}


async def put_through_to_the_desk(store: Store) -> Job:
    """The call of Ana, who has pressed 1."""
    menu = put_through()
    job = await called(store, menu, ANA)
    assert (await Line.of(job).press(Receiver.of(store, menu), "1")).connected_to == DESK
    return job


async def test_nobody_is_put_through_to_a_number_that_is_suppressed_or_called_by_a_queue(store: Store) -> None:
    hold_on = CallFlow.reply().say("Hold on.", voice_profile="en-US-X").bridge(source=OURS, destination=DESK)
    menus = put_through(), put_through(fallback=hold_on)
    kept = ""
    for kept_by in ("the list", "a call"):
        if kept_by == "the list":
            await SuppressionList(store).add(DESK, reason="asked by mail")
        else:
            await SuppressionList(store).remove(DESK)
            kept = f"{(await called(store, menus[0], DESK)).id}.1"
        for menu, said in zip(menus, ("Goodbye.", ""), strict=True):
            receiver = Receiver.of(store, menu)
            with capture_logs() as logs:
                heard = await Line.of(await called(store, menu, number(20 + len(logs)))).press(receiver, "1")
            assert heard == Heard(said, asks=False, connected_to=None), "a fallback that bridges there hangs up"
            if kept_by == "the list":
                event = "a menu could not go on: the caller got its fallback or a hang-up"
                (line, *_) = [each for each in logs if each["event"] == event]
                assert (receiver.count("not_bridged"), "asked by mail" in line["reason"]) == (1, True)
    assert (await standing(store, NUMBER))[number_digest(DESK, store_id=store.id)] == kept


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
    assert (await Line.of(await called(store, menu, ANA)).press(receiver, "1")).connected_to == DESK
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


RACES: dict[str, tuple[str, str, str, str | None]] = {
    "nothing, and the call has ended before": ("end", "1", "", None), "the call ends": ("", "1", "end", None),
    "the call ends, and the key comes again": ("", "1", "end 1", None), "another key comes": ("1", "2", "3", number(7)),
    "the call ends, whose other number is refused": ("1 busy", "2", "end", None),
    "time, after which a key comes again": ("1 later 2 later", "1", "", DESK),
    "many keys, each twice": ("1 2 3 1 2", "3", "", number(8)),
}  # fmt: skip
"""What happens before a key, the key, what happens before its bridge is stored, and to whom it leads."""


@pytest.mark.parametrize("race", RACES)
async def test_no_desk_stays_locked_whatever_happens_while_a_bridge_is_stored(race: str) -> None:
    clock, menu, (before, key, beside, connected) = ManualClock(), put_through(), RACES[race]
    store = MemoryStore(clock=clock)
    job, others = await called(store, menu, ANA), list[Job]()
    line = Line.of(job)

    async def happens(what: str, *, late: bool) -> None:
        for each in what.split():
            if each == "end":
                await settled(store, job, rang=False)
            elif each == "busy":
                others.append(await called(store, menu, number(7)))
            elif each == "later":
                clock.advance(timedelta(minutes=31))
            else:
                heard = await line.elsewhere().press(Receiver.of(store, menu), each)
                assert (heard.connected_to is None) == (late and "end" in what)

    await happens(before, late=False)
    receiver = Receiver.of(meanwhile(store, lambda: happens(beside, late=True)), menu)
    assert (await line.elsewhere().press(receiver, key)).connected_to == connected
    if "end" not in before + beside:
        await settled(store, job, rang=False)
    kept = {number_digest(number(7), store_id=store.id): f"{each.id}.1" for each in others}
    assert (await standing(store, NUMBER), await standing(store, BRIDGE)) == (kept, {})


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
