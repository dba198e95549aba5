"""The page of the command line, as the program tells it: `python -m tests.docs.command_page` writes it.

What a command is, its options and its examples come from the program. The notes below them are written by hand, and
stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent, fill

from cyclopts import App
from cyclopts.argument import Argument

from tests.docs.pages import DOCS
from voiceflow_worker.cli.program import description, program, sections

PAGE = DOCS / "cli.md"
NOTES = "<!-- notes -->"
TOLD_ONCE = "Options of all commands"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_TYPES = {"int": "N", "float": "N", "Path": "FILE"}
"""The words for values whose options name none."""
SAME_OPTIONS = {"voiceflow enqueue": "voiceflow check"}
"""Commands that have the options of another one, and few more."""


def commands(app: App, path: str = "voiceflow") -> Iterator[tuple[str, App]]:
    """Every command of the program, by the words that call it, in the order of the help."""
    for name in app:
        if not name.startswith("-"):
            inner = app[name]
            if inner.default_command is not None:
                yield f"{path} {name}", inner
            yield from commands(inner, f"{path} {name}")


def options(app: App) -> dict[str, str]:
    """The rows of a command's table of arguments and options, by the name of the option."""
    found = [
        each for each in app.assemble_argument_collection(parse_docstring=True) if each.show and each.names != ("*",)
    ]
    return {each.names[0]: f"| {_names(each)} | {_cell(_meaning(each))} |" for each in found}


def _names(argument: Argument) -> str:
    metavar = argument.parameter.metavar or next(
        (word for kind, word in _TYPES.items() if kind in str(argument.hint)), "TEXT"
    )
    value = "" if argument.hint is bool or not argument.name.startswith("-") else f" {metavar}"
    return ", ".join(f"`{_cell(each + value)}`" for each in argument.names if each.startswith("-") or each.isupper())


def _meaning(argument: Argument) -> str:
    text = argument.parameter.help or ""
    default = argument.field_info.default
    shown = isinstance(default, (int, str, float)) and not isinstance(default, bool) and f"[{default}]" not in text
    return f"{text} [{default}]" if shown else text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def written(page: str) -> str:
    """The page, with everything that the program tells made anew, and with its notes as they are."""
    parts = _HEADING.split(page)
    head, bodies = parts[0], dict(zip(parts[1::2], parts[2::2], strict=True))
    notes = {name: body.partition(NOTES)[2].strip() for name, body in bodies.items()}
    kept = {name: body for name, body in bodies.items() if not name.startswith("voiceflow ") and name != TOLD_ONCE}
    known = dict(commands(program()))
    shared = options(known["voiceflow status"])
    texts = [head.rstrip(), _section(TOLD_ONCE, _table(list(shared.values())), notes.get(TOLD_ONCE, ""))]
    texts += [f"## {name}\n\n{body.strip()}" for name, body in kept.items()]
    for name, app in known.items():
        told = SAME_OPTIONS.get(name)
        same = options(known[told]) if told is not None else {}
        without = {*shared, *same} - {"FILE"}
        rows = [row for option, row in options(app).items() if option not in without]
        also = [] if told is None else [f"And [the options of `{told}`](#{told.replace(' ', '-')})."]
        parts = [*_description(app), _examples(app), _table(rows), *also]
        texts.append(_section(name, "\n\n".join(filter(None, parts)), notes.get(name, "")))
    return "\n\n".join(texts) + "\n"


def _section(name: str, told: str, notes: str) -> str:
    return "\n\n".join(filter(None, [f"## {name}", told, f"{NOTES}\n\n{notes}" if notes else ""]))


def _table(rows: list[str]) -> str:
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def _description(app: App) -> Iterator[str]:
    if app.default_command is not None:
        for paragraph in description(app.default_command).split("\n\n"):
            yield fill(paragraph, width=120, break_long_words=False, break_on_hyphens=False)


def _examples(app: App) -> str:
    text = "" if app.default_command is None else sections(app.default_command).get("Examples", "")
    return "\n".join(f"    {line}" for line in dedent(text).strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
