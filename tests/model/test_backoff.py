"""Waits between tries: doubling, spread, and the same for the same job."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.jobs.policy import backoff

FIRST, LONGEST = timedelta(milliseconds=500), timedelta(seconds=10)

seeds = st.text(max_size=20)


@pytest.mark.parametrize(
    ("failures", "whole"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (7, 10), (1000, 10)]
)
@given(seed=seeds)
def test_the_wait_doubles_up_to_the_longest_and_is_spread_over_its_upper_half(
    failures: int, whole: float, seed: str
) -> None:
    wait = backoff(failures, first=FIRST, longest=LONGEST, seed=seed).total_seconds()
    assert whole / 2 <= wait < whole
