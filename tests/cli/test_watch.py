"""`voiceflow watch`: a live view on a terminal, and lines where there is none."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import TIMEOUT
from tests.cli.stored import completed, empty, enqueued, in_doubt, unreached, within
from tests.support.engine import Engine
from voiceflow_worker.core.overview.status import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.model.reports.status import SessionStatus

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    """A terminal with the program in it: keys go in, and what was drawn last is looked at."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._drawn = ""

    def shows(self, *texts: str) -> str:
        """Wait until all of these texts were drawn since the last key; gives what was drawn."""
        until = time.monotonic() + TIMEOUT
        while not all(text in self._drawn for text in texts):
            ready, _, _ = select.select([self._master], [], [], max(until - time.monotonic(), 0))
            try:
                drawn = os.read(self._master, 65536) if ready else b""
            except OSError:  # the program has ended
                drawn = b""
            assert drawn, f"{texts} was not drawn:\n{self._drawn}"
            self._drawn += _ESCAPES.sub("", drawn.decode(errors="replace"))
        return self._drawn

    def press(self, key: str) -> None:
        self._drawn = ""
        os.write(self._master, key.encode())

    def end(self) -> int:
        """Wait until the program ends, and read what it still draws."""
        until = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
        return self.process.wait(TIMEOUT)


@contextmanager
def terminal(folder: Path, *arguments: str) -> Generator[Terminal]:
    """The program with these arguments, alone in a terminal of 100 by 40."""
    master, slave = pty.openpty()
    size = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceflow_worker", *arguments],
        cwd=folder,
        env={**os.environ, **size},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(TIMEOUT)
        os.close(master)


@pytest.fixture
def watch(folder: Path) -> tuple[str, ...]:
    return ("watch", "--store", empty(folder))


Watch = tuple[str, ...]


def hold_of(folder: Path) -> list[tuple[str, str]]:
    async def work(engine: Engine) -> list[tuple[str, str]]:
        return [(gate.name, gate.reason) for gate in await gates_of(engine.store, "default")]

    return within(folder, work)


@pytest.mark.slow
def test_the_view_has_states_outcomes_rate_holds_doubts_and_the_last_calls(folder: Path, watch: Watch) -> None:
    completed(folder, batch_id="march")
    missed = unreached(folder, SessionStatus.NO_ANSWER, batch_id="march")
    in_doubt(folder)
    enqueued(folder, 6, batch_id="march")

    async def prepared(engine: Engine) -> None:
        beat = WorkerBeat(worker_id="worker-1", queue="default", rate=2.0, in_flight=3, batches={"march": 2.0})
        await Heartbeats(engine.store).worker(beat)
        await engine.queue.hold(batch_id="april", reason="the text is wrong")

    within(folder, prepared)
    with terminal(folder, *watch) as screen:
        drawn = screen.shows("h hold", missed.destination)
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
    with terminal(folder, *watch, "--batch", "march", "--as", "Ana") as screen:
        screen.shows("queue default, batch march", "r resume")
        screen.press("h")
        screen.shows("Hold batch march? y: yes, any other key: no")
        screen.press("n")
        screen.shows("nothing was held")
        assert hold_of(folder) == []
        screen.press("h")
        screen.shows("Hold batch march?")
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
        with terminal(folder, *watch) as screen:
            screen.shows("q quit")
            screen.process.send_signal(number)
            assert screen.end() == 0


@pytest.mark.slow
def test_json_is_a_document_a_second_also_on_a_terminal(folder: Path, watch: Watch) -> None:
    unreached(folder, SessionStatus.BUSY, batch_id="march")
    enqueued(folder, 1, batch_id="march")
    with terminal(folder, *watch, "--batch", "march", "--json") as screen:
        drawn = screen.shows("}\r\n")
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 0
    found = json.loads(drawn.splitlines()[0])
    assert (found["batch_id"], found["total"], found["done"], found["outcomes"]) == ("march", 2, 1, {"BUSY": 1})
    assert {"at", "queue", "states", "rate_now", "ends_at", "hold", "holds", "doubts", "workers", "receiver"} <= set(
        found
    )
