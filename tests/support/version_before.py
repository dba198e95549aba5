"""The version before: the wheel of its last commit, built and unpacked, and stores that this version takes along."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Process
from tests.support.stage import Stage

BEFORE = "1bb016bf"
"""The last commit of the version before."""
_DEVELOPERS = ROOT / ".venv/bin/python"
"""The tests in Airflow have a virtual environment of their own, without what builds a wheel."""


def installed_before(root: Path) -> Path:
    """Install the version before in a folder, and return that. Skips the test where it cannot be built."""
    builder = Path(sys.executable) if find_spec("hatchling") else _DEVELOPERS
    if not builder.exists():
        pytest.skip("hatchling is not installed, which builds the wheel")
    packed = subprocess.run(["git", "archive", "--format=zip", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the commit {BEFORE} is not in this copy of the repository")
    with zipfile.ZipFile(io.BytesIO(packed.stdout)) as archive:
        archive.extractall(root / "source")
    build = [str(builder), "-m", "hatchling", "build", "-t", "wheel", "-d", str(root)]
    subprocess.run(build, cwd=root / "source", capture_output=True, timeout=120, check=True)
    (wheel,) = root.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "site")
    return root / "site"


def upgraded(scene: Stage, kills: random.Random, most: int) -> Process:
    """Give the order until it ends by itself, killed at most so often at some moment of its steps."""
    for _ in range(most):
        order = _ordered(scene)
        time.sleep(kills.uniform(0, 0.4))  # a moment of its steps
        order.end(signal.SIGKILL)
    order = _ordered(scene)
    order.wait()
    return order


def _ordered(scene: Stage) -> Process:
    order = Process("store", "upgrade", "--yes", module="tests.support.next_version", env=scene.env)
    order.wait_for("the version before cannot open the store|nothing is to be done")
    return order
