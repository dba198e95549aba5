from __future__ import annotations

from voiceflow_worker.cli.checks.queue import in_words
from voiceflow_worker.core.ports import Limits


def test_limits_are_reported_in_words() -> None:
    assert in_words(Limits(rate=0.5, burst=3, max_active=20)) == "rate 0.5 calls/s, burst 3, max active 20"
    assert in_words(Limits()) == "rate unlimited, burst 1, max active unlimited"
