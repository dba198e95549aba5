"""The program `voiceflow`: its commands, with help texts from docstrings, and the handling of errors."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from textwrap import dedent, indent
from typing import Annotated, Any, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError, ValidationError

from voiceflow_worker.cli.options import REST
from voiceflow_worker.cli.output import ExitCode, explained, keep_streams, tell_error, version_text


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. An expected error is printed as a sentence, without a traceback."""
    keep_streams()
    for stream in (sys.stdout, sys.stderr):
        # A character that this terminal cannot print is escaped, and does not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    REST.is_printed = "--help-all" in arguments
    arguments = _with_states(["--help" if each == "--help-all" else each for each in arguments])
    code = _ended(arguments)
    try:
        sys.stdout.flush()
    except OSError:  # the rest of the output is dropped: Python would write it again, and end with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _with_states(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a value for each `--again` that stands alone: the states after it, or else yes."""
    given: list[str] = []
    for each in arguments:
        if given and given[-1] == "--again":
            given[-1:] = [f"--again={each}"] if _is_value(each) else ["--again=yes", each]
        else:
            given.append(each)
    return [*given[:-1], "--again=yes"] if given and given[-1] == "--again" else given


def _is_value(word: str) -> bool:
    """Whether a word after `--again` is its value: yes, no, or states. The name of a file that is there is not."""
    from voiceflow_worker.campaigns.calls.options import read_again

    with suppress(ValueError):
        read_again(word)
        return not Path(word).is_file()
    return False


def _ended(arguments: Sequence[str]) -> int:
    """Run one command, print an expected error, and return the exit code."""
    try:
        result: object = program(arguments[0] if arguments else None)(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
    except CycloptsError as error:
        tell_error(_usage(error))
        return ExitCode.BAD_INPUT
    except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
        return ExitCode.UNDONE
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        code, message = known
        if message:
            tell_error(message)
        return code
    return result if isinstance(result, int) else ExitCode.DONE


GROUPS = {
    "calls": "List, show, cancel, resolve and redial single calls.",
    "suppress": "Manage the numbers that no queue of a store calls.",
    "account": "Show what the account at 8x8 has.",
    "ivr": "Play and check IVR menus.",
    "config": "Show the settings.",
    "store": "Upgrade a store.",
}
"""The groups of commands, each with its help."""


class _Commands(NamedTuple):
    """Commands of one module, in a panel of the help: by themselves, or in a `group`."""

    panel: str
    module: str
    functions: str
    group: str | None = None

    @property
    def first_words(self) -> set[str]:
        """The words with which these commands begin."""
        return {self.group} if self.group is not None else set(map(_name_of, self.functions.split()))


_SEND, _WATCH, _STEER, _PEOPLE, _SET_UP = PANELS = ("Send", "Watch", "Steer", "People", "Set up")
_ALL = (
    _Commands(_SEND, "enqueue", "check enqueue"),
    _Commands(_SEND, "calls", "call"),
    _Commands(_SEND, "worker", "worker"),
    _Commands(_SEND, "serve", "serve"),
    _Commands(_WATCH, "queue", "status batches"),
    _Commands(_WATCH, "report", "report"),
    _Commands(_WATCH, "calls", "list_calls show cancel resolve redial", "calls"),
    _Commands(_STEER, "queue", "hold resume rate"),
    _Commands(_STEER, "report", "reconcile"),
    _Commands(_PEOPLE, "people", "add remove list_numbers import_file", "suppress"),
    _Commands(_PEOPLE, "people", "forget audit"),
    _Commands(_SET_UP, "demo", "demo sandbox"),
    _Commands(_SET_UP, "doctor", "doctor"),
    _Commands(_SET_UP, "account", "profiles numbers webhooks", "account"),
    _Commands(_SET_UP, "ivr", "play check", "ivr"),
    _Commands(_SET_UP, "doctor", "show", "config"),
    _Commands(_SET_UP, "store", "backup restore"),
)


def program(first_word: str | None = None) -> App:
    """The app with all commands; with the `first_word` of a command that there is, only what begins with it.

    A command that stops calls does not load the modules of all others first.
    """
    panels = {title: Group(title, sort_key=place) for place, title in enumerate(PANELS)}
    app = _Program(
        name="voiceflow",
        help="Phones people through the 8x8 Voice API, from a queue, at a set rate: "
        "never twice, never lost, never late.",
        help_format="plaintext",
        help_epilogue="`voiceflow demo` shows everything without an account. Each command's --help has examples.",
        version=version_text,
        suppress_keyboard_interrupt=False,
        group_commands=panels[_SET_UP],
    )
    named = [each for each in _ALL if first_word in each.first_words]
    for each in named or _ALL:
        module = import_module(f"voiceflow_worker.cli.{each.module}")
        functions = [getattr(module, name) for name in each.functions.split()]
        if named and each.group is None:
            functions = [found for found in functions if _name_of(found.__name__) == first_word]
        panel = panels[each.panel]
        if each.group is None:
            add_commands(app, *functions, panel=panel)
        else:
            add_commands(group(app, each.group, panel=panel), *functions)
    if not named:
        installed = "Complete commands and options in your shell."
        app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]
            help=installed, group=panels[_SET_UP], sort_key=len(list(app))
        )
    return app


def _name_of(function: str) -> str:
    """The name of a command: the first word of the name of its function."""
    return function.partition("_")[0]


def _usage(error: CycloptsError) -> str:
    command = " ".join(("voiceflow", *(error.command_chain or ())))
    said = _misplaced(error, command) or _misspelled(error) or str(error)
    for kind, name in (("int", "whole number"), ("float", "number")):
        said = re.sub(rf'unable to convert (".*") into {kind}\.', rf"\1 is not a {name}", said)
    return f"{said}\nSee: {command} --help"


def _misplaced(error: CycloptsError, command: str) -> str | None:
    """The remedy if an option stands in front of the command, or a command without its group; None for others."""
    option = error.unused_tokens[0] if isinstance(error, UnknownCommandError) and error.unused_tokens else ""
    if not option or error.app is None:
        return None
    if not option.startswith("-"):
        groups = [f"`{command} {each} {option}`" for each in error.app if option in list(error.app[each])]
        return f"Unknown command: {option}. Did you mean {' or '.join(groups)}?" if groups else None
    known = {*error.app.help_flags, *error.app.version_flags, *_options(error.app)}
    name = option.partition("=")[0]
    if name in known:
        return f"{option} stands before the command: write {command} COMMAND {option}"
    close = get_close_matches(name, known, n=1)
    return f"Unknown option: {option}.{f' Did you mean {close[0]}?' if close else ''}"


def _options(app: App) -> set[str]:
    """The options of all commands of a group."""
    names = [name for name in app if not name.startswith("-")]
    of_groups = {option for name in names for option in _options(app[name])}
    if app.default_command is None:
        return of_groups
    return of_groups | {name for argument in app.assemble_argument_collection() for name in argument.names}


def _misspelled(error: CycloptsError) -> str | None:
    """The message for an unknown option that was taken for a file; None for any other error."""
    if not isinstance(error, ValidationError) or error.app is None:
        return None
    option, taken, _ = error.exception_message.partition(" is neither an option")
    close = get_close_matches(option.partition("=")[0], _options(error.app), n=1) if taken else ()
    return f"Unknown option: {option}. Did you mean {close[0]}?" if close else taken and error.exception_message


_SECTION = re.compile(r"^(Args|Examples):", re.MULTILINE)


class _Program(App):
    def help_print(
        self,
        tokens: Annotated[Any, Parameter(show=False)] = None,
        *,
        console: Annotated[Any, Parameter(parse=False)] = None,
    ) -> None:
        """Print the help of a command, then its examples, each on one line, so that it can be pasted into a shell."""
        super().help_print(tokens, console=console)
        command = self.parse_commands(tokens)[1][-1].default_command
        examples = "" if command is None else sections(command).get("Examples", "")
        if examples:
            print("\nExamples:")
            print(indent(dedent(examples).strip("\n"), "  "))


def add_commands(app: App, *commands: Callable[..., Any], panel: Group | None = None) -> None:
    """Register commands under the first words of their functions' names: `list_calls` becomes `list`.

    The help lists commands in the order of registration, in this panel. A command's help is its docstring; the section
    `Examples` comes last.
    """
    for command in commands:
        app.command(
            command,
            name=_name_of(command.__name__),
            help=description(command),
            help_epilogue="",
            sort_key=len(list(app)),
            group=panel,
        )


def group(app: App, name: str, *, panel: Group) -> App:
    """Register a group of commands. A command that there is may be such a group too."""
    if name in app:
        return app[name]
    made = App(name=name, help=GROUPS[name], sort_key=len(list(app)), group=panel, group_commands=Group("Commands"))
    app.command(made)
    return made


def description(command: Callable[..., Any]) -> str:
    """The text of a docstring before its sections. Each paragraph is one line, because the terminal wraps lines."""
    paragraphs = sections(command)[""].strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def sections(command: Callable[..., Any]) -> Mapping[str, str]:
    """The sections of a docstring by their headings. The text before the first heading has the key ""."""
    first, *others = _SECTION.split(inspect.getdoc(command) or "")
    return {"": first, **dict(zip(others[::2], others[1::2], strict=True))}
