"""Filters of columns: what is proposed leaves out the rows that were counted; what people type has one reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.campaigns.forms import written
from tests.campaigns.reading import NOW, file_of, read_all
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.campaigns.lists.filters import Filter, read_filter
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

SAID: dict[str, object] = {
    "say": "Hello.", "window": "any", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b",
}  # fmt: skip
HEADERS = (
    "Attending!", "a*", "b=", "c=d", "e, f", "<g>", "h|", "~i", "!j", "k!!", "l!=m", "{n}", 'o"p', "None", "null",
    "true", "0", "1.0", " q ", "two\nlines", "=", "*", ",", ";", '"', "'", "#", "-", "!",
)  # fmt: skip
VALUES = (
    "!", "*", ",", ";", '"', "'", "#", "-", "None", "null", "true", "0", "1.0", "!no", "=y", " z ", "two\nlines",
    "x, y", "N/A", "{}", '{"column": 1}', "x", "a&amp;b", "'q'", "01", "31/1/2030", "yes", "",
)  # fmt: skip


def asked_of(kept: object) -> dict[str, object]:
    return {**SAID, "rows": [], "leave_out": kept}


@pytest.mark.parametrize("form", ["csv", pytest.param("rows", marks=pytest.mark.slow)])
def test_a_value_that_is_counted_leaves_out_its_rows_or_is_refused(tmp_path: Path, form: str) -> None:
    """As data it always does. What is typed is refused where names of columns give it another reading."""
    asked = 0
    for place, header in enumerate(HEADERS):
        held = dict.fromkeys([*VALUES[4 * place % len(VALUES) :][:4], "other"])
        cells = [value for value in held for _ in range(3)]
        given = written(
            tmp_path, [{"destination": f"+658765{at:04}", header: cell} for at, cell in enumerate(cells)], form
        )
        campaign = open_campaign(given, Campaign.of({**SAID, "rows": []}).options, now=NOW)
        assert list(campaign)
        (shown,) = campaign.values.unread()
        for value, count in shown.values.items():
            found = Filter(shown.column, value)
            for kept in ([found.as_json()], str(found)):
                try:
                    reading = read_all(given, Campaign.of(asked_of(kept)).options)
                except (CampaignFileError, InvalidInputError):
                    assert isinstance(kept, str), found
                    continue
                asked += 1
                assert sum(row.is_left_out for row in reading.rows) == count, kept
    assert asked > 100


SIGNS = (">=", "<=", "~=", "^=", "*=", "|=", "===", "!==", "=!", "<>=")
READINGS: Mapping[tuple[str, str], object] = {
    ("Do not call!=x", "Do not call!"): Filter("Do not call!", "x"),
    ("Do not call!=x", "Do not call"): Filter("Do not call", "x", is_not=True),
    ("do not call = x", "Do not call!"): None,
    ("do not call! = x", "Do not call!"): Filter("Do not call!", "x"),
    ("a!=x", "a!;a"): "has two readings. Give the one that is meant as data: {",
    ("Status==Booked", "Status"): "is no filter",
    ("Status==Booked", "Status="): Filter("Status=", "Booked"),
    ("Status=!no", "Status"): "is no filter",
    ("a=b=c", "a=b"): Filter("a=b", "c"),
    ("a=b=c", "a"): Filter("a", "b=c"),
    ("a=b=c", "a;a=b"): "has two readings",
    ("Call (1=yes)!=1", "Call (1=yes)"): Filter("Call (1=yes)", "1", is_not=True),
    ("call (1=yes)=0", "Call (1=yes)"): Filter("Call (1=yes)", "0"),
    ("Left at=", "Left at"): Filter("Left at", ""),
    ("left at !=", "Left at"): Filter("Left at", "", is_not=True),
    ("Statsu=Booked", "Status"): None,
    **dict.fromkeys(((f"Status{sign}Booked", "Status") for sign in SIGNS[:6]), None),
    **dict.fromkeys(((f"Status{sign}Booked", "Status") for sign in ("===", "!==", "=!")), "is no filter"),
    ("! Status = Booked", "Status"): None, ("!=x", "Status"): None,
}  # fmt: skip
"""What is typed with these columns, and how it is read, or why it is refused."""


def test_what_is_typed_is_read_with_the_columns_and_has_one_reading() -> None:
    for (typed, columns), wanted in READINGS.items():
        try:
            found: object = read_filter(typed, columns.split(";"))
        except InvalidInputError as error:
            found = str(error)
        assert wanted in found if isinstance(wanted, str) and isinstance(found, str) else found == wanted, typed


STATUSES = (
    "Booked", "Cancelled", "Canceled", "CANCELLED - by patient", "booked ", "Booked ", "Cancelled (late)", "Re-booked",
)  # fmt: skip
REST = {"Booked": 3, "Canceled": 1, "CANCELLED - by patient": 1, "Cancelled (late)": 1, "Re-booked": 1}


def shown_of(path: Path, **fields: object) -> CampaignRows:
    """The rows of a file, read to their end."""
    campaign = open_campaign(path, Campaign.of({**SAID, "rows": [], **fields}).options, now=NOW)
    assert list(campaign)
    return campaign


def test_of_a_column_that_a_filter_reads_the_values_that_are_called_are_shown(tmp_path: Path) -> None:
    lines = "".join(f"+658765432{at},{each}\n" for at, each in enumerate(STATUSES))
    path = file_of(tmp_path, f"destination,Status\n{lines}")
    for fields, values in (
        ({"leave_out": "Status=Cancelled"}, REST), ({"only": "Status!=Cancelled"}, REST),
        ({"only": ["Status=Booked", "Status=Canceled"]}, {"Booked": 3, "Canceled": 1}),
        ({"say": "It is {{status}}.", "leave_out": "Status=cancelled"}, REST),
        ({"only": [Filter("Status", "Booked"), Filter("Status", "Re-booked")]}, {"Booked": 3, "Re-booked": 1}),
    ):  # fmt: skip
        (found,) = shown_of(path, **fields).values.unread()
        assert found.as_json() == {"column": "Status", "values": values}, fields
    many = file_of(tmp_path, "destination,Status\n" + "".join(f"+65876543{at},S{at}\n" for at in range(10, 30)))
    assert shown_of(many, leave_out="Status=S10").values.unread() == (), "as others"


def test_columns_that_are_partly_filled_are_shown(tmp_path: Path) -> None:
    names = [f"Left {at}" for at in range(13)]
    rows = [
        {"destination": f"+658765400{at}", "DNC date": f"2026-01-0{at}" if at % 2 else "", "full": at, "none": "",
         **{name: f"None {at}" if at != place % 8 else " " for place, name in enumerate(names)}}
        for at in range(8)
    ]  # fmt: skip
    path = written(tmp_path, rows, "csv")
    assert isinstance(path, Path)
    found = shown_of(path).values.partly_filled()
    assert len(found) == 12, "at most"
    assert found[0].as_json() == {"column": "DNC date", "filled": 4, "empty": 4}
    assert {"full", "none"}.isdisjoint(each.column for each in found)
    (undecided,) = (each for each in shown_of(path).closing_findings() if each.is_error)
    left_out = Filter("DNC date", "", is_not=True)
    assert f"(`leave_out: {left_out}`)" in undecided.message
    for kept in (str(left_out), left_out.as_json()):
        reading = read_all(path, Campaign.of(asked_of(kept)).options)
        assert sum(row.is_left_out for row in reading.rows) == 4, kept
    assert shown_of(path, leave_out=str(left_out)).values.partly_filled()[0].column != "DNC date", "it is read"
