"""The routes of the pages, by the first part of their paths."""

from __future__ import annotations

from collections.abc import Mapping

from voiceflow_worker.console.acting import INBOX
from voiceflow_worker.console.routes.batches import batch_route, show_batches, show_overview
from voiceflow_worker.console.routes.calls import doubts_route, show_call, show_calls, show_suppression
from voiceflow_worker.console.routes.page import PageRoute
from voiceflow_worker.core.overview.breakdown import LargeBreakdowns
from voiceflow_worker.model.jobs.policy import CallPolicy


def page_routes(*, policy: CallPolicy, large: LargeBreakdowns) -> Mapping[str, PageRoute]:
    """The routes of pages that list things, such as `calls`, and of pages of one thing, such as `calls/ID`."""
    return {
        "": show_overview,
        "batches": show_batches,
        "batches/ID": batch_route(large),
        "calls": show_calls,
        "calls/ID": show_call,
        INBOX: doubts_route(policy),
        "suppression": show_suppression,
    }
