"""Batch ids given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.core.queue import CallQueue


async def why_unknown(calls: CallQueue, batch: str | None) -> str | None:
    """A sentence, with near names, for a batch that has no calls in this queue; None for one that has, or for none."""
    from voiceflow_worker.core.ports.batch_names import BatchNames

    if batch is None:
        return None
    names = BatchNames(calls.store, calls.name)
    if await names.has_calls(batch):
        return None
    near = await names.near(batch)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "its id is what `voiceflow enqueue` printed, by default the file's name without its ending"
    )
    return f"batch {batch} has no calls in queue {calls.name} of {calls.store.url}; {hint}"
