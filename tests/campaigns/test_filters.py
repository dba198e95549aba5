"""Filters of columns: what is proposed leaves out the rows that were counted; what people type has one reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.campaigns.forms import written
from tests.campaigns.reading import NOW, file_of, read_all
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.campaigns.lists.filters import Filter, cell_of, parts_of, read_filter
from voiceflow_worker.errors import InvalidInputError

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


def by_each_door(found: Filter) -> Iterator[tuple[str, object]]:
    """The filter as each interface passes it on: what its field `leave_out` then is."""
    yield "command", str(found)
    yield "program", [json.loads(json.dumps(found.as_json()))]


@pytest.mark.parametrize(
    "form", ["csv", *(pytest.param(each, marks=pytest.mark.slow) for each in ("rows", "jsonl", "xlsx"))]
)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_proposed_leaves_out_the_rows_that_were_counted(tmp_path: Path, form: str, *, every: bool) -> None:
    values = [each for each in VALUES if form != "xlsx" or each[:1] != "="]  # which is a formula there
    asked = 0
    for place, header in enumerate(HEADERS):
        if (header[0] in "!=" and form == "xlsx") or (place % 3 and not every):
            continue
        for first in range(0, len(values), 4) if every else (4 * place % len(values),):
            held = dict.fromkeys([*values[first : first + 4], "other"])
            cells = [value for value in held for _ in range(3)]
            rows = [{"destination": f"+658765{at:04}", header: cell} for at, cell in enumerate(cells)]
            given = written(tmp_path, rows, form)
            campaign = open_campaign(given, Campaign.of({**SAID, "rows": []}).options, now=NOW)
            assert list(campaign)
            (shown,) = campaign.values.unread()
            assert (shown.column, sum(shown.values.values())) == (header.strip(), len(rows)), held
            for value, count in shown.values.items():
                found = Filter(shown.column, value)
                for door, kept in by_each_door(found) if value else [("program", [found.as_json()])]:
                    reading = read_all(given, Campaign.of(asked_of(kept)).options)
                    out = [str(cell_of(cells[at])) for at, row in enumerate(reading.rows) if row.is_left_out]
                    asked += 1
                    assert (len(out), value in (out or [value])) == (count, True), (door, kept, out)
    assert asked > (100 if every else 50)


SIGNS = (">=", "<=", "~=", "^=", "*=", "|=", "===", "!==", "=!", "<>=")
READINGS: Mapping[tuple[str, str], object] = {
    ("Do not call!=x", "Do not call!"): Filter("Do not call!", "x"),
    ("Do not call!=x", "Do not call"): Filter("Do not call", "x", is_not=True),
    ("do not call = x", "Do not call!"): None,
    ("do not call! = x", "Do not call!"): Filter("Do not call!", "x"),
    ("a!=x", "a!;a"): "has two readings. Write the one that is meant: {",
    ("Status==Booked", "Status"): "is no filter",
    ("Status==Booked", "Status="): Filter("Status=", "Booked"),
    ("Status=!no", "Status"): "is no filter",
    ("a=b=c", "a=b"): Filter("a=b", "c"),
    ("a=b=c", "a"): Filter("a", "b=c"),
    ("a=b=c", "a;a=b"): Filter("a=b", "c"),
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
        if isinstance(found, Filter):
            assert parts_of(found.as_text()) == (found,)
            assert found == (
                found if isinstance(part := parts_of(str(found))[0], Filter) else read_filter(part, columns.split(";"))
            )


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
