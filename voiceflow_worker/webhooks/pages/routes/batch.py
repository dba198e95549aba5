"""`/ui/batches/ID`: one batch."""

from __future__ import annotations

from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest, problem
from voiceflow_worker.webhooks.pages.routes.queries import DEFAULT_QUEUE, LONGEST_NAME, PageQueries


async def show_batch(store: Store, asked: PageRequest) -> Answer:
    """A batch of the queue `?queue=`, and its calls behind `?after=`."""
    queue = asked.query.get("queue") or DEFAULT_QUEUE
    look = await PageQueries(store).batch(queue, asked.name, after=asked.query.get("after"))
    if look is None:
        what = (
            f"Queue {queue[:LONGEST_NAME]} holds no calls of batch {asked.name[:LONGEST_NAME]}. Another queue is "
            "named by ?queue= at the end of the address."
        )
        return problem(404, "No such batch", what)
    return Page(template="batch.html", shown={"batch": look}, is_live=True)
