"""The client for 8x8, made from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceflow_worker.errors import SettingsError

if TYPE_CHECKING:
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings


def voice_client(settings: Settings) -> VoiceClient:
    """A client, not opened yet. Raises SettingsError for missing settings."""
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import unknown_variables

    missing = settings.missing_for_calls()
    if missing:
        misspelt = [each.in_words() for each in unknown_variables() if each.suggestion]
        raise SettingsError("; ".join([*missing[:-1], f"{missing[-1]} (`voiceflow demo` needs no account)", *misspelt]))
    return VoiceClient.from_settings(settings)
