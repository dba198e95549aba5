"""The path of a row of a file: one, and short enough to be read."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.campaigns.reading import OPTIONS, file_of
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import RowValues
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.campaigns.files.rows import RawRow

pytestmark = pytest.mark.anyio

MOST = 18
"""The most functions of campaigns that an ordinary row of a file passes through until its call is stored."""


def _has_row(value: object) -> bool:
    values: list[object] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    return bool(values) and isinstance(values[0], RawRow | RowValues | ReadRow)


async def test_a_row_passes_through_few_functions(store: Store, tmp_path: Path) -> None:
    passed: set[str] = set()

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_ours = "voiceflow_worker/campaigns/" in code.co_filename and code.co_name[0] != "<"
        if event == "return" and is_ours and any(map(_has_row, frame.f_locals.values())):
            passed.add(code.co_qualname)

    path = file_of(tmp_path, "destination,name\n" + "".join(f"+65876{each:05},Ana\n" for each in range(30)))
    before = sys.getprofile(), threading.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        report = await enqueue_file(CallQueue(store), path, OPTIONS)
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])
    assert report.enqueued == 30
    assert len(passed - {"ReadRow.is_bad"}) <= MOST, sorted(passed)
