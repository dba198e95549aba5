"""Queries of the store that several pages share."""

from __future__ import annotations

from voiceflow_worker.core.ports import Order, Query, Store
from voiceflow_worker.core.ports.identity import job_of, queue_of
from voiceflow_worker.core.ports.reading import get_jobs
from voiceflow_worker.core.ports.record_set import BatchNames, QueueNames
from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.numbers.phone import parse_number, usual_form
from voiceflow_worker.model.text.names import QUEUE_NAME
from voiceflow_worker.webhooks.pages.routes.page import Page, problem, sentence

DEFAULT_QUEUE = "default"
MOST_FOUND = 100
LONGEST_NAME = 256


async def find_calls(store: Store, text: str, *, also: str | None = None) -> list[Job]:
    """Up to `MOST_FOUND` calls with this id, `clientRequestId`, number or unique key, the newest first.

    `also` is a queue that is searched even if it never had a worker or a batch. Raises StoreError.
    """
    job = await call_with(store, text)
    if job is None and (post := job_of(text)) is not None:
        job = await call_with(store, post[0])
    if job is not None:
        return [job]
    number = read_number(text)
    found: dict[str, Job] = {}
    for name in await queue_names(store, also=also):
        questions = [Query(queue=name, unique_keys=(text,), limit=MOST_FOUND)]
        if number is not None:
            questions.append(Query(queue=name, destination=number, order=Order.NEWEST, limit=MOST_FOUND))
        for question in questions:
            jobs = await store.jobs(question, now=store.clock.now())
            found |= {job.id: job for job in jobs if job.body}  # a tombstone has none
    return sorted(found.values(), key=lambda job: (job.created_at, job.id), reverse=True)[:MOST_FOUND]


async def call_with(store: Store, job_id: str) -> Job | None:
    """The call with this id; None if there is none. Raises StoreError."""
    # A text that cannot be an id is not looked up, because some stores find the job by the queue in its id.
    if len(job_id) > LONGEST_NAME or "." not in job_id or not QUEUE_NAME.fullmatch(queue_of(job_id)):
        return None
    return (await get_jobs(store, [job_id])).get(job_id)


async def no_such_batch(store: Store, queue: str, batch_id: str) -> Page:
    """The page that says that a queue has no calls of this batch. Raises StoreError."""
    is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch_id) <= LONGEST_NAME
    unknown = await BatchNames(store, queue).why_unknown(batch_id) if is_name else None
    return problem(404, "No such batch", sentence(unknown or "the address of this page names no batch with calls"))


async def queue_names(store: Store, *, also: str | None) -> list[str]:
    """The queues that ever had a worker or a batch, the default queue, and the queue `also`. Raises StoreError."""
    known = {*await QueueNames(store).known(), *await BatchNames.queues(store)}
    named = {also} if also is not None and QUEUE_NAME.fullmatch(also) else set[str]()
    return sorted({DEFAULT_QUEUE, *known, *named})


def read_number(text: str) -> str | None:
    """A telephone number in the form in which calls are stored; None for any other text."""
    try:
        return usual_form(parse_number(text).e164)
    except PhoneNumberError:
        return None
