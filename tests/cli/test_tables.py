from __future__ import annotations

import pytest

from voiceflow_worker.cli.output import Output

JOB = "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"


def test_an_id_stands_on_one_line_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("voiceflow_worker.cli.output.PIPED_WIDTH", 80)
    Output().table(
        ("id", "state", "destination", "batch", "#attempts", "outcome", "reason"),
        [(JOB, "queued", "+6587654321", "a-batch-with-a-name", 0, "", "its number is busy with another call")],
    )
    assert JOB in capsys.readouterr().out
