"""What a job carries of its caller's own: a flat object of JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

from voiceflow_worker.errors import InvalidInputError

LONGEST = 8192
"""Bytes of JSON: every trip of a job to its store carries them."""


def checked_data(data: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The data as it is stored, None for nothing. Raises InvalidInputError, naming the field, for what is no JSON."""
    if not data:
        return None
    for name, value in data.items():
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidInputError(
                f"data[{name!r}] is {type(value).__name__}: values are texts, numbers, true, false or null; "
                "write anything else as text"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"data[{name!r}] is {value}, which JSON cannot hold")
    try:
        size = len(orjson.dumps(data))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"data cannot be written as JSON ({error}); its names are texts") from error
    if size > LONGEST:
        raise InvalidInputError(
            f"data has {size} bytes as JSON; {LONGEST} is the most, keep the rest in your own system"
        )
    return dict(data)
