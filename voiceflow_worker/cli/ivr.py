"""`voiceflow ivr`: play and check IVR menus that are written in Python, or as data in a TOML file."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from anyio.from_thread import start_blocking_portal
from cyclopts import Parameter

from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import ExitCode, Output, counted, tell_findings, typed
from voiceflow_worker.errors import InvalidInputError, VoiceflowError
from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.ivr.simulated_call import Prompt, SimulatedCall


MenuName = Annotated[
    str,
    Parameter(
        name="MODULE:MENU",
        help="The menu, such as restaurant:main for `main` in restaurant.py; or a TOML file with the table [menu].",
    ),
]
DataOption = Annotated[
    list[str] | None,
    Parameter(name="--data", metavar="NAME=VALUE", negative=(), help="A value of the call's data; may be repeated."),
]


def play(
    menu: MenuName,
    /,
    *,
    data: DataOption = None,
    keys: Annotated[str | None, Parameter(metavar="KEYS")] = None,
) -> ExitCode:
    """Play a menu in the terminal.

    Handlers run as they do in a call. Enter alone presses nothing, Ctrl-D hangs up. Exit 1 if a handler failed, or if
    --keys had too few keys.

    Args:
        keys: The keys for each question, separated by commas. 1,,4# presses 1, then no key, then 4 and #.

    Examples:
        voiceflow ivr play restaurant:main
        voiceflow ivr play reminder.toml --data language=fr --data name=Ana
        voiceflow ivr play appointment:appointment --data name=Ana
        voiceflow ivr play restaurant:main --keys 1,2,4#
    """
    from voiceflow_worker.ivr.simulated_call import SimulatedCall

    pressed = None if keys is None else [each.strip() for each in keys.split(",")]
    if set("".join(pressed or ())) - set("0123456789*#"):
        raise InvalidInputError("--keys: write 0-9, * and #, with a comma between questions, such as 1,2,4#")
    call = SimulatedCall(_loaded(menu), data=read_data(data))
    return play_call(call, pressed, output=Output())


def check(menu: MenuName, /, *, data: DataOption = None, json: JsonOption = False) -> ExitCode:
    """Check a menu and all menus that it leads to.

    Exit 0 if the menu can be served, even with warnings; 2 if not. No handler runs. Variables get placeholder values,
    unless --data gives values.

    Examples:
        voiceflow ivr check restaurant:main
        voiceflow ivr check restaurant:main --data name=Ana --json
    """
    from voiceflow_worker.ivr.check import check_menus, reachable

    root = _loaded(menu)
    found = check_menus([root], data=None if data is None else read_data(data))
    findings = typed(replace(each, file=menu) for each in found)
    output = Output(as_json=json)
    for each in findings:
        output.document(each.as_json())
    if not json:
        tell_findings(output, findings)
    output.answer(f"{menu}: {count_of(len(reachable([root])), 'menu')}; {counted(findings)}")
    return ExitCode.BAD_INPUT if any(each.is_error for each in findings) else ExitCode.DONE


def _loaded(name: str) -> Menu:
    from voiceflow_worker.ivr.loading import load_menu

    return load_menu(name, voice_profile=settings_from().voice_profile)


def read_data(given: list[str] | None) -> dict[str, object]:
    """Return the data in texts of the form `name=value`. Raises InvalidInputError for a text of another form."""
    data: dict[str, object] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise InvalidInputError(f"--data {each}: write a name and a value, such as --data name=Ana")
        data[name] = value
    return data


def play_call(call: SimulatedCall, keys: Sequence[str] | None, *, output: Output) -> ExitCode:
    """Play a call to its end. `keys` has one text for each question; if it is None, the terminal asks for keys."""
    left = None if keys is None else list(keys)
    is_wrong = False
    # One event loop for the whole call: a handler may keep objects that belong to the loop, such as a connection.
    with start_blocking_portal() as portal:
        prompt = portal.call(call.begin)
        while True:
            is_wrong = _show(prompt, output) or is_wrong
            if prompt.has_ended:
                if call.answer is not None:
                    output.say(f"\n  answer: {call.answer}")
                break
            if left == []:
                output.note("the call has not ended, but --keys has no more keys")
                is_wrong = True
                break
            try:
                pressed = input("  keys: ") if left is None else left.pop(0)
            except EOFError:
                output.say("\n  the caller hangs up")
                break
            if left is not None:
                output.say(f"  presses: {pressed or '(nothing)'}")
            prompt = portal.call(partial(call.press, pressed))
    return ExitCode.UNDONE if is_wrong else ExitCode.DONE


def _show(prompt: Prompt, output: Output) -> bool:
    """Print one answer of the menu, and return True if something went wrong."""
    if prompt.trouble is not None:
        error, why = prompt.reply.error, prompt.trouble
        if error is not None and not isinstance(error, VoiceflowError):
            why = "".join(traceback.format_exception(error))
        output.note(f"  ! menu {prompt.reply.decision.menu}: {why}; the fallback follows")
    for entry in prompt.reply.flow.actions:
        output.say(f"  {_words(entry)}")
    return prompt.trouble is not None


def _words(entry: Mapping[str, object]) -> str:
    verbs = {Action.SAY: "says", Action.SAY_AND_CAPTURE: "asks", Action.PLAY_FILE: "plays"}
    action, params = read_action(entry)
    if action is Action.MAKE_CALL:
        return f"connects to {params.get('destination')}"
    return f"{verbs[action]}: {wording(action, params)}" if action is not None and action in verbs else "hangs up"


IvrOption = Annotated[
    list[str] | None,
    Parameter(
        name="--ivr",
        metavar="MODULE:MENU",
        negative=(),
        help="Answer calls with this menu, such as restaurant:main for `main` in restaurant.py, or reminder.toml. May "
        "be repeated; the first answers calls that name no menu.",
    ),
]
