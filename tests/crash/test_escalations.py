"""An escalation whose process is killed at each of its writes: no step rings twice, and none is left out."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable

import anyio
import pytest

from tests.crash.escalating import ANA, BEN, CHEN, DAN, KEY
from tests.support.processes import ROOT
from tests.webhooks.receiving import receiver_of
from voiceflow_worker import CallQueue, Escalations, Sandbox, SessionStatus, open_store
from voiceflow_worker.asgi import serving
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

SECRET = "Bearer of-the-escalation"


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("backend", "when"), [("sqlite", "before"), ("sqlite", "after"), ("redis", "after"), ("postgres", "before")]
)
async def test_whichever_write_its_process_is_killed_at_each_step_rings_once(
    backend: str, when: str, fresh_url: Callable[[str], str]
) -> None:
    killed_at, struck = 0, True
    while struck:
        killed_at += 1
        url = fresh_url(backend)
        async with open_store(url) as store:
            async with serving(receiver_of(store, webhook_secret=SECRET).app) as address:
                sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=SECRET, speed=500)
                for number in (ANA, BEN, DAN):
                    sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.NO_ANSWER))
                sandbox.scripts.add(Script(destination=CHEN, outcome=SessionStatus.COMPLETED, keys=["1"]))
                async with sandbox.running() as base_url:
                    command = [sys.executable, "-m", "tests.crash.escalating", url, base_url, when]
                    first = await anyio.run_process([*command, str(killed_at)], cwd=ROOT, check=False, stderr=None)
                    struck = first.returncode == -signal.SIGKILL
                    assert struck or first.returncode == 0
                    ended = first if not struck else await anyio.run_process([*command, "0"], cwd=ROOT, stderr=None)
            assert ended.stdout.split()[-1] == b"acknowledged"
            rang = Counter(str(entry.destination) for entry in sandbox.ledger if entry.rang)
            status = await Escalations(CallQueue(store)).find(KEY)
        assert status is not None
        # The call of Ben may be on its way when that of Dan is written.
        doubts = Counter(each.number for each in status.steps if each.result == "in_doubt")
        assert doubts <= Counter([BEN])
        once = Counter({ANA: 2, BEN: 1, DAN: 1, CHEN: 1})
        assert once - doubts <= rang <= once, f"killed {when} write {killed_at}"
        expected = ["no_answer", "in_doubt" if doubts else "no_answer", "no_answer", "no_answer", "acknowledged"]
        assert [each.result for each in status.steps] == [*expected, "not_called", "not_called"]
        assert [each.step for each in status.steps] == [1, 2, 2, 3, 4, 5, 5]
    assert killed_at > 10, "each write was struck"
