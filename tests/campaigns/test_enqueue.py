"""A file into the queue: all or nothing, or the good rows; nobody twice."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import OPTIONS, file_of
from tests.support.flows import flow
from tests.support.started import enqueue_file, enqueue_rows
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue_report import END_WORDS, EnqueueReport
from voiceflow_worker.campaigns.report_files import ReportFiles, write_report_files
from voiceflow_worker.core.base.keys import newest_of
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio

GOOD = "+6587654321,Ana\n+6587654322,Ben\n"
BAD = "none,Cleo\n+6587654324,\n"
HEADER = "destination,name\n"


async def jobs(queue: CallQueue) -> list[Job]:
    return list(await queue.find(limit=None))


async def enqueue(queue: CallQueue, path: Path, options: CampaignOptions = OPTIONS, **more: object) -> EnqueueReport:
    return await enqueue_file(queue, path, options, now=queue.store.clock.now(), **more)  # type: ignore[arg-type]


def numbers(report: EnqueueReport) -> tuple[int, int, int]:
    return report.enqueued, report.duplicates, report.rejected


async def test_every_row_of_a_good_file_becomes_a_job(queue: CallQueue, tmp_path: Path) -> None:
    report = await enqueue(queue, file_of(tmp_path, HEADER + GOOD))
    none: dict[str, object] = dict.fromkeys(
        ["duplicates", "replaced", "removed", "suppressed", "left_out", "rejected", "again"], 0,
    )  # fmt: skip
    assert report.as_json() == {
        **none, "batch_id": "visits", "enqueued": 2, "rows": 2, "valid": 2, "findings": [],
        "unread": [], "partly_filled": [], "dry_run": False,
        "plan": dict.fromkeys(map(str, END_WORDS), 0) | {"new": 2},
    }  # fmt: skip
    assert [(job.destination, job.batch_id) for job in await jobs(queue)] == [
        ("+6587654321", "visits"), ("+6587654322", "visits"),
    ]  # fmt: skip


async def test_a_file_with_a_bad_row_enqueues_nothing_and_names_every_bad_row_unless_they_are_skipped(
    queue: CallQueue, tmp_path: Path
) -> None:
    path = file_of(tmp_path, HEADER + GOOD + BAD)
    ways: list[dict[str, Any]] = [{}, {"dry_run": True}, {"dry_run": True, "skip_bad": True}]
    for dry in ways:
        report = await enqueue(queue, path, **dry)
        assert (numbers(report), report.valid, report.rows) == ((0, 0, 2), 2, 4)
        assert (report.refused, report.dry_run) == ("skip_bad" not in dry, "dry_run" in dry)
        assert [(found.file, found.row, found.column, found.code) for found in report.findings] == [
            (str(path), 4, "destination", -1017), (str(path), 5, "name", -1009),
        ]  # fmt: skip
        assert await jobs(queue) == []
    report = await enqueue(queue, path, skip_bad=True)
    assert (numbers(report), report.refused) == ((2, 0, 2), False)
    assert [job.destination for job in await jobs(queue)] == ["+6587654321", "+6587654322"]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few hundred rows has several chunks."""
    monkeypatch.setattr("voiceflow_worker.campaigns.enqueue.CHUNK", 100)


@pytest.mark.usefixtures("small_chunks")
async def test_a_bad_row_at_the_end_of_a_large_file_keeps_all_of_it_out(queue: CallQueue, tmp_path: Path) -> None:
    content = HEADER + "".join(f"+65{80000000 + n},Ana\n" for n in range(250)) + BAD
    report = await enqueue(queue, file_of(tmp_path, content))
    assert (numbers(report), report.refused) == ((0, 0, 2), True)
    assert await jobs(queue) == []


async def test_a_key_that_another_takes_meanwhile_is_a_bad_row_and_the_others_go(
    queue: CallQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    async def none_at_first(store: Store, keys: Iterable[str]) -> Mapping[str, Job]:
        asked.extend(keys)
        return {} if len(asked) == 2 else await newest_of(store, keys)

    other = await queue.enqueue(flow("+6587654323"), unique_key="k1")
    monkeypatch.setattr("voiceflow_worker.campaigns.plan.newest_of", none_at_first)
    table = "destination,name,unique_key\n+6587654321,Ana,k1\n+6587654322,Ben,k2\n"
    report = await enqueue(queue, file_of(tmp_path, table))
    assert (numbers(report), report.refused) == ((1, 0, 1), False)
    assert [(found.row, other.id in found.message) for found in report.findings] == [(2, True)]


async def test_what_expires_while_the_file_is_read_is_a_bad_row_and_never_goes_out(
    queue: CallQueue, tmp_path: Path, clock: StillClock
) -> None:
    start = clock.now()
    soon, later = start + timedelta(seconds=5), start + timedelta(hours=1)
    table = f"destination,name,valid_until\n+6587654321,Ana,{soon.isoformat()}\n+6587654322,Ben,{later.isoformat()}\n"
    clock.advance(timedelta(seconds=6))
    report = await enqueue_file(queue, file_of(tmp_path, table), OPTIONS, now=start)
    assert numbers(report) == (1, 0, 1)
    assert [(found.row, found.column, found.code) for found in report.findings] == [(2, "valid_until", -1015)]


async def test_a_dry_run_needs_no_store(tmp_path: Path, clock: StillClock) -> None:
    path = file_of(tmp_path, HEADER + GOOD)
    assert (await enqueue_file(None, path, OPTIONS, now=clock.now(), dry_run=True)).valid == 2
    with pytest.raises(ValueError, match="a queue is needed"):
        await enqueue_file(None, path, OPTIONS, now=clock.now())


def rows_in(rejects: Path) -> list[list[str]]:
    return list(csv.reader(rejects.read_text("utf-8-sig").splitlines()))


async def test_rejects_hold_the_bad_rows_as_they_were_with_reasons(queue: CallQueue, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    path = file_of(tmp_path, HEADER + GOOD + BAD + '" 0812 ",Dan\n+6587654325,Eve, Ltd\n+6587654326\n')
    assert (await enqueue(queue, path, skip_bad=True, rejects=rejects)).rejected == 5
    header, *rows = rows_in(rejects)
    assert header == ["reason", "destination", "name"]
    assert [row[1:] for row in rows] == [
        ["none", "Cleo"], ["+6587654324", ""], [" 0812 ", "Dan"], ["+6587654325", "Eve", " Ltd"], ["+6587654326"],
    ]  # fmt: skip
    assert "destination: 'none' is not one phone number" in rows[0][0]
    assert "-1017" not in rows[0][0], "words for a person"
    assert rows[1][0].startswith("name: is empty")


DAYS = "destination,name,day\n"
SEE_YOU = replace(OPTIONS, template=FlowTemplate.speaking("{{name}}, see you on {{day}}"))


@pytest.mark.parametrize("header", [DAYS, "reason," + DAYS, "destination,reason,name,day,priority\n"])
async def test_rejects_that_nobody_mended_are_bad_again_and_stay_as_they_were(
    queue: CallQueue, tmp_path: Path, header: str
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    # Only cells without a use are missing here, so that a row is bad for its form alone.
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello."))
    lead = b"old reason," if header.startswith("reason") else b""
    for cells in (b"Lim, Ah Kow", b"Lim,x,y"):
        path = file_of(tmp_path, header.encode() + lead + b"+65 8123 4501," + cells + b",Monday\n")
        assert numbers(await enqueue(queue, path, options, skip_bad=True, rejects=first)) == (0, 0, 1)
        assert numbers(await enqueue(queue, first, options, skip_bad=True, rejects=second)) == (0, 0, 1)
        assert rows_in(first)[1][1:] == rows_in(second)[1][1:]
    assert await jobs(queue) == []


async def test_mended_rejects_are_enqueued_again(queue: CallQueue, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    await enqueue(queue, file_of(tmp_path, HEADER + GOOD + BAD), skip_bad=True, rejects=rejects)
    options = replace(OPTIONS, batch_id="visits")
    assert numbers(await enqueue(queue, rejects, options, skip_bad=True, rejects=rejects)) == (0, 0, 2)
    assert list(tmp_path.glob("*.part")) == []  # noqa: ASYNC240 (a test may wait for a disk)
    assert [len(row) for row in rows_in(rejects)] == [3, 3, 3], "one reason, not two"
    mended = rejects.read_text().replace("none,", "+6587654323,").replace("+6587654324,", '+6587654324,"Lim, Dan"')
    rejects.write_text(mended)
    assert numbers(await enqueue(queue, rejects, options, skip_bad=True, rejects=rejects)) == (2, 0, 0)
    assert rejects.read_text() == mended, "no row was bad, so there was nothing to write"
    assert {job.batch_id for job in await jobs(queue)} == {"visits"}
    assert sum("Hello Lim, Dan." in job.body for job in await jobs(queue)) == 1


async def test_rejects_never_replace_a_file_that_holds_good_rows(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, HEADER + GOOD + BAD)
    with pytest.raises(CampaignFileError, match="name another file"):
        await enqueue(queue, path, skip_bad=True, rejects=path)
    assert path.read_text() == HEADER + GOOD + BAD
    assert await jobs(queue) == []


async def test_rejects_of_json_lines_are_json_lines_with_a_reason(queue: CallQueue, tmp_path: Path) -> None:
    rejects, again = tmp_path / "rejects.jsonl", tmp_path / "again.jsonl"
    bad = {"destination": "none", "name": "Ana", "extra": None}
    lines = json.dumps(bad).encode() + b'\n{"destination": \n[]\n'
    assert (await enqueue(queue, file_of(tmp_path, lines, "v.jsonl"), skip_bad=True, rejects=rejects)).rejected == 3
    first, broken, nul = rejects.read_text().splitlines()
    reason = json.loads(first).pop("reason")
    assert {**bad, "reason": reason} == json.loads(first)
    assert json.loads(broken)["reason"].startswith("the line is not JSON")
    assert json.loads(broken)["line"] == '{"destination":'
    assert numbers(await enqueue(queue, rejects, skip_bad=True, rejects=again)) == (0, 0, 3)
    assert json.loads(again.read_text().splitlines()[-1])["line"] == json.loads(nul)["line"] == "[]"
    assert await jobs(queue) == []
    rejects.write_text(first.replace('"none"', '"+6587654321"'))
    assert numbers(await enqueue(queue, rejects)) == (1, 0, 0)


async def test_a_run_that_fails_stores_nothing_and_leaves_earlier_rejects_alone(
    queue: CallQueue, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    rejects.write_text("of yesterday")
    content = (HEADER + BAD).encode() + b"+6587654321,Ana\n" * 1000 + b"x" * 1_100_000
    with pytest.raises(CampaignFileError, match="has more than"):
        await enqueue(queue, file_of(tmp_path, content), skip_bad=True, rejects=rejects)
    assert rejects.read_text() == "of yesterday"
    assert await jobs(queue) == []


DATA: Mapping[str, Mapping[str, object]] = {
    "Table No,priority\n+6587654321,Ana,4,3": {"table_no": "4"}, "Table No\n+6587654321,Ana,": {"table_no": ""},
    '{"destination": "+6587654321", "name": "Ana", "age": 7, "vip": true, "none": null}':
        {"age": 7, "vip": True, "none": None},
}  # fmt: skip


async def test_the_columns_that_are_not_reserved_stay_with_the_job_beside_the_data_of_the_options(
    queue: CallQueue, tmp_path: Path
) -> None:
    for place, (content, data) in enumerate(DATA.items()):
        is_json, options = content.startswith("{"), replace(OPTIONS, data={"run": "monday"}, batch_id=f"b{place}")
        name = "visits.jsonl" if is_json else "visits.csv"
        path = file_of(tmp_path, content if is_json else f"destination,name,{content}\n", name)
        await enqueue(queue, path, options, again=frozenset({"elsewhere"}))
        (job,) = await queue.find(batch_id=f"b{place}")
        assert job.data == {"name": "Ana", **data, "run": "monday"}


async def test_a_row_with_more_data_than_a_job_carries_is_named(queue: CallQueue, tmp_path: Path) -> None:
    report = await enqueue(queue, file_of(tmp_path, f"destination,name,note\n+6587654321,Ana,{'x' * 9000}\n"))
    assert numbers(report) == (0, 0, 1)
    assert "at most 8192 are allowed" in next(found.message for found in report.findings if found.is_error)


async def test_a_row_with_half_a_surrogate_pair_is_bad_and_the_others_are_enqueued(
    queue: CallQueue, tmp_path: Path
) -> None:
    rows = [{"destination": f"+658765432{place}", "name": "Ana", "note": "x"} for place in range(1, 6)]
    for row, column in zip(rows[1:4], ("unique_key", "batch_id", "name"), strict=True):
        row[column] = "a\ud800b"
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    report = await enqueue(queue, file_of(tmp_path, content, "calls.jsonl"), skip_bad=True)
    assert numbers(report) == (2, 0, 3)
    errors = [found for found in report.findings if found.is_error]
    assert [found.row for found in errors] == [2, 3, 4]
    assert all("surrogate" in found.message for found in errors)
    assert [job.destination for job in await jobs(queue)] == ["+6587654321", "+6587654325"]


class People:
    """Rows that only the thread which made them may read, as the cursor of a database."""

    def __init__(self, rows: list[dict[str, object]]) -> None:
        self._rows = iter(rows)
        self._thread = threading.get_ident()

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self

    def __next__(self) -> dict[str, object]:
        assert threading.get_ident() == self._thread
        return next(self._rows)


@pytest.mark.usefixtures("small_chunks")
async def test_rows_of_a_program_become_the_calls_of_the_same_rows_in_a_file(queue: CallQueue, tmp_path: Path) -> None:
    say = FlowTemplate.speaking("Hello {{name}}, {{visits}} visits, {{paid|money('SGD')}} on {{day|date}}.")
    options = replace(OPTIONS, template=say, batch_id="visits", country="SG")
    begins = datetime(2026, 3, 5, 9, tzinfo=timezone(timedelta(hours=8)))
    ana = {"name": "Ana", "paid": Decimal("12.50"), "day": date(2026, 3, 9), "not_before": begins, "time_zone": None}
    # A data frame makes a column with gaps a column of floats.
    people = People([{**ana, "destination": 81230000.0 + 3 * n, "visits": n} for n in range(250)])
    report = await enqueue_rows(queue, people, options)
    assert (numbers(report), report.findings) == ((250, 0, 0), ())
    lines = "".join(f"{81230000 + 3 * n},Ana,{n},12.50,2026-03-09,2026-03-05 09:00+08:00\n" for n in range(250))
    path = file_of(tmp_path, "destination,name,visits,paid,day,not_before\n" + lines)
    assert numbers(await enqueue(queue, path, options)) == (0, 250, 0)


async def test_rows_of_a_program_have_the_findings_of_a_file_and_no_rows_call_nobody(queue: CallQueue) -> None:
    options = replace(OPTIONS, batch_id="visits")
    rows: list[Any] = [{"destination": "none", "name": "Cleo"}, "+6587654321", {"destination": "+6587654321"}]
    report = await enqueue_rows(queue, rows, options)
    assert (numbers(report), report.refused) == ((0, 0, 3), True)
    assert [(found.file, found.row, found.column, found.code) for found in report.findings] == [
        (None, 1, "destination", -1017), (None, 2, None, -1013), (None, 3, "name", -1009),
    ]  # fmt: skip
    assert numbers(await enqueue_rows(queue, [], options)) == (0, 0, 0)
    with pytest.raises(InvalidInputError, match="Name the `batch`"):
        await enqueue_rows(queue, [], OPTIONS)


@pytest.mark.parametrize("delimiter", [",", ";"])
async def test_rejects_open_in_excel_and_are_read_back(queue: CallQueue, tmp_path: Path, delimiter: str) -> None:
    path = file_of(tmp_path, f"destination{delimiter}name\n12{delimiter}Zoë Łukasz\n")
    rejects = tmp_path / "rejects.csv"
    await enqueue(queue, path, skip_bad=True, rejects=rejects)
    assert rejects.read_bytes()[:3] == b"\xef\xbb\xbf", "Excel knows the encoding by this mark"
    rejects.write_text(rejects.read_text("utf-8").replace("12", "+6587654321"), "utf-8")
    assert (await enqueue(queue, rejects, replace(OPTIONS, batch_id="visits"))).enqueued == 1
    (call,) = await queue.find()
    assert "Zoë Łukasz" in call.body


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def written(folder: Path, store: Store, form: str) -> int:
    files: dict[str, Any] = {form: folder / "out"}
    return await write_report_files(ReportFiles(**files), store, "default", None)


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_a_folder_that_is_not_there_is_reported_by_the_name_given(tmp_path: Path, form: str) -> None:
    async with open_store("memory://") as store:
        with pytest.raises(OSError, match="no/such/out"):
            await written(tmp_path / "no/such", store, form)
