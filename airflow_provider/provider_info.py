"""The description of the provider, in the format of Airflow's `provider_info.schema.json`.

Every Airflow process imports this module, so it does not import the rest of the provider.
"""

from __future__ import annotations

from typing import Any

_NAME = "8x8 Voice (voiceflow-worker)"

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
    "hooks": [{"integration-name": _NAME, "python-modules": ["airflow_provider.hooks.voice"]}],
    "operators": [{"integration-name": _NAME, "python-modules": ["airflow_provider.operators.voice"]}],
    "sensors": [{"integration-name": _NAME, "python-modules": ["airflow_provider.sensors.voice"]}],
    "triggers": [{"integration-name": _NAME, "python-modules": ["airflow_provider.triggers.voice"]}],
    "notifications": ["airflow_provider.notifications.voice.VoiceCallNotifier"],
    "connection-types": [
        {
            "connection-type": "voiceflow",
            "hook-class-name": "airflow_provider.hooks.voice.VoiceFlowHook",
            "hook-name": "8x8 Voice",
            "conn-fields": {
                "sub_account": {"label": "Sub-account", "schema": {"type": ["string", "null"]}},
                "store": {
                    "label": "Store URL",
                    "description": "redis://host:6379/0, postgresql://host/database without a user, or "
                    "sqlite:////absolute/path.db if all tasks run on one host.",
                    "schema": {"type": ["string", "null"]},
                },
                "queue": {"label": "Queue", "schema": {"type": ["string", "null"], "default": "default"}},
                "source": {
                    "label": "Source number",
                    "description": "The number of your account that people see when they are called.",
                    "schema": {"type": ["string", "null"]},
                },
                "voice_profile": {"label": "Voice profile", "schema": {"type": ["string", "null"]}},
                "rate": {
                    "label": "Calls per second",
                    "description": "The rate of all workers together. Leave it empty to keep the rate of the queue.",
                    "schema": {"type": ["string", "null"]},
                },
            },
            "ui-field-behaviour": {
                "hidden-fields": ["login", "schema", "port"],
                "relabeling": {"host": "Base URL", "password": "API key"},
                "placeholders": {"host": "empty, or http://127.0.0.1:8088 for a sandbox"},
            },
        }
    ],
}
