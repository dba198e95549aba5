"""One call at once: `voiceflow call` and `doctor --call` report each step, and leave nothing half done; the demo."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import LONG, MINE, listens, names, order, receiving, steps
from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Ended, Program, Spawned
from tests.cli.stored import within
from tests.support.engine import Engine
from tests.support.flows import SOURCE, flow
from tests.support.waiting import wait_until
from voiceflow_worker import Job
from voiceflow_worker.core.gates import hold_until_left
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.writes import NUMBER
from voiceflow_worker.model.jobs.job import JobState


@pytest.mark.slow
def test_a_person_who_answers_hears_the_text(voiceflow: Program, eight: EightByEight) -> None:
    with receiving(eight, voiceflow.folder):
        ended = voiceflow("call", MINE, "--say", "The server room is too warm.", "--json")
    assert ended.code == 0, ended.err
    assert names(ended)[-1] == "completed"
    (entry,) = eight.sandbox.ledger
    assert (entry.destination, entry.rang) == (MINE, True)
    (job,) = within(voiceflow.folder, all_jobs)
    assert (job.batch_id, job.source, job.state.value) == ("call", SOURCE, "completed")
    assert '"text":"The server room is too warm."' in job.body
    (kept,) = voiceflow("audit", "--json").lines
    assert (kept["action"], kept["on"], kept["call_id"], kept["numbers"]) == ("call", "command", job.id, [MINE])


@pytest.mark.slow
def test_a_suppressed_number_is_not_called(voiceflow: Program, eight: EightByEight) -> None:
    within(voiceflow.folder, lambda engine: SuppressionList(engine.store).add(MINE, reason="asked us"))
    with receiving(eight, voiceflow.folder):
        ended = voiceflow("call", MINE, "--say", "Wake up.", "--json")
    assert (ended.code, names(ended)) == (1, ["not called"])
    assert not eight.sandbox.ledger


def test_without_a_receiver_nobody_is_called_unless_outcomes_are_not_awaited(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = voiceflow("call", MINE, "--say", "Wake up.", "--json")
    assert (ended.code, names(ended)) == (1, ["not called"])
    assert "voiceflow serve" in steps(ended)[0]["remedy"]
    assert not eight.sandbox.ledger
    monkeypatch.setenv("VOICEFLOW_OUTCOMES", "none")
    ended = voiceflow("call", MINE, "--say", "Wake up.", "--json")
    assert (ended.code, names(ended)[-1]) == (1, "accepted")
    assert len(eight.sandbox.ledger) == 1


async def all_jobs(engine: Engine) -> list[Job]:
    return list(await engine.queue.find())


def call(voiceflow: Program, *options: str) -> Ended:
    return voiceflow("doctor", "--call", MINE, "--json", *options)


def jobs(folder: Path) -> list[Job]:
    async def work(engine: Engine) -> list[Job]:
        return list(await engine.queue.find())

    return within(folder, work)


# -- calls that leave --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_step_of_a_call_is_reported(voiceflow: Program, eight: EightByEight) -> None:
    order(eight, "script", {"outcome": "COMPLETED", "talk_seconds": 12})
    with receiving(eight, voiceflow.folder) as serve:
        ended = call(voiceflow)
        assert (ended.code, ended.err) == (0, "")
        told = steps(ended)
        serve.stop()
    assert (names(ended)[0], names(ended)[-1]) == ("checked", "completed")
    lines = [step["message"] for step in told if step["step"] == "call"]
    assert lines[0] == "enqueued"
    assert {"POST 1 to 8x8: created", "answered"} < set(lines)
    assert re.fullmatch(r"hung up, \d+ s in all", lines[-1])
    assert all(set(step) == {"step", "at", "level", "message", "remedy"} for step in told)
    assert {step["level"] for step in told} == {"ok"}
    (job,) = jobs(voiceflow.folder)
    assert (job.state, job.batch_id, job.source, job.destination) == (JobState.COMPLETED, "doctor", SOURCE, MINE)
    assert eight.rang == [MINE]


@pytest.mark.slow
def test_a_phone_that_is_busy_is_not_reached_and_not_called_again(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_REDIAL_ON", "busy")
    order(eight, "script", {"outcome": "BUSY"})
    with receiving(eight, voiceflow.folder) as serve:
        ended = call(voiceflow)
        serve.stop()
    said, last = steps(ended)[-2:]
    assert (ended.code, last["step"], last["level"]) == (1, "unreached", "failure")
    assert said["message"].startswith("the line was busy")
    assert [job.state for job in jobs(voiceflow.folder)] == [JobState.UNREACHED]


def test_a_summary_that_does_not_come_is_reported(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.service.one_call.SUMMARY_WITHIN", timedelta(milliseconds=300))
    listens(voiceflow.folder)
    ended = call(voiceflow)
    last = steps(ended)[-1]
    assert (ended.code, last["step"], last["level"]) == (1, "no summary", "failure")
    assert "no summary came within" in last["message"]
    assert jobs(voiceflow.folder)[0].id in last["remedy"]


# -- calls that do not leave -------------------------------------------------------------------------------------------


def test_a_failure_keeps_the_call_back(voiceflow: Program, eight: EightByEight) -> None:
    eight.sandbox._account.hooks("acme").clear()
    ended = call(voiceflow)
    assert (ended.code, names(ended)) == (1, ["not called"])
    assert steps(ended)[0]["message"] == "correct these first: webhook"
    assert eight.rang == []


@pytest.mark.parametrize("batch", [None, "doctor"])
def test_a_hold_is_reported_before_anything_is_enqueued(
    voiceflow: Program, eight: EightByEight, batch: str | None
) -> None:
    listens(voiceflow.folder)
    within(voiceflow.folder, lambda engine: hold_until_left(engine.store, "default", batch_id=batch, reason="lunch"))
    ended = call(voiceflow)
    last = steps(ended)[-1]
    assert (ended.code, last["step"]) == (1, "not called")
    assert last["message"].endswith("is held until somebody resumes it: lunch")
    assert f"`voiceflow resume{' --batch doctor' if batch else ''}`" in last["remedy"]
    assert jobs(voiceflow.folder) == []


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


async def busy(engine: Engine) -> None:
    """Another call is open to the number."""
    other = await engine.queue.enqueue(flow(MINE), batch="others")
    now = engine.store.clock.now()
    taken = Write(puts=(Put(NUMBER, number_digest(MINE, store_id=engine.store.id), other.request_id(1), None),))
    await engine.store.write(BulkWrite(writes=(taken,)), now=now)
    await engine.queue.hold(batch_id="others")


def until_told(spawned: Spawned, said: str) -> None:
    """The line of a step on stdout, which is written when it happens."""
    wait_until(
        lambda: any(said in line for line in list(spawned.running.stdout)),
        lambda: f"{said} in {spawned.running.stdout}",
    )


@pytest.mark.slow
def test_ctrl_c_takes_back_a_call_that_has_not_left(voiceflow: Program, eight: EightByEight) -> None:
    listens(voiceflow.folder)
    within(voiceflow.folder, busy)
    with Spawned(["doctor", "--call", MINE, "--json"], voiceflow.folder) as doctor:
        until_told(doctor, "is queued: its number is busy")
        doctor.press(signal.SIGINT)
        ended = doctor.end()
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    assert names(ended)[-1] == "cancelled"
    assert [job.state for job in jobs(voiceflow.folder) if job.batch_id == "doctor"] == [JobState.CANCELLED]
    assert eight.rang == []


@pytest.mark.slow
def test_ctrl_c_after_the_call_has_left_says_that_it_is_too_late(voiceflow: Program, eight: EightByEight) -> None:
    listens(voiceflow.folder)
    order(eight, "script", LONG)
    with Spawned(["doctor", "--call", MINE, "--json"], voiceflow.folder) as doctor:
        until_told(doctor, "is submitted")
        doctor.press(signal.SIGINT)
        ended = doctor.end()
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    assert "the call can no longer be cancelled: it is submitted" in steps(ended)[-1]["message"]
    assert [job.state for job in jobs(voiceflow.folder)] == [JobState.SUBMITTED]


# -- the demo ----------------------------------------------------------------------------------------------------------

# Whatever account is set up, a demo does not use it.
SOMEBODYS = {
    "VOICEFLOW_BASE_URL": "http://127.0.0.1:9", "VOICEFLOW_API_KEY": "their-key",
    "VOICEFLOW_STORE": "sqlite:///theirs.db", "VOICEFLOW_RATE": "0.01",
}  # fmt: skip


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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_demo_is_left_quietly(folder: Path, number: signal.Signals) -> None:
    with Spawned(["demo"], folder, {"TMPDIR": str(folder)}) as demo:
        demo.wait_for("Sending")
        ended = demo.stop(number)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_sdist_and_wheel_have_every_file_of_the_packages_and_the_demo_runs_from_the_wheel(folder: Path) -> None:
    """Built without isolation, so nothing is fetched: the wheel from the sdist, as `python -m build` does."""
    pytest.importorskip("hatchling")
    root = Path(__file__).parents[2]

    def built(kind: str, source: Path) -> Path:
        build = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder / kind)]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        (archive,) = (folder / kind).iterdir()
        shutil.unpack_archive(archive, folder / f"of {kind}", "zip" if kind == "wheel" else "gztar")
        return folder / f"of {kind}"

    (sources,) = built("sdist", root).iterdir()
    unpacked = built("wheel", sources)
    carried = {"voiceflow_worker": "voiceflow_worker", "airflow_provider": "airflow_provider"}
    for package, name in {**carried, "tests/contract": "voiceflow_contract"}.items():
        files = [each for each in (root / package).rglob("*") if each.is_file() and "__pycache__" not in each.parts]
        assert len(files) > 10
        for each in files:
            place = each.relative_to(root / package)
            assert (unpacked / name / place).read_bytes() == each.read_bytes(), place
            assert (sources / package / place).is_file(), place
    for name in (
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "constraints.txt",
        "tests/stable/names.json",
        "docs",
        "examples",
    ):
        assert (sources / name).exists(), name
    (about,) = unpacked.glob("*.dist-info")
    assert (about / "licenses" / "LICENSE").is_file()
    readme = (about / "METADATA").read_text(encoding="utf-8").partition("\n\n")[2]  # what package indexes show
    assert "# voiceflow-worker\n" in readme
    assert {place[:8] for place in re.findall(r"\]\(([^)]+)\)", readme)} == {"https://"}
    code = (
        "import sys, voiceflow_worker.sandbox.service as told\n"
        "from voiceflow_worker.cli import main\n"
        "print(told.__file__, file=sys.stderr)\n"
        "sys.argv = ['voiceflow', 'demo']\n"
        "main()"
    )
    (folder / "empty").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    run = [sys.executable, "-c", code]
    demo = subprocess.run(run, cwd=folder / "empty", env=environment, check=False, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr.startswith(str(unpacked))
