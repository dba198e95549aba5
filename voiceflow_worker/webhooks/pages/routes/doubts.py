"""The page `/ui/doubts`: the calls in doubt, with their evidence, and the times when people may decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.acts import decidable_from
from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.batches import read_queues
from voiceflow_worker.core.overview.story import Story, story
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest, PageRoute
from voiceflow_worker.webhooks.pages.routes.queries import DEFAULT_QUEUE, LONGEST_NAME

DOUBTS_A_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A call in doubt. From `decidable_from` on, a person may say that it was not placed."""

    job: Job
    story: Story
    decidable_from: datetime | None
    decidable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDoubts:
    """The oldest doubts of a queue. `after` is the last id of this page; None if there is no next page."""

    name: str
    total: int
    doubts: tuple[Doubt, ...]
    after: str | None


def doubts_route(policy: CallPolicy) -> PageRoute:
    """The route of the page. `policy` is the workers' policy."""

    async def show_doubts(store: Store, asked: PageRequest) -> Answer:
        """The page of doubts: of all queues, or only of the queue `?queue=`, after the call `?after=`."""
        only, after = asked.asked("queue"), asked.asked("after")
        if after is not None and (len(after) > LONGEST_NAME or queue_of(after) != only):
            after = None
        counts = {each.queue: each.doubts for each in await read_queues(store, also=DEFAULT_QUEUE) if each.doubts}
        names = [name for name in counts if only in {None, name}]
        queues = [await _doubts(store, name, total=counts[name], after=after, policy=policy) for name in names]
        return Page(template="doubts.html", shown={"queues": queues})

    return show_doubts


async def _doubts(store: Store, queue: str, *, total: int, after: str | None, policy: CallPolicy) -> QueueDoubts:
    query = Query(queue=queue, states=frozenset({JobState.IN_DOUBT}), after=after, limit=DOUBTS_A_PAGE + 1)
    jobs = await find_jobs(store, query)
    now, progress = store.clock.now(), CallProgress(store)
    doubts: list[Doubt] = []
    for job in jobs[:DOUBTS_A_PAGE]:
        since = decidable_from(job, policy)
        history = story(job, at=now, heard=await progress.of_job(job))
        doubts.append(Doubt(job=job, story=history, decidable_from=since, decidable=since is not None and now > since))
    onward = doubts[-1].job.id if len(jobs) > DOUBTS_A_PAGE else None
    return QueueDoubts(name=queue, total=total, doubts=tuple(doubts), after=onward)
