"""Rows that a column leaves out: compared by meaning, told and counted; and columns whose names say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from openpyxl import Workbook

from tests.campaigns.forms import READERS, Reader, in_forms
from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.campaigns.files import rows as rows_of_files
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import ColumnReader, ColumnRoles
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy

ANA, BEN = "+6587654321", "+6587654322"
SAID: dict[str, object] = {
    "say": "Hello {{name}}.",
    "source": "+6531234567",
    "voice_profile": "en-IE-EmilyNeural",
    "batch": "b",
}

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
    lines = "destination,name,Do Not Call\nnone of your business,,TRUE\n+6587654321,Ana,#REF!\n+6587654322,Ben,no\n"
    options = replace(OPTIONS, leave_out="do not call=yes")
    first, damaged, ben = open_campaign(file_of(tmp_path, lines), options, now=NOW)
    assert (first.is_left_out, first.is_bad) == (True, False)
    assert [found[1] for found in told([damaged])] == ["Do Not Call"], "one finding for a cell"
    assert ben.call is not None


def test_any_of_several_values_leaves_a_row_out(tmp_path: Path) -> None:
    cells = ["Moved,", "Deceased,", ",1", ",0"]
    rows = "\n".join(["destination,name,Status,DNC", *(f"+658765432{n},A,{each}" for n, each in enumerate(cells)), ""])
    path = file_of(tmp_path, rows)
    given: tuple[object, ...] = (
        "Status=Deceased, Status=moved, DNC=TRUE",
        ["Status=Deceased", "Status=moved", "DNC=TRUE"],
        {"Status": ["Deceased", "moved"], "DNC": True},
    )
    for each in given:
        options = Campaign.of({**SAID, "file": path, "leave_out": each}).options
        assert [row.is_left_out for row in open_campaign(path, options, now=NOW)] == [True, True, True, False]
    written = 'destination,name,"Status, last"\n+6587654321,A,"gone, sadly"\n'
    options = Campaign.of({**SAID, "file": path, "leave_out": {"Status, last": "gone, sadly"}}).options
    assert [row.is_left_out for row in open_campaign(file_of(tmp_path, written), options, now=NOW)] == [True]


VISITS = ["Booked,A", "booked,B", "Moved,A", ",A", "Confirmed,A"]
"""The status and the site of people."""


@pytest.mark.parametrize(
    ("only", "called"),
    [
        ("Status=Booked", [0, 1]),
        ("Status=Booked, Status=Confirmed", [0, 1, 4]),
        ("Status=Booked, Status=Confirmed, Site=A", [0, 4]),
        ("Status!=Moved", [0, 1, 3, 4]),
        ("Status!=Moved, Status!=Booked", [3, 4]),
        ("Status=Booked, Site!=B", [0]),
        ({"Status": ["Booked", "Moved"]}, [0, 1, 2]),
    ],
)
def test_only_rows_with_a_value_are_called(tmp_path: Path, only: object, called: list[int]) -> None:
    lines = ["destination,name,Status,Site", *(f"+658765432{n},A,{each}" for n, each in enumerate(VISITS)), ""]
    path = file_of(tmp_path, "\n".join(lines))
    options = Campaign.of({**SAID, "file": path, "only": only}).options
    rows = list(open_campaign(path, options, now=NOW))
    assert [place for place, row in enumerate(rows) if row.call is not None] == called
    assert all("nobody is called for it" in row.findings[-1].message for row in rows if row.is_left_out)


def test_a_value_that_no_cell_has_is_told(tmp_path: Path) -> None:
    lines = "destination,name,Status\n+6587654321,Ana,Booked\n"
    assert [message for _, message in closing(lines, tmp_path, only="Status=Bookt")] == [
        "only Status=Bookt calls nobody: no cell of Status holds 'Bookt'; compare it with the list"
    ]


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
        assert (report.enqueued, report.duplicates, report.left_out) == (0, 2, 2)
        assert [job.destination[-1] for job in await queue.find()] == ["1", "2"]


@pytest.mark.parametrize("wrong", [0, -1, "half", 1.5])
def test_a_limit_is_a_number_of_rows(wrong: object) -> None:
    with pytest.raises(InvalidInputError, match="limit"):
        Campaign.of({**SAID, "rows": [], "limit": wrong})


def test_a_filter_that_is_none_is_refused() -> None:
    """Never taken for its opposite, or for a column whose name ends in a sign."""
    signs = ("==", "===", "!==", "=!", "=!=", "!!=", "<=", ">=", "~=", "^=", "*=", "|=", "<>=")
    written = (
        *(f"Status{space}{sign}{space}Booked" for sign in signs for space in ("", " ")),
        *(
            "!Status=Booked",
            "! Status = Booked",
            "!Status!=Booked",
            "!=Booked",
            "Status!=",
            "Status != ",
            "Status<>Booked",
        ),
        *("Status≠Booked", "Status!Booked", "Status=Gone,Status==Booked"),
        *("Status!=Booked,Status!=Confirmed", "Status=Booked, status!=BOOKED", "DNC!=yes,DNC!=no"),
    )
    as_tables = (
        {"Status!": "Deceased"},
        {"Status=": "Deceased"},
        {"Status": "!=Booked"},
        {"Status": ["Gone", "=Booked"]},
    )
    given: tuple[object, ...] = (*written, *([each] for each in written[:10]), *as_tables)
    for wrong in given:
        with pytest.raises(InvalidInputError, match="leave_out"):
            Campaign.of({**SAID, "rows": [], "leave_out": wrong})


@pytest.mark.parametrize(
    "pattern",
    [
        *("Cancel*", "*", "Moved|Cancelled", "Moved;Cancelled", "Cancel%", "<B", "'Moved'", "Cancelle?", "^Cancel"),
        *("/cancel/i", "\u201cMoved\u201d", "«Moved»", "Moved AND name=Ana"),
    ],
)
def test_a_pattern_is_refused_unless_a_cell_holds_it(tmp_path: Path, pattern: str) -> None:
    path = file_of(tmp_path, f"destination,name,Status\n{ANA},Ana,Cancelled\n{BEN},Ben,\n")
    for sign in ("=", "!="):
        options = Campaign.of({**SAID, "file": path, "leave_out": f"Status{sign}{pattern}"}).options
        with pytest.raises(CampaignFileError, match="'Cancelled'") as refused:
            list(open_campaign(path, options, now=NOW))
        assert f"holds {pattern!r}" in str(refused.value)
        assert [found.column for found in refused.value.findings] == ["Status"]
        held = file_of(tmp_path, f"destination,name,Status\n{ANA},Ana,Moved\n{BEN},Ben,{pattern}\n", "held.csv")
        rows = list(open_campaign(held, options, now=NOW))
        assert [row.is_left_out for row in rows] == ([False, True] if sign == "=" else [True, False])
        empty = [{"destination": ANA, "name": "Ana", "Status": None}]
        assert [row.is_left_out for row in open_campaign(empty, replace(options, batch_id="b"), now=NOW)] == [
            sign != "="
        ]


@pytest.mark.anyio
async def test_nobody_is_called_by_a_pattern(queue: CallQueue) -> None:
    given = {**SAID, "rows": ROWS, "leave_out": "DNC=y*", "skip_bad": True}
    with pytest.raises(CampaignFileError, match=r"no cell of DNC holds 'y\*'"):
        await Campaign.of(given).start(queue)
    assert (await queue.status()).total == 0


def test_a_value_without_its_column_is_refused() -> None:
    for wrong in ("Do Not Call", "=TRUE", "Status=", "Status=a,,", "", {"Status": {"a": 1}}):
        with pytest.raises(InvalidInputError, match="leave_out"):
            Campaign.of({**SAID, "rows": [], "leave_out": wrong})


def test_a_column_that_does_not_exist_is_refused_with_the_near_names(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,Do Not Call\n+6587654321,Ana,\n")
    with pytest.raises(CampaignFileError, match=r"no column 'Do Not Cal'; did you mean Do Not Call\?"):
        open_campaign(path, replace(OPTIONS, leave_out="Do Not Cal=TRUE"), now=NOW)
    visits = file_of(tmp_path, "destination,name,Reason\n+6587654321,Ana,Deceased\n", "visits.csv")
    (gone,) = open_campaign(visits, replace(OPTIONS, leave_out="Reason=Deceased"), now=NOW)
    assert gone.is_left_out
    rejects = file_of(tmp_path, "reason,destination,name\nbad,+6587654321,Ana\n", "rejects.csv")
    with pytest.raises(CampaignFileError, match="why rows were rejected, and it is not read: rename it"):
        open_campaign(rejects, replace(OPTIONS, leave_out="Reason=Deceased"), now=NOW)
    ((_, column, _, message),) = told(
        open_campaign([{"destination": ANA, "name": "Ana"}], replace(OPTIONS, batch_id="b", leave_out="DNC=1"), now=NOW)
    )
    assert (column, message) == ("DNC", "is not in this row: give it, or null")
    row = {"destination": ANA, "name": "Ana", "Do Not Call": None}
    (found,) = told(open_campaign([row], replace(OPTIONS, batch_id="b", leave_out="Do Not Cal=1"), now=NOW))
    assert found[3] == "is not in this row: give it, or null; did you mean Do Not Call?"
    with pytest.raises(CampaignFileError, match="request bodies have no column 'DNC'"):
        open_campaign(file_of(tmp_path, "{}\n", "b.jsonl"), replace(OPTIONS, template=None, leave_out="DNC=1"), now=NOW)


ROWS: list[dict[str, object]] = [
    {"destination": ANA, "name": "Ana", "DNC": "yes"},
    {"destination": BEN, "name": "Ben", "DNC": ""},
    {"destination": "nothing", "name": "Cleo", "DNC": True},
    {"destination": BEN, "name": "Ben", "DNC": None},
]


def counts(report: EnqueueReport) -> tuple[int, ...]:
    return report.rows, report.enqueued, report.valid, report.left_out, report.duplicates, report.rejected


@pytest.mark.anyio
async def test_they_are_counted_in_the_preview_and_the_result(queue: CallQueue) -> None:
    campaign = Campaign.of({**SAID, "rows": ROWS, "leave_out": "DNC=TRUE"})
    shown = await campaign.preview(queue)
    assert counts(shown) == (4, 0, 1, 2, 1, 0)
    assert shown.preview is not None
    assert ("left out", "1 duplicate, 2 by column or row") in shown.preview.in_words()
    assert shown.preview.as_json()["left_out"] == 2
    done = await campaign.start(queue, expected_version=shown.version)
    assert counts(done) == (4, 1, 1, 2, 1, 0)
    assert done.as_json()["left_out"] == 2
    assert [(f.row, f.column, f.message) for f in done.findings if f.column == "DNC"] == [
        (1, "DNC", "holds 'yes', so this row is left out: nobody is called for it"),
        (3, "DNC", "holds 'True', so this row is left out: nobody is called for it"),
    ]


@pytest.mark.anyio
async def test_a_limit_of_bad_rows_is_of_the_rows_that_would_be_called(queue: CallQueue) -> None:
    rows = [{**each, "destination": "nothing"} for each in ROWS]
    given = {**SAID, "rows": rows, "leave_out": "DNC=TRUE", "skip_bad": "100 %"}
    assert (await Campaign.of(given).start(queue)).refused, "never all of them"


def warned(rows: object, **more: object) -> list[tuple[int | None, str | None, str]]:
    campaign = Campaign.of({**SAID, "rows": rows, **more})
    opened = open_campaign(campaign.rows or (), campaign.options, now=NOW)
    list(opened)
    return [(f.row, f.column, f.message) for f in opened.closing_findings() if Remedy.LEAVE_OUT in f.message]


def test_a_remark_beside_a_name_is_a_warning_with_its_rows(tmp_path: Path) -> None:
    told = "says in 2 rows not to call somebody who would be called, such as row 2, 'Ana (DO NOT CALL)'"
    lines = f"destination,Guest Name,Notes\n{ANA},Ana (DO NOT CALL),\n{BEN},Ben - deceased,\n"
    options = Campaign.of({**SAID, "say": "Hello.", "rows": []}).options
    for given in (lines, lines.replace("destination", "phone")):
        options = replace(options, columns={"destination": "destination" if given is lines else "phone"})
        opened = open_campaign(file_of(tmp_path, given), options, now=NOW)
        list(opened)
        assert [(f.row, f.column, f.message) for f in opened.closing_findings()] == [
            (2, "Guest Name", f"{told}; {Remedy.LEAVE_OUT_ROWS}")
        ]
    opened = open_campaign(file_of(tmp_path, lines), replace(options, columns={}, leave_out_rows=((2, 3),)), now=NOW)
    list(opened)
    assert opened.closing_findings() == ()


def test_a_column_whose_name_says_so_is_a_warning_with_its_rows_before_the_start(tmp_path: Path) -> None:
    ((row, column, message),) = warned(ROWS)
    assert (row, column) == (1, "DNC")
    assert message.startswith(
        "says by its name whom not to call, but 1 row in which it is neither empty nor a no would"
    )
    assert warned(ROWS, leave_out="DNC=TRUE") == []
    for cell in ("no", False, 0, "", None, "-", "N/A", "(blank)"):
        assert warned([{**each, "DNC": cell} for each in ROWS]) == []
    assert warned(ROWS, columns={"ignore": "DNC"}) == []
    for each, cells in (
        ("TPS", ["No", "Clear"]),
        ("May we call?", ["Yes", "", None]),
        ("Notes", ["Do not call before 9"]),
    ):
        for cell in cells:
            assert warned([{"destination": ANA, "name": "Ana", each: cell}]) == [], cell
    for each, cell, said in (
        ("May we call?", "No", "says by its name who may be called, but 1 row in which it is a no would be called"),
        ("Einwilligung Telefon", False, "such as row 1, 'False'; leave rows out by this column"),
        ("TPS", "registered", "says by its name whom not to call, but 1 row in which"),
    ):
        ((_, column, message),) = warned([{"destination": ANA, "name": "Ana", each: cell}])
        assert (column, said in message) == (each, True), message
        assert warned([{"destination": ANA, "name": "Ana", each: cell}], leave_out=f"{each}={cell}") == []
    given: tuple[object, ...] = ("2025-03-01", ["a"], {"said": "stop"}, 2)
    for other in given:
        assert warned([{**each, "DNC": other} for each in ROWS[:1]]) != []
        assert warned([{**each, "DNC": other} for each in ROWS[:1]], leave_out="Name=Ana, DNC=2") == []
    for reader in READERS:
        reader(tmp_path, {"destination": ANA, "name": "Ana", "Opted Out": "TRUE"}, replace(OPTIONS, batch_id="b"))
        for path in tmp_path.glob("visits.*"):
            opened = open_campaign(path, OPTIONS, now=NOW)
            list(opened)
            assert [found.column for found in opened.closing_findings()] == ["Opted Out"], path
            path.unlink()


def workbook(lines: list[list[str]]) -> Workbook:
    book = Workbook()
    for line in lines:
        book.worksheets[0].append(line)
    return book


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_header_below_titles_is_named_and_rows_are_left_out_by_their_numbers(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_of_files, "MOST_ABOVE", 2)
    lines = [["List of January"], ["made by", "Li"], ["destination", "name"], [ANA, "Ana"], [BEN, "Ben"], ["?", "Cleo"]]
    path = tmp_path / f"people.{kind}"
    if kind == "csv":
        path.write_text("".join(",".join(each) + "\n" for each in lines), encoding="utf-8")
    else:
        workbook(lines).save(path)
    asked = {**SAID, "file": path, "header_row": 3, "leave_out_rows": "5-6"}
    rows = list(open_campaign(path, Campaign.of(asked).options, now=NOW))
    assert [(row.is_left_out, row.call is not None) for row in rows] == [(False, True), (True, False), (True, False)]
    source = open_source(InputFile(path), header_row=6, columns=ColumnReader(ColumnRoles(numbers=("Cleo",))))
    assert [number for number, _ in source.above] == [4, 5], "of many rows, the last before the header"
    for wrong in ("0", "3-x", 99):
        with pytest.raises((InvalidInputError, CampaignFileError), match="row"):
            list(open_campaign(path, Campaign.of({**asked, "header_row": wrong}).options, now=NOW))
    for given, left in (("5-", [5, 6]), ("4,6-", [4, 6]), ("4 -", [4, 5, 6]), (["5-"], [5, 6]), ("5-99", [5, 6])):
        rows = list(open_campaign(path, Campaign.of({**asked, "leave_out_rows": given}).options, now=NOW))
        assert [row.raw.number for row in rows if row.is_left_out] == left, given
    wrongs = (
        "0",
        "9-3",
        "a",
        "3,",
        "-5",
        "-",
        "5--",
        "5-7-9",
        "0-",
        "5\u20137",
        "1_0",
        "\u0665",
        "5:7",
        "+5",
        "5.0",
        -5,
    )
    for wrong in wrongs:
        with pytest.raises(InvalidInputError, match="leave_out_rows"):
            Campaign.of({**asked, "leave_out_rows": wrong})


@pytest.mark.parametrize("reader", READERS)
def test_a_choice_says_which_column_is_what(tmp_path: Path, reader: Reader) -> None:
    """As if the columns had been renamed, in each form, whatever they are called."""
    given = {"Telefon": ANA, "Nachname": "Tan", "Sprache": "de", "Frist": "2026-03-02T20:00:00Z"}
    options = Campaign.of(
        {**SAID, "rows": [], "columns": {"destination": "telefon", "name": "Nachname", "valid_until": "Frist"}}
    ).options
    (row,) = reader(tmp_path, given, options)
    assert row.call is not None, row.findings
    assert (row.call.numbers, row.call.data) == ((ANA,), {"telefon": ANA, "name": "Tan", "sprache": "de"})
    assert row.call.valid_until is not None
    assert row.call.valid_until.hour == 20


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("name=Nachnam", "has no column 'Nachnam'; did you mean Nachname"),
        ("ort=Nachname", "has a column 'Ort' beside 'Nachname', which is to be ort; ignore the column"),
        ("name", "'name' is no column with its value; write it as destination=Telefon"),
        ("name=Nachname,name=Ort", "names a column twice"),
        ("nummer=Telefon", "'Telefon' has numbers to call, and cannot be nummer too"),
    ],
)
def test_a_wrong_choice_of_columns_is_refused(tmp_path: Path, columns: str, said: str) -> None:
    path = file_of(tmp_path, f"Telefon,Nachname,Ort\n{ANA},Tan,Ulm\n")
    with pytest.raises((InvalidInputError, CampaignFileError), match=said):
        read(path, Campaign.of({**SAID, "file": path, "columns": f"destination=Telefon,{columns}"}).options)


@pytest.mark.parametrize("reader", READERS)
def test_options_about_one_column_agree(tmp_path: Path, reader: Reader) -> None:
    """A column that was renamed is known by both names; one that is ignored is nowhere, whatever takes its name."""
    given = {"destination": ANA, "name": "Ana", "Nachname": "Tan", "Sperre": "ja"}
    asked: dict[str, object] = {**SAID, "rows": []}
    asked |= {"columns": {"name": "Nachname", "marked": "Sperre", "ignore": "name"}}
    (called,) = reader(tmp_path, given, Campaign.of(asked).options)
    assert called.call is not None, called.findings
    assert called.call.data == {"name": "Tan", "marked": "ja"}
    assert [found.column for found in called.findings] == []
    for column in ("Sperre", "marked"):
        (row,) = reader(tmp_path, given, Campaign.of({**asked, "leave_out": f"{column}=ja"}).options)
        assert row.is_left_out, (column, row.findings)
    for more, said in (
        ({"ignored": ["name", "Sperre"], "leave_out": "Sperre=ja"}, "'Sperre' cannot be ignored"),
        (
            {"ignored": ["Sperre"]},
            "which is to be name; ignore the column|is to be name, which the row has too; ignore the column",
        ),
        ({"ignored": ["name", "Nachname"]}, "'Nachname' cannot be ignored"),
    ):
        ignored = more.pop("ignored")
        fields: dict[str, object] = {**asked, **more, "columns": {"name": "Nachname", "ignore": ignored}}
        with pytest.raises(CampaignFileError, match=said):
            raise CampaignFileError(told(reader(tmp_path, given, Campaign.of(fields).options))[0][3])


def closing(lines: str, folder: Path, **more: object) -> list[tuple[int | None, str]]:
    path = file_of(folder, lines)
    opened = open_campaign(path, Campaign.of({**SAID, "file": path, **more}).options, now=NOW)
    list(opened)
    return [(found.row, found.message) for found in opened.closing_findings()]


def test_a_person_who_is_left_out_in_one_row_and_called_by_another_is_told(tmp_path: Path) -> None:
    lines = f"destination,name,DNC\n{ANA},Ana,\n{BEN},Ben,yes\n+65 8765 4322,Benjamin,\n{ANA},,yes\n"
    message = (
        "2 numbers would be called although another row with the number is left out, such as that of row 2, which row "
        f"5 leaves out. If they are the same people, {Remedy.LEAVE_OUT_ROWS}"
    )
    assert closing(lines, tmp_path, leave_out="DNC=TRUE") == [(2, message)]
    assert closing(lines, tmp_path, leave_out="DNC=TRUE", leave_out_rows="2,4") == []
    assert message not in str(closing(lines.replace(",yes", ",no"), tmp_path, leave_out="DNC=TRUE"))


def test_what_leaves_out_no_row_is_told(tmp_path: Path) -> None:
    lines = f"destination,name,Status\n{ANA},Ana,Deceased\n{BEN},Ben,Active\n"
    idle = "leaves out no row of this list: compare it with the list"
    assert [message for _, message in closing(lines, tmp_path, leave_out="Status=Deceased,Status=Decesed")] == [
        f"Status=Decesed {idle}"
    ]
    assert [message for _, message in closing(lines, tmp_path, leave_out_rows="1,2,9-12,15-")] == [
        f"leave_out_rows 1 {idle}",
        f"leave_out_rows 9-12 {idle}",
        f"leave_out_rows 15- {idle}",
    ]
    all_of_them = "leaves out each row, since no cell is so: compare it with the list"
    assert [message for _, message in closing(lines, tmp_path, leave_out="Status!=Actve")] == [
        f"Status!=Actve {all_of_them}"
    ]
    assert closing(lines.replace("Deceased", "no"), tmp_path, leave_out="Status=TRUE,Status=Active") == []
    twice = {"leave_out": "Status=Deceased,status=DECEASED", "leave_out_rows": "2-3,3"}
    assert closing(lines, tmp_path, **twice) == []


def test_a_mark_that_the_value_does_not_match_is_told(tmp_path: Path) -> None:
    """`x` leaves no `y` out: a column whose name says whom not to call is warned of until no such row is called."""
    lines = f"destination,name,DNC\n{ANA},Ana,x\n{BEN},Ben,Y\n"
    ((row, message),) = closing(lines, tmp_path, leave_out="DNC=x")
    assert (row, "would be called, such as row 3, 'Y'" in message) == (3, True)
