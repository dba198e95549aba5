"""The preview's course of a large campaign, held against the course that the engine gives it on a manual clock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.campaigns.reading import OPTIONS, file_of
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, Worker, WorkerOptions, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.campaigns.preview.preview import PreviewOptions
from voiceflow_worker.core import worker as worker_module
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

ZONES = (
    "Asia/Singapore", "Asia/Jakarta", "Asia/Tokyo", "Asia/Kolkata", "Europe/London", "Europe/Berlin", "Europe/Istanbul",
    "America/New_York", "America/Chicago", "America/Los_Angeles", "Australia/Sydney", "Pacific/Auckland",
)  # fmt: skip
PEOPLE = 20_000
"""Calls a second: 20,000 calls take about four days of open windows."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # which looks for blocked tasks without waiting


@pytest.fixture(autouse=True)
def _looks_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks after its queue every second, which no rule here depends on: a week has 600,000 seconds."""
    monkeypatch.setattr(worker_module, "SWEEP_EVERY", 1800.0)
    monkeypatch.setattr(worker_module, "PRUNE_EVERY", 1e7)
    monkeypatch.setattr(worker_module, "EVERY", timedelta(days=1))
    monkeypatch.setattr(worker_module, "LONGEST_SLEEP", timedelta(hours=1))


class CountingVoice(ScriptedVoice):
    """A voice that creates every call, and tells when it has created a number of them."""

    def __init__(self, *, calls: int) -> None:
        super().__init__()
        self._calls = calls
        self.on_last: Callable[[], None] = lambda: None

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        verdict = await super().place(placement, progress=progress, now=now)
        if len(self.placed) == self._calls:
            self.on_last()
        return verdict


def table(folder: Path, *, mixed: bool) -> tuple[Path, dict[str, str]]:
    """A file of 20,000 people, more in some zones than in others; and the zone of each number."""
    dice = random.Random(12)
    zones = dice.choices(ZONES, weights=range(1, len(ZONES) + 1), k=PEOPLE)
    zones = zones if mixed else sorted(zones)
    rows = [(f"+65{80_000_000 + n}", zone, dice.choice("0001")) for n, zone in enumerate(zones)]
    lines = "".join(f"{number},Ana,{zone},{priority}\n" for number, zone, priority in rows)
    path = file_of(folder, f"destination,name,time_zone,priority\n{lines}")
    return path, {number: zone for number, zone, _ in rows}


@pytest.mark.alone
@pytest.mark.anyio
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("start", "holidays", "rate", "mixed"),
    [
        # Clocks change in Europe on 29 March; 3 April is Good Friday.
        (datetime(2026, 3, 27, 17, 0, tzinfo=UTC), "SG", 0.06, True),
        # Clocks change in Europe on 25 October; 26 October is a holiday in Austria. At 0.06 calls a second the end
        # is on an edge: which of two zones has the last calls depends on the order of calls that come due together.
        (datetime(2026, 10, 24, 5, 0, tzinfo=UTC), "AT", 0.065, False),
    ],
)
async def test_the_engine_ends_a_week_of_calls_when_the_preview_says(
    tmp_path: Path, start: datetime, holidays: str, rate: float, *, mixed: bool
) -> None:
    clock = ManualClock(start)
    window = CallWindow.parse("09:30-12:00,14:00-19:30", holidays=holidays)
    options = replace(OPTIONS, window=window)
    path, zones = table(tmp_path, mixed=mixed)
    policy = CallPolicy(outcomes=OutcomeSource.NONE)
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, policy=policy)
        dry = await enqueue_file(
            queue, path, options, now=clock.now(), dry_run=True, assumptions=PreviewOptions(rate=rate, seconds=10)
        )
        assert dry.preview is not None
        assert dry.preview.calls == PEOPLE
        await enqueue_file(queue, path, options, now=clock.now())
        voice = CountingVoice(calls=PEOPLE)
        worker = Worker(store, voice, rate=rate, concurrency=5, options=WorkerOptions(policy=policy))
        voice.on_last = worker.stop
        await passing(clock, worker.run, within=timedelta(days=21), at_least=timedelta(milliseconds=1))
    times = [at for at, _ in voice.placed]
    assert len(times) == PEOPLE
    for at, placement in voice.placed:
        zone = zones[placement.body.partition('"destination":"')[2].partition('"')[0]]
        assert window.is_open(at, ZoneInfo(zone)), (at, zone)
    course = dry.preview.course
    assert course.last is not None
    took, planned = times[-1] - start, course.last - start
    assert planned == pytest.approx(took, rel=0.02), Counter(at.date() for at in times)
    assert took > timedelta(days=4)
