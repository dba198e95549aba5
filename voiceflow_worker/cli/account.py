"""`voiceflow account`: what the account at 8x8 has."""

from __future__ import annotations

from dataclasses import asdict

from voiceflow_worker.cli.opening import settings_from, voice_client
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.model.text.wording import rfc3339


async def account(*, json: JsonOption = False) -> None:
    """Show the voices, numbers and webhooks of the account at 8x8.

    Needs VOICEFLOW_API_KEY and VOICEFLOW_SUB_ACCOUNT. With --json, one of them per line.

    Examples:
        voiceflow account
        voiceflow account --json | jq -r 'select(.kind == "voice").code'
    """
    output = Output(as_json=json)
    async with voice_client(settings_from()) as voice:
        voices, numbers, webhooks = await voice.speech_profiles(), await voice.numbers(), await voice.webhooks()
    shown = [
        {
            "number": "+" + each.msisdn.removeprefix("+"),
            "country": each.country,
            "status": each.status,
            "health": each.health,
            "checked_at": each.health_checked_at and rfc3339(each.health_checked_at),
        }
        for each in numbers
    ]
    for kind, rows, nothing in (
        ("voice", [asdict(each) for each in voices], "the sub-account has no voices"),
        ("number", shown, "the account has no numbers"),
        ("webhook", [asdict(each) for each in webhooks], "no webhook is registered: `voiceflow serve --register URL`"),
    ):
        output.records([{"kind": kind, **row} for row in rows] if json else rows, nothing=nothing, title=f"{kind}s")
