"""The recipes of the page *Airflow*, run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators import voice
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from tests.airflow.scene import context, drain, rings
from tests.support.stage import Stage

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "airflow.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PEOPLE = ("+6587654321", "+6587654322")


def tasks_of(block: str) -> list[Any]:
    """The tasks that a block of the page makes."""
    names: dict[str, Any] = {**vars(voice), "VoiceOutcomeSensor": VoiceOutcomeSensor, "DAG": DAG}
    names["VoiceCallNotifier"] = VoiceCallNotifier
    with DAG("page", schedule=None) as dag:
        exec(compile(block, "airflow.md", "exec"), names)
    return [*names.get("dag", dag).tasks]


def test_each_recipe_calls_whom_it_says(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    on.order("script", [{"destination": each, "outcome": "COMPLETED", "keys": ["1"]} for each in PEOPLE])
    visit = {"phone": "8765 4321", "name": "Ann", "visit": "2099-01-31"}
    monkeypatch.setattr(voice, "rows_of_query", lambda *_, **__: [visit])
    found: list[tuple[str, list[int]]] = []
    for place, block in enumerate(BLOCKS):
        before, jobs = rings(on, *PEOPLE), dict[str, Any]()
        for task in tasks_of(block):
            instances = [(-1, task)]
            if task.is_mapped:
                kwargs = [{"destination": each} for each in task.expand_input.value["destination"]]
                instances = [*enumerate(task.unmap(each) for each in kwargs)]
            for index, each in instances:
                each.deferrable = False
                if isinstance(each, VoiceOutcomeSensor):
                    drain(on)
                    each.job_id, each.poke_interval = jobs["enqueue"]["id"], 0.2
                if isinstance(each, voice.VoiceCampaignOperator):
                    vars(each)["window"] = "any"
                here = {**context(each.task_id, run=f"page{place}", map_index=index), "dag": task.dag}
                each.render_template_fields(here)
                jobs[each.task_id] = each.execute(here)
        rang = [now - then for now, then in zip(rings(on, *PEOPLE), before, strict=True)]
        found.append((next(iter(jobs), ""), rang))
    assert found == [
        ("call", [1, 0]), ("campaign", [1, 0]), ("call", [1, 1]), ("ask", [1, 0]), ("enqueue", [1, 0]), ("", [0, 0]),
    ]  # fmt: skip
