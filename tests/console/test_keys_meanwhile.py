"""Keys of open calls are answered while a large file is uploaded, previewed and started, and a large report written.

    .venv/bin/python -m pytest -s tests/console/test_keys_meanwhile.py

In a sandbox at real speed, 200 open calls press a key every four seconds: 50 keys a second. The store is a SQLite file.
"""

from __future__ import annotations

import random
import string
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import xlsxwriter

from bench.scale import calls
from tests.console.signing_in import OPERATORS, READERS, Form
from tests.contract.samples import add_jobs
from tests.support.keys import KeyTimes
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until
from voiceflow_worker import open_store
from voiceflow_worker.model.copying import replace

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(3600)]

OPEN, EVERY, QUESTIONS = 200, 4.0, 98
PEOPLE, PAST = 20_000, 200_000
WORDS = {
    "say": "Hello {{name}}.",
    "voice_profile": "en-US-JennyNeural",
    "source": "+6531234567",
    "columns": "destination=Mobile",
}
LATER = {"not_before": "tomorrow 09:00", "time_zone": "Asia/Singapore"}
"""What is started meanwhile need not ring."""


async def fill(url: str) -> None:
    """Batch past: calls that have ended, whose report is exported."""
    now, kept = datetime.now(UTC), []
    async with open_store(url) as store:
        for job in calls(PAST, now=now):
            kept.append(replace(job, batch_id="past"))
            if len(kept) == 2000:
                await add_jobs(store, kept, now=now)
                kept.clear()


def workbook(path: Path) -> int:
    """A workbook of almost 20 MB, and its size."""
    dice = random.Random(7)
    letters = string.ascii_letters + string.digits
    book = xlsxwriter.Workbook(str(path), {"constant_memory": True})
    sheet: Any = book.add_worksheet("People")
    sheet.write_row(0, 0, ["Name", "Mobile", "Notes"])
    for place in range(PEOPLE):
        notes = "".join(dice.choices(letters, k=1250))
        sheet.write_row(place + 1, 0, [f"Ana {place}", f"+65{90000000 + place}", notes])
    book.close()
    return path.stat().st_size


class Clerk(threading.Thread):
    """Somebody at the pages, who notes how long each step took. `failed` is what went wrong."""

    def __init__(self, on: Stage, path: Path) -> None:
        super().__init__(daemon=True)
        self._on, self._path = on, path
        self.took: dict[str, float] = {}
        self.failed: BaseException | None = None

    def run(self) -> None:
        origin = {"Origin": self._on.receiver}
        try:
            with httpx.Client(base_url=self._on.receiver, headers=origin, timeout=900, trust_env=False) as client:
                client.post("/ui/sign-in", data={"name": "Mary", "secret": OPERATORS})
                form = dict(Form(client.get("/ui/campaign").text).hidden)
                file = {"file": ("people.xlsx", self._path.read_bytes())}
                shown = self._step(
                    "upload", lambda: client.post("/ui/campaign", data={**form, "do": "look"}, files=file)
                )
                for do in ("preview", "start"):
                    data = {**WORDS, **LATER, **dict(Form(shown.text).hidden), "do": do}
                    shown = self._step(do, partial(client.post, "/ui/campaign", data=data))
                assert shown.status_code == 303, shown.text
                report = self._step("export", lambda: client.get("/ui/export/xlsx?queue=default&batch=past"))
                assert report.content[:2] == b"PK", report.text
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failed = error

    def _step(self, name: str, ask: Callable[[], httpx.Response]) -> httpx.Response:
        began = time.monotonic()
        answer = ask()
        self.took[name] = round(time.monotonic() - began, 1)
        return answer


def test_keys_are_answered_while_files_are_read_and_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    anyio.run(fill, url)
    people = tmp_path / "people.xlsx"
    size = workbook(people)
    assert 19_000_000 < size < 20_000_000
    secrets = {"ui_secret": READERS, "ui_operator_secret": OPERATORS}
    menu = "examples.appointment:appointment"
    with stage(tmp_path, store=url, speed=1, ivr=menu, counts_blocks=True, **secrets) as on:
        keys = [{"keys": key, "after": EVERY} for _ in range(QUESTIONS // 2) for key in "29"]
        on.order(
            "script", {"outcome": "COMPLETED", "keys": keys, "action_seconds": 0, "dial_seconds": 0, "ring_seconds": 0}
        )
        file = tmp_path / "open.csv"
        rows = "".join(f"+65{88000000 + place},Bob,at ten,at six\n" for place in range(20 * OPEN))
        file.write_text(f"destination,name,time,other_time\n{rows}", encoding="utf-8")
        on.run("enqueue", str(file), "--ivr", menu, "--source", "+6531234567")
        with on.worker("--rate", str(OPEN / EVERY), "--max-active", str(OPEN)):
            wait_until(lambda: len(on.rang()) >= OPEN, lambda: f"open calls, not {len(on.rang())}", within=900)
            alone = KeyTimes.alone(on)
            began = time.time()
            clerk = Clerk(on, people)
            clerk.start()
            clerk.join(timeout=3000)
        if clerk.failed is not None:
            raise clerk.failed
        meanwhile = KeyTimes.between(on, began, time.time())
    meanwhile.assert_soon(alone, longest_block=0.15, told=f"{size / 1e6:.1f} MB: {clerk.took}")
