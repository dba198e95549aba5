"""The menus of examples/: what each of them does is judged by what rang, by the stored calls, and branch by branch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from examples import appointment, on_call_alert, restaurant, support_callback
from tests.docs.pages import DOCS, blocks
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    JobState,
    Menu,
    Rehearsal,
    Sandbox,
    SessionStatus,
    build_report,
    open_store,
)
from voiceflow_worker.ivr.graph.mermaid import mermaid
from voiceflow_worker.sandbox.calls.ledger import LedgerEntry

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
OPEN = datetime(2026, 11, 20, 4, tzinfo=UTC)  # a Friday, noon in Singapore
CLOSED = datetime(2026, 11, 23, 4, tzinfo=UTC)  # a Monday
SINGAPORE = ZoneInfo(restaurant.ZONE)
ANA = {"name": "Ana", "subject": "your order", "time": "on Tuesday at ten", "other_time": "on Friday", "text": "Fire"}

MENUS: Mapping[str, Menu] = {
    "appointment:appointment": appointment.appointment,
    "on_call_alert:alarm": on_call_alert.alarm,
    "restaurant:main": restaurant.main,
    "support_callback:callback": support_callback.callback,
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # the sandbox is served by uvicorn


# -- branch by branch -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """Keys, "" for none, what is heard after the last, and where the caller is then: at a menu, or put through."""

    keys: tuple[str, ...]
    heard: str
    menu: str | None = None
    connected_to: str | None = None
    at: datetime = OPEN


WAYS: Mapping[str, list[Way]] = {
    "support_callback:callback": [
        Way(("1",), "", connected_to=support_callback.DESK),
        Way(("2",), "Thank you. We call you again in two hours."),
        Way(("7",), "Sorry, that is not a valid choice. Hello Ana.", menu="callback"),
        Way(("", "", ""), "Please call us when it suits you. Goodbye."),
    ],
    "restaurant:main": [
        Way(("1", "1", "4#"), "A table for 4, today. We look forward to seeing you."),
        Way(("1", "2", "12#"), "A table for 12, tomorrow. We look forward to seeing you."),
        Way(("1", "2", "0#"), "Welcome.", menu="main"),
        Way(("1", "9"), "Welcome.", menu="main"),
        Way(("1", "1", "13#"), "We have tables for one to twelve. For how many people?", menu="people"),
        Way(("1", "1", "*#"), "Sorry, that is not a valid choice. For how many people?", menu="people"),
        Way(("1", "1", "13#", "99", "00"), "Goodbye."),
        Way(("2",), "We are open from Tuesday to Sunday,", menu="main"),
        Way(("3",), "", connected_to=restaurant.DESK),
        Way(("3",), "Nobody is here at this hour. Welcome.", menu="main", at=CLOSED),
        Way(("9",), "Goodbye."),
        Way(("4",), "Sorry, that is not a valid choice. Welcome.", menu="main"),
        Way(("", "", ""), "Goodbye."),
        Way(("1", "", "", ""), "Goodbye."),
        Way(("1", "1", "", "", ""), "Goodbye."),
    ],
    "appointment:appointment": [
        Way(("1",), "Thank you, Ana. See you on Tuesday at ten."),
        Way(("2", "1"), "Thank you, Ana. See you on Friday."),
        Way(("2", "2"), "", connected_to=appointment.DESK),
        Way(("2", "9"), "Hello Ana.", menu="appointment"),
        Way(("3",), "Your appointment is cancelled. Goodbye."),
        Way(("2", "3"), "Sorry, that is not a valid choice. You could also come on Friday.", menu="move"),
        Way(("", "", ""), "We will call you again about it. Goodbye."),
        Way(("2", "", "", ""), "We will call you again about it. Goodbye."),
    ],
    "on_call_alert:alarm": [
        Way(("1",), "Thank you. It is yours."),
        Way(("2",), "Thank you. It goes to the next person."),
        Way(("3", "1"), "Thank you. It is yours."),
        Way(("", "", ""), "The alarm goes to the next person."),
    ],
}


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in WAYS.items() for way in ways], ids=str)
async def test_each_branch_leads_where_it_should(name: str, way: Way) -> None:
    call = Rehearsal(MENUS[name], data=ANA, at=way.at)
    heard = await call.begin()
    for keys in way.keys:
        assert not heard.has_ended
        heard = await call.press(keys)
    assert heard.text.startswith(way.heard)
    assert (heard.text == "") is (way.heard == "")
    assert (heard.menu, heard.connected_to, heard.trouble) == (way.menu, way.connected_to, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", MENUS)
def test_the_check_finds_nothing(name: str) -> None:
    command = [sys.executable, "-m", "voiceflow_worker", "ivr", "check", name, "--json"]
    run = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# -- whole runs -------------------------------------------------------------------------------------------------------


def rang(sandbox: Sandbox) -> Counter[str]:
    return Counter(str(entry.destination) for entry in sandbox.ledger if entry.rang)


def entry_of(sandbox: Sandbox, number: str) -> LedgerEntry:
    return next(entry for entry in sandbox.ledger if entry.destination == number and entry.pressed)


async def test_support_connects_to_the_desk_or_calls_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    monkeypatch.setenv("VOICEFLOW_STORE", url)
    async with open_store(url) as store:
        sandbox = await support_callback.try_out(store)
        jobs = await CallQueue(store).find(batch_id=support_callback.BATCH)
    assert rang(sandbox) == Counter(list(support_callback.PEOPLE))
    now_jobs = {job.destination: job for job in jobs if job.not_before is None}
    numbers = list(support_callback.PEOPLE)
    assert [now_jobs[number].digits for number in numbers] == ["1", "2", "7,2", None, None, None]
    assert [now_jobs[number].state for number in numbers] == [JobState.COMPLETED] * 5 + [JobState.UNREACHED]
    assert [entry.bridged_to for entry in sandbox.ledger if entry.bridged_to] == [support_callback.DESK]
    assert entry_of(sandbox, numbers[0]).bridged_to == support_callback.DESK
    assert entry_of(sandbox, numbers[3]).heard[-1] == "Please call us when it suits you. Goodbye."
    later = {job.destination: job for job in jobs if job.not_before is not None}
    assert set(later) == {numbers[1], numbers[2]}
    for number, job in later.items():
        first = now_jobs[number]
        assert (job.state, job.menu, job.data) == (JobState.QUEUED, "callback", first.data)
        assert (job.unique_key, job.body) == (f"{first.id}-later", first.body)
        assert job.not_before is not None
        pressed = first.posts[-1].presses[-1].at
        assert timedelta(hours=2) - timedelta(minutes=1) < job.not_before - pressed < timedelta(hours=2, minutes=1)


async def test_the_restaurant_books_what_was_asked_for() -> None:
    restaurant.bookings.clear()
    days = {datetime.now(UTC).astimezone(tz=SINGAPORE).date()}
    hours = {restaurant.HOURS.is_open(datetime.now(UTC))}
    async with open_store("memory://") as store:
        sandbox, visits = await restaurant.try_out(store)
        jobs = {job.destination: job for job in await CallQueue(store).find(batch_id="guests")}
        report = await build_report(store, "default", "guests")
    days.add(datetime.now(UTC).astimezone(tz=SINGAPORE).date())
    hours.add(restaurant.HOURS.is_open(datetime.now(UTC)))
    assert rang(sandbox) == Counter(list(restaurant.CALLED))
    assert {job.state for job in jobs.values()} == {JobState.COMPLETED}
    speaks = {"3" if is_open else "3,9" for is_open in hours}  # they are open, or closed, or this changed meanwhile
    digits = {number: job.digits for number, job in jobs.items()}
    assert digits.pop("+6587654323") in speaks
    assert digits == {
        "+6587654321": "1,1,4",
        "+6587654322": "2,1,9,1,2,12",
        "+6587654324": "7,1,2,0,1,2,40,*,6",
        "+6587654325": None,
    }
    assert sum(report.digits.values()) == 4
    expected = [
        ("+6587654321", 4, 0), ("+6587654322", 12, 1), ("+6587654324", 6, 1), ("+6587654331", 2, 1),
    ]  # fmt: skip
    assert sorted((number, count) for number, _, count in restaurant.bookings.values()) == [
        (number, count) for number, count, _ in expected
    ]
    booked: dict[str | None, date] = {number: on for number, on, _ in restaurant.bookings.values()}
    for number, _, after in expected:
        assert booked[number] in {day + timedelta(days=after) for day in days}
    assert [list(visit.pressed) for visit in visits] == [["1", "2", "2"], ["2"]]
    assert visits[0].heard[-1] == "A table for 2, tomorrow. We look forward to seeing you."
    assert [visit.outcome for visit in visits] == ["COMPLETED", "COMPLETED"]


async def test_who_does_not_answer_about_an_appointment_is_called_twice_more() -> None:
    async with open_store("memory://") as store:
        sandbox = await appointment.try_out(store)
        jobs = {str((job.data or {})["name"]): job for job in await CallQueue(store).find(batch_id="appointments")}
        report = await build_report(store, "default", "appointments")
    calls = rang(sandbox)
    assert [calls[number] for number in appointment.PEOPLE] == [1, 2, 3, 1, 1, 3, 1]
    assert {name: appointment.answer_of(job) for name, job in jobs.items()} == {
        "Ana": "confirmed",
        "Ben": "moved",
        "Chen": "confirmed",
        "Devi": "cancelled",
        "Eko": "was connected to the desk",
        "Farah": "no answer",
        "Gita": "no answer",
    }
    assert entry_of(sandbox, jobs["Ben"].destination).heard[-1] == "Thank you, Ben. See you on Thursday at two."
    assert [entry.bridged_to for entry in sandbox.ledger if entry.bridged_to] == [appointment.DESK]
    assert jobs["Farah"].state is JobState.UNREACHED
    assert {job.state for name, job in jobs.items() if name != "Farah"} == {JobState.COMPLETED}
    wait = appointment.UNANSWERED.after / appointment.SPEED
    for job in jobs.values():
        for before, after in zip(job.posts, job.posts[1:], strict=False):
            assert before.outcome is not None
            assert before.outcome.status in {SessionStatus.NO_ANSWER, SessionStatus.BUSY}
            assert before.answered_at is not None
            assert after.began_at - before.answered_at >= wait
    assert report.outcomes == {"COMPLETED": 6, "NO_ANSWER": 1}
    assert report.digits == {"1": 2, "2,1": 1, "2,9,2,2": 1, "3": 1, "5": 1}
    assert appointment.UNANSWERED.after == timedelta(minutes=15)


async def test_the_alarm_goes_down_the_rota_and_rings_nobody_twice() -> None:
    async with open_store("memory://") as store:
        sandbox, took = await on_call_alert.try_out(store)
        jobs = await CallQueue(store).find(batch_id="incident-42")
    rota = list(on_call_alert.ROTA)
    assert [entry.destination for entry in sandbox.ledger] == rota[:5]
    assert rang(sandbox) == Counter(rota[:5])
    assert took is not None
    assert took.destination == rota[4]
    assert [job.digits for job in jobs] == [None, "2", None, None, "7,1"]
    assert [job.state for job in jobs] == [JobState.UNREACHED, *[JobState.COMPLETED] * 4]
    for before, after in pairwise(jobs):
        ended = before.due_at - CallPolicy().retention  # a call that has ended is due to be pruned
        assert after.created_at >= ended, "two phones rang at once"


async def test_an_alarm_that_cannot_be_placed_goes_to_the_next_and_one_number_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_call_alert, "PATIENCE", timedelta(milliseconds=50))  # no worker sends anything here
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        rota = ["+6587654321", "+6587654322", "+6587654321"]
        took = await on_call_alert.alert(queue, incident="incident-7", text="Fire", source="+6531234567", rota=rota)
        jobs = await queue.find(batch_id="incident-7")
    assert took is None
    assert [job.destination for job in jobs] == ["+6587654321", "+6587654322"]
    for job in jobs:
        assert job.valid_until is not None
        assert timedelta() <= on_call_alert.RINGS_WITHIN - (job.valid_until - job.created_at) < timedelta(seconds=1)


async def test_an_alarm_that_was_taken_is_not_raised_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with open_store(url) as store:
        sandbox, took = await on_call_alert.try_out(store)
    assert took is not None
    async with open_store(url) as store:  # another process, later, and no worker: nothing needs to be sent
        again = await asyncio.wait_for(
            on_call_alert.alert(
                CallQueue(store), incident="incident-42", text="The database is full",
                source=on_call_alert.SOURCE, rota=list(on_call_alert.ROTA),
            ),
            timeout=30,
        )  # fmt: skip
        jobs = await CallQueue(store).find(batch_id="incident-42")
    assert again is not None
    assert again.id == took.id
    assert len(jobs) == len(sandbox.ledger) == 5


# -- the pages --------------------------------------------------------------------------------------------------------

PAGES = {name: DOCS / "examples" / f"{name.partition(':')[0].replace('_', '-')}.md" for name in MENUS}


@pytest.mark.parametrize("name", MENUS)
def test_the_picture_on_the_page_is_the_menu(name: str) -> None:
    (block,) = blocks(PAGES[name], language="mermaid")
    assert block.text == mermaid(MENUS[name]), f"in examples/: voiceflow ivr draw {name}"


@pytest.mark.parametrize("name", MENUS)
def test_the_page_prints_the_code_as_it_is(name: str) -> None:
    source = (EXAMPLES / f"{name.partition(':')[0]}.py").read_text(encoding="utf-8")
    (block,) = blocks(PAGES[name], language="python")
    imports, _, code = block.text.partition("\n\n")
    assert imports.startswith("from ")
    assert code.strip() in source
