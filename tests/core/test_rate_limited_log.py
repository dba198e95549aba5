from __future__ import annotations

from voiceflow_worker.core.ports.rate_limited_log import RateLimitedLog


def test_what_repeats_is_told_once_a_second_and_counted() -> None:
    now = [100.0]
    seldom = RateLimitedLog(monotonic=lambda: now[0])
    assert [seldom.admit("a"), seldom.admit("a"), seldom.admit("b"), seldom.admit("a")] == [0, None, 0, None]
    now[0] += 0.9
    assert seldom.admit("a") is None
    now[0] += 0.2
    assert [seldom.admit("a"), seldom.admit("a"), seldom.admit("b")] == [3, None, 0]


def test_kinds_are_forgotten_before_they_fill_the_memory() -> None:
    seldom = RateLimitedLog(monotonic=lambda: 0.0)
    assert all(seldom.admit(kind) == 0 for kind in range(5000))
    assert len(seldom._told) <= 1000
