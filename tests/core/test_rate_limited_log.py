from __future__ import annotations

from voiceflow_worker.core.ports.retrying import RateLimitedLog


def test_what_repeats_is_reported_once_a_second_and_counted() -> None:
    now = [100.0]
    limited = RateLimitedLog(monotonic=lambda: now[0])
    assert [limited.admit("a"), limited.admit("a"), limited.admit("b"), limited.admit("a")] == [0, None, 0, None]
    now[0] += 0.9
    assert limited.admit("a") is None
    now[0] += 0.2
    assert [limited.admit("a"), limited.admit("a"), limited.admit("b")] == [3, None, 0]
