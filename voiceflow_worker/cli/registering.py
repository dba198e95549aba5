"""Registration of commands, with their help from docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import App

PROGRAM = "voiceflow"

_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"])+""")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_OPENS_A_PART = re.compile(r"--[a-z]|[|]|&&|[A-Z_]+=")


def add_command(
    app: App, command: Callable[..., Any], *, examples: str, name: str | None = None, usage: str | None = None
) -> None:
    """Register a command behind those that are there. `examples` stands at the end of its --help.

    `usage` is what stands behind the command's name, where the program cannot tell it by itself.
    """
    place = len(list(app))
    line = None if usage is None else " ".join(("Usage:", *_chain(app), name or command.__name__, usage))
    epilogue = fitted(examples, width=get_terminal_size().columns)
    app.command(command, name=name, usage=line, help=description(command), help_epilogue=epilogue, sort_key=place)


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


def fitted(examples: str, *, width: int) -> str:
    """Examples whose lines fit: a command that is too long goes on in the next line, as a shell reads it.

    Left to the terminal's own wrapping, a command would be broken in two that cannot be pasted.
    """
    return "\n".join(_fitted(line, width) for line in examples.splitlines())


def _fitted(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    room = width - len(" \\")
    first, *parts = _parts(line, longest=room - len(indent) - 2)
    lines = [indent + first]
    for part in parts:
        if len(lines[-1]) + 1 + len(part) <= room:
            lines[-1] += f" {part}"
        else:
            lines.append(f"{indent}  {part}")
    return " \\\n".join(lines)


def _parts(line: str, *, longest: int) -> list[str]:
    """What stays on one line: an option with its value, as far as both fit there."""
    parts: list[str] = []
    for word in _WORD.findall(line):
        opens = _OPENS_A_PART.match(word) or (parts and _ASSIGNMENT.match(parts[-1]))
        if not parts or opens or len(parts[-1]) + 1 + len(word) > longest:
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    return parts
