"""Columns that have a reserved name by chance, the batch that was given, columns to ignore, and nested numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.forms import FORMS, Row, written
from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, told
from tests.campaigns.workbooks import workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy

ANA, BEN = "+6587654321", "+6587654322"


def forms(folder: Path, rows: Sequence[Row]) -> list[Path | Sequence[Row]]:
    """One list in every form."""
    return [written(folder, rows, form) for form in FORMS]


def read_all(given: Path | Sequence[Row], options: CampaignOptions) -> tuple[list[CheckedCall], list[str], list[str]]:
    """The calls, the errors and the warnings of rows."""
    campaign = CampaignRows(given, options, now=NOW)
    rows = list(campaign)
    warnings = [*campaign.findings, *campaign.closing_findings()]
    warnings += [found for row in rows for found in row.findings if not found.is_error]
    errors = [f"{column}: {message}" for _, column, _, message in told(rows)]
    return calls_of(rows), errors, [f"{found.column}: {found.message}" for found in warnings]


WITH_BATCH = replace(OPTIONS, batch_id="recall")


@pytest.mark.parametrize(
    ("column", "cell", "meaning"),
    [
        ("Batch ID", "EW0150", "the batch of the call"),
        ("Source", "+6531234567", "the number to call from"),
        ("Valid Until", "2027-05-01T00:00:00Z", "the time after which nobody is called"),
        ("Not Before", "2027-05-01T00:00:00Z", "the time before which nobody is called"),
        ("Unique-Key", "k1", "the key of the call"),
        ("Voice Profile", "v", "the voice"),
    ],
)
def test_a_name_that_is_reserved_by_chance_is_told_and_can_be_ignored(
    tmp_path: Path, column: str, cell: str, meaning: str
) -> None:
    rows = [{"destination": ANA, "name": "Ana", column: cell}]
    for given in forms(tmp_path, rows):
        options = replace(OPTIONS, batch_id=None if isinstance(given, Path) else "visits")
        calls, errors, warnings = read_all(given, options)
        assert (len(calls), errors) == (1, [])
        if column != "Batch ID" or isinstance(given, Path):
            assert f"{column}: is a reserved name, and read as {meaning}; if it is not meant" in warnings[0]
            assert Remedy.IGNORE_COLUMN in warnings[0]
        (call,), errors, warnings = read_all(given, replace(options, columns={"ignore": column.lower()}))
        assert (errors, warnings) == ([], [])
        assert (call.batch_id, call.source, call.valid_until, call.not_before) == ("visits", "+6531234567", None, None)
        assert call.data == {"name": "Ana"}


@pytest.mark.parametrize("column", ["source", "Source"])
def test_wrong_cells_of_a_reserved_column_are_told_in_one_line(tmp_path: Path, column: str) -> None:
    rows = [{"destination": number, "name": "Ana", column: "Facebook"} for number in (ANA, BEN)]
    for given in forms(tmp_path, rows):
        calls, errors, warnings = read_all(given, WITH_BATCH)
        assert (calls, len(errors)) == ([], 2)
        (line,) = [each for each in warnings if "is a reserved name" in each]
        assert (line.startswith(f"{column}: "), Remedy.IGNORE_COLUMN in line) == (True, True)
        calls, errors, warnings = read_all(given, replace(WITH_BATCH, columns={"ignore": "SOURCE"}))
        assert ([call.source for call in calls], errors, warnings) == (["+6531234567"] * 2, [], [])


def test_the_batch_that_was_given_goes_before_a_column_and_is_told(tmp_path: Path) -> None:
    for column in ("Batch ID", "batch_id"):
        rows = [{"destination": number, "name": "Ana", column: "EW0150"} for number in (ANA, BEN)]
        for given in forms(tmp_path, rows):
            calls, errors, warnings = read_all(given, WITH_BATCH)
            assert ([call.batch_id for call in calls], errors) == (["recall"] * 2, [])
            assert [
                each for each in warnings if "names another batch in 2 rows, such as 'EW0150', which is not" in each
            ]
    body = {"destination": ANA, "batch_id": "own", "callflow": [{"action": "makeCall"}]}
    (call,), _, warnings = read_all(file_of(tmp_path, json.dumps(body), "a.jsonl"), replace(WITH_BATCH, template=None))
    assert (call.batch_id, len(warnings)) == ("recall", 1)


def test_a_column_to_ignore_is_nowhere_even_if_its_cells_are_wrong(tmp_path: Path) -> None:
    path = file_of(tmp_path, f"destination,name,Note,Priority,valid_until\n{ANA},Ana,#REF!,High,yesterday\n")
    (call,), errors, warnings = read_all(
        path, replace(OPTIONS, columns={"ignore": ["note", "priority", "Valid Until"]})
    )
    assert (call.data, errors, warnings) == ({"name": "Ana"}, [], [])
    for ignored, said in (
        ("Nota", "no column 'Nota'"),
        ("destination", "cannot be ignored"),
        ("name", "name is needed"),
    ):
        with pytest.raises(CampaignFileError, match=said):
            read_all(path, replace(OPTIONS, columns={"ignore": ignored}))
    _, _, warnings = read_all([{"destination": ANA, "name": "A"}], replace(WITH_BATCH, columns={"ignore": "Nota"}))
    assert warnings == ["Nota: no row has this column; check its name"]


def test_equal_headers_can_be_ignored_and_not_read(tmp_path: Path) -> None:
    lines = [["destination", "Note", "name", "Note"], [ANA, "a", "Ana", "b"]]
    table = file_of(tmp_path, "\n".join(map(",".join, lines)))
    for given in (table, workbook(tmp_path, lines)):
        with pytest.raises(CampaignFileError, match="two columns of the same name: Note"):
            read_all(given, OPTIONS)
        (call,), errors, _ = read_all(given, replace(OPTIONS, columns={"ignore": "Note"}))
        assert (call.data, errors) == ({"name": "Ana"}, [])


def test_a_number_within_an_object_is_read_by_its_path(tmp_path: Path) -> None:
    options = replace(WITH_BATCH, columns={"destination": ["contact.phone", "contact.Work Phone"]})
    rows: list[Row] = [
        {"name": "Ana", "contact": {"phone": ANA, "work_phone": BEN}},
        {"name": "Ben", "Contact": {"Phone": "", "Work Phone": "+6587654323"}},
        {"name": "Cik", "contact.phone": "+6587654324"},
        {"name": "Dan", "contact": None},
        {"name": "Eve", "contact": {"phone": "12"}},
    ]
    for given in (file_of(tmp_path, "\n".join(map(json.dumps, rows)), "a.jsonl"), rows):
        calls, errors, warnings = read_all(given, options)
        assert [call.numbers for call in calls] == [(ANA, BEN), ("+6587654323",), ("+6587654324",)]
        assert [each.split(":")[0] for each in errors] == ["contact.phone", "contact.phone"]
        assert warnings == []
