from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from voiceflow_worker.cli.checks.account import judged_clock
from voiceflow_worker.cli.checks.context import Level

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALLOWED = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("off", "level", "message"),
    [
        # 8x8's header cuts its second off: what lies within it, and within the request, is no difference.
        (0.0, Level.OK, "this clock agrees with the clock of 8x8"),
        (0.9, Level.OK, "this clock agrees with the clock of 8x8"),
        (-0.4, Level.OK, "this clock agrees with the clock of 8x8"),
        (5.0, Level.OK, "this clock is 4s ahead of the clock of 8x8, within"),
        (-5.0, Level.OK, "this clock is 5s behind the clock of 8x8, within"),
        (95.0, Level.FAILURE, "this clock is 94s ahead of the clock of 8x8, but VOICEFLOW_CLOCK_SKEW allows only 10s"),
        (-95.0, Level.FAILURE, "this clock is 95s behind the clock of 8x8, but VOICEFLOW_CLOCK_SKEW allows only 10s"),
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
