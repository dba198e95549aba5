"""A machine of the tests that runs schedules, with a clock of its own that goes quicker than time.

`python -m tests.service.schedule_host STORE BEGIN STARTED SPEED AHEAD FILE`: at the time STARTED of this machine it is
BEGIN, and AHEAD seconds more by this clock.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import anyio

from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns import enqueue
from voiceflow_worker.cli.opening import signals_to
from voiceflow_worker.service.schedule import Scheduler


class QuickClock:
    """A clock of which `speed` seconds pass in one."""

    def __init__(self, begin: datetime, started: float, *, speed: float, ahead: float) -> None:
        self._begin = begin + timedelta(seconds=ahead)
        self._started = started
        self._speed = speed

    def now(self) -> datetime:
        return self._begin + timedelta(seconds=(time.time() - self._started) * self._speed)

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0.0) / self._speed)


async def main(url: str, file: Path, clock: QuickClock) -> None:
    enqueue.CHUNK = 2  # a start has many steps, so that it is killed between them
    async with open_store(url, clock=clock) as store:
        scheduler = Scheduler(CallQueue(store), [file])
        async with signals_to(lambda _: scheduler.stop(grace=60 * 60)):
            sys.stdout.write("ready\n")
            await scheduler.run()


if __name__ == "__main__":
    store_url, begin, started, speed, ahead, toml = sys.argv[1:]
    quick = QuickClock(datetime.fromisoformat(begin), float(started), speed=float(speed), ahead=float(ahead))
    anyio.run(main, store_url, Path(toml), quick)
