"""The DAG of the page *Every day*: the same text in the runs of three days, each of which is carried out twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.scene import context, rings
from tests.support.stage import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "every-day.md"
NUMBERS = ("+6587664401", "+6587664402")


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the campaign's file of the page, at any hour, and a list."""
    options = re.sub(r"^(window|days) .*$", "", block("toml"), flags=re.MULTILINE)
    (tmp_path / "reminder.toml").write_text(f'{options}window = "any"\n', encoding="utf-8")
    people = "".join(f"{number},Ana\n" for number in NUMBERS)
    (tmp_path / "people.csv").write_text(f"destination,name\n{people}", encoding="utf-8")
    return tmp_path


def task_with(files: Path) -> Any:
    """The task of the page, with these files; it waits without a triggerer."""
    names: dict[str, Any] = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    (task,) = names["dag"].tasks
    task.campaign, task.file = (str(files / Path(each).name) for each in (task.campaign, task.file))
    task.deferrable, task.poll_interval = False, 0.1
    return task


def test_each_run_calls_each_person_once_with_the_text_of_the_day_before(on: Stage, files: Path) -> None:
    on.order("script", [{"destination": number, "outcome": "COMPLETED"} for number in NUMBERS])
    for count, day in enumerate(("2026-11-25", "2026-11-26", "2026-11-27"), 1):
        for _ in range(2):
            assert task_with(files).execute(context("call", run=day))["total"] == len(NUMBERS)
        assert rings(on, *NUMBERS) == [count] * len(NUMBERS)
