from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.running import Spawned
from tests.support.postgres import PostgresServer

# Whatever account is set up, a demo does not use it.
SOMEBODYS = {
    "VOICEFLOW_BASE_URL": "http://127.0.0.1:9",
    "VOICEFLOW_API_KEY": "their-key",
    "VOICEFLOW_STORE": "sqlite:///theirs.db",
    "VOICEFLOW_RATE": "0.01",
}


@pytest.mark.slow
def test_the_demo_calls_every_good_row_once_and_tells_the_bad_ones(folder: Path) -> None:
    with Spawned(["demo", "--json"], folder, SOMEBODYS) as demo:
        ended = demo.end()
    assert ended.code == 0, ended.err
    found = ended.document
    destinations = Counter(call["destination"] for call in found["calls"])
    assert found["enqueued"] == len(destinations) == destinations.total() == 27  # as the README says
    assert found["rang"] <= found["enqueued"]
    assert {call["state"] for call in found["calls"]} <= {"completed", "unreached", "failed"}
    assert all(call["outcome"] for call in found["calls"])
    bad = {finding["row"] for finding in found["findings"] if finding["severity"] == "error"}
    assert len(bad) == found["rejected"] > 10
    assert found["doubts"] == 0
    assert list(folder.iterdir()) == []
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_the_next_commands_can_be_run_and_do_not_show_the_password_of_the_store(
    folder: Path, postgres_server: PostgresServer
) -> None:
    postgres_server.ask("CREATE ROLE shop SUPERUSER LOGIN PASSWORD 'hush'")
    url = postgres_server.url(user="shop:hush", schema="try_it")
    with Spawned(["demo", "--store", url], folder, SOMEBODYS) as demo:
        ended = demo.end()
    assert ended.code == 0, ended.err
    assert "hush" not in ended.out + ended.err
    assert "export VOICEFLOW_STORE\n" in ended.out
    (following,) = re.findall(r"^ +voiceflow (calls list --store .*?)  ", ended.out, re.MULTILINE)
    assert [os.path.expandvars(word) for word in shlex.split(following)] == [
        "calls",
        "list",
        "--store",
        "$VOICEFLOW_STORE",
    ]
    assert "VOICEFLOW_STORE" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_demo_is_left_quietly(folder: Path, number: signal.Signals) -> None:
    with Spawned(["demo"], folder, {"TMPDIR": str(folder)}) as demo:
        demo.wait_for("Sending")
        ended = demo.stop(number)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_the_wheel_carries_what_the_demo_and_the_sandbox_need(folder: Path) -> None:
    """Built without isolation, so nothing is fetched, and unpacked where no examples/ is near."""
    pytest.importorskip("hatchling")
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as unpacked:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=root, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), unpacked], check=True)
        code = (
            "from voiceflow_worker.cli.demo import *\n"
            "for name in (CAMPAIGN, FLOW):\n"
            "    with example_file(name) as path: print(path.is_file(), path)\n"
            "import voiceflow_worker.sandbox.service as told\n"
            "print(bool(told.description()), told.__file__)"
        )
        environment = {**os.environ, "PYTHONPATH": unpacked}
        run = [sys.executable, "-c", code]
        out = subprocess.run(run, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
        for needed in (
            "layout.html",
            "live.js",
            "__init__.pyi",
            "py.typed",
            "schema.sql",
            "lease.sql",
            "lease.lua",
            "console.po",
        ):
            assert list(Path(unpacked).rglob(needed)), needed
        (metadata,) = Path(unpacked).glob("*.dist-info/METADATA")
        readme = metadata.read_text(encoding="utf-8").partition("\n\n")[2]  # what package indexes show
        assert "# voiceflow-worker\n" in readme
        assert {place[:8] for place in re.findall(r"\]\(([^)]+)\)", readme)} == {"https://"}
    assert [line.split()[0] for line in out.splitlines()] == ["True", "True", "True"]
    assert all(unpacked in line for line in out.splitlines())
