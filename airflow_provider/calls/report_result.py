"""The report of a batch as the result of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker import Report

MOST_KEYS = 100
"""The largest number of different key inputs in a result. It is limited because Airflow stores every result."""


def report_result(report: Report) -> dict[str, object]:
    """Return the report as `voiceflow report --json` prints it, small enough for an XCom."""
    return report.as_json(most_keys=MOST_KEYS)
