"""The page `/ui?find=`: the calls with an id, a number or a unique key."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest
from voiceflow_worker.webhooks.pages.routes.queries import LONGEST_NAME, find_calls


async def show_found(store: Store, asked: PageRequest) -> Answer:
    """The page of the calls that were found, or a redirect if there is exactly one."""
    wanted = (asked.asked("find") or "")[:LONGEST_NAME]
    found = await find_calls(store, wanted, also=asked.asked("queue"))
    if len(found) == 1:
        return Response(b"", 303, {"Location": f"{asked.home}/calls/{quote(found[0].id, safe='')}"})
    return Page(template="found.html", shown={"wanted": wanted, "found": found})
