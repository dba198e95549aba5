"""The notifier: an escalation for each occasion, whose calls a worker makes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider.notifications.voice import VoiceCallNotifier, occasion_of
from tests.airflow.scene import context, jobs_to, number, refused, rings
from tests.support.stage import Stage
from tests.support.waiting import wait_until


def test_people_are_called_in_turn_by_a_worker_until_one_acknowledges_and_once_for_an_occasion(on: Stage) -> None:
    people = [number(on, keys=[None]), number(on, keys=["1"]), number(on, keys=["1"])]
    notifier = VoiceCallNotifier(numbers=people, say="Disk full. " * 200, every="30s")
    for _ in range(2):
        notifier.notify(context("escalates"))
    notifier.notify(context("escalates", map_index=7))
    assert rings(on, *people) == [0, 0, 0], "a worker sends"
    with on.worker():
        wait_until(lambda: rings(on, *people)[1] == 1, "the second to be called", within=60)
        wait_until(lambda: jobs_to(on, people[1])[0].digits == "1", "her key", within=60)
    (entry,) = (entry for entry in on.ledger() if entry["destination"] == people[0])
    assert "Disk full.… Press 1" in json.dumps(entry, ensure_ascii=False), "a long text is cut"
    assert rings(on, *people) == [1, 1, 0]


def test_it_can_be_awaited_with_the_context_of_a_deadline_and_names_a_policy(
    on: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "escalations.toml"
    file.write_text(f'[db]\nnumbers = ["{number(on)}"]\nevery = "30s"\n')
    monkeypatch.setenv("VOICEFLOW_ESCALATIONS", str(file))
    deadline = {"dag_run": {"dag_id": "nightly", "dag_run_id": "r"}, "deadline": {"id": "01"}}
    notifier = VoiceCallNotifier(policy="db", say="It is late.", context=deadline)
    sentences = [asyncio.run(notifier.async_notify(deadline)) for _ in range(2)]
    assert [text.rpartition(" was ")[2] for text in sentences] == ["started", "started before"]
    with refused("nosuch"):
        VoiceCallNotifier(policy="nosuch", say="Oh.").notify(context("unknown"))


def test_a_failed_run_is_one_occasion_whichever_task_its_context_shows_and_a_try_is_another() -> None:
    dag_run = SimpleNamespace(dag_id="d", run_id="r", clear_number=0)
    runs = [{**context(task), "dag_run": dag_run, "reason": "task_failure"} for task in ("a", "b")]
    assert occasion_of(runs[0]) == occasion_of(runs[1])
    tries = [context("one"), context("other"), context("one", tried=2), context("one")]
    tries[-1]["ti"].state = "running"
    assert len({occasion_of(each) for each in [*runs, *tries]}) == 5
