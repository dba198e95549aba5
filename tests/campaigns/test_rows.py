"""A row becomes a call, or findings that tell all that is wrong with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.reading import (
    NOW,
    OPTIONS,
    calls_of,
    file_of,
    read,
    read_all,
)
from tests.campaigns.workbooks import workbook
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns import enqueue_report
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.rejects import rejects_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity

ANA = "+6587654321"


def cells(name: str, *values: str) -> str:
    """A file with one more column, and a row for each value of it."""
    return f"destination,name,{name}\n" + "".join(f"+658765432{n},Ana,{each}\n" for n, each in enumerate(values, 1))


def test_a_key_is_made_of_the_batch_and_the_number_and_of_nothing_else(tmp_path: Path) -> None:
    def key(until: str = "", **changes: Any) -> str | None:
        row = {"destination": ANA, "name": "Ana", "valid_until": until} | changes.pop("row", {})
        (call,) = read_all([row], replace(OPTIONS, **{"batch_id": "visits", **changes})).calls
        return call.unique_key

    first = key("2030-01-31T09:00:00Z")
    (call,) = calls_of(read(file_of(tmp_path, cells("valid_until", "2030-01-31T09:00:00Z"))))
    assert first == call.unique_key
    assert key("2031-01-31T09:00:00Z") == key(valid_for=timedelta(hours=2)) == first
    assert key(row={"destination": "+65 8765 4321"}) == first, "another way to write it"
    assert key(row={"name": "Ben"}) == first
    assert first not in {key(batch_id="another"), key(row={"destination": "+6587654322"})}


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
        with rejects_file(rejects, bad.source, read=InputFile(path)) as reject:
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


TABLE_OF_SOURCES = "SG=+6531234567,MY=+60321234567"
BY_COUNTRY = replace(OPTIONS, source=TABLE_OF_SOURCES)


def called_from(rows: Sequence[ReadRow]) -> list[str | None]:
    return [None if row.call is None else row.call.source for row in rows]


def test_a_body_without_a_source_gets_that_of_its_country() -> None:
    hangup = {"action": "hangup"}
    calls = [{"destination": number} for number in ("+6587654321", "+60123456789", "1")]
    bodies = [{"callflow": [{"action": "makeCall", "params": each}, hangup]} for each in calls]
    reading = read_all(bodies, replace(BY_COUNTRY, template=None))
    assert called_from(reading.rows) == ["+6531234567", "+60321234567", None]
    assert ["invalid" in each for each in reading.errors] == [True]


def test_what_is_too_much_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue_report, "MOST", {Severity.ERROR: 2, Severity.WARNING: 1})
    findings = enqueue_report.Findings()
    findings.add(Finding(message=f"error {n}") for n in range(5))
    findings.add(Finding(message=f"warning {n}", severity=Severity.WARNING) for n in range(3))
    assert [found.message for found in findings.all(file="f")] == [
        "error 0", "error 1", "warning 0", "5 more findings are not listed",
    ]  # fmt: skip


# -- columns with a reserved name by chance, a batch that was given, nested numbers ------------------------------------


# -- the key of a row stays what it is, in every form ------------------------------------------------------------------

SAY: Mapping[str, Any] = {
    "say": "Hello {{name}}.",
    "window": "any",
    "source": "+6531234567",
    "voice_profile": "en-IE-EmilyNeural",
}
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
TYPED = {"destination": [6587654321], "name": ["Ana"], "n": [25.0], "day": [date(2030, 1, 31)],
         "at": [datetime.fromisoformat("2030-01-31 09:00")]}  # fmt: skip
OF_TYPED = {**SAY, "say": "{{name}} {{n}} {{day|date}} {{at|time}}", "country": "international", "batch": "b"}


def asked_of(given: Any, fields: Mapping[str, Any]) -> list[str]:
    people: dict[str, Any] = {"file": given} if isinstance(given, Path) else {"rows": given}
    campaign = Campaign.of({**people, **fields}, now=NOW)
    read = list(CampaignRows(given, campaign.options, now=NOW))
    assert [found for row in read for found in row.findings if found.is_error] == []
    return [row.call.asked for row in read if row.call is not None]


def test_typed_cells_ask_for_the_call_of_their_text_in_every_form(tmp_path: Path) -> None:
    rows = [dict(zip(TYPED, cells, strict=True)) for cells in zip(*TYPED.values(), strict=True)]
    written = ("6587654321", "Ana", "25", "2030-01-31", "2030-01-31 09:00")
    forms = [
        file_of(tmp_path, f"{','.join(TYPED)}\n{','.join(written)}\n"),
        workbook(tmp_path, [list(TYPED), *(list(row.values()) for row in rows)]), rows,
    ]  # fmt: skip
    assert len({*(asked_of(each, OF_TYPED)[0] for each in forms)}) == 1
