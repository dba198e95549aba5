"""The page `/ui`: an overview of the store, with everything that needs a person's attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from voiceflow_worker.core.overview.batches import BatchProgress, read_batches, read_queue
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.overview.status import HOUR, MINUTE, RateHistory
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.webhooks.pages.routes.charts import Curve, curve
from voiceflow_worker.webhooks.pages.routes.found import show_found
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest
from voiceflow_worker.webhooks.pages.routes.queries import DEFAULT_QUEUE, queue_names

MOST_BATCHES = 10
"""The largest number of batches on this page. Batches under way come first."""


async def show_overview(store: Store, asked: PageRequest) -> Answer:
    """The page of queues, batches, rates, holds and doubts. With `?find=`, the calls that were found."""
    if asked.asked("find"):
        return await show_found(store, asked)
    names = await queue_names(store, also=asked.asked("queue"))
    queues = [await read_queue(store, name) for name in names]
    # The default queue is left out while it is empty, so that the page of a new store says how to begin.
    queues = [queue for queue in queues if queue.total or queue.hold or queue.queue != DEFAULT_QUEUE]
    batches = in_order([batch for queue in queues for batch in await read_batches(store, queue.queue)])
    heartbeats = Heartbeats(store)
    rates = await heartbeats.rates()
    shown = {
        "queues": queues,
        "batches": batches[:MOST_BATCHES],
        "more_batches": max(len(batches) - MOST_BATCHES, 0),
        "holds": [gate for queue in queues for gate in await _holds(store, queue.queue)],
        "idle": [queue.queue for queue in queues if queue.to_send and queue.queue not in rates],
        "workers": len(await heartbeats.everywhere()),
        "receivers": await heartbeats.receivers(),
        "rate": sum(rates.values()),
        "curve": _curve(await RateHistory(store).last_hour(), rates, now=store.clock.now()),
        "ends_at": _end(queues),
    }
    return Page(template="overview.html", shown=shown, is_live=True)


def in_order(batches: Sequence[BatchProgress]) -> list[BatchProgress]:
    """Sort batches: first those that are being sent, then waiting ones, then ended ones; and by name in each group."""
    return sorted(
        batches, key=lambda each: (each.done == each.total, not each.rate_now, each.batch_id or "", each.queue)
    )


async def _holds(store: Store, queue: str) -> list[Gate]:
    """The holds of a queue and of its batches. A batch without calls is included: its hold applies to later calls."""
    now = store.clock.now()
    return [gate for gate in await gates_of(store, queue) if gate.state is GateState.HELD and gate.is_closed(at=now)]


def _end(queues: Sequence[BatchProgress]) -> datetime | None:
    """The time at which the last waiting call leaves; None if no calls wait, or if one queue's time is unknown."""
    ends = [queue.ends_at for queue in queues if queue.to_send]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _curve(
    minutes: Sequence[tuple[datetime, Mapping[str, float]]], rates: Mapping[str, float], *, now: datetime
) -> Curve | None:
    """The rate over the time of the last hour in which something was sent, or over the whole hour."""
    points = [(at + MINUTE / 2, sum(each.values())) for at, each in minutes]
    since = max(now - HOUR, next((at - MINUTE for at, rate in points if rate), now - HOUR))
    return curve([*points, (now, sum(rates.values()))], since=since, span=now - since, gap=timedelta(minutes=3))
