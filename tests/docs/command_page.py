"""Write the pages of the command line and of the fields into a folder, for the website: `python -m … FOLDER`.

What a command is and its options come from the program. An option that several commands have, with the same meaning, is
explained once. The help says more, with examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cyclopts import App
from cyclopts.argument import Argument

from voiceflow_worker.campaigns.fields import FIELDS, fields_of
from voiceflow_worker.campaigns.reading import Group, Of, option
from voiceflow_worker.cli.program import described, program

_ABOUT_COMMANDS = """# The command line

`voiceflow COMMAND --help` says more of each, with examples. [The reference](reference.md#commands) has what they print
as JSON, and their exit codes."""
OF_ALL = "Options of all commands"
SHARED = "Options of several commands"
SHARED_FROM = 2
"""How many commands have an option with the same meaning, if it is explained once."""
SAME_OPTIONS = {"voiceflow enqueue": "voiceflow check"}
"""Commands that have the options of another one, and few more."""
_OF_ALL = ("--json", "--store", "--wait-for-store", "--queue")
_TYPES = {"int": "N", "float": "N", "Path": "FILE"}
"""The words for values whose options name none."""


def commands(app: App, path: str = "voiceflow") -> Iterator[tuple[str, App]]:
    """Every command of the program, by the words that call it, in the order of the help."""
    for name in app:
        if not name.startswith("-"):
            inner = app[name]
            if inner.default_command is not None:
                yield f"{path} {name}", inner
            yield from commands(inner, f"{path} {name}")


def options(app: App) -> dict[str, str]:
    """The lines of a command's list of arguments and options, by the name of the option."""
    found = [
        each for each in app.assemble_argument_collection(parse_docstring=True) if each.show and each.names != ("*",)
    ]
    return {each.names[0]: f"- {_names(each)}: {_meaning(each)}" for each in found if _names(each)}


def _names(argument: Argument) -> str:
    metavar = argument.parameter.metavar or next(
        (word for kind, word in _TYPES.items() if kind in str(argument.hint)), "TEXT"
    )
    value = "" if argument.hint is bool or not argument.name.startswith("-") else f" {metavar}"
    return ", ".join(f"`{each}{value}`" for each in argument.names if each.startswith("-") or each.isupper())


def _meaning(argument: Argument) -> str:
    text = " ".join((argument.parameter.help or "").split())
    default = argument.field_info.default
    shown = isinstance(default, (int, float, str)) and not isinstance(default, bool) and default != ""
    return f"{text} [{default}]" if shown and f"[{default}]" not in text else text


def command_page() -> str:
    """The page of the command line."""
    known = dict(commands(program()))
    of_all = {name: line for name, line in options(known["voiceflow status"]).items() if name in _OF_ALL}
    shared = _shared(known, of_all)
    texts = [_ABOUT_COMMANDS]
    for name, lines in ((OF_ALL, of_all), (SHARED, shared)):
        texts.append(f"## {name}\n\n" + "\n".join(lines.values()))
    for name, app in known.items():
        texts.append("\n\n".join(filter(None, [f"## {name}", _summary(app), *_options(name, known, of_all, shared)])))
    return "\n\n".join(texts) + "\n"


def _shared(known: Mapping[str, App], of_all: Mapping[str, str]) -> dict[str, str]:
    """Options that several commands have, by their line: the line with the names of these commands."""
    found: dict[str, list[str]] = {}
    for command, app in known.items():
        inherited = options(known[SAME_OPTIONS[command]]) if command in SAME_OPTIONS else {}
        for name, line in options(app).items():
            if name.startswith("--") and name not in {*of_all, *inherited} and not option_of_field(name, line):
                found.setdefault(line, []).append(command.removeprefix("voiceflow "))
    return {
        line: line.replace(": ", f" ({', '.join(names)}): ", 1)
        for line, names in found.items()
        if len(names) >= SHARED_FROM
    }


def _options(
    name: str, known: Mapping[str, App], of_all: Mapping[str, str], shared: Mapping[str, str]
) -> Iterator[str]:
    """What the section of a command says of its options: those of its own, and where the others are explained."""
    like = SAME_OPTIONS.get(name)
    left_out = {*of_all, *(options(known[like]) if like else {})} - {"FILE"}
    own = {each: line for each, line in options(known[name]).items() if each not in left_out}
    fields = [each for each in own if option_of_field(each, own[each])]
    yield "\n".join(line for each, line in own.items() if line not in shared and each not in fields)
    also = [f"[the options of `{like}`](#{like.replace(' ', '-')})"] if like else []
    if fields:
        also.append(f"the [fields of a campaign](fields.md) {', '.join(f'`{each}`' for each in fields)}")
    if also:
        yield f"Also {', '.join(also)}."


def option_of_field(name: str, line: str) -> bool:
    """Whether an option is a field of a campaign, which has its own page, and means the same."""
    field = fields_of(Of.CAMPAIGN).get(name.removeprefix("--").replace("-", "_"))
    return field is not None and field.help_text(option) in line


def _summary(app: App) -> str:
    return "" if app.default_command is None else described(app.default_command).partition("\n\n")[0]


_ABOUT_FIELDS = """# Fields

A field has one name and one meaning in every interface: `valid_for` in Python, TOML files, the [HTTP API](http.md) and
[Airflow](airflow.md), and the option `--valid-for` of [`voiceflow enqueue`](reference.md#commands). A value is a text
as one types it, or a number, a list, a table of names. In brackets is the default.
"""


def fields_page() -> str:
    """The page of the fields, from their definition."""
    parts = [_ABOUT_FIELDS]
    for group in Group:
        found: dict[tuple[str, str], set[str]] = {}
        for each in FIELDS:
            for of in sorted(each.of) if each.group is group else ():
                default = each.defaults.get(of, each.default)
                told = each.help_text(lambda name: f"`{name}`") + (f" [{default}]" if default else "")
                found.setdefault((each.name, told), set()).add(of.value)
        lines = [f"- `{name}` ({', '.join(sorted(of))}): {told}" for (name, told), of in found.items()]
        parts.append("\n".join([f"## {group.value}\n", *lines]) + "\n")
    return "\n".join(parts)


def write(folder: Path) -> None:
    """Write both pages."""
    (folder / "cli.md").write_text(command_page(), encoding="utf-8")
    (folder / "fields.md").write_text(fields_page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
