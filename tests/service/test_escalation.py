"""Escalations: one place after the other until somebody presses the key, whoever carries on with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import passing
from tests.support.plays import plays_of
from tests.support.stores import BY_MEMORY, clocked, on_every_store
from tests.support.voices import ScriptedVoice, refused, unknown
from voiceflow_worker import CallPolicy, CallQueue, CallWindow, Job, JobState, SuppressionList, open_store
from voiceflow_worker.core import audit
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import hold_until_left
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
from voiceflow_worker.service.escalation_store import DEFINED, OPEN
from voiceflow_worker.service.escalations import Escalations, acknowledge, advance_all, advancing
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

ANA, BEN, CHEN, DAN = "+6587654321", "+6587654322", "+6587654323", "+6587654324"
NAMED = {"A": ANA, "B": BEN, "C": CHEN, "D": DAN, "U": "+442079460123", "N": "no number"}


def escalation(*numbers: str | Sequence[str], **more: Any) -> Escalation:
    return Escalation(
        numbers=numbers or (ANA, BEN, CHEN), say="The disk is full.", source="+6531234567",
        voice_profile="en-IE-EmilyNeural", **more,
    )  # fmt: skip


store = clocked("memory")


class Alarm:
    """A queue with escalations, and the worker and the people beside it, in single steps."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.escalations = Escalations(self.engine.queue)
        self.id = self.rung = ""

    async def start(self, *numbers: str | Sequence[str], **more: Any) -> EscalationStatus:
        started = await self.escalations.start(escalation(*numbers, **more), key="incident-42")
        self.id = started.status.id
        return started.status

    async def look(self) -> EscalationStatus:
        return await self.escalations.advance(self.id)

    async def step(self, number: int) -> Job:
        """The call of a number, by its place among all, over all rounds."""
        steps = (await self.escalations.get(self.id)).escalation.numbers
        places = [
            (step, place)
            for step, numbers in enumerate(steps, 1)
            for place in range(1, 2 if isinstance(numbers, str) else len(numbers) + 1)
        ]
        step, place = places[(number - 1) % len(places)]
        key = f"{self.id}/{(number - 1) // len(places) + 1}/{step}/{place}"
        (job,) = await self.engine.queue.find(unique_key=key)
        return job

    async def rings(self) -> list[str]:
        """Send what is due, and say who has rung so far, in order."""
        await self.engine.send()
        numbers = {job.id: job.number for job in await self.engine.queue.find(limit=None)}
        return [numbers[each.rpartition(".")[0]] for each in self.voice.client_request_ids]

    async def rang(self) -> list[str]:
        """As `rings`, in the order of the numbers: calls at once leave in any order."""
        return sorted(await self.rings())

    async def press(self, place: int, digits: str = "1", *, heard_by: Store | str | None = "the store") -> str:
        """Press a key in the call of a step; returns what is said then by the menu, if that has a store."""
        job = await self.step(place)
        calls = MenuCalls(self.store, self.engine.policy)
        caller = Caller(
            now=self.store.clock.now(),
            digits=digits,
            data=job.data or {},
            job=job,
            store=self.store if isinstance(heard_by, str) else heard_by,
        )
        said = await acknowledge(caller)
        press = KeyPress(
            at=self.store.clock.now(), menu=ESCALATION, digits=digits, event_id=f"press-{place}",
            answer="yes" if digits == "1" else None,
        )  # fmt: skip
        await calls.pressed(MenuCall(job, job.post_count, ()), press, session_id=None)
        return str(said.text)

    async def ends(self, place: int, status: SessionStatus = SessionStatus.NO_ANSWER) -> None:
        await self.engine.summarise(await self.step(place), status)

    async def plays(self, moves: str) -> None:
        """Play moves, one after the other; each is what a method below is called."""
        for move in moves.split(" | "):
            name, *words = move.split()
            try:
                await getattr(self, f"_{name}")(*words)
            except AssertionError as error:
                raise AssertionError(f"at {move} of {moves}: {error}") from error

    async def _begins(self, numbers: str, *more: str) -> None:
        """It begins, for these people: those behind a + are called together with the one before."""
        steps = [tuple(NAMED.get(each, each) for each in step) for step in numbers.replace("+", "").split(",")]
        given: dict[str, Any] = {"answer_within": timedelta(seconds=30)} if "short" in more else {}
        given |= {"rounds": 2} if "twice" in more else {}
        if "window" in more:  # in Singapore, where Ben is; Una is in London
            here = (self.store.clock.now().hour + 8) % 24
            given["window"] = CallWindow.parse(f"{(here - 1) % 24:02}:00-{(here + 1) % 24:02}:00")
        await self.start(*(step[0] if len(step) == 1 else step for step in steps), batch_id="night", **given)

    async def _rings(self, letters: str = "") -> None:
        """All calls so far, after what is due was sent; those at once leave in any order."""
        rang = [next(name for name, number in NAMED.items() if number == each) for each in await self.rings()]
        added, self.rung = sorted(rang[len(self.rung) :]), self.rung + "".join(sorted(rang[len(self.rung) :]))
        assert self.rung == letters, (self.rung, added)

    async def _look(self, times: str = "1", seconds: str = "0") -> None:
        """Look so often, so many seconds apart, with a worker alive that sends what is due."""
        for _ in range(int(times)):
            self.status = await self.look()
            if float(seconds):
                await Heartbeat(self.store, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()
                await self.engine.send()
                await self._later(seconds)

    async def _later(self, seconds: str) -> None:
        assert isinstance(self.store.clock, ManualClock)
        self.store.clock.advance(timedelta(seconds=float(seconds)))
        await self.engine.sweeper.sweep()

    async def _ends(self, place: str, status: str = "NO_ANSWER") -> None:
        await self.ends(int(place), SessionStatus[status])

    async def _key(self, place: str, *words: str) -> None:
        """The key is pressed in a call; `alone` is a menu without a store; others are what is said then."""
        said = await self.press(int(place), heard_by=None if words == ("alone",) else "the store")
        assert not words or words == ("alone",) or " ".join(words) in said, said

    async def _other(self, letter: str, does: str = "") -> None:
        """Another call to somebody is open; or it ends."""
        if does:
            (job,) = await self.engine.queue.find(destination=NAMED[letter], batch_id="others")
            await self.engine.summarise(job, SessionStatus.COMPLETED)
        else:
            await self.engine.enqueue(NAMED[letter], batch="others")
            await self.engine.send()
        self.rung += "" if does else letter

    async def _eight(self, answers: str) -> None:
        """What 8x8 answers to the next call."""
        self.voice.answers = [unknown() if answers == "unknown" else refused(-1011, "no such number")]

    async def _suppress(self, letter: str) -> None:
        await SuppressionList(self.store).add(NAMED[letter], reason="asked by mail")

    async def _hold(self, batch: str = "", seconds: str = "") -> None:
        until = self.store.clock.now() + timedelta(seconds=float(seconds)) if seconds else None
        name = batch.strip("-") or None
        await hold_until_left(
            self.store, self.engine.queue.name, batch_id=name, reason="a wrong number", until=until
        )  # fmt: skip

    async def _resume(self, batch: str = "") -> None:
        await self.engine.queue.resume(batch_id=batch or None)

    async def _cancel(self) -> None:
        await self.engine.queue.cancel_batch("night")

    async def _stop(self) -> None:
        self.status = await self.escalations.stop(self.id, reason="the alert is resolved")

    async def _is(self, state: str, *by: str) -> None:
        """Its state, whether or not somebody has looked since; and who acknowledged."""
        found = await self.escalations.get(self.id)
        number = found.acknowledged and found.acknowledged.number
        assert (found.state, number) == (state, NAMED[by[0]] if by else None)
        assert (found.as_json()["acknowledged"] is not None) == bool(by)

    async def _results(self, *wanted: str) -> None:
        assert results(self.status)[: len(wanted)] == list(wanted)

    async def _steps(self, *wanted: str) -> None:
        """Who is called, by step, and in which round of several."""
        names = {number: name for name, number in NAMED.items()}
        assert [f"{each.step}{names.get(each.number, each.number)}{each.round}" for each in self.status.steps] == [
            *wanted
        ]

    async def _says(self, *words: str) -> None:
        told = [self.status.in_words(), str(self.status.blocked), str(self.status.reason)]
        told += [each.message for each in self.status.steps]
        assert any(" ".join(words) in each for each in told), told

    async def _free(self) -> None:
        assert "a wrong number" not in str(self.status.blocked)


def results(status: EscalationStatus) -> list[str]:
    return [each.result for each in status.steps]


PLAYS = plays_of(Path(__file__).with_name("escalation_plays.txt"))


@on_every_store
@pytest.mark.parametrize("play", PLAYS)
async def test_an_escalation_rings_and_ends(store: Store, play: str) -> None:
    await Alarm(store).plays(PLAYS[play])


async def test_what_a_queue_says_of_redials_and_of_summaries_changes_no_place(store: Store) -> None:
    redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=timedelta(seconds=1))
    alarm = Alarm(store)
    alarm.escalations = Escalations(CallQueue(store, redial=redial))
    await alarm.plays("begins A | rings A | ends 1 BUSY | later 2 | rings A | look | is unanswered")
    without = Alarm(store)
    without.escalations = Escalations(CallQueue(store, "night"))
    without.engine = Engine(
        store, without.voice, queue="night", policy=CallPolicy(summary_deadline=timedelta(seconds=5))
    )
    await without.plays("begins C,D | rings C | later 6 | look | rings C | later 204 | look | rings CD")


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


# -- what is passed over ----------------------------------------------------------------------------------------------


async def test_while_nobody_can_be_called_at_this_hour_endless_rounds_wait(store: Store, clock: ManualClock) -> None:
    alarm = Alarm(store)
    opens = (clock.now() + timedelta(hours=9, minutes=5)).hour  # within the hour, in Singapore
    await alarm.start(ANA, BEN, rounds=None, window=CallWindow.parse(f"{opens:02}:00-{(opens + 2) % 24:02}:00"))
    for _ in range(30):
        await alarm.look()
        clock.advance(timedelta(minutes=2))
    assert await alarm.rings() == []
    assert len(await alarm.engine.queue.find()) == 2, "one round of calls that were passed over"
    await alarm.look()
    clock.advance(timedelta(minutes=10))
    await alarm.look()
    assert await alarm.rings() == [ANA]


# -- time and doubts --------------------------------------------------------------------------------------------------


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
async def test_who_acknowledged_or_stopped_is_kept_by_the_same_write_in_python_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> None:
        raise DiedError

    monkeypatch.setattr(audit.AuditedStore, "finish", dies)
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
@pytest.mark.parametrize("backend", BY_MEMORY)
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
            for look in range(1, 7):
                for escalations in (dying, alarm.escalations):  # after a death, another process carries on
                    try:
                        if look == 1:
                            await escalations.start(escalation(*numbers), key="incident-42")
                        await escalations.advance(alarm.id)
                    except DiedError:
                        continue
                    break
                await alarm.rings()
                for job in await alarm.engine.queue.find(states={JobState.SUBMITTED}):
                    await alarm.engine.summarise(job, SessionStatus.NO_ANSWER)
            status = await alarm.look()
            assert status.state == "unanswered"
            assert await alarm.rang() == [ANA, ANA, BEN, CHEN], f"killed at write {killed_at}"
            assert results(status) == ["no_answer", "refused", "no_answer", "no_answer", "no_answer"]
        if writes < killed_at:
            break
    assert killed_at > 6, "each write was struck"


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


@on_every_store
@pytest.mark.parametrize("ended", ["acknowledged", "stopped"])
@pytest.mark.parametrize("meanwhile", ["ends before the call", "ends after the call", "calls before the end"])
async def test_of_who_calls_the_next_and_who_ends_it_at_once_the_call_never_leaves(
    store: Store, ended: str, meanwhile: str
) -> None:
    """One of them is suspended before or after its write; meanwhile the other one comes to its end."""
    alarm = Alarm(store)
    alarm.voice.answers = [unknown()]
    await alarm.start(ANA, BEN)
    await alarm.rings()
    writes = 0

    async def ends(heard_by: Store) -> None:
        if ended == "acknowledged":
            await alarm.press(1, heard_by=heard_by)
        else:
            await Escalations(CallQueue(heard_by)).stop(alarm.id, reason="the alert is resolved")

    async def other(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == 1:
            await (alarm.look() if meanwhile == "calls before the end" else ends(store))

    suspended = FaultyStore(store, **{"after" if meanwhile == "ends after the call" else "before": other})
    if meanwhile == "calls before the end":
        await ends(suspended)
    else:
        assert (await Escalations(CallQueue(suspended)).advance(alarm.id)).state == ended
    assert writes
    status = await alarm.look()
    assert results(status)[1] == ("not_called" if meanwhile == "ends before the call" else "cancelled")
    assert (status.state, await alarm.rings()) == (ended, [ANA])


async def test_a_status_of_a_newer_version_is_left_to_that_and_the_others_go_on(store: Store) -> None:
    alarm = Alarm(store)
    await alarm.start()
    (record,) = (await store.records({DEFINED: Page()}, now=store.clock.now()))[DEFINED]
    newer = record.value.replace('"say":', '"tone":"calm","say":')
    puts = (
        Put(DEFINED, "default.escalation-0", newer, None),
        Put(OPEN, "default", "", None, member="default.escalation-0"),
    )
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=store.clock.now())
    with pytest.raises(StoreVersionError, match="a newer version"):
        await alarm.escalations.get("default.escalation-0")
    await alarm.rings()
    await alarm.ends(1)
    await advance_all(store)
    assert await alarm.rings() == [ANA, BEN]


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
        "window_time_zone": None, "batch": "night", "rounds": 1, "rest": "5m", "forget_after": "3d", "policy": None,
        "priority": 7, "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural",
    }  # fmt: skip


WRONG: dict[str, dict[str, object]] = {
    "numbers: it is missing; give a list of numbers, in the order of the calls, or a policy": {"numbers": None},
    "numbers: number 2": {"numbers": [ANA, "no number"]},
    "say: give a text": {"say": " "},
    "'12'": {"key": "12"},
    "answer_within": {"answer_within": "90"},
    "forget_after: 0s is not above 0": {"forget_after": "0s"},
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
    await text_records(store, DEFINED).put(of_another_version)
    await text_records(store, OPEN).within("default").put(dict.fromkeys(of_another_version, ""))
    for key in ("3", "1"):
        clock.advance(timedelta(hours=1))
        await escalations.stop(escalations.id_of(key), reason="the alert is resolved")
    since = [None, clock.now(), clock.now() - timedelta(minutes=1), begun, clock.now() + timedelta(hours=1)]
    found = [[each.unique_key for each in await escalations.recent(since=each)] for each in since]
    assert found == [["2"], ["1", "2"], ["1", "2"], ["1", "2", "3"], ["2"]]
