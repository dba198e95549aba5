"""The menus of examples/: what each of them does is judged by what rang, by the stored calls, and branch by branch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples import appointment, restaurant
from voiceflow_worker import Menu
from voiceflow_worker.ivr import Rehearsal

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
OPEN = datetime(2026, 11, 20, 4, tzinfo=UTC)  # a Friday, noon in Singapore
CLOSED = datetime(2026, 11, 23, 4, tzinfo=UTC)  # a Monday
ANA = {"name": "Ana", "time": "on Tuesday at ten", "other_time": "on Friday"}

MENUS: Mapping[str, Menu] = {
    "appointment:appointment": appointment.appointment,
    "restaurant:main": restaurant.main,
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
        Way(("2", "1"), "Thank you, Ana. See you on Friday."), Way(("2", "2"), "", connected_to=appointment.DESK),
        Way(("2", "9"), "Hello Ana.", menu="appointment"), Way(("3",), "Your appointment is cancelled. Goodbye."),
        Way(("2", "3"), "Sorry, that is not a valid choice. You could also come on Friday.", menu="move"),
        Way(("", "", ""), "We will call you again about it. Goodbye."),
        Way(("2", "", "", ""), "We will call you again about it. Goodbye."),
    ],
}  # fmt: skip


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
