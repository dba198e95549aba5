"""Standard streams that fail, and too few descriptors: the work goes on, or a sentence says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.support.flows import flow, number
from tests.support.processes import running
from voiceflow_worker import CallQueue, CallRequest, open_store
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.slow

CALLS = 20
COMMAND = [sys.executable, "-m", "voiceflow_worker"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    with running("sandbox", "--port", "0") as served:
        yield served.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]


def environment(url: str, sandbox: str = "http://127.0.0.1:9") -> dict[str, str]:
    given = {"BASE_URL": sandbox, "API_KEY": "k", "SUB_ACCOUNT": "acme", "OUTCOMES": "none", "STORE": url, "RATE": "99"}
    return {"PATH": os.environ["PATH"], **{f"VOICEFLOW_{name}": value for name, value in given.items()}}


async def enqueued(url: str) -> None:
    async with open_store(url) as store:
        await CallQueue(store).enqueue_many([CallRequest(flow=flow(number(place))) for place in range(CALLS)])


async def accepted(url: str) -> int:
    async with open_store(url) as store:
        return (await count_states(store, "default"))[JobState.ACCEPTED]


@pytest.mark.parametrize("streams", [">/dev/full 2>&1", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | true"])
def test_a_log_that_cannot_be_written_ends_no_worker_and_no_call(streams: str, sandbox: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    anyio.run(enqueued, url)
    command = ["bash", "-o", "pipefail", "-c", f'"$@" {streams}', "bash", *COMMAND, "worker", "--drain"]
    ended = subprocess.run(command, env=environment(url, sandbox), check=False)
    assert ended.returncode == 0
    assert anyio.run(accepted, url) == CALLS


@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [(">/dev/full", 1, "No space left on device"), (">&-", 0, ""), ("| true", 1, ""), ("--json >&-", 0, "")],
)
def test_a_command_says_that_its_output_cannot_be_written(streams: str, code: int, told: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    anyio.run(enqueued, url)
    command = ["bash", "-o", "pipefail", "-c", f'"$@" {streams}', "bash", *COMMAND, "calls", "list"]
    ended = subprocess.run(command, env=environment(url), stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.removeprefix("voiceflow: ").strip()) == (code, told)


@pytest.mark.parametrize("command", ["worker", "serve"])
def test_too_few_descriptors_are_named_in_a_line(command: str, tmp_path: Path) -> None:
    run = ["prlimit", "--nofile=40", *COMMAND, command]
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    ended = subprocess.run(run, env=environment(url), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "may have only 40 files open" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
