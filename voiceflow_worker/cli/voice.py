"""The client of 8x8 that the settings describe."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from voiceflow_worker.errors import SettingsError

if TYPE_CHECKING:
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings

PATIENCE = timedelta(seconds=3)
"""How long a person at a terminal waits to hear what time it is at 8x8."""


def voice_client(settings: Settings, *, patience: timedelta | None = None) -> VoiceClient:
    """A client, not opened yet. `patience` shortens the time limits. Raises SettingsError, saying what to set."""
    from voiceflow_worker.gateway.client import VoiceClient

    if settings.api_key is None:
        raise SettingsError(
            "there is no API key: set VOICEFLOW_API_KEY, or VOICEFLOW_API_KEY_FILE to a file that holds it "
            "(`voiceflow demo` needs none)"
        )
    if settings.sub_account is None:
        raise SettingsError("there is no sub-account: set VOICEFLOW_SUB_ACCOUNT to its id")
    return VoiceClient(
        settings.api_key.get_secret_value(),
        settings.sub_account,
        region=settings.region,
        base_url=settings.base_url,
        connect_timeout=min(settings.connect_timeout, patience or settings.connect_timeout),
        read_timeout=min(settings.read_timeout, patience or settings.read_timeout),
        concurrency=settings.concurrency,
    )


async def time_at_8x8(settings: Settings) -> datetime | None:
    """The time by 8x8's own clock; None when there are no credentials, or no answer soon."""
    if settings.api_key is None or settings.sub_account is None:
        return None
    async with voice_client(settings, patience=PATIENCE) as voice:
        return await voice.server_time()
