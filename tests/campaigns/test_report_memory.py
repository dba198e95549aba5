"""The memory of a report does not grow with its calls."""

from __future__ import annotations

import tracemalloc
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.campaigns.reading import NOW
from tests.campaigns.test_report import job
from voiceflow_worker.campaigns.report_files import LineSpool, write_csv_report, write_xlsx_report

CALLS = [job(place, data={"name": f"Person {place}", "note": "as long as notes are"}) for place in range(200)]


def peak(folder: Path, *, packs: int) -> int:
    """The most memory that was in use, in bytes."""
    tracemalloc.start()
    try:
        with TemporaryFile() as held:
            spool = LineSpool(held)
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
