"""What the logs of a service tell of one call, of a store that is away, and of requests."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import structlog
from structlog.typing import Processor

from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Spawned
from tests.support.redis_server import free_port, standalone
from tests.support.waiting import wait_until
from tests.webhooks.receiving import summary
from voiceflow_worker.asgi.gatekeeper import shown_path
from voiceflow_worker.cli.opening import log_to_stderr
from voiceflow_worker.core.tracing import mask_logs

ROOT = Path(__file__).parents[2]
NUMBER, SECRET = "+6581234567", "Bearer of-news-of-calls-1"
PEOPLE = f"destination,name\n{NUMBER},Ana Maria\n"


def logged(told: list[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in list(told) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.slow
def test_one_call_is_told_by_its_post_its_answer_and_its_outcome(eight: EightByEight, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **eight.environment, "VOICEFLOW_STORE": f"sqlite:///{tmp_path}/calls.db", "VOICEFLOW_LOG_FORMAT": "json",
        "VOICEFLOW_WEBHOOK_SECRET": SECRET, "VOICEFLOW_OUTCOMES": "webhook", "VOICEFLOW_SOURCE": "+6531234567",
        "VOICEFLOW_VOICE_PROFILE": "en-SG-LunaNeural",
    }  # fmt: skip
    (tmp_path / "people.csv").write_text(PEOPLE)
    enqueue = ["enqueue", "people.csv", "--say", "Hello {{name}}", "--batch", "march"]
    with Spawned(enqueue, tmp_path, environment) as enqueued:
        assert enqueued.end().code == 0
    address = f"http://127.0.0.1:{port}/webhooks/8x8"
    serve = ["serve", "--port", port, "--access-log", "--force", "--register", address]
    with Spawned(serve, tmp_path, environment) as receiver:
        receiver.wait_for("8x8 now sends VSS")
        with Spawned(["worker"], tmp_path, environment) as worker:
            worker.wait_for("8x8 answered")
            receiver.wait_for("an outcome came")
            sent = worker.stop()
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/suppression/{NUMBER}?x={NUMBER}", trust_env=False)
        assert answer.status_code == 404
        receiver.wait_for("/v1/suppression/")
        received = receiver.stop()
    (answered,) = logged(sent.err.splitlines(), "8x8 answered")
    (outcome,) = logged(received.err.splitlines(), "an outcome came")
    assert len({(line["job"], line["post"], line["batch"], line["level"]) for line in (answered, outcome)}) == 1
    assert answered["level"] == "info"
    assert answered["verdict"] == "created"
    assert outcome["session"] == answered["session"]
    assert outcome["state"] in {"completed", "unreached"}
    requests = logged(received.err.splitlines(), "request")
    assert ("POST", "/webhooks/8x8", 200) in [(each["method"], each["path"], each["status"]) for each in requests]
    assert requests[-1]["path"] == "/v1/suppression/…"
    for line in (*sent.err.splitlines(), *received.err.splitlines()):
        assert not re.search(r"81234567|Ana|Maria|Hello", line), line


def test_a_path_shows_ids_and_no_number() -> None:
    assert shown_path("/v1/calls/default.01JB3W8Z5Q7X9V2K4M6N8P0R2T") == "/v1/calls/default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"
    for number in ("+6581234567", "6581234567", "%2B6581234567", "8123 4567"):
        assert shown_path(f"/v1/people/{number}") == "/v1/people/…"


@pytest.mark.slow
def test_a_store_that_is_away_is_told_once_in_ten_seconds_for_each_thing_that_fails(
    eight: EightByEight, tmp_path: Path
) -> None:
    redis = standalone(tmp_path).start()
    environment = {**eight.environment, "VOICEFLOW_STORE": redis.url, "VOICEFLOW_LOG_FORMAT": "json"}
    environment |= {"VOICEFLOW_WEBHOOK_SECRET": SECRET}
    try:
        port = free_port()
        with (
            Spawned(["serve", "--port", port], tmp_path, environment) as receiver,
            Spawned(["worker", "--rate", "unlimited"], tmp_path, environment) as worker,
        ):
            receiver.wait_for("is ready")
            worker.wait_for("voiceflow worker sends")
            redis.kill()
            until = time.monotonic() + 12
            while time.monotonic() < until:
                httpx.post(f"http://127.0.0.1:{port}/webhooks/8x8", json=summary(), headers={"Authorization": SECRET})
                httpx.get(f"http://127.0.0.1:{port}/readyz")
            wait_until(lambda: len(worker.running.stderr) > 1, "a line")
            told = [receiver.stop().err, worker.stop().err]
    finally:
        redis.kill()
    for err in told:
        lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        seen: dict[tuple[str, str], float] = {}
        for line in lines:
            at = _seconds(line["timestamp"])
            key = (line["event"], line.get("error", ""))
            assert at - seen.get(key, at - 60) > 9.5, line
            seen[key] = at
        assert len(lines) < 20, err


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_a_repeated_warning_of_one_fault_is_told_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form="json", level="info")
    log = structlog.get_logger()
    for _ in range(5):
        log.warning("nothing is stored", error="the store is away")
        log.error("evidence of one call", error="the store is away")
    log.warning("nothing is stored", error="another fault")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines].count("error") == 5, "what only this line has is never left out"
    assert [line["error"] for line in lines if line["level"] == "warning"] == ["the store is away", "another fault"]


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
            # With its place: a repeated warning is left out.
            getattr(log, level)(f"{event} {place} {said}", **given, exc_info=True)
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
        "session": "12345678-1234-1234-1234-123456789012", "calls": 999_999,
        "seconds": 1.23456789, "why": None, "is": True,
    }  # fmt: skip
    structlog.get_logger().info("8x8 answered", **fields, to=NUMBER, number=int(NUMBER), row={"cell": 81234567.0})
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert {name: line[name] for name in fields} == fields
    assert [line["to"], line["number"], line["row"]] == ["+65******67", "********67", {"cell": "*******7.0"}]


def test_a_log_that_a_program_has_set_up_is_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    was = structlog.get_config()
    program: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(processors=[structlog.dev.ConsoleRenderer(colors=False)])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    hook = sys.excepthook
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
        sys.excepthook = hook
        logging.getLogger().removeHandler(handler)
        structlog.configure(**was)
    told = "".join(capsys.readouterr())
    assert told.count("no +65******67") == 4
    assert "81234567" not in told
