"""`/ui`: the queues of the store, and the search for calls."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest
from voiceflow_worker.webhooks.pages.routes.queries import LONGEST_NAME, PageQueries


async def show_overview(store: Store, asked: PageRequest) -> Answer:
    """The queues, or what `?find=` finds: a single call is gone to at once."""
    queries, also = PageQueries(store), asked.query.get("queue")
    wanted = (asked.asked("find") or "")[:LONGEST_NAME]
    found = await queries.find(wanted, also=also) if wanted else []
    if len(found) == 1:
        return Response(b"", 303, {"Location": f"{asked.home}/calls/{quote(found[0].id, safe='')}"})
    queues = await queries.queues(also=also)
    return Page(template="front.html", shown={"wanted": wanted, "found": found, "queues": queues}, is_live=not wanted)
