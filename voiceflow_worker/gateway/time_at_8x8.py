"""The time by the clock of 8x8, for people who decide about calls in doubt."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

PATIENCE = timedelta(seconds=3)
"""The longest wait for an answer of 8x8, because a person is waiting."""


async def time_at_8x8(settings: Settings) -> datetime | None:
    """The present time by the clock of 8x8; None if there is no API key, or no answer within `PATIENCE`."""
    if settings.missing_for_calls():
        return None
    from voiceflow_worker.gateway.client import VoiceClient  # most receivers never need it

    async with VoiceClient.from_settings(settings, patience=PATIENCE) as voice:
        return await voice.server_time()
