"""A receiver whose store is locked by another process says so soon: nobody knows how long 8x8 waits for an answer."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
import httpx
import pytest

from tests.support.processes import running

SUMMARY = {"eventType": "SESSION_SUMMARY", "payload": {"sessionId": "session-1", "sessionStatus": "BUSY"}}


@pytest.mark.slow
def test_a_locked_store_is_a_quick_503_and_the_same_summary_is_taken_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    env = {"VOICEFLOW_STORE": f"sqlite:///{path}", "VOICEFLOW_WEBHOOK_SECRET": "Bearer of-the-tests"}
    with running("serve", "--port", "0", env=env) as receiver:
        url = receiver.wait_for(r"(http://127\.0\.0\.1:\d+/webhooks/8x8)")[1]
        with httpx.Client(headers={"Authorization": "Bearer of-the-tests"}, timeout=30, trust_env=False) as client:
            other = apsw.Connection(str(path))
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            assert client.post(url, json=SUMMARY).status_code == 503
            assert time.monotonic() - began < 8
            other.execute("ROLLBACK")
            other.close()
            assert client.post(url, json=SUMMARY).status_code == 200
