"""Batch ids given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.core.queue import CallQueue


async def why_unknown(calls: CallQueue, batch: str | None) -> str | None:
    """A message that the queue has no calls of this batch, with similar batch ids as a hint.

    None if the batch has calls, or if `batch` is None.
    """
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
        else "`voiceflow enqueue` prints the id of a batch; the default is the file's name without its extension"
    )
    return f"batch {batch} has no calls in queue {calls.name} of {calls.store.url}; {hint}"
