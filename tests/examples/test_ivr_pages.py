"""The commands of the examples' pages are typed as they are printed: sandbox, receiver, campaign, worker, report."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.test_tutorial import Shell, free_port, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Told:
    """What a page promises: the batch, whose phone rang how often, how its calls ended, what was pressed."""

    page: str
    batch: str
    rang: dict[str, int]
    states: dict[str, int]
    digits: dict[str, int]
    says: tuple[str, ...] = ()


TOLD = [
    Told(
        page="support-callback",
        batch="callbacks",
        rang={"+6587654321": 1, "+6587654322": 1},
        states={"completed": 2, "queued": 1},
        digits={"1": 1, "2": 1},
    ),
    Told(
        page="restaurant",
        batch="guests",
        rang={"+6587654321": 1, "+6587654322": 1},
        states={"completed": 2},
        digits={"1,1,4": 1, "2,9": 1},
        says=('"pressed":["9"]',),
    ),
    Told(
        page="appointment",
        batch="appointments",
        rang={f"+658765432{place}": 1 for place in range(2, 8)} | {"+6587654321": 2},
        states={"completed": 7},
        digits={"1": 6, "3": 1},
        says=("confirmed       6", "cancelled       1"),
    ),
    Told(
        page="on-call-alert",
        batch="incident-42",
        rang={"+6587654321": 1, "+6587654322": 1},
        states={"unreached": 1, "completed": 1},
        digits={"1": 1},
        says=("taken by +6587654322\ntaken by +6587654322",),
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    opened = Shell(folder)
    yield opened
    opened.close()


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.page)
def test_the_commands_of_a_page_can_be_typed(told: Told, shell: Shell) -> None:
    ports = {"8080": free_port(), "8088": free_port()}
    story = ""
    steps = [
        block for name in ("README", told.page) for block in blocks(DOCS / "examples" / f"{name}.md", language="sh")
    ]
    for step in steps:
        text = step.text
        for printed, real in ports.items():
            text = text.replace(f":{printed}", f":{real}").replace(f"--port {printed}", f"--port {real}")
        code, output = shell.type(text)
        story += f"$ {text}{output}"
        assert code == 0, story
        for printed, real in ports.items():
            if f"--port {printed}" in step.text:
                wait_for(real)
    _, ledger = shell.type(f"curl --silent http://127.0.0.1:{ports['8088']}/_sandbox/calls")
    assert Counter(entry["destination"] for entry in json.loads(ledger) if entry["rang"]) == told.rang, story
    _, printed = shell.type(f"voiceflow report --batch {told.batch} --json")
    report = json.loads(printed[printed.index("{") :])
    assert {state: count for state, count in report["states"].items() if count} == told.states, story
    assert report["digits"] == told.digits, story
    for said in told.says:
        assert said in story, story
