"""Schedules in a store, as a process with their files would have left them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from voiceflow_worker import Store
from voiceflow_worker.campaigns.schedules import RunState, ScheduledRun
from voiceflow_worker.core.ports.store import BulkWrite, Write


async def keep_runs(store: Store, *runs: ScheduledRun) -> None:
    """Store runs, or times, and the times of each schedule as known since its first run."""
    times = {each.group: replace(each, state=RunState.SEEN, batch_id="", message="") for each in reversed(runs)}
    puts = tuple(each.put(store) for each in (*times.values(), *runs))
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=store.clock.now())


async def scheduled(store: Store) -> ScheduledRun:
    """A schedule that a process has at hand, with a run of an hour ago."""
    run = ScheduledRun(
        schedule="daily", queue="default", at=store.clock.now() - timedelta(hours=1), cron="0 9 1 1 *",
        time_zone="UTC", batch_id="", state=RunState.STARTED, message="3 enqueued, 0 duplicates, 0 bad",
    )  # fmt: skip
    await keep_runs(store, run)
    return run
