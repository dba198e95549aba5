"""Rows whose number is on the suppression list: left out, counted, told; no fault of the file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import NOW, OPTIONS, file_of
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.enqueue import EnqueueReport, Intake, enqueue_file
from voiceflow_worker.campaigns.files.number_file import read_number_file
from voiceflow_worker.core.suppression import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

pytestmark = pytest.mark.anyio

ROWS = "destination,name,not_before\n+6587654321,Ana,\n+6587654322,Ben,\n+6587654323,Cleo,2026-03-03T09:00:00Z\n"


@pytest.fixture
def listed(queue: CallQueue) -> SuppressionList:
    return SuppressionList(queue.store)


def counts(report: EnqueueReport) -> tuple[int, int, int, int, int]:
    return report.enqueued, report.duplicates, report.suppressed, report.rejected, report.valid


async def destinations(queue: CallQueue) -> list[str]:
    return [job.destination for job in await queue.find(limit=None)]


async def test_they_are_left_out_and_the_others_go(queue: CallQueue, listed: SuppressionList, tmp_path: Path) -> None:
    await listed.add("+6587654322", reason="asked by mail")
    dry = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW, dry_run=True)
    assert counts(dry) == (0, 0, 1, 0, 2)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert (counts(report), report.refused) == ((2, 0, 1, 0, 2), False)
    (found,) = report.findings
    assert (found.row, found.column, found.is_error) == (3, "destination", False)
    assert found.message.startswith("is not called: its number has been on the suppression list since 2026-03-02")
    assert "asked by mail" in found.message
    assert await destinations(queue) == ["+6587654321", "+6587654323"]


async def test_a_row_that_is_known_stays_known(queue: CallQueue, listed: SuppressionList, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue_file(queue, path, OPTIONS, now=NOW)
    await listed.add("+6587654322")
    assert counts(await enqueue_file(queue, path, OPTIONS, now=NOW)) == (0, 3, 0, 0, 0)


async def test_a_suppression_that_ends_before_the_row_is_due_does_not_count(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+6587654321", "+6587654323", until=NOW + timedelta(hours=12))
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert await destinations(queue) == ["+6587654322", "+6587654323"]


async def test_one_who_opts_out_while_the_file_is_read_is_left_out(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in = Intake.hand_in

    async def later(self: Intake, rows: object, *, dry_run: bool) -> object:
        await listed.add("+6587654321")
        return await hand_in(self, rows, dry_run=dry_run)  # type: ignore[arg-type]

    monkeypatch.setattr(Intake, "hand_in", later)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert [found.row for found in report.findings] == [2]


async def test_thousands_of_them_cost_a_read_for_each_chunk(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, clock: StillClock
) -> None:
    numbers = [f"+65{81000000 + place}" for place in range(2500)]
    await listed.add(*numbers[:2400])
    path = file_of(tmp_path, "destination,name\n" + "".join(f"{number},Ana\n" for number in numbers))
    report = await enqueue_file(queue, path, OPTIONS, now=clock.now())
    assert counts(report) == (100, 0, 2400, 0, 100)


class TestFilesOfNumbers:
    @pytest.mark.parametrize(
        "content",
        [
            "destination\n8765 4321\n+65 8765-4322\n",
            "Name;Phone Number\nAna;8765 4321\nBen;+65 8765-4322\n",
            "8765 4321\n\n+65 8765-4322\n8765-4321\n",
            "\ufeffmsisdn,note\r\n6587654321,x\r\n+6587654322,\r\n",
        ],
    )
    def test_a_column_or_a_plain_list_is_read(self, tmp_path: Path, content: str) -> None:
        found = read_number_file(file_of(tmp_path, content), country="SG")
        assert list(found.numbers) == ["+6587654321", "+6587654322"]
        assert found.findings == []

    def test_a_column_may_be_named(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "Phone,Old Phone\n+6587654321,+6587654322\n")
        assert list(read_number_file(path, column="old phone").numbers) == ["+6587654322"]
        with pytest.raises(CampaignFileError, match="has no column 'fax'; columns found: Phone, Old Phone"):
            read_number_file(path, column="fax")

    def test_every_line_without_a_number_is_reported(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone,name\n+6587654321,Ana\nnone,Ben\n,Cleo\n+6587654322\n"))
        assert [(each.row, each.code) for each in found.findings] == [(3, -1017), (4, -1017), (5, None)]
        assert (found.rows, list(found.numbers)) == (4, ["+6587654321"])

    @pytest.mark.parametrize("content", ["", "\n\n", "name,colour\nAna,red\n"])
    def test_a_file_without_numbers_is_refused(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(CampaignFileError):
            read_number_file(file_of(tmp_path, content))

    def test_a_country_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="is not the code of a country"):
            read_number_file(file_of(tmp_path, "+6587654321\n"), country="XX")
