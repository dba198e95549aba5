"""CSV files as people make them: encodings, delimiters, headers, quotes, ragged rows."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, flow_of, read, text_of, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.times import DateOrder

LONG = "x" * 131_073


def refused(path: Path) -> str:
    with pytest.raises(CampaignFileError) as caught:
        read(path)
    return str(caught.value)


def test_delimiters_line_ends_and_byte_order_marks_make_no_difference(tmp_path: Path) -> None:
    for end, delimiter, encoding in product(["\n", "\r\n", "\r"], [",", ";", "\t", "|"], ["utf-8", "utf-8-sig"]):
        lines = [["destination", "name"], ["+6587654321", "Zoë"], ["+6587654322", '"a,b;c"'], []]
        content = end.join(delimiter.join(line) for line in lines).encode(encoding)
        assert list(map(text_of, calls_of(read(file_of(tmp_path, content))))) == ["Hello Zoë.", "Hello a,b;c."]


def test_a_cell_with_line_breaks_counts_from_the_line_where_its_row_begins(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, 'destination,name\n+6587654321,"Ana\nand\nBen"\nnone,Cleo\n'))
    assert text_of(calls_of(rows)[0]) == "Hello Ana\nand\nBen."
    assert [row.raw.number for row in rows] == [2, 5]
    assert told(rows)[0][:3] == (5, "destination", -1017)


@pytest.mark.parametrize(
    ("content", "number"),
    [
        ("sep=;\ndestination;name\n+6587654321;Ana\n", 3),
        ("\n\ndestination,name\n\n,\n+6587654321,Ana\n , \n", 6),
    ],
    ids=["the delimiter as Excel names it", "empty lines"],
)
def test_lines_that_are_not_rows_are_passed_over_and_counted(tmp_path: Path, content: str, number: int) -> None:
    rows = read(file_of(tmp_path, content))
    assert [(row.raw.number, text_of(request)) for row, request in zip(rows, calls_of(rows), strict=True)] == [
        (number, "Hello Ana.")
    ]


def test_a_header_that_cannot_be_used_is_reported_with_the_remedy(tmp_path: Path) -> None:
    for header, sentence in [
        ("phone,name", "has no column destination; rename 'phone' to destination, or name the column of"),
        ("Mobile No,name", "has no column destination; rename 'Mobile No' to destination"),
        ("destinaton,name", "has no column destination; rename 'destinaton' to destination"),
        (
            "a,name",
            "has no column destination; rename the column of phone numbers to destination, or name",
        ),
        ("+6587654321,Ana", "begins with a line that looks like data; add a header line above it"),
        ("destination,name,Name", "has two columns of the same name: name; rename or remove one;"),
        ("destination,destination,name", "has two columns of the same name: destination"),
        ('destination,"name', 'line 1: the header has a quote (") that is opened and not closed'),
    ]:
        assert sentence in refused(file_of(tmp_path, f"{header}\n+6587654321,Ana,x\n"))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Not Before;Mobile No;Visit\n;;24.12.2026\n32.1.2027 9:00;+65 8123;31.2.2027\n", "Mobile No"),
        (
            '{"Visit": "24.12.2026"}\n{"not_before": "32.1.2027", "Mobile No": "+65 8123", "Visit": "31.2.2027"}\n',
            "mobile no",
        ),
    ],
    ids=["csv", "jsonl"],
)
def test_a_finding_names_a_column_as_the_file_does_and_each_cell_has_one(
    tmp_path: Path, text: str, missing: str
) -> None:
    options = replace(
        OPTIONS,
        template=FlowTemplate.speaking("Come on {{visit|date}}."),
        columns={"destination": "mobile no"},
        date_order=DateOrder.DMY,
    )
    rows = list(read(file_of(tmp_path, text, "visits.csv" if ";" in text else "visits.jsonl"), options))
    assert [[found.column for found in row.findings] for row in rows] == [
        [missing],
        ["not_before", "Visit", "Mobile No"],
    ]


@pytest.mark.parametrize("name", ["visits.csv", "visits.jsonl"])
def test_the_column_of_the_numbers_may_have_another_name(tmp_path: Path, name: str) -> None:
    content = {
        "visits.csv": "name;Note, long;Mobile No.\nAna;x;+6587654321\n",
        "visits.jsonl": '{"name": "Ana", "Mobile No.": "+6587654321"}\n',
    }
    options = replace(OPTIONS, columns={"destination": "mobile no"})
    (row,) = read(file_of(tmp_path, content[name], name), options)
    assert (row.number, told([row])) == ("+6587654321", [])
    assert row.call is not None
    assert (row.call.data or {})["mobile_no"] == "+6587654321", "reports show the column under its own name too"


def test_a_column_of_numbers_that_is_missing_or_not_the_only_one_is_told(tmp_path: Path) -> None:
    for header, sentence in (
        ("destination,name", "has no column 'Mobile'; columns found: destination, name"),
        ("destination,mobile", "has a column destination beside 'Mobile'"),
        ("Mobile,Full Name", "columns found: Mobile, Full Name"),
        ("name,Mobile,mobile", "has two columns of the same name: Mobile; rename or remove one"),
    ):
        with pytest.raises(CampaignFileError, match=sentence):
            read(file_of(tmp_path, f"{header}\n+6587654321,Ana\n"), replace(OPTIONS, columns={"destination": "Mobile"}))


def test_a_cell_has_the_same_characters_with_quotes_and_without(tmp_path: Path) -> None:
    for mark, quote in product(["", "\\", "'", "\x85", "\u2028", "\x0b", "\xa0", " x ", "%s", "x" * 3000], ["", '"']):
        rows = read(file_of(tmp_path, f"destination,name\n+6587654321,{quote}A{mark}na{quote}"))
        assert rows[0].raw.cells == ("+6587654321", f"A{mark}na")


def test_a_file_of_another_kind_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for content, sentence in [
        ("destination,name\n+6587654321,Ana\n".encode("utf-16"), "is in UTF-16, not UTF-8; save it again as CSV UTF-8"),
        ("destination,name\n+6587654321,Ana\n".encode("utf-16-be"), "is not UTF-8 text (UTF-16, or binary data)"),
        (
            b"PK\x03\x04 and so on",
            "is a damaged or incomplete workbook or zip archive",
        ),
        (
            "destination,prénom\n".encode("latin-1"),
            "is not UTF-8: line 1 has the byte 0xE9 at character 15; save it again",
        ),
        (b"", "is empty; it needs a header line with a column named destination"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"x" * 1_000_001, "is longer than 1000000 characters; correct or remove that line"),
    ]:
        assert sentence in refused(file_of(tmp_path, content))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "+6587654321",
            "the row has 1 cell, but the header has 2: name is missing; fill them, or put a column",
        ),
        (
            "+6587654321,Ana, Ltd",
            "the row has 3 cells, but the header has 2; put quotes around a cell that contains the delimiter",
        ),
        ("+6587654321,Ana,", "the row has 3 cells, but the header has 2"),
        ("+6587654321,A\0na", "the line has a NUL character"),
        pytest.param("+6587654321," + LONG, "the line has a cell of more than 131072", id="long"),
        pytest.param(f'+6587654321,"{LONG}"', "the line has a cell of more than 131072", id="long, in quotes"),
    ],
)
def test_a_row_with_too_few_or_too_many_cells_or_one_that_cannot_be_is_bad_alone(
    tmp_path: Path, row: str, sentence: str
) -> None:
    rows = read(file_of(tmp_path, f"destination,name\n{row}\n+6587654322,Ben\n"))
    assert [(number, column) for number, column, _, _ in told(rows)] == [(2, None)]
    assert told(rows)[0][3].startswith(sentence)
    assert len(calls_of(rows)) == 1


@pytest.mark.parametrize("following", ["+6587654322,Ben", '+6587654322,"Ben"', '"+6587654322","Ben"'])
def test_a_quote_that_is_not_closed_spoils_its_own_line_and_no_other(tmp_path: Path, following: str) -> None:
    rows = read(file_of(tmp_path, f'destination,name\n+6587654321,"Ana\n{following}\n+6587654323,Cleo\n'))
    assert [number for number, *_ in told(rows)] == [2]
    assert list(map(text_of, calls_of(rows))) == ["Hello Ben.", "Hello Cleo."]


def test_a_quote_that_is_not_closed_does_not_read_the_whole_file_as_one_cell(tmp_path: Path) -> None:
    content = 'destination,name\n+6587654321,"Ana\n' + "".join(f"+65{80000000 + n},Ben\n" for n in range(2000))
    rows = read(file_of(tmp_path, content))
    assert [number for number, *_ in told(rows)] == [2]
    assert len(calls_of(rows)) == 2000


def test_a_quote_within_a_cell_is_a_character(tmp_path: Path) -> None:
    assert list(map(text_of, calls_of(read(file_of(tmp_path, 'destination,name\n+6587654321,5" pipe\n'))))) == [
        'Hello 5" pipe.'
    ]


def test_columns_that_nothing_uses_are_warned_of_once(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,valid_til,colour\n+6587654321,Ana,,red\n+6587654322,Ben,,red\n")
    campaign = open_campaign(path, OPTIONS, now=NOW)
    assert [(found.row, found.column, found.is_error) for found in campaign.findings] == [
        (1, "valid_til", False),
        (1, "colour", False),
    ]
    assert campaign.findings[0].message.endswith("it is only stored with the call; did you mean valid_until?")
    assert all(not row.findings for row in campaign)


def test_many_columns_that_nothing_uses_are_one_warning(tmp_path: Path) -> None:
    names = [f"x{place}" for place in range(300)]
    path = file_of(tmp_path, f"destination,name,{','.join(names)}\n+6587654321,Ana{',1' * 300}\n")
    (found,) = open_campaign(path, OPTIONS, now=NOW).findings
    assert found.message.startswith("300 columns are neither reserved nor used by the template; they are only stored")
    rows: list[dict[str, object]] = [{"destination": "+6587654321", "name": "Ana", **dict.fromkeys(names, 1)}]
    (row,) = open_campaign(rows, replace(OPTIONS, batch_id="b"), now=NOW)
    assert [each.message for each in row.findings] == [found.message]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """50,000 rows keep only their keys in mind."""

    def peak(count: int) -> int:
        path = file_of(tmp_path, "destination,name\n" + "".join(f"+65{80000000 + n},Ana\n" for n in range(count)))
        tracemalloc.start()
        try:
            for _ in open_campaign(path, OPTIONS, now=NOW):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2200)  # what is loaded and cached once
    small, large = peak(200), peak(2200)
    assert (large - small) / 2000 < 600


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_old_programs_write_at_the_end_of_a_file_is_left_out(tmp_path: Path, end: str) -> None:
    table = end.join(["destination,name", "+6587654321,Ana", "+6587654322,Ben", ""])
    lines = end.join(['{"destination": "+6587654321", "name": "Ana"}', '{"destination": "+6587654322", "name": "Ben"}'])
    for content, name in ((table, "a.csv"), (table.rstrip(), "a.csv"), (table, "a.txt"), (lines, "a.jsonl")):
        for last in ("\x1a", "\x1a" * 100, f"{end}\x1a{end}", f"{end}\x1a\x1a"):
            rows = read(file_of(tmp_path, content + last, name))
            assert [row.number for row in rows] == ["+6587654321", "+6587654322"]
            assert told(rows) == []
            assert read_number_file(file_of(tmp_path, f"+6587654321{end}+6587654322{end}{last}")).findings == []
    rows = read(file_of(tmp_path, table.replace(f"Ana{end}", f"Ana{end}\x1a{end}") + "\x1a"))
    assert ([row.raw.number for row in rows], told(rows)) == ([2, 4], [])


EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGN = EXAMPLES / "reminder-campaign.csv"


@pytest.fixture
def options() -> CampaignOptions:
    template = FlowTemplate.load(EXAMPLES / "reminder-flow.json")
    return CampaignOptions(template=template, source="+6531234567", voice_profile="en-IE-EmilyNeural")


def test_the_example_campaign_has_good_rows_in_five_countries(options: CampaignOptions) -> None:
    good = calls_of(read(CAMPAIGN, options))
    assert len(good) == 26
    countries = {country_of(flow_of(request).destination or "") for request in good}
    assert countries == {"SG", "PH", "ID", "GB", "US"}


def test_the_example_campaign_is_wrong_in_each_way_that_people_get_wrong(options: CampaignOptions) -> None:
    found = [found for row in read(CAMPAIGN, options) for found in row.findings]
    assert [(each.row, each.column, each.code) for each in found if each.is_error] == [
        (29, "destination", -1017),  # a national number
        (30, "destination", -1017),  # scientific notation
        (31, "destination", -1017),  # letters
        (32, "destination", -1017),  # too short
        (33, "destination", -1017),  # too long
        (34, "destination", -1011),  # two numbers
        (35, "destination", -1009),  # none
        (36, "name", -1009),  # nothing for the template
        (37, "repetition", -1009),  # out of range
        (38, "valid_until", -1015),  # past
        (39, "time_zone", None),  # no such zone
        (40, "not_before", None),  # no zone at all
        (41, "not_before", None),  # when the clocks go back
        (42, "valid_until", None),  # another order of day and month
        (43, "priority", None),  # no number
        (44, "unique_key", None),  # taken by another row
        (45, None, None),  # a comma without quotes
        (46, None, None),  # cells missing
        (47, None, None),  # a quote not closed
    ]
    assert [each.row for each in found if not each.is_error] == [28]  # twice


@pytest.mark.parametrize("name", ["text-to-speech.json", "play-file.json"])
def test_the_bodies_of_the_guide_are_valid(name: str) -> None:
    report = asyncio.run(check_file(EXAMPLES / name, now=datetime.now(UTC)))
    assert report.is_valid
    assert [found.path for found in report.findings] == ["$.callflow[0].params.source"], "6512345678 is not assigned"
