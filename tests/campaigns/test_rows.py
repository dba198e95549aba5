"""A row becomes a call, or findings that tell all that is wrong with it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, flow_of, read, told
from voiceflow_worker import CallFlow, Menu
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import SeenKeys, row_key
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.campaigns.files import rows as file_findings
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.menu import End
from voiceflow_worker.model.flows.callflow import EncodedBody


def one(folder: Path, columns: str, cells: str) -> Path:
    return file_of(folder, f"{columns}\n{cells}\n")


def test_a_destination_that_cannot_be_called_is_reported_with_the_code_of_8x8(tmp_path: Path) -> None:
    for cell, code, sentence in [
        ("", -1009, "is missing but it is required"),
        ("0812 0000 0006", -1017, "does not say its country"),
        ("6.59E+09", -1017, "was damaged by a spreadsheet"),
        ("+65 8765 CALL", -1017, "has letters ('C')"),
        ("+6512", -1017, "digits are too few"),
        ("+65876543210987654", -1017, "digits are too many"),
        ("+6587654321 / +6587654322", -1011, "holds several numbers"),
        ('"+6587654321,+6587654322"', -1011, "holds several numbers"),
        ("n/a", -1017, "has letters"),
        ("-", -1017, "has no digits"),
    ]:
        found = told(read(one(tmp_path, "destination,name", f"{cell},Ana")))
        assert [(row, column, told_code) for row, column, told_code, _ in found] == [(2, "destination", code)]
        assert sentence in found[0][3]


@pytest.mark.parametrize("name", ["visits.csv", "visits.jsonl"])
def test_the_country_of_national_numbers_may_be_that_of_the_row(tmp_path: Path, name: str) -> None:
    people = [
        ("8765 4321", "SG"), ("012-345 6789", "Malaysia"), ("0812 3456 789", "+62"), ("+44 7911 123456", ""),
        ("8765 4322", ""), ("8765 4323", "Sangapore"), ("8765 4321", "MY"), ("07911 123456", "44"),
    ]  # fmt: skip
    rows = [{"destination": number, "name": "Ana", "Land": land} for number, land in people]
    table = "destination,name,Land\n" + "".join(f"{number},Ana,{land}\n" for number, land in people)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    options = replace(OPTIONS, columns={"country": "land"})
    found = read(file_of(tmp_path, table if name.endswith("csv") else lines, name), options)
    assert [row.number for row in found[:4]] == ["+6587654321", "+60123456789", "+628123456789", "+447911123456"]
    assert [(row, column) for row, column, _, _ in told(found[4:])] == [
        (found[place].raw.number, column)
        for place, column in (
            (4, "destination"), (5, "Land"), (6, "destination"), (7, "Land")
        )
    ]  # fmt: skip
    assert "'8765 4322' does not say its country, nor does land: correct that cell" in told(found)[0][3]
    assert "'8765 4321' is no number of MY" in told(found)[2][3]


@pytest.mark.parametrize("role", ["country", "language"])
def test_a_column_that_is_named_must_be_there(tmp_path: Path, role: str) -> None:
    options = replace(OPTIONS, columns={role: "Land"})
    with pytest.raises(CampaignFileError, match="has no column 'Land'; columns found: destination, name"):
        read(one(tmp_path, "destination,name", "+6587654321,Ana"), options)
    lines = '{"destination": "+6587654321", "name": "Ana"}\n{"destination": "+6587654322", "name": "A", "land": null}\n'
    found = read(file_of(tmp_path, lines, "visits.jsonl"), options)
    assert [(row, name, message) for row, name, _, message in told(found)] == [
        (1, "Land", "is not in this row: give it, or null")
    ]
    damaged = read(one(tmp_path, "destination,name,Land", "+6587654321,Ana,#N/A"), options)
    assert [(row, name) for row, name, _, _ in told(damaged)] == [(2, "Land")]
    with pytest.raises(CampaignFileError, match="request bodies have no column 'Land'"):
        read(file_of(tmp_path, '{"callflow": []}\n', "visits.jsonl"), replace(options, template=None))


def test_what_a_numbering_plan_doubts_is_a_warning_and_the_row_is_called(tmp_path: Path) -> None:
    rows = read(one(tmp_path, "destination,name", "+6512345678,Ana"))
    assert [(found.column, found.is_error) for found in rows[0].findings] == [("destination", False)]
    assert rows[0].findings[0].message.startswith("+6512345678 is not assigned")
    assert len(calls_of(rows)) == 1


def test_a_row_has_its_own_priority_or_that_of_the_options(tmp_path: Path) -> None:
    for cell, priority in [
        ("", 3),
        ("0", 0),
        ("-5", -5),
        ("10.0", 10),
        *((bad, None) for bad in ("high", "1.5", "nan", "inf", "99999999")),
    ]:
        path = one(tmp_path, "destination,name,priority", f"+6587654321,Ana,{cell}")
        rows = read(path, replace(OPTIONS, priority=3))
        assert [column for _, column, _, _ in told(rows)] == (["priority"] if priority is None else [])
        assert [request.priority for request in calls_of(rows)] == ([] if priority is None else [priority])


def test_a_row_has_its_own_validity_as_far_as_that_of_the_options_allows(tmp_path: Path) -> None:
    table = "destination,name,valid_until\n+6587654321,Ana,{}\n"
    for cell, until in (("", NOW + timedelta(hours=2)), ("2026-03-02T10:00:00Z", NOW + timedelta(hours=1)),
                        ("2026-03-02T23:00:00Z", NOW + timedelta(hours=2))):  # fmt: skip
        (call,) = calls_of(read(file_of(tmp_path, table.format(cell)), replace(OPTIONS, valid_for=timedelta(hours=2))))
        assert call.valid_until == until, cell


def test_the_batch_is_that_of_the_option_then_of_the_column_then_the_name_of_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,batch_id\n+6587654321,Ana,own\n+6587654322,Ben,\n", "March visits.csv")
    assert [request.batch_id for request in calls_of(read(path))] == ["own", "March visits"]
    assert [r.batch_id for r in calls_of(read(path, replace(OPTIONS, batch_id="given")))] == ["given", "given"]
    assert [
        column
        for _, column, _, _ in told(read(one(tmp_path, "destination,name,batch_id", f"+6587654321,Ana,{'b' * 51}")))
    ] == ["batch_id"]


def test_a_key_is_made_of_the_batch_and_the_call_and_not_of_its_validity(tmp_path: Path) -> None:
    def keys(content: str, **changes: object) -> list[str | None]:
        path = file_of(tmp_path, content)
        return [r.unique_key for r in calls_of(read(path, replace(OPTIONS, **changes)))]  # type: ignore[arg-type]

    table = "destination,name,valid_until\n+6587654321,Ana,{}\n"
    first = keys(table.format("2030-01-31T09:00:00Z"))
    request = calls_of(read(tmp_path / "visits.csv"))[0]
    assert first == [row_key("visits", EncodedBody.of(flow_of(request)).canonical)]
    assert keys(table.format("2031-01-31T09:00:00Z")) == first
    assert keys(table.format(""), valid_for=timedelta(hours=2)) == first
    assert keys(table.format("").replace("+6587654321", "0065 8765 4321")) == first, "another way to write it"
    assert keys(table.format(""), batch_id="another") != first
    assert keys(table.format("").replace("Ana", "Ben")) != first


def test_a_row_that_is_there_twice_is_called_once_and_both_lines_are_named(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, "destination,name\n+6587654321,Ana\n+6587654322,Ben\n(+65) 8765 4321,Ana\n"))
    assert [row.duplicate_of for row in rows] == [None, None, 2]
    assert [(f.row, f.is_error, f.message) for f in rows[2].findings] == [
        (4, False, "row 4 requests the same call as row 2; the call is made once")
    ]
    assert len(calls_of(rows)) == 2


REPEATED = "destination,name\n+6587654321,Ana\n+6587654322,Ben\n(+65) 8765 4321,Anna\n+6587654322,B\n+6587654321,Ana\n"


def test_rows_that_call_a_number_again_with_another_text_are_calls_and_one_warning(tmp_path: Path) -> None:
    campaign = open_campaign(file_of(tmp_path, REPEATED), OPTIONS, now=NOW)
    assert len(calls_of(campaign)) == 4
    (found,) = campaign.closing_findings()
    assert (found.row, found.column, found.is_error) == (4, "destination", False)
    assert found.message.startswith(
        "2 rows would call a number that an earlier row of the same batch calls with another body"
    )
    assert "row 4 has the number of row 2" in found.message


def test_another_spelling_of_a_number_is_a_repetition_too(tmp_path: Path) -> None:
    table = "destination,name\n+541143211234,Ana\n+5491143211234,Ana\n"
    campaign = open_campaign(file_of(tmp_path, table), OPTIONS, now=NOW)
    assert len(calls_of(campaign)) == 2
    assert "row 3 has the number of row 2" in campaign.closing_findings()[0].message


def test_a_number_of_another_batch_or_with_a_key_of_its_own_or_of_a_bad_row_is_no_repetition(tmp_path: Path) -> None:
    table = (
        "destination,name,batch_id,unique_key\n+6587654321,Ana,,\n+6587654321,Anna,b,\n+6587654321,A,,k\n"
        "+6587654321,,,\n+6587654321,Ana,,\n"
    )
    campaign = open_campaign(file_of(tmp_path, table), OPTIONS, now=NOW)
    assert [row.is_bad for row in campaign] == [False, False, False, True, False]
    assert campaign.closing_findings() == ()


def test_many_rows_with_one_number_are_told_with_their_names_whatever_their_keys(tmp_path: Path) -> None:
    people = [("+6587654321", name) for name in ("Ana", "Ben", "Cik", "Ben")]
    people += [("+6587654322", "Eve"), ("+6587654322", "Fay"), *(("+6587654323", "Gil") for _ in range(3))]
    for keyed, place in product([True, False], range(2)):
        rows = [{"destination": n, "first name": name, "unique_key": f"k{i}" if keyed else "", "name": f"{name} {i}"}
                for i, (n, name) in enumerate(people)]  # fmt: skip
        table = "\n".join(map(",".join, [list(rows[0])] + [list(row.values()) for row in rows]))
        campaign = CampaignRows(
            [rows, file_of(tmp_path, table)][place], replace(OPTIONS, batch_id="b"), now=NOW  # type: ignore[arg-type]
        )  # fmt: skip
        assert len(calls_of(campaign)) == len(people)
        found = campaign.closing_findings()[-1]
        assert (found.row, found.is_error, len(campaign.closing_findings())) == (1 + place, False, 2 - keyed)
        assert found.message.startswith(
            "4 rows call +6587654321, with 4 names, such as Ben 1, Cik 2, Ben 3, and 1 other number likewise"
        )


def test_a_key_that_is_there_twice_for_different_calls_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    table = "destination,name,unique_key\n+6587654321,Ana,k1\n+6587654322,Ben,k1\n+6587654321,Ana,k1\n"
    rows = read(file_of(tmp_path, table))
    assert told(rows) == [
        (
            3,
            "unique_key",
            None,
            "'k1' is also the key of row 2, which is a different call; give each call its own key",
        )
    ]
    assert rows[2].duplicate_of == 2


def test_the_reason_column_of_a_rejects_file_is_neither_a_variable_nor_a_column_that_does_nothing(
    tmp_path: Path,
) -> None:
    line = '{"reason": "was empty", "destination": "+6587654321", "name": "Ana"}\n'
    for path in (
        file_of(tmp_path, "reason,destination,name\nwas empty,+6587654321,Ana\n"),
        file_of(tmp_path, line, "rejects.jsonl"),
    ):
        campaign = open_campaign(path, OPTIONS, now=NOW)
        assert campaign.findings == ()
        (row,) = campaign
        assert row.call is not None, row.findings
        assert (row.call.data, row.findings) == ({"name": "Ana"}, ())


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
        with file_findings.RejectsFile(rejects, bad.source) as file:
            for row in bad:
                file.add(row.raw, row.findings)
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


@given(cells=st.lists(st.text(max_size=20), min_size=2, max_size=2), delimiter=st.sampled_from(",;\t|"))
def test_what_a_csv_writer_writes_is_read_back(
    cells: list[str], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clean = [
        cell.replace("\0", "").encode("utf-8", "ignore").decode().replace("\r\n", "\n").replace("\r", "\n")
        for cell in cells
    ]
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["destination", "name", "more"])
        writer.writerow(["+6587654321", *clean])
    assert [list(row.raw.cells) for row in read(path)] == [["+6587654321", *clean]]


def test_a_row_tells_the_number_that_it_calls_however_it_is_spelled_and_the_key_that_it_names(tmp_path: Path) -> None:
    rows = "destination,name,unique_key\n+44 (0)20 7946 0018,Ana,a\n+44 20 79460018,Ben,\n12,Cleo,c\n"
    assert [(each.number, each.own_key) for each in read(file_of(tmp_path, rows))] == [
        ("+442079460018", "a"),
        ("+442079460018", None),
        (None, None),
    ]


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


def called_from(rows: list[ReadRow]) -> list[str | None]:
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


def test_a_body_without_a_source_gets_that_of_its_country(tmp_path: Path) -> None:
    hangup = {"action": "hangup"}
    calls = [{"destination": number} for number in ("8765 4321", "+60123456789", "1")]
    lines = "".join(json.dumps({"callflow": [{"action": "makeCall", "params": each}, hangup]}) + "\n" for each in calls)
    rows = read(file_of(tmp_path, lines, "bodies.jsonl"), replace(BY_COUNTRY, template=None, country="SG"))
    assert called_from(rows) == ["+6531234567", "+60321234567", None]
    assert [message.partition(" ")[0] for _, _, _, message in told(rows)] == ["invalid"]


@pytest.mark.parametrize(
    "words", [OPTIONS, replace(OPTIONS, template=FROM), replace(OPTIONS, template=None, menu=ASKS)]
)
@pytest.mark.parametrize("form", ["visits.csv", "visits.jsonl"])
def test_a_row_is_told_about_its_number_to_call_from_only_if_that_is_wrong(
    tmp_path: Path, words: CampaignOptions, form: str
) -> None:
    """Not if the number to call is: what the row needs then is that number. A doubtful one is told as such."""
    people = ["+6587654321", "+60123456789", "+12125550123", "", "81234567", "+60123456780"]
    rows = [{"destination": number, "name": "Ana"} for number in people]
    table = "destination,name\n" + "".join(f"{number},Ana\n" for number in people)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    path = file_of(tmp_path, table if form.endswith("csv") else lines, form)
    found = read(path, replace(words, source="SG=+6531234567,MY=+60312345678"))
    warnings = {each.message for row in found for each in row.findings if not each.is_error}
    assert {message.partition(" is ")[0] for message in warnings} == {"+60312345678"}
    assert [column for _, column, _, _ in told(found)] == ["source", "destination", "destination"]
    assert "there are numbers for SG, MY; add US=… or *=…" in told(found)[0][3]


@pytest.mark.parametrize("source", ["SG=", "XX=+6531234567", "SG=31234567"])
def test_a_table_of_sources_that_is_wrong_refuses_the_file(tmp_path: Path, source: str) -> None:
    with pytest.raises(InvalidInputError):
        read(file_of(tmp_path, "destination,name\n+6587654321,Ana\n"), replace(OPTIONS, source=source))


def test_what_is_too_much_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_findings, "MOST", {Severity.ERROR: 2, Severity.WARNING: 1})
    findings = file_findings.Findings()
    findings.add(Finding(message=f"error {n}") for n in range(5))
    findings.add(Finding(message=f"warning {n}", severity=Severity.WARNING) for n in range(3))
    assert [found.message for found in findings.all(file="f")] == [
        "error 0",
        "error 1",
        "warning 0",
        "5 more findings are not listed",
    ]
