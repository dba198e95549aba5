"""What is printed and logged: text of strangers, secrets, calls, requests."""

from __future__ import annotations

import ast
import csv
import gc
import json
import logging
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
from structlog.typing import Processor

import voiceflow_worker
from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Program, Spawned
from tests.cli.stored import empty, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow
from tests.support.plain_jobs import NOW, a_job
from tests.support.redis_server import free_port
from voiceflow_worker import CallRequest
from voiceflow_worker.campaigns.fields import FIELDS
from voiceflow_worker.cli.opening import log_to_stderr
from voiceflow_worker.cli.output import Output, with_remedies
from voiceflow_worker.cli.program import program
from voiceflow_worker.core import logs
from voiceflow_worker.core.logs import mask_logs
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
            [CallRequest(flow=flow(), batch=f"b{STEERING}", unique_key=f"k{STEERING}", priority=1)]
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
        with logs.logged():
            structlog.get_logger().warning("before")
            logs.answered(job, 1, Verdict(kind=VerdictKind.CREATED, message=""))
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
    "redis://me:{}@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password={}",
    "redis+sentinel://me:{}@127.0.0.1:1,127.0.0.1:2/s", "nosuch://me:{}@host/0?token={}", "me:{}@host",
    "sqlite:///calls.db?key={}",
]  # fmt: skip


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
    url = "redis+sentinel://me:x@s1/calls?password=QZ&durability=best-effort"
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


PACKAGE = Path(voiceflow_worker.__file__).parent
MESSAGE_FIELD = re.compile(r"`([a-z_]+)(?:: |`)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def said() -> list[str]:
    """Every command in backquotes, in every message and docstring of the package."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        # A message that goes on in the next line is one string to Python.
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        found.update(match[1] for match in re.finditer(r"`(voiceflow [^`]*)`", text))
    return sorted(found)


def test_what_people_wrote_is_printed_as_they_wrote_it(voiceflow: Program) -> None:
    """It may have the words of a remedy."""
    file, said = "name the batch.csv", "first restore a backup"
    (voiceflow.folder / file).write_text("destination\n6322 2222\n", encoding="utf-8")
    text = ("--say", "Hello", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567")
    assert voiceflow("check", file, *text, "--json").lines[0]["file"] == file
    assert file in voiceflow("check", file, *text).out
    store = ("--store", empty(voiceflow.folder))
    assert voiceflow("hold", "--note", said, "--json", *store).document["reason"] == said
    assert said in voiceflow("status", *store).out


def test_a_command_that_a_message_names_exists_with_its_options() -> None:
    everything = program()
    for command in said():
        words, app = command.split()[1:], everything
        while words and (words[0] in list(app) or app is everything or app.default_command is None):
            if (name := words.pop(0)).startswith("{"):  # filled in when it is told
                break
            assert name in list(app), f"`{command}`: there is no {name}"
            app = app[name]
        else:
            groups = app.default_command is None  # it is named as such
            known: set[str] = (
                set() if groups else {name for each in app.assemble_argument_collection() for name in each.names}
            )
            assert set(OPTION.findall(command)) <= known | {"--help"}, command


def test_a_message_has_the_options_of_the_fields_that_it_tells_to_change() -> None:
    assert with_remedies("Set `country` (such as SG).") == "Set `--country` (such as SG)."
    assert with_remedies("or `columns: ignore=A B`") == "or `--columns 'ignore=A B'`"
    assert with_remedies("`voiceflow doctor`, `nothing`") == "`voiceflow doctor`, `nothing`"


def test_the_fields_that_messages_name_are_fields() -> None:
    fields, others = {each.name for each in FIELDS}, {"holidays", "main"}
    for path in (each for name in ("campaigns", "core", "ivr", "model") for each in (PACKAGE / name).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        texts = (each for each in ast.walk(tree) if isinstance(each, ast.Constant) and id(each) not in docs)
        named = {name for each in texts if isinstance(each.value, str) for name in MESSAGE_FIELD.findall(each.value)}
        assert named <= fields | others, path


# -- what the logs of a service tell of one call, of a store that is away, and of requests -----------------------------

ROOT = Path(__file__).parents[2]
NUMBER, OF_WEBHOOKS = "+6581234567", "Bearer of-news-of-calls-1"
PEOPLE = f"destination,name\n{NUMBER},Ana Maria\n"


def logged(told: list[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in list(told) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.slow
def test_one_call_is_told_by_its_post_its_answer_and_its_outcome(eight: EightByEight, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **eight.environment, "VOICEFLOW_STORE": f"sqlite:///{tmp_path}/calls.db", "VOICEFLOW_LOG_FORMAT": "json",
        "VOICEFLOW_WEBHOOK_SECRET": OF_WEBHOOKS, "VOICEFLOW_OUTCOMES": "webhook", "VOICEFLOW_SOURCE": "+6531234567",
        "VOICEFLOW_VOICE_PROFILE": "en-SG-LunaNeural",
    }  # fmt: skip
    (tmp_path / "people.csv").write_text(PEOPLE)
    enqueue = ["enqueue", "people.csv", "--say", "Hello {{name}}", "--batch", "march"]
    with Spawned(enqueue, tmp_path, environment) as enqueued:
        assert enqueued.end().code == 0
    address = f"http://127.0.0.1:{port}/webhooks/8x8"
    serve = ["serve", "--port", port, "--force", "--register", address]
    with Spawned(serve, tmp_path, environment) as receiver:
        receiver.wait_for("8x8 now sends VSS")
        with Spawned(["worker"], tmp_path, environment) as worker:
            worker.wait_for("8x8 answered")
            receiver.wait_for("an outcome came")
            sent = worker.stop()
        received = receiver.stop()
    (answered,) = logged(sent.err.splitlines(), "8x8 answered")
    (outcome,) = logged(received.err.splitlines(), "an outcome came")
    assert len({(line["job"], line["post"], line["batch"], line["level"]) for line in (answered, outcome)}) == 1
    assert answered["level"] == "info"
    assert answered["verdict"] == "created"
    assert outcome["session"] == answered["session"]
    assert outcome["state"] in {"completed", "unreached"}
    for line in (*sent.err.splitlines(), *received.err.splitlines()):
        assert not re.search(r"81234567|Ana|Maria|Hello", line), line


SPELLINGS = (
    "+6581234567", "6581234567", "81234567", "+65 8123 4567", "8123-4567", "(8123) 4567", "0065 8123.4567",
    "%2B6581234567", "\\u002b6581234567", "tel:+65-8123-4567",
    "\uff16\uff15\uff18\uff11\uff12\uff13\uff14\uff15\uff16\uff17",
    "65%208123%204567", "%2865%29%208123-4567", "65+8123+4567", "8123%C2%A04567", "+65  8123  4567", "[65] [8123] 4567",
    "8123\t4567", "8123\u202f4567", "8123\u2011 4567", "8123\xa04567", "8123 \u2013 4567", "6581234567x12",
    "+6581234567Ann", "8123 / 4567", "8123. 4567", "(65) - 8123 4567", "8123\u200b4567", "+65\u202a8123\u202c4567",
    "\ufeff8123\u200e 4567", "8123\r\n4567", "8123\uff0d4567", "8123\u30004567", "8123%2F4567",
    "65%2D8123%E2%80%8B4567",
)  # fmt: skip
AROUND = (
    "{}", "call to {} failed", "https://8x8.example/v1/people/{}?number={}", '{{"destination":"{}"}}', "'\\n{}\\t'",
    "rec_{}.wav", "to={}&from=%20{}", "sip:{}", "8 calls,{};{}",
)  # fmt: skip
HAS_NUMBER = re.compile(r"8\W{0,3}1\W{0,3}2\W{0,3}3\W{0,3}4\W{0,3}5\W{0,3}6\W{0,3}7")


def logged_events() -> list[tuple[str, str, tuple[str, ...]]]:
    """The level, the event and the fields of each call of a logger in the sources."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for path in (ROOT / "voiceflow_worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        attr="info" | "warning" | "error" | "exception" as level, value=ast.Name(id=name)
                    )
                ) if name.lower().strip("_") in {"log", "calls", "access"}:
                    event = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "found"
                    found.append((level, str(event), tuple(each.arg for each in node.keywords if each.arg)))
                case _:
                    pass
    return found


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_of_a_masked_log_has_a_whole_number(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    events = logged_events()
    assert len(events) > 70
    texts = [
        around.replace("{{", "{").replace("}}", "}").replace("{}", number) for number in SPELLINGS for around in AROUND
    ]
    log_to_stderr(form=form, level="info", masked=True)
    log = structlog.get_logger()
    for place, (level, event, fields) in enumerate(events):
        # Each spelling, and each place in a text, stands in an event and in an error.
        said, other = (texts[turn * place % len(texts)] for turn in (29, 67))
        error = ValueError(other)
        values = [said, error, [said], {said: {"of": (said, 1)}}, said.encode(), {"when": error}]
        given: dict[str, Any] = {name: values[(place + at) % len(values)] for at, name in enumerate(fields)}
        given |= {"error": f"{said} is wrong"} if "error" in given else {}
        given.pop("exc_info", None)
        try:
            raise RuntimeError(said) from error
        except RuntimeError:
            getattr(log, level)(f"{event} {said}", **given, exc_info=True)
            logging.getLogger(f"other.{place}").exception("place %s: %s", place, said)
    out = capsys.readouterr().err
    for line in out.splitlines():
        plain = re.sub(r"\\+([nrt]|x(?![0-7])..|ufeff|u20..|u3000)", "", unicodedata.normalize("NFKC", unquote(line)))
        assert not HAS_NUMBER.search(plain), line
    assert out.count("Traceback") >= 2 * len(events)
    if form == "json":
        for line in out.splitlines():
            assert isinstance(json.loads(line), dict), line


def test_a_masked_log_keeps_times_ids_and_small_figures(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form="json", level="info", masked=True)
    fields = {
        "at": "2026-11-27T23:32:23.123456Z", "day": "27/11/2026", "job": "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T.1",
        "session": "1f2e3d4c-1234-4b5a-9c8d-123456abcdef", "calls": 999_999,
        "seconds": 1.23456789, "why": None, "is": True,
    }  # fmt: skip
    structlog.get_logger().info("8x8 answered", **fields, to=NUMBER, number=int(NUMBER), row={"cell": 81234567.0})
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert {name: line[name] for name in fields} == fields
    assert [line["to"], line["number"], line["row"]] == ["+65******67", "********67", {"cell": "*******7.0"}]


def test_a_log_that_a_program_has_set_up_is_masked_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    was = structlog.get_config()
    program: list[Processor] = [
        structlog.stdlib.add_log_level, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(),
    ]  # fmt: skip
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[structlog.dev.ConsoleRenderer(colors=False)]))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    try:
        structlog.configure(processors=program, cache_logger_on_first_use=True)
        log = structlog.get_logger()
        log.warning("begins")
        mask_logs()
        mask_logs()
        try:
            raise RuntimeError(f"no {NUMBER}")
        except RuntimeError as error:
            log.exception("a task failed", number=NUMBER)
            logging.getLogger("another").exception("a task to %s failed", NUMBER)
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        structlog.configure(**was)
    told = "".join(capsys.readouterr())
    assert told.count("no +65******67") == 4
    assert "81234567" not in told
