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
    """A client, not opened yet. `patience` shortens its time limits. Raises SettingsError with all that must be set."""
    from voiceflow_worker.gateway.client import VoiceClient

    missing = settings.missing_for_calls()
    if missing:
        raise SettingsError(f"{'; '.join(missing)} (`voiceflow demo` needs none of it)")
    return VoiceClient.from_settings(settings, patience=patience)


async def time_at_8x8(settings: Settings) -> datetime | None:
    """The time by 8x8's own clock; None without credentials, or without an answer soon."""
    if settings.missing_for_calls():
        return None
    async with voice_client(settings, patience=PATIENCE) as voice:
        return await voice.server_time()
