"""The page `/ui/batches/ID`: one batch, its progress and its outcomes."""

from __future__ import annotations

from urllib.parse import quote

from voiceflow_worker.core.overview.batches import BatchProgress, read_batch
from voiceflow_worker.core.overview.breakdown import LargeBreakdown, LargeBreakdowns, read_breakdown
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.names import QUEUE_NAME
from voiceflow_worker.webhooks.pages.routes.calls import OTHER_KEYS
from voiceflow_worker.webhooks.pages.routes.charts import ChartBar, bar_of_states, bars
from voiceflow_worker.webhooks.pages.routes.page import Answer, Page, PageRequest, PageRoute
from voiceflow_worker.webhooks.pages.routes.queries import DEFAULT_QUEUE, LONGEST_NAME, no_such_batch
from voiceflow_worker.webhooks.pages.routes.tones import tone_of

FIRST_CALLS = 10
MOST_BROKEN_DOWN = 5000
"""The largest batch, in calls, whose calls are read while somebody waits for the page."""


def funnel(totals: Totals) -> list[tuple[ChartBar, str]]:
    """From the calls that were asked for to the answers of people: each step with the filter of its calls, if any."""
    asked = sum(totals.states.values()) + sum(totals.pruned_states.values())
    answers, other = totals.answers, totals.other_keys
    steps = [("asked for", asked, "idle", ""), ("called", totals.placed, "idle", "")]
    steps.append(("answered", totals.answered, "busy", "&outcome=reached"))
    steps += [(name, count, "good", f"&answer={quote(name)}") for name, count in answers.items()]
    if answers or other:
        silent = max(totals.answered - sum(answers.values()) - other, 0)
        steps += [("other keys", other, "warn", f"&answer={OTHER_KEYS}"), ("no key", silent, "idle", "")]
    return [
        (ChartBar(name, count, colour, width=round(min(100 * count / asked, 100), 3), of=asked), query)
        for name, count, colour, query in steps
        if asked and (count or name in {"asked for", "called", "answered"})
    ]


def batch_route(large: LargeBreakdowns) -> PageRoute:
    """The page of a batch. `large` counts batches that are too large to be counted while somebody waits."""

    async def show_batch(store: Store, asked: PageRequest) -> Answer:
        """The page of one batch. Its queue is `?queue=`."""
        queue, batch_id = asked.query.get("queue") or DEFAULT_QUEUE, asked.name
        progress: BatchProgress | None = None
        if QUEUE_NAME.fullmatch(queue) and len(batch_id) <= LONGEST_NAME:
            progress = await read_batch(store, queue, batch_id)
        if progress is None or not (progress.total or progress.hold):
            return await no_such_batch(store, queue, batch_id)
        totals = await store.totals(queue, batch=batch_id)
        ended = sum(totals.outcomes.values())
        is_large = progress.total > MOST_BROKEN_DOWN
        shown = {
            "batch": progress,
            "totals": totals,
            "ended": ended,
            "answer_rate": 100 * totals.answered / ended if ended else None,
            "states": bar_of_states(progress.states),
            "outcomes": bars(totals.outcomes, {name: tone_of(name).colour for name in totals.outcomes}),
            "funnel": funnel(totals),
            "deleted": sum(totals.pruned_states.values()),
            "calls": await find_jobs(store, Query(queue=queue, batch_id=batch_id, limit=FIRST_CALLS)),
            "most": MOST_BROKEN_DOWN,
            "large": large.look(queue, batch_id, totals) if is_large else None,
            "small": None,
        }
        if progress.total and not is_large and not asked.is_poll:
            shown["small"] = LargeBreakdown(breakdown=await read_breakdown(store, queue, batch_id), at=progress.at)
        return Page(template="batch.html", shown=shown, is_live=True)

    return show_batch
