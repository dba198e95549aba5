"""The example in Node: a client made from the OpenAPI document by openapi-typescript, against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.api.clients import SECRET
from tests.cli.eight_by_eight import EightByEight, running
from tests.docs.pages import ROOT
from tests.support import processes
from voiceflow_worker import SessionStatus
from voiceflow_worker.sandbox import Sandbox, Script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLE = ROOT / "examples" / "node" / "order_ready.mjs"
RETRIES = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def npm(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example, and with the packages that its head names."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"there is no {missing[0]} here; on Debian: apt-get install nodejs npm")
    shutil.copy(EXAMPLE, tmp_path)
    (install,) = [line for line in EXAMPLE.read_text("utf-8").splitlines() if "npm install" in line]
    command = install.removeprefix("//").split()
    done = npm(tmp_path, *command, "--no-audit", "--no-fund", "--no-package-lock", *RETRIES)
    if done.returncode != 0:
        pytest.skip(f"the packages of npm are not to be had here: {done.stderr[:200]}")
    return tmp_path


def commands(name: str) -> list[str]:
    """The command of the example's head that runs this program of a package."""
    (line,) = [line for line in EXAMPLE.read_text("utf-8").splitlines() if f"npx {name} " in line]
    return line.removeprefix("//").split()


def test_a_client_made_from_the_document_orders_a_call_and_reads_its_end(folder: Path) -> None:
    sandbox = Sandbox(speed=60)
    sandbox.scripts.add(Script(destination="+6587654321", outcome=SessionStatus.COMPLETED))
    with running(sandbox) as eight:
        orders(folder, eight)
    assert eight.rang == ["+6587654321"]


def orders(folder: Path, eight: EightByEight) -> None:
    settings = {
        **eight.environment, "VOICEFLOW_OUTCOMES": "webhook", "VOICEFLOW_API_SECRET": SECRET,
        "VOICEFLOW_STORE": f"sqlite:///{folder}/calls.db",
        "VOICEFLOW_SOURCE": "+6531234567", "VOICEFLOW_VOICE_PROFILE": "en-IE-EmilyNeural",
    }  # fmt: skip
    with processes.running("serve", "--api", "--port", "0", env=settings) as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+").group()
        document = httpx.get(f"{url}/v1/openapi.json", headers={"Authorization": f"Bearer {SECRET}"})
        (folder / "calls.json").write_bytes(document.content)
        made = npm(folder, *commands("openapi-typescript"))
        assert made.returncode == 0, made.stderr
        types_hold(folder)

        with processes.running("serve", "--port", "0", "--register", url, env=settings) as registering:
            registering.wait_for("8x8 now sends VSS")
        client = {"CALLS_URL": url, "VOICEFLOW_API_SECRET": SECRET}
        with processes.running("worker", env=settings):
            ordered, again = (npm(folder, "node", EXAMPLE.name, "order-42", "+6587654321", **client) for _ in "ab")
            assert ": answered after " in ordered.stdout, ordered.stderr
            assert again.stdout == ordered.stdout  # the same key is the same call
            problem = npm(folder, "node", EXAMPLE.name, "order-43", "12", **client)
        assert problem.returncode == 1
        assert "  /to: '12' has no country code" in problem.stderr


def types_hold(folder: Path) -> None:
    """tsc takes the example, and refuses a field, an answer, a header and a path that the document does not have."""
    command, example = commands("tsc"), EXAMPLE.read_text("utf-8")
    told = npm(folder, *command)
    assert told.returncode == 0, told.stdout
    wrong = {
        "field.mjs": ("body: { to,", "body: { too: to,"),
        "answer.mjs": ("call.outcome?.seconds", "call.outcome?.minutes"),
        "header.mjs": ('{ "Idempotency-Key": key }', "{}"),
        "path.mjs": ('"/v1/calls/{id}"', '"/v1/call/{id}"'),
    }
    for name, (right, other) in wrong.items():
        assert right in example
        (folder / name).write_text(example.replace(right, other), encoding="utf-8")
    told = npm(folder, *command[:-1], *wrong)
    assert {line.partition("(")[0] for line in told.stdout.splitlines() if "): error TS" in line} == set(wrong)
