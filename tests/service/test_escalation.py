"""Escalations: one place after the other until somebody presses the key, whoever carries on with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import passing
from tests.support.stores import EVERY, clocked
from tests.support.voices import ScriptedVoice, refused, unknown
from voiceflow_worker import CallPolicy, CallQueue, CallWindow, Job, JobState, SuppressionList, open_store
from voiceflow_worker.core import audit
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Write
from voiceflow_worker.core.writes import ESCALATION
from voiceflow_worker.errors import EscalationNotFoundError, InvalidInputError, KeyConflictError, StoreVersionError
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.model.jobs.job import KeyPress, RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import EscalationRecord, EscalationStatus
from voiceflow_worker.service.escalation_store import OPEN
from voiceflow_worker.service.escalations import Escalations, acknowledge, advance_all, advancing
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

ANA, BEN, CHEN, DAN = "+6587654321", "+6587654322", "+6587654323", "+6587654324"


def escalation(*numbers: str | Sequence[str], **more: Any) -> Escalation:
    return Escalation(
        numbers=numbers or (ANA, BEN, CHEN), say="The disk is full.", source="+6531234567",
        voice_profile="en-IE-EmilyNeural", **more,
    )  # fmt: skip


store = clocked("memory")


LATER = [name if name == "memory" else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
on_every_store = pytest.mark.parametrize("store", LATER, indirect=True)


class Alarm:
    """A queue with escalations, and the worker and the people beside it, in single steps."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.escalations = Escalations(self.engine.queue)
        self.id = ""

    async def start(self, *numbers: str | Sequence[str], **more: Any) -> EscalationStatus:
        started = await self.escalations.start(escalation(*numbers, **more), key="incident-42")
        self.id = started.status.id
        return started.status

    async def look(self) -> EscalationStatus:
        return await self.escalations.advance(self.id)

    async def step(self, number: int) -> Job:
        (job,) = await self.engine.queue.find(unique_key=f"{self.id}/{number}")
        return job

    async def rings(self) -> list[str]:
        """Send what is due, and say who has rung so far, in order."""
        await self.engine.send()
        numbers = {job.id: job.number for job in await self.engine.queue.find(limit=None)}
        return [numbers[each.rpartition(".")[0]] for each in self.voice.client_request_ids]

    async def rang(self) -> list[str]:
        """As `rings`, in the order of the numbers: calls at once leave in any order."""
        return sorted(await self.rings())

    async def press(self, place: int, digits: str = "1", *, heard_by: Store | None = None) -> str:
        """Press a key in the call of a step; returns what is said then."""
        job = await self.step(place)
        calls = MenuCalls(self.store, self.engine.policy)
        caller = Caller(
            now=self.store.clock.now(),
            digits=digits,
            data=job.data or {},
            job=job,
            store=heard_by or self.store,
        )
        said = await acknowledge(caller)
        press = KeyPress(
            at=self.store.clock.now(), menu=ESCALATION, digits=digits, event_id=f"press-{place}",
            answer="yes" if digits == "1" else None,
        )  # fmt: skip
        await calls.pressed(MenuCall(job, job.post_count, ()), press, session_id=None)
        return str(said.text)

    async def works(self) -> None:
        """A worker of the queue is alive."""
        await Heartbeat(self.store, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()

    async def ends(self, place: int, status: SessionStatus = SessionStatus.NO_ANSWER) -> None:
        await self.engine.summarise(await self.step(place), status)


def told(status: EscalationStatus) -> list[str]:
    return [each.message for each in status.steps]


def results(status: EscalationStatus) -> list[str]:
    return [each.result for each in status.steps]


@on_every_store
async def test_one_after_the_other_until_somebody_presses_the_key(store: Store) -> None:
    alarm = Alarm(store)
    status = await alarm.start()
    assert (status.is_open, told(status)) == (
        True,
        ["waits to be called", "not called: earlier numbers come first", "not called: earlier numbers come first"],
    )
    assert await alarm.rings() == [ANA]
    assert told(await alarm.look())[0] == "is being called"
    assert await alarm.rings() == [ANA], "nobody else while she may answer"
    await alarm.ends(1)
    await alarm.look()
    assert await alarm.rings() == [ANA, BEN]
    await alarm.press(2)
    status = await alarm.look()
    assert told(status) == [
        "did not answer", "acknowledged with key 1", f"not called: {BEN} acknowledged before",
    ]  # fmt: skip
    assert results(status) == ["no_answer", "acknowledged", "not_called"]
    done = status.acknowledged
    assert done is not None
    assert (done.step, done.number, done.call_id) == (2, BEN, (await alarm.step(2)).id)
    assert (status.state, status.in_words()) == (
        "acknowledged",
        f"{BEN} acknowledged at 2026-01-05 10:00:00 UTC with key 1".replace(
            "2026-01-05 10:00:00", f"{done.at:%Y-%m-%d %H:%M:%S}"
        ),
    )
    await alarm.ends(2, SessionStatus.COMPLETED)
    await advance_all(store)
    assert await alarm.rings() == [ANA, BEN]
    assert (await alarm.escalations.get(alarm.id)).as_json()["acknowledged"] is not None


@on_every_store
async def test_when_all_were_called_it_ends_and_a_late_key_still_counts(store: Store) -> None:
    alarm = Alarm(store)
    status = await alarm.start(ANA, BEN, ANA)
    for step, end in enumerate((SessionStatus.BUSY, SessionStatus.COMPLETED, SessionStatus.NO_ANSWER), 1):
        await alarm.rings()
        await alarm.ends(step, end)
        status = await alarm.look()
    assert await alarm.rings() == [ANA, BEN, ANA], "a list may name a person twice"
    assert told(status) == ["was busy", "answered, and pressed no key", "did not answer"]
    assert (status.state, status.in_words()) == ("unanswered", f"none of {ANA}, {BEN}, {ANA} acknowledged")
    await alarm.press(2)
    status = await alarm.look()
    assert (status.state, status.acknowledged and status.acknowledged.step) == ("acknowledged", 2)


@on_every_store
async def test_the_same_key_is_the_same_status_and_another_request_is_refused(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.start()
    again = await alarm.escalations.start(escalation(), key="incident-42")
    assert (again.created, again.status.id) == (False, alarm.id)
    with pytest.raises(KeyConflictError):
        await alarm.escalations.start(escalation(BEN), key="incident-42")
    assert await alarm.rings() == [ANA]
    other = await alarm.escalations.start(escalation(CHEN), key="incident-43")
    assert other.created
    assert await alarm.escalations.find("incident-43") == other.status
    assert await alarm.escalations.find("incident-44") is None
    with pytest.raises(EscalationNotFoundError):
        await Escalations(CallQueue(store, "other")).get(alarm.id)


async def test_what_comes_from_the_settings_is_no_other_request(store: Store) -> None:
    escalations = Alarm(store).escalations
    asked = {"numbers": [ANA], "say": "Fire."}
    ours, changed = (
        load_settings(source=source, voice_profile="en-IE-EmilyNeural") for source in ("+6531234567", "+6531234568")
    )
    for settings in (ours, changed):
        started = await escalations.start(Escalation.of(asked, settings=settings), key="k", request=asked)
        assert started.status.escalation.source == "+6531234567"
    with pytest.raises(KeyConflictError):
        await escalations.start(Escalation.of(asked, settings=ours), key="k", request={**asked, "say": "Flood."})


# -- several at once --------------------------------------------------------------------------------------------------


@on_every_store
async def test_several_are_called_at_once_and_the_first_key_ends_it_for_all(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.engine.enqueue(DAN)
    await alarm.engine.send()
    await alarm.start(ANA, [BEN, CHEN, DAN], ANA)
    await alarm.rings()
    await alarm.ends(1)
    status = await alarm.look()
    assert [(each.step, each.number) for each in status.steps] == [(1, ANA), (2, BEN), (2, CHEN), (2, DAN), (3, ANA)]
    assert await alarm.rang() == [ANA, BEN, CHEN, DAN], "Dan's call is that of before"
    status = await alarm.look()
    assert status.in_words().startswith(f"at step 2 of 3: {BEN} is being called, {CHEN} is being called, {DAN} waits")
    await alarm.press(3)
    assert await alarm.press(2) == "Thank you. Somebody has acknowledged this alarm already."
    status = await alarm.look()
    assert (status.state, status.acknowledged and (status.acknowledged.step, status.acknowledged.number)) == (
        "acknowledged",
        (2, CHEN),
    )
    assert results(status) == ["no_answer", "pressed_late", "acknowledged", "cancelled", "not_called"]
    assert told(status)[3] == f"was not called: {CHEN} acknowledged"
    assert await alarm.rang() == [ANA, BEN, CHEN, DAN]


@pytest.mark.parametrize("last", ["ends", "is silent"])
async def test_a_step_of_several_is_over_when_all_of_its_calls_are(store: Store, clock: ManualClock, last: str) -> None:
    alarm = Alarm(store)
    await SuppressionList(store).add(DAN, reason="asked by mail")
    status = await alarm.start([DAN, "nobody", ANA, BEN], CHEN, rounds=2)
    assert (results(status)[:2], len(status.steps)) == (["suppressed", "refused"], 5)
    await alarm.rings()
    await alarm.ends(4, SessionStatus.BUSY)
    clock.advance(timedelta(seconds=209))
    status = await alarm.look()
    assert await alarm.rang() == [ANA, BEN]
    assert [each.step for each in status.steps] == [1, 1, 1, 1, 2]
    if last == "ends":
        await alarm.ends(3)
    clock.advance(timedelta(seconds=1))
    await alarm.look()
    assert await alarm.rang() == [ANA, BEN, CHEN]
    await alarm.ends(5)
    await alarm.look()
    assert await alarm.rang() == [ANA, ANA, BEN, BEN, CHEN]
    status = await alarm.look()
    assert [(each.step, each.round) for each in status.steps] == [(1, 1)] * 4 + [(2, 1)] + [(3, 2)] * 4 + [(4, 2)]


async def test_of_several_a_busy_phone_is_called_after_the_others(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    other = await alarm.engine.enqueue(BEN)
    await alarm.engine.send()
    await alarm.start([ANA, BEN], CHEN, answer_within=timedelta(seconds=30))
    for _ in range(16):
        await alarm.works()
        await alarm.rings()
        await alarm.look()
        clock.advance(timedelta(seconds=2))
    await alarm.works()
    status = await alarm.look()
    assert (results(status)[1], await alarm.rings()) == ("number_busy", [BEN, ANA])
    await alarm.ends(1)
    await alarm.look()
    assert await alarm.rings() == [BEN, ANA, CHEN]
    await alarm.engine.summarise(await alarm.engine.queue.get(other.id), SessionStatus.COMPLETED)
    await alarm.ends(3)
    await alarm.look()
    assert await alarm.rings() == [BEN, ANA, CHEN, BEN]
    await alarm.ends(4)
    status = await alarm.look()
    assert (status.state, [(each.step, each.number) for each in status.steps]) == (
        "unanswered",
        [(1, ANA), (1, BEN), (2, CHEN), (3, BEN)],
    )


async def test_a_number_that_stands_twice_among_several_is_called_once(store: Store) -> None:
    alarm = Alarm(store)
    status = await alarm.start(["8765 4321", ANA, BEN], [ANA], country="SG")
    assert status.escalation.numbers == (("8765 4321", BEN), ANA)
    assert await alarm.rang() == [ANA, BEN]


async def test_a_hold_after_some_of_several_have_rung_spends_no_step(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    await alarm.engine.enqueue(BEN)
    await alarm.engine.send()
    await alarm.start([ANA, BEN], CHEN, answer_within=timedelta(seconds=30))
    await alarm.works()
    await alarm.rings()
    await alarm.engine.queue.hold(reason="a wrong number")
    assert (await alarm.look()).blocked is None, "Ana may still answer"
    await alarm.ends(1)
    clock.advance(timedelta(minutes=5))
    status = await alarm.look()
    assert "a wrong number" in str(status.blocked)
    assert results(status) == ["no_answer", "open", "not_called"]


# -- what is passed over ----------------------------------------------------------------------------------------------


async def test_a_suppressed_number_is_told_and_the_next_is_called(store: Store) -> None:
    alarm = Alarm(store)
    await SuppressionList(store).add(ANA, reason="asked by mail")
    status = await alarm.start()
    assert await alarm.rings() == [BEN]
    assert (results(status)[0], "asked by mail" in told(status)[0]) == ("suppressed", True)


async def test_a_number_that_is_suppressed_after_it_was_enqueued_is_passed_over(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.start()
    await SuppressionList(store).add(ANA, reason="asked by mail")
    assert await alarm.rings() == []
    status = await alarm.look()
    assert await alarm.rings() == [BEN]
    assert results(status)[0] == "suppressed"


async def test_outside_of_its_window_nobody_is_called_at_the_next_place_somebody_is(
    store: Store, clock: ManualClock
) -> None:
    alarm = Alarm(store)  # it is morning or afternoon in Singapore, where the first number is
    here = clock.now()
    hour = (here.hour + 8) % 24
    window = CallWindow.parse(f"{(hour - 1) % 24:02}:00-{(hour + 1) % 24:02}:00")
    status = await alarm.start("+442079460123", ANA, window=window)
    assert await alarm.rings() == [ANA]
    assert results(status)[0] == "outside_window"
    assert "its calling window" in told(status)[0]


@pytest.mark.parametrize("batch", [None, "night"])
@pytest.mark.parametrize("began_first", [False, True])
async def test_a_hold_of_the_queue_or_the_batch_is_told_and_spends_no_step(
    store: Store, clock: ManualClock, batch: str | None, began_first: bool
) -> None:
    alarm = Alarm(store)
    if began_first:
        await alarm.start(ANA, BEN, batch_id="night")
    await alarm.engine.queue.hold(batch_id=batch, reason="a wrong number")
    if not began_first:
        await alarm.start(ANA, BEN, batch_id="night")
    for _ in range(20):
        status = await alarm.look()
        assert "a wrong number" in str(status.blocked)
        assert "nobody can be called" in status.in_words()
        assert await alarm.rings() == []
        clock.advance(timedelta(minutes=1))
        await alarm.engine.sweeper.sweep()
    await alarm.engine.queue.resume(batch_id=batch)
    status = await alarm.look()
    assert (results(status), status.blocked) == (["open", "not_called"], "no worker of queue default runs")
    assert await alarm.rings() == [ANA]


async def test_a_hold_that_ends_in_time_passes_over_nobody(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    await alarm.engine.queue.hold(until=clock.now() + timedelta(seconds=30), reason="429")
    await alarm.start()
    assert await alarm.rings() == []
    assert (await alarm.look()).steps[1].result == "not_called"
    clock.advance(timedelta(seconds=31))
    assert await alarm.rings() == [ANA]


async def test_a_cancelled_batch_stops_the_escalation(store: Store) -> None:
    alarm = Alarm(store)
    status = await alarm.start()
    await alarm.engine.queue.cancel_batch(status.batch_id)
    status = await alarm.look()
    assert (status.state, await alarm.rings()) == ("stopped", [])
    assert status.reason == f"batch {status.batch_id} is cancelled: the batch was cancelled by a person"


async def test_what_8x8_refuses_and_what_is_no_number_is_told(store: Store) -> None:
    alarm = Alarm(store)
    alarm.voice.answers = [refused(-1011, "no such number")]
    await alarm.start("no number", ANA, BEN)
    await alarm.rings()
    status = await alarm.look()
    assert await alarm.rings() == [ANA, BEN]
    assert results(status)[:2] == ["refused", "failed"]
    assert "no number" in told(status)[0]


# -- time and doubts --------------------------------------------------------------------------------------------------


@on_every_store
async def test_a_doubt_goes_on_to_the_next_place_and_its_late_key_ends_the_status(store: Store) -> None:
    alarm = Alarm(store)
    alarm.voice.answers = [unknown()]
    await alarm.start()
    await alarm.rings()
    assert (await alarm.step(1)).state is JobState.IN_DOUBT
    await alarm.look()
    assert await alarm.rings() == [ANA, BEN]
    await alarm.press(1)
    status = await alarm.look()
    assert (status.state, status.acknowledged and status.acknowledged.number) == ("acknowledged", ANA)
    assert told(status)[1] == f"was being called when {ANA} acknowledged"
    assert await alarm.rings() == [ANA, BEN]


async def test_a_step_is_not_spent_while_no_worker_runs(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    status = await alarm.start(answer_within=timedelta(seconds=30))
    for _ in range(60):
        clock.advance(timedelta(minutes=1))
        await alarm.engine.sweeper.sweep()
        status = await alarm.look()
    assert (results(status)[0], status.blocked) == ("open", "no worker of queue default runs")
    assert len(await alarm.engine.queue.find()) == 1, "the same call waits"
    assert await alarm.rings() == [ANA]


async def test_a_number_that_is_busy_with_other_calls_is_passed_over(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    await alarm.engine.enqueue(ANA)
    await alarm.engine.send()
    await alarm.start(answer_within=timedelta(seconds=30))
    for _ in range(16):
        await alarm.works()
        assert await alarm.rings() == [ANA]
        await alarm.look()
        clock.advance(timedelta(seconds=2))
    await alarm.works()
    status = await alarm.look()
    assert (results(status)[0], await alarm.rings()) == ("number_busy", [ANA, BEN])
    assert told(status)[0] == "was not called: its number is busy with another call"


@pytest.mark.parametrize("answered", [True, False])
async def test_after_its_time_and_90_seconds_the_next_is_called_though_the_call_goes_on(
    store: Store, clock: ManualClock, answered: bool
) -> None:
    alarm = Alarm(store)
    await alarm.start(answer_within=timedelta(seconds=30))
    await alarm.rings()
    clock.advance(timedelta(seconds=119))
    await alarm.look()
    assert await alarm.rings() == [ANA]
    clock.advance(timedelta(seconds=1))
    status = await alarm.look()
    assert await alarm.rings() == [ANA, BEN]
    assert told(status)[0] == "its call has not ended within 120s"
    if answered:
        await alarm.press(1)
        assert (await alarm.look()).acknowledged is not None
    else:
        await alarm.ends(1, SessionStatus.COMPLETED)
        assert told(await alarm.look())[0] == "answered, and pressed no key", "the newest that is known"


async def test_without_summaries_a_call_has_its_whole_time(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    alarm.engine = Engine(store, alarm.voice, policy=CallPolicy(summary_deadline=timedelta(seconds=5)))
    await alarm.start()
    await alarm.rings()
    clock.advance(timedelta(seconds=6))
    await alarm.engine.sweeper.sweep()
    assert (await alarm.step(1)).state is JobState.ACCEPTED
    await alarm.look()
    assert await alarm.rings() == [ANA]
    clock.advance(timedelta(seconds=204))
    await alarm.look()
    assert await alarm.rings() == [ANA, BEN]


async def test_an_acknowledgement_takes_back_what_has_not_left(store: Store) -> None:
    alarm = Alarm(store)
    alarm.voice.answers = [unknown()]
    await alarm.start()
    await alarm.rings()
    await alarm.look()
    await alarm.press(1)
    assert (await alarm.step(2)).state is JobState.CANCELLED
    status = await alarm.look()
    assert await alarm.rings() == [ANA]
    assert told(status)[1] == f"was not called: {ANA} acknowledged"


@pytest.mark.parametrize("order", ["key", "by name", "again", "stop"])
@pytest.mark.parametrize("leaves_at", [0.5, None])
async def test_an_order_that_ends_it_returns_when_the_calls_on_their_way_have_left_or_never_will(
    clock: ManualClock, order: str, leaves_at: float | None
) -> None:
    """Ana's call was given up after its time, so Ben is being called when Ana presses the key."""
    async with open_store("memory://", clock=clock) as store:
        alarm = Alarm(store)
        await alarm.start(answer_within=timedelta(seconds=30))
        await alarm.rings()
        clock.advance(timedelta(seconds=120))
        await alarm.look()
        (leaving,) = await alarm.engine.submitter.begin(await alarm.engine.prepare())
        began, returned, said = clock.now(), list[timedelta](), list[EscalationStatus]()

        async def leave() -> None:
            if leaves_at is not None:
                await clock.sleep(leaves_at)
                await alarm.engine.finish(leaving)

        async def ordered() -> None:
            if order == "again":
                async with anyio.create_task_group() as first:
                    first.start_soon(alarm.escalations.acknowledge, alarm.id)
                    await alarm.escalations.acknowledge(alarm.id, by="Li")
            if order == "key":
                await alarm.press(1)
            elif order == "stop":
                said.append(await alarm.escalations.stop(alarm.id, reason="a drill"))
            else:
                said.append(await alarm.escalations.acknowledge(alarm.id, by="Li"))
            returned.append(clock.now() - began)

        async def both() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(ordered)
                group.start_soon(leave)

        await passing(clock, both)
        if leaves_at is None:
            assert [each.may_ring for each in said] == [1] * len(said)
            assert timedelta(seconds=1.9) < returned[0] < timedelta(seconds=4.2)
            await alarm.engine.finish(leaving)
            assert len(alarm.voice.placed) == 1, "what has not left in two seconds never leaves"
        else:
            assert [each.may_ring for each in said] == [0] * len(said)
            assert timedelta(seconds=leaves_at) <= returned[0] < timedelta(seconds=1)


async def test_a_key_in_a_call_whose_answer_is_not_stored_yet_does_not_wait_for_that_call(clock: ManualClock) -> None:
    """The menu answers within 4.5 s, and the person is on the phone: this call has left."""
    async with open_store("memory://", clock=clock) as store:
        alarm = Alarm(store)
        await alarm.start()
        await alarm.engine.submitter.begin(await alarm.engine.prepare())
        began = clock.now()
        await passing(clock, lambda: alarm.press(1))
        assert clock.now() - began < timedelta(seconds=0.1)


@on_every_store
async def test_a_stopped_status_calls_nobody_further(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.start()
    await alarm.rings()
    status = await alarm.escalations.stop(alarm.id, reason="the alert is resolved")
    assert (status.state, told(status)[1]) == ("stopped", "not called: the alert is resolved")
    await alarm.ends(1)
    assert (await alarm.look()).state == "stopped"
    assert await alarm.rings() == [ANA]
    assert (await alarm.escalations.stop(alarm.id, reason="again")).reason == "the alert is resolved"


@on_every_store
async def test_who_acknowledged_or_stopped_is_kept_by_the_same_write_in_python_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> None:
        raise DiedError

    monkeypatch.setattr(audit, "finish", dies)
    for action, key in (("stop", "first"), ("acknowledge", "second")):
        alarm = Alarm(store)
        started = await alarm.escalations.start(escalation(ANA), key=key)
        act = alarm.escalations.stop(started.status.id, reason="a drill", by="Li") if action == "stop" else (
            alarm.escalations.acknowledge(started.status.id, by="Li")
        )  # fmt: skip
        with pytest.raises(DiedError):
            await act
        newest, *_ = await audit.entries_on(store, "default", batch=started.status.batch_id)
        assert (newest.action, newest.on, newest.name, newest.result) == (action, "Python", "Li", None)
        assert not (await alarm.escalations.get(started.status.id)).is_open
    assert len(await audit.entries_on(store)) == 2


# -- whoever carries on -----------------------------------------------------------------------------------------------


class DiedError(BaseException):
    """The process that carries on with the status was killed."""


@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
@pytest.mark.parametrize("backend", LATER)
async def test_whoever_dies_at_any_step_no_place_rings_twice_and_none_is_left_out(
    fresh_url: Callable[[str], str], backend: str, loss: Loss
) -> None:
    killed_at = 0
    while True:
        killed_at += 1
        writes = 0

        async def strike(call: StoreCall, at: int = killed_at) -> None:
            nonlocal writes
            writes += call.name == "write"
            if call.name == "write" and writes == at:
                raise DiedError

        async with open_store(fresh_url(backend), clock=ManualClock()) as fresh:
            hook = {"before" if loss is Loss.BEFORE else "after": strike}
            alarm = Alarm(fresh)
            dying = Escalations(CallQueue(FaultyStore(fresh, **hook)))
            alarm.id = dying.id_of("incident-42")
            numbers = (ANA, ["no number", BEN, CHEN], ANA)
            for place in range(1, 7):
                for escalations in (dying, alarm.escalations):  # after a death, another process carries on
                    try:
                        if place == 1:
                            await escalations.start(escalation(*numbers), key="incident-42")
                        await escalations.advance(alarm.id)
                    except DiedError:
                        continue
                    break
                await alarm.rings()
                for each in (1, 3, 4, 5):
                    with_call = await alarm.engine.queue.find(unique_key=f"{alarm.id}/{each}")
                    if with_call and with_call[0].state is JobState.SUBMITTED:
                        await alarm.ends(each)
            status = await alarm.look()
            assert status.state == "unanswered"
            assert await alarm.rang() == [ANA, ANA, BEN, CHEN], f"killed at write {killed_at}"
            assert results(status) == ["no_answer", "refused", "no_answer", "no_answer", "no_answer"]
        if writes < killed_at:
            break
    assert killed_at > 8, "each write was struck"


@on_every_store
async def test_many_at_once_call_each_place_once(store: Store) -> None:
    alarm = Alarm(store)
    numbers = (ANA, [BEN, DAN], ANA, CHEN)
    crowd = [Escalations(CallQueue(store)) for _ in range(5)]
    created: list[bool] = []

    async def begin(escalations: Escalations) -> None:
        started = await escalations.start(escalation(*numbers), key="incident-42")
        created.append(started.created)
        alarm.id = started.status.id

    async with anyio.create_task_group() as group:
        for escalations in crowd:
            group.start_soon(begin, escalations)
    assert created.count(True) == 1
    for places in ((1,), (2, 3), (4,), (5,)):
        await alarm.rings()
        for place in places:
            await alarm.ends(place)
        async with anyio.create_task_group() as group:
            for escalations in crowd:
                group.start_soon(escalations.advance, alarm.id)
    assert await alarm.rang() == [ANA, ANA, BEN, CHEN, DAN]
    assert Counter(results(await alarm.look())) == {"no_answer": 5}


@pytest.mark.parametrize("at_write", [1, 2])
@pytest.mark.parametrize("ended", ["acknowledged", "stopped"])
async def test_who_was_slow_calls_nobody_after_the_status_has_ended(store: Store, at_write: int, ended: str) -> None:
    """A process is suspended before it goes to the next place, or before it calls it; meanwhile the status ends."""
    alarm = Alarm(store)
    alarm.voice.answers = [unknown()]
    await alarm.start()
    await alarm.rings()
    writes = 0

    async def others(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == at_write:
            if ended == "stopped":
                await alarm.escalations.stop(alarm.id, reason="the alert is resolved")
            else:
                await alarm.press(1)
                await alarm.look()

    slow = Escalations(CallQueue(FaultyStore(store, before=others)))
    assert (await slow.advance(alarm.id)).state == ended
    assert writes >= at_write
    assert await alarm.rings() == [ANA]


@on_every_store
@pytest.mark.parametrize("ended", ["acknowledged", "stopped"])
async def test_whoever_ends_a_place_while_another_process_calls_it_leaves_no_call(store: Store, ended: str) -> None:
    """A process calls the next place just before another one writes that nobody further is called."""
    alarm = Alarm(store)
    alarm.voice.answers = [unknown()]
    await alarm.start(ANA, BEN)
    await alarm.rings()
    is_about_to_call, may_call, has_called, is_over = (anyio.Event() for _ in range(4))
    writes = 0

    async def suspended(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == 2:  # by the first, the first place is over
            is_about_to_call.set()
            await may_call.wait()

    async def suspended_again(call: StoreCall) -> None:
        if call.name == "write" and writes == 2:
            has_called.set()
            await is_over.wait()

    async def meanwhile(call: StoreCall) -> None:
        if call.name == "write":
            may_call.set()
            await has_called.wait()

    async def calls_the_next() -> None:
        faulty = FaultyStore(store, before=suspended, after=suspended_again)
        await Escalations(CallQueue(faulty)).advance(alarm.id)

    ending = Escalations(CallQueue(FaultyStore(store, before=meanwhile)))
    async with anyio.create_task_group() as group:
        group.start_soon(calls_the_next)
        await is_about_to_call.wait()
        if ended == "stopped":
            await ending.stop(alarm.id, reason="the alert is resolved")
        else:
            await alarm.press(1, heard_by=FaultyStore(store, before=meanwhile))
        assert await alarm.rings() == [ANA]
        is_over.set()
    status = await alarm.look()
    assert (status.state, results(status)[1]) == (ended, "cancelled")
    assert await alarm.rings() == [ANA]


async def test_a_status_of_a_newer_version_is_left_to_that_and_the_others_go_on(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.start()
    (record,) = (await store.records({OPEN: Page()}, now=store.clock.now()))[OPEN]
    newer = record.value.replace('"say":', '"tone":"calm","say":')
    puts = (Put(OPEN, "default", newer, None, member="default.escalation-0"),)
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=store.clock.now())
    with pytest.raises(StoreVersionError, match="a newer version"):
        await alarm.escalations.get("default.escalation-0")
    await alarm.rings()
    await alarm.ends(1)
    await advance_all(store)
    assert await alarm.rings() == [ANA, BEN]


async def test_a_place_is_not_redialled_even_if_its_queue_redials(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=timedelta(seconds=1))
    alarm.escalations = Escalations(CallQueue(store, redial=redial))
    await alarm.start(ANA)
    await alarm.rings()
    await alarm.ends(1, SessionStatus.BUSY)
    clock.advance(timedelta(seconds=2))
    assert await alarm.rings() == [ANA]
    assert (await alarm.look()).state == "unanswered"


async def test_a_status_goes_on_beside_a_worker_or_a_receiver(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    other = Alarm(store)
    other.escalations = Escalations(CallQueue(store, "night"))
    await alarm.start()
    await other.start()
    async with advancing(store):
        await alarm.rings()
        await alarm.ends(1)
        while len(await alarm.engine.queue.find()) < 2:
            await anyio.sleep(0.001)
            clock.advance(timedelta(seconds=1))
        waited = await alarm.escalations.wait(alarm.id, timeout=timedelta())
    assert waited.is_open
    assert await alarm.rings() == [ANA, BEN]


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_an_escalation_is_read_from_texts() -> None:
    read = Escalation.of(
        {
            "numbers": "8765 4321, +442079460123", "say": "Fire.", "key": "5", "answer_within": "90s", "how": "",
            "country": "SG", "window": "00:00-24:00", "days": "DE=mon-fri,*=mon-sun", "holidays": "number",
            "batch": "night", "priority": "7", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural",
        }
    )  # fmt: skip
    assert read.as_json() == {
        "numbers": ["8765 4321", "+442079460123"], "say": "Fire.", "key": "5", "answer_within": "90s", "how": "",
        "country": "SG", "window": "00:00-24:00", "days": "DE=mon-fri,*=mon-sun", "holidays": "number",
        "window_time_zone": None, "batch": "night", "rounds": 1, "rest": "5m", "policy": None,
        "priority": 7, "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural",
    }  # fmt: skip


WRONG: dict[str, dict[str, object]] = {
    "numbers: it is missing; give a list of numbers, in the order of the calls, or a policy": {"numbers": None},
    "numbers: number 2": {"numbers": [ANA, "no number"]},
    "say: give a text": {"say": " "},
    "'12'": {"key": "12"},
    "answer_within": {"answer_within": "90"},
    "colour is not a field": {"colour": "red"},
    "window": {"window": "at night"},
    "priority": {"priority": "high"},
    "source: it is missing; give it, or set VOICEFLOW_SOURCE": {"source": None},
    "1 to 50 numbers": {"numbers": [ANA] * 51},
    "above 0": {"answer_within": "0s"},
    "how: give a text": {"how": 7},
    "number 3": {"numbers": [ANA, [BEN, "no number"]]},
    "is an array, not a telephone number": {"numbers": [[[ANA], BEN]]},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_refused_with_its_name(message: str) -> None:
    right = {"numbers": [ANA], "say": "Fire.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    assert Escalation.of(right).numbers == (ANA,)
    with pytest.raises(InvalidInputError, match=message.replace("(", r"\(")) as refused:
        Escalation.of({**right, **WRONG[message]})
    assert [found.column for found in refused.value.findings] == list(WRONG[message])


@pytest.mark.parametrize(
    "numbers", [[ANA, [BEN, CHEN], DAN], f"{ANA}, {BEN} | {CHEN},{DAN}", [[ANA], [BEN, CHEN, ""], [], DAN]]
)
def test_numbers_that_are_called_at_once_are_a_list_within_the_list(numbers: object) -> None:
    right = {"say": "Fire.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    read = Escalation.of({**right, "numbers": numbers})
    assert read.numbers == (ANA, (BEN, CHEN), DAN)
    assert Escalation.stored(read.as_json()) == read
    assert read.target() == Escalation.of({**right, "numbers": [DAN, CHEN, BEN, ANA]}).target()


def test_with_any_number_one_that_can_be_read_is_enough() -> None:
    right = {"say": "Fire.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    assert Escalation.of({**right, "numbers": ["nobody", ANA]}, any_number=True).numbers == ("nobody", ANA)
    with pytest.raises(InvalidInputError, match="number 1"):
        Escalation.of({**right, "numbers": ["nobody"]}, any_number=True)


async def test_open_escalations_are_listed_in_their_order_and_ended_ones_from_a_time_on(
    store: Store, clock: ManualClock
) -> None:
    escalations = Escalations(CallQueue(store))
    begun = clock.now()
    for key in ("1", "2", "3"):
        await escalations.start(escalation(), key=key)
        clock.advance(timedelta(hours=1))
    await Escalations(CallQueue(store, "other")).start(escalation(), key="1")
    of_another_version = {"default.escalation-1": '{"a": 1}'}
    for name, value in ("louder", True), ("window", "later"):
        fields = {**escalation().as_json(), name: value}
        newer = replace(
            EscalationRecord.new(escalation(), unique_key="4", request_digest="", at=begun), escalation=fields
        )
        of_another_version[f"default.escalation-{name}"] = newer.text()
    await text_records(store, OPEN).within("default").put(of_another_version)
    for key in ("3", "1"):
        clock.advance(timedelta(hours=1))
        await escalations.stop(escalations.id_of(key), reason="the alert is resolved")
    since = [None, clock.now(), clock.now() - timedelta(minutes=1), begun, clock.now() + timedelta(hours=1)]
    found = [[each.unique_key for each in await escalations.recent(since=each)] for each in since]
    assert found == [["2"], ["1", "2"], ["1", "2"], ["1", "2", "3"], ["2"]]
