"""Registration of the receiver at 8x8: `serve --register`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio

from voiceflow_worker.cli.voice import voice_client
from voiceflow_worker.errors import InvalidInputError, VoiceUnavailableError
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.web_address import is_this_machine, why_not_from_outside
from voiceflow_worker.setting_kinds import text_of

if TYPE_CHECKING:
    from voiceflow_worker.gateway.account.resources import Webhook, WebhookType
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(seconds=30)
"""The pauses between tries while 8x8 cannot be reached. The receiver already takes events during this time."""

Tell = Callable[[str], None]


def receiver_url(given: str, *, path: str) -> str:
    """The given address, with the receiver's path added if it has no path. Raises InvalidInputError."""
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInputError(
            f"--register {given}: give the address by which 8x8 reaches this receiver, such as "
            f"https://calls.example.com{path}"
        )
    return urlunsplit(parts._replace(path=path)) if parts.path in {"", "/"} else given


def refuse_out_of_reach(url: str, *, base_url: str | None) -> None:
    """Raise InvalidInputError for an address that 8x8 cannot reach. A sandbox on this machine can reach any address."""
    why = None if base_url is not None and is_this_machine(base_url) else why_not_from_outside(url)
    if why is not None:
        raise InvalidInputError(
            f"--register {url}: 8x8 cannot send events there: {why}. Give an https address with a public name, such as "
            "that of a proxy or a tunnel to this receiver; --force registers the address as it is. Nothing was changed "
            "at 8x8."
        )


async def register(settings: Settings, url: str, *, kinds: Sequence[WebhookType], tell: Tell) -> None:
    """Register `url` at 8x8 for events of these types, with the webhook secret. Report replaced addresses.

    Tries again until 8x8 can be reached. Raises SettingsError, RequestFailedError.
    """
    secret = text_of(settings.webhook_secret)
    async with voice_client(settings) as voice:
        for failures in count(1):
            try:
                await _register(voice, url, kinds=kinds, secret=secret, tell=tell)
            except VoiceUnavailableError as error:
                pause = backoff(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, seed=url).total_seconds()
                tell(f"{url} is not registered yet: {error}; trying again in {pause:.1f} s")
                await anyio.sleep(pause)
            else:
                return


async def _register(
    voice: VoiceClient, url: str, *, kinds: Sequence[WebhookType], secret: str | None, tell: Tell
) -> None:
    before = {webhook.type: webhook for webhook in await voice.webhooks()}
    for kind in kinds:
        await voice.register_webhook(kind, url, auth_header=secret)
        header = "with VOICEFLOW_WEBHOOK_SECRET" if secret else "without an Authorization header"
        tell(f"8x8 now sends {kind.value} events to {url}, {header}; {_replaced(before.get(kind.value), url)}")


def _replaced(webhook: Webhook | None, url: str) -> str:
    if webhook is None:
        return "no address was registered before"
    off = "" if webhook.enabled else ", but it was off"
    return f"{'the same address' if webhook.url == url else webhook.url} was registered before{off}"
