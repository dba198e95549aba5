"""Putting a command into the program, with its docstring as its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import App

PROGRAM = "voiceflow"


def add_command(
    app: App, command: Callable[..., Any], *, examples: str, name: str | None = None, usage: str | None = None
) -> None:
    """Register a command behind those that are there. `examples` stands at the end of its --help.

    `usage` is what stands behind the command's name, where the program cannot tell it by itself.
    """
    place = len(list(app))
    line = None if usage is None else " ".join(("Usage:", *_chain(app), name or command.__name__, usage))
    app.command(command, name=name, usage=line, help=description(command), help_epilogue=examples, sort_key=place)


def add_group(app: App, group: App) -> None:
    """Register a group of commands behind what is there."""
    group.sort_key = len(list(app))
    app.command(group)


def _chain(app: App) -> tuple[str, ...]:
    return app.name if app.name == (PROGRAM,) else (PROGRAM, *app.name)


def description(command: Callable[..., Any]) -> str:
    """What a docstring says before its arguments, a line for each paragraph: the terminal wraps them at its width."""
    text = inspect.getdoc(command) or ""
    paragraphs = text.partition("\nArgs:\n")[0].strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
