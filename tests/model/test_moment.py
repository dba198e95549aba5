from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from voiceflow_worker.errors import TooEarlyError
from voiceflow_worker.model.text.moment import in_words

AT = datetime(2026, 11, 20, 9, 0, 0, 250_000, tzinfo=UTC)


def test_people_read_times_in_utc_to_the_second() -> None:
    assert in_words(AT) == "2026-11-20 09:00:00 UTC"
    assert in_words(AT.astimezone(timezone(timedelta(hours=8)))) == "2026-11-20 09:00:00 UTC"


def test_what_must_have_passed_is_rounded_up() -> None:
    told = str(TooEarlyError("default.1", state="in_doubt", until=AT))
    assert "until 2026-11-20 09:00:01 UTC; try again after that" in told
    exact = str(TooEarlyError("default.1", state="in_doubt", until=AT.replace(microsecond=0)))
    assert "until 2026-11-20 09:00:00 UTC;" in exact
