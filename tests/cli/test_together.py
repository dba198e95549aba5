"""Sandbox, receiver and worker as three processes, as on somebody's machine."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.running import TIMEOUT, Spawned
from tests.cli.stored import enqueued, url_of

SETTINGS = {
    "VOICEFLOW_API_KEY": "key-1",
    "VOICEFLOW_SUB_ACCOUNT": "acme",
    "VOICEFLOW_WEBHOOK_SECRET": "Bearer of-news",
}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        return answer.read().decode()


def status_of(url: str, *, authorization: str) -> int:
    """What a POST of an empty object is answered with."""
    request = urllib.request.Request(url, data=b"{}", headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_a_campaign_goes_from_a_store_to_its_outcomes(folder: Path) -> None:
    jobs = enqueued(folder, 12, batch_id="march")
    store = ["--store", url_of(folder)]
    with Spawned(["serve", "--port", "0", *store], folder, SETTINGS) as serve:
        receiver = serve.wait_for("voiceflow serve is ready on").split()[5].rstrip(",")
        sandbox_options = ["--port", "0", "--api-key", "key-1", "--seed", "7", "--speed", "200", "--webhook", receiver]
        with Spawned(["sandbox", *sandbox_options], folder, SETTINGS) as sandbox:
            base = sandbox.wait_for("voiceflow sandbox is ready on").split()[5].rstrip(";")
            environment = {**SETTINGS, "VOICEFLOW_BASE_URL": base}
            with Spawned(["worker", "--drain", "--rate", "50", "--json", *store], folder, environment) as worker:
                drained = worker.end()
            ledger = json.loads(get(f"{base}/_sandbox/calls"))
            health = get(receiver.replace("/webhooks/8x8", "/healthz"))
            assert status_of(receiver, authorization="Bearer of-lies") == 401
            metrics = get(receiver.replace("/webhooks/8x8", "/metrics"))
            assert sandbox.stop(signal.SIGINT).code == 0
        served = serve.stop()
    assert drained.code == 0, drained.err
    # It waited for every summary: a receiver listens.
    assert drained.document["submitted"] == 0
    assert sum(drained.document["states"][state] for state in ("completed", "unreached", "failed")) == 12
    assert sorted(call["destination"] for call in ledger if call["rang"]) == [job.destination for job in jobs]
    assert json.loads(health) == {"status": "ok"}
    assert "voiceflow_webhook_answers" in metrics
    assert (served.code, served.out) == (0, "")
    assert "Traceback" not in served.err + drained.err


@pytest.mark.slow
def test_a_port_that_is_taken_is_reported(folder: Path) -> None:
    with Spawned(["serve", "--port", "0"], folder) as first:
        port = first.wait_for("ready on").split("127.0.0.1:")[1].split("/")[0]
        with Spawned(["serve", "--port", port], folder) as second:
            ended = second.end()
        assert first.stop().code == 0
    assert ended.code == 1
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that uses this port" in ended.err
    )
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_a_sandbox_takes_only_the_voices_and_sources_that_are_listed(folder: Path) -> None:
    options = ["--voices", "en-IE-EmilyNeural, en-US-JennyNeural", "--sources", "+6531234567,6531234568"]
    with Spawned(["sandbox", "--port", "0", *options], folder) as sandbox:
        base = sandbox.wait_for("ready on").split()[5].rstrip(";")

        def code_of(source: str, voice: str) -> int:
            said = {"action": "say", "params": {"text": "Hello.", "voiceProfile": voice}}
            call = {"action": "makeCall", "params": {"source": source, "destination": "+6587654321"}}
            answer = httpx.post(
                f"{base}/api/v1/subaccounts/acme/callflows",
                json={"callflow": [call, said]},
                headers={"Authorization": "Bearer any"},
                trust_env=False,
            )
            return int(answer.json()["statusCode"])

        assert code_of("+6531234568", "en-US-JennyNeural") == 1
        assert code_of("+6531234569", "en-US-JennyNeural") == -1014
        assert code_of("+6531234567", "en-GB-SoniaNeural") == -1002
        assert sandbox.stop().code == 0
