from __future__ import annotations

from datetime import UTC, datetime

from voiceflow_worker.errors import TooEarlyError

AT = datetime(2026, 11, 20, 9, 0, 0, 250_000, tzinfo=UTC)


def test_what_must_have_passed_is_rounded_up() -> None:
    told = str(TooEarlyError("default.1", state="in_doubt", until=AT))
    assert "until 2026-11-20 09:00:01 UTC; try again after that" in told
    exact = str(TooEarlyError("default.1", state="in_doubt", until=AT.replace(microsecond=0)))
    assert "until 2026-11-20 09:00:00 UTC;" in exact
