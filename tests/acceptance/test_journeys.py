"""Journeys of people who call others, each by every interface, judged by what rang in the sandbox's ledger alone."""

from __future__ import annotations

import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.journeys.command import Command
from tests.acceptance.journeys.console import Console, ConsoleForm
from tests.acceptance.journeys.http_api import HttpApi
from tests.acceptance.journeys.interface import Driver, Interface, Person
from tests.acceptance.journeys.python import Python
from tests.cli.running import Program
from tests.support.commands import assembled_once, logs_as_they_were
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.stage import Stage, stage
from tests.support.stores import SERVERS
from tests.support.waiting import wait_until

__all__ = ["assembled_once", "logs_as_they_were"]
pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("logs_as_they_were")]

DRIVERS: dict[str, type[Driver]] = {
    "command": Command, "api": HttpApi, "console": Console, "form": ConsoleForm, "python": Python
}  # fmt: skip
ENDED = {"completed", "unreached", "failed", "expired", "cancelled", "accepted"}


def by_each(*names: str, seldom: Sequence[str] = (), on_servers: bool = False) -> pytest.MarkDecorator:
    """By these interfaces on SQLite every day; by some seldom, and on the servers by the command."""
    rare = [*((name, "sqlite") for name in seldom), *(("command", server) for server in SERVERS if on_servers)]
    daily = [pytest.param(name, "sqlite", id=name) for name in names]
    further = [pytest.param(*each, id="-".join(each), marks=pytest.mark.slow) for each in rare]
    return pytest.mark.parametrize(("by", "on"), [*daily, *further], indirect=True)


@pytest.fixture(scope="module")
def stage_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stage]]:
    """Gives the stage of each kind of store, on which all journeys are made, each with its own people."""
    settings = {
        "api_secret": "of-the-program-1", "ui_secret": "of-the-readers-1", "ui_operator_secret": "of-the-operators",
        "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "rate": "unlimited", "clock_skew": "1s",
        "export_settle": "1s", "summary_deadline": "30s",
    }  # fmt: skip
    with ExitStack() as stack:

        @cache
        def of(kind: str) -> Stage:
            folder, store = tmp_path_factory.mktemp(kind), None
            if kind == "redis":
                redis: RedisServer = request.getfixturevalue("shared_redis")
                store = f"{redis.url}?prefix=journeys"
            if kind == "postgres":
                postgres: PostgresServer = request.getfixturevalue("postgres_server")
                store = postgres.url(schema="journeys")
            state = str(folder / "state")
            return stack.enter_context(stage(folder, store=store, speed=1000, state_dir=state, **settings))

        yield of


@pytest.fixture
def on(
    request: pytest.FixtureRequest, stage_of: Callable[[str], Stage], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """The stage. Whatever a journey is about, nothing rang after its validUntil."""
    found = stage_of(getattr(request, "param", "sqlite"))
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(found.folder)
    yield found
    assert [each for each in found.ledger() if each["rang"] and each["at"] > each["valid_until"]] == []


@pytest.fixture
def by(request: pytest.FixtureRequest, on: Stage, capfd: pytest.CaptureFixture[str]) -> Interface:
    kind = DRIVERS[getattr(request, "param", "command")]
    found: Any = kind(on, Program(on.folder, capfd))
    return found  # type: ignore[no-any-return]


@pytest.fixture
def batch() -> str:
    return f"b{uuid4().hex[:12]}"


_numbers = count(80_000_000)


def people(number: int) -> list[Person]:
    """People whom nobody has called before."""
    return [{"destination": f"+65{next(_numbers)}", "name": f"Ana {place}"} for place in range(number)]


def phones(on: Stage, called: Sequence[Person], *outcomes: str, **script: object) -> None:
    """Say how calls to these people end, one after the other, the last outcome for all further ones.

    They ring for no time: where time is faster than here, a call that rang for long would end ahead of the clock.
    """
    for person in called:
        given = {"destination": person["destination"], "ring_seconds": 0, "talk_seconds": 0, **script}
        first = [{**given, "outcome": each, "times": 1} for each in outcomes[:-1]]
        on.order("script", [*first, {**given, "outcome": outcomes[-1]}])


def rings(on: Stage, called: Sequence[Person]) -> list[int]:
    """How often the phone of each has rung."""
    rang = on.rang()
    return [rang.count(each["destination"]) for each in called]


def heard(on: Stage, person: Person) -> str:
    """All that this person has heard."""
    return " ".join(" ".join(each["heard"]) for each in on.ledger() if each["destination"] == person["destination"])


def is_over(by: Interface, batch: str) -> bool:
    return {each["state"] for each in by.calls(batch)} <= ENDED


@by_each("command", "form", "python", seldom=["api"], on_servers=True)
def test_a_list_is_called_and_each_person_once(by: Interface, on: Stage, batch: str) -> None:
    called = people(20)
    phones(on, called, "COMPLETED")
    by.start(batch, called)
    assert rings(on, called) == [0] * 20
    by.drain()
    by.drain()
    assert rings(on, called) == [1] * 20


@by_each("command", "python", seldom=["api"], on_servers=True)
def test_the_same_list_again_with_a_row_changed_one_new_and_one_gone(by: Interface, on: Stage, batch: str) -> None:
    called = same, changed, gone, new = people(4)
    phones(on, called, "COMPLETED")
    again = [same, {**changed, "name": "Bob"}, new]
    by.start(batch, [same, changed, gone])
    by.start(batch, again, replace=True, remove_missing=True)
    by.drain()
    wait_until(lambda: is_over(by, batch), "the end")
    by.start(batch, again, replace=True, remove_missing=True)
    by.drain()
    assert rings(on, called) == [1, 1, 0, 1]
    assert [heard(on, each) for each in (same, changed)] == ["Hello Ana 0.", "Hello Bob."]


@by_each("command", "python", seldom=["api", "console"])
def test_nothing_leaves_after_a_hold_and_after_its_end_everybody_is_called(
    by: Interface, on: Stage, batch: str
) -> None:
    called = people(40)
    phones(on, called, "COMPLETED")
    by.start(batch, called)
    with on.worker("--rate", "10"):
        wait_until(lambda: sum(rings(on, called)) >= 3, "the first calls")
        by.hold(batch)
        held = rings(on, called)
        by.drain()
        assert rings(on, called) == held != [1] * 40
        by.resume(batch)
        wait_until(lambda: is_over(by, batch), "the end")
    assert rings(on, called) == [1] * 40


@by_each("command", "api", "console", "python")
def test_who_is_cancelled_is_not_called_and_then_nobody_of_the_batch(by: Interface, on: Stage, batch: str) -> None:
    called, others = people(3), people(3)
    phones(on, [*called, *others], "COMPLETED")
    by.start(batch, called)
    by.start(f"{batch}-all", others)
    for each in (batch, f"{batch}-all"):
        by.cancel_call(by.calls(each)[0])
    by.cancel_batch(f"{batch}-all")
    by.drain()
    assert sorted(rings(on, called)) == [0, 1, 1]
    assert rings(on, others) == [0, 0, 0]


@by_each("command", "api", "console", "python")
def test_who_was_busy_is_called_again(by: Interface, on: Stage, batch: str) -> None:
    called = busy, reached, silent = people(3)
    phones(on, [busy], "BUSY", "COMPLETED")
    phones(on, [reached], "COMPLETED")
    phones(on, [silent], "NO_ANSWER")
    by.start(batch, called)
    by.drain()
    wait_until(lambda: is_over(by, batch), "the end")
    by.redial_busy(batch)
    by.drain()
    assert rings(on, called) == [2, 1, 1]


@by_each("command", "python", seldom=["api", "console"])
def test_who_is_suppressed_is_not_called_from_then_on(by: Interface, on: Stage, batch: str) -> None:
    called = before, waiting, talking = people(3)
    phones(on, called, "BUSY", delay_seconds=2000)
    by.suppress(before["destination"])
    by.start(batch, called, redial_on="busy", redial_max=2, redial_after="5s")
    by.suppress(waiting["destination"])
    with on.worker():
        wait_until(lambda: sum(rings(on, [talking])) == 1, "a call on its way")
        by.suppress(talking["destination"])
        wait_until(lambda: is_over(by, batch), "the end")
    assert rings(on, called) == [0, 0, 1]


@by_each("command", on_servers=True)
def test_a_lost_answer_is_settled_by_the_summary(by: Interface, on: Stage, batch: str) -> None:
    called = people(2)
    phones(on, called, "COMPLETED", delay_seconds=1000)
    on.order("faults", [{"destination": each["destination"], "fault": "reset"} for each in called])
    by.start(batch, called)
    by.drain()
    wait_until(lambda: is_over(by, batch), "the summary")
    by.drain()
    assert rings(on, called) == [1, 1]


def test_a_lost_answer_is_settled_by_the_log(by: Command, on: Stage, batch: str) -> None:
    called = people(1)
    phones(on, called, "COMPLETED", drop=True)
    on.order("faults", {"destination": called[0]["destination"], "fault": "reset"})
    by.start(batch, called)
    by.drain()
    assert [each["state"] for each in by.calls(batch)] == ["in_doubt"]

    def is_found() -> bool:
        by.reconcile()
        return is_over(by, batch)

    wait_until(is_found, "the row of the log", every=0.3)
    by.drain()
    assert rings(on, called) == [1]


@by_each("command", "python", seldom=["api", "console"])
def test_a_lost_answer_is_settled_by_a_person(
    by: Interface, on: Stage, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = placed, lost = people(2)
    phones(on, [placed], "COMPLETED", drop=True)
    phones(on, [lost], "COMPLETED")
    at = [(placed, "after"), (lost, "before")]
    on.order("faults", [{"destination": who["destination"], "fault": "reset", "place": each} for who, each in at])
    monkeypatch.setenv("VOICEFLOW_SUBMIT_WINDOW", "2s")
    by.start(batch, called)
    by.drain()
    doubts = {each["destination"]: each for each in by.calls(batch) if each["state"] == "in_doubt"}
    assert (len(doubts), rings(on, called)) == (2, [1, 0])
    by.resolve(doubts[placed["destination"]], placed=True)

    def is_queued() -> bool:
        by.resolve(doubts[lost["destination"]], placed=False)
        return all(each["state"] != "in_doubt" for each in by.calls(batch))

    wait_until(is_queued, "the time from which 8x8 places no call any more", every=0.3)
    by.drain()
    assert rings(on, called) == [1, 1]


@by_each("command", on_servers=True)
def test_a_worker_is_killed_and_another_one_goes_on(by: Interface, on: Stage, batch: str) -> None:
    called = people(30)
    phones(on, called, "COMPLETED", delay_seconds=6000)  # after the leases of the dead worker
    on.order("faults", [{"destination": each["destination"], "fault": "delay", "seconds": 0.3} for each in called])
    by.start(batch, called)
    with on.worker("--rate", "40") as process:
        wait_until(lambda: sum(rings(on, called)) >= 8, "the first calls")
        process.end(signal.SIGKILL)
    assert rings(on, called) != [1] * 30
    by.drain()
    wait_until(lambda: {each["state"] for each in by.calls(batch)} <= {*ENDED, "in_doubt"}, "the end")
    doubts = {each["destination"] for each in by.calls(batch) if each["state"] == "in_doubt"}
    rang = rings(on, called)
    assert max(rang) == 1
    assert {each["destination"] for each, times in zip(called, rang, strict=True) if not times} <= doubts


MENU = """
[menu]
retry_text = "There is no such key."
goodbye = "Goodbye."
[[menu.questions]]
id = "visit"
text = "Do you come, {{name}}? Yes: 1. Never call again: 9."
[menu.questions.keys]
1 = { answer = "confirmed", say = "Thank you." }
9 = { next = "do_not_call_again", say = "We will not call again." }
"""


@by_each("command", "python")
def test_a_menu_is_answered(by: Interface, on: Stage, batch: str) -> None:
    called = people(4)
    for person, keys in zip(called, (["1"], ["5", "1"], [None, None, None], ["9"]), strict=True):
        phones(on, [person], "COMPLETED", keys=keys)
    table = tomllib.loads(MENU)["menu"]
    by.start(batch, called, **({"campaign": MENU} if isinstance(by, Command) else {"menu": table}), say="Hello.")
    by.drain()
    wait_until(lambda: is_over(by, batch), "the end")
    question = "Do you come, Ana {}? Yes: 1. Never call again: 9."
    assert [heard(on, each).count(question.format(place)) for place, each in enumerate(called)] == [1, 2, 3, 1]
    says = ["Thank you.", "There is no such key.", "Goodbye.", "We will not call again."]
    assert [text in heard(on, each) for text, each in zip(says, called, strict=True)] == [True] * 4
    by.start(f"{batch}-next", called)
    by.drain()
    assert rings(on, called) == [2, 2, 2, 1]


@by_each("command", "python", seldom=["api", "form"])
def test_an_order_without_an_answer_is_given_again(by: Interface, on: Stage, batch: str) -> None:
    called = people(2)
    phones(on, called[:1], "BUSY")
    phones(on, called[1:], "COMPLETED")
    again = by.start(batch, called)
    again()
    by.drain()
    again()
    by.drain()
    assert rings(on, called) == [1, 1]
    wait_until(lambda: is_over(by, batch), "the end")
    again = by.redial_busy(batch)
    again()
    by.drain()
    wait_until(lambda: is_over(by, batch), "the end")
    again()
    by.drain()
    assert rings(on, called) == [2, 1]


@by_each("command", "python", seldom=["api"])
def test_nothing_rings_after_its_time(by: Interface, on: Stage, batch: str) -> None:
    called = people(2)
    phones(on, called, "COMPLETED")
    by.start(batch, called, valid_for="4s")
    time.sleep(4)  # by the clock of the test
    by.drain()
    assert rings(on, called) == [0, 0]


@by_each("command", "python", seldom=["api"])
def test_a_closed_window_keeps_a_call(by: Interface, on: Stage, batch: str) -> None:
    called = people(2)
    phones(on, called, "COMPLETED")
    later = datetime.now(ZoneInfo("Asia/Singapore")) + timedelta(hours=6)
    window = "20:00-21:00" if 8 <= later.hour < 20 else "12:00-13:00"
    by.start(batch, called, window=window)
    by.drain()
    assert rings(on, called) == [0, 0]
    by.start(batch, called, window="any", replace=True)
    by.drain()
    assert rings(on, called) == [1, 1]
