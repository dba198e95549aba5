"""The routes of the pages, by the first part of their paths."""

from __future__ import annotations

from collections.abc import Mapping

from voiceflow_worker.core.overview.large_breakdowns import LargeBreakdowns
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.webhooks.pages.actions.resolving import INBOX
from voiceflow_worker.webhooks.pages.routes.batch import batch_route
from voiceflow_worker.webhooks.pages.routes.batches import show_batches
from voiceflow_worker.webhooks.pages.routes.call import show_call
from voiceflow_worker.webhooks.pages.routes.calls import show_calls
from voiceflow_worker.webhooks.pages.routes.doubts import doubts_route
from voiceflow_worker.webhooks.pages.routes.overview import show_overview
from voiceflow_worker.webhooks.pages.routes.page import PageRequest, PageRoute
from voiceflow_worker.webhooks.pages.routes.suppression import show_suppression


class PageRoutes:
    """The routes of pages that list things, such as `/ui/calls`, and of pages of one thing, such as `/ui/calls/ID`."""

    def __init__(self, *, policy: CallPolicy, large: LargeBreakdowns) -> None:
        self._lists: Mapping[str, PageRoute] = {
            "": show_overview,
            "batches": show_batches,
            "calls": show_calls,
            INBOX: doubts_route(policy),
            "suppression": show_suppression,
        }
        self._single: Mapping[str, PageRoute] = {"calls": show_call, "batches": batch_route(large)}

    def find(self, asked: PageRequest) -> PageRoute | None:
        """The route that shows this page; None if there is no such page."""
        if asked.name:
            return self._single.get(asked.room)
        return None if asked.path.endswith("/") else self._lists.get(asked.room)
