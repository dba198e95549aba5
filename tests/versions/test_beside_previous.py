"""Processes of the previous version beside those of this one, as while an installation is upgraded, and back."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import ROOT, running, voiceflow
from tests.support.stage import SECRET
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PREVIOUS = "b68281c"
"""The commit of the previous version."""
CALLS = 12


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the previous version's packages, out of the history of this repository."""
    asked = ["git", "archive", PREVIOUS, "voiceflow_worker"]
    archive = subprocess.run(asked, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"the history of this repository is not there: no commit {PREVIOUS}")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def said(*arguments: str, env: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    """What a command says with --json."""
    done = voiceflow(*arguments, "--json", env=env, folder=folder)
    assert "Traceback" not in done.told, done.told
    text = "".join(done.stdout)
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in done.stdout]


def enqueue(env: dict[str, str], folder: Path, files: Path, *, first: int, name: str) -> None:
    file = files / f"{name}.csv"
    rows = "".join(f"+65{80000000 + place},Customer {place}\n" for place in range(first, first + CALLS))
    file.write_text(f"destination,name\n{rows}", encoding="utf-8")
    say = ("--say", "Hello {{name}}.", "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567")
    (told,) = said("enqueue", str(file), *say, env=env, folder=folder)
    assert told["enqueued"] == CALLS


@pytest.mark.parametrize("older_receives", [False, True], ids=["this receives", "the previous receives"])
def test_both_send_settle_and_show_each_others_calls(
    previous: Path, sqlite_url: str, tmp_path: Path, older_receives: bool
) -> None:
    env = {
        "VOICEFLOW_STORE": sqlite_url,
        "VOICEFLOW_API_KEY": "test-key",
        "VOICEFLOW_SUB_ACCOUNT": "tests",
        "VOICEFLOW_WEBHOOK_SECRET": SECRET,
        "VOICEFLOW_LEASE": "3s",
        "VOICEFLOW_STATE_DIR": str(tmp_path / "state"),
        "VOICEFLOW_REDIAL_ON": "busy",
        "VOICEFLOW_REDIAL_AFTER": "1s",
    }
    receiver_of, sender_of = (previous, ROOT) if older_receives else (ROOT, previous)
    with (
        running("serve", "--port", "0", env=env, folder=receiver_of) as receiver,
        running(
            "sandbox", "--port", "0", "--webhook", receiver.wait_for(r"(http://127\.0\.0\.1:\d+/webhooks/8x8)")[1],
            "--speed", "100", env=env,
        ) as sandbox,
    ):  # fmt: skip
        url = sandbox.wait_for(r"ready on (http://127\.0\.0\.1:\d+)")[1]
        env["VOICEFLOW_BASE_URL"] = url
        busy = [f"+65{80000000 + place}" for place in (1, CALLS + 1)]
        for destination in busy:
            order = {"destination": destination, "outcome": "BUSY", "times": 1}
            httpx.post(f"{url}/_sandbox/script", json=order, trust_env=False).raise_for_status()
        enqueue(env, ROOT, tmp_path, first=0, name="ours")
        enqueue(env, previous, tmp_path, first=CALLS, name="theirs")
        with (
            running("worker", "--rate", "10", env=env, folder=ROOT) as ours,
            running("worker", "--rate", "10", env=env, folder=previous) as theirs,
        ):
            wait_until(
                lambda: is_done(said("status", env=env, folder=sender_of)[0]["states"]),
                lambda: f"the end of all calls\n{ours.told}\n{theirs.told}",
                within=90,
            )
            both = [said("status", env=env, folder=folder)[0] for folder in (ROOT, previous)]
            assert [status["workers"] for status in both] == [2, 2]
            assert (ours.end(), theirs.end()) == (0, 0)
        ledger: list[dict[str, Any]] = httpx.get(f"{url}/_sandbox/calls", trust_env=False).json()
    rang = Counter(entry["destination"] for entry in ledger if entry["rang"])
    assert [rang[number] for number in busy] == [2, 2]
    for process in (ours, theirs, receiver):
        assert "Traceback" not in process.told, process.told
    listed = [
        {call["destination"]: call for call in said("calls", "list", "--limit", "0", env=env, folder=folder)}
        for folder in (ROOT, previous)
    ]
    assert {number: call["attempt"] for number, call in listed[0].items()} == rang
    assert len(rang) == 2 * CALLS
    for number, call in listed[1].items():
        assert_says(listed[0][number], call)


def assert_says(ours: Any, theirs: Any) -> None:
    """What the previous version shows, this one shows alike; it may show more."""
    if isinstance(theirs, dict):
        for name, value in theirs.items():
            assert_says(ours[name], value)
    elif isinstance(theirs, list):
        for mine, other in zip(ours, theirs, strict=True):
            assert_says(mine, other)
    else:
        assert ours == theirs


def test_the_previous_version_is_refused_by_a_redis_that_this_one_has_taken_over(
    previous: Path, redis_url: str, tmp_path: Path
) -> None:
    env = {"VOICEFLOW_STORE": redis_url, "VOICEFLOW_API_KEY": "test-key", "VOICEFLOW_SUB_ACCOUNT": "tests"}
    enqueue(env, previous, tmp_path, first=0, name="theirs")
    enqueue(env, ROOT, tmp_path, first=CALLS, name="ours")
    refused = voiceflow("worker", "--drain", env=env, folder=previous)
    assert "A newer one wrote it: upgrade this installation" in refused.told
    assert "Traceback" not in refused.told
    assert said("status", env=env, folder=ROOT)[0]["states"]["queued"] == 2 * CALLS


def is_done(states: dict[str, int]) -> bool:
    return states["completed"] + states["unreached"] + states["failed"] == 2 * CALLS
