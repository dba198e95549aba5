"""A row becomes a call, or findings that tell all that is wrong with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import FORMS, written
from tests.campaigns.reading import (
    NOW,
    OPTIONS,
    Case,
    Row,
    calls_of,
    file_of,
    flow_of,
    judge,
    read,
    read_all,
    refused,
    told,
)
from tests.campaigns.workbooks import workbook
from voiceflow_worker import CallFlow, Campaign, Menu
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import SeenKeys, row_key
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.files import rows as file_findings
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import row_name
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Remedy, Severity, tell
from voiceflow_worker.ivr.menu import End
from voiceflow_worker.model.flows.callflow import EncodedBody

ANA = "+6587654321"


def cells(name: str, *values: str) -> str:
    """A file with one more column, and a row for each value of it."""
    return f"destination,name,{name}\n" + "".join(f"+658765432{n},Ana,{each}\n" for n, each in enumerate(values, 1))


def rows_of(values: Sequence[tuple[str, str]], more: str = "") -> list[dict[str, object]]:
    """Rows of a program with these numbers, and names or cells of another column."""
    return [{"destination": number, "name": "Ana", more or "name": each} for number, each in values]


def test_a_destination_that_cannot_be_called_is_reported_with_the_code_of_8x8(tmp_path: Path) -> None:
    for cell, code, sentence in [
        ("", -1009, "is missing but it is required"), ("0812 0000 0006", -1017, "does not say its country"),
        ("6.59E+09", -1017, "was damaged by a spreadsheet"), ("+65 8765 CALL", -1017, "has letters ('C')"),
        ("+6512", -1017, "digits are too few"), ("+65876543210987654", -1017, "digits are too many"),
        ("+6587654321 / +6587654322", -1011, "holds several numbers"), ("n/a", -1017, "has letters"),
        ('"+6587654321,+6587654322"', -1011, "holds several numbers"), ("-", -1017, "has no digits"),
    ]:  # fmt: skip
        ((*place, found),) = told(read(file_of(tmp_path, f"destination,name\n{cell},Ana\n")))
        assert (place, sentence in found) == ([2, "destination", code], True), cell


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_country_of_national_numbers_may_be_that_of_the_row(tmp_path: Path, form: str) -> None:
    people = [
        ("8765 4321", "SG"), ("012-345 6789", "Malaysia"), ("0812 3456 789", "+62"), ("+44 7911 123456", ""),
        ("8765 4322", ""), ("8765 4323", "Sangapore"), ("8765 4321", "MY"), ("07911 123456", "44"),
    ]  # fmt: skip
    found = read_all(written(tmp_path, rows_of(people, "Land"), form), replace(OPTIONS, columns={"country": "land"}))
    assert [row.number for row in found.rows[:4]] == ["+6587654321", "+60123456789", "+628123456789", "+447911123456"]
    first, second, third, fourth = found.errors
    assert "'8765 4322' does not say its country, nor does land: correct that cell" in first
    assert "'8765 4321' is no number of MY" in third
    assert [each.partition(":")[0] for each in (second, third, fourth)] == ["Land", "destination", "Land"]


@pytest.mark.parametrize("role", ["country", "language"])
def test_a_column_that_is_named_must_be_there(tmp_path: Path, role: str) -> None:
    options = replace(OPTIONS, columns={role: "Land"})
    lines = '{"destination": "+6587654321", "name": "Ana"}\n{"destination": "+6587654322", "name": "A", "land": null}\n'
    judge(tmp_path, {
        "a table": Case(
            f"destination,name\n{ANA},Ana\n", refused="has no column 'Land'; columns found: destination, name",
            options=options,
        ),
        "lines": Case(lines, ["Hello A."], [(1, "Land", "is not in this row: give it, or null")], name="visits.jsonl",
                      options=options),
        "a wrong cell": Case(cells("Land", "#N/A"), told=[(2, "Land", "")], options=options),
        "bodies": Case('{"callflow": []}\n', refused="request bodies have no column 'Land'", name="b.jsonl",
                       options=replace(options, template=None)),
    })  # fmt: skip


def test_what_a_numbering_plan_doubts_is_a_warning_and_the_row_is_called(tmp_path: Path) -> None:
    judge(
        tmp_path,
        {"": Case(rows_of([("+6512345678", "Ana")]), ["Hello Ana."], warned=["'+6512345678' in 1 row, in a range"])},
    )


def test_a_row_has_its_own_priority_or_that_of_the_options(tmp_path: Path) -> None:
    priorities = {"": 3, "0": 0, "-5": -5, "10.0": 10}
    wrong = ("high", "1.5", "nan", "inf", "99999999")
    reading = read_all(file_of(tmp_path, cells("priority", *priorities, *wrong)), replace(OPTIONS, priority=3))
    assert [call.priority for call in reading.calls] == [*priorities.values()]
    assert [each.partition(":")[0] for each in reading.errors] == ["priority"] * len(wrong)


def test_the_batch_is_that_of_the_option_then_of_the_column_then_the_name_of_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, cells("batch_id", "own", "", "b" * 51), "March visits.csv")
    assert [call.batch_id for call in calls_of(read(path))] == ["own", "March visits"]
    assert [(row, column) for row, column, *_ in told(read(path))] == [(4, "batch_id")]
    assert [call.batch_id for call in calls_of(read(path, replace(OPTIONS, batch_id="given")))] == ["given"] * 3


def test_a_key_is_made_of_the_batch_and_the_call_and_not_of_its_validity(tmp_path: Path) -> None:
    def key(until: str = "", **changes: Any) -> str | None:
        row = {"destination": ANA, "name": "Ana", "valid_until": until} | changes.pop("row", {})
        (call,) = read_all([row], replace(OPTIONS, **{"batch_id": "visits", **changes})).calls
        return call.unique_key

    first = key("2030-01-31T09:00:00Z")
    (call,) = calls_of(read(file_of(tmp_path, cells("valid_until", "2030-01-31T09:00:00Z"))))
    assert first == call.unique_key == row_key("visits", EncodedBody.of(flow_of(call)).canonical)
    assert key("2031-01-31T09:00:00Z") == key(valid_for=timedelta(hours=2)) == first
    assert key(row={"destination": "0065 8765 4321"}) == first, "another way to write it"
    assert first not in {key(batch_id="another"), key(row={"name": "Ben"})}


def test_a_row_that_is_there_twice_is_called_once_and_both_lines_are_named(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, "destination,name\n+6587654321,Ana\n+6587654322,Ben\n(+65) 8765 4321,Ana\n"))
    assert [row.duplicate_of for row in rows] == [None, None, 2]
    assert [(f.row, f.is_error, f.message) for f in rows[2].findings] == [
        (4, False, "row 4 requests the same call as row 2; the call is made once")
    ]
    assert len(calls_of(rows)) == 2


REPEATED = "destination,name\n+6587654321,Ana\n+6587654322,Ben\n(+65) 8765 4321,Anna\n+6587654322,B\n+6587654321,Ana\n"


def test_rows_that_call_a_number_again_with_another_text_are_calls_and_one_warning(tmp_path: Path) -> None:
    reading = read_all(file_of(tmp_path, REPEATED))
    assert len(reading.calls) == 4
    (found,) = reading.closing
    assert (found.row, found.column, found.is_error) == (4, "destination", False)
    assert found.message.startswith(
        "2 rows would call a number that an earlier row of the same batch calls with another body"
    )
    assert "row 4 has the number of row 2" in found.message
    spelt = read_all(rows_of([("+541143211234", "Ana"), ("+5491143211234", "Ana")]))
    assert (len(spelt.calls), "row 2 has the number of row 1" in spelt.closing[0].message) == (2, True)


def test_a_number_of_another_batch_or_with_a_key_of_its_own_or_of_a_bad_row_is_no_repetition(tmp_path: Path) -> None:
    rows = (f"{ANA},{each}\n" for each in ("Ana,,", "Anna,b,", "A,,k", ",,", "Ana,,"))
    reading = read_all(file_of(tmp_path, f"destination,name,batch_id,unique_key\n{''.join(rows)}"))
    assert [row.is_bad for row in reading.rows] == [False, False, False, True, False]
    assert reading.closing == ()


def test_many_rows_with_one_number_are_told_whatever_their_keys(tmp_path: Path) -> None:
    people = [("+6587654321", name) for name in ("Ana", "Ben", "Cik", "Ben")]
    people += [("+6587654322", "Eve"), ("+6587654322", "Fay"), *(("+6587654323", "Gil") for _ in range(3))]
    for keyed, form in product([True, False], ["rows", "csv"]):
        rows = [{"destination": n, "first name": name, "unique_key": f"k{i}" if keyed else "", "name": f"{name} {i}"}
                for i, (n, name) in enumerate(people)]  # fmt: skip
        reading = read_all(written(tmp_path, rows, form), replace(OPTIONS, batch_id="b"))
        assert len(reading.calls) == len(people)
        found = reading.closing[-1]
        assert (found.row, found.is_error, len(reading.closing)) == (1 + (form == "csv"), False, 2 - keyed)
        assert found.message.startswith("4 rows call +6587654321, and 1 other number likewise")


def test_a_key_that_is_there_twice_for_different_calls_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    table = "destination,name,unique_key\n+6587654321,Ana,k1\n+6587654322,Ben,k1\n+6587654321,Ana,k1\n"
    rows = read(file_of(tmp_path, table))
    assert told(rows) == [(3, "unique_key", None, str(tell("key_of_row", key="k1", row=2)))]
    assert rows[2].duplicate_of == 2


def test_the_reason_column_of_a_rejects_file_is_neither_a_variable_nor_a_column_that_does_nothing(
    tmp_path: Path,
) -> None:
    row = {"reason": "was empty", "destination": ANA, "name": "Ana"}
    for form in ("csv", "jsonl"):
        reading = read_all(written(tmp_path, [row], form))
        assert reading.findings == []
        assert [call.data for call in reading.calls] == [{"name": "Ana"}]


@pytest.mark.parametrize("header", ["Reason,destination,name", "destination,name,reason", "name,REASON,destination"])
def test_another_column_of_that_name_is_data_and_stays_so_in_rejects(tmp_path: Path, header: str) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("{{name}}, {{reason}}."))
    cells = {"destination": "+6587654321", "name": "Ana", "reason": "recall"}
    names = header.split(",")
    rows = ",".join(cells[name.lower()] for name in names)
    pairs = {name: cells[name.lower()] for name in names}
    written = {"a.csv": f"{header}\n{rows}\n", "b.jsonl": json.dumps(pairs) + "\n"}
    for name, content in written.items():
        path = file_of(tmp_path, content.replace("+6587654321", "none"), name)
        bad = CampaignRows(path, options, now=NOW)
        rejects = tmp_path / f"rejects-{name}"
        with file_findings.rejects_file(rejects, bad.source, read=InputFile(path)) as reject:
            for row in bad:
                reject(row.raw, row.findings)
        rejects.write_text(rejects.read_text("utf-8-sig").replace("none", "+6587654321"), "utf-8")
        for each in (file_of(tmp_path, content, name), rejects):
            (good,) = CampaignRows(each, options, now=NOW)
            assert good.call is not None, (each.read_text(), good.findings)
            assert '"text":"Ana, recall."' in good.call.body
            assert (good.call.data or {})["reason"] == "recall"
    (given,) = CampaignRows([{"reason": "recall", **cells}], replace(options, batch_id="b"), now=NOW)
    assert given.call is not None, "a program has no rejects"


@given(content=st.binary(max_size=400))
def test_no_file_whatever_is_in_it_makes_anything_but_rows_or_a_sentence(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name, head in (("a.csv", b"destination,name\n"), ("b.csv", b""), ("c.jsonl", b""), ("d.json", b"")):
        path = file_of(tmp_path_factory.getbasetemp(), head + content, name)
        try:
            rows = read(path, OPTIONS)
        except CampaignFileError:
            continue
        assert all(row.findings or row.call for row in rows)


@given(values=st.lists(st.text(max_size=20), min_size=2, max_size=2), delimiter=st.sampled_from(",;\t|"))
def test_what_a_csv_writer_writes_is_read_back(
    values: list[str], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    controls = dict.fromkeys({*range(32)} - {*b"\t\n\r"})  # of many, a file is none of text
    clean = [
        cell.translate(controls).encode("utf-8", "ignore").decode().replace("\r\n", "\n").replace("\r", "\n")
        for cell in values
    ]
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["destination", "name", "more"], [ANA, *clean]])
    assert [list(row.raw.cells) for row in read(path)] == [[ANA, *clean]]


def test_a_row_tells_the_number_that_it_calls_however_it_is_spelled_and_the_key_that_it_names(tmp_path: Path) -> None:
    rows = "destination,name,unique_key\n+44 (0)20 7946 0018,Ana,a\n+44 20 79460018,Ben,\n12,Cleo,c\n"
    assert [(each.number, each.own_key) for each in read(file_of(tmp_path, rows))] == [
        ("+442079460018", "a"), ("+442079460018", None), (None, "c"),
    ]  # fmt: skip


def test_a_key_that_the_file_had_before_is_found_among_thousands() -> None:
    seen = SeenKeys()
    keys = [row_key("b", str(place)) for place in range(5000)]
    assert not any(seen.first(key, row=row, digest=f"{row:032x}") for row, key in enumerate(keys, 2))
    assert seen.first(keys[3000], row=9000, digest=f"{3002:032x}") == (3002, True)
    assert seen.first(keys[4999], row=9001, digest=f"{1 << 70:032x}") == (5001, False)


TABLE_OF_SOURCES = "SG=+6531234567,MY=+60321234567"
BY_COUNTRY = replace(OPTIONS, source=TABLE_OF_SOURCES)
OF_ITS_OWN = FlowTemplate.parse(
    CallFlow.call("+6587654321", source="+442071838750").say("{{name}}", voice_profile="en-GB-X").hangup().to_body(),
    name="own.json",
)


FROM = FlowTemplate.speaking("Hello {{name}}, call {{source}}.")
ASKS = Menu("asks", prompt="Hello {{name}}, press 1.", voice_profile="en-GB-X")
ASKS.on("1", goto=End("Call {{source}}."))


def called_from(rows: Sequence[ReadRow]) -> list[str | None]:
    return [None if row.call is None else row.call.source for row in rows]


def test_each_person_is_called_from_the_number_of_their_country(tmp_path: Path) -> None:
    table = "destination,name,source\n+6587654321,Ana,\n+60123456789,Aisha,\n+12125550123,Jo,\n"
    rows = read(file_of(tmp_path, table), BY_COUNTRY)
    assert called_from(rows) == ["+6531234567", "+60321234567", None]
    ((row, column, _, message),) = told(rows)
    assert (row, column) == (4, "source")
    assert message.endswith("there are numbers for SG, MY; add US=… or *=…")
    for cell, source in (("+442071838750", "+442071838750"), ('"GB=+442071838750,*=+12025550123"', "+12025550123")):
        rows = read(file_of(tmp_path, table.replace("Jo,", f"Jo,{cell}")), BY_COUNTRY)
        assert called_from(rows) == ["+6531234567", "+60321234567", source]
    rows = read(
        file_of(tmp_path, table.replace("Jo,", "Jo,GB=+442071838750")), replace(BY_COUNTRY, template=OF_ITS_OWN)
    )
    assert called_from(rows) == ["+442071838750", "+442071838750", None]
    assert "add US=… or *=…" in told(rows)[0][3]


def test_a_body_without_a_source_gets_that_of_its_country() -> None:
    hangup = {"action": "hangup"}
    calls = [{"destination": number} for number in ("8765 4321", "+60123456789", "1")]
    bodies = [{"callflow": [{"action": "makeCall", "params": each}, hangup]} for each in calls]
    reading = read_all(bodies, replace(BY_COUNTRY, template=None, country="SG"))
    assert called_from(reading.rows) == ["+6531234567", "+60321234567", None]
    assert ["invalid" in each for each in reading.errors] == [True]


@pytest.mark.parametrize(
    "words", [OPTIONS, replace(OPTIONS, template=FROM), replace(OPTIONS, template=None, menu=ASKS)]
)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_row_is_told_about_its_number_to_call_from_only_if_that_is_wrong(
    tmp_path: Path, words: CampaignOptions, form: str
) -> None:
    """Not if the number to call is: what the row needs then is that number. A doubtful one is told as such."""
    people = ["+6587654321", "+60123456789", "+12125550123", "", "81234567", "+60123456780"]
    given = written(tmp_path, rows_of([(each, "Ana") for each in people]), form)
    reading = read_all(given, replace(words, source="SG=+6531234567,MY=+60312345678"))
    warnings = {each.message for row in reading.rows for each in row.findings if not each.is_error}
    assert {message.partition(" is ")[0] for message in warnings} == {"+60312345678"}
    assert [each.partition(":")[0] for each in reading.errors] == ["source", "destination", "destination"]
    assert "there are numbers for SG, MY; add US=… or *=…" in reading.errors[0]


@pytest.mark.parametrize("source", ["SG=", "XX=+6531234567", "SG=31234567"])
def test_a_table_of_sources_that_is_wrong_refuses_the_file(source: str) -> None:
    with pytest.raises(InvalidInputError):
        read_all([{"destination": ANA, "name": "Ana"}], replace(OPTIONS, source=source))


def test_what_is_too_much_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_findings, "MOST", {Severity.ERROR: 2, Severity.WARNING: 1})
    findings = file_findings.Findings()
    findings.add(Finding(message=f"error {n}") for n in range(5))
    findings.add(Finding(message=f"warning {n}", severity=Severity.WARNING) for n in range(3))
    assert [found.message for found in findings.all(file="f")] == [
        "error 0", "error 1", "warning 0", "5 more findings are not listed",
    ]  # fmt: skip


# -- columns with a reserved name by chance, a batch that was given, nested numbers ------------------------------------

BEN = "+6587654322"
WITH_BATCH = replace(OPTIONS, batch_id="recall")


EACH_FORM = pytest.mark.parametrize("form", FORMS)
MEANINGS = {
    "Batch ID": ("EW0150", "the batch of the call"), "Source": ("Facebook", "the number to call from"),
    "Valid Until": ("2027-05-01", "the time after which nobody is called"),
    "Not Before": ("2027-05-01", "the time before which nobody is called"), "Unique-Key": ("k1", "the key of the call"),
    "Voice Profile": ("v", "the voice"), "Priority": ("High", "the order of the calls"),
    "PRIORITY": ("5", "the order of the calls"), "Language": ("Tamil", "the language of the menu"),
    "LANGUAGE": ("Malay", "the language of the menu"), "Time Zone": ("B", "the time zone of the person"),
    "time-zone": ("3", "the time zone of the person"),
}  # fmt: skip


@EACH_FORM
def test_a_reserved_name_in_another_spelling_is_data_and_told(tmp_path: Path, form: str) -> None:
    for column, (cell, meaning) in MEANINGS.items():
        given, name = written(tmp_path, [{"destination": ANA, "name": "Ana", column: cell}], form), row_name(column)
        reading = read_all(given)
        (row,) = reading.rows
        assert row.call is not None
        assert row.call.data == {"name": "Ana", name: cell}
        assert (row.call.source, row.call.valid_until, row.call.not_before) == ("+6531234567", None, None)
        assert (row.call.priority, row.call.time_zone) == (0, None)
        (found,) = [each for each in reading.findings if each.column == column]
        assert found.is_error is (name in {"valid_until", "not_before"}), "nobody is to be called too late"
        said = f"is kept as data and does not affect calls, because {meaning} is read from a column that is spelled"
        assert found.message.startswith(f"{said} {name}: ")
        assert "kept as data" not in str(read_all(given, replace(OPTIONS, columns={name: column})).findings)
        ignored = read_all(given, replace(OPTIONS, columns={"ignore": column.lower()}))
        assert (ignored.findings, [call.data for call in ignored.calls]) == ([], [{"name": "Ana"}])


def test_a_reserved_name_is_told_and_another_spelling_of_it_can_be_spoken(tmp_path: Path) -> None:
    text = "Your case has priority {{priority}}."
    judge(tmp_path, {
        "reserved": Case(cells("priority", "5"), ["Hello Ana."]),
        "spoken": Case("destination,Priority\n+6587654321,High\n", ["Your case has priority High."], say=text),
    })  # fmt: skip


@EACH_FORM
def test_wrong_cells_of_a_reserved_column_are_told_in_one_line(tmp_path: Path, form: str) -> None:
    rows = [{"destination": number, "name": "Ana", "source": "Facebook"} for number in (ANA, BEN)]
    given = written(tmp_path, rows, form)
    reading = read_all(given, WITH_BATCH)
    assert (reading.calls, len(reading.errors)) == ([], 2)
    (line,) = [each for each in reading.warnings if "is a reserved name" in each]
    assert (line.startswith("source: "), Remedy.IGNORE_COLUMN in line) == (True, True)
    ignored = read_all(given, replace(WITH_BATCH, columns={"ignore": "SOURCE"}))
    assert ([call.source for call in ignored.calls], ignored.findings) == (["+6531234567"] * 2, [])


@EACH_FORM
def test_the_batch_that_was_given_goes_before_a_column_and_is_told(tmp_path: Path, form: str) -> None:
    rows = [{"destination": number, "name": "Ana", "batch_id": "EW0150"} for number in (ANA, BEN)]
    reading = read_all(written(tmp_path, rows, form), WITH_BATCH)
    assert ([call.batch_id for call in reading.calls], reading.errors) == (["recall"] * 2, [])
    assert "names another batch in 2 rows, such as 'EW0150', which is not" in str(reading.warnings)
    body = {"destination": ANA, "batch_id": "own", "callflow": [{"action": "makeCall"}]}
    reading = read_all(file_of(tmp_path, json.dumps(body), "a.jsonl"), replace(WITH_BATCH, template=None))
    assert ([call.batch_id for call in reading.calls], len(reading.warnings)) == (["recall"], 1)


def test_a_column_to_ignore_is_nowhere_even_if_its_cells_are_wrong(tmp_path: Path) -> None:
    path = file_of(tmp_path, f"destination,name,Note,Priority,valid_until\n{ANA},Ana,#REF!,High,yesterday\n")
    reading = read_all(path, replace(OPTIONS, columns={"ignore": ["note", "priority", "Valid Until"]}))
    assert ([call.data for call in reading.calls], reading.findings) == ([{"name": "Ana"}], [])
    for ignored, said in {
        "Nota": "no column 'Nota'", "destination": "cannot be ignored", "name": "name is needed",
    }.items():  # fmt: skip
        assert said in refused(path, replace(OPTIONS, columns={"ignore": ignored}))
    reading = read_all([{"destination": ANA, "name": "A"}], replace(WITH_BATCH, columns={"ignore": "Nota"}))
    assert reading.warnings == ["Nota: no row has this column; check its name"]


def test_equal_headers_can_be_ignored_and_not_read(tmp_path: Path) -> None:
    lines = [["destination", "Note", "name", "Note"], [ANA, "a", "Ana", "b"]]
    for path in (file_of(tmp_path, "\n".join(map(",".join, lines))), workbook(tmp_path, lines)):
        assert "two columns of the same name: Note" in refused(path)
        reading = read_all(path, replace(OPTIONS, columns={"ignore": "Note"}))
        assert ([call.data for call in reading.calls], reading.errors) == ([{"name": "Ana"}], [])


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_a_number_within_an_object_is_read_by_its_path(tmp_path: Path, form: str) -> None:
    rows: list[Row] = [
        {"name": "Ana", "contact": {"phone": ANA, "work_phone": BEN}},
        {"name": "Ben", "Contact": {"Phone": "", "Work Phone": "+6587654323"}},
        {"name": "Cik", "contact.phone": "+6587654324"}, {"name": "Dan", "contact": None},
        {"name": "Eve", "contact": {"phone": "12"}},
    ]  # fmt: skip
    columns = {"destination": ["contact.phone", "contact.Work Phone"]}
    reading = read_all(written(tmp_path, rows, form), replace(WITH_BATCH, columns=columns))
    assert [call.numbers for call in reading.calls] == [(ANA, BEN), ("+6587654323",), ("+6587654324",)]
    assert [each.split(":")[0] for each in reading.errors] == ["contact.phone", "contact.phone"]
    assert reading.warnings == []


# -- the key of a row stays what it is, in every form ------------------------------------------------------------------

SAY: Mapping[str, Any] = {"say": "Hello {{name}}.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
MENU = {
    "questions": [{
        "id": "visit", "text": "Hello {{name}}. Press 1.",
        "keys": {"1": {"answer": "confirmed", "say": "Thanks."}},
    }],
}  # fmt: skip
FLOW = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "+6531234567"}},
        {"action": "say", "params": {"text": "Hello {{name}}.", "voiceProfile": "{{voice}}", "speed": "{{speed}}"}},
        {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6567654321"}},
    ],
    "clientBatchId": "of the flow",
}
BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "6531234567", "destination": "6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
    ],
    "validUntil": "2030-01-31T09:00:00.000Z",
}
PEOPLE = "destination,name\n+6587654321,Ana\n"

# A file, the fields of its campaign, and the beginning of the key of its row.
KEPT: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "a text": (PEOPLE, SAY, "row-aed31bfa"),
    "a name with signs": ('destination,name\n+6587654321,"O\'Brien ""Zoë"", 山田"\n', SAY, "row-9ff46581"),
    "markup and an apostrophe": ("destination,name\n+6587654321,<b>Ben</b> &amp; '-3\n", SAY, "row-3c90fae1"),
    "a national number": ("destination,name\n8765 4321,Ana\n", {**SAY, "country": "SG"}, "row-aed31bfa"),
    "a column of numbers": (
        "Mobile,name\n+6587654321,Ana\n", {**SAY, "columns": {"destination": "Mobile"}}, "row-aed31bfa",
    ),
    "two columns of numbers": (
        "Mobile,Home,name\n+6587654321,+6561234567,Ana\n", {**SAY, "columns": {"destination": ["Mobile", "Home"]}},
        "row-7af5ef44",
    ),
    "a column of countries": (
        "destination,Land,name\n0151 23456789,Deutschland,Ana\n", {**SAY, "columns": {"country": "Land"}},
        "row-d8696db7",
    ),
    "a renamed column": (
        "destination,Nachname\n+6587654321,Ana\n", {**SAY, "columns": {"name": "Nachname"}}, "row-aed31bfa",
    ),
    "an ignored column": (
        "destination,name,Source\n+6587654321,Ana,Facebook\n", {**SAY, "columns": {"ignore": "Source"}}, "row-aed31bfa",
    ),
    "dates": (
        "destination,name,visit\n+6587654321,Ana,31/1/2030\n",
        {**SAY, "say": "{{name}}, on {{visit|date}}.", "date_order": "dmy"}, "row-9575fd8b",
    ),
    "a batch and a validity of its own": (
        "destination,name,batch_id,valid_until\n+6587654321,Ana,march,2030-01-31T09:00:00Z\n", SAY, "row-9e8517c8",
    ),
    "a source of its own": ("destination,name,source\n+6587654321,Ana,+6567654321\n", SAY, "row-49253b56"),
    "sources by country": (PEOPLE, {**SAY, "source": "SG=+6531234567,*=+12025550123"}, "row-aed31bfa"),
    "a key of its own": ("destination,name,unique_key\n+6587654321,Ana,42.0\n", SAY, "42"),
    "a menu": (PEOPLE, {**SAY, "say": None, "menu": MENU}, "row-80fd87a3"),
    "a call flow": (
        "destination,name,voice,speed\n+6587654321,Ana,en-US-JennyNeural,1\n", {**SAY, "say": None, "template": FLOW},
        "row-8e82ba67",
    ),
    "a request body": (json.dumps(BODY), {}, "row-b484c29b"),
    "a national request body": (
        json.dumps(BODY).replace("6587654321", "8765 4321"), {"country": "SG"}, "row-b484c29b",
    ),
    "an object": ('{"destination": "+6587654321", "name": "Ana", "n": 25.0}', SAY, "row-aed31bfa"),
    "a number of an object": ('{"contact": {"phone": 6587654321}, "name": "Ana"}', {
        **SAY, "columns": {"destination": "contact.phone"}, "country": "international"}, "row-aed31bfa",
    ),
}  # fmt: skip
TYPED = {"destination": [6587654321], "name": ["Ana"], "n": [25.0], "day": [date(2030, 1, 31)],
         "at": [datetime.fromisoformat("2030-01-31 09:00")]}  # fmt: skip
OF_TYPED = {**SAY, "say": "{{name}} {{n}} {{day|date}} {{at|time}}", "country": "international", "batch": "b"}


def keys_of(given: Any, fields: Mapping[str, Any]) -> list[str]:
    people: dict[str, Any] = {"file": given} if isinstance(given, Path) else {"rows": given}
    campaign = Campaign.of({**people, **fields}, now=NOW)
    read = list(CampaignRows(given, campaign.options, now=NOW))
    assert [found for row in read for found in row.findings if found.is_error] == []
    keys = [row.call.unique_key for row in read if row.call is not None and row.call.unique_key]
    assert {len(key) for key in keys if key.startswith("row-")} <= {36}
    return [key[:12] for key in keys]


def test_the_key_of_a_row_stays_what_it_is(tmp_path: Path) -> None:
    for name, (table, fields, key) in KEPT.items():
        path = file_of(tmp_path, table, "visits.jsonl" if table.startswith("{") else "visits.csv")
        assert keys_of(path, fields) == [key], name


def test_typed_cells_have_the_key_of_their_text_in_every_form(tmp_path: Path) -> None:
    rows = [dict(zip(TYPED, cells, strict=True)) for cells in zip(*TYPED.values(), strict=True)]
    written = ("6587654321", "Ana", "25", "2030-01-31", "2030-01-31 09:00")
    forms = [
        file_of(tmp_path, f"{','.join(TYPED)}\n{','.join(written)}\n"),
        workbook(tmp_path, [list(TYPED), *(list(row.values()) for row in rows)]), rows,
    ]  # fmt: skip
    assert [keys_of(each, OF_TYPED) for each in forms] == [["row-60a0f0d0"]] * len(forms)
