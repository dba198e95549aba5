from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.text.wording import read_duration, write_duration


def test_a_duration_is_written_as_people_write_it() -> None:
    for text in ["30d", "400d", "2h", "30m", "120s", "60s", "10s", "500ms", "1500ms", "0s", "90s", "36h"]:
        assert write_duration(read_duration(text)) == text
    assert [read_duration(text) for text in ("1.5h", " 2 H ")] == [timedelta(minutes=90), timedelta(hours=2)]


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000)))
def test_what_is_written_is_read_as_the_same(duration: timedelta) -> None:
    text = write_duration(duration)
    assert "e" not in text
    assert abs(read_duration(text) - duration) <= timedelta(microseconds=1)


@pytest.mark.parametrize("number", ["1", "30", "1.5", "3600", " 30 "])
def test_a_number_needs_a_unit_except_in_timeouts(number: str) -> None:
    with pytest.raises(ValueError, match=f"no unit; write {number.strip()}m for minutes, or {number.strip()}s"):
        read_duration(number)
    assert read_duration(number, in_seconds=True) == timedelta(seconds=float(number))
    assert read_duration("0") == timedelta()


def test_anything_else_is_not_a_duration() -> None:
    for text in ["", "soon", "-1s", "1w", "2 weeks", "1h30m", "nan", "1e3s", "999999999999d", "36501d"]:
        with pytest.raises(ValueError, match="give"):
            read_duration(text)
