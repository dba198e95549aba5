"""The client for 8x8, made from the settings."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from voiceflow_worker.errors import SettingsError

if TYPE_CHECKING:
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings


def voice_client(settings: Settings, *, patience: timedelta | None = None) -> VoiceClient:
    """A client, not opened yet. `patience` shortens its time limits. Raises SettingsError for missing settings."""
    from voiceflow_worker.gateway.client import VoiceClient

    missing = settings.missing_for_calls()
    if missing:
        raise SettingsError(f"{'; '.join(missing)} (`voiceflow demo` needs no account)")
    return VoiceClient.from_settings(settings, patience=patience)
