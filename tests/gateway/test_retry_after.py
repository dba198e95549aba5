"""Retry-After in both of its forms, and the Date of an answer (RFC 9110 §10.2.3, §6.6.1, §5.6.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.gateway.verdict import LONGEST_WAIT, read_date, read_retry_after

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
DATE = "Fri, 20 Nov 2026 09:00:00 GMT"  # an hour off `NOW`: one of the two clocks is wrong


def wait(*values: str, date: str | None = None) -> timedelta | None:
    headers = [("Retry-After", value) for value in values] + ([] if date is None else [("Date", date)])
    return read_retry_after(httpx.Headers(headers).raw, now=NOW)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("120", 120), (" 7 ", 7), ("1.5", 1.5), ("007", 7)])
def test_seconds(text: str, seconds: float) -> None:
    assert wait(text, date=DATE) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 20 Nov 2026 09:00:30 GMT",
        "Friday, 20-Nov-26 09:00:30 GMT",
        "Fri Nov 20 09:00:30 2026",
    ],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_a_date_counts_from_the_answers_own(text: str) -> None:
    assert wait(text, date=DATE) == timedelta(seconds=30)


def test_a_date_counts_from_now_when_the_answer_has_none_that_can_be_read() -> None:
    assert wait("Fri, 20 Nov 2026 08:00:30 GMT") == timedelta(seconds=30)
    assert wait("Fri, 20 Nov 2026 08:00:30 GMT", date="yesterday") == timedelta(seconds=30)


@pytest.mark.parametrize("text", ["86400000", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "3601"])
def test_an_absurd_wait_is_an_hour(text: str) -> None:
    assert wait(text, date=DATE) == LONGEST_WAIT == timedelta(hours=1)


def test_what_names_no_time_ahead_means_no_wait() -> None:
    for text in [
        *("", "0", "0.0", "-5", "soon", "1e3", "inf", "nan", "١٢", "1 2"),
        *(DATE, "Fri, 99 Nov 2026 09:00:30 GMT", "Fri, 20 Nov 2026 08:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"),
    ]:
        headers = [(b"Retry-After", text.encode()), (b"Date", DATE.encode())]
        assert read_retry_after(headers, now=NOW) is None


@given(st.binary(max_size=60))
def test_no_header_is_too_odd(raw: bytes) -> None:
    headers = [(b"Retry-After", raw), (b"Date", raw)]
    found = read_retry_after(headers, now=NOW)
    assert found is None or timedelta(0) < found <= LONGEST_WAIT
    date = read_date(headers)
    assert date is None or date.tzinfo is UTC


@pytest.mark.parametrize("dates", [[], ["then"], [DATE, DATE]])
def test_a_date_that_is_missing_unreadable_or_double_is_none(dates: list[str]) -> None:
    assert read_date([(b"Date", date.encode()) for date in dates]) is None
