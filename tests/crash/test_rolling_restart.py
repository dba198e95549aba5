"""Workers and receivers that are replaced one after the other while a campaign is called."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.processes import Process, running
from tests.support.redis_server import free_port
from tests.support.round_robin import round_robin
from tests.support.stage import Stage, stage
from tests.support.stores import DURABLE
from tests.support.waiting import wait_until
from voiceflow_worker import open_store

CALLS = 600
"""Enough to last while processes are replaced on a busy machine: the campaign must not end before."""
RATE = 5
ENDS = {"completed", "unreached", "failed"}
LONGEST_HELD = 60.0
"""Seconds for which a restart may hold a call, or its outcome."""


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.anyio
@pytest.mark.parametrize("backend", DURABLE)
async def test_each_person_is_called_once_and_nobody_a_minute_late_through_a_rolling_restart(
    backend: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = fresh_url(backend)
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        proxy = stack.enter_context(round_robin(ports))
        # The lease is that of production: a call that a worker had leased, and left so, would wait for a minute.
        webhook = f"http://127.0.0.1:{proxy}/webhooks/8x8"
        scene = stack.enter_context(stage(tmp_path, store=url, speed=10, webhook=webhook, lease="60s", rate=f"{RATE}"))

        def worker() -> Process:
            started = stack.enter_context(scene.worker())
            started.wait_for("voiceflow worker sends")
            return started

        def receiver(port: int) -> Process:
            started = stack.enter_context(running("serve", "--port", str(port), env=scene.env))
            started.wait_for("voiceflow serve is ready")
            return started

        scene.serving.end(signal.SIGTERM)  # it is not behind the proxy
        receivers = [receiver(port) for port in ports]
        workers = [worker(), worker()]
        scene.campaign(CALLS)
        for place, port in enumerate(ports):
            _more_calls(scene)
            assert workers[place].end(signal.SIGTERM, seconds=120) == 0, workers[place].printed
            workers[place] = worker()
            _more_calls(scene)
            assert receivers[place].end(signal.SIGTERM) == 0, receivers[place].printed
            receivers[place] = receiver(port)
        assert len(scene.ledger()) < CALLS, "all were replaced while the campaign was called"
        wait_until(lambda: scene.states().keys() <= ENDS, lambda: f"{scene.states()}", within=180, every=1)
        ledger, jobs = scene.ledger(), scene.calls()
    assert Counter(entry["destination"] for entry in ledger) == Counter(job["destination"] for job in jobs)
    assert "in_doubt" not in {note["kind"] for job in jobs for note in job["notes"]}
    began = sorted(at(job["attempts"][-1]["began_at"]) for job in jobs)
    enqueued = max(at(job["created_at"]) for job in jobs)
    late = max(time - enqueued - place / RATE for place, time in enumerate(began))
    still = max(after - before for before, after in pairwise(began))
    async with open_store(url) as store:
        told = {event.job_id: event.at.timestamp() for event in await store.events("default")}
    ended = {
        entry["session_id"]: max([at(entry["at"]), *(at(ring["ended_at"]) for ring in entry["rings"])])
        for entry in ledger
    }
    unheard = max(told[job["id"]] - ended[job["session_id"]] for job in jobs)
    figures = f"{backend}: {late:.1f} s late, {still:.1f} s without a call, {unheard:.1f} s until an outcome"
    sys.stdout.write(f"{figures}\n")
    assert max(late, unheard) <= LONGEST_HELD, figures


def _more_calls(scene: Stage) -> None:
    """Wait until some more calls have rung."""
    before = len(scene.ledger())
    wait_until(lambda: len(scene.ledger()) >= before + 20, lambda: f"{scene.states()}", within=120, every=0.2)
