"""Menus behind a receiver, on every store: which job an event belongs to, what is stored, what repeated events get."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.ivr.asking import OURS, Line, Receiver
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss
from tests.support.voices import GatedVoice, ScriptedVoice
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    Job,
    JobState,
    Menu,
    Store,
    open_store,
)
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.store import BulkWrite, Page
from voiceflow_worker.core.progress import CallProgress, last_failures
from voiceflow_worker.core.writes import restored
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.ivr import END, Caller, End
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting.story import story
from voiceflow_worker.webhooks.menu_events import LEASES

pytestmark = pytest.mark.anyio

DATA: Mapping[str, object] = {"name": "Ana"}
AT = datetime(2026, 7, 1, 9, tzinfo=UTC)


class Counting:
    """A menu whose handler counts how often it ran, and may be held."""

    def __init__(self) -> None:
        self.ran: list[Caller] = []
        self.go_on: anyio.Event | None = None
        self.began = anyio.Event()
        self.main = Menu("main", prompt="Hello {{name}}. Press 1.", voice_profile="en-US-X", fallback=End("Goodbye."))
        self.main.on("2", goto="Two.")
        self.main.on("3", goto=End("Done."))

        @self.main.on("1")
        async def one(caller: Caller) -> str:
            self.ran.append(caller)
            self.began.set()
            if self.go_on is not None:
                await self.go_on.wait()
            return f"Run {len(self.ran)}, {caller.data['name']}."


@pytest.fixture
def counting() -> Counting:
    return Counting()


async def called(
    store: Store, menu: Menu, *, voice: ScriptedVoice | None = None, destination: str = "+6587654321"
) -> Job:
    """A job that was sent, in this menu."""
    engine = Engine(store, voice or ScriptedVoice())
    job = await engine.queue.enqueue(menu.call(destination, source=OURS, data=DATA), menu=menu.name, data=DATA)
    await engine.send()
    return job


async def got(store: Store, job: Job) -> Job:
    return await CallQueue(store).get(job.id)


async def test_a_call_goes_through_its_menu_and_its_keys_are_stored(store: Store, counting: Counting) -> None:
    job = await called(store, counting.main)
    receiver, line = Receiver.of(store, counting.main), Line.of(job)
    assert (await line.press(receiver, "7")).text == "Hello Ana. Press 1."
    assert (await line.press(receiver, "1")).text == "Run 1, Ana. Hello Ana. Press 1."
    assert not (await line.press(receiver, "3")).asks
    stored = await got(store, job)
    assert stored.digits == "7,1,3"
    assert [(press.menu, press.digits) for press in stored.posts[0].presses] == [("main", each) for each in "713"]
    (caller,) = counting.ran
    assert (caller.job_id, caller.number, caller.our_number) == (job.id, job.destination, job.source)
    assert [receiver.count(each) for each in ("asked_again", "led_on")] == [1, 2]


class TestRepeatedEvents:
    async def test_get_the_same_answer_and_the_handler_runs_once(
        self, stores: tuple[Store, Store], counting: Counting
    ) -> None:
        job = await called(stores[0], counting.main)
        one, two = (Receiver.of(store, counting.main) for store in stores)
        for keys in ("1", "2", None, "3"):
            line = Line.of(job)
            event = line.event(keys)
            answers = [await receiver.post(event) for receiver in (one, two, one, two)]
            assert len(set(answers)) == 1
            assert answers[0][0] == 200
        assert len(counting.ran) == 1
        assert (await got(stores[0], job)).digits == "1,2,3"
        assert two.count("repeated") == 8
        assert one.count("repeated") == 4

    async def test_at_the_same_time_on_two_receivers(self, stores: tuple[Store, Store], counting: Counting) -> None:
        job = await called(stores[0], counting.main)
        counting.go_on = anyio.Event()
        receivers = [Receiver.of(store, counting.main) for store in stores]
        event, answers = Line.of(job).event("1"), list[tuple[int, bytes]]()

        async def send(receiver: Receiver) -> None:
            answers.append(await receiver.post(event))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                for receiver in receivers:
                    group.start_soon(send, receiver)
            await counting.began.wait()
            await anyio.sleep(0.1)  # the others come to wait for it; were they not to, they would run it
            counting.go_on.set()
        assert len(answers) == 10
        assert len(set(answers)) == 1
        assert len(counting.ran) == 1
        assert (await got(stores[0], job)).digits == "1"

    async def test_without_an_event_id_are_known_by_their_place_and_keys(
        self, store: Store, counting: Counting
    ) -> None:
        job = await called(store, counting.main)
        receiver, line = Receiver.of(store, counting.main), Line.of(job)
        event = line.event("1", eventId=None)
        first = await receiver.post(event)
        assert await receiver.post(event) == first
        line.took(first[1])
        assert (await line.press(receiver, "1", eventId=None)).text.startswith("Run 2")  # the same key, later
        assert (await got(store, job)).digits == "1,1"

    async def test_stay_leased_for_longer_than_a_handler_may_take(self, counting: Counting) -> None:
        """Another receiver would run the handler a second time, beside the first."""
        limit = timedelta(seconds=3)
        counting.go_on = anyio.Event()
        async with open_store("memory://", clock=ManualClock()) as store:
            job = await called(store, counting.main)
            receiver = Receiver.of(store, counting.main, handler_limit=limit)
            async with anyio.create_task_group() as group:
                group.start_soon(receiver.post, Line.of(job).event("1"))
                await counting.began.wait()
                assert (await store.records({LEASES: Page()}, now=store.clock.now() + limit))[LEASES]
                counting.go_on.set()

    async def test_are_taken_over_when_their_receiver_died(
        self, stores: tuple[Store, Store], counting: Counting
    ) -> None:
        job = await called(stores[0], counting.main)
        limit = timedelta(milliseconds=300)
        one, two = (Receiver.of(store, counting.main, handler_limit=limit) for store in stores)
        event = Line.of(job).event("1")
        counting.go_on = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(one.post, event)
            await counting.began.wait()
            group.cancel_scope.cancel()  # as a process that is killed: its lease stays behind
        counting.go_on.set()
        with anyio.fail_after(10):
            status, body = await two.post(event)
        assert status == 200
        assert Line.of(job).took(body).text.startswith("Run 2")
        assert (await got(stores[0], job)).digits == "1"

    async def test_a_press_that_was_lost_with_its_receiver_is_stored_by_the_next(
        self, store: Store, counting: Counting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = await called(store, counting.main)
        receiver, event = Receiver.of(store, counting.main), Line.of(job).event("2")

        async def away(*_: object, **__: object) -> None:
            raise StoreUnavailableError("away")

        monkeypatch.setattr(type(store), "write", away)
        assert (await receiver.post(event))[0] == 503
        monkeypatch.undo()
        status, _ = await receiver.post(event)
        assert (status, (await got(store, job)).digits) == (200, "2")


class TestBinding:
    async def test_an_event_before_the_answer_of_its_post_is_stored(self, store: Store, counting: Counting) -> None:
        voice = GatedVoice(bytes_left=True)
        engine = Engine(store, voice)
        job = await engine.queue.enqueue(
            counting.main.call("+6587654321", source=OURS, data=DATA), menu="main", data=DATA
        )
        receiver = Receiver.of(store, counting.main)
        line = Line.of(job)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.send)
            await voice.reached(1)
            assert (await line.press(receiver, "1")).text.startswith("Run 1, Ana.")
            between = await got(store, job)
            assert (between.state, between.session_id, between.digits) == (JobState.SUBMITTED, line.session_id, "1")
            voice.open.set()
        after = await got(store, job)
        assert (after.state, after.posts[0].verdict, after.digits) == (JobState.SUBMITTED, VerdictKind.CREATED, "1")
        assert (await line.press(receiver, "2")).text.startswith("Two.")
        assert (after.attempt, len(voice.placed)) == (1, 1)
        assert not after.notes

    async def test_a_definite_refusal_of_the_post_outweighs_a_match_by_numbers(
        self, store: Store, counting: Counting
    ) -> None:
        """Then the event was of a call that somebody else made to the same person from the same number."""
        voice = GatedVoice(bytes_left=False)
        engine = Engine(store, voice)
        job = await engine.queue.enqueue(counting.main.call("+6587654321", source=OURS, data=DATA), menu="main")
        receiver = Receiver.of(store, counting.main)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.send)
            await voice.reached(1)
            await Line.of(job).press(receiver, "2")
            group.cancel_scope.cancel()  # the worker is stopped before a byte left
        assert (await got(store, job)).state is JobState.QUEUED

    async def test_keys_pressed_while_the_store_had_lost_the_call_join_it_with_its_summary(
        self, stores: tuple[Store, Store], counting: Counting
    ) -> None:
        job = await called(stores[0], counting.main)
        line = Line.of(job)
        await line.press(Receiver.of(stores[0], counting.main), "7")
        job = await got(stores[0], job)
        async with open_store("memory://") as rolled_back:
            receiver = Receiver.of(rolled_back, counting.main)
            await line.press(receiver, "2")
            await rolled_back.write(
                BulkWrite(writes=(restored(job, at=AT, policy=CallPolicy(), store_id=rolled_back.id),)), now=AT
            )
            await Engine(rolled_back, ScriptedVoice()).summarise(job)
            assert (await got(rolled_back, job)).digits == "7,2"


def named(first: str, second: str) -> Menu:
    """A menu that names the keys 1 and 2; key 5 has no name."""
    menu = Menu("named", prompt="Press 1 or 2.", voice_profile="en-US-X", fallback=End("Goodbye."))
    menu.on("1", result=first, goto="One.")
    menu.on("2", result=second, goto="Two.")
    menu.on("5", goto="Five.")
    return menu


ANSWERS: dict[str, tuple[str, str | None, dict[str, int], int]] = {
    "the last key that has a name": ("9 5 2 1 9", "confirmed", {"confirmed": 1}, 0),
    "null if no key has a name": ("5", None, {}, 1),
    "counted if its key comes after the summary": ("summary 1", "confirmed", {"confirmed": 1}, 0),
}
"""What comes of a call, its answer, and the counts of the queue: of answers, and of other keys."""


class TestAnAnswer:
    @pytest.mark.parametrize("case", ANSWERS)
    async def test_is(self, store: Store, case: str) -> None:
        comes, answer, answers, others = ANSWERS[case]
        menu = named("confirmed", "cancelled")
        job = await called(store, menu)
        receiver, line, keys = Receiver.of(store, menu), Line.of(job), comes.removeprefix("summary ").split()
        for each in comes.split() if comes.startswith("summary") else [*comes.split(), "summary"]:
            if each == "summary":
                await Engine(store, ScriptedVoice()).summarise(job)
            else:
                await line.press(receiver, each)
        totals, shown = await totals_of(store, job.queue), call_as_json(await CallQueue(store).wait_for_outcome(job.id))
        assert (totals.answers, totals.other_keys) == (answers, others)
        outcome, attempts = shown["outcome"], shown["attempts"]
        assert isinstance(outcome, dict)
        assert isinstance(attempts, list)
        assert (outcome["answer"], outcome["digits"]) == (attempts[0]["outcome"]["answer"], ",".join(keys))
        assert outcome["answer"] == answer
        names = {"1": "confirmed", "2": "cancelled"}
        assert [press["answer"] for press in attempts[0]["presses"]] == [names.get(each) for each in keys]

    async def test_keeps_the_name_of_the_moment_of_the_press(self, stores: tuple[Store, Store]) -> None:
        """The event comes again, to a receiver whose menu has other names."""
        job = await called(stores[0], named("x", "y"))
        event = Line.of(job).event("1")
        for store, names in zip(stores, (("confirmed", "cancelled"), ("cancelled", "confirmed")), strict=True):
            assert (await Receiver.of(store, named(*names)).post(event))[0] == 200
        assert (await got(stores[1], job)).answer == "confirmed"

    async def test_is_no_text_of_a_person(self, store: Store) -> None:
        """Counters outlive an erasure: they have the names that a menu gives, and nothing that was typed."""
        menu = Menu("typed", prompt="Your number, please.", voice_profile="en-US-X", fallback=End("Goodbye."))
        menu.capture(max_digits=8, result="a number")(lambda _: End("Thank you."))
        free = Menu("free", prompt="Your number, please.", voice_profile="en-US-X", fallback=End("Goodbye."))
        free.capture(max_digits=8)(lambda _: End("Thank you."))
        for each, number in ((menu, "+6587654321"), (free, "+6587654322")):
            job = await called(store, each, destination=number)
            await Line.of(job).press(Receiver.of(store, each), "91239876")
        totals = await totals_of(store, "default")
        assert (totals.answers, totals.other_keys) == ({"a number": 1}, 1)
        assert not any("9123" in name for name in totals.live)


INBOUND = {"callDirection": "INBOUND", "callStatus": "CALL_RECEIVED"}


@pytest.mark.parametrize(
    ("changes", "heard", "result"),
    [
        (INBOUND, "At the desk: +6591112222.", "started"),
        ({"callStatus": "CALL_RECEIVED", "callDirection": None}, "At the desk: +6591112222.", "started"),
        ({**INBOUND, "callDirection": "OUTBOUND"}, "Goodbye.", "no_menu"),
    ],
    ids=["inbound", "no direction", "outbound"],
)
async def test_a_call_that_no_job_made_is_taken_by_a_menu_for_such_calls_or_ends_politely(
    store: Store, counting: Counting, changes: Mapping[str, str | None], heard: str, result: str
) -> None:
    opening = Menu(
        "door", opening=lambda caller: End(f"At the desk: {caller.number}."), inbound=True, voice_profile="v"
    )
    receiver = Receiver.of(store, counting.main, *[opening][: result == "started"])
    line = Line(source="+6591112222", destination=OURS)
    assert (await line.press(receiver, None, **changes)).text == heard
    assert receiver.count(result) == 1


class TestMenusThatThisReceiverDoesNotServe:
    """A receiver that was started without the menus of a campaign hangs up on everybody who presses a key."""

    @pytest.mark.parametrize("others", [0, 1], ids=["without menus", "with another menu"])
    async def test_the_call_is_hung_up_with_a_warning_that_names_the_menu_and_what_to_do(
        self, store: Store, counting: Counting, others: int
    ) -> None:
        job = await called(store, counting.main)
        other = Menu("other", prompt="Press 1.", voice_profile="v", fallback="We call you again.")
        receiver = Receiver.of(store, *[other][:others])
        with capture_logs() as logs:
            heard = await Line.of(job).press(receiver, "1")
        assert (heard.text, heard.asks) == ("We call you again." if others else "", False)
        event = "a menu could not go on: the caller got its fallback or a hang-up"
        (line,) = [each for each in logs if each["event"] == event]
        assert (line["log_level"], line["result"], line["job"]) == ("warning", "no_menu", job.id)
        assert "menu main; start a receiver that serves this menu" in line["reason"]
        history = story(job, at=store.clock.now(), heard=await CallProgress(store).of_job(await got(store, job)))
        assert [line["reason"] in each.line for each in history.timeline].count(True) == 1


class TestFailures:
    async def test_a_handler_that_fails_is_a_fallback_a_200_a_log_line_and_a_count(self, store: Store) -> None:
        main = Menu("main", prompt="Press 1.", voice_profile="v", fallback=End("Goodbye."))

        def deep(down: int) -> None:
            if down == 0:
                raise LookupError("no table")
            deep(down - 1)

        @main.on("1")
        async def fails(_: Caller) -> End:
            deep(9)
            return END

        @main.on("2")
        async def hangs(_: Caller) -> End:
            await anyio.sleep_forever()
            return END

        job = await called(store, main)
        receiver = Receiver.of(store, main, handler_limit=timedelta(milliseconds=50))
        with capture_logs() as logs:
            assert (await Line.of(job).press(receiver, "1")).text == "Goodbye."
            assert (await Line.of(job).press(receiver, "2")).text == "Goodbye."
        assert [(log["job"], log["menu"], log["result"]) for log in logs] == [
            (job.id, "main", "failed"),
            (job.id, "main", "too_slow"),
        ]
        assert [place.rpartition(" in ")[2] for place in logs[0]["where"].split(" < ")] == ["deep"] * 4
        assert (receiver.count("failed"), receiver.count("too_slow")) == (1, 1)
        history = story(job, at=store.clock.now(), heard=await CallProgress(store).of_job(await got(store, job)))
        lines = " ".join(history.lines())
        assert "menu main could not go on: the person heard its fallback, or the call was hung up. LookupError" in lines
        assert str(logs[1]["reason"]) in lines
        assert [(each.menu, each.job_id) for each in await last_failures(store).values()] == [("main", job.id)]
        assert (await got(store, job)).digits == "1,2"

    async def test_a_store_that_is_away_is_a_503(self, store: Store, counting: Counting) -> None:
        job, away = await called(store, counting.main), FaultyStore(store)
        away.lose(Loss.BEFORE, "write")
        assert (await Receiver.of(away, counting.main).post(Line.of(job).event("1")))[0] == 503
        assert counting.ran == []
