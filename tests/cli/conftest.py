"""Fixtures of the command-line tests: commands in this process and in their own, and a store with calls in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.one_call import eight
from tests.cli.running import Program
from tests.support.commands import assembled_once

__all__ = ["assembled_once", "eight"]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands set up the logs of their process: this one belongs to pytest."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a store that is not there, where that is not what a test is about."""
    monkeypatch.setenv("VOICEFLOW_WAIT_FOR_STORE", "0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: no .env, no store of anybody."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voiceflow(folder: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    """The program, run in this process and in an empty directory."""
    return Program(folder, capfd)
