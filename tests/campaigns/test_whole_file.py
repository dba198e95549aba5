"""Reports appear under their name when they are whole, and an interrupted one leaves what was there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Store, open_store
from voiceflow_worker.campaigns.report_files import LineSpool, ReportFiles, ReportLine, write_report_files
from voiceflow_worker.types import Report

pytestmark = pytest.mark.anyio


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def written(folder: Path, store: Store, form: str) -> list[Report]:
    files: dict[str, Any] = {form: folder / "out"}
    return await write_report_files(ReportFiles(**files), store, "default", [None])


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_an_interrupted_report_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = tmp_path / "out"
    path.write_text("the report of yesterday")
    async with open_store("memory://") as store:
        engine = Engine(store, ScriptedVoice())
        for place in range(3):
            await engine.enqueue(number(place))
        with anyio.CancelScope() as scope:
            packs = LineSpool.packs

            def interrupted(spool: LineSpool) -> Iterator[list[ReportLine]]:
                for pack in packs(spool):
                    assert path.read_text() == "the report of yesterday"
                    anyio.from_thread.run_sync(scope.cancel)
                    yield pack

            monkeypatch.setattr(LineSpool, "packs", interrupted)
            await written(tmp_path, store, form)
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert names_in(tmp_path) == ["out"]
        assert path.read_text() == "the report of yesterday"
        monkeypatch.undo()
        assert [report.total for report in await written(tmp_path, store, form)] == [3]
        assert b"yesterday" not in path.read_bytes()
        assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_a_folder_that_is_not_there_is_reported_by_the_name_given(tmp_path: Path, form: str) -> None:
    async with open_store("memory://") as store:
        with pytest.raises(OSError, match="no/such/out"):
            await written(tmp_path / "no/such", store, form)
