"""The provider's description for Airflow."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import airflow
from airflow.providers_manager import ProvidersManager

from airflow_provider import get_provider_info

SCHEMA = Path(airflow.__file__).parent / "provider_info.schema.json"
INFO = get_provider_info()


def test_it_is_valid_by_this_airflows_schema() -> None:
    jsonschema = import_module("jsonschema")  # comes with Airflow
    jsonschema.validate(INFO, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_airflow_knows_the_hook_and_the_fields_of_its_form() -> None:
    manager = ProvidersManager()
    hook = manager.hooks["voiceflow"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_testable) == ("8x8 Voice", True)
    names = {f"extra__voiceflow__{name}" for name in ("sub_account", "store", "queue", "source", "voice_profile")}
    assert names <= {*manager.connection_form_widgets}
    assert manager.field_behaviours["voiceflow"]["relabeling"]["password"] == "API key"
