"""What is printed: text of strangers, secrets, logs."""

from __future__ import annotations

import csv
import gc
import json
import logging
import re
from pathlib import Path

import pytest
import structlog

from tests.cli.running import Program
from tests.cli.stored import url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow
from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker import CallRequest
from voiceflow_worker.cli.opening import calls_logged, log_to_stderr
from voiceflow_worker.cli.output import Output
from voiceflow_worker.core import tracing
from voiceflow_worker.model.jobs.job import JobState, Post
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\x08\u202eevil\u2066\u2069\u2028"
"""A window title, a cleared screen, a colour in its 8-bit form, overwriting, and a line turned around."""
UNWANTED = frozenset(STEERING) - set("]0;owned[2J31mevil")


def _with_a_summary_that_steers(folder: Path) -> str:
    async def work(engine: Engine) -> str:
        await engine.queue.enqueue_many(
            [CallRequest(flow=flow(), batch_id=f"b{STEERING}", unique_key=f"k{STEERING}", priority=1)]
        )
        leased_at = engine.store.clock.monotonic()
        (dispatch,) = await engine.submitter.prepare(await engine.lease(1), leased_at=leased_at)
        await engine.finish(dispatch)
        summary = SessionSummary(
            session_id=f"session-{dispatch.job.id}.1",
            status=SessionStatus.FAILED,
            status_text="FAILED",
            client_request_id=f"{dispatch.job.id}.1",
            error_code=-5000,
            error_message=f"message {STEERING}",
        )
        await engine.settler.summary(summary)
        return dispatch.job.id

    return within(folder, work)


def test_no_command_prints_what_steers_a_terminal(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = _with_a_summary_that_steers(voiceflow.folder)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    table = voiceflow.folder / "report.csv"
    for command in (
        ["calls", "list"],
        ["calls", "show", job_id],
        ["calls", "cancel", job_id],
        ["hold", "--batch", f"b{STEERING}", "--note", STEERING],
        ["status"],
        ["doctor"],
        ["report", "--batch", f"b{STEERING}"],
        ["report", "--csv", str(table)],
        ["calls", "redial", job_id, "--note", f"{STEERING}\nforged line"],
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
            assert "\nforged" not in printed, "a line of a story stays one line"
    text = table.read_text()
    assert not UNWANTED & set(text)
    assert r"\x1b[2J" in text, "what was there can still be seen"
    (row,) = csv.DictReader(table.read_text("utf-8-sig").splitlines())
    assert r"message \x1b]0;owned" in row["message"]
    (call,) = voiceflow("calls", "list", "--json").lines
    assert call["batch_id"] == f"b{STEERING}", "in JSON nothing is changed"


def test_what_people_write_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Zoë, 你好, שלום\u200f, می‌خواهم, 👨‍👩‍👧, a\u00a0b, so\u00adft\ttab"
    Output().say(text)
    assert capsys.readouterr().out == text + "\n"


SECRET = 'QZ"QZ\\QZ'


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_log_line_steers_nothing_and_shows_no_secret_and_no_value_of_an_exception(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    def fail(pressed: str) -> None:
        raise ValueError(f"{len(pressed)} keys, {STEERING}, {SECRET} and amqp://me:QZ@host")

    log_to_stderr(form=form, level="warning", secrets=[SECRET])
    ours, theirs = structlog.get_logger("voiceflow.worker"), logging.getLogger("somebody")
    ours.info("below the level")
    ours.warning(f"event {STEERING}", error=f"{STEERING}\nforged line", url="redis://me:QZ/QZ@host", more=[SECRET])
    theirs.warning("theirs %s and http://QZ@host", f"{STEERING}\nforged line {SECRET}")
    try:
        fail("47" + "11")
    except ValueError:
        ours.exception("a bug")
        theirs.exception("their bug")
    out, err = capsys.readouterr()
    assert not UNWANTED & set(err)
    assert not any(line.startswith("forged") for line in err.splitlines())
    assert (out, "owned" in err, "4 keys" in err) == ("", True, True)
    assert not re.search("QZ|4711|below", err), "local variables hold numbers, data and keys pressed"
    if form == "json":
        lines = [json.loads(line) for line in err.splitlines()]
        assert [line["level"] for line in lines] == ["warning", "warning", "error", "error"]
        assert lines[0]["error"] == f"{STEERING}\nforged line"
        assert all("timestamp" in line for line in lines)


@pytest.mark.parametrize("form", ["console", "json"])
def test_the_steps_of_calls_are_lines_like_others_and_below_the_level_none(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    post = Post(number=1, client_request_id="q.1.1-of-calls", began_at=NOW, valid_until=NOW)
    job = a_job(JobState.SENDING, post_count=1, posts=(post,), batch_id="in two words")
    for level in ("info", "warning"):
        log_to_stderr(form=form, level=level, secrets=["of-calls"])
        with calls_logged():
            structlog.get_logger().warning("before")
            tracing.post_ended(None, job, Verdict(kind=VerdictKind.CREATED, message=""))
            fields = {"job": job.id, "post": post.client_request_id, "batch": job.batch_id, "verdict": "created"}
            structlog.get_logger().info("like it", **fields)
    err = capsys.readouterr().err
    before, sent, like, last = err.splitlines()
    assert "of-calls" not in err
    assert "before" in before
    assert "before" in last
    if form == "console":
        assert sent[27:] == like[27:].replace("like it", "8x8 answered")
        assert " batch='in two words' " in sent
    else:
        assert {**json.loads(like), "event": "", "timestamp": ""} == {**json.loads(sent), "event": "", "timestamp": ""}


ODD = ["QZ", "QZ/QZ", "QZ@QZ", "QZ%2FQZ", "QZ#QZ", "QZ?QZ", "QZ&QZ=QZ", "QZ[QZ", "QZ QZ", "QZéQZ\u2100QZ"]
URLS = [
    "redis://me:{}@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?sentinel_password={}",
    "redis+cluster://me:{}@127.0.0.1:1,127.0.0.1:2",
    "nosuch://me:{}@host/0?token={}",
    "me:{}@host",
    "sqlite:///calls.db?key={}",
]


# The Redis client leaves streams of connections that it could not make to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_password_of_a_store_is_shown_nowhere(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STATE_DIR", str(voiceflow.folder / "state"))
    for place, url in enumerate(URLS):  # opening a Redis that is away takes its time
        commands = (
            [["config", "show"], ["doctor"], ["status"], ["worker", "--drain"]] if place % 3 == 0 else [["status"]]
        )
        for command in commands:
            store = url.replace("{}", ODD[place + 1])
            monkeypatch.setenv("VOICEFLOW_STORE", store)
            ended = [voiceflow(*command)]
            monkeypatch.delenv("VOICEFLOW_STORE")
            if command == ["status"]:
                ended.append(voiceflow(*command, "--store", store))
            assert not any("QZ" in each.out + each.err for each in ended), (command, store)
    gc.collect()  # while their warnings are ignored


@pytest.mark.parametrize("name", ["STORE", "BASE_URL", "NOTIFY_URL"])
def test_no_key_in_an_address_is_shown(voiceflow: Program, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for url in URLS if name == "STORE" else ("https://me:{}@voice.example.com", "https://{}@voice.example.com"):
        for odd in ODD:
            monkeypatch.setenv(f"VOICEFLOW_{name}", url.replace("{}", odd))
            ended = voiceflow("config", "show")
            assert "QZ" not in ended.out + ended.err, (url, odd)


def test_options_of_a_store_that_are_not_secrets_are_shown(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis+sentinel://me:x@s1/calls?sentinel_password=QZ&durability=best-effort"
    monkeypatch.setenv("VOICEFLOW_STORE", url)
    found = {line["setting"]: line["value"] for line in voiceflow("config", "show", "--json").lines}
    assert found["VOICEFLOW_STORE"] == "redis+sentinel://me:***@s1/calls?***&durability=best-effort"


def test_the_log_of_a_command_hides_the_secrets_of_its_settings(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("QZ-from-a-file\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET", "Bearer QZ-webhook")
    assert voiceflow("config", "show").code == 0
    logging.getLogger("somebody").warning("Authorization: Bearer QZ-from-a-file, Bearer QZ-webhook")
    assert "QZ" not in capfd.readouterr().err


def test_a_command_that_would_send_the_key_unencrypted_ends_before_it(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_BASE_URL", "http://10.255.255.1:9")
    monkeypatch.setenv("VOICEFLOW_API_KEY", "QZ-key")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    for command in (
        ["worker", "--drain"],
        ["account", "profiles"],
        ["reconcile"],
        ["serve", "--register", "https://x.example"],
    ):
        ended = voiceflow(*command)
        assert ended.code == 2, ended
        assert "VOICEFLOW_ALLOW_PLAIN_HTTP" in ended.err
        assert "QZ" not in ended.out + ended.err
    ended = voiceflow("doctor")
    assert "VOICEFLOW_ALLOW_PLAIN_HTTP" in ended.out
