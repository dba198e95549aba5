"""The commands of the page about the HTTP API run as they are printed, against a receiver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.api.clients import SECRET
from tests.docs.pages import DOCS, blocks
from tests.support.processes import Process


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page_run_as_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("Mobile,name\n8765 4302,Ben\n", encoding="utf-8")
    settings = {
        "VOICEFLOW_STORE": f"sqlite:///{tmp_path / 'calls.db'}", "VOICEFLOW_API_SECRET": SECRET,
        "VOICEFLOW_SOURCE": "+6531234567", "VOICEFLOW_VOICE_PROFILE": "en-IE-EmilyNeural",
    }  # fmt: skip
    serving = Process("serve", "--api", "--port", "0", env=settings)
    try:
        url = serving.wait_for(r"http://127\.0\.0\.1:\d+").group()
        told: list[dict[str, object]] = []
        for block in blocks(DOCS / "http.md", language="sh"):
            script = block.text.replace("curl -sS", "curl -sS -w '\\n' --fail-with-body")
            run = subprocess.run(
                ["/bin/sh", "-e", "-c", script],
                cwd=tmp_path,
                env={**os.environ, **settings, "CALLS_URL": url, "AUTH": f"Authorization: Bearer {SECRET}"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, (block.line, run.stdout, run.stderr)
            told += [json.loads(line) for line in run.stdout.splitlines() if line]
    finally:
        serving.end(signal.SIGKILL)
    call, waited, ended, started, preview, shown, held, resumed, edited, cancelled, queue, *rest = told
    paused, opened, rate, put, off, _ = rest
    assert (call["unique_key"], waited["id"], ended["state"]) == ("order-42", call["id"], "cancelled")
    assert (started["enqueued"], preview["dry_run"], preview["valid"]) == (1, True, 1)
    assert (shown["ended"], held["state"], resumed["state"], cancelled["cancelled"]) == (False, "held", "open", 1)
    assert (edited["dry_run"], edited["edited"]) == (True, 1)
    assert (queue["total"], paused["state"], opened["state"], rate["rate"]) == (2, "held", "open", 5)
    assert (put["number"], off["removed"]) == ("+6587654399", True)
