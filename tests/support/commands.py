"""Commands that tests run in their own process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import structlog
from cyclopts import App, ArgumentCollection

from voiceflow_worker.cli.program import program


@pytest.fixture(scope="session", autouse=True)
def assembled_once() -> Iterator[None]:
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


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """Commands set up the logs of their process: this one belongs to pytest."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
