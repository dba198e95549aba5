"""Ranges of the log of 8x8 to request: calls are grouped by time, and each group needs one range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from voiceflow_worker.model.jobs.call_log import Window

SPAN = timedelta(hours=2)
"""The approximate longest range of one export. With 50 calls a second, such an export has 360,000 rows."""
MARGIN = timedelta(minutes=1)
"""Each range begins this much before the first possible time of its calls. 8x8 does not document whether it rounds the
range to minutes."""
PAGE = 500


class _HasWindow(Protocol):
    @property
    def window(self) -> Window: ...


Case = TypeVar("Case", bound=_HasWindow)


@dataclass(frozen=True, slots=True)
class Look:
    """The next request for a part of the log: request `number` of `count`, made for this many `calls`."""

    number: int
    count: int
    calls: int
    asked: Window


def spans(cases: Sequence[Case]) -> list[list[Case]]:
    """The calls to look up (`cases`) in groups, the oldest first. Each group needs about `SPAN` of the log."""
    groups: list[list[Case]] = []
    for case in sorted(cases, key=lambda each: each.window.since):
        if not groups or case.window.until - groups[-1][0].window.since > SPAN:
            groups.append([])
        groups[-1].append(case)
    return groups


def range_of(group: Sequence[_HasWindow], *, longest_call: timedelta, latest: datetime) -> Window:
    """The range of the log that has the rows of a group, up to `latest`.

    The range covers the longest possible call, because 8x8 does not document which of a row's times counts.
    """
    until = max(case.window.until for case in group) + longest_call
    return Window(min(case.window.since for case in group) - MARGIN, min(until, latest))
