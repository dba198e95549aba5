"""Every option of every command with odd values: an exit code and a sentence, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from cyclopts import App

from tests.cli.running import Program
from tests.cli.stored import empty
from voiceflow_worker.cli.program import program

VALUES = (
    "", " ", "-1", "0", "x", "nan", "1e999", "9" * 40, "x" * 3000, "a\udcffb", "\u202e", "2030-13-45", "+65", "{{",
    "..", "%00", "99999999999d", "::", "=", "a\nb", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
)  # fmt: skip
NEEDED = {
    "FILE": ["people.csv"], "NUMBER": ["+6587654321"], "ID": ["default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"],
    "MODULE:MENU": ["menus:main"], "--note": ["--note", "seen"], "--placed": ["--placed"],
    "--say": ["--say", "Hello"],
}  # fmt: skip
"""What a command needs besides, by the first name of the argument."""
ENDS = {
    "worker": ["--drain"],
    "serve": ["--host", "host.invalid"],
    "sandbox": ["--host", "host.invalid"],
    "schedule": ["--once"],
    "demo": ["--store", "nowhere://"],
    "call": ["--store", "nowhere://"],
}
"""What makes a command end that would go on, or call somebody."""
LISTENS = {("sandbox", "--host", value) for value in ("", "0", "::")}
"""What is right, and goes on for ever."""
BARE = ("Traceback", "TypeError", "AttributeError", "KeyError", "IndexError", "NoneType", "UnicodeEncodeError")


def commands(app: App, *words: str) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            found = app[name]
            if found.default_command is not None:
                yield (*words, name), found
            yield from commands(found, *words, name)


@cache
def cases() -> list[list[str]]:
    """The words of each command with each odd value of each option and argument."""
    found: list[list[str]] = []
    for words, app in commands(program()):
        arguments = [each for each in app.assemble_argument_collection() if each.names and each.names[0] != "*"]
        for odd in arguments:
            name = odd.names[0]
            needed = [
                word
                for each in arguments
                if each is not odd and each.required
                for word in NEEDED.get(each.names[0], ())
            ]
            ending = ENDS.get(words[0], [])
            given = [] if name in ending[:1] else ending
            values = [value for value in VALUES if (words[0], name, value) not in LISTENS]
            for value in values if odd.hint is not bool else ():
                option = [f"{name}={value}"] if name.startswith("-") else ["--", value]
                found.append([*words, *given, *needed, *option])
    return found


def tried(voiceflow: Program, some: list[list[str]]) -> list[str]:
    """What was wrong with the answers to these commands."""
    store = empty(voiceflow.folder)
    (voiceflow.folder / ".env").write_text(f"VOICEFLOW_STORE={store}\n")
    wrong: list[str] = []
    for command in some:
        (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
        try:
            ended = voiceflow(*command)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this looks for
            wrong.append(f"{command}: {type(error).__name__}: {error}")
            continue
        if ended.code not in {0, 1, 2, 3} or any(bare in ended.err for bare in BARE):
            wrong.append(f"{command}: {ended}")
        elif ended.code == 2 and not (ended.err + ended.out).strip():
            wrong.append(f"{command}: no sentence")
    return wrong


def test_an_odd_value_of_an_option_is_told_in_a_sentence(voiceflow: Program) -> None:
    wrong = tried(voiceflow, cases()[:: 64 * len(VALUES) + 1])
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(8))
def test_every_odd_value_of_every_option_is_told_in_a_sentence(voiceflow: Program, part: int) -> None:
    wrong = tried(voiceflow, cases()[part::8])
    assert not wrong, "\n".join(wrong)
