"""Keys of open calls are answered while programs ask for calls as fast as they can, and 50 requests wait.

    .venv/bin/python -m pytest -s tests/api/test_keys_meanwhile.py

In a sandbox at real speed, 100 open calls press a key every four seconds: 25 keys a second. The store is a SQLite file.
Twenty programs ask for calls, four of them with bodies of almost 1 MB, and four read the longest lists.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.clients import SECRET
from tests.support.keys import KeyTimes, wait_for_keys
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(3600)]

OPEN, EVERY, QUESTIONS, MEANWHILE = 100, 4.0, 30, 750
LATER = {"not_before": "tomorrow 09:00", "time_zone": "Asia/Singapore"}
"""What is asked for meanwhile need not ring."""
LARGE = {
    **LATER,
    "to": "+6581111111",
    "flow": {
        "callflow": [
            {"action": "makeCall", "params": {"source": "6531234567", "destination": "6587654321"}},
            *[{"action": "say", "params": {"text": "x" * 1000, "voiceProfile": "en-US-JennyNeural"}}] * 900,
        ]
    },
}


class Programs:
    """Programs that use the HTTP API until they are told to stop, each in a thread. `told` counts their answers."""

    def __init__(self, on: Stage, *, waits_for: str) -> None:
        self._url, self._waits_for = on.receiver, waits_for
        self.told: Counter[tuple[str, int]] = Counter()
        self.is_over = threading.Event()
        self._large = json.dumps(LARGE)
        kinds: list[tuple[Callable[[httpx.Client, str], httpx.Response], str, int]] = [
            (self._wait, "wait", 50), (self._call, "call", 12), (self._call_large, "large", 4), (self._list, "list", 4),
        ]  # fmt: skip
        self.threads = [
            threading.Thread(target=self._go, args=(ask, name, place), daemon=True)
            for ask, name, count in kinds
            for place in range(count)
        ]

    def _go(self, ask: Callable[[httpx.Client, str], httpx.Response], name: str, place: int) -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        # Without `verify`: reading certificates for each client would take the processor for the first seconds.
        with httpx.Client(base_url=self._url, headers=headers, timeout=90, trust_env=False, verify=False) as client:
            count = 0
            while not self.is_over.is_set():
                count += 1
                self.told[name, ask(client, f"{name}-{place}-{count}").status_code] += 1

    def _wait(self, client: httpx.Client, _: str) -> httpx.Response:
        return client.get(f"/v1/calls/{self._waits_for}?wait=10")

    def _call(self, client: httpx.Client, key: str) -> httpx.Response:
        body = {"to": "+6581111111", "say": "Hello {{name}}.", "data": {"name": key}, **LATER}
        return client.post("/v1/calls", json=body, headers={"Idempotency-Key": key})

    def _call_large(self, client: httpx.Client, key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        return client.post("/v1/calls", content=self._large, headers=headers)

    def _list(self, client: httpx.Client, _: str) -> httpx.Response:
        return client.get("/v1/calls?limit=200")


def test_keys_are_answered_while_programs_order_calls(tmp_path: Path) -> None:
    settings = {"api_secret": SECRET, "source": "+6531234567", "voice_profile": "en-US-JennyNeural"}
    with stage(tmp_path, speed=1, ivr="examples.appointment:appointment", counts_blocks=True, **settings) as on:
        keys = [{"keys": key, "after": EVERY} for _ in range(QUESTIONS // 2) for key in "29"]
        on.order("script", {"outcome": "COMPLETED", "keys": keys, "action_seconds": 0, "ring_seconds": 0})
        file = tmp_path / "open.csv"
        rows = "".join(f"+65{88000000 + place},Bob,at ten,at six\n" for place in range(10 * OPEN))
        file.write_text(f"destination,name,time,other_time\n{rows}", encoding="utf-8")
        on.run("enqueue", str(file), "--ivr", "examples.appointment:appointment")
        with on.worker("--rate", str(OPEN / EVERY), "--max-active", str(OPEN)):
            wait_until(lambda: len(on.rang()) >= OPEN, lambda: f"open calls, not {len(on.rang())}", within=900)
            last = on.calls("--state", "queued", "--newest")[0]["id"]
            alone = KeyTimes.alone(on)
            programs = Programs(on, waits_for=last)
            began = time.time()
            for thread in programs.threads:
                thread.start()
            wait_for_keys(on, began, MEANWHILE)
            wait_until(lambda: programs.told["call", 201] > 0, lambda: f"orders: {programs.told}")
            programs.is_over.set()
            ended = time.time()
            for thread in programs.threads:
                thread.join(timeout=60)
        meanwhile = KeyTimes.between(on, began, ended)
    assert programs.told["call", 201] > (100 if alone.was_idle else 0), programs.told
    assert not alone.was_idle or not any(status >= 500 for _, status in programs.told), programs.told
    meanwhile.assert_soon(alone, longest_block=0.05, told=dict(programs.told))
