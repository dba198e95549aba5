"""Dataclasses whose fields are declared with their readers and their names in the JSON of 8x8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from functools import lru_cache
from typing import Any, TypeVar, cast

from voiceflow_worker.model.reports.payload import Payload

T = TypeVar("T")
_READER, _IS_NEEDED = "reader", "is needed"


def read_field(
    reader: Callable[[Payload, str], T], name: str, *, within: str | None = None, default: T | None = None
) -> T:
    """A field that this reader takes from the value `name` of the payload, or of the object `within` it."""

    def read(payload: Payload) -> T:
        return reader(payload if within is None else payload.within(within), name)

    return cast("T", field(default=default, metadata={_READER: read}))


def needed_field(reader: Callable[[Payload, str], T | None], name: str) -> T:
    """The same for a field without which `entry_of` makes nothing."""

    def read(payload: Payload) -> T | None:
        return reader(payload, name)

    return cast("T", field(metadata={_READER: read, _IS_NEEDED: True}))


def read_fields(kind: Callable[..., object], payload: Payload) -> dict[str, Any]:
    """The declared fields of a dataclass, read from a payload."""
    return {name: reader(payload) for name, reader, _ in _declared(kind)}


def entry_of(kind: Callable[..., T], payload: Payload) -> T | None:
    """A dataclass with its fields read from a payload; None if a field that it needs is missing."""
    found = read_fields(kind, payload)
    lacks_one = any(is_needed and found[name] is None for name, _, is_needed in _declared(kind))
    return None if lacks_one else kind(**found)


@lru_cache
def _declared(kind: Any) -> tuple[tuple[str, Callable[[Payload], object], bool], ...]:
    return tuple(
        (each.name, each.metadata[_READER], _IS_NEEDED in each.metadata)
        for each in fields(kind)
        if _READER in each.metadata
    )
