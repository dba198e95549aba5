"""Fixtures of the command-line tests: commands in this process and in their own, and a store with calls in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from cyclopts import App, ArgumentCollection

from tests.cli.one_call import eight
from tests.cli.running import Program
from voiceflow_worker.cli.program import program

__all__ = ["eight"]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands set up the logs of their process: this one belongs to pytest."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session", autouse=True)
def _assembled_once() -> Iterator[None]:
    """The program holds nothing of a command that was run; to assemble its options takes longer than most commands."""
    assemble, known = App.assemble_argument_collection, dict[object, ArgumentCollection]()

    def assembled(app: App, **more: Any) -> ArgumentCollection:
        if more or app.default_command not in known:
            known[app.default_command] = assemble(app, **more)
        found = known[app.default_command]
        for argument in found:
            argument.tokens = []
        found._set_marks(False)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("voiceflow_worker.cli.program.program", cache(program))
        patched.setattr(App, "assemble_argument_collection", assembled)
        yield


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a store that is not there, where that is not what a test is about."""
    monkeypatch.setenv("VOICEFLOW_WAIT_FOR_STORE", "0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: no .env, no voiceflow.toml, no store of anybody."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voiceflow(folder: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    """The program, run in this process and in an empty directory."""
    return Program(folder, capfd)
