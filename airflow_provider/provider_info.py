"""The description of the provider, in the format of Airflow's `provider_info.schema.json`.

Every Airflow process imports this module, so it does not import the rest of the provider.
"""

from __future__ import annotations

from typing import Any

_NAME = "8x8 Voice (voiceflow-worker)"


def _module(kind: str) -> list[dict[str, Any]]:
    return [{"integration-name": _NAME, "python-modules": [f"airflow_provider.{kind}.voice"]}]


_FIELDS = {
    "sub_account": "Sub-account", "store": "Store URL, without a password", "queue": "Queue",
    "source": "Source number", "voice_profile": "Voice profile", "rate": "Calls per second",
}  # fmt: skip


PROVIDER_INFO: dict[str, Any] = {
    "package-name": "voiceflow-worker",
    "name": _NAME,
    "description": "Phone people through the 8x8 Voice API: never twice, never lost, never late.",
    "integrations": [
        {
            "integration-name": _NAME,
            "external-doc-url": "https://developer.8x8.com/connect/docs/voice/",
            "tags": ["service"],
        }
    ],
    **{kind: _module(kind) for kind in ("hooks", "operators", "sensors", "triggers")},
    "notifications": ["airflow_provider.notifications.voice.VoiceCallNotifier"],
    "connection-types": [
        {
            "connection-type": "voiceflow",
            "hook-class-name": "airflow_provider.hooks.voice.VoiceFlowHook",
            "hook-name": "8x8 Voice",
            "conn-fields": {
                name: {"label": label, "schema": {"type": ["string", "null"]}} for name, label in _FIELDS.items()
            },
            "ui-field-behaviour": {
                "hidden-fields": ["login", "schema", "port"],
                "relabeling": {"host": "Base URL", "password": "API key"},
                "placeholders": {"host": "empty, or http://127.0.0.1:8088 for a sandbox"},
            },
        }
    ],
}
