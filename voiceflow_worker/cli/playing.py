"""A menu played in the terminal, with the keyboard as the phone's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.output import Output

if TYPE_CHECKING:
    from voiceflow_worker.ivr.rehearsal import Rehearsal, SpokenAnswer


def play_call(rehearsal: Rehearsal, keys: Sequence[str] | None, *, output: Output) -> ExitCode:
    """Play a call to its end, with these keys at its questions; None: keys are read from the terminal."""
    from anyio.from_thread import start_blocking_portal

    left = None if keys is None else list(keys)
    went_wrong = False
    # One event loop for the whole call, because a handler may keep objects of it, such as a connection.
    with start_blocking_portal() as portal:
        heard = portal.call(rehearsal.begin)
        while True:
            went_wrong = _show(heard, output) or went_wrong
            if heard.has_ended:
                return ExitCode.UNDONE if went_wrong else ExitCode.DONE
            if left is None:
                pressed = _typed()
                if pressed is None:
                    output.say("\n  the caller hangs up")
                    return ExitCode.UNDONE if went_wrong else ExitCode.DONE
            elif left:
                pressed = left.pop(0)
                output.say(f"  presses: {pressed or '(nothing)'}")
            else:
                output.note("the keys are used up, and the call has not ended")
                return ExitCode.UNDONE
            heard = portal.call(partial(rehearsal.press, pressed))


def _typed() -> str | None:
    try:
        return input("  keys: ")
    except EOFError:
        return None


def _show(heard: SpokenAnswer, output: Output) -> bool:
    """Print one answer; returns whether something went wrong."""
    if heard.trouble is not None:
        output.note(f"  ! menu {heard.answer.menu}: {heard.trouble}; the fallback follows")
    for entry in heard.answer.flow.actions:
        output.say(f"  {_words(entry)}")
    return heard.trouble is not None


def _words(entry: Mapping[str, object]) -> str:
    from voiceflow_worker.model.flows.actions import Action
    from voiceflow_worker.model.flows.values import is_object

    given = entry.get("params")
    params: Mapping[str, object] = given if is_object(given) else {}
    match entry.get("action"):
        case Action.SAY:
            return f"says: {params.get('text')}"
        case Action.SAY_AND_CAPTURE:
            return f"asks: {params.get('promptMessage')}"
        case Action.PLAY_FILE:
            return f"plays: {params.get('fileUrl')}"
        case Action.MAKE_CALL:
            return f"connects to {params.get('destination')}"
        case _:
            return "hangs up"
