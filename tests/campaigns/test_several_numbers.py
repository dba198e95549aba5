"""The numbers of a person in the columns of a file: all of them are certain, or the row is bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.forms import written
from tests.campaigns.reading import OPTIONS, SAY, Row, file_of, read_all
from tests.support.started import report_of
from voiceflow_worker import CallQueue, Campaign, InvalidInputError
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.files.rows import row_name
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.window import CallWindow

FIELDS = {"say": "Hello.", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "country": "SG"}
TO_BOTH = "Mobile,Home Phone"
MOBILE, HOME, WORK = "+6587654321", "+6561234567", "+6567654321"


HELLO = SAY.speaking("Hello.")
EACH_FORM = pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "rows"])


def with_columns(columns: str | Mapping[str, Any] = TO_BOTH, **more: Any) -> CampaignOptions:
    """The options for people with these columns of numbers."""
    named = {"destination": columns.split(",")} if isinstance(columns, str) else dict(columns)
    return replace(OPTIONS, batch_id="b", columns=named, **{"country": "SG", **more})


def read(
    folder: Path, form: str, *rows: Row, columns: str | Mapping[str, Any] = TO_BOTH, **more: Any
) -> Sequence[ReadRow]:
    return read_all(written(folder, rows, form), with_columns(columns, **more)).rows


def person(mobile: object = "87654321", home: object = "61234567", name: str = "Ana", **more: object) -> Row:
    return {"name": name, "Mobile": mobile, "Home Phone": home, **more}


def wrong(row: ReadRow) -> list[str | None]:
    """The columns with an error in a row."""
    assert row.is_bad
    return [found.column for found in row.findings if found.is_error]


def numbers(row: ReadRow) -> tuple[str, ...]:
    assert row.call is not None, row.findings
    return row.call.numbers


@EACH_FORM
def test_the_numbers_of_a_row_are_called_in_the_order_of_the_columns(tmp_path: Path, form: str) -> None:
    people = [
        person("8765 4321", "6123 4567"), person("8765 4322", ""), person("", 61234568),
        person("+65 8765 4323", "87654323"),
    ]  # fmt: skip
    rows = read(tmp_path, form, *people)
    expected = [(MOBILE, HOME), ("+6587654322",), ("+6561234568",), ("+6587654323",)]
    assert [numbers(row) for row in rows] == expected
    assert [row.call.data["home_phone"] for row in rows[:1] if row.call and row.call.data] == ["6123 4567"]


WRONG = ["none of these", "0061 6123", "6123", "61234567 / 67654321", "#N/A", "null"]


@EACH_FORM
def test_three_numbers_are_called_in_their_order_and_none_if_one_is_bad(tmp_path: Path, form: str) -> None:
    rows = [person(mobile, Work="67654321") for mobile in ("87654321", "none")]
    columns = f"{TO_BOTH},Work"
    good, bad = read(tmp_path, form, *rows, columns=columns)
    assert (numbers(good), bad.is_bad) == ((MOBILE, HOME, WORK), True)


@EACH_FORM
def test_a_row_with_a_bad_number_in_any_column_or_with_none_is_bad(tmp_path: Path, form: str) -> None:
    given = [(column, {**person(), column: wrong}) for wrong in WRONG for column in ("Mobile", "Home Phone")]
    rows = read(tmp_path, form, *(row for _, row in given), person("", ""))
    for (column, _), row in zip([*given, ("Mobile", None)], rows, strict=True):
        assert row.call is None
        assert set(wrong(row)) == {column}
    (row,) = read(tmp_path, form, person(home=6561234567.5))  # a spreadsheet cut it off
    assert wrong(row) == ["Home Phone"]


@pytest.mark.parametrize("form", ["csv", "xlsx"])
@pytest.mark.parametrize("columns", ["Mobile,Fax", "Fax,Mobile"])
def test_a_column_that_a_table_lacks_is_named(tmp_path: Path, form: str, columns: str) -> None:
    with pytest.raises(CampaignFileError, match="has no column 'Fax'"):
        read(tmp_path, form, {"name": "Ana", "Mobile": "87654321"}, columns=columns)


@pytest.mark.parametrize("columns", [",", "Mobile,", ",Mobile", "Mobile,,Home Phone"])
def test_an_empty_name_among_columns_is_refused(tmp_path: Path, columns: str) -> None:
    with pytest.raises(InvalidInputError, match="is no column, which destination would be"):
        read(tmp_path, "csv", {"name": "Ana", "Mobile": "87654321", "Home Phone": "61234567"}, columns=columns)


@EACH_FORM
def test_a_name_with_a_comma_stands_in_quotes_or_in_a_list(tmp_path: Path, form: str) -> None:
    people = written(tmp_path, [{"name": "Ana", "Mobile, own": "87654321", 'Home, "old"': "61234567"}], form)
    where = {"file" if isinstance(people, Path) else "rows": people, "batch": "march"}
    for columns in (
        '"destination=Mobile, own","destination=Home, ""old"""',
        ["destination=Mobile, own", 'destination=Home, "old"'],
        {"destination": ["Mobile, own", 'Home, "old"']},
    ):
        reading = read_all(people, Campaign.of({**FIELDS, **where, "columns": columns}).options)
        assert [numbers(row) for row in reading.rows] == [(MOBILE, HOME)]


@pytest.mark.parametrize("reserved", ["source", "unique_key", "batch_id", "language"])
def test_a_column_with_a_meaning_of_its_own_has_no_further_numbers(tmp_path: Path, reserved: str) -> None:
    with pytest.raises(InvalidInputError, match=f"'{reserved}' .* rename it"):
        read(tmp_path, "csv", person(**{reserved: "+6561234567"}), columns=f"Mobile,{reserved}")


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_a_column_that_no_row_of_json_has_is_told(tmp_path: Path, form: str) -> None:
    people = written(tmp_path, [{"name": "Ana", "Mobile": "87654321"}, {"name": "Ben", "Mobile": "87654322"}], form)
    for columns, told in [("Mobile,Fax", ["Fax"]), ("Mobile,name", []), (TO_BOTH, ["Home Phone"])]:
        reading = read_all(people, with_columns(columns))
        assert [row.is_bad for row in reading.rows] == [columns == "Mobile,name"] * 2
        assert [found.column for found in reading.closing if "no row" in found.message] == told


def test_numbers_of_countries_with_other_callers_or_hours_are_told(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "csv", person(home="+60 3-2345 6789"), source="SG=+6531234567,MY=+60321111111")
    assert wrong(row) == ["source"]
    (row,) = read(tmp_path, "csv", person(home="+44 20 7183 8750"), window=CallWindow.parse("09:00-20:00"))
    assert "are in different time zones (Asia/Singapore and Europe/London)" in str(row.findings)


def test_the_columns_may_be_a_list(tmp_path: Path) -> None:
    people = written(tmp_path, [{"Mobile": "87654321", "Home Phone": "61234567"}], "csv")
    columns = {"destination": ["Mobile", "Home Phone"]}
    (tmp_path / "visits.toml").write_text('[columns]\ndestination = ["Mobile", "Home Phone"]\n', encoding="utf-8")
    for given in ({"columns": columns}, {"campaign": tmp_path / "visits.toml"}):
        assert Campaign.of({**FIELDS, **given, "file": people}).options.columns == columns


@EACH_FORM
def test_a_person_whose_rows_have_other_further_numbers_is_not_called_for_each_row(tmp_path: Path, form: str) -> None:
    homes = ("61234567", "67654321", "")
    again = person("+65 8765 4321", "6123 4567"), person(name="Ben")
    rows = read(tmp_path, form, *(person(home=home) for home in homes), *again)
    assert [row.call is not None for row in rows] == [True, False, False, False, True]
    assert [row.duplicate_of is None for row in rows] == [True, True, True, False, True]
    ((column, message),) = {(found.column, found.message) for row in rows[1:3] for found in row.findings}
    assert column == "Mobile"
    assert message.endswith("with other further numbers; give a person one row")


def of(people: Path | Sequence[Row], *columns: str, **more: object) -> Campaign:
    return Campaign.of({**FIELDS, "file": people, "batch": "march", "columns": {"destination": columns}, **more})


@pytest.mark.anyio
async def test_a_file_that_was_started_and_gets_another_column_of_numbers_calls_nobody_again(
    tmp_path: Path, queue: CallQueue
) -> None:
    people = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
    assert (await of(people, "Mobile").start(queue)).enqueued == 1
    for columns in (("Mobile", "Home"), ("Home", "Mobile")):
        report = await report_of(of(people, *columns).start(queue))
        assert (report.enqueued, report.changed, "further_numbers" in report.findings[0].message) == (0, 1, True)


@pytest.mark.anyio
async def test_people_who_were_called_at_any_of_their_numbers_were_called_before(
    tmp_path: Path, queue: CallQueue
) -> None:
    both = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
    assert (await of(both, "Mobile", "Home").start(queue)).enqueued == 1
    home = written(tmp_path, [{"Mobile": "61234567"}], "csv")
    for enqueued, more in (
        (0, {"say": "Hello again."}), (0, {"batch": "april"}), (1, {"batch": "april", "say": "Something else."}),
    ):  # fmt: skip
        assert (await report_of(of(home, "Mobile", **more).start(queue))).enqueued == enqueued


@pytest.mark.anyio
async def test_a_person_with_a_listed_number_is_counted_as_suppressed(tmp_path: Path, queue: CallQueue) -> None:
    await SuppressionList(queue.store).add(HOME, reason="asked for it")
    rows: list[Row] = [{"Mobile": "87654321", "Home": "61234567"}, {"Mobile": "87654322", "Home": ""}]
    campaign = of(written(tmp_path, rows, "csv"), "Mobile", "Home")
    report = await campaign.preview(queue)
    assert report.preview is not None
    assert (report.preview.calls, report.preview.suppressed) == (1, 1)
    assert (await campaign.start(queue)).enqueued == 1
    assert [job.destination for job in await queue.find()] == ["+6587654322"]


@pytest.mark.parametrize("form", ["xlsx", "jsonl", "rows"])
def test_people_within_a_cell_of_numbers_make_the_row_bad(tmp_path: Path, form: str) -> None:
    within = f"x\nBen,{HOME},{WORK}\nCleo,{WORK},y"
    (row,) = read(tmp_path, form, person(MOBILE, within))
    assert row.is_bad
    assert "the cell of Home Phone takes in lines that look like rows" in str(row.findings)
    path = file_of(tmp_path, f'name,Mobile,Home Phone\nAna,{MOBILE},"{within}"\n')
    assert [row.is_bad for row in read_all(path, with_columns()).rows] == [True]


@EACH_FORM
def test_each_number_is_read_by_its_own_country(tmp_path: Path, form: str) -> None:
    row = {"name": "A", "Phone 1": "0202 123456", "Country 1": "DE", "Phone 2": "202 456 1111", "Country 2": "US"}
    columns = {"destination": ["Phone 1", "Phone 2"], "country": ["Country 1", "Country 2"]}
    (both,) = read(tmp_path, form, row, columns=columns, country=None)
    assert numbers(both) == ("+49202123456", "+12024561111")
    alone = with_columns({**columns, "country": "Country 1"}, country=None)
    try:
        said = read_all(written(tmp_path, [row], form), alone).errors
    except CampaignFileError as error:
        said = [str(error)]
    beside = "Country 2 stands beside it: name a column of the country for each number"
    assert [beside in each for each in said] == [True]
    for name in ("Country", "Phone Country"):
        row |= {f"{name} {place}": row.pop(f"Country {place}", code) for place, code in ((1, "DE"), (2, "US"))}
        (typed,) = read(tmp_path, form, row, columns={"destination": columns["destination"]}, country="DE")
        assert wrong(typed) == [f"{name} 2"]
        assert typed.findings[-1].told.given[Remedy.TAKE_COLUMN] == f"country={name} 1,country={name} 2"


@EACH_FORM
@pytest.mark.parametrize(("name", "other"), [("Calling code", "852"), ("country", "Hong Kong"), ("calling_code", 852)])
def test_a_cell_that_says_another_country_than_the_number_was_read_by_is_an_error(
    tmp_path: Path, form: str, name: str, other: object
) -> None:
    given = (("97775000", "65"), ("97775678", other), ("+85297775679", "65"), ("97775680", ""))
    rows: list[Row] = [{"destination": number, "name": f"N{n}", name: says} for n, (number, says) in enumerate(given)]
    read_rows = read(tmp_path, form, *rows, columns={})
    assert [row.is_bad for row in read_rows] == [False, True, False, False]
    assert "says '" in read_rows[1].findings[0].message
    for role in (row_name(name), "ignore"):
        found = read(tmp_path, form, *rows, columns={role: name}, country=None if role == "country" else "SG")
        assert [row.is_bad for row in found][1:3] == [False, role == "calling_code"], role


# -- rows of one person ------------------------------------------------------------------------------------------------


def contact(phone: str, call: str = "Yes", *, who: str = "9001 Ana Lim") -> Row:
    person, first, last = who.split()
    return {"Contact ID": person, "First Name": first, "Last Name": last, "Phone": phone, "Call": call}


CONTACTS: list[Row] = [
    contact("+6581234501"), contact("+6581234502", who="9002 Ben Tan"), contact("+6561234501", "No"), contact("none"),
    contact("+6565551234"), contact(""),
]  # fmt: skip

OF_ONE: dict[str, object] = {"destination": "Phone", "person": "Contact ID"}


@pytest.mark.anyio
@EACH_FORM
async def test_rows_of_one_person_are_one_call_with_further_numbers(
    tmp_path: Path, form: str, queue: CallQueue
) -> None:
    def given(rows: list[Row], **more: object) -> Campaign:
        source = {"rows" if form == "rows" else "file": written(tmp_path, rows, form)}
        fields = {"say": "Hello {{first_name}}.", "batch": "march", "columns": OF_ONE, **more}
        return Campaign.of({**FIELDS, **source, **fields})

    rows = [each for each in CONTACTS if each["Phone"] != "none"]
    assert (await given(rows).start(queue)).enqueued == 2
    ana, ben = await queue.find()
    assert [ana.numbers, ben.numbers] == [("+6581234501", "+6561234501", "+6565551234"), ("+6581234502",)]
    assert (await given(rows).start(queue)).duplicates == 2
    refused = await report_of(given(CONTACTS).start(queue))
    assert (refused.refused, refused.enqueued) == (True, 0)
    assert any("'none' has letters" in found.message for found in refused.findings)
    fewer = given(CONTACTS, leave_out_rows="4-5" if form in {"csv", "xlsx"} else "3-4", replace=True)
    assert (await fewer.start(queue)).replaced == 1
    (call,) = await queue.find(destination="+6565551234", states=[JobState.QUEUED])
    assert call.numbers == ("+6581234501", "+6565551234")


HOME_A, HOME_B = "+6561239071", "+6561239072"
CHILDREN: list[Row] = [
    {"H": "H1", "Phone": HOME_A, "child": "Kai", "note": "a", "at": "2030-01-31T09:00:00+08:00"},
    {"H": "H1", "Phone": HOME_B, "child": "Kai", "note": "a", "at": "2030-01-31T09:00:00+08:00"},
]
_TEXT = "Hello {{child}}."
AGREEMENT: Sequence[tuple[str, Mapping[str, object], Mapping[str, object], str]] = [
    # what differs in the second row, the fields, and what becomes of the two: one call, bad (with its column), left out
    ("nothing", {}, {}, "one"),
    ("a spoken cell", {"child": "Mei"}, {}, "bad child: Kai, Mei"),
    ("a spoken cell that is empty", {"child": ""}, {"say": "Hello {{ child or 'you' }}."}, "bad child: Kai, empty"),
    ("a cell of a time", {"at": "2030-01-31T10:00:00+08:00"}, {"columns": {"not_before": "at"}}, "bad at: "),
    ("a cell that others are counted from", {"at": "2030-01-31T10:00:00+08:00"}, {"not_before": "at - 1d"}, "bad at: "),
    ("a cell that nobody reads", {"note": "b"}, {}, "one note"),
    ("the no of a filter", {"note": "gone"}, {"leave_out": "note=gone"}, "left out"),
    ("the no of a filter, and what is said", {"note": "gone", "child": "Mei"}, {"leave_out": "note=gone"}, "left out"),
    ("what is called alone", {"note": "b"}, {"only": "note=a"}, "left out"),
    ("a bad number", {"Phone": "none"}, {}, "bad Phone"),
]  # fmt: skip


@EACH_FORM
def test_rows_of_one_person_agree_in_all_that_is_spoken_or_timed(tmp_path: Path, form: str) -> None:
    first = 2 if form in {"csv", "xlsx"} else 1
    for name, change, fields, expected in AGREEMENT:
        people = written(tmp_path, [CHILDREN[0], {**CHILDREN[1], **change}], form)
        more: Any = fields.get("columns", {})
        roles = {"destination": "Phone", "person": "H", **more}
        where = {"file" if isinstance(people, Path) else "rows": people, "batch": "b"}
        given = {**FIELDS, "say": _TEXT, **where, **fields, "columns": roles}
        reading = read_all(people, Campaign.of(given).options)
        (row,) = reading.rows
        told = {found.row: str(found) for found in (*row.findings, *reading.closing)}
        assert [each.number for each in (row.raw, *row.raw.others)] == [first, first + 1], name
        match expected.split(" ", 1)[0]:
            case "one":
                assert numbers(row) == (HOME_A, HOME_B), name
                assert all(expected.removeprefix("one ") in each for each in told.values()), (name, told)
                assert len(told) == len(change), (name, told)
            case "bad":
                assert row.is_bad, (name, told)
                assert not row.is_left_out, name
                assert expected.removeprefix("bad ") in str(told), (name, told)
                assert "Phone" in expected or set(told) == {first, first + 1}, (name, told)
            case _:
                assert (row.is_bad, row.is_left_out) == (False, True), (name, told)
                assert f"nor for row {first} of the same person" in told[first + 1], (name, told)


@EACH_FORM
def test_an_id_that_says_nothing_is_none_and_one_id_is_spelled_in_one_way(tmp_path: Path, form: str) -> None:
    own = ["", " ", "0", "0.0", "-", "--", "N/A", "n/a", "none", "None", "null", "k.A.", "."]
    alike = [("7", "7.0"), ("A-1", " A-1 "), ("0042", "0042"), ("F", "F")]
    apart = [("7", "07"), ("a", "A")]
    rows = [{"H": each, "Phone": f"+65812390{10 + n}"} for n, each in enumerate([*own, *own])]
    reading = read_all(
        written(tmp_path, rows, form), with_columns({"destination": "Phone", "person": "H"}, template=HELLO)
    )
    assert [len(numbers(row)) for row in reading.rows] == [1] * len(rows)
    (told,) = [found.message for found in reading.closing if found.column == "H"]
    assert told.startswith(f"says nothing in {len(rows)} rows")
    for pairs, count in ((alike, 1), (apart, 2)):
        for pair in pairs:
            rows = [{"H": each, "Phone": f"+65812390{10 + n}"} for n, each in enumerate(pair)]
            options = with_columns({"destination": "Phone", "person": "H"}, template=HELLO)
            assert len(read_all(written(tmp_path, rows, form), options).rows) == count, pair


@pytest.mark.anyio
async def test_each_row_of_a_person_is_in_the_list_of_rows(tmp_path: Path, queue: CallQueue) -> None:
    rows: list[Row] = [
        *CHILDREN, {**CHILDREN[0], "H": "H2", "Phone": WORK}, {**CHILDREN[0], "H": "H2", "Phone": WORK, "child": "Mei"},
        {**CHILDREN[0], "H": "H3", "Phone": HOME}, {**CHILDREN[0], "H": "H3", "Phone": MOBILE},
        {**CHILDREN[0], "H": "H4", "Phone": "+6581239079"}, {**CHILDREN[0], "H": "H4", "Phone": "+6581239080"},
    ]  # fmt: skip
    rows[-1] = {**rows[-1], "note": "gone"}
    await SuppressionList(queue.store).add(MOBILE, reason="asked for it")
    fields = {"say": _TEXT, "batch": "b", "columns": {"destination": "Phone", "person": "H"}, "skip_bad": True}
    campaign = Campaign.of({**FIELDS, **fields, "rows": rows, "leave_out": "note=gone"})
    report = await campaign.start(queue)
    assert (report.enqueued, report.rejected, report.suppressed, report.left_out) == (1, 2, 1, 2)
    parts = [part async for part in RowList(queue.store, "default", "b").read()]
    listed = [(row.row, row.result, row.with_row) for part in parts for row in part]
    assert listed == [
        ("1", "waiting", ""), ("2", "waiting", "1"), ("3", "bad", ""), ("4", "bad", ""), ("5", "suppressed", ""),
        ("6", "suppressed", ""), ("7", "left out", ""), ("8", "left out", ""),
    ]  # fmt: skip
    assert "rows 5-6 are of this person" in str(report.findings)


@pytest.mark.parametrize("columns", [{}, {"unique_key": "Contact ID"}])
def test_an_id_in_several_rows_with_different_numbers_is_told_without_the_column_of_the_person(
    tmp_path: Path, columns: dict[str, str]
) -> None:
    rows = [each for each in CONTACTS if str(each["Phone"]).startswith("+")]
    path = written(tmp_path, rows, "csv")
    options = replace(Campaign.of({**FIELDS, "file": path}).options, batch_id="b")
    told = read_all(path, replace(options, columns={"destination": "Phone", **columns})).findings
    assert any(Remedy.NAME_PERSON in found.message for found in told)
    assert read_all(path, replace(options, columns={"destination": "Phone", "person": "Contact ID"})).errors == []
