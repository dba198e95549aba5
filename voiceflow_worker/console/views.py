"""The pages that people read: what goes on now, batches with their rows, calls, doubts, the suppression list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlencode

import anyio
import structlog
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import FileResponse

from voiceflow_worker.actions.calls import decidable_from
from voiceflow_worker.campaigns.report_files import ReportFiles, listed_columns, write_report_files
from voiceflow_worker.campaigns.uncalled import ListedRow, UncalledList, kept_lists
from voiceflow_worker.console.page import (
    LONGEST_NAME,
    Answer,
    Page,
    PageRequest,
    PageRoute,
    call_with,
    no_such_batch,
    problem,
    queue_names,
    sentence,
)
from voiceflow_worker.console.rendering import DESK, answer_in_words, tone_of
from voiceflow_worker.console.sign_in import Person
from voiceflow_worker.core.base.identity import BatchNames, queue_of
from voiceflow_worker.core.base.reading import find_jobs, totals_of
from voiceflow_worker.core.call_filter import NO_KEYS, OTHER_KEYS, STATES, CallFilter, person_of
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing, Paged
from voiceflow_worker.core.progress import CallProgress, last_failures
from voiceflow_worker.core.settling.changes import next_redial
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import Suppression
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Diagnosis, Level
from voiceflow_worker.model.flows.actions import heard_in
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, read_outcomes, read_redial_on
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME, folded
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.batches import (
    BatchProgress,
    read_batch,
    read_batches,
    read_queue,
    read_queues,
)
from voiceflow_worker.reporting.now import now_in_queues, now_of
from voiceflow_worker.reporting.status import waits_in_words
from voiceflow_worker.reporting.story import story
from voiceflow_worker.service import whole_queue

_log = structlog.get_logger("voiceflow.console")


async def show_call(store: Store, asked: PageRequest) -> Answer:
    """Show a call, with everything that is known about it."""
    job = await call_with(store, asked.name)
    if job is None:
        what = f"The store has no call {asked.name[:LONGEST_NAME]}. Calls are deleted some time after they have ended."
        return problem(404, "No such call", what)
    heard = await CallProgress(store).of_job(job)
    texts = list[str]()
    with suppress(ValueError):  # a body that cannot be read
        texts = [each.text for each in heard_in(json.loads(job.body))]
    shown = {
        "job": job,
        "story": story(job, at=store.clock.now(), heard=heard).timeline,
        "texts": texts,
        "waits": await waits_in_words(store, [job], zone=asked.time_zone),
    }
    return Page(template="call.html", shown=shown, is_live=True)


A_PAGE = 50
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
    wanted = read_filter(asked)
    names = [name for name in queues if asked.asked("queue") in {None, name}]
    totals = {name: await totals_of(store, name, wanted.batch) for name in names}
    read = [name for name in names if wanted.may_have(totals[name])]
    found = await page_of_calls(store, wanted, read, after=asked.asked("after"))
    given = {name: asked.asked(name) for name in _FILTERS} | {"who": asked.asked("who") or asked.asked("number")}

    def address(**more: str | None) -> str:
        text = urlencode({name: value for name, value in {**given, **more}.items() if value}, errors="replace")
        return escape(f"{asked.home}/calls?{text}")

    shown = {
        "found": found,
        "waits": await waits_in_words(store, found.calls, zone=asked.time_zone),
        "given": given,
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


def read_filter(asked: PageRequest) -> CallFilter:
    """Return the filter of a request. No call has a state that there is not."""
    more: dict[str, Any] = {"batch": asked.asked("batch"), "answer": asked.asked("answer")}
    state, outcome, who = asked.asked("state"), asked.asked("outcome"), asked.asked("who") or asked.asked("number")
    if state is not None:
        more["states"] = states_named(state) or frozenset()
    if outcome is not None:
        more["outcomes"] = frozenset({outcome[:LONGEST_NAME]})
        with suppress(InvalidInputError):  # an outcome of 8x8 that this version does not know
            more["outcomes"] = read_outcomes([outcome])
    if who is not None:
        more |= person_of(who)
    return CallFilter(**more)


async def page_of_calls(store: Store, wanted: CallFilter, queues: Sequence[str], *, after: str | None) -> CallPage:
    """Read one page of calls from these queues, the newest first. The last part of an id shows this order.

    Of calls that need each to be looked at, it reads about `MOST_READ`. Raises StoreError.
    """
    place = after if after is not None and len(after) <= LONGEST_NAME else None
    found, looked, goes_on = list[Job](), 0, True
    while goes_on and len(found) <= A_PAGE and looked < MOST_READ:
        limit = READ_AT_ONCE if wanted.is_judged else A_PAGE + 1
        read = await _read(store, wanted.read("", newest=True, limit=limit), queues, place)
        goes_on = len(read) == limit
        looked += len(read)
        found += filter(wanted.has, read)
        place = _end(read[-1]) if read else place
    looked_at = looked if goes_on and len(found) <= A_PAGE else None
    if len(found) > A_PAGE:
        goes_on, place = True, _end(found[A_PAGE - 1])
    return CallPage(calls=found[:A_PAGE], further=place if goes_on else None, looked_at=looked_at)


async def _read(store: Store, read: Paged, queues: Sequence[str], place: str | None) -> Sequence[Job]:
    """Return the next calls of all queues, in the order of the read, after the id `place` (an id without a queue)."""
    found: list[Job] = []
    for queue in queues:
        after = None if place is None else f"{queue}.{place}"
        found += await find_jobs(store, replace(read, queue=queue, after=after))
    return sorted(found, key=_end, reverse=read.newest)[: read.limit]


def _end(job: Job) -> str:
    return job.id.partition(".")[2]


def doubts_route(policy: CallPolicy) -> PageRoute:
    """Return the route of the page of doubts. `policy` is the workers' policy."""

    async def show_doubts(store: Store, asked: PageRequest) -> Answer:
        """Show the oldest doubts of all queues; or of the queue `?queue=` alone, after the call `?after=`."""
        only, after = asked.asked("queue"), asked.asked("after")
        after = after if after is not None and len(after) <= LONGEST_NAME and queue_of(after) == only else None
        counts = {each.queue: each.doubts for each in await read_queues(store, also=DEFAULT_QUEUE) if each.doubts}
        queues: list[Mapping[str, object]] = []
        for name in (name for name in counts if only in {None, name}):
            some = Listing(queue=name, states=frozenset({JobState.IN_DOUBT}), after=after, limit=A_PAGE + 1)
            jobs = await find_jobs(store, some)
            doubts = [await _doubt(store, job, policy) for job in jobs[:A_PAGE]]
            further = jobs[A_PAGE - 1].id if len(jobs) > A_PAGE else None
            queues.append({"name": name, "total": counts[name], "doubts": doubts, "after": further})
        return Page(template="doubts.html", shown={"queues": queues})

    return show_doubts


async def _doubt(store: Store, job: Job, policy: CallPolicy) -> Mapping[str, object]:
    """Return a call in doubt, its story, and from when on a person may say that it was not placed."""
    now, since = store.clock.now(), decidable_from(job, policy)
    history = story(job, at=now, heard=await CallProgress(store).of_job(job))
    return {"job": job, "story": history, "decidable_from": since, "decidable": since is not None and now > since}


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
        page = await listed.scan(after=(asked.asked("after") or "")[:LONGEST_NAME], limit=A_PAGE + 1)
        entries = page[:A_PAGE]
        after = entries[-1].number if len(page) > A_PAGE else None
    shown = {"wanted": wanted, "entries": entries, "trouble": trouble, "after": after}
    return Page(template="suppression.html", shown=shown)


EXPORT = "export"
_FORMS = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}
MOST_BATCHES = 20
"""The largest number of batches on the overview: the newest ones."""
_ENDS = ("unreached", "failed", "expired", "cancelled", "accepted", "in_doubt", "calling", "waiting")
"""The states of calls without an answer, and what people call several of them."""


async def show_overview(store: Store, asked: PageRequest, *, policy: CallPolicy) -> Answer:
    """Show what needs a person, the batches of today, and the queues."""
    names = await queue_names(store, also=asked.asked("queue"))
    queues = [await read_queue(store, name) for name in names]
    now = await now_in_queues(store, queues)
    # The default queue is left out while it is empty, so that the page of a new store says how to begin.
    queues = [queue for queue in queues if queue.total or queue.hold or queue.queue != DEFAULT_QUEUE]
    named = [queue.queue for queue in queues]
    conditions: list[Diagnosis] = []
    for name in named:
        whole = await whole_queue.read_queue(CallQueue(store, name, policy=policy))
        conditions += [each for each in whole.conditions if each.level is not Level.OK and each not in conditions]
    batches = (await read_batches(store, named, limit=MOST_BATCHES)).batches
    heartbeats = Heartbeats(store)
    shown = {
        "now": now,
        "queues": queues,
        "today": [each for each in batches if await _is_of_today(store, each, asked)],
        "results": {
            (each.queue, each.batch_id): results(await totals_of(store, each.queue, each.batch_id)) for each in batches
        },
        "failures": [each for _, each in await last_failures(store).page(limit=MOST_BATCHES) if each is not None],
        "conditions": conditions,
        "workers": len(await heartbeats.everywhere()),
        "receivers": await heartbeats.receivers(),
        "rate": sum((await heartbeats.rates()).values()),
    }
    return Page(template="overview.html", shown=shown, is_live=True)


async def _is_of_today(store: Store, batch: BatchProgress, asked: PageRequest) -> bool:
    """Return whether calls of a batch are in progress or due today, or its newest one ended today."""
    begins = store.clock.now().astimezone(asked.time_zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if batch.done < batch.total:
        following: datetime | None = batch.next_call.at if batch.next_call else None
        return bool(batch.under_way) or following is None or following < begins + timedelta(days=1)
    newest = Listing(queue=batch.queue, batch=batch.batch_id, newest=True, limit=1)
    return any(job.touched_at >= begins for job in await find_jobs(store, newest))


async def show_batches(store: Store, asked: PageRequest) -> Answer:
    """Show the batches whose names contain `?name=`, the newest first, from the place `?after=` on."""
    queues = await queue_names(store, also=None)
    wanted, after = asked.asked("name"), asked.asked("after")
    lists = partial(kept_lists, store)
    page = await read_batches(store, queues, after=after or "", name=wanted or "", with_next=False, also=lists)
    shown = {"batches": page.batches, "wanted": wanted, "is_first": after is None, "after": page.after}
    return Page(template="batches.html", shown=shown, is_live=True)


class ResultFilter(NamedTuple):
    """What became of calls, in `words`; the `query` of their list, their number (`calls`) if the totals say it."""

    words: str
    query: Mapping[str, str]
    calls: int | None
    colour: str


def results(totals: Totals) -> list[ResultFilter]:
    """Return what became of the calls in the store, each with the filter of its list: answers first, then states."""
    found = Totals(live=totals.live)
    keyed = found.other_keys + sum(found.answers.values())
    shown = [
        ResultFilter(answer_in_words(name), {"answer": name}, count, "good") for name, count in found.answers.items()
    ]
    shown.append(ResultFilter("other keys", {"answer": OTHER_KEYS}, found.other_keys, "warn"))
    if (silent := found.states[JobState.COMPLETED] - keyed) > 0:
        is_certain = not keyed or not found.has_open_calls  # one that goes on may have an answer too
        query = {"state": "completed", "answer": NO_KEYS}
        words, colour = ("no key", "idle") if keyed else ("answered", "good")
        shown.append(ResultFilter(words, query, silent if is_certain else None, colour))
    for name in _ENDS:
        count, tone = sum(found.states[state] for state in states_named(name) or ()), tone_of(name)
        shown.append(ResultFilter(tone.label, {"state": name}, count, "rest" if name == "waiting" else tone.colour))
    return [each for each in shown if each.calls != 0]


async def show_batch(store: Store, asked: PageRequest) -> Answer:
    """Show one batch of `?queue=`: how it goes on, and its newest calls, or the rows with none (`?rows=uncalled`)."""
    queue, batch_id = asked.query.get("queue") or DEFAULT_QUEUE, asked.name
    progress: BatchProgress | None = None
    if QUEUE_NAME.fullmatch(queue) and len(batch_id) <= LONGEST_NAME:
        progress = await read_batch(store, queue, batch_id)
    kept = UncalledList(store, queue, batch_id)
    files = [] if progress is None else await kept.files()
    if progress is None or not (progress.total or progress.hold or files):
        return await no_such_batch(store, queue, batch_id)
    totals = await totals_of(store, queue, batch_id)
    progress = replace(progress, states=totals.states)  # the sentence and the figures are of one moment
    is_uncalled = asked.asked("rows") == "uncalled" or not progress.total
    row = asked.query.get("row", "")
    first = int(row) if row.isdecimal() and len(row) < 10 else 0
    rows: list[ListedRow] = []
    if is_uncalled:
        rows = [row async for part in kept.read(first=first, limit=A_PAGE) for row in part]
    uncalled = sum(sum(file.sizes) for file in files)
    places = [("Earlier rows", first - A_PAGE)] if first else []
    places.append(("Later rows", first + A_PAGE))
    columns = listed_columns(dict.fromkeys(name for file in files for name in file.columns))
    own = [each for each in columns if each.is_own]
    people = [each for each in own if folded(each.name) == "name"] or own[:1]
    found = CallPage() if is_uncalled else await page_of_calls(store, CallFilter(batch=batch_id), [queue], after=None)
    shown = {
        "batch": progress,
        "now": now_of(progress, is_worked=queue in await Heartbeats(store).rates()),
        "results": results(totals),
        "unreached": await next_redial(store, queue, batch_id, read_redial_on("unreached")),
        "failed": await next_redial(store, queue, batch_id, read_redial_on("failed")),
        "rows": rows,
        "around": [(label, max(at, 0)) for label, at in places if -A_PAGE < at < uncalled],
        "is_uncalled": is_uncalled,
        "uncalled": uncalled,
        "all_rows": progress.total,
        "calls": found.calls,
        "waits": await waits_in_words(store, found.calls, zone=asked.time_zone),
        "people": people,
    }
    return Page(template="batch.html", shown=shown, is_live=True)


class ReportExports:
    """The export of reports. One file is written at a time (`files`)."""

    def __init__(self, store: Store, files: anyio.Lock) -> None:
        self._store = store
        self._files = files

    async def answer(self, request: Request, asked: PageRequest, person: Person) -> Answer:
        """Return the report as a file, or a page that says why there is no report. Raises StoreError."""
        kind = asked.name
        if kind not in _FORMS:
            return problem(404, "No such report", "A report can be exported as xlsx or csv.")
        # A page of another site must not make this receiver write reports. Browsers without this header are admitted.
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return problem(403, "Nothing was exported", "Open the page of the batch, and export its report from there.")
        queue, batch = asked.query.get("queue") or DEFAULT_QUEUE, asked.query.get("batch", "")
        is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch) <= LONGEST_NAME
        if not is_name or not (
            await BatchNames(self._store, queue).has_calls(batch)
            or await UncalledList(self._store, queue, batch).files()
        ):
            return await no_such_batch(self._store, queue, batch)
        folder = request.state.held.enter_context(TemporaryDirectory())  # until the file is sent
        files: dict[str, Any] = {kind: Path(folder) / f"report.{kind}", "rows": True, "zone": asked.time_zone}
        try:
            async with self._files:
                await write_report_files(ReportFiles(**files), self._store, queue, batch)
        except InvalidInputError as error:
            return problem(409, "This cannot be exported", sentence(error))
        except OSError as error:
            _log.warning("a report could not be written", error=str(error))
            return problem(503, "The report could not be written", "The log of the receiver has the reason.")
        _log.info("somebody exported a report", name=person.name, batch=batch, form=kind)
        shown = re.sub(r"[\x00-\x1f\x7f/\\\"]+", "-", f"{batch}.{kind}")
        return FileResponse(files[kind], media_type=_FORMS[kind], filename=shown)
