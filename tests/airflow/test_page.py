"""The recipes of the pages *Airflow* and *Every day*, run as they are printed."""

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

DOCS = Path(__file__).resolve().parents[2] / "docs"
PEOPLE = ("+6587654321", "+6587654322")


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


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
    for place, block in enumerate([*blocks("start-airflow.md"), *blocks("airflow.md")]):
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


def test_each_run_of_every_day_calls_each_person_once(on: Stage, tmp_path: Path) -> None:
    on.order("script", [{"destination": each, "outcome": "COMPLETED"} for each in PEOPLE])
    options = re.sub(r"^(window|days) .*$", "", blocks("every-day.md", "toml")[0], flags=re.MULTILINE)
    (tmp_path / "reminder.toml").write_text(f'{options}window = "any"\n', encoding="utf-8")
    people = "".join(f"{each},Ana\n" for each in PEOPLE)
    (tmp_path / "people.csv").write_text(f"destination,name\n{people}", encoding="utf-8")
    before = rings(on, *PEOPLE)
    for count, day in enumerate(("2026-11-25", "2026-11-26", "2026-11-27"), 1):
        for _ in range(2):
            (task,) = tasks_of(blocks("every-day.md")[0])
            task.campaign, task.file = (str(tmp_path / Path(each).name) for each in (task.campaign, task.file))
            task.deferrable, task.poll_interval = False, 0.1
            assert task.execute(context("call", run=day))["total"] == len(PEOPLE)
        assert rings(on, *PEOPLE) == [each + count for each in before]
