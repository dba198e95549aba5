"""`/ui/calls/ID`: one call."""

from __future__ import annotations

from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest, problem
from voiceflow_worker.webhooks.pages.routes.queries import LONGEST_NAME, PageQueries


async def show_call(store: Store, asked: PageRequest) -> Answer:
    """The whole story of a call."""
    found = await PageQueries(store).call(asked.name)
    if found is None:
        what = f"The store holds no call {asked.name[:LONGEST_NAME]}: it has another id, or was deleted after its time."
        return problem(404, "No such call", what)
    return Page(template="call.html", shown={"job": found[0], "story": found[1]}, is_live=True)
