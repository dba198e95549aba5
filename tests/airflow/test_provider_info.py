"""The provider's description for Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import airflow
from airflow.providers_manager import ProvidersManager

from airflow_provider import get_provider_info

SCHEMA = Path(airflow.__file__).parent / "provider_info.schema.json"
INFO = get_provider_info()


def test_it_is_valid_by_this_airflows_schema() -> None:
    jsonschema = import_module("jsonschema")  # comes with Airflow
    jsonschema.validate(INFO, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_airflow_finds_it_by_the_entry_point() -> None:
    found = [entry for entry in entry_points(group="apache_airflow_provider") if entry.value.startswith("airflow_pro")]
    assert [entry.load()() for entry in found] == [INFO]


def test_everything_that_it_names_is_there() -> None:
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in (module for each in INFO[kind] for module in each["python-modules"]):
            import_module(module)
    hooks = (each["hook-class-name"] for each in INFO["connection-types"])
    for place in (*INFO["notifications"], *hooks):
        module, _, name = place.rpartition(".")
        assert getattr(import_module(module), name).__name__ == name


def test_reading_it_imports_nothing_of_airflow() -> None:
    code = "import sys, airflow_provider; airflow_provider.get_provider_info(); print('airflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_airflow_knows_the_hook_and_the_fields_of_its_form() -> None:
    manager = ProvidersManager()
    hook = manager.hooks["voiceflow"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_testable) == ("8x8 Voice", True)
    names = {f"extra__voiceflow__{name}" for name in ("sub_account", "store", "queue", "source", "voice_profile")}
    assert names <= {*manager.connection_form_widgets}
    assert manager.field_behaviours["voiceflow"]["relabeling"]["password"] == "API key"
