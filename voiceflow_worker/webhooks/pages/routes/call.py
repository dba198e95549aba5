"""The page `/ui/calls/ID`: one call, its history and its texts, and other calls to the same number."""

from __future__ import annotations

from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.story import story
from voiceflow_worker.core.ports import Order, Query, Store
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest, problem
from voiceflow_worker.webhooks.pages.routes.queries import LONGEST_NAME, call_with
from voiceflow_worker.webhooks.pages.routes.said import texts_of

MOST_RELATED = 10
_DUE = {
    JobState.QUEUED: "due at",
    JobState.LEASED: "sent by",
    JobState.SENDING: "answer of 8x8 by",
    JobState.SUBMITTED: "outcome by",
    JobState.IN_DOUBT: "next look for evidence at",
}


async def show_call(store: Store, asked: PageRequest) -> Answer:
    """The page of a call, with everything that is known about it."""
    job = await call_with(store, asked.name)
    if job is None:
        what = f"The store has no call {asked.name[:LONGEST_NAME]}. Calls are deleted some time after they have ended."
        return problem(404, "No such call", what)
    heard = await CallProgress(store).of_job(job)
    same_number = Query(queue=job.queue, destination=job.destination, order=Order.NEWEST, limit=MOST_RELATED + 1)
    shown = {
        "job": job,
        "story": story(job, at=store.clock.now(), heard=heard).happenings,
        "heard": heard,
        "texts": texts_of(job.body),
        "due": None if job.state.is_final else _DUE[job.state],
        "related": [each for each in await find_jobs(store, same_number) if each.id != job.id][:MOST_RELATED],
    }
    return Page(template="call.html", shown=shown, is_live=True)
