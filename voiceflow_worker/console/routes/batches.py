"""The pages `/ui`, `/ui/batches`, `/ui/batches/ID` and `/ui/schedules`: queues, batches, and when they start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlencode

from voiceflow_worker.campaigns.report_files import ReportColumn, listed_columns
from voiceflow_worker.campaigns.row_list import ListedRow, RowList
from voiceflow_worker.console.language import answer_in_words, translated
from voiceflow_worker.console.routes.calls import show_found
from voiceflow_worker.console.routes.charts import ChartBar, bar_of_states, bars, tone_of
from voiceflow_worker.console.routes.escalations import open_escalations
from voiceflow_worker.console.routes.page import (
    LONGEST_NAME,
    Answer,
    Page,
    PageRequest,
    no_such_batch,
    queue_names,
)
from voiceflow_worker.core.base.reading import find_jobs, gates_of, totals_of
from voiceflow_worker.core.call_filter import OTHER_KEYS
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME, name_columns
from voiceflow_worker.reporting.batches import (
    BatchProgress,
    read_batch,
    read_batches,
    read_newest,
    read_queue,
)
from voiceflow_worker.reporting.breakdown import read_breakdown
from voiceflow_worker.reporting.status import waits_in_words
from voiceflow_worker.service.scheduled_run import read_schedules

MOST_BATCHES = 10
"""The largest number of batches on this page. Batches in progress come first."""


async def show_overview(store: Store, asked: PageRequest) -> Answer:
    """The page of queues, batches, rates, holds and doubts. With `?find=`, the calls that were found."""
    if asked.asked("find"):
        return await show_found(store, asked)
    names = await queue_names(store, also=asked.asked("queue"))
    queues = [await read_queue(store, name) for name in names]
    # The default queue is left out while it is empty, so that the page of a new store says how to begin.
    queues = [queue for queue in queues if queue.total or queue.hold or queue.queue != DEFAULT_QUEUE]
    heartbeats, schedules = Heartbeats(store), await read_schedules(store)
    rates = await heartbeats.rates()
    shown = {
        "queues": queues,
        "batches": await read_newest(store, [queue.queue for queue in queues], limit=MOST_BATCHES),
        "escalations": await open_escalations(store, names),
        "holds": [gate for queue in queues for gate in await _holds(store, queue.queue)],
        "undone": [each for each in schedules if each.last.is_undone or each.overdue_since is not None],
        "schedules": schedules,
        "idle": [queue.queue for queue in queues if queue.to_send and queue.queue not in rates],
        "workers": len(await heartbeats.everywhere()),
        "receivers": await heartbeats.receivers(),
        "rate": sum(rates.values()),
        "ends_at": _end(queues),
    }
    return Page(template="overview.html", shown=shown, is_live=True)


async def show_schedules(store: Store, asked: PageRequest) -> Answer:
    """The schedules of all queues: the last run of each, what became of it, and the next one."""
    shown = {"schedules": await read_schedules(store, asked.queue)}
    return Page(template="schedules.html", shown=shown, is_live=True)


async def _holds(store: Store, queue: str) -> list[Gate]:
    """The holds of a queue and of its batches. A batch without calls is included: its hold applies to later calls."""
    now = store.clock.now()
    return [gate for gate in await gates_of(store, queue) if gate.state is GateState.HELD and gate.is_closed(at=now)]


def _end(queues: Sequence[BatchProgress]) -> datetime | None:
    """The time at which the last waiting call leaves; None if no calls wait, or if one queue's time is unknown."""
    ends = [queue.ends_at for queue in queues if queue.to_send]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


async def show_batches(store: Store, asked: PageRequest) -> Answer:
    """The page of batches whose names contain `?name=`, the newest first, from the place `?after=` on."""
    queues = await queue_names(store, also=None)
    wanted, only, after = asked.asked("name"), asked.asked("queue"), asked.asked("after")
    among = [queue for queue in queues if only in {None, queue}]
    page = await read_batches(store, among, after=after or "", name=wanted or "", shown=asked.shown, with_next=False)
    shown = {
        "batches": page.batches,
        "wanted": wanted,
        "only": only,
        "queues": queues,
        "is_first": after is None,
        "after": page.after,
        "named": urlencode({k: v for k, v in (("name", wanted), ("queue", only)) if v}, errors="replace"),
    }
    return Page(template="batches.html", shown=shown, is_live=True)


MOST_AT_ONCE = 200
"""The largest number of batches in one action, or one file."""


async def named_batches(
    store: Store,
    text: str,
    *,
    fits: Callable[[BatchProgress], bool] = lambda _: True,
    shown: Callable[[str], str] = str,
) -> list[tuple[str, str]]:
    """The queues and names of those batches of a whole list (`?name=&queue=`) that fit, the newest first.

    Raises InvalidInputError for more than `MOST_AT_ONCE`, StoreError.
    """
    given, after = dict(parse_qsl(text, errors="replace")), ""
    queues = [name for name in await queue_names(store, also=None) if given.get("queue") in {None, name}]
    found: list[tuple[str, str]] = []
    while True:
        page = await read_batches(store, queues, after=after, name=given.get("name", ""), shown=shown, with_next=False)
        found += [(each.queue, each.batch_id or "") for each in page.batches if fits(each)]
        if len(found) > MOST_AT_ONCE:
            raise InvalidInputError(f"more than {MOST_AT_ONCE} batches are too many at once; filter more")
        if page.after is None:
            return found
        after = page.after


FIRST_CALLS = 10
ROWS_A_PAGE = 50
MOST_BROKEN_DOWN = 5000
"""The largest batch, in calls, whose calls are read while somebody waits for the page."""


_ALWAYS = 3
"""How many steps of the funnel are shown even if they have no calls."""


def funnel(totals: Totals) -> list[tuple[ChartBar, str]]:
    """From the enqueued calls to the answers of people: each step with the filter of its calls, if any."""
    asked = sum(totals.states.values()) + sum(totals.pruned_states.values())
    answers, other = totals.answers, totals.other_keys
    steps = [(translated("enqueued"), asked, "idle", ""), (translated("called"), totals.placed, "idle", "")]
    steps.append((translated("answered"), totals.answered, "busy", "&outcome=reached"))
    steps += [(answer_in_words(name), count, "good", f"&answer={quote(name)}") for name, count in answers.items()]
    if answers or other:
        silent = max(totals.answered - sum(answers.values()) - other, 0)
        steps.append((translated("other keys"), other, "warn", f"&answer={OTHER_KEYS}"))
        steps.append((translated("no key"), silent, "idle", ""))
    return [
        (ChartBar(name, count, colour, width=round(min(100 * count / asked, 100), 3), of=asked), query)
        for place, (name, count, colour, query) in enumerate(steps)
        if asked and (count or place < _ALWAYS)
    ]


_ANSWER = ("result", "answer", "why")
"""The columns that say what became of a row."""


def answers_first(columns: Sequence[ReportColumn]) -> list[ReportColumn]:
    """The columns of the rows as a page shows them: who it is, and what became of the row; then all others."""
    own = [each for each in columns if each.is_own]
    names = name_columns([each.name for each in own])
    people = [each for each in own if each.name in names] or own[:1]
    first = [*people, *(each for name in _ANSWER for each in columns if not each.is_own and each.name == name)]
    return [*first, *(each for each in columns if each not in first)]


async def show_batch(store: Store, asked: PageRequest) -> Answer:
    """The page of one batch. Its queue is `?queue=`."""
    queue, batch_id = asked.query.get("queue") or DEFAULT_QUEUE, asked.name
    progress: BatchProgress | None = None
    if QUEUE_NAME.fullmatch(queue) and len(batch_id) <= LONGEST_NAME:
        progress = await read_batch(store, queue, batch_id)
    rows = RowList(store, queue, batch_id)
    files = [] if progress is None else await rows.files()
    if progress is None or not (progress.total or progress.hold or files):
        return await no_such_batch(store, queue, batch_id)
    totals = await totals_of(store, queue, batch_id)
    asked_row = asked.asked("row") or ""
    first = int(asked_row) if asked_row.isdecimal() and len(asked_row) < 10 else 0
    listed: list[ListedRow] = []
    with suppress(InvalidInputError):  # started again at this moment: the page is read again soon
        parts = rows.read(first=first, limit=ROWS_A_PAGE, zone=asked.time_zone)
        listed = [row async for part in parts for row in part]
    first_calls = await find_jobs(store, Listing(queue=queue, batch=batch_id, limit=FIRST_CALLS))
    columns = answers_first(listed_columns(dict.fromkeys(name for file in files for name in file.columns)))
    ended = sum(totals.outcomes.values())
    is_counted = 0 < progress.total <= MOST_BROKEN_DOWN and not asked.is_poll
    shown = {
        "batch": progress,
        "totals": totals,
        "ended": ended,
        "answer_rate": 100 * totals.answered / ended if ended else None,
        "states": bar_of_states(progress.states),
        "outcomes": bars(totals.outcomes, {name: tone_of(name).colour for name in totals.outcomes}),
        "funnel": funnel(totals),
        "deleted": sum(totals.pruned_states.values()),
        "rows": listed,
        "columns": [
            each
            for each in columns
            if each.is_own or each.name not in {"batch", "file"} or (each.name == "file" and len(files) > 1)
        ],
        "first_row": first,
        "page_size": ROWS_A_PAGE,
        "all_rows": sum(sum(file.sizes) for file in files),
        "calls": first_calls,
        "waits": await waits_in_words(store, first_calls, zone=asked.time_zone),
        "most": MOST_BROKEN_DOWN,
        "counted": await read_breakdown(store, queue, batch_id) if is_counted else None,
    }
    return Page(template="batch.html", shown=shown, is_live=True)
