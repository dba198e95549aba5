"""The time by 8x8's own clock, for a person who decides about a doubt."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

PATIENCE = timedelta(seconds=3)
"""How long a person waits to hear what time it is at 8x8."""


async def time_at_8x8(settings: Settings) -> datetime | None:
    """The time by 8x8's own clock; None without credentials, or without an answer soon."""
    if settings.missing_for_calls():
        return None
    from voiceflow_worker.gateway.client import VoiceClient  # receivers that are never asked do not load it

    async with VoiceClient.from_settings(settings, patience=PATIENCE) as voice:
        return await voice.server_time()
