"""Cells as the programs show them that have escaped them, and dates that nobody means: the same in every form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import ANA, written
from tests.campaigns.reading import Row, read_all, saying
from voiceflow_worker.campaigns.files.damage import shown
from voiceflow_worker.campaigns.report_files import harmless
from voiceflow_worker.model.times import DateOrder

ESCAPED = [
    ('="Ana"', "Ana"), ('="0042"', "0042"), ('= "0042"', "0042"), ('="=1+1"', "=1+1"), ('="say ""hi"""', 'say "hi"'),
    ('=T("0042")', "0042"), ('=HYPERLINK("https://crm.example/1","Ana")', "Ana"),
    ("'-3.00", "-3.00"), ("'@Ben", "@Ben"), ("'+49 151", "+49 151"), ("'=1+1", "=1+1"), ("'0042", "0042"),
    ("'09:00", "09:00"), ("'=\"0042\"", "0042"), ("x; '@y", "x; '@y"), ("x;'@y", "x;@y"),
]  # fmt: skip
MARKED_UP = [
    ("O&#039;Brien", "O'Brien"), ("O&#x27;Brien", "O'Brien"), ("J&uuml;rgen", "Jürgen"), ("Tom &amp; Ben", "Tom & Ben"),
    ("Tom &amp;amp; Ben", "Tom & Ben"), ("5 &lt; 6", "5 < 6"), ("Ana&nbsp;Maria", "Ana Maria"),
    ("Bed &amp;#39;n&amp;#39; Bath", "Bed 'n' Bath"), ("&quot;Ana&quot;", '"Ana"'), ("&zcaron;ena", "žena"),
    ("<p>Bring it<br>now</p>", "Bring it, now"), ("<p>Bring it.<br />Now!</p><p>Ben</p>", "Bring it. Now! Ben"),
    ("<ul><li>ID</li><li>Card</li></ul>", "ID, Card"), ("<b>A</b>na", "Ana"), ("A<span style='x'>n</span>a", "Ana"),
    ('<a href="tel:123">Call</a> us', "Call us"), ("Hi<!-- note --> <style>p { }</style>Ana", "Hi Ana"),
    ("&lt;p&gt;Ana&lt;/p&gt;", "Ana"), ('<div class="x" dir="auto">Ana</div>', "Ana"),
]  # fmt: skip
MEANT = [
    "a < b", "I <3 you", "<x@y.example>", "AT&T", "R&D; Sales", "Q&A", "a<b and c>d",
    "x<y>z", "1 < 2 > 1", "'s-Hage", "'t Hooft",
    "'@Ben'", "'quoted'", "O'Brien", "=", "=1+1", "=)", "a=b", "&", "&#;", "&unknown;", "<", "<>", "'", "''",
]  # fmt: skip
UNSEEN = [
    ("2:30\u202fPM", "2:30 PM"), ("\u200e2:30 PM", "2:30 PM"), ("\u200f2:30\u00a0PM", "2:30 PM"),
    ("\ufeff14:30", "14:30"), ("\u061c14:30", "14:30"), ("14:30\u200e", "14:30"), ("\u206814:30\u2069", "14:30"),
]  # fmt: skip


def test_a_cell_is_read_as_it_is_shown() -> None:
    for cell, meant in [*ESCAPED, *MARKED_UP, *UNSEEN, *((each, each) for each in MEANT)]:
        assert shown(cell) == meant
        assert shown(f" {cell}\n") == meant
    for joined in ("Zu\u0308rich", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"):
        assert shown(joined) == joined


@given(st.text('=+-@ab1;|\t\n\uff1d "', max_size=12).map(str.strip))
def test_what_our_own_report_guards_is_read_back(cell: str) -> None:
    assert shown(harmless(cell)) == shown(cell)


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
