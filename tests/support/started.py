"""Starts of campaigns of which a test judges the report, also if the rows were refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec

from voiceflow_worker.campaigns import enqueue
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError

_P = ParamSpec("_P")


async def report_of(start: Awaitable[EnqueueReport]) -> EnqueueReport:
    """The report of a start, or of the error with which it was refused."""
    try:
        return await start
    except RowsRefusedError as error:
        return error.report


def _reporting(enqueuing: Callable[_P, Awaitable[EnqueueReport]]) -> Callable[_P, Awaitable[EnqueueReport]]:
    @wraps(enqueuing)
    async def reported(*args: _P.args, **how: _P.kwargs) -> EnqueueReport:
        return await report_of(enqueuing(*args, **how))

    return reported


enqueue_file = _reporting(enqueue.enqueue_file)
enqueue_rows = _reporting(enqueue.enqueue_rows)
