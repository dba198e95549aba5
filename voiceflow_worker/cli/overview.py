"""`voiceflow queues` and `voiceflow batches`: list queues and batches with their progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from voiceflow_worker.cli.options import QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.core.overview.gate_story import closed_in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.overview.batches import BatchProgress


async def batches(*, common: QueueOptions = QueueOptions()) -> None:
    """List the batches of a queue with progress, rate, remaining time, holds and doubts. With --json, one per line.

    Examples:
        voiceflow batches
        voiceflow batches --queue reminders --json | jq -r 'select(.doubts > 0).batch_id'
    """
    from voiceflow_worker.core.overview.batches import read_batches

    output = common.output()
    async with common.opened() as calls:
        found = await read_batches(calls.store, calls.name)
        url = calls.store.url
    _tell(output, found, column="batch", name=lambda each: each.batch_id or "")
    if not found:
        output.note(f"queue {calls.name} of {url} has no batches; `voiceflow enqueue` makes a batch of each file")


async def queues(*, common: QueueOptions = QueueOptions()) -> None:
    """List the queues of a store with progress, rate, remaining time, holds and doubts. With --json, one per line.

    Examples:
        voiceflow queues
        voiceflow queues --json | jq '{queue, done, total}'
    """
    from voiceflow_worker.core.overview.batches import read_queues

    output = common.output()
    async with common.opened() as calls:
        found = await read_queues(calls.store, also=calls.name)
    _tell(output, found, column="queue", name=lambda each: each.queue)


def _tell(output: Output, found: Sequence[BatchProgress], *, column: str, name: Callable[[BatchProgress], str]) -> None:
    for each in found:
        output.document(each.as_json())
    if output.as_json or not found:
        return
    columns = (column, "#calls", "#done", "#%", "#calls/s", "#remaining", "#in doubt")
    output.table(columns, [(name(each), *_figures(each)) for each in found])
    for gate in dict.fromkeys(each.hold for each in found if each.hold is not None):
        output.say(closed_in_words(gate))


def _figures(each: BatchProgress) -> tuple[object, ...]:
    share = f"{each.done / each.total:.0%}" if each.total else ""
    left = "" if each.ends_at is None else str(timedelta(seconds=round((each.ends_at - each.at).total_seconds())))
    rate = f"{each.rate_now:g}" if each.rate_now else ""
    return each.total, each.done, share, rate, left, each.doubts or ""
