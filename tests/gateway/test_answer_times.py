"""The times that recent answers have taken, and the sessions they named."""

from __future__ import annotations

from voiceflow_worker.gateway.transports import LATE, REMEMBERED, SHORTEST, AnswerTimes, RecentSessions

DAY = 86400.0


def test_it_is_twice_the_slowest_and_no_longer_than_an_answer_is_waited_for() -> None:
    times = AnswerTimes()
    for seconds in (0.2, 3.0, 0.7):
        times.add(seconds, at=DAY)
    assert times.long_enough(at=DAY, at_most=30.0) == 6.0
    assert times.long_enough(at=DAY, at_most=5.0) == 5.0
    times.add(0.1, at=DAY)
    assert times.long_enough(at=DAY, at_most=0.5) == SHORTEST


def test_a_slow_answer_counts_for_a_while_and_not_for_ever() -> None:
    times = AnswerTimes()
    times.add(3.0, at=DAY)
    assert times.long_enough(at=DAY + LATE, at_most=30.0) == 6.0
    times.add(1.0, at=DAY + LATE)
    assert times.long_enough(at=DAY + 1.9 * LATE, at_most=30.0) == 6.0
    assert times.long_enough(at=DAY + 2 * LATE, at_most=30.0) == 2.0
    assert times.long_enough(at=DAY + 10 * LATE, at_most=30.0) == SHORTEST


def test_only_the_latest_sessions_are_remembered() -> None:
    sessions = RecentSessions()
    for place in range(REMEMBERED + 1):
        assert not sessions.seen_before(f"s-{place}")
    assert sessions.seen_before("s-1")
    assert not sessions.seen_before("s-0")
