"""The Containerfile, carried out without a daemon and a registry.

A Debian of debootstrap, with its Python 3.11, stands for the image that `FROM` names: it has the same release and the
same Python, and as little beside. `COPY` copies, `RUN` runs in a root of its own (chroot), and a process runs as `USER`
with `ENV`. What only a runtime does is not shown: its namespaces, its network, a root that is mounted read-only.

TEST_DEPLOY_CACHE names a folder that keeps the Debian and the wheels from one run to the next.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.proxies import DEPLOY, tool
from tests.docs.pages import ROOT

EXTRAS = "all"
BUILT_BY = ("hatchling", "hatch-fancy-pypi-readme")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@dataclass
class Stage:
    """A root that the lines after one `FROM` have made."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"})
    user: str = "0:0"
    folder: str = "/"
    entry: list[str] = field(default_factory=list)
    health: str = ""

    def run(self, *command: str, user: str | None = None, **more: str) -> subprocess.Popen[str]:
        """Begin a command in this root, as its user and with its environment."""
        inside = ["chroot", f"--userspec={user or self.user}", "--groups=", str(self.root), "/usr/bin/env"]
        line = [*inside, f"--chdir={self.folder}", "-i", *(f"{k}={v}" for k, v in (self.environment | more).items())]
        return subprocess.Popen([*line, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def done(self, *command: str, user: str | None = None, **more: str) -> str:
        """Run a command to its end, which must be a good one."""
        process = self.run(*command, user=user, **more)
        told, _ = process.communicate()
        assert process.returncode == 0, told
        return told


def lines_of(text: str) -> list[tuple[str, str]]:
    """The instructions of a Containerfile, with the rest of their lines."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def built(folder: Path) -> Stage:
    """The last stage of docs/deploy/Containerfile; skips the test where it cannot be made."""
    if os.getuid() != 0 or sys.version_info[:2] != (3, 11):
        pytest.skip("the image is made by root (chroot), with Python 3.11 as in its Debian")
    cache = Path(os.environ.get("TEST_DEPLOY_CACHE", folder / "cache"))
    base, wheels = _debian(cache / "root"), _wheels(cache / "wheels")
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for name, rest in lines_of((DEPLOY / "Containerfile").read_text("utf-8")):
        if name == "FROM":
            assert rest.startswith("docker.io/library/python:3.11-slim-bookworm"), rest
            stage = stages.setdefault(rest.partition(" AS ")[2] or "last", Stage(folder / f"stage-{len(stages)}"))
            subprocess.run(["cp", "-a", base, stage.root], check=True)
        else:
            _carried_out(name, rest, stage, stages, wheels)
    return stage


def _carried_out(name: str, rest: str, stage: Stage, stages: dict[str, Stage], wheels: Path) -> None:
    match name:
        case "COPY":
            *sources, target = [word for word in shlex.split(rest) if not word.startswith("--from=")]
            found = re.match(r"--from=(\w+)", rest)
            place = stages[found[1]].root if found else ROOT
            for source in sources:
                _copied(place / source.lstrip("/"), stage.root / target.lstrip("/"), into=target.endswith("/"))
        case "RUN":
            inside = stage.root / "wheels"
            shutil.copytree(wheels, inside)
            stage.done("sh", "-ec", rest, **OFFLINE)
            shutil.rmtree(inside)
        case "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                stage.environment[key] = value.replace("$PATH", stage.environment["PATH"])
        case "USER":
            stage.user = rest
        case "WORKDIR":
            stage.folder = rest
        case "ENTRYPOINT":
            stage.entry = json.loads(rest)
        case "HEALTHCHECK":
            stage.health = rest.partition(" CMD ")[2]
        case _:
            assert name in {"CMD", "EXPOSE", "VOLUME"}, name


def _copied(source: Path, target: Path, *, into: bool) -> None:
    target = target / source.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _debian(root: Path) -> Path:
    if not (root / "usr" / "bin" / "python3").exists():
        command = [
            tool("debootstrap", "debootstrap"),
            "--variant=minbase",
            "--include=python3,python3-venv",
            "bookworm",
        ]
        root.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run([*command, root], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"debootstrap could not make a Debian here: {made.stdout[-300:]}")
    return root


def _wheels(folder: Path) -> Path:
    """The wheels of what the image installs, and of what builds the package."""
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder), "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*command, f"{ROOT}[{EXTRAS}]", *BUILT_BY], check=True, capture_output=True)
        for ours in folder.glob("voiceflow_worker-*"):
            ours.unlink()  # the image builds it itself
    return folder
