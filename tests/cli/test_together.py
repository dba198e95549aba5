"""Commands as processes of their own: their ports, and what the sandbox takes."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.cli.running import Spawned


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
