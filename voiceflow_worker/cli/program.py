"""The program `voiceflow`: its commands, which are loaded when they are used, and the handling of errors."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from textwrap import dedent, indent
from typing import Any, cast

from cyclopts import App, CycloptsError, Group

from voiceflow_worker.cli.output import ExitCode, explained, tell_error, version_text

FIRST, MORE = "Every day", "More"
COMMANDS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    FIRST: (
        ("enqueue", "enqueue:enqueue", "Put the calls of a list into a queue; --dry-run shows them."),
        ("worker", "worker:worker", "Send the calls of a queue."),
        ("serve", "serve:serve", "Receive the events of 8x8; serve the console and the HTTP API."),
        ("status", "queue:status", "Show a queue, and why its calls wait."),
        ("calls", "", "List, show, cancel, resolve and redial calls."),
        ("hold", "queue:hold", "Hold a queue or a batch: nothing more is sent."),
        ("resume", "queue:resume", "Open a held queue or batch again."),
        ("report", "report:report", "Show the outcomes of a batch, or write them to a file."),
        ("suppress", "", "Manage the numbers that nobody calls."),
        ("doctor", "doctor:doctor", "Check settings, store, credentials, clock and webhooks."),
    ),
    MORE: (
        ("demo", "demo:demo", "Send an example campaign, without an account."),
        ("sandbox", "demo:sandbox", "Run a stand-in for 8x8, which calls nobody."),
        ("check", "enqueue:check", "Check call flows and lists; nothing is stored or sent."),
        ("call", "calls:call", "Place one call, and wait for its end."),
        ("batches", "queue:batches", "List the batches of a queue, the newest first."),
        ("rate", "queue:rate", "Show or change the rate of a queue."),
        ("reconcile", "report:reconcile", "Look for calls in doubt in the call log of 8x8."),
        ("forget", "people:forget", "Erase a person."),
        ("audit", "people:audit", "Show who ordered what."),
        ("account", "account:account", "Show voices, numbers and webhooks of the account."),
        ("config", "", "Show the settings."),
        ("ivr", "", "Play and check menus."),
        ("backup", "store:backup", "Copy a SQLite store."),
        ("restore", "store:restore", "Put a copy of a SQLite store back."),
    ),
}
"""The commands of each panel of `--help`: name, function, one line. A command without a function is a group."""
GROUPS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "calls": (
        ("list", "calls:list_calls", "List calls."),
        ("show", "calls:show", "Show the history of one call."),
        ("cancel", "calls:cancel", "Cancel calls that have not been sent."),
        ("redial", "calls:redial", "Call people again."),
        ("resolve", "calls:resolve", "Decide about calls in doubt."),
    ),
    "suppress": (
        ("add", "people:add", "Put numbers on the suppression list."),
        ("remove", "people:remove", "Remove numbers from the suppression list."),
        ("list", "people:list_numbers", "List the suppressed numbers."),
        ("import", "people:import_file", "Put the numbers of a file on the suppression list."),
    ),
    "ivr": (
        ("play", "ivr:play", "Play a menu in the terminal."),
        ("check", "ivr:check", "Check a menu and all menus that it leads to."),
    ),
    "config": (("show", "doctor:show", "Show the settings that differ from their defaults."),),
}


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. An expected error is printed as a sentence, without a traceback."""
    # A file may be named `-`: to cyclopts, that is an option.
    given = ["/dev/stdin" if each == "-" else each for each in arguments]
    try:
        app = program()
        if {"--help", "-h"}.isdisjoint(given):
            _load_structlog()
        else:
            _explain(app, given)
        result: object = app(given, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(("voiceflow", *(error.command_chain or ())))
        tell_error(f"{error}\nSee: {command} --help")
        return ExitCode.BAD_INPUT
    except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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


def _load_structlog() -> None:
    """Load structlog without rich, whose tracebacks nobody prints: a quarter of the time of a `status`."""
    if not {"structlog", "rich"} & sys.modules.keys():
        sys.modules["rich"] = cast("Any", None)
        try:
            import_module("structlog")
        finally:
            del sys.modules["rich"]


def program() -> App:
    """Return the app with all commands. The modules of the commands are not loaded yet."""
    panels = {title: Group(title, sort_key=place) for place, title in enumerate(COMMANDS)}
    app = App(
        name="voiceflow",
        help="Call everyone on a list through the 8x8 Voice API, once.",
        help_format="plaintext",
        help_epilogue="`voiceflow demo` needs no account. Each command's --help begins with examples.",
        version=version_text,
        suppress_keyboard_interrupt=False,
        group_commands=panels[MORE],
    )
    for title, commands in COMMANDS.items():
        for name, function, line in commands:
            if function:
                _add(app, name, function, line, group=panels[title])
                continue
            options: dict[str, Any] = {"group": panels[title], "group_commands": Group("Commands")}
            app.command(App(name=name, help=line, sort_key=len(list(app)), **options))
            for each in GROUPS[name]:
                _add(app[name], *each)
    return app


def _add(app: App, name: str, function: str, line: str, **options: Any) -> None:
    app.command(f"voiceflow_worker.cli.{function}", name=name, help=line, sort_key=len(list(app)), **options)


def _explain(app: App, arguments: Sequence[str]) -> None:
    """Let the help of the command in these arguments begin with its examples."""
    command = [each for each in app.parse_commands(arguments)[1] if each.help_flags][-1]  # `--help` is one, too
    if command.default_command is not None:
        command.help, command.help_epilogue = described(command.default_command), ""


def described(command: Callable[..., Any]) -> str:
    """Return what the docstring of a command says, on one line, then its examples, then its other paragraphs."""
    found = sections(command)
    first, *others = (" ".join(each.split()) for each in found[""].strip().split("\n\n"))
    examples = indent(dedent(found.get("Examples", "")).strip("\n"), "  ")
    return "\n\n".join([first, f"For example:\n{examples}", *others])


def sections(command: Callable[..., Any]) -> Mapping[str, str]:
    """Return the sections of a docstring by their headings. The text before the first heading has the key ""."""
    first, *others = re.split(r"^(Args|Examples):", inspect.getdoc(command) or "", flags=re.MULTILINE)
    return {"": first, **dict(zip(others[::2], others[1::2], strict=True))}
