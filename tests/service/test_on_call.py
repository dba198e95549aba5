"""On call: what fires is called for until somebody presses the key, and for nothing after that or its end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import time_passing
from tests.support.stores import clocked, on_every_store
from tests.support.voices import ScriptedVoice, refused, unknown
from voiceflow_worker import (
    CallQueue,
    CallWindow,
    Escalation,
    Job,
    JobState,
    Menu,
    SessionStatus,
    SuppressionList,
    start_escalation,
)
from voiceflow_worker.core.gates import hold_until_left, standing_gate
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, GATES
from voiceflow_worker.core.ports.store import BulkWrite
from voiceflow_worker.core.writes import ACKNOWLEDGED, MENUS
from voiceflow_worker.errors import InvalidInputError, OtherRequestError, StoreUnavailableError
from voiceflow_worker.ivr.menu import END
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.service.alerts import NotificationResult, handle_notification
from voiceflow_worker.service.on_call import (
    NobodyToCallError,
    PolicyFile,
    counted_here,
    follow,
    read_policies,
    read_states,
)
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

store = clocked("memory")
NAMED = {
    "A": "+6587654321", "B": "+6587654322", "C": "+6587654323", "D": "+6587654324",
    "U": "+442079460123", "N": "no number",
}  # fmt: skip
LETTER = {number: letter for letter, number in NAMED.items()}
MINUTE = timedelta(minutes=1)
SETTINGS = load_settings(source="+6531234567", voice_profile="en-IE-EmilyNeural")


def escalation(numbers: str = "A,B,C", **more: Any) -> Escalation:
    """The escalation for these people: one step after the other, those behind a + at once with the one before."""
    steps = [tuple(NAMED[each] for each in step) for step in numbers.replace("+", "").split(",")]
    given: dict[str, Any] = {"say": "The disk is full.", "source": "+6531234567", "rounds": 1, **more}
    numbered = [step[0] if len(step) == 1 else step for step in steps]
    return Escalation(numbers=numbered, voice_profile="en-IE-EmilyNeural", **given)


class Duty:
    """A queue, a sender of notifications, a worker in single steps, and the people who are called."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.queue = self.engine.queue
        self.began: dict[str, datetime] = {}
        self.fields: dict[str, Any] = {}
        self.rung = self.batch = ""

    async def notifies(
        self, *, firing: Sequence[str] = (), resolved: Sequence[str] = (), numbers: str = "A",
        queue: CallQueue | None = None, group: str = "g", **more: Any,
    ) -> NotificationResult:  # fmt: skip
        """Handle a notification of alerts that fire, since the time in `began` or now, and of some that are over."""
        now = self.clock.now()
        alerts = [
            {
                "status": status,
                "fingerprint": each,
                "labels": {"alertname": each},
                "startsAt": self.began.setdefault(each, now).isoformat(),
                "endsAt": now.isoformat(),
            }
            for status, names in (("firing", firing), ("resolved", resolved))
            for each in names
        ]
        fields = {"numbers": "|".join(NAMED.get(each, each) for each in numbers), "rounds": 1, **more}
        fields["numbers"] = fields["numbers"].replace("|,|", ",").replace("|+|", "|")
        async with time_passing(self.clock):
            return await handle_notification(
                queue or self.queue, {"groupKey": group, "alerts": alerts}, fields, settings=SETTINGS
            )

    async def looks(self) -> str:
        """Let a worker be alive, follow, and send what is due. Return who has been called so far."""
        await Heartbeat(self.store, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()
        await follow(self.queue)
        await self.engine.send()
        rang = "".join([LETTER[(await self.job(place)).number] for place in range(len(self.voice.client_request_ids))])
        self.rung += "".join(sorted(rang[len(self.rung) :]))  # those at once leave in any order
        return self.rung

    async def job(self, place: int) -> Job:
        return await self.queue.get(self.voice.client_request_ids[place].rpartition(".")[0])

    async def newest(self, letter: str) -> Job:
        """The newest call to somebody that has left."""
        found = await self.queue.find(destination=NAMED[letter], limit=None)
        return max((job for job in found if job.posts), key=lambda job: job.posts[-1].began_at)

    async def plays(self, moves: str, **fields: Any) -> None:
        """Play moves, one after the other; each is what a method below is called."""
        self.fields = fields
        for move in moves.split(" | "):
            name, *words = move.split()
            try:
                await getattr(self, f"_{name}")(*words)
            except AssertionError as error:
                raise AssertionError(f"at {move} of {moves}: {error}") from error

    async def _starts(self, numbers: str, *more: str) -> None:
        given = dict(self.fields)
        if "window" in more:  # open in Singapore now, and closed in London
            here = (self.clock.now().hour + 8) % 24
            given["window"] = CallWindow.parse(f"{(here - 1) % 24:02}:00-{(here + 1) % 24:02}:00")
        self.batch = "oncall-night"
        assert await start_escalation(self.queue, escalation(numbers, **given), name=self.batch)

    async def _fires(self, *names: str, is_new: bool | None = True) -> None:
        """Alerts fire, for others than all after an @: calls begin."""
        others = next((name[1:] for name in names if name[0] == "@"), None)
        given = self.fields if others is None else {**self.fields, "numbers": others}
        result = await self.notifies(firing=[name for name in names if name[0] != "@"], **given)
        assert is_new is None or result.created == is_new
        self.batch = result.batches[0] if result.batches else self.batch

    async def _told(self, *names: str) -> None:
        """It is told that they fire on: nothing begins."""
        await self._fires(*names, is_new=False)

    async def _flaps(self, name: str) -> None:
        """An alert is resolved, and fires again a second later."""
        await self._over(name)
        await self._begins(name, "1")
        await self._fires(name)

    async def _begins(self, name: str, seconds: str) -> None:
        """So many seconds pass, and the alert began now; or it began so many seconds ago."""
        self.clock.advance(timedelta(seconds=max(float(seconds), 0)))
        self.began[name] = self.clock.now() + timedelta(seconds=min(float(seconds), 0))

    async def _over(self, *names: str) -> None:
        numbers = self.fields.get("numbers", "A")
        await self.notifies(resolved=names, **{**self.fields, "numbers": numbers})

    async def _rings(self, letters: str = "") -> None:
        """Who has been called so far, after a worker has looked."""
        assert await self.looks() == letters, self.rung

    async def _silent(self, minutes: str) -> None:
        """So many minutes pass with a worker, and nobody is called."""
        rung = self.rung
        await self._passes(minutes)
        assert self.rung == rung, self.rung

    async def _passes(self, minutes: str) -> None:
        for _ in range(int(float(minutes) * 4)):
            self.clock.advance(MINUTE / 4)
            await self.engine.sweeper.sweep()
            await self.looks()

    async def _later(self, minutes: str) -> None:
        """So many minutes pass, in which nobody looks."""
        self.clock.advance(float(minutes) * MINUTE)

    async def _key(self, letter: str, digits: str = "1") -> None:
        """Somebody presses a key in the newest call."""
        job = await self.newest(letter)
        press = KeyPress(
            at=self.clock.now(), menu="escalation", digits=digits, event_id=f"{job.id} {digits}",
            answer=ACKNOWLEDGED if digits == "1" else None,
        )  # fmt: skip
        await MenuCalls(self.store, self.engine.policy).pressed(
            MenuCall(job, job.post_count, ()), press, session_id=None
        )

    async def _ends(self, letters: str, status: str = "NO_ANSWER") -> None:
        for letter in letters:
            await self.engine.summarise(await self.newest(letter), SessionStatus[status])

    async def _other(self, letter: str, does: str = "") -> None:
        """Another call to somebody is open; or it ends."""
        if does:
            (job,) = await self.queue.find(destination=NAMED[letter], batch_id="others")
            await self.engine.summarise(job, SessionStatus.COMPLETED)
        else:
            await self.engine.enqueue(NAMED[letter], batch="others")

    async def _eight(self, answers: str) -> None:
        """What 8x8 answers to the next call."""
        self.voice.answers = [unknown() if answers == "unknown" else refused(-1011, "no such number")]

    async def _suppress(self, letter: str) -> None:
        await SuppressionList(self.store).add(NAMED[letter], reason="asked by mail")

    async def _hold(self, batch: str = "") -> None:
        await hold_until_left(self.store, "default", batch_id=batch or None, reason="a wrong number")

    async def _resume(self, batch: str = "") -> None:
        await self.queue.resume(batch_id=batch or None)

    async def _cancel(self) -> None:
        async with time_passing(self.clock):
            await self.queue.cancel_batch(self.batch, reason="seen on the dashboard")

    async def _says(self, *words: str) -> None:
        """What the calls of the newest escalation say."""
        jobs = await self.queue.find(batch_id=self.batch)
        assert {str(job.data and job.data["question"]) for job in jobs} == {f"Alert: {' '.join(words)}."}

    async def _is(self, state: str) -> None:
        """The state of the newest escalation."""
        assert (await read_states(self.queue, [self.batch]))[self.batch].value == state


@pytest.fixture
def duty(store: Store, clock: ManualClock) -> Duty:
    return Duty(store, clock)


SCENES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "one after the other, until somebody presses the key": (
        "starts A,B,C | rings A | ends A | rings AB | key B | is cancelled | silent 9", {},
    ),
    "each step has its time, whatever the calls before it do": (
        "starts A,B | rings A | silent 1 | passes 1.5 | rings AB | key A | is cancelled | silent 9", {},
    ),
    "several are called at once, and the first key ends it for all": (
        "starts A,B+C,D | rings A | ends A BUSY | rings ABC | key C | key B | is cancelled | silent 9", {},
    ),
    "a step of several is over when all of its calls have ended": (
        "starts A+B,C | rings AB | ends B BUSY | rings AB | ends A | rings ABC", {},
    ),
    "only a step of the same round moves": (
        ("starts A | rings A | ends A BUSY | silent 1 | passes 1.5 | rings AA | ends A | passes 2 | rings AAA | ends A "
        "| rings AAA | is unanswered | silent 9"), {"rounds": 3},
    ),
    "a late key still ends it": (
        "starts A,B | rings A | ends A | rings AB | ends B | rings AB | is unanswered | key A | is cancelled", {},
    ),
    "a wrong key ends nothing": ("starts A,B | rings A | key A 7 | is open | ends A | rings AB", {}),
    "a doubt holds up no step, and its late key ends all": (
        "eight unknown | starts A,B,C | rings A | rings AB | key A | is cancelled | silent 9", {},
    ),
    "whom 8x8 refuses is passed over": ("eight refuses | starts A,B | rings A | rings AB", {}),
    "who is suppressed, is no number, or has a closed window, is left out": (
        "suppress A | starts A,N,U,B window | rings B", {},
    ),
    "who is suppressed when the call waits is passed over": ("starts A,B | suppress A | rings B", {}),
    "a phone that is busy with another call rings when it is free": (
        "other A | rings A | starts A,B | rings A | passes 1 | rings A | other A ends | passes 0.5 | rings AA", {},
    ),
    "a hold of the queue keeps each call back, and then each that is due rings": (
        "starts A,B,C | hold | later 3 | rings | resume | rings AB | key A | silent 5", {},
    ),
    "a cancel by a person ends it, and the alert that is repeated calls nobody": (
        ("fires disk | rings A | cancel | is cancelled | later 240 | told disk | silent 5 | flaps disk | passes 1 "
        "| ends A | rings AA"), {},
    ),
    "after 20 minutes without a worker each phone rings once a step, in the order of the steps": (
        ("starts A,B | later 20 | rings AB | silent 1 | ends A | passes 1 | rings ABA | ends B | passes 1 | rings ABAB "
        "| ends AB | passes 1 | rings ABABAB"), {"rounds": 3},
    ),
    "after an hour and more without a worker nobody rings": ("starts A,B | later 70 | rings | passes 1 | rings", {}),
    "the same notification adds nothing": ("fires disk | told disk | rings A | told disk | rings A", {}),
    "what joins later is one further call, which says that alone": (
        "fires disk | rings A | fires disk cpu | says cpu | told cpu disk | ends A | rings AA", {},
    ),
    "of others than before, the same alert is news": ("fires disk | rings A | fires disk @B | rings AB", {}),
    "whom nobody has acknowledged is called again when the alert is told again": (
        ("fires disk | rings A | ends A | rings AB | ends B | rings AB | is unanswered | later 240 | fires disk "
        "| is open | rings ABA | key A | told disk | ends A | silent 5"), {"numbers": "A,B"},
    ),
    "an acknowledgement holds for its start though the end is never told": (
        (f"fires disk | rings A | key A | ends A {'| later 60 | told disk ' * 30}"
        "| begins disk 0 | fires disk | rings AA | told disk"), {},
    ),
    "an alert that begins again after its end rings": (
        "fires disk | rings A | over disk | is cancelled | flaps disk | ends A | rings AA", {},
    ),
    "of two alerts, the one that is over ends its own batch alone": (
        "fires disk | fires disk cpu | over disk | rings A | says cpu", {},
    ),
    "a batch goes on while one of its alerts fires": (
        "fires a b | over a | is open | rings A | over b | is cancelled | silent 5", {},
    ),
    "a firing that was delayed behind its end calls nobody": (
        "begins disk -60 | over disk | later 1 | told disk | later 10 | told disk | rings", {},
    ),
    "a key after the end changes nothing": ("fires disk | rings A | over disk | key A | is cancelled", {}),
    "what is forgotten is news again": (
        "fires disk | rings A | key A | ends A | later 43201 | fires disk | rings AA", {},
    ),
}  # fmt: skip
"""Moves, and the fields of each start: for one round and, of an alert, for A alone, else."""


@on_every_store
@pytest.mark.parametrize("scene", SCENES)
async def test_what_fires_rings_and_ends(duty: Duty, scene: str) -> None:
    moves, fields = SCENES[scene]
    await duty.plays(moves, **fields)


@on_every_store
async def test_twenty_notifications_at_once_and_two_senders_are_one_batch(duty: Duty) -> None:
    alerts = [f"disk {number}" for number in range(60)]
    results: list[NotificationResult] = []

    async def notifies() -> None:
        results.append(await duty.notifies(firing=alerts, numbers="A,B+C", rounds=2))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(notifies)
    assert len({each.batches[0] for each in results}) == 1
    assert len(await duty.queue.find(limit=None)) == 6
    assert await duty.looks() == "A"
    (job, *_) = await duty.queue.find()
    assert job.data is not None
    assert str(job.data["question"]).startswith("60 alarms: disk 0. disk 1.")


@on_every_store
async def test_a_storm_of_groups_rings_a_phone_once_for_each_group_and_once_for_one_group(duty: Duty) -> None:
    for number in range(20):
        await duty.notifies(firing=[f"disk {number}"], group=f"g{number}")
    for rings in range(1, 21):
        assert await duty.looks() == "A" * rings
        await duty.plays("key A | ends A | later 0.1")
    assert await duty.looks() == "A" * 20
    await duty.notifies(firing=[f"cpu {number}" for number in range(20)], group="all")
    assert await duty.looks() == "A" * 21


async def test_a_process_that_dies_after_the_record_leaves_calls_that_the_next_notification_makes(duty: Duty) -> None:
    async def dies(call: StoreCall) -> None:
        writes = call.arguments[0].writes if call.name == "write" else ()
        if any(put.namespace == MENUS for write in writes for put in write.puts):
            raise StoreUnavailableError("the process has died")

    dying = CallQueue(FaultyStore(duty.store, before=dies))
    with pytest.RaisesGroup(StoreUnavailableError):
        await duty.notifies(firing=["disk"], numbers="A,B", queue=dying)
    assert await duty.looks() == ""
    duty.clock.advance(MINUTE)
    assert (await duty.notifies(firing=["disk"], numbers="A,B")).created
    assert await duty.looks() == "A"
    duty.clock.advance(MINUTE)
    assert await duty.looks() == "AB", "the time is that of the first notification"


async def test_while_nobody_can_be_called_the_answer_says_so_and_the_calls_are_stored(duty: Duty) -> None:
    assert (await duty.notifies(firing=["disk"])).blocked == "no worker of queue default runs"
    assert await duty.looks() == "A"
    assert (await duty.notifies(firing=["disk"])).blocked is None
    await duty.queue.hold(reason="a drill")
    assert "a drill" in str((await duty.notifies(firing=["disk", "cpu"])).blocked)
    await duty.plays("suppress B")
    nobody = await duty.notifies(firing=["net"], numbers="BN")
    assert "no number can be called" in str(nobody.blocked)
    await duty.queue.resume()
    await SuppressionList(duty.store).remove(NAMED["B"])
    await duty.plays("key A | ends A")
    assert (await duty.notifies(firing=["net"], numbers="BN")).created
    assert await duty.looks() in {"AAB", "AB", "ABA"}


AHEAD = [timedelta(seconds=50), 5 * MINUTE, timedelta(hours=3), timedelta(days=2)]


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
async def test_an_alert_that_begins_in_the_future_fires_now_and_once(duty: Duty, ahead: timedelta) -> None:
    """Alertmanager takes the end for the start of an alert that was posted with its end alone."""
    for rings in range(1, 4):
        duty.began["disk"] = duty.clock.now() + ahead
        assert (await duty.notifies(firing=["disk"])).created
        assert await duty.looks() == "A" * rings
        await duty.plays("key A | ends A")
        for _ in range(3):
            duty.clock.advance(MINUTE)
            assert not (await duty.notifies(firing=["disk"])).created
        await duty.notifies(resolved=["disk"])
        duty.clock.advance(ahead)


async def test_what_nobody_acknowledges_is_counted_once_however_many_look(duty: Duty) -> None:
    before = counted_here()
    await duty.plays("starts A,N | rings A | ends A")
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(follow, duty.queue)
    after = counted_here()
    assert after["unanswered"] == before["unanswered"] + 1
    assert after["left_out"] == before["left_out"] + 1


@on_every_store
@pytest.mark.parametrize("ends", ["key", "cancel", "over"])
async def test_a_call_that_goes_back_to_the_queue_after_the_end_never_rings(duty: Duty, ends: str) -> None:
    """Its worker has its journal entry, the escalation ends, and then it turns out that nothing was sent."""
    await duty.plays("fires disk | rings A | later 2", numbers="A,B")
    (job,) = await duty.engine.journal()
    assert job.state is JobState.SENDING
    await duty.plays({"key": "key A", "cancel": "cancel", "over": "over disk"}[ends], numbers="A,B")
    await duty.engine.verdict(job, 1, Verdict(kind=VerdictKind.NOT_SENT, message="connection refused"))
    await duty.plays("silent 5")
    reasons = {"key": "acknowledged in call", "cancel": "seen on the dashboard", "over": "its alerts are resolved"}
    ended = await duty.queue.get(job.id)
    assert ended.state is JobState.CANCELLED
    assert reasons[ends] in str(ended.reason)
    assert NAMED["A"] not in str(ended.reason)


@on_every_store
async def test_the_press_and_the_cancel_are_one_write(duty: Duty) -> None:
    writes: list[BulkWrite] = []

    async def sees(call: StoreCall) -> None:
        if call.name == "write":
            writes.append(call.arguments[0])

    await duty.plays("starts A,B | rings A")
    job = await duty.newest("A")
    press = KeyPress(at=duty.clock.now(), menu="escalation", digits="1", event_id="1", answer=ACKNOWLEDGED)
    watched = MenuCalls(cast("Store", FaultyStore(duty.store, before=sees)), duty.engine.policy)
    for _ in range(2):  # the event is repeated
        await watched.pressed(MenuCall(job, job.post_count, ()), press, session_id=None)
    storing = [write for bulk in writes for write in bulk.writes if write.changes]
    assert all({put.namespace for put in write.puts} >= {CANCELLED, GATES} for write in storing)
    assert storing


async def test_two_presses_at_once_are_kept_and_the_first_names_the_reason(duty: Duty) -> None:
    await duty.plays("starts A+B,C | rings AB")
    first, second = await duty.newest("A"), await duty.newest("B")
    async with anyio.create_task_group() as group:
        group.start_soon(duty._key, "A")
        group.start_soon(duty._key, "B")
    assert (await duty.newest("A")).answer == (await duty.newest("B")).answer == ACKNOWLEDGED
    gate = await standing_gate(duty.store, "default", duty.batch)
    assert gate is not None
    assert gate.reason in {f"acknowledged in call {each.id} (key 1)" for each in (first, second)}


async def test_the_key_of_another_call_cancels_no_batch(duty: Duty) -> None:
    await duty.engine.enqueue(NAMED["A"], batch="others", unique_key="others-1", menu="escalation-of-mine")
    await duty.looks()
    await duty.plays("key A")
    assert await standing_gate(duty.store, "default", "others") is None


async def test_the_same_start_adds_nothing_and_another_request_is_refused(duty: Duty) -> None:
    assert await start_escalation(duty.queue, escalation("A"), name="oncall-1", request="one")
    assert not await start_escalation(duty.queue, escalation("A,B"), name="oncall-1", request="one")
    assert len(await duty.queue.find(limit=None)) == 1
    with pytest.raises(OtherRequestError, match="another request"):
        await start_escalation(duty.queue, escalation("A"), name="oncall-1", request="two")
    with pytest.raises(NobodyToCallError, match="no number can be called"):
        await start_escalation(duty.queue, escalation("N"), name="oncall-2")


# -- the fields -------------------------------------------------------------------------------------------------------


def test_the_calls_have_times_an_hour_each_and_the_first_priority() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    found = escalation("A,B+C", rounds=2)
    turns = found.turns(begin=begin)
    assert [(LETTER[each.number], (each.at - begin).seconds, each.round, each.step) for each in turns] == [
        ("A", 0, 1, 1), ("B", 120, 1, 2), ("C", 120, 1, 2), ("A", 240, 2, 3), ("B", 360, 2, 4), ("C", 360, 2, 4),
    ]  # fmt: skip
    request = found.request(turns[1], batch="oncall-1", place=2)
    options = request.options
    assert (options["unique_key"], options["batch"], options["priority"]) == ("oncall-1/2", "oncall-1", 1000)
    assert options["valid_until"] == turns[1].at + timedelta(hours=1)
    assert "The disk is full. Press 1 to acknowledge." in str(request.flow.to_json())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"numbers": "+6587654321,+65 8765 4321"}, "is there twice"),
        ({"rounds": 51}, "give a number from 1 to 50"),
        ({"numbers": ",".join(f"+65876543{each:02}" for each in range(17))}, "51 calls in 3 rounds"),
        ({"numbers": ""}, "numbers: it is missing"),
        ({"say": " "}, "say: give a text"),
        ({"key": "#"}, "is not a key that can acknowledge"),
        ({"every": "0s"}, "every"),
        ({"answer_within": "2m"}, "answer_within is not a field of an escalation"),
        ({"policy": "db"}, "is no policy"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(given: Mapping[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        Escalation.of({"numbers": "+6587654321", "say": "The disk is full.", **given}, settings=SETTINGS)


def test_policies_are_a_file_that_is_read_again_and_more_than_fifty_calls_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text('[db]\nnumbers = ["+6587654321", ["+6587654322", "+6587654323"]]\nevery = "1m"\n')
    policies = PolicyFile(file, settings=SETTINGS)
    found = Escalation.of({"policy": "db", "say": "-."}, settings=SETTINGS, policies=anyio.run(policies.current))
    assert (found.policy, found.every, found.rounds) == ("db", MINUTE, 3)
    for wrong in ('numbers = ["+6587654321"]\nrounds = 51', 'numbers = ["nobody"]', 'policy = "db"'):
        file.write_text(f"[db]\n{wrong}\n")
        assert anyio.run(policies.current)["db"]["every"] == "1m"
        assert policies.problem
        with pytest.raises(InvalidInputError, match="db"):
            read_policies(file, settings=SETTINGS)


def test_no_other_menu_has_the_answer_of_escalations() -> None:
    asks = {"id": "ask", "text": "Is it you?"}
    for key in ({"answer": ACKNOWLEDGED}, {"next": ACKNOWLEDGED}):
        with pytest.raises(InvalidInputError, match="the answer of escalations alone"):
            read_menu({"questions": [{**asks, "keys": {"1": key}}]}, voice_profile="en-IE-EmilyNeural")
    with pytest.raises(InvalidInputError, match="is not do_not_call_again or escalation"):
        read_menu({"questions": [{**asks, "id": "escalation", "keys": {"1": {}}}]}, voice_profile="en-IE-EmilyNeural")
    with pytest.raises(InvalidInputError, match="the answer of escalations alone"):
        Menu("main", prompt="Is it you?").on("1", goto=END, result=ACKNOWLEDGED)
