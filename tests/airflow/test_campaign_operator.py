"""The campaign operator: each row once per task instance, bad rows named, a small report."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider.operators.voice import VoiceCampaignOperator
from tests.airflow import scene
from tests.airflow.scene import STORED, campaign, context, refused, rings, row
from tests.campaigns.field_cases import FIELD_CASES, GIVEN_AGAIN, MENDED, texts_of
from tests.support.stage import Stage
from voiceflow_worker import CallQueue


def rows(*places: int) -> list[dict[str, Any]]:
    return [row(f"+65876630{place:02d}") for place in places]


@pytest.fixture(scope="module", autouse=True)
def answered(on: Stage) -> None:
    numbers = [each["destination"] for each in rows(*range(100))]
    on.order("script", [{"destination": number, "outcome": "COMPLETED"} for number in numbers])


def called(on: Stage, *places: int) -> list[int]:
    return rings(on, *(f"+65876630{place:02d}" for place in places))


def test_the_result_is_the_report_of_the_command_line_and_holds_no_number_and_no_key(on: Stage) -> None:
    report = campaign(rows(1, 2, 3), batch="same").execute(context("first"))
    arguments = ("report", "--batch", "same", "--json", "--store", on.store)
    run = subprocess.run([sys.executable, "-m", "voiceflow_worker", *arguments], capture_output=True, check=True)
    assert report == {**json.loads(run.stdout), "rows": {"enqueued": 3, "duplicates": 0, "left_out": 0, "rejected": 0}}
    assert (report["total"], report["states"]["completed"], report["answer_rate"]) == (3, 3, 1.0)
    assert not [secret for secret in ("+658766", scene.API_KEY) if secret in json.dumps(report)]
    assert called(on, 1, 2, 3) == [1, 1, 1]


def test_too_many_failures_fail_the_task_and_a_call_that_fail_on_names_twice_counts_once(on: Stage) -> None:
    outcomes = ["BUSY"] * 6 + ["FAILED"] * 2 + ["COMPLETED"] * 2
    people = [f"+65876638{place}" for place in range(70, 80)]
    on.order("script", [{"destination": each, "outcome": end} for each, end in zip(people, outcomes, strict=True)])
    for fail_on, ratio, bad in (
        (("failed", "expired"), 0.2, 0),
        (("failed", "expired"), 0.1, 2),
        (("unreached", "busy"), 0.6, 0),
        (("unreached", "busy"), 0.5, 6),
        (("busy", "completed"), 0.5, 8),
        (("failed", "busy"), 0.5, 8),
        (("BUSY",), 0.5, 6),
        (("unreached",), 0.5, 6),
    ):
        task = campaign([row(each) for each in people], fail_on=fail_on, fail_ratio=ratio)
        if bad:
            with refused(f"{bad} of 10 calls ended as {', '.join(fail_on)}"):
                task.execute(context("failing"))
        else:
            assert task.execute(context("failing"))["total"] == 10


def test_a_list_that_is_refused_says_why_and_a_remedy_that_is_given_as_it_is_named_calls_whom_it_should(
    on: Stage,
) -> None:
    def stored(people: list[dict[str, Any]], **given: Any) -> list[int]:
        run = given.pop("run", "one")
        campaign(people, **{**STORED, "say": "Hello.", **given}).execute(context("told", run=run))
        return [len(scene.jobs_to(on, each["destination"])) for each in people]

    def said_of(people: list[dict[str, Any]], **given: Any) -> str:
        with pytest.raises(AirflowFailException) as caught:
            stored(people, **given)
        said = str(caught.value)
        assert re.search(r"object at 0x|\b[A-Z]\w+\(\w+=|voiceProfile", said) is None, "no object of ours, and no body"
        return said

    many = rows(80, 81, 82)
    assert "3 rows would be called, and most allows 1" in said_of(many, most=1)
    assert stored(many, most=3) == [1, 1, 1]

    marked = [{**each, "Do not call": "x" if at else ""} for at, each in enumerate(rows(83, 84, 85))]
    said = said_of(marked, most=1)
    assert "Do not call says by its name" in said
    assert "most allows 1" in said
    remedies = re.findall(r"(leave_out\w*|columns): ([^;)]+)", said)
    assert [name for name, _ in remedies] == ["leave_out", "columns"]
    for (name, value), expected in zip(remedies, ([1, 0, 0], [2, 1, 1]), strict=True):
        assert stored(marked, **{name: value}, say=f"Hello by {name}.", run=name) == expected

    twice = rows(86, 87)
    assert stored(twice, say="Come.") == [1, 1]
    said = said_of(twice, say="Come.", run="two")
    assert "2 rows would say the same text to a number as another batch, such as +6587663086" in said
    assert "No new call was made" in said
    assert "set again=True" in said
    assert "once_per='dag'" in said
    assert stored(twice, say="Come.", run="three", again=True) == [2, 2]
    assert stored(twice, say="Come on Friday.", run="four") == [3, 3]


def test_a_deferred_campaign_waits_for_its_batch_and_ends_with_what_the_event_alone_brings(
    on: Stage, hasty: None
) -> None:
    """`airflow dags test` resumes a task with the event, and drops all other arguments."""
    on.order("script", {"destination": "+6587663131", **scene.LASTING})
    people = [row("+6587663131")]
    task = campaign(people, deferrable=True)
    trigger = scene.deferred(task, context("deferred"))
    _, kwargs = trigger.serialize()
    assert (kwargs["batch_id"][:13], scene.API_KEY in json.dumps(kwargs)) == ("dag.deferred.", False)
    scene.end_call(on, "+6587663131")
    event = asyncio.run(scene.event_of(trigger))
    result = campaign(people, deferrable=True).execute_complete(context("deferred"), event)
    assert (result["total"], result["rows"]["enqueued"]) == (1, 1)


def test_a_task_that_is_stopped_between_its_enqueueing_and_its_sending_fails_and_the_next_try_calls(on: Stage) -> None:
    class Stopped(VoiceCampaignOperator):
        def _go_on(self, *given: Any, **more: Any) -> None:
            super()._go_on(*given, **more)
            self.on_kill()

    for deferrable in (False, True):
        with refused("stopped", is_final=False):
            Stopped(**{**scene.USUAL, "deferrable": deferrable}, say="Hi.", rows=rows(50)).execute(
                context("stopped-early")
            )
    assert called(on, 50) == [0]
    assert campaign(rows(50), say="Hi.").execute(context("stopped-early"))["states"]["completed"] == 1
    assert called(on, 50) == [1]


def test_a_task_that_does_not_wait_sends_all_that_is_due_and_tells_what_is_left_for_a_worker(
    on: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider.operators.voice_task.SENT_WITHIN", timedelta(0))
    later = {"not_before": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    with caplog.at_level("WARNING"):
        campaign([*rows(70, 71, 72), {**rows(73)[0], **later}], wait_for=None).execute(context("unwaited"))
    assert called(on, 70, 71, 72, 73) == [1, 1, 1, 0]
    assert "calls that are due later: 1. This task does not wait for them" in caplog.text


@pytest.mark.slow
def test_a_list_that_another_run_gives_again_does_what_it_does_elsewhere(on: Stage, tmp_path: Path) -> None:
    """By a later run, or by a later try that has keys now."""
    path, rang = tmp_path / "people.csv", dict[str, int]()
    for place, (name, (first, second, ordered, results, told)) in enumerate(GIVEN_AGAIN.items(), 20):
        fields = {"country": "SG", "columns": "destination=Mobile", "time_zone": "Asia/Singapore", "batch": f"b{place}"}
        first_ordered = {"skip_bad": "yes"} if ordered is MENDED else {}
        other_run = "first" if name == "with keys" else "later"
        for people, more, said, run in ((first, first_ordered, "", "first"), (second, ordered, told, other_run)):
            path.write_text(people.replace("8765 43", f"8766 {place}"))
            given = {"rows": None, "file": str(path), "say": "Hello.", **fields, **STORED, **more}
            task = campaign(**{**given, "say": f"{given['say']} {place}"})
            with refused(said) if said else nullcontext():
                task.execute(context(name, run=run))
        is_due, gone = "not_before" not in first, {"22"} if "cancelled" in results else set()
        for end in {*re.findall("8765 43(..)", first + second)}:
            rang[f"+658766{place}{end}"] = (1 + ("again" in ordered)) * is_due * (end not in gone)
    on.order("script", [{"destination": number, "outcome": "COMPLETED"} for number in rang])
    scene.drain(on)
    assert dict(zip(rang, rings(on, *rang), strict=True)) == rang


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
        given, said = {"rows": None, "say": None, form: people, **fields, "again": True, **STORED}, ""
        try:
            with caplog.at_level("INFO"):
                campaign(**given).execute(context(f"case-{place}"))
        except AirflowFailException as error:
            said = str(error)
        jobs = scene.in_queue(on, partial(CallQueue.find, batch_id=fields["batch"], limit=None))
        assert texts_of(jobs) == [*case.heard], (case, caplog.text)
        assert case.told.replace("recall", fields["batch"]) in caplog.text + said, case
