"""Reports appear under their name when they are whole, and an interrupted one leaves what was there."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store
from voiceflow_worker.campaigns.reports import report_csv
from voiceflow_worker.campaigns.reports.report_csv import write_csv_report
from voiceflow_worker.campaigns.reports.report_line import report_line

pytestmark = pytest.mark.anyio


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_an_interrupted_report_leaves_the_file_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    path.write_text("the report of yesterday")
    async with open_store("memory://") as store:
        engine = Engine(store, ScriptedVoice())
        for place in range(3):
            await engine.enqueue(number(place))
        with anyio.CancelScope() as scope:

            def interrupted(job: object) -> object:
                scope.cancel()
                return report_line(job)  # type: ignore[arg-type]

            monkeypatch.setattr(report_csv, "report_line", interrupted)
            await write_csv_report(path, store, "default", None)
        assert scope.cancelled_caught
        assert names_in(tmp_path) == ["out.csv"]
        assert path.read_text() == "the report of yesterday"
        monkeypatch.undo()
        assert await write_csv_report(path, store, "default", None) == 3
        assert len(path.read_text().splitlines()) == 4
        assert names_in(tmp_path) == ["out.csv"]


async def test_a_folder_that_is_not_there_is_reported_by_the_name_given(tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        with pytest.raises(OSError, match=r"no/such/out\.csv"):
            await write_csv_report(tmp_path / "no/such/out.csv", store, "default", None)
