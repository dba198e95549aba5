"""`voiceflow account`: show voices, numbers and webhooks of the account at 8x8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from voiceflow_worker.cli.opening import settings_from, voice_client
from voiceflow_worker.cli.options import Flag, JsonOption, YesOption
from voiceflow_worker.cli.output import Output, UndoneError, confirm
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings

_SHOWN_OF_NUMBERS = (
    "msisdn", "country", "status", "health", "rental_price", "incoming_rate", "billing_unit", "currency",
)  # fmt: skip


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


async def webhooks(
    action: Annotated[Literal["set"] | None, Parameter(name="set", show_default=False)] = None,
    url: Annotated[str | None, Parameter(name="URL")] = None,
    /,
    *,
    types: Annotated[list[str] | None, Parameter(name="--type", negative=(), metavar="TYPE")] = None,
    force: Annotated[bool, Flag] = False,
    delete: Annotated[str | None, Parameter(metavar="TYPE")] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """List, register or delete the webhooks of the sub-account.

    `set URL` registers the address of a receiver with VOICEFLOW_WEBHOOK_SECRET: for session summaries (VSS), and for
    all types of events that 8x8 sends already.

    Args:
        action: Register an address.
        url: The address by which 8x8 reaches the receiver. /webhooks/8x8 is added where it is missing.
        types: Register this type only (VSS, VCA, VCS, VRU); may be repeated.
        force: Register the address as it is, even if 8x8 seems unable to reach it.
        delete: Delete the webhook for events of this type (VSS, VCA, VCS, VRU, VNU), after a confirmation.

    Examples:
        voiceflow account webhooks
        voiceflow account webhooks set https://calls.example.com
        voiceflow account webhooks --delete VCS
        voiceflow account webhooks --json | jq -r 'select(.type == "VSS") | .url'
    """
    output, settings = Output(as_json=json), settings_from()
    if (action is None) != (url is None) or (action is None and (types or force)) or (delete and action):
        raise InvalidInputError("to register an address, give `webhooks set URL`, with --type and --force alone")
    async with voice_client(settings) as voice:
        if url is not None:
            await _set_webhooks(voice, settings, url, types=types or (), force=force, output=output)
            return
        if delete is not None:
            await _delete_webhook(voice, delete, yes=yes, output=output)
            return
        found = await voice.webhooks()
    nothing = "no webhook is registered; `voiceflow account webhooks set URL` registers one for session summaries"
    output.records(map(asdict, found), nothing=nothing)


async def _set_webhooks(
    voice: VoiceClient, settings: Settings, given: str, *, types: Sequence[str], force: bool, output: Output
) -> None:
    from voiceflow_worker.cli.serve import register_once, url_to_register
    from voiceflow_worker.gateway.account import PATH, WebhookType, webhook_type

    url = url_to_register(given, settings, path=PATH, force=force, tell=output.note)
    before = {webhook.type for webhook in await voice.webhooks()} if not types else set[str]()
    kinds = [webhook_type(each) for each in types] or [
        kind for kind in WebhookType if kind is WebhookType.SESSION_SUMMARY or kind.value in before
    ]
    await register_once(voice, settings, url, kinds=kinds, tell=output.say)
    for kind in kinds:
        output.document({"type": kind.value, "url": url, "has_auth_header": settings.webhook_secret is not None})


async def _delete_webhook(voice: VoiceClient, kind: str, *, yes: bool, output: Output) -> None:
    from voiceflow_worker.gateway.account import webhook_type

    wanted = webhook_type(kind)
    found = next((each for each in await voice.webhooks() if each.type == wanted.value), None)
    if found is None:
        raise UndoneError(f"no webhook of type {wanted.value} is registered")
    lost = " Calls will have no outcome." if wanted.value == "VSS" else ""
    confirm(f"Stop sending events of type {found.type} to {found.url}?{lost}", yes=yes)
    await voice.delete_webhook(wanted)
    output.document({"type": found.type, "url": found.url, "deleted": True})
    output.say(f"events of type {found.type} are no longer sent to {found.url}")


def _plain(value: object) -> object:
    """A price as a number, a time as text, any other value unchanged."""
    match value:
        case Decimal():
            return float(value)
        case datetime():
            return rfc3339(value)
        case _:
            return value
