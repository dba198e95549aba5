from __future__ import annotations

from datetime import timedelta

import pytest

from voiceflow_worker.cli.checks.queue import about, in_words
from voiceflow_worker.core.ports import Limits


@pytest.mark.parametrize(
    ("duration", "told"),
    [
        (timedelta(seconds=-1), "0 s"),
        (timedelta(seconds=90), "90 s"),
        (timedelta(minutes=75), "75 min"),
        (timedelta(hours=30), "30 h"),
        (timedelta(days=5), "5 days"),
    ],
)
def test_how_long_something_lasts_is_told_to_the_unit_that_matters(duration: timedelta, told: str) -> None:
    assert about(duration) == told


def test_limits_are_reported_in_words() -> None:
    assert in_words(Limits(rate=0.5, burst=3, max_active=20)) == "0.5 calls/s, 3 at once, at most 20 open"
    assert in_words(Limits()) == "any rate, 1 at once, any number open"
