"""Alarms: what fires, for whom, is heard until somebody acknowledges, and by nobody after that or its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import time_passing
from tests.support.stores import EVERY, clocked, on_every_store
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, JobState, SessionStatus, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Put, Write
from voiceflow_worker.core.writes import escalation_of
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.service.alarms import Alarms, Alert, Alerts, HeardAlerts
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import EscalationStatus, Wording
from voiceflow_worker.service.escalation_store import ALARMS, DEFINED
from voiceflow_worker.service.escalations import (
    OVER,
    Escalations,
    acknowledge,
    advance_all,
    blocked_here,
    ended_here,
)

__all__ = ["store"]
pytestmark = pytest.mark.anyio

store = clocked("memory")
ANA, BEN, CHEN = "+6587654321", "+6587654322", "+6587654323"
NAMED = {"A": ANA, "B": BEN, "C": CHEN}
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

    async def presses(self, key: str = "1", *, call: int = -1) -> str:
        """Who was called last, or in this call of all, presses a key; returns what is said then."""
        job = await self.engine.queue.get(self.voice.client_request_ids[call].rpartition(".")[0])
        caller = Caller(now=self.clock.now(), digits=key, data=job.data or {}, job=job, store=self.store)
        return str((await acknowledge(caller)).text)

    async def plays(self, moves: str, **asked: Any) -> None:
        """Play moves, one after the other: what is told, what passes, and what is looked at."""
        for move in moves.split(" | "):
            await getattr(self, f"_{move.split()[0]}")(move.partition(" ")[2], asked)

    async def _fires(self, what: str, asked: dict[str, Any], *, begins: bool | None = True) -> None:
        """Alerts fire, for others than all after an @: calls begin."""
        names, _, to = what.partition(" @")
        told: dict[str, Any] = {**asked, "numbers": tuple(NAMED[each] for each in to)} if to else asked
        heard = await self.tells(firing=names.split(), **told)
        assert begins is None or heard.begun == begins, what

    async def _told(self, what: str, asked: dict[str, Any]) -> None:
        """It is told that they fire on: no call begins."""
        await self._fires(what, asked, begins=False)

    async def _flaps(self, what: str, asked: dict[str, Any]) -> None:
        """An alert is resolved, and fires again a second later."""
        await self.tells(resolved=[what])
        await self._begins(f"{what} 1", asked)
        await self._fires(what, asked, begins=None)

    async def _begins(self, what: str, _: object) -> None:
        """So many seconds pass, and what is told of the alert from now on is that it began at that time."""
        name, seconds = what.split()
        self.clock.advance(timedelta(seconds=max(float(seconds), 0)))
        self.began[name] = self.clock.now() + timedelta(seconds=min(float(seconds), 0))

    async def _ends(self, what: str, _: object) -> None:
        await self.tells(resolved=what.split())

    async def _rings(self, what: str, asked: dict[str, Any]) -> None:
        """Who has been called so far, after a worker has looked."""
        rang = await self.looks()
        assert (rang if isinstance(asked.get("numbers", ANA)[0], str) else sorted(rang)) == [
            NAMED[each] for each in what
        ]

    async def _silent(self, what: str, _: object) -> None:
        """So many minutes pass, and nobody is called."""
        rang = await self.rang()
        await self.passes(int(what) * MINUTE)
        assert await self.rang() == rang

    async def _passes(self, what: str, _: object) -> None:
        await self.passes(int(what) * MINUTE)

    async def _later(self, what: str, _: object) -> None:
        """So many minutes pass, in which nobody looks."""
        self.clock.advance(int(what) * MINUTE)

    async def _key(self, what: str, _: object) -> None:
        """The key is pressed in the newest call, or in this one of all."""
        assert "acknowledged" in await self.presses(call=int(what or -1))

    async def _over(self, *_: object) -> None:
        """Who presses a key hears that the alarm is over."""
        assert (await self.presses("7"), await self.presses()) == ("None", OVER)

    async def _busy(self, *_: object) -> None:
        await self.hang_up(SessionStatus.BUSY)

    async def _hang(self, *_: object) -> None:
        await self.hang_up()

    async def _is(self, what: str, _: object) -> None:
        """The states of all escalations."""
        assert sorted(each.state for each in await self.listed()) == what.split()

    async def _says(self, what: str, _: object) -> None:
        newest = (await self.listed())[-1]
        assert what in f"{newest.in_words()} {newest.escalation.say} {newest.escalation.spoken_how}"

    async def _calls(self, what: str, _: object) -> None:
        assert any(f"{what}" in job.body for job in await self.engine.queue.find())

    async def _stopped(self, *_: object) -> None:
        await self.escalations.stop((await self.listed())[-1].id, reason="a drill")

    async def _erased(self, *_: object) -> None:
        drop = Drop(DEFINED, (await self.listed())[-1].id, None)
        await self.store.write(BulkWrite(writes=(Write(drops=(drop,)),)), now=self.clock.now())

    async def _unread(self, what: str, _: object) -> None:
        """What is known of the alerts is replaced by this text, which is none of ours."""
        for each in (await self.listed())[-1].record.alarms:
            put = Put(ALARMS, "default", what, self.clock.now() + 400 * timedelta(days=1), member=each.mark)
            await self.store.write(BulkWrite(writes=(Write(puts=(put,)),)), now=self.clock.now())

    async def listed(self) -> list[EscalationStatus]:
        return await self.escalations.recent(since=self.clock.now() - timedelta(days=30))


@pytest.fixture
def duty(store: Store, clock: ManualClock) -> Duty:
    return Duty(store, clock)


PLAYS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "calls at once tell all alarms, and are made again when nobody acknowledged": (
        ("fires disk | fires cpu | rings AB | calls 2 alarms: | fires net | hang | rings AABB "
        "| rings AABB | hang | rings AABB | is unanswered unanswered | later 240 | fires disk | rings AAABBB | key"),
        {"numbers": ((ANA, BEN),)},
    ),
    "who did not acknowledge is called again when the alert is told again": (
        ("fires disk | rings A | hang | rings AB | hang | rings AB | is unanswered | later 240 | fires disk | is open "
        "| rings ABA | key | told disk | hang | rings ABA"),
        {"numbers": (ANA, BEN)},
    ),
    "a late key of an earlier round acknowledges": (
        "fires disk | rings A | passes 4 | key 0 | hang | silent 10", {"rounds": None},
    ),
    "who answers after it was resolved hears so, and the key changes nothing": (
        "fires disk | rings A | ends disk | over | is stopped", {},
    ),
    "what somebody stopped is silent until it fires anew": (
        "fires disk | stopped | later 240 | told disk | later 240 | told disk | rings  | flaps disk | rings A", {},
    ),
    "resolved under another start, all escalations of the alert end": (
        ("fires disk cpu | fires disk @B | begins disk 30 | later 1 | ends disk | is open stopped | ends cpu "
        "| is stopped stopped | rings "), {},
    ),
    "a firing that was delayed behind its end calls nobody": (
        "begins disk -60 | ends disk | later 1 | told disk | is | rings  | later 5 | fires disk", {},
    ),
    "an acknowledged flap rests, and an end in the rest is silent": (
        ("fires disk | rings A | key | hang | later 1 | flaps disk | says nobody is called until "
        f"| says {ANA} acknowledged this alert at | silent 3 | ends disk | silent 10"), {"rest": 5 * MINUTE},
    ),
    "a flap that still fires when the rest is over is heard": (
        f"fires disk | rings A | key | hang | flaps disk {'| flaps disk | silent 1 ' * 3}| passes 3 | rings AA",
        {"rest": 5 * MINUTE},
    ),
    "a flap that nobody acknowledged is heard after the call of its first firing": (
        ("fires disk | rings A | flaps disk | flaps disk | flaps disk | over | hang | passes 1 | rings AA | key "
        "| hang | silent 10"), {},
    ),
    "an acknowledgement holds for its start though the end is never told": (
        f"fires disk | rings A | key | hang {'| later 60 | told disk ' * 40}"
        + "".join(
            f"| later {again}0 | begins disk 0 | fires disk | told disk | rings {'A' * again} | key | hang "
            for again in range(2, 9)
        ).rstrip(), {},
    ),
    "what is erased of an alert that fires on is called for again": (
        "fires disk | rings A | key | hang | erased | fires disk | rings AA", {},
    ),
    "an alert of which nothing can be read fires on": ("fires disk | unread ? | rings A | is open", {}),
    "the alerts of one notification are one call, which names those that fire": (
        ("fires a b c d | says 4 alarms: a. b. c. d. Press 1 for all. | rings A | hang | rings A | ends a b | told c d "
        "| says 2 alarms: c. d. | is open | passes 3 | calls 2 alarms | key | told c | told d"), {"rounds": None},
    ),
    "there are as many rounds as are asked for, and no number twice in one": (
        f"fires disk {'| passes 1 | busy ' * 60}| is unanswered | rings ABABAB",
        {"numbers": (ANA, "nobody", BEN), "rounds": 3},
    ),
    "of one round, each number is called once": (
        f"fires disk {'| passes 1 | busy ' * 9}| is unanswered | rings AB", {"numbers": (ANA, "nobody", BEN)},
    ),
}  # fmt: skip
"""Moves, and what each notification asks for: for a call to Ana, else."""


@on_every_store
@pytest.mark.parametrize("play", PLAYS)
async def test_what_is_told_rings_and_stops(duty: Duty, play: str) -> None:
    moves, asked = PLAYS[play]
    await duty.plays(moves, **asked)


# -- until acknowledged -----------------------------------------------------------------------------------------------


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


# -- resolved, flaps, rest --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("rounds", [1, None])
async def test_an_alert_that_nobody_names_any_more_is_forgotten_and_begins_again_when_it_is_named(
    duty: Duty, rounds: int | None
) -> None:
    """It was silenced and has ended since: nobody says that it is over."""
    first = await duty.tells(firing=["disk"], rounds=rounds, forget_after=timedelta(hours=1), answer_within=10 * MINUTE)
    for _ in range(3):
        await duty.passes(20 * MINUTE)
        await duty.hang_up()
        await duty.tells(firing=["disk"], rounds=rounds, forget_after=timedelta(hours=1), answer_within=10 * MINUTE)
    forgotten = ended_here()["forgotten"]
    for _ in range(8):
        await duty.passes(10 * MINUTE)
        await duty.hang_up()
    (status,) = await duty.listed()
    rang = await duty.rang()
    assert (status.state, len(rang)) == ("unanswered", 4 if rounds else 12)
    if rounds is None:
        assert "no notification has named it" in status.in_words()
        assert ended_here()["forgotten"] == forgotten + 1
    again = await duty.tells(firing=["disk"], rounds=rounds, forget_after=timedelta(hours=1))
    assert (again.begun, again.statuses[0].id) == (True, first.statuses[0].id)
    assert len(await duty.looks()) == len(rang) + 1


async def test_an_end_that_the_store_had_not_in_full_stops_nobody_who_is_called_since(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    """The end is in the journal of this host, and the store failed; the alert fires again as the next thing."""
    writes = 0

    async def fails(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == 2:
            raise StoreUnavailableError("the store is away")

    duty = Duty(store, clock)
    await duty.tells(firing=["disk"])
    ordered = cast("Store", OrderedStore(FaultyStore(store, before=fails), lambda: JournalFiles(tmp_path)))
    receiver = Alarms(Escalations(CallQueue(ordered)))
    writes = 0
    with pytest.raises(StoreUnavailableError):
        await duty.tells(resolved=["disk"], by=receiver)
    clock.advance(timedelta(seconds=1))
    duty.began["disk"] = clock.now()
    assert (await duty.tells(firing=["disk"], by=receiver)).begun
    await cast("OrderedStore", ordered).give_again()
    assert await duty.looks() == [ANA]


# -- storms -----------------------------------------------------------------------------------------------------------


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
