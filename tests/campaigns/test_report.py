"""The report of a batch: in numbers, as a CSV."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from openpyxl import load_workbook

from tests.campaigns.reading import NOW, peak
from tests.contract.samples import add_jobs
from voiceflow_worker import Store
from voiceflow_worker.campaigns import report_files
from voiceflow_worker.campaigns.report_files import (
    COLUMNS,
    LineSpool,
    ReportFiles,
    harmless,
    report_line,
    write_csv_report,
    write_report_files,
    write_xlsx_report,
)
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting.report import build_report

pytestmark = pytest.mark.anyio


def job(place: int, state: JobState = JobState.QUEUED, **more: object) -> Job:
    plain = Job(
        id=f"default.{place:026d}", queue="default", state=state, due_at=NOW, revision=f"r{place}", batch_id="visits",
        destination=f"+65{80000000 + place}", unique_key=f"key-{place}", body="{}", body_digest="d",
        source="+6531234567", created_at=NOW,
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def ended(
    place: int, state: JobState, status: SessionStatus | None, digits: str | None = None, answer: str | None = None
) -> Job:
    outcome = Outcome(
        status=status, status_text="STRANGE" if status is None else status.value, session_id=f"session-{place}",
        started_at=NOW, ended_at=NOW + timedelta(seconds=12), seconds=12.0,
    )  # fmt: skip
    post = Post(
        number=1, client_request_id=f"default.{place:026d}.1", began_at=NOW, valid_until=NOW + timedelta(seconds=120),
        verdict=VerdictKind.CREATED, session_id=f"session-{place}", outcome=outcome,
        presses=() if digits is None else (KeyPress(at=NOW, menu="main", digits=digits, answer=answer),),
    )  # fmt: skip
    return job(place, state, posts=(post,), post_count=1)


async def fill(store: Store, *jobs: Job) -> None:
    await add_jobs(store, jobs)


async def written(store: Store, batch_id: str, **files: Any) -> int:
    """How many calls the files have."""
    return await write_report_files(ReportFiles(**files), store, "default", batch_id)


async def test_the_report_counts_states_outcomes_and_answers(store: Store) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed"),
        ended(2, JobState.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, "9"),
        ended(3, JobState.COMPLETED, SessionStatus.COMPLETED, "7,1", "confirmed"),
        ended(4, JobState.UNREACHED, SessionStatus.NO_ANSWER), ended(5, JobState.FAILED, None), job(6),
        job(7, JobState.EXPIRED), job(8, batch_id="another"),
    )  # fmt: skip
    states = {"completed": 3, "unreached": 1, "failed": 1, "queued": 1, "expired": 1}
    assert (await build_report(store, "default", "visits")).as_json() == {
        "batch_id": "visits", "queue": "default", "total": 7, "states": {state.value: 0 for state in JobState} | states,
        "outcomes": {"COMPLETED": 2, "COMPLETED_UNSUBSCRIBED": 1, "NO_ANSWER": 1, "STRANGE": 1}, "answered": 3,
        "answer_rate": 0.6, "answers": {"confirmed": 2}, "other_keys": 1, "seconds": 60.0, "placed": 5,
    }  # fmt: skip


async def test_the_answer_rate_of_a_batch_without_outcomes_is_unknown(store: Store) -> None:
    await fill(store, job(1), job(2, JobState.CANCELLED))
    assert (await build_report(store, "default", "visits")).answer_rate is None
    empty = await build_report(store, "default", "no such batch")
    assert (empty.total, empty.answer_rate) == (0, None)


async def test_the_csv_has_a_line_for_each_call(store: Store, tmp_path: Path) -> None:
    await fill(store, ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed"), job(2))
    path = tmp_path / "report.csv"
    assert await written(store, "visits", csv=path) == 2
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS, "calls without data of their own have no further columns"
    assert rows[0]["destination"] == "+6580000001"
    assert (rows[0]["state"], rows[0]["outcome"], rows[0]["digits"]) == ("completed", "COMPLETED", "1")
    assert (rows[0]["answer"], rows[1]["answer"]) == ("confirmed", "")
    assert (rows[0]["seconds"], rows[0]["attempt"], rows[0]["ended_at"]) == ("12", "1", "2026-03-02T09:00:12.000Z")
    assert (rows[1]["state"], rows[1]["outcome"], rows[1]["attempt"]) == ("queued", "", "0")


def test_no_cell_is_a_formula_to_a_spreadsheet() -> None:
    for cell, written in [
        ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"), ("\n=1", "'\n'=1"), ("a;=1+1", "a;'=1+1"), ("a;=1;b; @x", "a;'=1;b;' @x"),
        ('a;"=1&"', 'a;\'"=1&"'), ("a|=1\n-2+3", "a|'=1\n'-2+3"), ("a\t\uff1d1", "a\t'\uff1d1"),
        ("a\n\n=1", "a\n\n'=1"), ('a;\t"\n=1', "a;\t\"\n'=1"), (" =1", "' =1"), ("\uff1d1", "'\uff1d1"),
        *((each, each) for each in ("a; -1014; +65 8765 4321; b=c", "a, -b", "+6587654321", "-1015", "Ana", "")),
    ]:  # fmt: skip
        assert harmless(cell) == written


def test_a_refused_call_shows_what_8x8_said() -> None:
    post = Post(
        number=1, client_request_id="x.1", began_at=NOW, valid_until=NOW, verdict=VerdictKind.REFUSED, code=-1014,
        message="Source not allowed",
    )  # fmt: skip
    line = report_line(job(1, JobState.FAILED, posts=(post,), reason="Source not allowed"))
    assert (line.code, line.message, line.outcome, line.attempt) == ("-1014", "Source not allowed", "", "0")


CALLS = [job(place, data={"name": f"Person {place}", "note": "as long as notes are"}) for place in range(200)]


@pytest.mark.slow
def test_eight_times_the_calls_need_no_more_memory(tmp_path: Path) -> None:
    def of(packs: int) -> int:
        with TemporaryFile() as held:
            spool = LineSpool(held, ReportFiles())

            def write() -> None:
                for page in repeat(CALLS, packs):
                    spool.add(page)
                write_csv_report(tmp_path / "out.csv", spool)
                write_xlsx_report(tmp_path / "out.xlsx", spool)

            return peak(write)

    of(1)  # imports
    few, many = of(2), of(16)
    assert many - few < 64 * 1024, f"{few} bytes for 400 calls, {many} for 3,200"


# -- the columns of the file, and Excel --------------------------------------------------------------------------------

HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1"]


def sheet_of(path: Path, name: str) -> list[tuple[Any, ...]]:
    return [tuple(cell.value for cell in row) for row in load_workbook(path)[name].iter_rows()]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def refused(place: int, code: int | None, message: str = "") -> Job:
    post = Post(
        number=1, client_request_id="x.1", began_at=NOW, valid_until=NOW, verdict=VerdictKind.REFUSED, code=code,
        message=message,
    )  # fmt: skip
    return job(place, JobState.FAILED, posts=(post,), post_count=1)


async def test_a_report_is_printed_as_one_table(store: Store) -> None:
    reached = ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed")
    await fill(
        store, reached, ended(2, JobState.UNREACHED, SessionStatus.BUSY), ended(3, JobState.COMPLETED, None, "7")
    )
    lines = [" ".join(line.split()) for line in str(await build_report(store, "default", "visits")).splitlines()]
    assert lines == [
        "batch visits: 3 calls", "state completed 2", "state unreached 1", "outcome BUSY 1",
        "outcome COMPLETED 1", "outcome STRANGE 1", "answer confirmed 1", "answer other keys 1",
        "answered: 1 of 3 (33%)", "duration of all calls: 0:00:36, answered or not",
    ]  # fmt: skip


async def test_the_columns_of_the_file_come_back_in_csv_and_excel(store: Store, tmp_path: Path) -> None:
    ana = {"name": "Ana", "customer no": "007", "vip": True, "visits": 3, "note": "2026-11-27 14:30"}
    ana["born"] = "0001-01-01"
    ben = {"name": "Ben", "note": "two\nlines", "long": 12345678901234567890}
    await fill(store, job(1, data=ana), job(2, data=ben), job(3))
    path, book = tmp_path / "out.csv", tmp_path / "out.xlsx"
    assert await written(store, "visits", csv=path, xlsx=book) == 3
    # Some programs take a plus or a space outside of quotes for the end of a cell.
    assert re.fullmatch('(?:"(?:[^"]|"")*"[,\n])+', path.read_text("utf-8-sig"))
    first, second, third = rows_of(path)
    assert [name for name in first if name.startswith("data.")] == [f"data.{name}" for name in (*ana, "long")]
    assert (first["data.name"], first["data.customer no"], first["data.vip"]) == ("Ana", "007", "true")
    assert (second["data.note"], second["data.vip"], third["data.name"]) == ("two\nlines", "", "")
    header, *calls = sheet_of(book, "Calls")
    assert list(header) == list(first)
    found = [dict(zip(header, row, strict=True)) for row in calls]
    assert (found[0]["data.customer no"], found[0]["data.vip"], found[0]["data.visits"]) == ("007", True, 3)
    assert found[0]["data.note"] == "2026-11-27 14:30"
    assert load_workbook(book).sheetnames[0] == "Calls"
    assert found[1]["data.long"] == "12345678901234567890", "Excel would round it"
    assert [row["destination"] for row in found] == [row["destination"] for row in (first, second, third)]


async def test_excel_has_one_sheet_with_the_calls(store: Store, tmp_path: Path) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed"),
        ended(2, JobState.UNREACHED, SessionStatus.BUSY),
        refused(3, -1014),
    )
    path = tmp_path / "out.xlsx"
    await written(store, "visits", xlsx=path)
    assert load_workbook(path).sheetnames == ["Calls"]
    header, *calls = sheet_of(path, "Calls")
    first = dict(zip(header, calls[0], strict=True))
    assert first["destination"] == "+6580000001"
    assert first["answer"] == "confirmed"
    assert (first["seconds"], first["started_at"]) == (12, datetime(2026, 3, 2, 9, 0))  # noqa: DTZ001 (Excel has no zones)
    assert dict(zip(header, calls[2], strict=True))["code"] == -1014
    assert header[1] == "result", "before what is looked up once a month"


async def test_no_cell_of_excel_is_a_formula_and_no_text_is_changed(store: Store, tmp_path: Path) -> None:
    phone = "+65 8765 4321"
    evil_jobs = (job(n, unique_key=f"=key-{n}", data={"=evil": text, "phone": phone}) for n, text in enumerate(HOSTILE))
    await fill(store, *evil_jobs)
    path, plain = tmp_path / "out.xlsx", tmp_path / "out.csv"
    await written(store, "visits", xlsx=path, csv=plain)
    book = load_workbook(path)
    cells = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    evil = next(cell.column for cell in cells if cell.value == "data.=evil")
    column = [cell for cell in cells if cell.parent.title == "Calls" and cell.column == evil][1:]
    assert [str(cell.value) for cell in column] == [text.replace("\r", "\\r") for text in HOSTILE]
    assert all(cell.quotePrefix or str(cell.value)[0] not in "=+-@\t\r\n" for cell in column)
    rows = rows_of(plain)
    assert {(row["data.phone"], row["destination"][0], row["unique_key"][:2]) for row in rows} == {(phone, "+", "'=")}
    assert all(row["data.=evil"].startswith(("'", "\\")) for row in rows)


async def test_more_lines_than_a_sheet_has_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_files, "MOST_ROWS", 2)
    await fill(store, *map(job, range(3)))
    with pytest.raises(InvalidInputError, match=r"3 lines are more than .* give --csv"):
        await written(store, "visits", xlsx=tmp_path / "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()


async def test_control_characters_do_not_reach_a_terminal(store: Store) -> None:
    report = await build_report(store, "default", "\x1b[2J")
    assert "\x1b" not in str(report)
