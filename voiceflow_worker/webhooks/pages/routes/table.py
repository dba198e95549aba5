"""The routes of the pages, by the first part of their paths."""

from __future__ import annotations

from collections.abc import Mapping

from voiceflow_worker.webhooks.pages.routes.batch import show_batch
from voiceflow_worker.webhooks.pages.routes.batches import show_batches
from voiceflow_worker.webhooks.pages.routes.call import show_call
from voiceflow_worker.webhooks.pages.routes.calls import show_calls
from voiceflow_worker.webhooks.pages.routes.overview import show_overview
from voiceflow_worker.webhooks.pages.routes.page import PageRequest, PageRoute
from voiceflow_worker.webhooks.pages.routes.suppression import show_suppression

LISTS: Mapping[str, PageRoute] = {
    "": show_overview,
    "batches": show_batches,
    "calls": show_calls,
    "suppression": show_suppression,
}
"""The routes of lists, such as `/ui/calls`."""
SINGLE: Mapping[str, PageRoute] = {"calls": show_call, "batches": show_batch}
"""The routes of single calls and batches, such as `/ui/calls/ID`."""


def reading_route(asked: PageRequest) -> PageRoute | None:
    """The route that shows this page; None if there is no such page."""
    if asked.name:
        return SINGLE.get(asked.room)
    return None if asked.path.endswith("/") else LISTS.get(asked.room)
