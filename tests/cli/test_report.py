from __future__ import annotations

import csv
import json

import pytest
from openpyxl import load_workbook

from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, url_of
from voiceflow_worker import JobState


def filled(voiceflow: Program) -> tuple[str, str]:
    enqueued(voiceflow.folder, 2, batch_id="march")
    completed(voiceflow.folder, batch_id="march")
    enqueued(voiceflow.folder, 1, batch_id="april")
    return ("--store", url_of(voiceflow.folder))


def test_the_document_has_every_field(voiceflow: Program) -> None:
    ended = voiceflow("report", "--batch", "march", "--json", *filled(voiceflow))
    assert ended.code == 0
    found = ended.document
    assert found["states"] == {
        state.value: {JobState.QUEUED: 2, JobState.COMPLETED: 1}.get(state, 0) for state in JobState
    }
    assert {key: found[key] for key in ("batch_id", "total", "outcomes", "answer_rate", "digits", "answers")} == {
        "batch_id": "march",
        "total": 3,
        "outcomes": {"COMPLETED": 1},
        "answer_rate": 1.0,
        "digits": {},
        "answers": {},
    }


def test_the_reasons_of_cancelled_calls_are_counted(voiceflow: Program) -> None:
    first, _ = enqueued(voiceflow.folder, 2, batch_id="march")
    store = ("--store", url_of(voiceflow.folder))
    assert voiceflow("calls", "cancel", first.id, "--reason", "wrong date", "--as", "Mary", *store).code == 0
    assert voiceflow("calls", "cancel", "--batch", "march", "--yes", *store).code == 0
    (line,) = voiceflow("report", "--batch", "march", "--json", *store).lines
    assert line["cancellations"] == [
        {"reason": "the batch was cancelled by a person", "count": 1},
        {"reason": "wrong date (by Mary)", "count": 1},
    ]
    out = voiceflow("report", "--batch", "march", *store).out
    assert "cancelled because" in out
    assert "wrong date (by Mary)" in out


def test_files_are_written(voiceflow: Program) -> None:
    store = filled(voiceflow)
    files = ("--csv", "out.csv", "--html", "out.html", "--xlsx", "out.xlsx")
    ended = voiceflow("report", "--batch", "march", *files, "--json", *store)
    assert ended.code == 0
    assert ended.document["by_country"][0]["total"] == 3
    assert "out.csv: 3 calls" in ended.err
    assert "out.xlsx: 3 calls" in ended.err
    book = load_workbook(voiceflow.folder / "out.xlsx", read_only=True)
    assert len(list(book["Calls"].iter_rows())) == 4
    book.close()
    with (voiceflow.folder / "out.csv").open(encoding="utf-8", newline="") as file:
        assert sorted(row["state"] for row in csv.DictReader(file)) == ["completed", "queued", "queued"]
    assert "march" in (voiceflow.folder / "out.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--csv", "out", "--select", "nmae"), "no call has the column 'nmae'; the columns are: destination, state"),
        (("--select", "answer"), "add --csv, --xlsx or --html"),
        (("--csv", "out", "--time-zone", "Singapore"), "did you mean Asia/Singapore?"),
    ],
)
def test_columns_and_zones_that_cannot_be_shown_write_no_file(
    voiceflow: Program, options: tuple[str, ...], told: str
) -> None:
    ended = voiceflow("report", "--batch", "march", *options, *filled(voiceflow))
    assert (ended.code, (voiceflow.folder / "out").exists()) == (2, False)
    assert told in ended.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("files", "code"),
    [(("--csv", "no/such/folder/out"), 1), (("--csv", "out", "--html", "out"), 2)],
    ids=["no such folder", "one file for two forms"],
)
def test_a_file_that_cannot_be_written_is_reported(voiceflow: Program, files: tuple[str, ...], code: int) -> None:
    ended = voiceflow("report", "--batch", "march", *files, *filled(voiceflow))
    assert (ended.code, (voiceflow.folder / "out").exists()) == (code, False)


def test_batches_are_compared_side_by_side(voiceflow: Program) -> None:
    store = filled(voiceflow)
    wanted = (["figure"], ["calls"], ["queued"])
    two = ("--batch", "march", "--batch", "april", "--batch", "march")
    out = voiceflow("report", *two, *store).out
    assert [line.split() for line in out.splitlines() if line.split()[:1] in wanted] == [
        ["figure", "march", "april"],
        ["calls", "3", "1"],
        ["queued", "2", "1"],
    ]
    documents = [json.loads(line) for line in voiceflow("report", *two, "--json", *store).out.splitlines()]
    assert [(each["batch_id"], each["total"]) for each in documents] == [("march", 3), ("april", 1)]


def test_totals_alone_look_at_no_call(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(voiceflow)
    full = voiceflow("report", "--batch", "march", "--json", *store).document
    assert (full["attempts"], full["by_country"][0]["country"]) == ({"0": 2, "1": 1}, "SG")
    monkeypatch.setattr("voiceflow_worker.core.overview.report.read_breakdown", None)
    totals = voiceflow("report", "--batch", "march", "--totals", "--json", *store).document
    assert totals == {name: full[name] for name in totals}
    assert "by_hour" not in totals


def test_without_a_batch_it_covers_the_queue(voiceflow: Program) -> None:
    store = filled(voiceflow)
    found = voiceflow("report", "--json", *store).document
    assert (found["batch_id"], found["total"], found["outcomes"]) == (None, 4, {"COMPLETED": 1})
    ended = voiceflow("report", "--csv", "all.csv", "--html", "all.html", *store)
    assert ended.out.startswith("queue default: 4 calls\n")
    assert "all.csv: 4 calls" in ended.err
    assert "<h1>All calls</h1>" in (voiceflow.folder / "all.html").read_text(encoding="utf-8")
