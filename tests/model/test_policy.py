"""The policy of a queue: durations that no calendar holds are refused before a call is made by them."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from itertools import product

import pytest

from voiceflow_worker import CallPolicy, InvalidInputError

DURATIONS = [field.name for field in fields(CallPolicy) if isinstance(field.default, timedelta)]


def test_a_duration_below_zero_or_above_100_years_is_refused() -> None:
    for name, duration in product(DURATIONS, [timedelta.max, timedelta(days=36_501), -timedelta(microseconds=1)]):
        with pytest.raises(InvalidInputError, match=rf"{name} is .*; give a duration from 0 to 36500 days"):
            CallPolicy(**{name: duration})  # type: ignore[arg-type]
