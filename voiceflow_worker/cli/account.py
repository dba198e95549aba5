"""`voiceflow account`: show voices, numbers and webhooks of the account at 8x8."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from voiceflow_worker.cli.opening import settings_from, voice_client
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.model.text.wording import rfc3339

_SHOWN_OF_NUMBERS = ("msisdn", "country", "status", "health")


async def profiles(*, locale: str | None = None, json: JsonOption = False) -> None:
    """List the voices (speech profiles) of the sub-account.

    With --json, one voice per line. Needs VOICEFLOW_API_KEY and VOICEFLOW_SUB_ACCOUNT, as all `account` commands
    do.

    Args:
        locale: Only voices with this locale, such as en or en-SG.

    Examples:
        voiceflow account profiles --locale en
        voiceflow account profiles --json | jq -r .code
    """
    async with voice_client(settings_from()) as voice:
        found = await voice.speech_profiles()
    wanted = (locale or "").casefold()
    rows = [asdict(each) for each in found if (each.locale or "").casefold().startswith(wanted)]
    of_locale = f" of locale {locale}" if locale else ""
    Output(as_json=json).records(rows, nothing=f"the sub-account has no voices{of_locale}")


async def numbers(*, json: JsonOption = False) -> None:
    """List the numbers of the account.

    Each Active number can be the source of a call. Health is the result of the last check by 8x8.

    Examples:
        voiceflow account numbers
        voiceflow account numbers --json | jq -r 'select(.status == "Active") | .msisdn'
    """
    async with voice_client(settings_from()) as voice:
        found = await voice.numbers()
    rows = [
        {name: _plain(value) for name, value in asdict(each).items() if json or name in _SHOWN_OF_NUMBERS}
        | {"msisdn": "+" + each.msisdn.removeprefix("+")}
        for each in found
    ]
    Output(as_json=json).records(rows, nothing="the account has no numbers")


async def webhooks(*, json: JsonOption = False) -> None:
    """List the webhooks of the sub-account.

    `voiceflow serve --register URL` registers them.

    Examples:
        voiceflow account webhooks
        voiceflow account webhooks --json | jq -r 'select(.type == "VSS") | .url'
    """
    async with voice_client(settings_from()) as voice:
        found = await voice.webhooks()
    nothing = "no webhook is registered; `voiceflow serve --register URL` registers one for session summaries"
    Output(as_json=json).records(map(asdict, found), nothing=nothing)


def _plain(value: object) -> object:
    """A time as text, any other value unchanged."""
    return rfc3339(value) if isinstance(value, datetime) else value
