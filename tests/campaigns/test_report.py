"""The report of a batch: in numbers, as a CSV."""

from __future__ import annotations

import csv
import tracemalloc
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.campaigns.reading import NOW
from tests.contract.samples import add_jobs
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
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting.report import build_report

pytestmark = pytest.mark.anyio

WHOLE = 3
"""Cells of a call in the page that are not broken: number, state and time."""


def job(place: int, state: JobState = JobState.QUEUED, **more: object) -> Job:
    plain = Job(
        id=f"default.{place:026d}",
        queue="default",
        state=state,
        due_at=NOW,
        revision=f"r{place}",
        batch_id="visits",
        destination=f"+65{80000000 + place}",
        unique_key=f"key-{place}",
        body="{}",
        body_digest="d",
        source="+6531234567",
        created_at=NOW,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def ended(
    place: int,
    state: JobState,
    status: SessionStatus | None,
    digits: str | None = None,
    answer: str | None = None,
    **more: object,
) -> Job:
    outcome = Outcome(
        status=status,
        status_text="STRANGE" if status is None else status.value,
        session_id=f"session-{place}",
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=12),
        seconds=12.0,
        **more,  # type: ignore[arg-type]
    )
    post = Post(
        number=1,
        client_request_id=f"default.{place:026d}.1",
        began_at=NOW,
        valid_until=NOW + timedelta(seconds=120),
        verdict=VerdictKind.CREATED,
        session_id=f"session-{place}",
        outcome=outcome,
        presses=() if digits is None else (KeyPress(at=NOW, menu="main", digits=digits, answer=answer),),
    )
    return job(place, state, posts=(post,), post_count=1)


async def fill(store: Store, *jobs: Job) -> None:
    await add_jobs(store, jobs)


async def written(store: Store, *batch_ids: str, **files: Any) -> int:
    """How many calls the files have."""
    reports = await write_report_files(ReportFiles(**files), store, [("default", each) for each in batch_ids])
    return sum(report.total for report in reports)


async def test_the_report_counts_states_outcomes_and_answers(store: Store) -> None:
    await fill(
        store,
        ended(1, JobState.COMPLETED, SessionStatus.COMPLETED, "1", "confirmed"),
        ended(2, JobState.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, "9"),
        ended(3, JobState.COMPLETED, SessionStatus.COMPLETED, "7,1", "confirmed"),
        ended(4, JobState.UNREACHED, SessionStatus.NO_ANSWER),
        ended(5, JobState.FAILED, None),
        job(6),
        job(7, JobState.EXPIRED),
        job(8, batch_id="another"),
    )
    report = await build_report(store, "default", "visits")
    assert report.as_json() == {
        "batch_id": "visits",
        "queue": "default",
        "total": 7,
        "states": {state.value: 0 for state in JobState}
        | {"completed": 3, "unreached": 1, "failed": 1, "queued": 1, "expired": 1},
        "outcomes": {"COMPLETED": 2, "COMPLETED_UNSUBSCRIBED": 1, "NO_ANSWER": 1, "STRANGE": 1},
        "answered": 3,
        "answer_rate": 0.6,
        "answers": {"confirmed": 2},
        "other_keys": 1,
        "seconds": 60.0,
        "cost": {},
        "placed": 5,
        "priced": 0,
        "pruned": 0,
    }


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
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\n=1", "'\n'=1"),
        ("a;=1+1", "a;'=1+1"),
        ("a;=1;b; @x", "a;'=1;b;' @x"),
        ('a;"=1&"', 'a;\'"=1&"'),
        ("a|=1\n-2+3", "a|'=1\n'-2+3"),
        ("a\t\uff1d1", "a\t'\uff1d1"),
        ("a; -1014; +65 8765 4321; b=c", "a; -1014; +65 8765 4321; b=c"),
        ("a\n\n=1", "a\n\n'=1"),
        ('a;\t"\n=1', "a;\t\"\n'=1"),
        ("a, -b", "a, -b"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("+6587654321", "+6587654321"),
        ("-1015", "-1015"),
        ("Ana", "Ana"),
        ("", ""),
    ]:
        assert harmless(cell) == written


def test_a_refused_call_shows_what_8x8_said() -> None:
    post = Post(
        number=1,
        client_request_id="x.1",
        began_at=NOW,
        valid_until=NOW,
        verdict=VerdictKind.REFUSED,
        code=-1014,
        message="Source not allowed",
    )
    line = report_line(job(1, JobState.FAILED, posts=(post,), reason="Source not allowed"))
    assert (line.code, line.message, line.outcome, line.attempt) == ("-1014", "Source not allowed", "", "0")


CALLS = [job(place, data={"name": f"Person {place}", "note": "as long as notes are"}) for place in range(200)]


def peak(folder: Path, *, packs: int) -> int:
    """The most memory that was in use, in bytes."""
    tracemalloc.start()
    try:
        with TemporaryFile() as held:
            spool = LineSpool(held, ReportFiles())
            for page in repeat(CALLS, packs):
                spool.add(page)
            for _ in write_csv_report(folder / "out.csv", spool):
                pass
            for _ in write_xlsx_report(folder / "out.xlsx", [], spool, at=NOW):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_eight_times_the_calls_need_no_more_memory(tmp_path: Path) -> None:
    peak(tmp_path, packs=1)  # imports
    few, many = peak(tmp_path, packs=2), peak(tmp_path, packs=16)
    assert many - few < 64 * 1024, f"{few} bytes for 400 calls, {many} for 3,200"
