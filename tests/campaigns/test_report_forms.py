"""Reports in full: hours, countries, attempts, refusals; the columns of the file; Excel; several batches."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from openpyxl import load_workbook

from tests.campaigns.reading import NOW
from tests.campaigns.test_report import ended, fill, job, written
from voiceflow_worker import Store
from voiceflow_worker.campaigns import report_files
from voiceflow_worker.campaigns.report_files import ReportFiles, report_line, write_report_files
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, Post
from voiceflow_worker.model.reports.outcome import Charge
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting.breakdown import PAGE
from voiceflow_worker.reporting.report import (
    Report,
    build_full_report,
    build_report,
)

pytestmark = pytest.mark.anyio

HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1"]


def sheet_of(path: Path, name: str) -> list[tuple[Any, ...]]:
    book = load_workbook(path, read_only=True)
    try:
        return [tuple(cell.value for cell in row) for row in book[name].iter_rows()]
    finally:
        book.close()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def at(place: int, begins: datetime, status: SessionStatus, **more: Any) -> Job:
    """A call whose only attempt began then."""
    plain = ended(place, JobState.COMPLETED, status)
    (post,) = plain.posts
    assert post.outcome is not None
    outcome = replace(post.outcome, started_at=begins, ended_at=begins + timedelta(seconds=12))
    return replace(plain, posts=(replace(post, began_at=begins, outcome=outcome),), **more)


def refused(place: int, code: int | None) -> Job:
    post = Post(
        number=1, client_request_id="x.1", began_at=NOW, valid_until=NOW, verdict=VerdictKind.REFUSED, code=code
    )
    return job(place, JobState.FAILED, posts=(post,), post_count=1)


async def breakdown(store: Store, batch_id: str | None = "visits") -> dict[str, Any]:
    found: dict[str, Any] = (await build_full_report(store, "default", batch_id)).as_json()
    return found


async def test_the_answer_rate_is_told_by_the_hour_of_the_batch(store: Store) -> None:
    singapore = {"time_zone": "Asia/Singapore"}
    day = datetime(2026, 3, 2, tzinfo=UTC)
    await fill(
        store,
        at(1, day + timedelta(hours=1, minutes=5), SessionStatus.COMPLETED, **singapore),
        at(2, day + timedelta(hours=1, minutes=59), SessionStatus.NO_ANSWER, **singapore),
        at(3, day + timedelta(days=1, hours=1), SessionStatus.COMPLETED, **singapore),
        at(4, day + timedelta(hours=16), SessionStatus.BUSY, **singapore),
        at(5, day, SessionStatus.BUSY, time_zone="Asia/Kolkata"),
        job(6, time_zone="Asia/Singapore"),
    )
    found = await breakdown(store)
    assert found["time_zone"] == "Asia/Singapore"
    assert found["by_hour"] == [
        {"hour": 0, "attempts": 1, "answered": 0, "answer_rate": 0.0},
        {"hour": 8, "attempts": 1, "answered": 0, "answer_rate": 0.0},
        {"hour": 9, "attempts": 3, "answered": 2, "answer_rate": 0.6667},
    ]
    assert (found["began_at"], found["ended_at"]) == ("2026-03-02T00:00:00.000Z", "2026-03-03T01:00:12.000Z")
    assert found["duration_seconds"] == 25 * 3600 + 12


@pytest.mark.parametrize(
    ("zone", "hours"), [("Asia/Kolkata", [5]), ("Asia/Kathmandu", [5, 6]), ("Europe/Berlin", [1]), (None, [8])]
)
async def test_hours_are_those_of_the_zone_of_most_calls(store: Store, zone: str | None, hours: list[int]) -> None:
    times = [datetime(2026, 3, 2, 0, minute, tzinfo=UTC) for minute in (0, 14, 20)]
    numbers = {"destination": "+6587654321", "time_zone": zone}
    await fill(store, *(at(place, time, SessionStatus.BUSY, **numbers) for place, time in enumerate(times)))
    found = await breakdown(store)
    assert [each["hour"] for each in found["by_hour"]] == hours
    assert found["time_zone"] == (zone or "Asia/Singapore"), "numbers of one country have its zone"


async def test_attempts_of_a_redialled_person_count_in_their_own_hours(store: Store) -> None:
    first = ended(1, JobState.COMPLETED, SessionStatus.NO_ANSWER).posts[0]
    later = NOW + timedelta(hours=3)
    assert first.outcome is not None
    outcome = replace(first.outcome, status=SessionStatus.COMPLETED, started_at=later)
    second = replace(first, number=2, redial=1, began_at=later - timedelta(minutes=1), outcome=outcome)
    await fill(store, job(1, JobState.COMPLETED, posts=(first, second), post_count=2, redials=1), job(2))
    found = await breakdown(store)
    assert [(each["hour"], each["attempts"], each["answered"]) for each in found["by_hour"]] == [(17, 1, 0), (20, 1, 1)]
    assert (found["attempts"], found["attempts_per_call"]) == ({"0": 1, "2": 1}, 2.0)
    assert (found["answered"], found["outcomes"]) == (1, {"COMPLETED": 1})


async def test_countries_have_calls_answers_and_cost(store: Store) -> None:
    charged = ended(3, JobState.COMPLETED, SessionStatus.COMPLETED)
    post = replace(charged.posts[0], charge=Charge(price=Decimal("0.05"), currency="USD"))
    line = report_line(replace(charged, posts=(post,)))
    assert (line.price, line.currency) == ("0.05", "USD")
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED),
        ended(2, JobState.UNREACHED, SessionStatus.BUSY),
        replace(charged, posts=(post,), destination="+442079460123"),
        job(4, destination="+80012345678"),
    )
    assert (await breakdown(store))["by_country"] == [
        {"country": "SG", "total": 2, "ended": 2, "answered": 1, "answer_rate": 0.5, "cost": {}},
        {"country": "GB", "total": 1, "ended": 1, "answered": 1, "answer_rate": 1.0, "cost": {"USD": 0.05}},
        {"country": None, "total": 1, "ended": 0, "answered": 0, "answer_rate": None, "cost": {}},
    ]


async def test_refusals_are_counted_by_code_and_explained(store: Store) -> None:
    await fill(store, refused(1, -1014), refused(2, -1014), refused(3, -1017), refused(4, None), job(5))
    found = await breakdown(store)
    assert [(each["code"], each["count"]) for each in found["refusals"]] == [(-1014, 2), (-1017, 1), (None, 1)]
    assert found["refusals"][0]["meaning"] == "source or caller ID is not allowed"
    text = str(await build_full_report(store, "default", "visits"))
    assert "-1014: source or caller ID is not allowed" in text


async def test_the_breakdown_adds_up_to_the_totals_over_many_pages(store: Store) -> None:
    each = [ended(place, JobState.COMPLETED, SessionStatus.COMPLETED, "1") for place in range(PAGE + 10)]
    await fill(store, *each, job(PAGE + 11))
    found = await breakdown(store)
    assert found["total"] == sum(found["attempts"].values()) == found["by_country"][0]["total"] == PAGE + 11
    assert found["answered"] == sum(hour["answered"] for hour in found["by_hour"]) == PAGE + 10
    assert found["seconds"] == found["answered_seconds"]


async def test_totals_alone_have_no_breakdown(store: Store) -> None:
    await fill(store, ended(1, JobState.COMPLETED, SessionStatus.COMPLETED))
    totals = await build_report(store, "default", "visits")
    assert totals.breakdown is None
    assert "by_hour" not in totals.as_json()
    assert "COMPLETED" in str(totals)


async def test_the_columns_of_the_file_come_back_in_csv_and_excel(store: Store, tmp_path: Path) -> None:
    await fill(
        store,
        job(
            1,
            data={
                "name": "Ana",
                "customer no": "007",
                "vip": True,
                "visits": 3,
                "note": "2026-11-27 14:30",
                "born": "0001-01-01",
            },
        ),
        job(2, data={"name": "Ben", "note": "two\nlines", "long": 12345678901234567890}),
        job(3),
    )
    path, book = tmp_path / "out.csv", tmp_path / "out.xlsx"
    assert await written(store, "visits", csv=path, xlsx=book) == 3
    # Some programs take a plus or a space outside of quotes for the end of a cell.
    assert re.fullmatch('(?:"(?:[^"]|"")*"[,\n])+', path.read_text("utf-8-sig"))
    first, second, third = rows_of(path)
    assert [name for name in first if name.startswith("data.")] == [
        "data.name", "data.customer no", "data.vip", "data.visits", "data.note", "data.born", "data.long"
    ]  # fmt: skip
    assert (first["data.name"], first["data.customer no"], first["data.vip"]) == ("Ana", "007", "true")
    assert (second["data.note"], second["data.vip"]) == ("two\nlines", "")
    assert third["data.name"] == ""
    header, *calls = sheet_of(book, "Calls")
    assert list(header) == list(first)
    found = [dict(zip(header, row, strict=True)) for row in calls]
    assert (found[0]["data.customer no"], found[0]["data.vip"], found[0]["data.visits"]) == ("007", True, 3)
    assert found[0]["data.note"] == datetime(2026, 11, 27, 14, 30)  # noqa: DTZ001
    assert found[0]["data.born"] == "0001-01-01", "Excel has no dates before 1900"
    assert load_workbook(book).sheetnames[0] == "Calls"
    assert found[1]["data.long"] == "12345678901234567890", "Excel would round it"
    assert [row["destination"] for row in found] == [row["destination"] for row in (first, second, third)]


async def test_excel_has_the_totals_the_tables_and_the_calls(store: Store, tmp_path: Path) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed"),
        ended(2, JobState.UNREACHED, SessionStatus.BUSY),
        refused(3, -1014),
    )
    path = tmp_path / "out.xlsx"
    await written(store, "visits", xlsx=path)
    totals = {row[0]: row[1] for row in sheet_of(path, "Totals")}
    assert (totals["calls"], totals["answered"], totals["answer rate"]) == (3, 1, 0.5)
    assert (totals["talk time"], totals["duration of all calls"]) == (timedelta(seconds=12), timedelta(seconds=24))
    assert dict(sheet_of(path, "States")[1:]) == {"completed": 1, "unreached": 1, "failed": 1}
    assert dict(sheet_of(path, "Keys pressed")[1:]) == {"1": 1}
    assert dict(sheet_of(path, "Answers")[1:]) == {"confirmed": 1}
    assert sheet_of(path, "By hour")[1] == ("17:00", 2, 1, 0.5)
    assert sheet_of(path, "By country")[1][:2] == ("SG", 3)
    header, *calls = sheet_of(path, "Calls")
    first = dict(zip(header, calls[0], strict=True))
    assert first["destination"] == "+6580000001"
    assert first["answer"] == "confirmed"
    assert (first["seconds"], first["started_at"]) == (12, datetime(2026, 3, 2, 9, 0))  # noqa: DTZ001 (Excel has no zones)
    assert dict(zip(header, calls[2], strict=True))["code"] == -1014
    sheet = load_workbook(path)["Calls"]
    assert [cell.value for cell in sheet["B"]] == ["result", "confirmed", "busy", "failed"], "the second column"
    green, white, red = [cell.fill.fgColor.rgb for cell in sheet["B"][1:]]
    assert (green, white, red) == ("FFC6EFCE", "00000000", "FFFFC7CE")


async def test_selected_columns_stand_alone_with_their_times_in_a_zone(store: Store, tmp_path: Path) -> None:
    call = ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed")
    await fill(store, replace(call, data={"name": "Ana", "Due at": "26/11/2026 14:30", "source": "web"}), job(2))
    path, book = tmp_path / "out.csv", tmp_path / "out.xlsx"
    select, zone = ["name", "due at", "answer", "source", "data.source", "started_at"], ZoneInfo("Asia/Singapore")
    files = ReportFiles(csv=path, xlsx=book, select=select, zone=zone)
    (report,) = await write_report_files(files, store, [("default", "visits")])
    first, second = rows_of(path)
    appointment = "26/11/2026 14:30"
    row = ("Ana", appointment, "confirmed", "+6531234567", "web", "2026-03-02T17:00:00+08:00")
    assert (list(first), tuple(first.values())) == (select, row)
    assert tuple(second.values()) == ("", "", "", "+6531234567", "", "")
    header, cells, _ = sheet_of(book, "Calls")
    assert (list(header), cells[:5], cells[5]) == (select, row[:5], datetime(2026, 3, 2, 17, 0))  # noqa: DTZ001
    assert "from 2026-03-02 17:00:00 Asia/Singapore" in str(report)
    assert report.breakdown is not None
    assert [(each.hour, report.breakdown.time_zone) for each in report.breakdown.by_hour] == [(17, "Asia/Singapore")]
    assert report.as_json()["began_at"] == "2026-03-02T09:00:00.000Z"


async def test_no_cell_of_excel_is_a_formula_and_no_text_is_changed(store: Store, tmp_path: Path) -> None:
    await fill(
        store,
        *(
            job(place, unique_key=f"=key-{place}", data={"=evil": text, "phone": "+65 8765 4321"})
            for place, text in enumerate(HOSTILE)
        ),
    )
    path, plain = tmp_path / "out.xlsx", tmp_path / "out.csv"
    await written(store, "visits", xlsx=path, csv=plain)
    book = load_workbook(path)
    cells = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    evil = next(cell.column for cell in cells if cell.value == "data.=evil")
    column = [cell for cell in cells if cell.parent.title == "Calls" and cell.column == evil][1:]
    assert [str(cell.value) for cell in column] == [text.replace("\r", "\\r") for text in HOSTILE]
    assert all(cell.quotePrefix or str(cell.value)[0] not in "=+-@\t\r\n" for cell in column)
    phones = rows_of(plain)
    assert {row["data.phone"] for row in phones} == {"+65 8765 4321"}
    assert {row["destination"][0] for row in phones} == {"+"}
    assert {row["unique_key"][:2] for row in phones} == {"'="}
    assert all(row["data.=evil"].startswith(("'", "\\")) for row in phones)


async def test_a_sheet_that_is_full_goes_on_with_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_files, "MOST_ROWS", 2)
    await fill(store, *map(job, range(5)))
    path = tmp_path / "out.xlsx"
    await written(store, "visits", xlsx=path)
    assert [len(sheet_of(path, name)) for name in ("Calls", "Calls 2", "Calls 3")] == [3, 3, 2]


async def test_several_batches_stand_side_by_side_in_every_form(store: Store, tmp_path: Path) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1"),
        ended(2, JobState.UNREACHED, SessionStatus.BUSY),
        replace(ended(3, JobState.COMPLETED, SessionStatus.COMPLETED, "2"), batch_id="<april>"),
    )
    csv_path, xlsx = (tmp_path / f"out.{form}" for form in ("csv", "xlsx"))
    assert await written(store, "visits", "<april>", csv=csv_path, xlsx=xlsx) == 3
    assert [row["batch_id"] for row in rows_of(csv_path)] == ["visits", "visits", "<april>"]
    assert sheet_of(xlsx, "Totals")[0] == ("figure", "visits", "<april>")
    assert sheet_of(xlsx, "Outcomes")[1:] == [("BUSY", 1, None), ("COMPLETED", 1, 1)]


async def test_the_ringing_of_calls_that_nobody_answered_is_no_talk_time(store: Store) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED),
        ended(2, JobState.COMPLETED, SessionStatus.COMPLETED),
        ended(3, JobState.UNREACHED, SessionStatus.NO_ANSWER),
        ended(4, JobState.UNREACHED, SessionStatus.BUSY),
    )
    report = await build_full_report(store, "default", "visits")
    lines = str(report).splitlines()
    assert "talk time: 0:00:24, 0:00:12 for each answered call" in lines
    assert "duration of all calls: 0:00:48, answered or not" in lines
    assert report.as_json()["seconds"] == 48
    totals = str(await build_report(store, "default", "visits"))
    assert "duration of all calls: 0:00:48" in totals
    assert "talk time" not in totals, "the totals do not tell answered calls from the others"
    deleted = replace(report, answered=3, pruned=1)
    assert "0:00:12 for each answered call" in str(deleted), "the duration of a deleted call is unknown"


async def test_control_characters_do_not_reach_a_terminal(store: Store) -> None:
    report = await build_full_report(store, "default", "\x1b[2J")
    assert isinstance(report, Report)
    assert "\x1b" not in str(report)
