"""The page `/ui/batches`: all batches, and a search for batches by name."""

from __future__ import annotations

from voiceflow_worker.core.overview.batches import read_batches, read_queues
from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.pages.routes.overview import in_order
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest

BATCHES_A_PAGE = 50


async def show_batches(store: Store, asked: PageRequest) -> Answer:
    """The page of batches whose names contain `?name=`, from the batch at index `?from=` on."""
    queues = [queue.queue for queue in await read_queues(store)]
    wanted, only = asked.asked("name"), asked.asked("queue")
    found = in_order([each for queue in queues if only in {None, queue} for each in await read_batches(store, queue)])
    if wanted:
        found = [each for each in found if wanted.casefold() in (each.batch_id or "").casefold()]
    begin = _place(asked.asked("from"), len(found))
    shown = {
        "batches": found[begin : begin + BATCHES_A_PAGE],
        "begin": begin,
        "count": len(found),
        "wanted": wanted,
        "only": only,
        "queues": queues,
        "before": max(begin - BATCHES_A_PAGE, 0) if begin else None,
        "after": begin + BATCHES_A_PAGE if begin + BATCHES_A_PAGE < len(found) else None,
    }
    return Page(template="batches.html", shown=shown, is_live=True)


def _place(text: str | None, count: int) -> int:
    """The index that a text gives in a list of `count` entries; 0 if the text is not a number below `count`."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count else 0
