"""Registration of commands, with their help from docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from shutil import get_terminal_size
from textwrap import dedent, indent, wrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import App

PROGRAM = "voiceflow"

_SECTION = re.compile(r"^(Usage|Args|Examples):", re.MULTILINE)
_GLUED = re.compile(r"""'[^']*'|"[^"]*"|--[a-z-]+ (?=[^-|&])""")
"""The parts of a command that stay on one line: a quoted text, and an option with its value."""
_GLUE = "\0"


def add_command(app: App, command: Callable[..., Any]) -> None:
    """Register a command behind those that are there, under the first word of its function: `list_calls` is `list`.

    Its docstring is its help. The section `Usage` replaces the usage line that the signature gives, and `Examples`
    stands at the end.
    """
    name = command.__name__.partition("_")[0]
    sections = _sections(command)
    chain = (PROGRAM,) if app.name == (PROGRAM,) else (PROGRAM, *app.name)
    usage = " ".join(("Usage:", *chain, name, sections["Usage"].strip())) if "Usage" in sections else None
    examples = indent(dedent(sections["Examples"].strip("\n")), "  ").rstrip()
    app.command(
        command,
        name=name,
        usage=usage,
        help=description(command),
        help_epilogue=fitted(f"Examples:\n{examples}", width=get_terminal_size().columns),
        sort_key=len(list(app)),
    )


def add_group(app: App, module: ModuleType, *commands: Callable[..., Any]) -> App:
    """Register a group of commands behind what is there. The name and the docstring of its module describe it."""
    from cyclopts import App

    summary = (module.__doc__ or "").partition(": ")[2].strip()
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    group = App(name=name, help=summary[:1].upper() + summary[1:], sort_key=len(list(app)))
    for command in commands:
        add_command(group, command)
    app.command(group)
    return group


def description(command: Callable[..., Any]) -> str:
    """The text of a docstring before its sections, one line for each paragraph; the terminal wraps them."""
    paragraphs = _sections(command)[""].strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _sections(command: Callable[..., Any]) -> Mapping[str, str]:
    """The sections of a docstring by their headings; the text before them has the empty one."""
    first, *others = _SECTION.split(inspect.getdoc(command) or "")
    return {"": first, **dict(zip(others[::2], others[1::2], strict=True))}


def fitted(examples: str, *, width: int) -> str:
    """Examples with lines of at most `width` columns: a longer command continues on the next line, as in a shell.

    If the terminal wrapped them, they could not be pasted.
    """
    return "\n".join(line if len(line) <= width else _broken(line, width) for line in examples.splitlines())


def _broken(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    glued = _GLUED.sub(lambda match: match[0].replace(" ", _GLUE), line.strip())
    parts = wrap(
        glued,
        width - len(" \\"),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(parts).replace(_GLUE, " ")
