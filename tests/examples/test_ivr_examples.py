"""The menus of examples/: what each of them does is judged by what rang, by the stored calls, and branch by branch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples import appointment
from voiceflow_worker import Menu
from voiceflow_worker.ivr import SimulatedCall

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
ANA = {"name": "Ana", "time": "on Tuesday at ten", "other_time": "on Friday"}

MENUS: Mapping[str, Menu] = {
    "appointment:appointment": appointment.appointment,
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


WAYS: Mapping[str, list[Way]] = {
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
    call = SimulatedCall(MENUS[name], data=ANA)
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
