"""Alarms: what fires, for whom, is heard until somebody acknowledges, and by nobody after that or its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.service.test_escalation import on_every_store, store
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import time_passing
from tests.support.stores import EVERY
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, JobState, SessionStatus, open_store
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Write
from voiceflow_worker.core.writes import ENDED_ESCALATION, escalation_of
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.service.alarms import Alarms, Alert, Alerts, HeardAlerts
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import EscalationStatus, Wording
from voiceflow_worker.service.escalations import OVER, TAKEN, Escalations, acknowledge, advance_all, blocked_here

__all__ = ["store"]
pytestmark = pytest.mark.anyio

ANA, BEN, CHEN = "+6587654321", "+6587654322", "+6587654323"
MINUTE = timedelta(minutes=1)


class Duty:
    """An Alertmanager's side, a worker in single steps, and the people who are called."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.escalations = Escalations(CallQueue(store))
        self.alarms = Alarms(self.escalations)
        self.began: dict[str, datetime] = {}

    def escalation(self, *numbers: str | Sequence[str], **more: Any) -> Escalation:
        return Escalation(
            numbers=numbers or (ANA,), say="-", source="+6531234567", voice_profile="en-IE-EmilyNeural", **more
        )

    async def tells(
        self, *, firing: Sequence[str] = (), resolved: Sequence[str] = (), by: Alarms | None = None,
        ended: timedelta = timedelta(), left_out: int = 0, **more: Any,
    ) -> HeardAlerts:  # fmt: skip
        """A notification of alerts that fire, since the time in `began` or now, and of some that are resolved now."""
        now = self.clock.now()
        alerts = [
            {
                "status": status,
                "fingerprint": each,
                "labels": {"alertname": each},
                "startsAt": self.began.setdefault(each, now).isoformat(),
                "endsAt": (now - ended).isoformat(),
            }
            for status, names in (("firing", firing), ("resolved", resolved))
            for each in names
        ]
        told, alarms = Alerts.of({"alerts": alerts, "truncatedAlerts": left_out}), by or self.alarms
        await alarms.resolve(told.resolved)
        if not told.firing:
            return HeardAlerts()
        numbers = more.pop("numbers", (ANA,))
        return await alarms.fire(told, self.escalation(*numbers, **more), wording=Wording(left_out=left_out))

    async def flaps(self, name: str, **more: Any) -> HeardAlerts:
        """The alert is resolved, and fires again a second later."""
        await self.tells(resolved=[name])
        self.clock.advance(timedelta(seconds=1))
        self.began[name] = self.clock.now()
        return await self.tells(firing=[name], **more)

    async def passes(self, time: timedelta) -> None:
        """Time passes, in which a worker is alive and sends, and nobody answers."""
        for _ in range(max(1, int(time / timedelta(seconds=15)))):
            self.clock.advance(min(time, timedelta(seconds=15)))
            await self.looks()

    async def looks(self) -> list[str]:
        """A worker goes on with the escalations, and sends what is due. Returns whom it has called so far."""
        await Heartbeat(self.store, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()
        await advance_all(self.store)
        await self.engine.send()
        return await self.rang()

    async def rang(self) -> list[str]:
        numbers = {job.id: job.number for job in await self.engine.queue.find(limit=None)}
        return [numbers[each.rpartition(".")[0]] for each in self.voice.client_request_ids]

    async def hang_up(self, status: SessionStatus = SessionStatus.NO_ANSWER) -> None:
        """All who are being called do not answer."""
        for job in await self.engine.queue.find(states={JobState.SUBMITTED}, limit=None):
            await self.engine.summarise(job, status)

    async def presses(self, key: str = "1") -> str:
        """Who was called last presses a key; returns what is said then."""
        job = await self.engine.queue.get(self.voice.client_request_ids[-1].rpartition(".")[0])
        caller = Caller(now=self.clock.now(), digits=key, data=job.data or {}, job=job, store=self.store)
        return str((await acknowledge(caller)).text)

    async def listed(self) -> list[EscalationStatus]:
        return await self.escalations.recent(since=self.clock.now() - timedelta(days=30))


@pytest.fixture
def duty(store: Store, clock: ManualClock) -> Duty:
    return Duty(store, clock)


@on_every_store
async def test_calls_at_once_tell_all_alarms_and_are_made_again_when_nobody_acknowledged(duty: Duty) -> None:
    several: dict[str, Any] = {"numbers": ((ANA, BEN),)}
    first = await duty.tells(firing=["disk"], **several)
    assert not (await duty.tells(firing=["cpu"], **several)).statuses[1:]
    assert sorted(await duty.looks()) == [ANA, BEN]
    assert [("2 alarms:" in job.body) for job in await duty.engine.queue.find()] == [True, True]
    assert (await duty.tells(firing=["net"], **several)).statuses[0].id != first.statuses[0].id, "they have left"
    await duty.hang_up()
    for _ in range(2):
        assert sorted(await duty.looks()) == [ANA, ANA, BEN, BEN]
    await duty.hang_up()
    await duty.looks()
    assert {each.state for each in await duty.listed()} == {"unanswered"}
    duty.clock.advance(timedelta(hours=4))
    assert (await duty.tells(firing=["disk"], **several)).begun
    assert len(await duty.looks()) == 6
    assert "acknowledged" in await duty.presses()
    assert [(each.step, each.round) for each in (await duty.escalations.get(first.statuses[0].id)).steps] == [
        (1, 1), (1, 1), (2, 2), (2, 2),
    ]  # fmt: skip


# -- until acknowledged -----------------------------------------------------------------------------------------------


@on_every_store
async def test_who_did_not_acknowledge_is_called_again_when_the_alert_is_told_again(duty: Duty) -> None:
    first = await duty.tells(firing=["disk"], numbers=(ANA, BEN))
    for _ in range(2):
        await duty.looks()
        await duty.hang_up()
    assert await duty.looks() == [ANA, BEN]
    (status,) = await duty.listed()
    assert (status.state, status.id) == ("unanswered", first.statuses[0].id)
    duty.clock.advance(timedelta(hours=4))
    again = await duty.tells(firing=["disk"], numbers=(ANA, BEN))
    assert (again.begun, [each.id for each in again.statuses]) == (True, [status.id])
    assert await duty.looks() == [ANA, BEN, ANA]
    assert "acknowledged" in await duty.presses()
    assert not (await duty.tells(firing=["disk"], numbers=(ANA, BEN))).begun
    await duty.hang_up()
    assert await duty.looks() == [ANA, BEN, ANA]
    assert [step.round for step in (await duty.listed())[0].steps] == [1, 1, 2, 2]


async def test_rounds_go_on_without_a_repeat_until_somebody_acknowledges(duty: Duty) -> None:
    await duty.tells(firing=["disk"], numbers=(ANA, BEN), rounds=None)
    for _ in range(30):
        await duty.passes(MINUTE)
        await duty.hang_up()
    rang = await duty.rang()
    assert len(rang) > 12
    assert rang == ([ANA, BEN] * len(rang))[: len(rang)]
    (status,) = await duty.listed()
    assert len(status.steps) <= 6, "old rounds are not kept"
    await duty.looks()
    await duty.presses()
    await duty.passes(10 * MINUTE)
    assert len(await duty.rang()) <= len(rang) + 1


@pytest.mark.parametrize("rounds", [1, 3])
async def test_as_many_rounds_as_are_asked_for_and_no_number_twice_in_one(duty: Duty, rounds: int) -> None:
    await duty.tells(firing=["disk"], numbers=(ANA, "nobody", BEN), rounds=rounds)
    for _ in range(60):
        await duty.passes(MINUTE)
        await duty.hang_up(SessionStatus.BUSY)
    assert await duty.rang() == [ANA, BEN] * rounds
    (status,) = await duty.listed()
    assert status.state == "unanswered"


async def test_numbers_that_cannot_be_called_take_no_more_than_a_round_each_time(duty: Duty) -> None:
    await duty.tells(firing=["disk"], numbers=("nobody", "no one"), rounds=None, answer_within=MINUTE)
    writes = 0

    async def counted(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"

    watched = FaultyStore(duty.store, before=counted)
    for _ in range(60):
        duty.clock.advance(timedelta(seconds=1))
        await advance_all(watched)
    assert writes <= 3


async def test_a_late_key_of_an_earlier_round_acknowledges(duty: Duty) -> None:
    await duty.tells(firing=["disk"], rounds=None)
    await duty.looks()
    job = (await duty.engine.queue.find())[0]
    await duty.passes(4 * MINUTE)
    caller = Caller(now=duty.clock.now(), digits="1", data=job.data or {}, job=job, store=duty.store)
    assert "acknowledged" in str((await acknowledge(caller)).text)
    rang = await duty.rang()
    await duty.hang_up()
    await duty.passes(10 * MINUTE)
    assert await duty.rang() == rang


# -- after the end ----------------------------------------------------------------------------------------------------


@on_every_store
@pytest.mark.parametrize("ended", ["acknowledged", "resolved"])
async def test_a_call_that_goes_back_to_the_queue_after_the_end_never_rings(duty: Duty, ended: str) -> None:
    """Its worker has its journal entry, the alarm ends, and then it turns out that nothing was sent."""
    await duty.tells(firing=["disk"])
    duty.voice.answers = [Verdict(kind=VerdictKind.NOT_SENT, message="connection refused")]
    await duty.engine.journal()
    (job,) = await duty.engine.queue.find()
    assert job.state is JobState.SENDING
    status = (await duty.listed())[0]
    async with time_passing(duty.clock):  # each order waits a while for the call that may be on its way
        if ended == "acknowledged":
            await duty.escalations.acknowledge(status.id, by="Li")
        else:
            await duty.tells(resolved=["disk"])
    await duty.engine.verdict(job, 1, Verdict(kind=VerdictKind.NOT_SENT, message="connection refused"))
    assert (await duty.engine.queue.get(job.id)).state is JobState.QUEUED
    await duty.passes(5 * MINUTE)
    assert await duty.rang() == []
    assert (await duty.engine.queue.get(job.id)).reason == "its escalation has ended"


async def test_who_answers_after_it_was_resolved_hears_so_and_the_key_changes_nothing(duty: Duty) -> None:
    await duty.tells(firing=["disk"])
    await duty.looks()
    await duty.tells(resolved=["disk"])
    assert await duty.presses("7") == "None"
    assert await duty.presses() == OVER
    (status,) = await duty.listed()
    assert (status.state, status.acknowledged) == ("stopped", None)


async def test_who_presses_second_hears_that_somebody_has_acknowledged(duty: Duty) -> None:
    await duty.tells(firing=["disk"], numbers=(ANA, BEN))
    await duty.looks()
    (status,) = await duty.listed()
    await duty.escalations.acknowledge(status.id, by="Li")
    assert await duty.presses() == TAKEN
    assert (await duty.listed())[0].in_words().startswith("Li acknowledged at ")


async def test_what_somebody_stopped_is_silent_until_it_fires_anew(duty: Duty) -> None:
    await duty.tells(firing=["disk"])
    (status,) = await duty.listed()
    await duty.escalations.stop(status.id, reason="a drill")
    for _ in range(3):
        duty.clock.advance(timedelta(hours=4))
        assert not (await duty.tells(firing=["disk"])).begun
    assert await duty.looks() == []
    assert (await duty.flaps("disk")).begun
    assert await duty.looks() == [ANA]


# -- resolved, flaps, rest --------------------------------------------------------------------------------------------


@on_every_store
async def test_resolved_under_another_start_ends_all_escalations_of_the_alert(duty: Duty) -> None:
    await duty.tells(firing=["disk", "cpu"], numbers=(ANA,))
    await duty.tells(firing=["disk"], numbers=(BEN,))
    duty.began["disk"] += timedelta(seconds=30)
    duty.clock.advance(MINUTE)
    await duty.tells(resolved=["disk"], numbers=(CHEN,))
    states = {status.steps[0].number: status.state for status in await duty.listed()}
    assert states == {ANA: "open", BEN: "stopped"}, "the other alert of the first one fires"
    await duty.tells(resolved=["cpu"])
    assert {status.state for status in await duty.listed()} == {"stopped"}
    assert await duty.looks() == []


async def test_a_firing_that_was_delayed_behind_its_end_calls_nobody(duty: Duty) -> None:
    duty.began["disk"] = duty.clock.now() - MINUTE
    await duty.tells(resolved=["disk"])
    duty.clock.advance(MINUTE)
    heard = await duty.tells(firing=["disk"])
    assert (heard.statuses, heard.late) == ([], 1)
    assert await duty.looks() == []
    duty.clock.advance(5 * MINUTE)
    assert (await duty.tells(firing=["disk"])).begun, "it is told again and again, so it fires"


async def test_an_end_that_was_delayed_behind_the_next_firing_ends_nothing(duty: Duty) -> None:
    await duty.tells(firing=["disk"])
    duty.clock.advance(10 * MINUTE)
    duty.began["disk"] = duty.clock.now()
    await duty.tells(firing=["disk"])
    await duty.tells(resolved=["disk"], ended=MINUTE)
    assert (await duty.listed())[0].is_open


async def test_a_flap_after_an_acknowledgement_rests_and_is_listed(duty: Duty) -> None:
    await duty.tells(firing=["disk"], rest=5 * MINUTE)
    await duty.looks()
    await duty.presses()
    await duty.hang_up()
    duty.clock.advance(MINUTE)
    heard = await duty.flaps("disk")
    assert heard.blocked is None
    quiet = (await duty.listed())[-1]
    assert quiet.resting_until is not None
    assert quiet.in_words().startswith("nobody is called until ")
    assert f"{ANA} acknowledged this alert at" in quiet.in_words()
    await duty.passes(3 * MINUTE)
    assert await duty.rang() == [ANA]
    await duty.tells(resolved=["disk"])
    await duty.passes(10 * MINUTE)
    assert await duty.rang() == [ANA]


AHEAD = [timedelta(seconds=50), 5 * MINUTE, timedelta(hours=3), timedelta(days=2)]


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
@pytest.mark.parametrize("moves", [False, True], ids=["the same start", "a start that moves"])
async def test_an_alert_that_begins_in_the_future_fires_now(duty: Duty, ahead: timedelta, moves: bool) -> None:
    """Alertmanager takes the end for the start of an alert that was posted with its end alone."""
    duty.began["disk"] = duty.clock.now() + ahead
    for rings in range(1, 4):
        assert (await duty.tells(firing=["disk"])).begun
        assert await duty.looks() == [ANA] * rings
        await duty.presses()
        await duty.hang_up()
        for _ in range(3):
            duty.clock.advance(MINUTE)
            if moves:
                duty.began["disk"] = duty.clock.now() + ahead
            assert not (await duty.tells(firing=["disk"])).begun, "it is told that it fires on"
        assert await duty.looks() == [ANA] * rings
        await duty.tells(resolved=["disk"], ended=-ahead if rings == 2 else timedelta(seconds=30))
        duty.clock.advance(10 * MINUTE)
        if moves:
            duty.began["disk"] = duty.clock.now() + ahead


async def test_a_flap_that_still_fires_when_the_rest_is_over_is_heard(duty: Duty) -> None:
    await duty.tells(firing=["disk"], rest=5 * MINUTE)
    await duty.looks()
    await duty.presses()
    await duty.hang_up()
    await duty.flaps("disk")
    for _ in range(3):
        await duty.flaps("disk")
        await duty.passes(MINUTE)
    assert await duty.rang() == [ANA]
    await duty.passes(3 * MINUTE)
    assert await duty.rang() == [ANA, ANA]


async def test_a_flap_that_nobody_acknowledged_is_heard_after_the_call_of_its_first_firing(duty: Duty) -> None:
    await duty.tells(firing=["disk"])
    await duty.looks()
    for _ in range(3):
        await duty.flaps("disk")
    assert await duty.presses() == OVER, "the call of the first firing still rings"
    await duty.hang_up()
    await duty.passes(MINUTE)
    assert "acknowledged" in await duty.presses()
    await duty.hang_up()
    await duty.passes(10 * MINUTE)
    assert await duty.rang() == [ANA, ANA]


@on_every_store
async def test_an_acknowledgement_holds_for_its_start_though_the_end_is_never_told(duty: Duty) -> None:
    """It was silenced after that, so nobody says that it is over."""
    await duty.tells(firing=["disk"])
    await duty.looks()
    await duty.presses()
    await duty.hang_up()
    for _ in range(40):
        duty.clock.advance(timedelta(hours=1))
        assert not (await duty.tells(firing=["disk"])).begun, "it is told that it fires on"
    for again in range(2, 9):  # at any distance, and however often
        duty.clock.advance(again * 10 * MINUTE)
        duty.began["disk"] = duty.clock.now()
        assert (await duty.tells(firing=["disk"])).begun
        assert not (await duty.tells(firing=["disk"])).begun
        assert await duty.looks() == [ANA] * again
        assert "acknowledged" in await duty.presses()
        await duty.hang_up()


async def test_what_is_erased_of_an_alert_that_fires_on_is_called_for_again(duty: Duty) -> None:
    heard = await duty.tells(firing=["disk"])
    await duty.looks()
    await duty.presses()
    await duty.hang_up()
    drop = Drop(ENDED_ESCALATION, heard.statuses[0].id, None)
    await duty.store.write(BulkWrite(writes=(Write(drops=(drop,)),)), now=duty.clock.now())
    assert (await duty.tells(firing=["disk"])).begun
    assert await duty.looks() == [ANA, ANA]


# -- storms -----------------------------------------------------------------------------------------------------------


async def test_the_alerts_of_one_notification_are_one_call_that_names_those_that_fire(duty: Duty) -> None:
    names = [f"disk {number}" for number in range(6)]
    await duty.tells(firing=names)
    await duty.looks()
    (status,) = await duty.listed()
    assert status.escalation.say == "6 alarms: " + " ".join(f"{name}." for name in names)
    assert status.escalation.spoken_how == "Press 1 for all."
    await duty.hang_up()
    await duty.looks()
    await duty.tells(resolved=names[:4])
    await duty.tells(firing=names[4:])
    (status,) = await duty.listed()
    assert status.escalation.say == "2 alarms: disk 4. disk 5."
    await duty.passes(3 * MINUTE)
    assert "2 alarms" in (await duty.engine.queue.find())[-1].body
    await duty.presses()
    for name in names[4:]:
        assert not (await duty.tells(firing=[name])).begun, "the key was for all"


@on_every_store
async def test_hundreds_of_alerts_at_once_are_one_escalation_whoever_tells_them(duty: Duty) -> None:
    names = [f"disk {number}" for number in range(400)]
    await duty.tells(firing=names, left_out=100)
    for some in (names[::-1], names[100:300]):
        assert not (await duty.tells(firing=some)).begun
    (status,) = await duty.listed()
    assert status.escalation.say.startswith("500 alarms: disk 0.")
    assert status.escalation.say.endswith(" more.")
    await duty.tells(resolved=names)
    assert [status.state for status in await duty.listed()] == ["stopped"]


async def test_instances_that_fail_one_after_the_other_have_one_call(duty: Duty) -> None:
    wording = Wording(one="{names} failed.", many="{count} failed: {names}.", between=", ")

    async def fails(name: str) -> EscalationStatus:
        told, within = Alerts(firing={name: Alert(mark=name, text=name)}), timedelta(seconds=10)
        heard = await duty.alarms.fire(told, duty.escalation(), wording=wording, key="run", within=within)
        return heard.statuses[0]

    for name in "abc":
        await fails(name)
        await fails(name)
        duty.clock.advance(timedelta(seconds=3))
        assert await duty.looks() == []
    duty.clock.advance(timedelta(seconds=3))
    assert await duty.looks() == [ANA]
    assert "3 failed: a, b, c." in (await duty.engine.queue.find())[0].body
    for name in "de":
        assert (await fails(name)).is_open, "no call has named them"
    await duty.presses()
    assert (await fails("c")).state == "acknowledged"
    await duty.hang_up()
    await duty.passes(MINUTE)
    assert await duty.rang() == [ANA, ANA]
    assert any("2 failed: d, e." in job.body for job in await duty.engine.queue.find())
    await duty.hang_up()
    await duty.passes(MINUTE)
    assert [(await fails(name)).state for name in "ae"] == ["acknowledged", "unanswered"], "each is called for once"
    assert await duty.rang() == [ANA, ANA]


@on_every_store
@pytest.mark.parametrize("numbers", [(ANA,), (ANA, BEN)])
async def test_a_storm_for_one_person_is_two_calls_and_each_alarm_is_heard(duty: Duty, numbers: Sequence[str]) -> None:
    """The first call leaves at once; what comes while it lasts is told by one more."""
    await duty.tells(firing=["disk 0"], numbers=numbers)
    await duty.looks()
    for number in range(1, 50):
        assert (await duty.tells(firing=[f"disk {number}"], numbers=numbers, answer_within=2 * MINUTE)).begun
        await duty.looks()
    await duty.passes(timedelta(seconds=90))
    assert await duty.rang() == [ANA]
    assert "acknowledged" in await duty.presses()
    await duty.hang_up(SessionStatus.COMPLETED)
    await duty.passes(MINUTE)
    assert await duty.rang() == [ANA, ANA]
    assert any("49 alarms: disk 1. disk 2." in job.body for job in await duty.engine.queue.find())
    assert "acknowledged" in await duty.presses()
    assert {status.state for status in await duty.listed()} == {"acknowledged"}
    assert {alarm.text for status in await duty.listed() for alarm in status.alarms if alarm.text} >= {"disk 0."}


@on_every_store
async def test_what_is_told_by_many_at_once_joins_and_loses_nothing(duty: Duty) -> None:
    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(partial(duty.tells, firing=[f"disk {number}"]))
    (status,) = await duty.listed()
    assert len(status.alarms) == 30
    assert await duty.looks() == [ANA]
    assert "30 alarms:" in (await duty.engine.queue.find())[0].body


@on_every_store
async def test_what_is_told_after_a_worker_has_taken_the_call_joins_it_until_it_leaves(duty: Duty) -> None:
    await duty.tells(firing=["disk"])
    (taken,) = await duty.engine.prepare()
    await duty.tells(firing=["cpu"])
    assert await duty.engine.finish(taken) == [], "what the worker has taken tells too little"
    assert await duty.looks() == [ANA]
    assert "2 alarms:" in (await duty.engine.queue.find())[0].body
    await duty.tells(firing=["net"])
    assert len(await duty.listed()) == 2, "the call has left"


async def test_a_busy_phone_uses_up_no_step_however_long_it_is_busy(duty: Duty) -> None:
    """Each asks for other words, so each is a call of its own."""
    every = [("disk", (ANA,)), ("cpu", (ANA, BEN)), ("net", (ANA,))]
    for place, (name, numbers) in enumerate(every):
        await duty.tells(firing=[name], numbers=numbers, key=str(place), answer_within=MINUTE)
        await duty.looks()
    await duty.passes(3 * MINUTE)
    assert await duty.rang() == [ANA, BEN], "the other number of an escalation is called meanwhile"
    for _ in range(4):
        await duty.hang_up()
        await duty.passes(MINUTE)
    assert await duty.rang() == [ANA, BEN, ANA, ANA]
    assert {status.state for status in await duty.listed()} == {"unanswered"}
    results = [[step.result for step in status.steps] for status in await duty.listed()]
    assert sorted(results, key=len) == [["no_answer"], ["no_answer"], ["number_busy", "no_answer", "no_answer"]]


# -- nothing can call -------------------------------------------------------------------------------------------------


async def test_while_nothing_can_call_it_is_told_at_once_and_no_step_is_spent(duty: Duty) -> None:
    heard = await duty.tells(firing=["disk"])
    assert heard.blocked == "no worker of queue default runs"
    await advance_all(duty.store)
    assert blocked_here()["default", "no_worker"] == 1
    for _ in range(30):
        duty.clock.advance(MINUTE)
        await advance_all(duty.store)
    assert await duty.looks() == [ANA]
    assert blocked_here()["default", "no_worker"] == 0
    await duty.engine.queue.hold(reason="a drill")
    await duty.tells(firing=["cpu"], numbers=(BEN,))
    await duty.looks()
    assert (blocked_here()["default", "held"], await duty.rang()) == (1, [ANA])
    await duty.engine.queue.resume()
    assert await duty.looks() == [ANA, BEN]
    await advance_all(duty.store)
    assert blocked_here()["default", "held"] == 0


# -- over generated sequences -----------------------------------------------------------------------------------------

ALERTS = ("a", "b", "c")
TARGETS = ((ANA,), (BEN, CHEN))
OperatorAction = tuple[str, int]
ACTS = (
    "fires", "resolved", "flaps", "told again", "delayed", "presses", "hangs up", "looks", "looks", "waits",
    "worker away", "store fails", "moved",
)  # fmt: skip


class Judge:
    """Carries out generated acts, and judges by what rang: the model knows only what was told, and who pressed when."""

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        self.firing: dict[str, bool] = {}
        self.acked: dict[tuple[str, int], datetime] = {}
        """When somebody acknowledged an alert for a target, in its firing."""
        self.heard: set[tuple[str, int]] = set()
        self.has_worker = True
        self.judged = 0

    async def act(self, what: str, seed: int) -> None:
        duty, name, target = self.duty, ALERTS[seed % 3], seed // 3 % 2
        match what:
            case "fires" | "told again" | "moved":
                await self.fires(what, name, seed)
            case "flaps" if self.firing.get(name):
                await self.act("resolved", seed)
                await self.act("fires", seed)
            case "resolved" if self.firing.pop(name, None):
                duty.clock.advance(timedelta(seconds=1))
                for _ in range(1 + seed % 2):  # the other Alertmanager tells it too
                    await duty.tells(resolved=[name])
            case "delayed" if name in duty.began and not self.firing.get(name) and self.was_told_lately(name):
                await self.tells(target, name)
            case "presses" if duty.voice.client_request_ids:
                await self.presses()
            case "hangs up":
                await duty.hang_up([SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.COMPLETED][seed % 3])
            case "worker away":
                self.has_worker = not self.has_worker
            case "store fails" if self.firing.get(name):
                await self.with_faults(name, target, seed)
            case _:
                await self.waits(timedelta(seconds=15) * (seed % 20 + 1) if what == "waits" else timedelta(seconds=2))
        await self.judge()

    async def fires(self, what: str, name: str, seed: int) -> None:
        duty = self.duty
        if not self.firing.get(name):
            if what != "fires":
                return
            duty.clock.advance(timedelta(seconds=1))
            duty.began[name] = duty.clock.now()
            self.forget(name)
        if what == "moved":
            duty.began[name] += timedelta(seconds=seed - 30)
        self.firing[name] = True
        for target in range(2) if seed % 2 else [seed // 3 % 2]:
            await self.tells(target, name)

    def was_told_lately(self, name: str) -> bool:
        return self.duty.clock.now() < self.duty.began[name] + 3 * MINUTE

    def forget(self, name: str) -> None:
        """The alert fires anew: who acknowledged it before has peace for five minutes."""
        for key in [key for key in self.acked if key[0] == name]:
            if self.duty.clock.now() >= self.acked[key] + 5 * MINUTE:
                del self.acked[key]
        self.heard -= {(name, target) for target in range(2)}

    async def tells(self, target: int, *names: str, by: Alarms | None = None) -> None:
        await self.duty.tells(firing=names, numbers=TARGETS[target], by=by)

    async def with_faults(self, name: str, target: int, seed: int) -> None:
        """A notification meets a store that fails before or after one of its writes, and is told again."""
        writes, strikes_at = 0, seed % 4

        async def fails(call: StoreCall) -> None:
            nonlocal writes
            writes += call.name == "write"
            if call.name == "write" and writes == strikes_at:
                raise StoreUnavailableError("the store is away")

        faulty = FaultyStore(self.duty.store, **{"before" if seed % 2 else "after": fails})
        try:
            await self.tells(target, name, by=Alarms(Escalations(CallQueue(faulty))))
        except StoreUnavailableError:
            await self.tells(target, name)

    async def waits(self, time: timedelta) -> None:
        duty, step = self.duty, timedelta(seconds=15)
        while time > timedelta():
            duty.clock.advance(min(time, step))
            time -= step
            await (duty.looks() if self.has_worker else advance_all(duty.store))
            await self.judge()

    async def presses(self) -> None:
        duty = self.duty
        job = await duty.engine.queue.get(duty.voice.client_request_ids[-1].rpartition(".")[0])
        if job.state is not JobState.SUBMITTED:
            return
        said = await duty.presses()
        if "acknowledged." in said:
            escalation = await duty.escalations.get(escalation_of(job) or "")
            target = 0 if escalation.escalation.numbers == TARGETS[0] else 1
            for alarm in (each for each in escalation.alarms if not each.ended):
                self.acked[self.name_of(alarm.text), target] = duty.clock.now()
        await duty.engine.summarise(job, SessionStatus.COMPLETED)

    @staticmethod
    def name_of(text: str) -> str:
        return text.rstrip(".")

    async def judge(self) -> None:
        """Each ring since the last look is about an alert that fires, and that nobody has acknowledged."""
        duty = self.duty
        for _, placement in duty.voice.placed[self.judged :]:
            job = await duty.engine.queue.get(placement.client_request_id.rpartition(".")[0])
            escalation = await duty.escalations.get(escalation_of(job) or "")
            target = 0 if escalation.escalation.numbers == TARGETS[0] else 1
            about = [self.name_of(alarm.text) for alarm in escalation.alarms if self.name_of(alarm.text) in job.body]
            firing = [name for name in about if self.firing.get(name)]
            assert firing, f"{job.number} was called for {about}, which is over"
            assert any(
                (at := self.acked.get((name, target))) is None or duty.clock.now() >= at + 5 * MINUTE for name in firing
            ), f"{job.number} was called for {firing} after an acknowledgement"
            self.heard |= {(name, target) for name in firing}
        self.judged = len(duty.voice.placed)

    async def ends(self) -> None:
        """All is well again: whatever fires, and was told, is heard, or has been acknowledged."""
        duty = self.duty
        self.has_worker = True
        firing = [name for name, fires in self.firing.items() if fires]
        for minute in range(30):
            if minute % 6 == 0:  # as Alertmanager repeats it
                for name in firing:
                    for target in range(2):
                        await self.tells(target, name)
            await self.waits(MINUTE)
            if minute > 12 and duty.voice.placed:  # by now people take what they hear
                await self.presses()
            await duty.hang_up()
        for name in firing:
            for target in range(2):
                assert (name, target) in self.heard or (name, target) in self.acked, f"nobody heard {name}"


async def run(url: str, acts: Sequence[OperatorAction]) -> None:
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        judge = Judge(Duty(store, clock))
        for what, seed in acts:
            await judge.act(what, seed)
        await judge.ends()


def generated(seed: int) -> list[OperatorAction]:
    dice = random.Random(seed)
    return [(dice.choice(ACTS), dice.randrange(64)) for _ in range(dice.randrange(5, 40))]


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 150), marks=pytest.mark.slow)])
async def test_whatever_is_told_in_whatever_order_each_alarm_is_heard_and_nobody_after_its_end(seeds: range) -> None:
    for seed in seeds:
        await run("memory://", generated(seed))


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in EVERY if name != "memory"])
async def test_the_same_on_stores_that_last(backend: str, fresh_url: Callable[[str], str]) -> None:
    for seed in range(8):
        await run(fresh_url(backend), generated(1000 + seed))
