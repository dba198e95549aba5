"""The campaign operator: each row once per task instance, bad rows named, a small report."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.operators.voice import VoiceCampaignOperator
from tests.airflow.scene import API_KEY, LASTING, connect, context, end_call, in_queue, surroundings
from tests.campaigns.field_cases import FIELD_CASES, texts_of
from tests.support.stage import Stage
from voiceflow_worker import CallQueue


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("campaign")) as staged:
        numbers = [f"+65876630{place:02d}" for place in range(100)]
        staged.order("script", [{"destination": number, "outcome": "COMPLETED"} for number in numbers])
        yield staged


def rows(*places: int) -> list[dict[str, Any]]:
    return [{"destination": f"+65876630{place:02d}", "name": f"Customer {place}"} for place in places]


def campaign(**options: Any) -> VoiceCampaignOperator:
    given = {"task_id": "t", "say": "Hello {{ name }}.", "deferrable": False, "poll_interval": 0.2, **options}
    return VoiceCampaignOperator(**given)


def called(on: Stage, *places: int) -> list[int]:
    numbers = [entry["destination"] for entry in on.ledger()]
    return [numbers.count(f"+65876630{place:02d}") for place in places]


def test_the_result_is_the_report_of_the_command_line_and_holds_no_number_and_no_key(on: Stage) -> None:
    report = campaign(rows=rows(1, 2, 3), batch="same").execute(context("first"))
    arguments = ("report", "--batch", "same", "--json", "--store", on.store)
    run = subprocess.run([sys.executable, "-m", "voiceflow_worker", *arguments], capture_output=True, check=True)
    assert report == {**json.loads(run.stdout), "rows": {"enqueued": 3, "duplicates": 0, "left_out": 0, "rejected": 0}}
    assert (report["total"], report["states"]["completed"], report["answer_rate"]) == (3, 3, 1.0)
    assert (report["by_country"][0]["country"], report["attempts"]) == ("SG", {"1": 3})
    assert sum(hour["answered"] for hour in report["by_hour"]) == 3
    assert "+658766" not in json.dumps(report)
    assert API_KEY not in json.dumps(report)
    assert called(on, 1, 2, 3) == [1, 1, 1]


def test_the_link_leads_to_the_batch_in_its_queue(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, on, ui_url="https://calls.example.com/ui", queue="reminders")
    here = context("linked")
    campaign(rows=rows(99), batch="march 2/3", send="worker", wait_for=None).execute(here)
    address = "https://calls.example.com/ui/batches/march%202%2F3?queue=reminders"
    assert here["ti"].pushed == {"voiceflow_call": address}
    assert [link.name for link in campaign(rows=[]).operator_extra_links] == ["Calls of the batch"]


def test_too_many_failures_fail_the_task(on: Stage) -> None:
    for place in (20, 21):
        on.order("script", {"destination": f"+65876631{place}", "outcome": "FAILED"})
    people = [{"destination": f"+65876631{place}", "name": "x"} for place in (20, 21)] + rows(12)
    with pytest.raises(AirflowFailException, match="2 of 3 calls ended as failed, expired"):
        campaign(rows=people).execute(context("failing"))
    assert campaign(rows=people, fail_ratio=0.7).execute(context("failing"))["total"] == 3


def test_a_call_that_fail_on_names_twice_counts_once(on: Stage) -> None:
    busy = [f"+65876638{place}" for place in range(70, 76)]
    on.order("script", [{"destination": number, "outcome": "BUSY"} for number in busy])
    others = [f"+65876638{place}" for place in range(76, 80)]
    on.order("script", [{"destination": number, "outcome": "COMPLETED"} for number in others])
    people = [{"destination": number, "name": "Ana"} for number in (*busy, *others)]
    campaign(rows=people, fail_on=("unreached", "busy"), fail_ratio=0.6).execute(context("twice"))
    for fail_on in (("unreached", "busy"), ("busy", "completed"), ("failed", "busy"), ("BUSY",), ("unreached",)):
        bad = 10 if "completed" in fail_on else 6
        with pytest.raises(AirflowFailException, match=f"{bad} of 10 calls ended as {', '.join(fail_on)}"):
            campaign(rows=people, fail_on=fail_on, fail_ratio=0.5).execute(context("twice"))


def test_a_deferred_campaign_waits_for_its_batch_and_ends_with_what_the_event_alone_brings(
    on: Stage, hasty: None
) -> None:
    """`airflow dags test` resumes a task with the event, and drops all other arguments."""
    on.order("script", {"destination": "+6587663130", **LASTING})
    people = [{"destination": "+6587663130", "name": "x"}]
    with pytest.raises(TaskDeferred) as deferred:
        campaign(rows=people, deferrable=True).execute(context("deferred"))
    _, kwargs = deferred.value.trigger.serialize()
    assert kwargs["batch_id"].startswith("dag.deferred.")
    assert API_KEY not in json.dumps(kwargs)
    end_call(on, "+6587663130")

    async def event() -> Any:
        return (await anext(deferred.value.trigger.run())).payload

    result = campaign(rows=people, deferrable=True).execute_complete(context("deferred"), asyncio.run(event()))
    assert (result["total"], result["rows"]["enqueued"]) == (1, 1)


def test_a_task_that_is_stopped_between_its_enqueueing_and_its_sending_fails_and_the_next_try_calls(on: Stage) -> None:
    class Stopped(VoiceCampaignOperator):
        def _go_on(self, *given: Any, **more: Any) -> None:
            super()._go_on(*given, **more)
            self.on_kill()

    options: dict[str, Any] = {"task_id": "t", "say": "Hello {{ name }}.", "poll_interval": 0.2, "rows": rows(50)}
    for deferrable in (False, True):
        with pytest.raises(AirflowException, match="stopped"):
            Stopped(**options, deferrable=deferrable).execute(context("stopped-early"))
    assert called(on, 50) == [0]
    assert campaign(rows=rows(50)).execute(context("stopped-early"))["states"]["completed"] == 1
    assert called(on, 50) == [1]


def test_a_task_that_does_not_wait_sends_all_that_is_due_and_tells_what_is_left_for_a_worker(
    on: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider.calls.waiting.SENT_WITHIN", timedelta(0))
    later = {"not_before": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    people = [*rows(70, 71, 72), {**rows(73)[0], **later}]
    with caplog.at_level("WARNING"):
        campaign(rows=people, wait_for=None).execute(context("unwaited"))
    assert called(on, 70, 71, 72, 73) == [1, 1, 1, 0]
    assert "calls that are due later: 1. This task does not wait for them" in caplog.text


@pytest.mark.slow
def test_a_field_case_is_heard_or_told_as_it_is_elsewhere(
    on: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place, (case, form) in enumerate(product(FIELD_CASES.values(), ("rows", "file"))):
        if case.is_of_files and form == "rows":
            continue
        (tmp_path / "people.csv").write_text(case.table)
        people = case.people if form == "rows" else str(tmp_path / "people.csv")
        fields: dict[str, Any] = {**case.fields, "batch": f"case-{place}"}
        caplog.clear()
        task, said = campaign(**{form: people}, **fields, again=True, send="worker", wait_for=None), ""
        try:
            with caplog.at_level("INFO"):
                task.execute(context(f"case-{place}"))
        except AirflowFailException as error:
            said = str(error)
        jobs = in_queue(on, partial(CallQueue.find, batch_id=fields["batch"], limit=None))
        assert texts_of(jobs) == [*case.heard], (case, caplog.text)
        assert case.told.replace("recall", fields["batch"]) in caplog.text + said, case
