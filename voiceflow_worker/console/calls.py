"""The pages of calls: the list, one call, doubts, what a search found, and the suppression list."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from markupsafe import escape
from starlette.responses import Response

from voiceflow_worker.actions.calls import decidable_from
from voiceflow_worker.console.page import (
    LONGEST_NAME,
    Answer,
    Page,
    PageRequest,
    PageRoute,
    call_with,
    find_call,
    problem,
    queue_names,
)
from voiceflow_worker.console.tones import DESK, texts_of, tone_of
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.base.reading import find_jobs, totals_of
from voiceflow_worker.core.call_filter import STATES, CallFilter, person_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing, OfNumber, Paged
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import Suppression
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, read_outcomes
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE
from voiceflow_worker.reporting.batches import read_queues
from voiceflow_worker.reporting.status import waits_in_words
from voiceflow_worker.reporting.story import Story, story

MOST_RELATED = 10
_DUE = {
    JobState.QUEUED: "Due at",
    JobState.LEASED: "Sent by",
    JobState.SENDING: "Answer of 8x8 by",
    JobState.SUBMITTED: "Outcome by",
    JobState.IN_DOUBT: "Next search for evidence at",
}


async def show_call(store: Store, asked: PageRequest) -> Answer:
    """Show a call, with everything that is known about it."""
    job = await call_with(store, asked.name)
    if job is None:
        what = f"The store has no call {asked.name[:LONGEST_NAME]}. Calls are deleted some time after they have ended."
        return problem(404, "No such call", what)
    heard = await CallProgress(store).of_job(job)
    same_number = OfNumber(queue=job.queue, number=job.destination, newest=True, limit=MOST_RELATED + 1)
    shown = {
        "job": job,
        "story": story(job, at=store.clock.now(), heard=heard).timeline,
        "heard": heard,
        "texts": texts_of(job.body),
        "due": None if job.state.is_final else _DUE[job.state],
        "waits": await waits_in_words(store, [job], zone=asked.time_zone),
        "related": [each for each in await find_jobs(store, same_number) if each.id != job.id][:MOST_RELATED],
    }
    return Page(template="call.html", shown=shown, is_live=True)


CALLS_A_PAGE = 50
READ_AT_ONCE = 200
MOST_READ = 4000
"""The largest number of calls that are read for a page. More are read than shown if the filter has conditions
that stores cannot check (names, parts of numbers, answers)."""
_FILTERS = ("state", "outcome", "queue", "batch", "who", "answer")
_TABS = {"": frozenset(JobState), **DESK} | {
    name: of for name, of in STATES.items() if of <= FINAL_STATES | {JobState.IN_DOUBT}
}
"""The tabs above a list of calls."""


class CallPage(NamedTuple):
    """One page of calls, in the order of the read.

    `further` is an id without a queue, for the link to the calls behind it; None if there are none. `looked_at` is the
    number of calls that were read, if the search stopped before the page was full.
    """

    calls: Sequence[Job] = ()
    further: str | None = None
    looked_at: int | None = None


async def show_calls(store: Store, asked: PageRequest) -> Answer:
    """Show calls, the newest first; with `?after=`, a job id without its queue, those before it."""
    queues = await queue_names(store, also=asked.asked("queue"))
    wanted, problem_found = read_filter(asked)
    names = [name for name in queues if asked.asked("queue") in {None, name}]
    totals = {name: await totals_of(store, name, wanted.batch) for name in names}
    read = [name for name in names if wanted.may_have(totals[name])]
    found = CallPage() if problem_found else await page_of_calls(store, wanted, read, after=asked.asked("after"))
    given = {name: asked.asked(name) for name in _FILTERS} | {"who": _who(asked)}

    def address(**more: str | None) -> str:
        text = urlencode({name: value for name, value in {**given, **more}.items() if value}, errors="replace")
        return escape(f"{asked.home}/calls?{text}")

    shown = {
        "found": found,
        "waits": await waits_in_words(store, found.calls, zone=asked.time_zone),
        "given": given,
        "is_filtered": any(given.values()),
        "problem": problem_found,
        "queues": queues,
        "tabs": [(tone_of(name).label or "all", address(state=name), name == (given["state"] or "")) for name in _TABS],
        "outcomes": [(status.value, tone_of(status.value).label) for status in SessionStatus],
        "address": address,
        "is_first": not asked.asked("after"),
    }
    return Page(template="calls.html", shown=shown, is_live=True)


def states_named(name: str) -> frozenset[JobState] | None:
    """Return the states with this name, of people or of programs; None for another text."""
    return DESK.get(name.lower()) or STATES.get(name.lower())


def read_filter(asked: PageRequest) -> tuple[CallFilter, str]:
    """Return the filter of a request, and a sentence about a state that there is not."""
    more: dict[str, Any] = {"batch": asked.asked("batch"), "answer": asked.asked("answer")}
    state, outcome, who = asked.asked("state"), asked.asked("outcome"), _who(asked)
    if state is not None:
        more["states"] = states_named(state)
    if outcome is not None:
        more["outcomes"] = frozenset({outcome[:LONGEST_NAME]})
        with suppress(InvalidInputError):  # an outcome of 8x8 that this version does not know
            more["outcomes"] = read_outcomes([outcome])
    if who is not None:
        more |= person_of(who)
    is_known = state is None or more["states"] is not None
    return CallFilter(**more), "" if is_known else f"{(state or '')[:40]} is not a state of a call."


def _who(asked: PageRequest) -> str | None:
    """Return of whom calls are wanted. Programs that link to the page have a `number`."""
    return asked.asked("who") or asked.asked("number")


async def page_of_calls(
    store: Store, wanted: CallFilter, queues: Sequence[str], *, after: str | None, newest: bool = True
) -> CallPage:
    """Read one page of calls from these queues, in the order of creation. The last part of an id shows this order.

    Of calls that need each to be looked at, it reads about `MOST_READ`. Raises StoreError.
    """
    place, found, looked, goes_on = _place(after), list[Job](), 0, True
    while goes_on and len(found) <= CALLS_A_PAGE and looked < MOST_READ:
        limit = READ_AT_ONCE if wanted.is_judged else CALLS_A_PAGE + 1
        read = await _read(store, wanted.read("", newest=newest, limit=limit), queues, place)
        goes_on = len(read) == limit
        looked += len(read)
        found += filter(wanted.has, read)
        place = _end(read[-1]) if read else place
    looked_at = looked if goes_on and len(found) <= CALLS_A_PAGE else None
    if len(found) > CALLS_A_PAGE:
        goes_on, place = True, _end(found[CALLS_A_PAGE - 1])
    return CallPage(calls=found[:CALLS_A_PAGE], further=place if goes_on else None, looked_at=looked_at)


async def _read(store: Store, read: Paged, queues: Sequence[str], place: str | None) -> Sequence[Job]:
    """Return the next calls of all queues, in the order of the read, after the id `place` (an id without a queue)."""
    found: list[Job] = []
    for queue in queues:
        after = None if place is None else f"{queue}.{place}"
        found += await find_jobs(store, replace(read, queue=queue, after=after))
    return sorted(found, key=_end, reverse=read.newest)[: read.limit]


def _end(job: Job) -> str:
    return job.id.partition(".")[2]


def _place(text: str | None) -> str | None:
    return text if text is not None and len(text) <= LONGEST_NAME else None


DOUBTS_A_PAGE = 50


class Doubt(NamedTuple):
    """A call in doubt. From `decidable_from` on, a person may say that it was not placed."""

    job: Job
    story: Story
    decidable_from: datetime | None
    decidable: bool


class QueueDoubts(NamedTuple):
    """The oldest doubts of a queue. `after` is the last id of this page; None if there is no next page."""

    name: str
    total: int
    doubts: tuple[Doubt, ...]
    after: str | None


def doubts_route(policy: CallPolicy) -> PageRoute:
    """Return the route of the page of doubts. `policy` is the workers' policy."""

    async def show_doubts(store: Store, asked: PageRequest) -> Answer:
        """Show the doubts: of all queues, or only of the queue `?queue=`, after the call `?after=`."""
        only, after = asked.asked("queue"), asked.asked("after")
        if after is not None and (len(after) > LONGEST_NAME or queue_of(after) != only):
            after = None
        counts = {each.queue: each.doubts for each in await read_queues(store, also=DEFAULT_QUEUE) if each.doubts}
        names = [name for name in counts if only in {None, name}]
        queues = [await _doubts(store, name, total=counts[name], after=after, policy=policy) for name in names]
        return Page(template="doubts.html", shown={"queues": queues})

    return show_doubts


async def _doubts(store: Store, queue: str, *, total: int, after: str | None, policy: CallPolicy) -> QueueDoubts:
    some = Listing(queue=queue, states=frozenset({JobState.IN_DOUBT}), after=after, limit=DOUBTS_A_PAGE + 1)
    jobs = await find_jobs(store, some)
    now, progress = store.clock.now(), CallProgress(store)
    doubts: list[Doubt] = []
    for job in jobs[:DOUBTS_A_PAGE]:
        since = decidable_from(job, policy)
        history = story(job, at=now, heard=await progress.of_job(job))
        doubts.append(Doubt(job=job, story=history, decidable_from=since, decidable=since is not None and now > since))
    onward = doubts[-1].job.id if len(jobs) > DOUBTS_A_PAGE else None
    return QueueDoubts(name=queue, total=total, doubts=tuple(doubts), after=onward)


async def show_found(store: Store, asked: PageRequest) -> Answer:
    """Lead to the call with this id or key, or else to the list of those that have the text in them."""
    wanted = (asked.asked("find") or "")[:LONGEST_NAME]
    found = await find_call(store, wanted, also=asked.asked("queue"))
    way = f"?who={quote(wanted, safe='')}" if found is None else f"/{quote(found.id, safe='')}"
    return Response(b"", 303, {"Location": f"{asked.home}/calls{way}"})


NUMBERS_A_PAGE = 100


async def show_suppression(store: Store, asked: PageRequest) -> Answer:
    """Show the suppression list, with the entries after `?after=`, or only the entry for `?number=`."""
    listed, wanted = SuppressionList(store), (asked.asked("number") or "")[:LONGEST_NAME]
    entries: Sequence[Suppression] = ()
    trouble, after = "", None
    if wanted:
        try:
            entries = list((await listed.find(wanted)).values())
        except PhoneNumberError as error:
            trouble = str(error)
    else:
        page = await listed.scan(after=(asked.asked("after") or "")[:LONGEST_NAME], limit=NUMBERS_A_PAGE + 1)
        entries = page[:NUMBERS_A_PAGE]
        after = entries[-1].number if len(page) > NUMBERS_A_PAGE else None
    shown = {"wanted": wanted, "entries": entries, "trouble": trouble, "after": after}
    return Page(template="suppression.html", shown=shown)
