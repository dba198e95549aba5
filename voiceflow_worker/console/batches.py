"""The pages of queues and batches: what goes on now, and what became of each row of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.campaigns.report_files import ReportColumn, listed_columns
from voiceflow_worker.campaigns.row_list import KeptFile, ListedRow, RowList, kept_lists
from voiceflow_worker.console.calls import page_of_calls, read_filter, show_found, states_named
from voiceflow_worker.console.formats import answer_in_words
from voiceflow_worker.console.page import LONGEST_NAME, Answer, Page, PageRequest, no_such_batch, queue_names
from voiceflow_worker.console.tones import tone_of
from voiceflow_worker.core.base.reading import find_jobs, totals_of
from voiceflow_worker.core.call_filter import NO_KEYS, OTHER_KEYS
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.progress import last_failures
from voiceflow_worker.core.settling.changes import next_redial
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Diagnosis, Level
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, read_redial_on
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME, folded
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.batches import BatchProgress, read_batch, read_batches, read_newest, read_queue
from voiceflow_worker.reporting.now import now_in_queues, now_of
from voiceflow_worker.reporting.status import waiting_redials, waits_in_words
from voiceflow_worker.service import whole_queue

MOST_BATCHES = 10
"""The largest number of batches that go on, and of those that have ended, on the overview."""
ROWS_A_PAGE = 50
_ANSWER = ("result", "answer", "why", "called_at")
"""The columns that say what became of a row, and are in its line."""
_ENDS = ("unreached", "failed", "expired", "cancelled", "accepted", "in_doubt", "calling", "waiting")
"""The states of calls without an answer, and what people call several of them."""
UNCALLED = {"rows": "uncalled"}
"""The query of the rows of a list that make no call."""


async def show_overview(store: Store, asked: PageRequest, *, policy: CallPolicy) -> Answer:
    """Show what needs a person, the batches of today, and the queues. With `?find=`, the calls that were found."""
    if asked.asked("find"):
        return await show_found(store, asked)
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
    batches = await read_newest(store, named, limit=MOST_BATCHES)
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


async def _next_redials(store: Store, batch: BatchProgress) -> dict[str, int | None]:
    """Return the `times` of another redial of who was not reached (`unreached`), or whose calls `failed`."""
    has = {"unreached": batch.states[JobState.UNREACHED], "failed": batch.states[JobState.FAILED]}
    where = batch.queue, batch.batch_id or ""
    return {
        name: await next_redial(store, *where, read_redial_on(name)) if count else None for name, count in has.items()
    }


class _Rows(NamedTuple):
    """One page of the rows of a batch: the columns of their `names`, and pairs of a label and a query `around` it."""

    rows: Sequence[ListedRow]
    names: Sequence[str]
    around: Sequence[tuple[str, Mapping[str, object]]]


async def _rows_of_files(asked: PageRequest, kept: RowList, files: Sequence[KeptFile], *, uncalled: bool) -> _Rows:
    """Return rows of the lists of a batch, or of them the `uncalled` ones, from the place `?row=` on."""
    asked_row = asked.asked("row") or ""
    first = int(asked_row) if asked_row.isdecimal() and len(asked_row) < 10 else 0
    listed: list[ListedRow] = []
    with suppress(InvalidInputError):  # started again at this moment: the page is read again soon
        parts = kept.read(first=first, limit=ROWS_A_PAGE, uncalled=uncalled, zone=asked.time_zone)
        listed = [row async for part in parts for row in part]
    total = sum(sum(file.uncalled if uncalled else file.sizes) for file in files)
    places = (("Earlier rows", first - ROWS_A_PAGE), ("Later rows", first + ROWS_A_PAGE))
    around = [
        (label, {"row": max(place, 0)}) for label, place in places if -ROWS_A_PAGE < place < total and place != first
    ]
    return _Rows(listed, _written(files), around)


async def _rows_of_calls(store: Store, asked: PageRequest, files: Sequence[KeptFile], *, queue: str) -> _Rows:
    """Return the calls of a batch that fit the filter of a request, the oldest first, behind the call `?after=`."""
    wanted, _ = read_filter(asked)
    page = await page_of_calls(store, wanted, [queue], after=asked.asked("after"), newest=False)
    waits = await waits_in_words(store, page.calls, zone=asked.time_zone)
    written = {row_name(each): each for each in _written(files)}
    rows = [ListedRow.of(job, asked.time_zone, waits) for job in page.calls]
    rows = [each._replace(data={written.get(name, name): cell for name, cell in each.data.items()}) for each in rows]
    names = dict.fromkeys(name for row in rows for name in row.data)
    around: list[tuple[str, Mapping[str, object]]] = [("First rows", {})] if asked.asked("after") else []
    around += [("Later rows", {"after": page.further})] if page.further is not None else []
    return _Rows(rows, [*(filter(names.__contains__, written.values()) if files else names)], around)


def _written(files: Sequence[KeptFile]) -> list[str]:
    return list(dict.fromkeys(name for file in files for name in file.columns))


def _who_in(people: Sequence[ReportColumn], row: ListedRow) -> str:
    """Return the names in a row."""
    return " ".join(str(cell) for each in people if (cell := each.of(row)))


async def show_batch(store: Store, asked: PageRequest) -> Answer:
    """Show one batch, and its rows. Its queue is `?queue=`."""
    queue, batch_id = asked.query.get("queue") or DEFAULT_QUEUE, asked.name
    progress: BatchProgress | None = None
    if QUEUE_NAME.fullmatch(queue) and len(batch_id) <= LONGEST_NAME:
        progress = await read_batch(store, queue, batch_id)
    kept = RowList(store, queue, batch_id)
    files = [] if progress is None else await kept.files()
    if progress is None or not (progress.total or progress.hold or files):
        return await no_such_batch(store, queue, batch_id)
    totals = await totals_of(store, queue, batch_id)
    progress = replace(progress, states=totals.states)  # the sentence and the figures are of one moment
    given = {name: asked.query[name] for name in ("state", "answer", "outcome", "who", "rows") if asked.asked(name)}
    uncalled = ResultFilter("not called", UNCALLED, sum(sum(file.uncalled) for file in files), "idle")
    if files and given.keys() <= {"rows"}:
        listed = await _rows_of_files(asked, kept, files, uncalled=given == UNCALLED)
    else:
        of_batch = replace(asked, query={**asked.query, "batch": batch_id})
        listed = await _rows_of_calls(store, of_batch, files, queue=queue)
    columns = listed_columns(listed.names)
    own = [each for each in columns if each.is_own]
    people = [each for each in own if folded(each.name) == "name"] or own[:1]
    redials = await waiting_redials(store, queue, batch_id)
    shown = {
        "batch": progress,
        "now": now_of(progress, is_worked=queue in await Heartbeats(store).rates(), redials=redials),
        "results": [*results(totals), *([uncalled] if uncalled.calls else [])],
        **await _next_redials(store, progress),
        "given": given,
        "listed": listed,
        "has_files": bool(files),
        "people": people,
        "who_in": partial(_who_in, people),
        "columns": [each for each in columns if each not in people and (each.is_own or each.name not in _ANSWER)],
        "all_rows": sum(sum(file.sizes) for file in files) or progress.total,
    }
    return Page(template="batch.html", shown=shown, is_live=True)
