"""The data that a user stores with a job: a flat object of JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.storable import checked_text

LONGEST = 8192
"""The largest size of a job's data, in bytes of JSON. The limit is low, because every move of the job transfers it."""


_PLAIN = (str, int, float)


def checked_data(data: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The data as stored; None if there is none. Raises InvalidInputError for data that cannot be stored."""
    if not data:
        return None
    for name, value in data.items():
        if value is not None and not isinstance(value, _PLAIN):
            raise InvalidInputError(
                f"data[{name!r}] is {type(value).__name__}: values are texts, numbers, true, false or null; "
                "write anything else as text"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"data[{name!r}] is {value}, which JSON cannot hold")
    try:
        size = len(orjson.dumps(data))
    except (TypeError, ValueError) as error:
        for name, value in data.items():
            for text in (name, value):
                if isinstance(text, str):
                    checked_text(f"data[{name!r}]", text)
        raise InvalidInputError(
            f"data cannot be written as JSON ({error}); use strings as names, and whole numbers of at most 64 bits"
        ) from error
    if size > LONGEST:
        raise InvalidInputError(
            f"data has {size} bytes as JSON, but at most {LONGEST} are allowed; keep the rest in your own system"
        )
    return dict(data)
