"""`voiceflow call`: place one call and wait for its end."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.options import Flag, QueueOptions
from voiceflow_worker.errors import InvalidInputError

BATCH = "call"


async def call(
    number: Annotated[str, Parameter(name="NUMBER")],
    /,
    *,
    say: Annotated[str, Parameter(metavar="TEXT")],
    voice_profile: Annotated[str | None, Parameter(metavar="NAME")] = None,
    source: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    without_outcome: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Place one call, wait for its end, and report each step. Exit 0 if the person was reached, 1 if not.

    This command puts the call into the queue, in the batch `call`, and sends it itself. The rate, the suppression list
    and holds apply. The call is not redialled. Ctrl-C cancels it if it has not been sent yet.

    Usage: NUMBER --say TEXT [OPTIONS]

    Args:
        number: The number to call, with a plus and the country code.
        say: The text to speak.
        voice_profile: The voice. [VOICEFLOW_VOICE_PROFILE, else a voice of the account]
        source: The number to call from. [VOICEFLOW_SOURCE]
        without_outcome: Call even if no receiver is running. The outcome then stays unknown, and the exit code is 1.

    Examples:
        voiceflow call +6581234567 --say "The server room is too warm."
        voiceflow call +6581234567 --say "Wake up." --json | jq -r 'select(.step == "summary").message'
    """
    from voiceflow_worker.cli.one_call import OneCall, number_to_call, place_call, reporting

    output = common.output()

    if not say.strip():
        raise InvalidInputError("--say is empty: give the text to speak")
    wanted = OneCall(number=number_to_call(number, place="NUMBER"), text=say, batch=BATCH, command="voiceflow call")
    settings = common.settings(voice_profile=voice_profile, source=source)
    reached = await place_call(settings, wanted, tell=reporting(output), without_outcome=without_outcome)
    return ExitCode.DONE if reached else ExitCode.UNDONE
