"""Text from strangers is printed as text: it neither steers the terminal nor changes the order of a line."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest
import structlog

from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow
from voiceflow_worker import CallRequest
from voiceflow_worker.cli.opening import log_to_stderr
from voiceflow_worker.cli.output import Output
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\x08\u202eevil\u2066\u2069\u2028"
"""A window title, a cleared screen, a colour in its 8-bit form, overwriting, and a line turned around."""
UNWANTED = frozenset(STEERING) - set("]0;owned[2J31mevil")


def _with_a_summary_that_steers(folder: Path) -> str:
    async def work(engine: Engine) -> str:
        await engine.queue.enqueue_many(
            [CallRequest(flow=flow(), batch_id=f"b{STEERING}", unique_key=f"k{STEERING}", priority=1)]
        )
        leased_at = engine.store.clock.monotonic()
        (flight,) = await engine.submitter.prepare(await engine.lease(1), leased_at=leased_at)
        await engine.submitter.fly(flight)
        summary = SessionSummary(
            session_id=f"session-{flight.job.id}.1",
            status=SessionStatus.FAILED,
            status_text="FAILED",
            client_request_id=f"{flight.job.id}.1",
            error_code=-5000,
            error_message=f"message {STEERING}",
        )
        await engine.settler.summary(summary)
        return flight.job.id

    return within(folder, work)


def test_no_command_prints_what_steers_a_terminal(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = _with_a_summary_that_steers(voiceflow.folder)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    page, table = voiceflow.folder / "report.html", voiceflow.folder / "report.csv"
    for command in (
        ["calls", "list"],
        ["calls", "show", job_id],
        ["calls", "cancel", job_id],
        ["hold", "--batch", f"b{STEERING}", "--reason", STEERING],
        ["status"],
        ["doctor"],
        ["report", "--batch", f"b{STEERING}"],
        ["report", "--csv", str(table), "--html", str(page)],
        ["calls", "redial", job_id, "--note", STEERING],
        ["calls", "show", job_id],
        ["calls", "show", f"default.{STEERING}"],
    ):
        for options in ([], ["--json"]):
            if options and command[0] in {"hold", "doctor"}:
                continue
            ended = voiceflow(*command, *options)
            printed = ended.out + ended.err
            assert printed, command
            assert not UNWANTED & set(printed), (command, options, printed)
    for file in (page, table):
        text = file.read_text()
        assert not UNWANTED & set(text), file
        assert r"\x1b[2J" in text, "what was there can still be seen"
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert r"message \x1b]0;owned" in row["message"]
    (call,) = voiceflow("calls", "list", "--json").lines
    assert call["batch_id"] == f"b{STEERING}", "in JSON nothing is changed"


def test_a_line_of_a_story_stays_one_line(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = enqueued(voiceflow.folder)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    voiceflow("calls", "cancel", job.id, "--reason", "wrong\nforged line")
    assert r"wrong\nforged line" in voiceflow("calls", "show", job.id).out


def test_what_people_write_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Zoë, 你好, שלום\u200f, می‌خواهم, 👨‍👩‍👧, a\u00a0b, so\u00adft\ttab"
    Output().say(text)
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_log_line_steers_nothing(capsys: pytest.CaptureFixture[str], form: str) -> None:
    log_to_stderr(form=form, level="info")
    structlog.get_logger().warning(f"event {STEERING}", error=f"value {STEERING}\nforged line", more=[STEERING])
    logging.getLogger("somebody").warning("theirs %s", f"{STEERING}\nforged line")
    try:
        raise ValueError(STEERING)
    except ValueError:
        structlog.get_logger().exception("a bug")
        logging.getLogger("somebody").exception("their bug")
    err = capsys.readouterr().err
    assert not UNWANTED & set(err)
    assert not any(line.startswith("forged") for line in err.splitlines())
    assert "owned" in err
    if form == "json":
        assert json.loads(err.splitlines()[0])["error"] == f"value {STEERING}\nforged line"
