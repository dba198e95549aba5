"""`voiceflow status --watch`: a live view on a terminal, and lines where there is none."""

from __future__ import annotations

import json
import re
import signal
from io import StringIO
from pathlib import Path
from typing import Self

import pytest
from rich.console import Console, RenderableType

from tests.cli.stored import completed, empty, enqueued, in_doubt, unreached, within
from tests.cli.terminal import Terminal
from tests.support.engine import Engine
from voiceflow_worker.actions import Operator
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.cli import watch as watching
from voiceflow_worker.cli.watch import read_watched
from voiceflow_worker.core.audit import Interface
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import SessionStatus


@pytest.fixture
def watch(folder: Path) -> tuple[str, ...]:
    return ("status", "--watch", "--store", empty(folder))


Watch = tuple[str, ...]


def hold_of(folder: Path) -> list[tuple[str, str]]:
    async def work(engine: Engine) -> list[tuple[str, str]]:
        return [(gate.name, gate.reason) for gate in await gates_of(engine.store, "default")]

    return within(folder, work)


@pytest.mark.slow
def test_the_view_has_states_outcomes_rate_holds_and_doubts(folder: Path, watch: Watch) -> None:
    completed(folder, batch_id="march")
    unreached(folder, SessionStatus.NO_ANSWER, batch_id="march")
    in_doubt(folder)
    enqueued(folder, 6, batch_id="march")

    async def prepared(engine: Engine) -> None:
        beat = WorkerBeat(worker_id="worker-1", queue="default", rate=2.0, in_flight=3, batches={"march": 2.0})
        await Heartbeats(engine.store).worker(beat)
        await engine.queue.hold(batch_id="april", reason="the text is wrong")

    within(folder, prepared)
    with Terminal(watch, folder) as screen:
        drawn = screen.shows("h hold")
        assert "2 of 9 calls done (22%), 2 calls/s by 1 worker, 0:00:03 left" in drawn
        assert "HELD: batch april is held" in drawn
        assert "the text is wrong" in drawn
        assert "IN DOUBT: 1 call" in drawn
        assert re.search(r"queued +6 .*67%", drawn)
        assert re.search(r"NO ANSWER +1 .*50%", drawn)
        screen.press("q")
        assert screen.end() == 0


def test_h_holds_after_a_question_and_r_resumes(folder: Path, watch: Watch) -> None:
    enqueued(folder, 2, batch_id="march")
    with Terminal([*watch, "--batch", "march", "--as", "Ana"], folder) as screen:
        screen.shows("queue default, batch march", "r resume")
        screen.press("h")
        screen.shows("Hold batch march of queue default? y: yes, any other key: no")
        screen.press("n")
        screen.shows("nothing was held")
        assert hold_of(folder) == []
        screen.press("h")
        screen.shows("Hold batch march of queue default?")
        screen.press("y")
        screen.shows("HELD: batch march is held")
        assert hold_of(folder) == [("march", "held by Ana")]
        screen.press("r")
        screen.shows("batch march is open")
        assert hold_of(folder) == []
        screen.press("q")
        assert screen.end() == 0


@pytest.mark.slow
def test_a_signal_ends_the_view_and_gives_the_terminal_back(folder: Path, watch: Watch) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with Terminal(watch, folder) as screen:
            screen.shows("q quit")
            screen.process.send_signal(number)
            assert screen.end() == 0


@pytest.mark.slow
def test_json_is_a_document_a_second_also_on_a_terminal(folder: Path, watch: Watch) -> None:
    unreached(folder, SessionStatus.BUSY, batch_id="march")
    enqueued(folder, 1, batch_id="march")
    with Terminal([*watch, "--batch", "march", "--json"], folder) as screen:
        drawn = screen.shows("}\r\n")
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 0
    found = json.loads(drawn.splitlines()[0])
    assert (found["batch_id"], found["total"], found["done"], found["outcomes"]) == ("march", 2, 1, {"BUSY": 1})
    assert {"at", "queue", "states", "rate_now", "ends_at", "hold", "holds", "doubts", "workers", "receiver"} <= set(
        found
    )


@pytest.mark.anyio
async def test_what_is_told_of_a_store_that_was_away_goes_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((None, StoreUnavailableError("the store is away"), None))

    async def read(*args: object, **named: object) -> watching.Watched:
        answer = next(answers)
        if answer is not None:
            raise answer
        return await read_watched(store, "default")

    store = MemoryStore()
    drawn: list[str] = []

    class Live:
        console = Console(file=StringIO(), width=200)

        def __init__(self, **_: object) -> None:
            """One that keeps what it draws."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing is put back."""

        def update(self, view: RenderableType, **_: object) -> None:
            with self.console.capture() as captured:
                self.console.print(view)
            drawn.append(captured.get())

    monkeypatch.setattr(watching, "read_watched", read)
    monkeypatch.setattr(watching, "EVERY", 0.0)
    monkeypatch.setattr("rich.live.Live", Live)
    operator = Operator(store, CallPolicy(), None, on=Interface.COMMAND, login="mary", order="1")
    with pytest.raises(ExceptionGroup):
        await watching.Screen(operator, "default", None).run()
    assert ["the store is away; trying again" in each for each in drawn] == [False, True, False]
