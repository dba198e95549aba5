"""Two machines that run one schedule, killed in the middle of runs, while the clocks of its zone change."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.processes import Process
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.recurrence import Recurrence
from voiceflow_worker.core.ports.reading import starts_of
from voiceflow_worker.core.ports.record_set import json_records
from voiceflow_worker.service.scheduled_run import RUNS, RunState, ScheduledRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPEED, LASTS, PEOPLE = 30, 105, 24
BEGIN = datetime(2026, 4, 4, 14, 50, 30, tzinfo=UTC)
"""01:50:30 in Lord Howe. At 02:00 it is 01:30 again."""


@pytest.mark.parametrize("backend", ["sqlite", "redis", "postgres"])
def test_each_run_starts_once_and_whole_whoever_is_killed(
    backend: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    url, chance = fresh_url(backend), random.Random(3)
    people = [f"+65876540{place:02}" for place in range(PEOPLE)]
    (tmp_path / "people.csv").write_text("\n".join(["destination", *people, ""]))
    file = tmp_path / "often.toml"
    file.write_text(
        'file = "people.csv"\nsay = "Hello"\nsource = "+6531234567"\nvoice_profile = "en-US-JennyNeural"\n'
        'cron = "*/3 * * * *"\ntime_zone = "Australia/Lord_Howe"\nmisfire = "30m"\n'
    )
    started, kills = time.time(), 0

    def host(ahead: int) -> Process:
        return Process(
            url,
            BEGIN.isoformat(),
            str(started),
            str(SPEED),
            str(ahead),
            str(file),
            module="tests.service.schedule_host",
        )

    hosts = [host(0), host(2)]
    try:
        while time.time() < started + LASTS:
            victim = chance.randrange(2)
            hosts[victim].wait_for("ready", seconds=60)
            time.sleep(chance.uniform(0.0, 2.0))
            hosts[victim].end(signal.SIGKILL)
            kills += 1
            hosts[victim] = host(2 * victim)
        for each in hosts:
            each.wait_for("ready", seconds=60)
        time.sleep(90 / SPEED)  # the claims of those that were killed end
    finally:
        stopped = BEGIN + timedelta(seconds=(time.time() - started) * SPEED)
        for each in hosts:
            each.end(signal.SIGTERM)
        ended = BEGIN + timedelta(seconds=2 + (time.time() - started) * SPEED)  # by the clock that is ahead
    anyio.run(judged, url, stopped, ended, people)
    assert kills > 3


async def judged(url: str, stopped: datetime, ended: datetime, people: list[str]) -> None:
    async with open_store(url, clock=ManualClock(ended)) as store:
        every = await json_records(store, RUNS, ScheduledRun).values()
        found = {each.at: each for each in every if each.state is not RunState.SEEN}
        batches: dict[str, list[str]] = {}
        for job in await CallQueue(store).find(limit=10_000):
            batches.setdefault(job.batch_id or "", []).append(job.destination)
        cut = {start.name for start in await starts_of(store, "default")}
    # Whoever looks first may still start the run before, which is not too late.
    due = list(Recurrence("*/3 * * * *", ZoneInfo("Australia/Lord_Howe")).within(BEGIN - timedelta(minutes=3), ended))
    assert set(found) <= set(due), "one was started that was not due"
    assert set(found) >= {at for at in due if min(found) < at < stopped - timedelta(minutes=3)}, "one was forgotten"
    times = {each.batch_id.removeprefix("often-2026-04-05-") for each in found.values()}
    assert {each[:2] for each in times} == {"01", "02"}, "before and after the change"
    assert any(each.endswith("-2") for each in times), "each three minutes that pass"
    started = {each.batch_id for each in found.values() if each.state is RunState.STARTED}
    assert len(started) > 3
    for batch in started:
        assert sorted(batches.pop(batch)) == people, "once, and whole"
        assert batch not in cut
    rest = [each for each in found.values() if each.batch_id not in started]
    assert all(each.is_open or "a later run is due" in each.message for each in rest), rest
    assert set(batches) <= {each.batch_id for each in rest if each.is_open}, "what was not started rings nobody"
