"""The numbers of a person in the columns of a file: all of them are certain, or the row is bad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.forms import Row, written
from tests.campaigns.reading import NOW, OPTIONS
from voiceflow_worker import CallQueue, Campaign, InvalidInputError, open_store
from voiceflow_worker.campaigns.calls.options import BadNumbers
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.files.rows import column_names
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.window import CallWindow

FIELDS = {"say": "Hello.", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "country": "SG"}
TO_BOTH = "Mobile,Home Phone"
MOBILE, HOME, WORK = "+6587654321", "+6561234567", "+6567654321"


EACH_FORM = pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "rows"])


def read(folder: Path, form: str, *rows: Row, columns: str = TO_BOTH, **more: Any) -> list[ReadRow]:
    options = replace(OPTIONS, country="SG", batch_id="b", columns={"destination": column_names(columns)}, **more)
    return list(CampaignRows(written(folder, rows, form), options, now=NOW))


def numbers(row: ReadRow) -> tuple[str, ...]:
    assert row.call is not None, row.findings
    return row.call.numbers


@EACH_FORM
def test_the_numbers_of_a_row_are_called_in_the_order_of_the_columns(tmp_path: Path, form: str) -> None:
    rows = read(
        tmp_path,
        form,
        {"name": "Ana", "Home Phone": "6123 4567", "Mobile": "8765 4321"},
        {"name": "Ben", "Home Phone": "", "Mobile": "8765 4322"},
        {"name": "Cik", "Home Phone": 61234568, "Mobile": ""},
        {"name": "Dee", "Home Phone": "+65 8765 4323", "Mobile": "87654323"},
    )
    expected = [(MOBILE, HOME), ("+6587654322",), ("+6561234568",), ("+6587654323",)]
    assert [numbers(row) for row in rows] == expected
    assert [row.call.data["home_phone"] for row in rows[:1] if row.call and row.call.data] == ["6123 4567"]


WRONG = ["none of these", "0061 6123", "6123", "61234567 / 67654321", "#N/A", "null"]


@EACH_FORM
def test_three_numbers_are_called_in_their_order_and_a_bad_one_alone_is_skipped(tmp_path: Path, form: str) -> None:
    rows: list[Row] = [
        {"name": "Ana", "Mobile": mobile, "Home Phone": "61234567", "Work": "67654321"}
        for mobile in ("87654321", "none")
    ]
    skipping = read(tmp_path, form, *rows, columns=f"{TO_BOTH},Work", bad_numbers=BadNumbers.SKIP)
    assert [numbers(row) for row in skipping] == [(MOBILE, HOME, WORK), (HOME, WORK)]
    assert numbers(read(tmp_path, form, *rows, columns=f"{TO_BOTH},Work")[0]) == (MOBILE, HOME, WORK)


@EACH_FORM
def test_a_row_with_a_bad_number_in_any_column_is_bad(tmp_path: Path, form: str) -> None:
    given = [
        (column, {"name": "Ana", "Mobile": "87654321", "Home Phone": "61234567", column: wrong})
        for wrong in WRONG
        for column in ("Mobile", "Home Phone")
    ]
    rows = read(tmp_path, form, *(row for _, row in given))
    for (column, _), row in zip(given, rows, strict=True):
        assert (row.is_bad, row.call) == (True, None)
        assert {found.column for found in row.findings if found.is_error} == {column}


@EACH_FORM
def test_a_number_that_a_spreadsheet_cut_off_is_refused_in_every_column(tmp_path: Path, form: str) -> None:
    (row,) = read(tmp_path, form, {"name": "Ana", "Mobile": "87654321", "Home Phone": 6561234567.5})
    assert (row.is_bad, [found.column for found in row.findings if found.is_error]) == (True, ["Home Phone"])


@EACH_FORM
def test_a_row_without_any_number_is_bad(tmp_path: Path, form: str) -> None:
    (row,) = read(tmp_path, form, {"name": "Ana", "Mobile": "", "Home Phone": ""})
    assert [(found.column, found.is_error) for found in row.findings] == [("Mobile", True)]


@pytest.mark.parametrize("form", ["csv", "xlsx"])
@pytest.mark.parametrize("columns", ["Mobile,Fax", "Fax,Mobile"])
def test_a_column_that_a_table_lacks_is_named(tmp_path: Path, form: str, columns: str) -> None:
    with pytest.raises(CampaignFileError, match="has no column 'Fax'"):
        read(tmp_path, form, {"name": "Ana", "Mobile": "87654321"}, columns=columns)


@pytest.mark.parametrize("columns", [",", "Mobile,", ",Mobile", "Mobile,,Home Phone"])
def test_an_empty_name_beside_a_comma_is_refused(tmp_path: Path, columns: str) -> None:
    with pytest.raises(InvalidInputError, match="write it as mobile,phone"):
        read(tmp_path, "csv", {"name": "Ana", "Mobile": "87654321", "Home Phone": "61234567"}, columns=columns)


@EACH_FORM
def test_a_name_with_a_comma_stands_in_quotes_or_in_a_list(tmp_path: Path, form: str) -> None:
    people = written(tmp_path, [{"name": "Ana", "Mobile, own": "87654321", 'Home, "old"': "61234567"}], form)
    where = {"file" if isinstance(people, Path) else "rows": people, "batch": "march"}
    for columns in (
        'destination="Mobile, own","destination=Home, ""old"""',
        ['destination="Mobile, own"', 'destination=Home, "old"'],
        {"destination": ["Mobile, own", 'Home, "old"']},
    ):
        options = Campaign.of({**FIELDS, **where, "columns": columns}).options
        assert [numbers(row) for row in CampaignRows(people, options, now=NOW)] == [(MOBILE, HOME)]


@pytest.mark.parametrize("reserved", ["source", "Source", "unique_key", "Batch ID", "language"])
def test_a_column_with_a_meaning_of_its_own_has_no_further_numbers(tmp_path: Path, reserved: str) -> None:
    row = {"name": "Ana", "Mobile": "87654321", reserved: "+6561234567"}
    with pytest.raises(InvalidInputError, match=f"'{reserved}' .* rename it"):
        read(tmp_path, "csv", row, columns=f"Mobile,{reserved}")


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_a_column_that_no_row_of_json_has_is_told(tmp_path: Path, form: str) -> None:
    people = written(tmp_path, [{"name": "Ana", "Mobile": "87654321"}, {"name": "Ben", "Mobile": "87654322"}], form)
    for columns, told in [("Mobile,Fax", ["Fax"]), ("Mobile,name", []), (TO_BOTH, ["Home Phone"])]:
        rows = CampaignRows(
            people,
            replace(OPTIONS, country="SG", batch_id="b", columns={"destination": column_names(columns)}),
            now=NOW,
        )
        assert [row.is_bad for row in rows] == [columns == "Mobile,name"] * 2
        assert [found.column for found in rows.closing_findings() if "no row" in found.message] == told


def test_numbers_of_countries_with_other_callers_or_hours_are_told(tmp_path: Path) -> None:
    abroad = {"name": "Ana", "Mobile": "87654321", "Home Phone": "+60 3-2345 6789"}
    (row,) = read(tmp_path, "csv", abroad, source="SG=+6531234567,MY=+60321111111")
    assert [found.column for found in row.findings if found.is_error] == ["source"]
    british = {"name": "Ana", "Mobile": "87654321", "Home Phone": "+44 20 7183 8750"}
    (row,) = read(tmp_path, "csv", british, window=CallWindow.parse("09:00-20:00"))
    assert "are in different time zones (Asia/Singapore and Europe/London)" in str(row.findings)


def test_the_columns_may_be_a_list(tmp_path: Path) -> None:
    people = written(tmp_path, [{"Mobile": "87654321", "Home Phone": "61234567"}], "csv")
    columns = {"destination": ["Mobile", "Home Phone"]}
    (tmp_path / "visits.toml").write_text('[columns]\ndestination = ["Mobile", "Home Phone"]\n', encoding="utf-8")
    for given in ({"columns": columns}, {"campaign": tmp_path / "visits.toml"}):
        assert Campaign.of({**FIELDS, **given, "file": people}).options.columns == columns


@EACH_FORM
def test_a_person_whose_rows_have_other_further_numbers_is_not_called_for_each_row(tmp_path: Path, form: str) -> None:
    rows = read(
        tmp_path,
        form,
        {"name": "Ana", "Mobile": "87654321", "Home Phone": "61234567"},
        {"name": "Ana", "Mobile": "87654321", "Home Phone": "67654321"},
        {"name": "Ana", "Mobile": "87654321", "Home Phone": ""},
        {"name": "Ana", "Mobile": "+65 8765 4321", "Home Phone": "6123 4567"},
        {"name": "Ben", "Mobile": "87654321", "Home Phone": "61234567"},
    )
    assert [row.call is not None for row in rows] == [True, False, False, False, True]
    assert [row.duplicate_of is None for row in rows] == [True, True, True, False, True]
    messages = {(found.column, found.message) for row in rows[1:3] for found in row.findings}
    (told,) = messages
    assert told[0] == "Mobile"
    assert told[1].endswith("with other further numbers; give a person one row")


@pytest.mark.anyio
async def test_a_file_that_was_started_and_gets_another_column_of_numbers_calls_nobody_again(tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        people = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
        fields = {**FIELDS, "file": people, "batch": "march"}
        assert (await Campaign.of({**fields, "columns": {"destination": "Mobile"}}).start(queue)).enqueued == 1
        for columns in ("Mobile,Home", "Home,Mobile"):
            report = await Campaign.of({**fields, "columns": {"destination": columns.split(",")}}).start(queue)
            assert (report.enqueued, report.again) == (0, 1)
            assert not [found for found in report.findings if found.column == "unique_key"]


@pytest.mark.anyio
async def test_people_who_were_called_at_any_of_their_numbers_were_called_before(tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        fields = {**FIELDS, "batch": "march"}
        both = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
        started = await Campaign.of({**fields, "file": both, "columns": {"destination": ["Mobile", "Home"]}}).start(
            queue
        )
        assert started.enqueued == 1
        home = written(tmp_path, [{"Mobile": "61234567"}], "csv")
        again = Campaign.of({**fields, "file": home, "columns": {"destination": "Mobile"}, "say": "Hello again."})
        assert (await again.start(queue)).enqueued == 0
        elsewhere = {**fields, "file": home, "columns": {"destination": "Mobile"}, "batch": "april"}
        assert (await Campaign.of(elsewhere).start(queue)).enqueued == 0
        assert (await Campaign.of({**elsewhere, "say": "Something else."}).start(queue)).enqueued == 1


@pytest.mark.anyio
async def test_a_person_with_a_listed_number_is_counted_as_suppressed(tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await SuppressionList(store).add(HOME, reason="asked for it")
        people = written(
            tmp_path, [{"Mobile": "87654321", "Home": "61234567"}, {"Mobile": "87654322", "Home": ""}], "csv"
        )
        campaign = Campaign.of({**FIELDS, "file": people, "columns": {"destination": ["Mobile", "Home"]}})
        report = await campaign.preview(queue)
        assert report.preview is not None
        assert (report.preview.calls, report.preview.suppressed) == (1, 1)
        assert (await campaign.start(queue)).enqueued == 1
        assert [job.destination for job in await queue.find()] == ["+6587654322"]


BAD = ("k.A.", "none", "12", "8765 4321 / 8765 4322", "None", "#N/A", "6.59E+09", "+65 8765 4321 ext 5")


@pytest.mark.parametrize(
    ("form", "bad"), [*(("rows", bad) for bad in BAD), ("csv", "k.A."), ("xlsx", "#N/A"), ("jsonl", "None")]
)
def test_a_bad_number_beside_a_good_one_is_passed_over_on_request_and_told(tmp_path: Path, form: str, bad: str) -> None:
    rows = [
        {"Mobile": bad, "Home Phone": HOME, "name": "Ana"},
        {"Mobile": MOBILE, "Home Phone": bad, "name": "Ben"},
        {"Mobile": bad, "Home Phone": bad, "name": "Cleo"},
        {"Mobile": "", "Home Phone": bad, "name": "Dan"},
    ]
    refused = read(tmp_path, form, *rows)
    assert [row.is_bad for row in refused] == [True] * 4, "by default the row is bad"
    offers = [[Remedy.SKIP_NUMBERS in found.message for found in row.findings if found.is_error] for row in refused]
    assert [any(each) for each in offers] == [True, True, False, False], "where another number can be called"
    passed = read(tmp_path, form, *rows, bad_numbers=BadNumbers.SKIP)
    assert [row.number for row in passed] == [HOME, MOBILE, None, None]
    assert [row.call.further_numbers if row.call else None for row in passed] == [(), (), None, None]
    for row, column in zip(passed, ("Mobile", "Home Phone"), strict=False):
        (found,) = row.findings
        assert (found.column, found.is_error) == (column, False)
        assert found.message.endswith("This number is skipped, and the person's others are called")
    assert {found.column for found in passed[2].findings if found.is_error} == {"Mobile", "Home Phone"}


def test_another_cell_that_is_bad_keeps_the_row_bad(tmp_path: Path) -> None:
    row = {"Mobile": "k.A.", "Home Phone": HOME, "name": "Ana", "priority": "high"}
    (found,) = read(tmp_path, "csv", row, bad_numbers=BadNumbers.SKIP)
    assert [(each.column, each.is_error) for each in found.findings] == [("Mobile", False), ("priority", True)]
    alone = [{"destination": "k.A.", "name": "Ana"}]
    (only,) = read(tmp_path, "csv", *alone, columns="destination", bad_numbers=BadNumbers.SKIP)
    assert only.is_bad


@pytest.mark.parametrize("form", ["xlsx", "jsonl", "rows"])
def test_people_within_a_cell_of_numbers_are_not_passed_over(tmp_path: Path, form: str) -> None:
    within = f"x\nBen,{HOME},{WORK}\nCleo,{WORK},y"
    (row,) = read(tmp_path, form, {"name": "Ana", "Mobile": MOBILE, "Home Phone": within}, bad_numbers=BadNumbers.SKIP)
    (found,) = [each for each in row.findings if each.is_error]
    assert row.is_bad
    assert "the cell of Home Phone holds lines that look like rows of their own" in found.message


def test_people_within_a_stray_quote_are_not_passed_over(tmp_path: Path) -> None:
    (path := tmp_path / "people.csv").write_text(
        f'name,Mobile,Home Phone\nAna,{MOBILE},"x\nBen,{HOME},{WORK}\nCleo,{WORK},y"\n', encoding="utf-8"
    )
    options = replace(OPTIONS, country="SG", columns={"destination": TO_BOTH.split(",")}, bad_numbers=BadNumbers.SKIP)
    (row,) = CampaignRows(path, options, now=NOW)
    assert row.is_bad, row.findings
