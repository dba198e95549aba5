from __future__ import annotations

from voiceflow_worker.core.ports.seldom import Seldom


def test_what_repeats_is_told_once_a_second_and_counted() -> None:
    now = [100.0]
    seldom = Seldom(monotonic=lambda: now[0])
    assert [seldom.untold("a"), seldom.untold("a"), seldom.untold("b"), seldom.untold("a")] == [0, None, 0, None]
    now[0] += 0.9
    assert seldom.untold("a") is None
    now[0] += 0.2
    assert [seldom.untold("a"), seldom.untold("a"), seldom.untold("b")] == [3, None, 0]


def test_kinds_are_forgotten_before_they_fill_the_memory() -> None:
    seldom = Seldom(monotonic=lambda: 0.0)
    assert all(seldom.untold(kind) == 0 for kind in range(5000))
    assert len(seldom._told) <= 1000
