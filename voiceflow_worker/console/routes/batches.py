"""The pages of queues: `/ui` and batches, and what became of each row of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.campaigns.report_files import ReportColumn, listed_columns
from voiceflow_worker.campaigns.row_list import KeptFile, ListedRow, RowList, kept_lists
from voiceflow_worker.console.formats import answer_in_words
from voiceflow_worker.console.routes.calls import (
    FILTERS,
    page_of_calls,
    read_filter,
    show_found,
    states_named,
)
from voiceflow_worker.console.routes.charts import bar_of_states, bars, tone_of
from voiceflow_worker.console.routes.page import (
    LONGEST_NAME,
    Answer,
    Page,
    PageRequest,
    no_such_batch,
    queue_names,
)
from voiceflow_worker.core.base.reading import find_jobs, totals_of
from voiceflow_worker.core.call_filter import NO_KEYS, OTHER_KEYS, CallFilter
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
from voiceflow_worker.reporting.batches import (
    BatchProgress,
    read_batch,
    read_batches,
    read_newest,
    read_queue,
)
from voiceflow_worker.reporting.now import now_in_queues, now_of
from voiceflow_worker.reporting.status import MOST_READ, waiting_redials, waits_in_words
from voiceflow_worker.service import whole_queue
from voiceflow_worker.service.whole_queue import WholeQueue

MOST_BATCHES = 10
"""The largest number of batches that go on, and of those that have ended, on this page."""


async def show_overview(store: Store, asked: PageRequest, *, policy: CallPolicy) -> Answer:
    """The page of queues, batches, rates and conditions. With `?find=`, the calls that were found."""
    if asked.asked("find"):
        return await show_found(store, asked)
    names = await queue_names(store, also=asked.asked("queue"))
    queues = [await read_queue(store, name) for name in names]
    happens = await now_in_queues(store, queues)
    # The default queue is left out while it is empty, so that the page of a new store says how to begin.
    queues = [queue for queue in queues if queue.total or queue.hold or queue.queue != DEFAULT_QUEUE]
    heartbeats = Heartbeats(store)
    rates = await heartbeats.rates()
    named = [queue.queue for queue in queues]
    wholes = {name: await whole_queue.read_queue(CallQueue(store, name, policy=policy)) for name in named}
    waits = [(name, batch, at) for name, of in wholes.items() for batch, at in of.status.next_due]
    due = {(name, batch): at for name, batch, at in reversed(waits) if batch is not None}
    batches = await read_newest(store, named, limit=MOST_BATCHES, due=due)
    totals = {(each.queue, each.batch_id): await totals_of(store, each.queue, each.batch_id) for each in batches}
    today = [each for each in batches if await _is_of_today(store, each, asked)]
    rest = [each for each in batches if each not in today][:MOST_BATCHES]
    shown = {
        "bars": happens,
        "queues": queues,
        "today": today,
        "rest": rest,
        "due": sum(at < _day(store, asked) + _DAY for _, _, at in waits),
        "may_be_more": any(len(of.status.next_due) == MOST_READ for of in wholes.values()),
        "results": {place: results(found) for place, found in totals.items()},
        "failures": [each for _, each in await last_failures(store).page(limit=MOST_BATCHES) if each is not None],
        "conditions": _conditions(wholes.values()),
        "workers": len(await heartbeats.everywhere()),
        "receivers": await heartbeats.receivers(),
        "rate": sum(rates.values()),
    }
    return Page(template="overview.html", shown=shown, is_live=True)


def _conditions(queues: Iterable[WholeQueue]) -> list[Diagnosis]:
    """What stands in the way of the calls of these queues; once what several of them tell."""
    found: list[Diagnosis] = []
    for whole in queues:
        found += [each for each in whole.conditions if each.level is not Level.OK and each not in found]
    return found


_DAY = timedelta(days=1)


def _day(store: Store, asked: PageRequest) -> datetime:
    """The beginning of this day, in the zone of the page."""
    now = store.clock.now().astimezone(asked.time_zone)
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


async def _is_of_today(store: Store, batch: BatchProgress, asked: PageRequest) -> bool:
    """Whether calls of a batch are in progress or due today; or if it has ended, whether its newest one has today."""
    begins = _day(store, asked)
    if batch.done < batch.total:
        following = batch.next_call
        waits = batch.states[JobState.QUEUED] + batch.states[JobState.LEASED]
        return bool(batch.under_way) or bool(waits and (following is None or following.at < begins + _DAY))
    newest = Listing(queue=batch.queue, batch=batch.batch_id, newest=True, limit=1)
    return any(job.touched_at >= begins for job in await find_jobs(store, newest))


async def show_batches(store: Store, asked: PageRequest) -> Answer:
    """The page of batches whose names contain `?name=`, the newest first, from the place `?after=` on."""
    queues = await queue_names(store, also=None)
    wanted, only, after = asked.asked("name"), asked.asked("queue"), asked.asked("after")
    among = [queue for queue in queues if only in {None, queue}]
    lists = partial(kept_lists, store)
    page = await read_batches(store, among, after=after or "", name=wanted or "", with_next=False, also=lists)
    shown = {
        "batches": page.batches,
        "wanted": wanted,
        "only": only,
        "queues": queues,
        "is_first": after is None,
        "after": page.after,
    }
    return Page(template="batches.html", shown=shown, is_live=True)


ROWS_A_PAGE = 50


_ANSWER = ("result", "answer", "why", "called_at")
"""The columns that say what became of a row, and stand in its line."""


def answers_first(columns: Sequence[ReportColumn]) -> tuple[list[ReportColumn], list[ReportColumn]]:
    """The columns of the rows as a page shows them: those that say who it is; and those that are its details."""
    own = [each for each in columns if each.is_own]
    people = [each for each in own if folded(each.name) == "name"] or own[:1]
    in_line = [each for each in columns if not each.is_own and each.name in _ANSWER]
    return people, [each for each in columns if each not in people and each not in in_line]


def _who_in(people: Sequence[ReportColumn], row: ListedRow) -> str:
    """The names in a row."""
    return " ".join(str(cell) for each in people if (cell := each.of(row)))


class ResultFilter(NamedTuple):
    """What became of calls, in `words`; the `query` of their list, their number (`calls`) if the totals say it."""

    words: str
    query: Mapping[str, str]
    calls: int | None
    colour: str


_ENDS = ("unreached", "failed", "expired", "cancelled", "accepted", "in_doubt", "calling", "waiting")
"""How calls without an answer stand: states, and those that people have one word for."""
UNCALLED = {"rows": "uncalled"}
"""The query of the rows of a file that make no call."""


def results(totals: Totals) -> list[ResultFilter]:
    """What became of the calls in the store, each with the filter of its list: the answers, then how others stand."""
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


async def _may_be_redialled(store: Store, batch: BatchProgress) -> dict[str, int | None]:
    """The `times` of another redial of who was not reached (`unreached`), or whose calls `failed`; None without any."""
    has = {"unreached": batch.states[JobState.UNREACHED], "failed": batch.states[JobState.FAILED]}
    where = batch.queue, batch.batch_id or ""
    return {
        name: await next_redial(store, *where, read_redial_on(name)) if count else None for name, count in has.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """One page of the rows of a batch, with the pages around it: pairs of a label and a query."""

    rows: Sequence[ListedRow]
    names: Sequence[str]
    """The columns of their cells."""
    around: Sequence[tuple[str, Mapping[str, object]]]


async def _rows_of_files(asked: PageRequest, kept: RowList, files: Sequence[KeptFile], *, uncalled: bool) -> _Rows:
    """The rows of the files of a batch, or of them the `uncalled` ones, from the place `?row=` on."""
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
    return _Rows(rows=listed, names=_written(files), around=around)


async def _rows_of_calls(
    store: Store, asked: PageRequest, wanted: CallFilter, files: Sequence[KeptFile], *, queue: str
) -> _Rows:
    """The calls of a batch that fit a filter, the oldest first, behind the call `?after=`, with their cells."""
    page = await page_of_calls(store, wanted, [queue], after=asked.asked("after"), newest=False)
    waits = await waits_in_words(store, page.calls, zone=asked.time_zone)
    written = {row_name(each): each for each in _written(files)}
    rows = [ListedRow.of(job, asked.time_zone, waits) for job in page.calls]
    rows = [each._replace(data={written.get(name, name): cell for name, cell in each.data.items()}) for each in rows]
    names = dict.fromkeys(name for row in rows for name in row.data)
    if files:  # whose columns have the numbers
        names = dict.fromkeys(filter(names.__contains__, written.values()))
    around: list[tuple[str, Mapping[str, object]]] = []
    if asked.asked("after"):
        around.append(("First rows", {}))
    if page.further is not None:
        around.append(("Later rows", {"after": page.further}))
    return _Rows(rows=rows, names=[*names], around=around)


def _written(files: Sequence[KeptFile]) -> list[str]:
    return list(dict.fromkeys(name for file in files for name in file.columns))


async def show_batch(store: Store, asked: PageRequest) -> Answer:
    """The page of one batch. Its queue is `?queue=`."""
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
    found, redials = results(totals), await waiting_redials(store, queue, batch_id)
    given = {name: asked.asked(name) for name in FILTERS if name not in {"queue", "batch"}}
    of_batch = replace(asked, query={**asked.query, "batch": batch_id})
    wanted, problems = read_filter(of_batch, now=store.clock.now())
    is_filtered = any(given.values()) and not problems
    uncalled = ResultFilter("not called", UNCALLED, sum(sum(file.uncalled) for file in files), "idle")
    if is_filtered or not files:
        listed = await _rows_of_calls(store, asked, wanted, files, queue=queue)
    else:
        is_uncalled = asked.asked("rows") == UNCALLED["rows"]
        given |= UNCALLED if is_uncalled else {}
        listed = await _rows_of_files(asked, kept, files, uncalled=is_uncalled)
    people, columns = answers_first(listed_columns(listed.names))
    ended = sum(totals.outcomes.values())
    shown = {
        "batch": progress,
        "totals": totals,
        "ended": ended,
        "answer_rate": 100 * totals.answered / ended if ended else None,
        "bars": (),  # but of the batch
        "bar": now_of(progress, is_worked=queue in await Heartbeats(store).rates(), redials=redials),
        **await _may_be_redialled(store, progress),
        "states": bar_of_states(totals.states),
        "pieces": bars({each.words: each.calls or 0 for each in found}, {each.words: each.colour for each in found}),
        "outcomes": totals.outcomes,
        "results": [*found, *([uncalled] if uncalled.calls else [])],
        "given": {name: value for name, value in given.items() if value},
        "problems": problems,
        "listed": listed,
        "has_files": bool(files),
        "people": people,
        "who_in": partial(_who_in, people),
        "filled": {
            *(["answer"] if any(each.why or each.answer not in {"", each.result} for each in listed.rows) else []),
            *(["called_at"] if any(each.called_at for each in listed.rows) else []),
        },
        "columns": [
            each
            for each in columns
            if each.is_own or each.name not in {"batch", "file"} or (each.name == "file" and len(files) > 1)
        ],
        "all_rows": sum(sum(file.sizes) for file in files) or progress.total,
    }
    return Page(template="batch.html", shown=shown, is_live=True)
