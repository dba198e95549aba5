"""Data that a caller may store with a job."""

from __future__ import annotations

from typing import Any

import pytest

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import LONGEST, checked_data


def test_flat_json_is_kept_as_it_is() -> None:
    data = {"name": "Ana", "table": 4, "share": 0.5, "vip": True, "note": None}
    assert checked_data(data) == data


def test_what_no_store_keeps_is_named() -> None:
    data: Any
    for data, told in [
        ({"items": ["a"]}, "data\\['items'\\] is list"),
        ({1: "a"}, "use strings as names"),
        ({"share": float("nan")}, "data\\['share'\\] is nan"),
        ({"text": "x" * LONGEST}, "bytes as JSON"),
        ({"huge": 2**70}, "cannot be written as JSON"),
        ({"half": "\ud800"}, "has half a surrogate pair"),
        ({"nul": "a\0"}, "data\\['nul'\\] has a NUL character"),
    ]:
        with pytest.raises(InvalidInputError, match=told):
            checked_data(data)
