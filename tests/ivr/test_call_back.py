"""Who presses "call me back" is called back by the same call: once, in its window, while it is valid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import permutations, product
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.contract.samples import ManualClock
from tests.ivr.asking import SECRET, Heard, Line, Receiver
from tests.support.engine import Engine
from tests.support.everyday import combinations, spread
from tests.support.stores import EVERY
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CallWindow,
    End,
    Job,
    JobState,
    Menu,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    build_report,
    load_settings,
    open_store,
)
from voiceflow_worker import Receiver as WholeReceiver
from voiceflow_worker.asgi import serving
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.ivr import Rehearsal, call_me_back, do_not_call_again
from voiceflow_worker.ivr.call_back import NOT_CALLED_BACK
from voiceflow_worker.ivr.check import check_menus
from voiceflow_worker.ivr.menu import BACK, Step
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH
from voiceflow_worker.webhooks.menu_calls import MenuCalls
from voiceflow_worker.webhooks.menu_events import AnswersOnce

pytestmark = pytest.mark.anyio

S = SessionStatus
HOUR = timedelta(hours=1)
SINGAPORE = ZoneInfo("Asia/Singapore")
ANA, HOME = "+6587654321", "+6565551234"
PROMISED, SORRY = "Until later.", NOT_CALLED_BACK["en"]


def visit(after: timedelta = 2 * HOUR, **more: Any) -> Menu:
    menu = Menu("visit", prompt="Press a key.", voice_profile="en-US-BenjaminRUS", fallback=End("Goodbye."), **more)
    menu.on("1", result="confirmed", goto=End("Thank you."))
    menu.on("2", result="call back", goto="Noted.", do=call_me_back(after))
    menu.on("3", result="call back", goto=End(PROMISED), do=call_me_back(after))
    menu.on("9", result="do not call again", goto=End("No more calls."), do=do_not_call_again)
    return menu


class Desk:
    """One queue with its receiver, on a clock that stands still, and what rang."""

    def __init__(self, store: Store, clock: ManualClock, menu: Menu | None = None) -> None:
        self.clock = clock
        self.menu = menu or visit()
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.receiver = Receiver.of(store, self.menu)
        self.queue = self.engine.queue

    async def call(self, **options: Any) -> Job:
        """A call that has been sent."""
        flow = self.menu.call(ANA, source="+6531234567")
        job = await self.queue.enqueue(flow, menu=self.menu.name, batch_id="march", **options)
        await self.engine.send()
        return await self.queue.get(job.id)

    def line(self, job: Job, number: int | None = None) -> Line:
        """The call of the newest POST, or of the one with this number."""
        number = number or job.post_count
        line = Line.of(job, session_id=f"session-{job.id}.{number}")
        line.destination = job.number_of(job.posts[number - 1])
        return line

    async def press(self, job: Job, keys: str) -> Heard:
        return await self.line(await self.queue.get(job.id)).press(self.receiver, keys)

    async def ends(self, job: Job, status: SessionStatus = S.COMPLETED) -> Job:
        await self.engine.summarise(job, status)
        return await self.queue.get(job.id)

    async def due(self, job: Job) -> Job:
        """The job after the clock has come to the time at which it is due, and its call has been sent."""
        job = await self.queue.get(job.id)
        if job.state is JobState.QUEUED:
            self.clock.advance(max(job.due_at - self.clock.now(), timedelta()))
        await self.engine.send()
        return await self.queue.get(job.id)

    @property
    def rang(self) -> list[str]:
        return list(self.voice.rang)


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    async with open_store("memory://", clock=clock) as store:
        yield Desk(store, clock)


@pytest.mark.parametrize("backend", EVERY)
async def test_the_same_call_rings_the_number_that_pressed_after_that_time(
    backend: str, fresh_url: Callable[[str], str], clock: ManualClock
) -> None:
    async with open_store(fresh_url(backend), clock=clock) as store:
        desk = Desk(store, clock)
        job = await desk.call(further_numbers=[HOME], unique_key="row-1", data={"language": "en"})
        await desk.due(await desk.ends(job, S.BUSY))
        assert (await desk.press(job, "3")).text == PROMISED
        asked = clock.now()
        waiting = await desk.ends(job)
        assert (waiting.state, waiting.due_at, waiting.redials) == (JobState.QUEUED, asked + 2 * HOUR, 2)
        assert result_of(waiting) == "call back"
        clock.advance(2 * HOUR - timedelta(seconds=1))
        assert await desk.engine.send() == []
        again = await desk.due(job)
        assert desk.rang == [ANA, HOME, HOME]
        assert (again.id, again.unique_key, again.data) == (job.id, "row-1", {"language": "en"})
        assert (again.attempt, result_of(again)) == (3, "call back")
        assert (await desk.press(job, "1")).text == "Thank you."
        ended = await desk.ends(job)
        assert (ended.state, result_of(ended)) == (JobState.COMPLETED, "confirmed")
        assert len(await desk.queue.find()) == 1, "one person has one row"
        assert (await build_report(store, "default", "march")).answers == {"confirmed": 1}


WINDOWS: Mapping[str, tuple[CallWindow | None, tuple[int, int]]] = {
    "none": (None, (0, 24)),
    "09-18": (CallWindow.parse("09:00-18:00"), (9, 18)),
    "13-15": (CallWindow.parse("13:00-15:00"), (13, 15)),
}
VALID = (None, 1, 2, 3, 6, 12, 20, 26, 50)


@pytest.mark.parametrize(("name", "after"), combinations(WINDOWS, (HOUR / 2, 2 * HOUR, 30 * HOUR)))
async def test_the_later_call_rings_at_the_next_opening_or_the_person_hears_that_it_cannot(
    name: str, after: timedelta
) -> None:
    window, (opens, closes) = WINDOWS[name]
    days = [datetime(2026, 12, 1, hour, 5, tzinfo=SINGAPORE) for hour in range(opens, closes)]
    for pressed, valid in product(days[:: max(len(days) // 6, 1)] + days[-1:], VALID):
        clock = ManualClock(pressed.astimezone(UTC))
        async with open_store("memory://", clock=clock) as store:
            desk = Desk(store, clock, visit(after))
            until = None if valid is None else pressed.astimezone(UTC) + valid * HOUR
            job = await desk.call(window=window, time_zone="Asia/Singapore", valid_until=until)
            wanted = (pressed + after).astimezone(SINGAPORE)
            while not opens <= wanted.hour < closes:
                wanted = wanted.replace(hour=0, minute=0) + HOUR * (opens + 24 * (wanted.hour >= opens))
            is_possible = until is None or wanted < until
            case = f"{pressed} {name} {after} {until}"
            assert (await desk.press(job, "3")).text == (PROMISED if is_possible else SORRY), case
            ended = await desk.ends(job)
            if not is_possible:
                assert (ended.state, result_of(ended)) == (JobState.COMPLETED, CallResult.CALL_BACK_NOT_POSSIBLE), case
                continue
            assert (ended.state, ended.due_at) == (JobState.QUEUED, wanted), case
            await desk.due(job)
            assert len(desk.rang) == 2, case


async def test_who_presses_it_four_times_is_called_twice_in_all(desk: Desk) -> None:
    job = await desk.call()
    heard = [(await desk.press(job, "3")).text]
    for _ in range(3):
        await desk.ends(job)
        await desk.due(job)
        heard.append((await desk.press(job, "3")).text)
    assert (heard, desk.rang) == ([PROMISED, *[SORRY] * 3], [ANA, ANA])
    ended = await desk.ends(job)
    assert (ended.state, result_of(ended)) == (JobState.COMPLETED, CallResult.CALL_BACK_NOT_POSSIBLE)


async def test_the_last_answer_of_a_call_counts_whenever_it_is_stored(desk: Desk) -> None:
    job = await desk.call()
    line = desk.line(job)
    events = [line.event(keys, timestamp=f"2026-12-01T02:00:0{at}Z") for at, keys in enumerate("31")]
    await desk.receiver.post(events[0])
    assert (await desk.ends(job)).state is JobState.QUEUED
    await desk.receiver.post(events[1])
    ended = await desk.queue.get(job.id)
    assert (ended.state, result_of(ended)) == (JobState.COMPLETED, "confirmed")
    assert (await desk.engine.send(), desk.rang) == ([], [ANA])


EVENTS = ("press", "press again", "summary", "summary again", "deadline")


ALL_ORDERS = {", ".join(order): (order,) for order in permutations(EVENTS)}


@pytest.mark.parametrize("order", spread(ALL_ORDERS, every=5))
async def test_in_every_order_of_events_the_phone_rings_once_more(order: tuple[str, ...], desk: Desk) -> None:
    job = await desk.call()
    event = desk.line(job).event("3")
    for what in order:
        match what.split(" ")[0]:
            case "press":
                assert (await desk.receiver.post(event))[0] == 200
            case "summary":
                await desk.engine.summarise(job, number=1)
            case _:
                desk.clock.advance(desk.engine.policy.summary_deadline)
                await desk.engine.sweeper.sweep()
    waiting = await desk.queue.get(job.id)
    assert (waiting.state, waiting.redials, result_of(waiting)) == (JobState.QUEUED, 1, "call back")
    await desk.due(job)
    await desk.receiver.post(event)
    await desk.engine.summarise(job, number=1)
    ended = await desk.ends(job)
    assert (ended.state, desk.rang) == (JobState.COMPLETED, [ANA, ANA])
    assert not ended.notes
    assert await desk.engine.send() == []


@pytest.mark.parametrize("later", [S.BUSY, S.FAILED, None], ids=str)
async def test_a_summary_that_never_comes_loses_no_call(desk: Desk, later: SessionStatus | None) -> None:
    job = await desk.call()
    await desk.press(job, "3")
    desk.clock.advance(desk.engine.policy.summary_deadline)
    await desk.engine.sweeper.sweep()
    await desk.due(job)
    assert desk.rang == [ANA, ANA]
    if later is not None:
        await desk.ends(job, later)
    desk.clock.advance(desk.engine.policy.summary_deadline)
    await desk.engine.sweeper.sweep()
    ended = await desk.queue.get(job.id)
    assert (ended.state, result_of(ended)) == (JobState.COMPLETED, "call back"), "the person was reached"
    assert (await desk.engine.send(), len(desk.rang)) == ([], 2)


async def test_it_is_called_back_where_no_receiver_tells_the_end_of_calls(clock: ManualClock) -> None:
    async with open_store("memory://", clock=clock) as store:
        desk = Desk(store, clock)
        desk.engine = Engine(store, desk.voice, policy=CallPolicy(outcomes=OutcomeSource.NONE))
        job = await desk.call()
        assert job.state is JobState.ACCEPTED
        await desk.press(job, "3")
        await desk.due(job)
        assert desk.rang == [ANA, ANA]


@pytest.mark.parametrize("pressed", [True, False])
@pytest.mark.parametrize("failing", ["keep", "pressed"])
async def test_a_receiver_that_is_killed_between_press_and_answer_promises_what_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, failing: str, *, pressed: bool
) -> None:
    class KilledError(BaseException):
        pass

    valid = 3 * HOUR if pressed else HOUR
    job = await desk.call(valid_until=desk.clock.now() + valid)
    line = desk.line(job)
    event = line.event("3")
    part = AnswersOnce if failing == "keep" else MenuCalls

    async def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(part, failing, killed)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - a group of them
            await desk.receiver.post(event)
    if failing == "keep":
        desk.clock.advance(2 * HOUR)  # no later call would be granted now
    heard = line.took((await desk.receiver.post(event))[1])
    assert heard.text == (PROMISED if pressed else SORRY)
    stored = (await desk.queue.get(job.id)).posts[0]
    assert (stored.answer, stored.call_back_at is not None) == (
        "call back" if pressed else CallResult.CALL_BACK_NOT_POSSIBLE, pressed
    )  # fmt: skip


async def waiting_call(desk: Desk, **options: Any) -> Job:
    job = await desk.call(**options)
    await desk.press(job, "3")
    return await desk.ends(job)


async def test_a_press_that_is_stored_late_is_kept_in_a_cancelled_batch(desk: Desk) -> None:
    job = await desk.call()
    await desk.ends(job)
    await desk.queue.cancel_batch("march", reason="enough")
    assert (await desk.press(job, "3")).text == PROMISED
    ended = await desk.queue.get(job.id)
    assert (ended.state, result_of(ended), await desk.engine.send()) == (JobState.COMPLETED, "call back", [])


@pytest.mark.parametrize("in_the_later_call", [False, True])
async def test_do_not_call_again_takes_all_numbers_and_ends_what_waits(desk: Desk, *, in_the_later_call: bool) -> None:
    job = await desk.call(further_numbers=[HOME])
    await desk.press(job, "3")
    if in_the_later_call:
        await desk.due(await desk.ends(job))
    await desk.press(job, "9")
    ended = await desk.ends(job)
    assert (ended.state, result_of(ended)) == (JobState.COMPLETED, "do not call again")
    assert set(await SuppressionList(desk.engine.store).find(ANA, HOME)) == {ANA, HOME}
    assert len(desk.rang) == 1 + in_the_later_call


async def test_a_later_call_that_reaches_nobody_is_redialled_as_the_policy_says(desk: Desk) -> None:
    again = RedialPolicy(on=frozenset({S.BUSY}), limit=2, after=HOUR)
    job = await waiting_call(desk, redial=again)
    for status, state in ((S.BUSY, JobState.QUEUED), (S.BUSY, JobState.COMPLETED)):
        await desk.due(job)
        assert (await desk.ends(job, status)).state is state
    assert result_of(await desk.queue.get(job.id)) == "call back"
    assert desk.rang == [ANA] * 3, "the call that was asked for counts"


async def test_where_the_menu_would_go_on_it_goes_on_after_saying_that_it_cannot() -> None:
    other = Menu("other", prompt="Morning 1.")
    other.on("1", goto=End("Fine."))
    menu = Menu("visit", prompt="Ask.", voice_profile="fr-FR-DeniseNeural", call_back_not_possible="Non, {{name}}.")
    steps: Mapping[str, Step] = {"1": other, "2": other.saying("Later."), "3": "Noted.", "4": BACK, "5": End("Later.")}
    for key, step in steps.items():
        menu.on(key, goto=step, do=call_me_back(HOUR))
    expected = {"1": "Morning 1.", "2": "Morning 1.", "3": "Ask.", "4": "Ask.", "5": ""}
    for key, then in expected.items():
        call = Rehearsal(menu, data={"name": "Ana"}, is_inbound=True)  # there is no call that could be redialled
        await call.begin()
        heard = await call.press(key)
        assert (heard.text, heard.trouble) == (f"Non, Ana. {then}".strip(), None)
        assert call.answer == CallResult.CALL_BACK_NOT_POSSIBLE
    assert "name" in str(check_menus([menu], data={})), "its text is checked as the others are"


@pytest.mark.parametrize(("voice", "said"), [("de-DE-KatjaNeural", "de"), ("zh-CN-X", "zh"), ("ta-IN-X", "en")])
async def test_without_a_text_of_its_own_the_menu_says_so_in_the_language_of_its_voice(voice: str, said: str) -> None:
    menu = Menu("visit", prompt="Ask.", voice_profile=voice)
    menu.on("1", goto=End("Later."), do=call_me_back(HOUR))
    call = Rehearsal(menu, is_inbound=True)
    await call.begin()
    assert (await call.press("1")).text == NOT_CALLED_BACK[said]
    warned = [found for found in check_menus([menu]) if "call_back_not_possible" in str(found)]
    assert len(warned) == (voice == "ta-IN-X")


def test_the_text_of_a_menu_of_data_is_in_all_its_languages() -> None:
    keys = {"1": {"next": "call_me_back", "say": {"de": "Gut.", "fr": "Bien."}}}
    asked = {"id": "a", "text": {"de": "Frage.", "fr": "Question."}, "keys": keys}
    data = {"voice_profile": {"de": "de-DE-K", "fr": "fr-FR-D"}, "questions": [asked]}
    text = {"de": "Nein.", "fr": "Non."}
    assert read_menu({**data, "call_back_not_possible": text}).call_back_not_possible == text
    with pytest.raises(Exception, match="call_back_not_possible: there is no text for fr"):
        read_menu({**data, "call_back_not_possible": {"de": "Nein."}})


async def test_the_ledger_of_the_service_has_two_calls_and_what_was_said(store: Store) -> None:
    menu, secret = visit(timedelta(milliseconds=1)), SECRET
    job = await CallQueue(store).enqueue(menu.call(ANA, source="+6531234567"), menu=menu.name, batch_id="march")
    receiver = WholeReceiver(load_settings(webhook_secret=secret), store, menus=[menu])
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=secret, speed=200)
        sandbox.scripts.add(Script(destination=ANA, outcome=S.COMPLETED, keys=["3"]))
        async with sandbox.running() as url, VoiceClient("any", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
            heard = [list(entry.heard) for entry in sandbox.ledger if entry.rang]
    assert [each[-1] for each in heard] == [PROMISED, SORRY]
    ended = await CallQueue(store).get(job.id)
    assert (ended.state, result_of(ended)) == (JobState.COMPLETED, CallResult.CALL_BACK_NOT_POSSIBLE)


async def test_keys_of_a_session_that_nobody_knew_yet_are_evidence_too(desk: Desk) -> None:
    desk.voice.answers = [Verdict(kind=VerdictKind.UNKNOWN, message="the answer did not come")]
    job = await desk.call()
    line = Line.of(job, session_id="another")
    line.destination = "+65876***21"
    menu = visit(inbound=True)
    assert (await line.press(Receiver.of(desk.engine.store, menu), "3")).text == "Press a key."
    assert (await line.press(Receiver.of(desk.engine.store, menu), "3")).text == PROMISED
    await desk.engine.summarise(job, session_id="another")
    assert (await desk.queue.get(job.id)).state is JobState.QUEUED
    await desk.due(job)
    assert desk.rang == [ANA, ANA]
