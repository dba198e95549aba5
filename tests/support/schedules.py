"""Schedules in a store, as a process with their files would have left them."""

from __future__ import annotations

from dataclasses import replace

from voiceflow_worker import Store
from voiceflow_worker.campaigns.schedules import RunState, ScheduledRun
from voiceflow_worker.core.ports.store import BulkWrite, Write


async def keep_runs(store: Store, *runs: ScheduledRun) -> None:
    """Store runs, or times, and the times of each schedule as known since its first run."""
    times = {each.group: replace(each, state=RunState.SEEN, batch_id="", message="") for each in reversed(runs)}
    puts = tuple(each.put(store) for each in (*times.values(), *runs))
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=store.clock.now())
