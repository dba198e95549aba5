"""The doctor's checks by themselves: their errors and time limits, the clock, the disk, SQLite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from voiceflow_worker.finding import Diagnosis, Level
from voiceflow_worker.service.doctor import CannotLookError, carried_out, judged_clock

pytestmark = pytest.mark.anyio


async def found_by(error: Exception) -> tuple[Level, str, str | None]:
    async def look() -> Diagnosis:
        raise error

    line = await carried_out("store", look)
    assert line is not None
    assert line.check == "store"
    return line.level, line.message, line.remedy


async def test_a_check_that_breaks_is_a_failure_and_no_traceback() -> None:
    level, message, remedy = await found_by(ZeroDivisionError("by zero"))
    assert (level, message) == (Level.FAILURE, "this check itself failed: ZeroDivisionError: by zero")
    assert remedy is not None


async def test_a_check_that_cannot_look_says_what_to_see_to_first() -> None:
    assert await found_by(CannotLookError("credentials", "8x8 could not be asked")) == (
        Level.WARNING, "skipped: 8x8 could not be asked", "correct `credentials` first",
    )  # fmt: skip


async def test_a_check_has_its_time() -> None:
    line = await carried_out("store", anyio.sleep_forever, limit=timedelta(milliseconds=20))
    assert line is not None
    assert (line.level, line.message) == (Level.FAILURE, "no answer within 0.02 s")


NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALLOWED = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("off", "level", "message"),
    [
        # 8x8's header cuts its second off: what lies within it, and within the request, is no difference.
        (0.9, Level.OK, "this clock agrees with the clock of 8x8"),
        (-0.4, Level.OK, "this clock agrees with the clock of 8x8"),
        (-5.0, Level.OK, "this clock is 5 s behind the clock of 8x8, within"),
        (
            95.0,
            Level.FAILURE,
            "this clock is 1 min 34 s ahead of the clock of 8x8, but VOICEFLOW_CLOCK_SKEW allows only 10s",
        ),
    ],
)
def test_the_clock_is_judged_by_what_a_header_can_tell(off: float, level: Level, message: str) -> None:
    before = NOON + timedelta(seconds=off)
    found = judged_clock(before, before + timedelta(milliseconds=100), NOON, allowed=ALLOWED)
    assert found.level is level
    assert found.message.startswith(message)


def test_a_slow_answer_is_not_a_difference_of_clocks() -> None:
    assert (
        judged_clock(NOON - timedelta(seconds=9), NOON, NOON - timedelta(seconds=4), allowed=ALLOWED).level is Level.OK
    )
