from __future__ import annotations

import io

import pytest
from rich.console import Console

from voiceflow_worker.cli.output import Output

JOB = "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"


def test_an_id_stands_on_one_line_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()

    def narrow(_: Output) -> Console:
        return Console(file=stream, width=80)

    monkeypatch.setattr(Output, "_console", narrow)
    Output().table(
        ("id", "state", "destination", "batch", "#attempts", "outcome", "reason"),
        [(JOB, "queued", "+6587654321", "a-batch-with-a-name", 0, "", "its number is busy with another call")],
    )
    assert JOB in stream.getvalue()
