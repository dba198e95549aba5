"""What the logs of a service tell of one call, of a store that is away, and of requests."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Spawned
from tests.support.redis_server import free_port, standalone
from tests.support.waiting import wait_until
from tests.webhooks.receiving import summary
from voiceflow_worker.asgi.gatekeeper import shown_path
from voiceflow_worker.cli.opening import log_to_stderr

NUMBER, SECRET = "+6581234567", "Bearer of-news-of-calls-1"
PEOPLE = f"destination,name\n{NUMBER},Ana Maria\n"


def logged(told: list[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in list(told) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


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
    (post,) = logged(sent.err.splitlines(), "a call is sent")
    (answered,) = logged(sent.err.splitlines(), "8x8 answered")
    (outcome,) = logged(received.err.splitlines(), "an outcome came")
    assert len({(line["job"], line["post"], line["batch"], line["level"]) for line in (post, answered, outcome)}) == 1
    assert post["level"] == "info"
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
