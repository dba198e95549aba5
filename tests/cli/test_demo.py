from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
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
    assert found["enqueued"] == len(destinations) == destinations.total() == 26  # as the README says
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
