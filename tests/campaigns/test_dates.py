"""Dates that nobody means, and dates of two orders in one column: the same in every form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pytest

from tests.campaigns.forms import ANA, written
from tests.campaigns.reading import Row, read_all, saying
from voiceflow_worker.model.times import DateOrder

MIXED: list[tuple[Sequence[object], bool]] = [
    ([date(2026, 4, 3), "13/04/2026"], True),
    (["13/04/2026", datetime(2026, 4, 3, 9, 0)], True),  # noqa: DTZ001
    (["2026-04-03", "03/05/2026"], True),
    (["2026-04-03 09:00", "2026-04-13", "1.5.2026 9:00"], True),
    (["13/04/2026", "03/05/2026"], False),
    ([date(2026, 4, 3), date(2026, 4, 13)], False),
    ([date(2026, 4, 13), date(2026, 4, 4), "03/04/2026"], False),  # these have been read right in any order
    ([date(2026, 4, 3), "soon", ""], False),
]


@pytest.mark.parametrize(
    ("form", "column"),
    [("csv", "day"), ("xlsx", "day"), ("jsonl", "day"), ("rows", "day"), ("csv", "not_before"), ("rows", "born")],
)
def test_dates_and_texts_of_another_order_in_one_column_are_refused(tmp_path: Path, form: str, column: str) -> None:
    for days, is_refused in MIXED:
        rows: list[Row] = [
            {"destination": f"{ANA[:-2]}{n:02}", "time_zone": "UTC", "day": "", column: day}
            for n, day in enumerate(days)
        ]
        given = written(tmp_path, rows, form)
        for order in (DateOrder.DMY, DateOrder.MDY, DateOrder.YMD):
            found = read_all(given, saying("Come {{day}}.", date_order=order)).closing
            wrong = [each for each in found if each.is_error]
            # Nothing says when somebody was born.
            assert bool(wrong) is (is_refused and column != "born" and order is not DateOrder.YMD)
            for each in wrong:
                assert (each.column, each.row is not None) == (column, True)
                assert "2026-04-03" in each.message
                assert "2026-03-04" in each.message
