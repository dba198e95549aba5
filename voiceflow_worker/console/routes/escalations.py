"""The page `/ui/escalations`: who is called now, and what became of earlier ones."""

from __future__ import annotations

from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, queue_names
from voiceflow_worker.core.ports import Store
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations

PAGE = 50


async def open_escalations(store: Store, queues: list[str]) -> list[EscalationStatus]:
    """The open escalations of these queues, the newest first. Raises StoreError."""
    found = [each for queue in queues for each in await Escalations(CallQueue(store, queue)).recent()]
    return sorted(found, key=lambda each: each.created_at, reverse=True)


async def show_escalations(store: Store, asked: PageRequest) -> Answer:
    """The open escalations of all queues, and a page of those that have ended, of each queue or of `?queue=`."""
    queues, after = await queue_names(store, also=asked.asked("queue")), asked.asked("after")
    ended: list[tuple[str, list[EscalationStatus], str | None]] = []
    for queue in queues if asked.queue is None else [asked.queue]:
        page, following = await Escalations(CallQueue(store, queue)).page(after=after or "", limit=PAGE)
        if shown := [each for each in page if not each.is_open]:
            ended.append((queue, shown, following))
    is_first = after is None
    opened = await open_escalations(store, queues) if is_first else []
    return Page(template="escalations.html", shown={"open": opened, "ended": ended, "is_first": is_first}, is_live=True)
