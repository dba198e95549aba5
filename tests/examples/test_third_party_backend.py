"""A backend of somebody else's, installed from its wheel: found by its entry point, judged by the contract suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
EXAMPLE = ROOT / "examples" / "third_party_backend"


@dataclass(frozen=True)
class Installed:
    """The example in a folder of its own, and where its wheel was unpacked."""

    folder: Path
    site: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with it installed."""
        env: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build its wheel and ours, without a network, and unpack them: that is what installing them comes to."""
    pytest.importorskip("hatchling")
    root = tmp_path_factory.mktemp("shelf")
    shutil.copytree(EXAMPLE, root / "example")
    for source in (root / "example", ROOT):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root)]
        built = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=60, check=False)
        assert built.returncode == 0, built.stderr
    site = root / "site"
    for wheel in root.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    assert {path.name for path in site.iterdir()} == {
        "airflow_provider", "voiceflow_contract", "voiceflow_shelf-1.0.dist-info", "voiceflow_shelf.py",
        "voiceflow_worker", f"voiceflow_worker-{VERSION}.dist-info",
    }  # fmt: skip
    (root / "example" / "voiceflow_shelf.py").unlink()  # what is tested is what was installed
    return Installed(root / "example", site)


@pytest.mark.slow
def test_it_keeps_the_contract(installed: Installed) -> None:
    run = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py")
    assert run.returncode == 0, run.stdout + run.stderr
    summary = run.stdout.splitlines()[-1]
    assert " passed" in summary
    assert "skipped" not in summary
    assert int(summary.split()[0]) >= 150, "the whole suite, on asyncio and on trio"


@pytest.mark.slow
def test_the_suite_runs_by_the_url_of_the_store_alone(installed: Installed) -> None:
    suite = ["--pyargs", "voiceflow_contract.at_url", "-k", "test_a_full_job_comes_back or test_a_closed_gate"]
    run = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *suite, "--store-url", "shelf://{name}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    untold = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *suite)
    assert (untold.returncode, "--store-url 'mystore://{name}'" in untold.stdout) == (1, True)


@pytest.mark.slow
def test_the_command_line_knows_it_by_its_url(installed: Installed) -> None:
    run = installed.run("-m", "voiceflow_worker", "status", "--json", "--store", "shelf://calls")
    assert (run.returncode, '"total": 0' in run.stdout or '"total":0' in run.stdout) == (0, True), run.stderr


@pytest.mark.slow
def test_without_it_the_scheme_is_unknown_and_one_that_names_nothing_is_refused(installed: Installed) -> None:
    command = [sys.executable, "-m", "voiceflow_worker", "status", "--store", "shelf://calls"]
    bare = subprocess.run(command, cwd=installed.folder, capture_output=True, text=True, timeout=60, check=False)
    assert bare.returncode != 0
    assert "no backend is registered for 'shelf://calls'" in bare.stderr
    run = installed.run("-m", "voiceflow_worker", "status", "--store", "shelf://")
    assert run.returncode == 3
    assert "write shelf://name" in run.stderr
