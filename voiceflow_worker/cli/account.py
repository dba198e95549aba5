"""`voiceflow account`: the sub-account's voices, numbers, webhooks and recordings at 8x8."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from voiceflow_worker.cli.confirmation import YesOption, is_sure
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.recording_push import recording_push_group
from voiceflow_worker.cli.registering import add_command, add_group

if TYPE_CHECKING:
    from decimal import Decimal

    from voiceflow_worker.gateway.client import VoiceClient

PROFILES_EXAMPLES = """Examples:
  voiceflow account profiles --locale en
  voiceflow account profiles --json | jq -r .code"""
NUMBERS_EXAMPLES = """Examples:
  voiceflow account numbers
  voiceflow account numbers --json | jq -r 'select(.status == "Active") | .msisdn'"""
WEBHOOKS_EXAMPLES = """Examples:
  voiceflow account webhooks
  voiceflow account webhooks --delete VCS
  voiceflow account webhooks --json | jq -r 'select(.type == "VSS") | .url'"""
RECORDINGS_EXAMPLES = """Examples:
  voiceflow account recordings 6f7a2c1e-8d5b-4f0e-9a44-3a1f0c2b7d10
  voiceflow account recordings 6f7a2c1e-8d5b-4f0e-9a44-3a1f0c2b7d10 --json | jq -r .url"""

_SHOWN_OF_NUMBERS = (
    "msisdn", "country", "status", "health", "rental_price", "incoming_rate", "billing_unit", "currency",
)  # fmt: skip

SessionId = Annotated[str, Parameter(name="SESSION", help="The id of the session, as `calls show` prints it.")]


def account_group() -> App:
    """`account` with its commands."""
    group = App(name="account", help="Show voices, numbers, webhooks and recordings of the account at 8x8.")
    add_command(group, profiles, examples=PROFILES_EXAMPLES)
    add_command(group, numbers, examples=NUMBERS_EXAMPLES)
    add_command(group, webhooks, examples=WEBHOOKS_EXAMPLES)
    add_command(group, recordings, examples=RECORDINGS_EXAMPLES)
    add_group(group, recording_push_group())
    return group


async def profiles(*, locale: str | None = None, json: JsonOption = False) -> ExitCode:
    """List the voices (speech profiles) of the sub-account. With --json, one per line.

    Needs VOICEFLOW_API_KEY and VOICEFLOW_SUB_ACCOUNT, as all `account` commands do.

    Args:
        locale: Only voices with this locale, such as en or en-SG.
    """
    async with _asking() as voice:
        found = await voice.speech_profiles()
    wanted = (locale or "").casefold()
    rows = [
        {"code": each.code, "locale": each.locale, "language": each.language, "gender": each.gender}
        for each in found
        if (each.locale or "").casefold().startswith(wanted)
    ]
    of_locale = f" of locale {locale}" if locale else ""
    return _print_rows(Output(as_json=json), rows, nothing=f"the sub-account has no voices{of_locale}")


async def numbers(*, json: JsonOption = False) -> ExitCode:
    """List the numbers of the account: any that is Active can be the source of a call.

    Health is the result of the last check by 8x8. With --json, one per line.
    """
    from voiceflow_worker.model.records.call_json import rfc3339

    async with _asking() as voice:
        found = await voice.numbers()
    rows = [
        {
            "msisdn": "+" + each.msisdn.removeprefix("+"),
            "country": each.country,
            "status": each.status,
            "health": each.health,
            "is_healthy": each.is_healthy,
            "health_checked_at": rfc3339(each.health_checked_at),
            "rental_price": _money(each.rental_price),
            "incoming_rate": _money(each.incoming_rate),
            "billing_unit": each.billing_unit,
            "currency": each.currency,
            "number_type": each.number_type,
            "reference_id": each.reference_id,
        }
        for each in found
    ]
    if not json:
        rows = [{name: row[name] for name in _SHOWN_OF_NUMBERS} for row in rows]
    return _print_rows(Output(as_json=json), rows, nothing="the account has no numbers")


async def webhooks(
    *,
    delete: Annotated[str | None, Parameter(metavar="TYPE")] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> ExitCode:
    """List the webhooks of the sub-account. With --json, one per line.

    Args:
        delete: Delete the webhook for events of this type (VSS, VCA, VCS, VRU, VNU). Asks first.
    """
    async with _asking() as voice:
        if delete is not None:
            return await _delete_webhook(voice, delete, yes=yes, output=Output(as_json=json))
        found = await voice.webhooks()
    rows = [
        {"type": each.type, "url": each.url, "enabled": each.enabled, "has_auth_header": each.has_auth_header}
        for each in found
    ]
    nothing = "no webhook is registered; `voiceflow serve --register URL` registers one for session summaries"
    return _print_rows(Output(as_json=json), rows, nothing=nothing)


async def recordings(session: SessionId, /, *, json: JsonOption = False) -> ExitCode:
    """List the recordings of a session. With --json, one per line."""
    from voiceflow_worker.model.records.call_json import rfc3339

    async with _asking() as voice:
        found = await voice.recordings(session)
    rows = [
        {
            "recording_id": each.recording_id,
            "session_id": each.session_id or session,
            "status": each.status,
            "url": each.url,
            "seconds": None if each.duration is None else each.duration.total_seconds(),
            "started_at": rfc3339(each.started_at),
        }
        for each in found
    ]
    return _print_rows(Output(as_json=json), rows, nothing=f"there are no recordings of session {session}")


@asynccontextmanager
async def _asking() -> AsyncGenerator[VoiceClient]:
    from voiceflow_worker.cli.voice import voice_client

    async with voice_client(settings_from()) as voice:
        yield voice


def _print_rows(output: Output, rows: Sequence[Mapping[str, object]], *, nothing: str) -> ExitCode:
    for row in rows:
        output.document(row)
    if not rows:
        output.note(nothing)
    elif not output.as_json:
        columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        headers = [f"#{name}" if name == "seconds" else name.replace("_", " ") for name in columns]
        output.table(headers, [[_cell(row[name]) for name in columns] for row in rows])
    return ExitCode.DONE


async def _delete_webhook(voice: VoiceClient, kind: str, *, yes: bool, output: Output) -> ExitCode:
    from voiceflow_worker.gateway.account.resources import webhook_type

    wanted = webhook_type(kind)
    found = next((each for each in await voice.webhooks() if each.type == wanted.value), None)
    if found is None:
        output.note(f"no webhook of type {wanted.value} is registered")
        return ExitCode.UNDONE
    lost = " Calls will have no outcome." if wanted.value == "VSS" else ""
    if not is_sure(f"Stop sending events of type {found.type} to {found.url}?{lost}", yes=yes):
        output.note("nothing was changed")
        return ExitCode.UNDONE
    await voice.delete_webhook(wanted)
    output.document({"type": found.type, "url": found.url, "deleted": True})
    output.say(f"events of type {found.type} are no longer sent to {found.url}")
    return ExitCode.DONE


def _money(price: Decimal | None) -> float | None:
    return None if price is None else float(price)


def _cell(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
