"""Rows that a column leaves out: compared by meaning, told and counted; and columns whose names say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.forms import READERS, Reader, in_forms
from tests.campaigns.reading import OPTIONS, Case, Row, file_of, judge, read, read_all, told
from tests.campaigns.workbooks import workbook
from tests.support.started import report_of
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.files import rows as rows_of_files
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import ColumnReader, ColumnRoles
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy, columns_text

ANA, BEN = "+6587654321", "+6587654322"
SAID: dict[str, object] = {
    "say": "Hello {{name}}.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b",
}  # fmt: skip

MEANT: Mapping[str, tuple[tuple[object, ...], tuple[object, ...], tuple[object, ...]]] = {
    "TRUE": (
        ("TRUE", "true", True, 1, 1.0, "1", "yes", "Ja", " oui ", "x", "Да"),
        ("FALSE", False, 0, "no", "nein", "", None, "NULL", "N/A", "-"),
        ("maybe", "2026-01-31", "yes by mail"),
    ),
    "no": (("No", "FALSE", False, 0, "nein"), ("yes", True, 1, "", None), ("unknown",)),
    "Deceased": (("Deceased", "deceased", " DECEASED "), ("Active", "", None, True, 1), ()),
    "2": ((2, "2", 2.0, "2.0"), (1, "3", "yes", True, "", "two", 2.4, "2.4"), ()),
    "1": ((1, "1", "yes", True), (2, "3", "", "Deceased"), ()),
    "S": (("s", "S"), ("X", "N", "M", ""), ()),
    "!Booked": (("Cancelled", "", None, "N/A", 0, "Booked?"), ("Booked", "booked", " BOOKED "), ()),
    "!yes": (("no", False, 0, "", None, "maybe"), ("Yes", True, 1, "ja", "x"), ()),
    "!2": ((1, "3", "", "two"), (2, "2", 2.0, "2.0"), ()),
}
"""For a value of the field: the cells that leave their row out, those that do not, and those that are refused."""


def of(**fields: object) -> CampaignOptions:
    """The options of a campaign with these fields."""
    return Campaign.of({**SAID, "rows": [], **fields}).options


def table(*lines: str, columns: str = "destination,name,Status") -> str:
    return "\n".join([columns, *lines, ""])


def left_out(given: Path | Sequence[Row], **fields: object) -> list[int | None]:
    """The places of the rows that are left out."""
    reading = read_all(given, of(**fields))
    assert reading.errors == []
    return [place for place, row in enumerate(reading.rows) if row.is_left_out]


@pytest.mark.parametrize("wanted", MEANT)
def test_a_cell_is_compared_by_what_it_means_in_every_format(tmp_path: Path, wanted: str) -> None:
    sign = "!=" if wanted[0] == "!" else "="
    options = replace(OPTIONS, batch_id="b", leave_out=f"Flag of Row {sign} {wanted.strip('!')}")
    for place in range(3):
        for reader, cell in in_forms(MEANT[wanted][place]):
            if cell is None and reader is READERS[0]:
                continue
            (row,) = reader(tmp_path, {"destination": ANA, "name": "Ana", "flag_of_row": cell}, options)
            assert (row.is_left_out, row.call is not None, row.is_bad) == (place == 0, place == 1, place == 2), cell
            if place == 0:
                assert [(f.row, f.column, f.is_error) for f in row.findings] == [(row.raw.number, "flag_of_row", False)]
                assert "is left out" in row.findings[0].message
            if place == 2:
                assert "is neither yes nor no, which leave_out asks for" in told([row])[0][3]


def test_what_else_is_wrong_with_a_row_that_is_left_out_is_not_told(tmp_path: Path) -> None:
    lines = "none of your business,,TRUE", f"{ANA},Ana,#REF!", f"{BEN},Ben,no"
    path = file_of(tmp_path, table(*lines, columns="destination,name,Do Not Call"))
    first, damaged, ben = read(path, replace(OPTIONS, leave_out="do not call=yes"))
    assert (first.is_left_out, first.is_bad) == (True, False)
    assert [found[1] for found in told([damaged])] == ["Do Not Call"], "one finding for a cell"
    assert ben.call is not None


def test_any_of_several_values_leaves_a_row_out(tmp_path: Path) -> None:
    people = (f"+658765432{n},A,{each}" for n, each in enumerate(["Moved,", "Deceased,", ",1", ",0"]))
    path = file_of(tmp_path, table(*people, columns="destination,name,Status,DNC"))
    given: tuple[object, ...] = (
        "Status=Deceased, Status=moved, DNC=TRUE", ["Status=Deceased", "Status=moved", "DNC=TRUE"],
        {"Status": ["Deceased", "moved"], "DNC": True},
    )  # fmt: skip
    for each in given:
        assert left_out(path, leave_out=each) == [0, 1, 2]
    quoted = file_of(tmp_path, 'destination,name,"Status, last"\n+6587654321,A,"gone, sadly"\n')
    assert left_out(quoted, leave_out={"Status, last": "gone, sadly"}) == [0]
    assert columns_text(["Note=two\nlines", "a,b"]) == 'Note=two lines,"a,b"', "a field of a browser is one line"
    coded = file_of(tmp_path, f"destination,name,Call (1=yes)\n{ANA},A,0\n")
    assert [left_out(coded, leave_out=f"Call (1=yes){each}") for each in ("=0", "!=1", "=1")] == [[0], [0], []]


VISITS = ["Booked,A", "booked,B", "Moved,A", ",A", "Confirmed,A"]
"""The status and the site of people."""


@pytest.mark.parametrize(
    ("only", "called"),
    [
        ("Status=Booked", [0, 1]), ("Status=Booked, Status=Confirmed", [0, 1, 4]), ("Status!=Moved", [0, 1, 3, 4]),
        ("Status=Booked, Status=Confirmed, Site=A", [0, 4]), ("Status!=Moved, Status!=Booked", [3, 4]),
        ("Status=Booked, Site!=B", [0]), ("Status=Booked,status=Confirmed, STATUS=Moved", [0, 1, 2, 4]),
        ({"Status": ["Booked", "Moved"]}, [0, 1, 2]),
    ],
)  # fmt: skip
def test_only_rows_with_a_value_are_called(tmp_path: Path, only: object, called: list[int]) -> None:
    lines = (f"+658765432{n},A,{each}" for n, each in enumerate(VISITS))
    rows = read(file_of(tmp_path, table(*lines, columns="destination,name,Status,Site")), of(only=only))
    assert [place for place, row in enumerate(rows) if row.call is not None] == called
    assert all("nobody is called for it" in row.findings[-1].message for row in rows if row.is_left_out)


@pytest.mark.anyio
async def test_a_pilot_calls_the_first_good_rows_and_the_rest_follows(tmp_path: Path) -> None:
    people = [f"+658765432{place},Ana" for place in range(5)]
    path = file_of(tmp_path, "\n".join(["destination,name", "none,Eve", *people, ""]))
    async with open_store("memory://") as store:
        queue, found = CallQueue(store), list[tuple[int, int, int]]()
        for given in ({"limit": 2}, {"limit": 2}, {"limit": 3}, {}, {"limit": 1}):
            report = await Campaign.of({**SAID, "file": path, "skip_bad": True, **given}).start(queue)
            found.append((report.enqueued, report.duplicates, report.left_out))
        assert found == [(2, 0, 3), (0, 2, 3), (1, 2, 2), (2, 3, 0), (0, 5, 0)]
        assert [job.destination[-1] for job in await queue.find()] == list("01234")


@pytest.mark.anyio
async def test_a_pilot_counts_nobody_who_must_not_be_called_unless_the_call_was_made(tmp_path: Path) -> None:
    path = file_of(tmp_path, "\n".join(["destination,name", *(f"+658765432{place},Ana" for place in range(5)), ""]))
    async with open_store("memory://") as store:
        queue, listed = CallQueue(store), SuppressionList(store)
        await listed.add("+6587654320", reason="asked")
        pilot = Campaign.of({**SAID, "file": path, "limit": 2})
        shown = await pilot.preview(queue)
        assert (shown.valid, shown.suppressed, shown.left_out) == (2, 1, 2)
        report = await pilot.start(queue)
        assert (report.enqueued, report.suppressed, report.left_out) == (2, 1, 2)
        await listed.add("+6587654321", reason="asked")
        report = await pilot.start(queue)
        assert (report.enqueued, report.duplicates, report.suppressed, report.left_out) == (0, 1, 2, 2)
        assert [job.destination[-1] for job in await queue.find()] == ["1", "2"]


def test_a_filter_that_is_none_is_refused(tmp_path: Path) -> None:
    """Never taken for its opposite, or for a column whose name ends in a sign."""
    as_tables: tuple[object, ...] = (
        {"Status!": "Deceased"}, {"Status=": "Deceased"}, {"Status": "!=Booked"}, {"Status": ["Gone", "=Booked"]},
        {"Status": {"a": 1}},
    )  # fmt: skip
    for wrong in ("Status<>Booked", "Status\u2260Booked", "Do Not Call", "=TRUE", "Status=a,,", "", *as_tables):
        with pytest.raises(InvalidInputError, match="leave_out"):
            of(leave_out=wrong)
    path = file_of(tmp_path, table(f"{ANA},Ana,Booked,", columns="destination,name,Status,DNC"))
    for wrong in (
        "Status=Gone,Status==Booked", "Status!=Booked,Status!=Confirmed", "Status=Booked, status!=BOOKED",
        "DNC!=yes,DNC!=no", "Status=,Status!=", ["Status>=Booked"],
    ):  # fmt: skip
        with pytest.raises(CampaignFileError, match=r"leave_out: .*(is no filter|are all rows)"):
            read(path, of(leave_out=wrong))
    for limit in (0, -1, "half", 1.5):
        with pytest.raises(InvalidInputError, match="limit"):
            of(limit=limit)


@pytest.mark.parametrize(
    "pattern",
    [
        *("Cancel*", "*", "Moved|Cancelled", "Moved;Cancelled", "Cancel%", "<B", "'Moved'", "Cancelle?", "^Cancel"),
        *("/cancel/i", "\u201cMoved\u201d", "«Moved»", "Moved AND name=Ana"),
    ],
)
def test_a_pattern_is_refused_unless_a_cell_holds_it(tmp_path: Path, pattern: str) -> None:
    path = file_of(tmp_path, table(f"{ANA},Ana,Cancelled", f"{BEN},Ben,"))
    held = file_of(tmp_path, table(f"{ANA},Ana,Moved", f"{BEN},Ben,{pattern}"), "held.csv")
    for sign in ("=", "!="):
        leave_out = f"Status{sign}{pattern}"
        with pytest.raises(CampaignFileError, match="never as a pattern") as caught:
            read(path, of(leave_out=leave_out))
        assert f"holds {pattern!r}" in str(caught.value)
        assert [found.column for found in caught.value.findings] == ["Status"]
        assert left_out(held, leave_out=leave_out) == [1 if sign == "=" else 0]


def test_a_column_that_does_not_exist_is_refused_with_the_near_names(tmp_path: Path) -> None:
    no_dnc, missing = replace(OPTIONS, leave_out="DNC=1"), "is not in this row: give it, or null"
    reason = replace(OPTIONS, leave_out="Reason=Deceased")
    judge(tmp_path, {
        "a typing error": Case(
            table(f"{ANA},Ana,", columns="destination,name,Do Not Call"),
            refused="no column 'Do Not Cal'; did you mean Do Not Call?",
            options=replace(OPTIONS, leave_out="Do Not Cal=TRUE"),
        ),
        "a reason of people": Case(
            table(f"{ANA},Ana,Deceased", columns="destination,name,Reason"), warned=["is left out"], options=reason
        ),
        "the reason of rejects": Case(
            table(f"bad,{ANA},Ana", columns="reason,destination,name"), name="rejects.csv", options=reason,
            refused="why rows were rejected, and it is not read: rename it",
        ),
        "a row of a program": Case([{"destination": ANA, "name": "Ana"}], told=[(1, "DNC", missing)], options=no_dnc),
        "another name in it": Case(
            [{"destination": ANA, "name": "Ana", "Do Not Call": None}],
            told=[(1, "Do Not Cal", f"{missing}; did you mean Do Not Call?")],
            options=replace(OPTIONS, leave_out="Do Not Cal=1"),
        ),
        "bodies": Case(
            "{}\n", refused="request bodies have no column 'DNC'", name="b.jsonl",
            options=replace(no_dnc, template=None),
        ),
    })  # fmt: skip


ROWS: list[dict[str, object]] = [
    {"destination": ANA, "name": "Ana", "DNC": "yes"}, {"destination": BEN, "name": "Ben", "DNC": ""},
    {"destination": "nothing", "name": "Cleo", "DNC": True}, {"destination": BEN, "name": "Ben", "DNC": None},
]  # fmt: skip


def counts(report: EnqueueReport) -> tuple[int, ...]:
    return report.rows, report.enqueued, report.valid, report.left_out, report.duplicates, report.rejected


@pytest.mark.anyio
async def test_they_are_counted_in_the_preview_and_the_result(queue: CallQueue) -> None:
    campaign = Campaign.of({**SAID, "rows": ROWS, "leave_out": "DNC=TRUE"})
    shown = await campaign.preview(queue)
    assert counts(shown) == (4, 0, 1, 2, 1, 0)
    assert shown.preview is not None
    done = await campaign.start(queue, expected_version=shown.version)
    assert counts(done) == (4, 1, 1, 2, 1, 0)
    assert [shown.preview.as_json()["left_out"], done.as_json()["left_out"]] == [2, 2]
    assert [(f.row, f.message) for f in done.findings if f.column == "DNC"] == [
        (row, f"holds '{cell}', so this row is left out: nobody is called for it")
        for row, cell in ((1, "yes"), (3, True))
    ]
    bad = [{**each, "destination": "nothing"} for each in ROWS]
    given = {**SAID, "rows": bad, "leave_out": "DNC=TRUE", "skip_bad": "100 %"}
    assert (await report_of(Campaign.of(given).start(queue))).refused, "never all of those that would be called"


@pytest.mark.anyio
async def test_a_list_that_is_wrong_as_a_whole_calls_nobody(queue: CallQueue) -> None:
    rows = [{"destination": f"+658765400{n}", "name": "Ana", "DNC": "TRUE" if n % 2 else ""} for n in range(6)]
    for most, more, wrong in (
        (5, {"columns": {"ignore": "DNC"}}, "6 rows would be called, and most allows 5"),
        ("2", {"leave_out": "DNC=TRUE", "skip_bad": True}, "3 rows would be called, and most allows 2"),
        (3, {"leave_out": "DNC=TRUE"}, None),
        (6, {"columns": {"ignore": "DNC"}}, None),
        (7, {}, "says by its name who may be called, and its cells are not decided (empty 3, TRUE 3)"),
        (8, {"skip_bad": True}, "says by its name who may be called, and its cells are not decided (empty 3, TRUE 3)"),
    ):
        campaign = Campaign.of({**SAID, "batch": f"most{most}", "rows": rows, "most": most, "again": True, **more})
        for report in (await campaign.preview(queue), await report_of(campaign.start(queue))):
            assert [each.message.partition(":")[0] for each in report.findings if each.is_error] == (
                [wrong] if wrong else []
            )
        assert (report.refused, report.enqueued) == (wrong is not None, 0 if wrong else int(most))


def warned(rows: Sequence[Row], **more: object) -> list[tuple[str | None, str]]:
    """The errors about all rows together, with what can be done."""
    found = read_all(rows, of(**more)).closing
    return [(each.column, with_remedies(each.message)) for each in found if each.is_error]


def one(**cells: object) -> list[Row]:
    return [{"destination": ANA, "name": "Ana", **cells}]


def test_a_remark_beside_a_name_is_a_warning_with_its_rows(tmp_path: Path) -> None:
    told = "says in 2 rows not to call somebody who would be called, such as row 2, 'Ana (DO NOT CALL)'"
    lines = table(f"{ANA},Ana (DO NOT CALL),", f"{BEN},Ben - deceased,", columns="destination,Guest Name,Notes")
    for number in ("destination", "phone"):
        path = file_of(tmp_path, lines.replace("destination", number))
        reading = read_all(path, of(say="Hello.", columns={"destination": number}))
        assert [(f.row, f.column, f.message) for f in reading.closing] == [
            (2, "Guest Name", f"{told}; {Remedy.LEAVE_OUT_ROWS}")
        ]
    assert read_all(file_of(tmp_path, lines), of(say="Hello.", leave_out_rows="2-3")).closing == ()


def test_a_column_whose_name_says_so_is_an_error_until_it_is_decided(tmp_path: Path) -> None:
    ((column, message),) = warned(ROWS)
    assert column == "DNC"
    assert message.startswith("says by its name who may be called, and its cells are not decided (")
    assert "--leave-out DNC=" in message
    name = "Do not allow Phone Calls"
    dynamics: list[Row] = [{"destination": f"+65876543{n}0", "name": "Ana", name: "Allow"} for n in (1, 2, 3)]
    ((_, message),) = warned([*dynamics, {**dynamics[0], name: "Do Not Allow"}])
    assert "(Allow 3, Do Not Allow 1)" in message
    assert message.endswith(f"(--leave-out '{name}=Do Not Allow'; --leave-out-rows 4; --columns 'ignore={name}')")
    assert warned(ROWS, leave_out="DNC=TRUE") == warned(ROWS, columns={"ignore": "DNC"}) == []
    for column, cells in {
        "DNC": ("no", False, 0, "", None, "-", "N/A", "(blank)"), "TPS": ("No", "Clear"),
        "May we call?": ("Yes", "", None), "Notes": ("Do not call before 9",),
    }.items():  # fmt: skip
        for cell in cells:
            assert warned(one(**{column: cell})) == [], cell
    for column, cell in (("May we call?", "No"), ("Einwilligung Telefon", False), ("TPS", "registered")):
        ((found, message),) = warned(one(**{column: cell}))
        assert (found, f"({cell} 1)" in message) == (column, True), message
        assert warned(one(**{column: cell}), leave_out=f"{column}={cell}") == []
    given: tuple[object, ...] = ("2025-03-01", ["a"], {"said": "stop"}, 2)
    for other in given:
        assert warned(one(DNC=other)) != []
        assert warned(one(DNC=other), leave_out="Name=Ana, DNC=2") == []
    for reader in READERS:
        reader(tmp_path, one(**{"Opted Out": "TRUE"})[0], replace(OPTIONS, batch_id="b"))
        for path in tmp_path.glob("visits.*"):
            assert [found.column for found in read_all(path).closing] == ["Opted Out"], path
            path.unlink()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_header_below_titles_is_named_and_rows_are_left_out_by_their_numbers(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_of_files, "MOST_ABOVE", 2)
    lines = [["List of January"], ["made by", "Li"], ["destination", "name"], [ANA, "Ana"], [BEN, "Ben"], ["?", "Cleo"]]
    path = file_of(tmp_path, "".join(",".join(each) + "\n" for each in lines)) if kind == "csv" else workbook(
        tmp_path, lines
    )  # fmt: skip
    rows = read(path, of(header_row=3, leave_out_rows="5-6"))
    assert [(row.is_left_out, row.call is not None) for row in rows] == [(False, True), (True, False), (True, False)]
    source = open_source(InputFile(path), header_row=6, columns=ColumnReader(ColumnRoles(numbers=("Cleo",))))
    assert [number for number, _ in source.above] == [4, 5], "of many rows, the last before the header"
    for wrong in ("0", "3-x", 99):
        with pytest.raises((InvalidInputError, CampaignFileError), match="row"):
            read(path, of(header_row=wrong))
    for given, left in (("5-", [5, 6]), ("4,6-", [4, 6]), ("4 -", [4, 5, 6]), (["5-"], [5, 6]), ("5-99", [5, 6])):
        rows = read(path, of(header_row=3, leave_out_rows=given))
        assert [row.raw.number for row in rows if row.is_left_out] == left, given
    for wrong in (
        "0", "9-3", "a", "3,", "-5", "-", "5--", "5-7-9", "0-", "5\u20137", "1_0", "\u0665", "5:7", "+5", "5.0", -5,
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match="leave_out_rows"):
            of(leave_out_rows=wrong)


@pytest.mark.parametrize("reader", READERS)
def test_a_choice_says_which_column_is_what(tmp_path: Path, reader: Reader) -> None:
    """As if the columns had been renamed, in each form, whatever they are called."""
    given = {"Telefon": ANA, "Nachname": "Tan", "Sprache": "de", "Frist": "2026-03-02T20:00:00Z"}
    columns = {"destination": "telefon", "name": "Nachname", "valid_until": "Frist"}
    (row,) = reader(tmp_path, given, of(columns=columns))
    assert row.call is not None, row.findings
    assert (row.call.numbers, row.call.data) == ((ANA,), {"telefon": ANA, "name": "Tan", "sprache": "de"})
    assert str(row.call.valid_until) == "2026-03-02 20:00:00+00:00"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("name=Nachnam", "has no column 'Nachnam'; did you mean Nachname"),
        ("ort=Nachname", "has a column 'Ort' beside 'Nachname', which is to be ort; ignore the column"),
        ("name", "'name' is no column with its value; write it as destination=Telefon"),
        ("name=Nachname,name=Ort", "names a column twice"),
        ("contry=Ort", "no text has 'contry'; did you mean country=Ort?"),
        ("persons=Nachname", "did you mean person=Nachname?"),
        ("nummer=Telefon", "'Telefon' has numbers to call, and cannot be nummer too"),
        ("region=Ort", "there is no such column; add a column region; or write {{ort}}: region is a role of that"),
        ("country=Nachname,country=Ort", "2 columns of countries are named, and 1 of numbers: give one for all"),
    ],
)
def test_a_wrong_choice_of_columns_is_refused(tmp_path: Path, columns: str, said: str) -> None:
    path = file_of(tmp_path, table(f"{ANA},Tan,Ulm", columns="Telefon,Nachname,Ort"))
    say = "Hello {{region}}." if "region" in columns else SAID["say"]
    with pytest.raises((InvalidInputError, CampaignFileError), match=re.escape(said)):
        read(path, of(say=say, columns=f"destination=Telefon,{columns}"))


@pytest.mark.parametrize("reader", READERS)
def test_options_about_one_column_agree(tmp_path: Path, reader: Reader) -> None:
    """A column that was renamed is known by both names; one that is ignored is nowhere, whatever takes its name."""
    given = {"destination": ANA, "name": "Ana", "Nachname": "Tan", "Sperre": "ja"}
    columns = {"name": "Nachname", "marked": "Sperre", "ignore": "name"}
    (called,) = reader(tmp_path, given, of(columns=columns))
    assert called.call is not None, called.findings
    assert (called.call.data, called.findings) == ({"name": "Tan", "marked": "ja"}, ())
    for column in ("Sperre", "marked"):
        (row,) = reader(tmp_path, given, of(columns=columns, leave_out=f"{column}=ja"))
        assert row.is_left_out, (column, row.findings)
    beside = "which is to be name; ignore the column|is to be name, which the row has too; ignore the column"
    for ignored, more, said in (
        (["name", "Sperre"], {"leave_out": "Sperre=ja"}, "'Sperre' cannot be ignored"), (["Sperre"], {}, beside),
        (["name", "Nachname"], {}, "'Nachname' cannot be ignored"),
    ):  # fmt: skip
        options = of(columns={"name": "Nachname", "ignore": ignored}, **more)
        try:
            message = told(reader(tmp_path, given, options))[0][3]
        except CampaignFileError as error:
            message = str(error)
        assert re.search(said, message), message


def closing(folder: Path, lines: Sequence[str], columns: str = "destination,name,Status", **more: object) -> list[str]:
    """What is told of all rows of a file together."""
    return [each.message for each in read_all(file_of(folder, table(*lines, columns=columns)), of(**more)).closing]


def test_a_person_who_is_left_out_in_one_row_and_called_by_another_is_told(tmp_path: Path) -> None:
    columns = "destination,name,DNC"
    lines = f"{ANA},Ana,", f"{BEN},Ben,yes", "+65 8765 4322,Benjamin,", f"{ANA},,yes"
    message = (
        "2 numbers would be called although another row with the number is left out, such as that of row 2, which row "
        f"5 leaves out. If they are the same people, {Remedy.LEAVE_OUT_ROWS}"
    )
    assert closing(tmp_path, lines, columns, leave_out="DNC=TRUE") == [message]
    assert closing(tmp_path, lines, columns, leave_out="DNC=TRUE", leave_out_rows="2,4") == []
    none = [line.replace(",yes", ",no") for line in lines]
    assert message not in str(closing(tmp_path, none, columns, leave_out="DNC=TRUE"))
    marks = f"{ANA},Ana,x", f"{BEN},Ben,Y"
    assert closing(tmp_path, marks, columns, leave_out="DNC=x") == [], "it is decided"


IDLE = "leaves out no row of this list: compare it with the list"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"leave_out": "Status=Deceased,Status=Decesed"}, [f"Status=Decesed {IDLE}"]),
        ({"leave_out_rows": "1,2,9-12,15-"}, [f"leave_out_rows {each} {IDLE}" for each in ("1", "9-12", "15-")]),
        ({"leave_out": "Status!=Actve"},
         ["Status!=Actve leaves out each row, since no cell is so: compare it with the list"]),
        ({"leave_out": "Status=Deceased,status=DECEASED", "leave_out_rows": "2-3,3"}, []),
        ({"only": "Status=Bookt"},
         ["only Status=Bookt leaves no row: no cell of Status holds 'Bookt'; compare it with the list"]),
    ],
)  # fmt: skip
def test_what_leaves_out_no_row_is_told(tmp_path: Path, given: dict[str, str], said: list[str]) -> None:
    assert closing(tmp_path, [f"{ANA},Ana,Deceased", f"{BEN},Ben,Active"], **given) == said


def test_two_values_of_which_each_leaves_out_a_row_are_no_news(tmp_path: Path) -> None:
    assert closing(tmp_path, [f"{ANA},Ana,no", f"{BEN},Ben,Active"], leave_out="Status=TRUE,Status=Active") == []
