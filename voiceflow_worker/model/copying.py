"""A copy of an immutable value with some fields changed: `copy.replace` of Python 3.13, for structs and dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace  # type checkers know the fields of its result
else:
    import dataclasses

    from msgspec import Struct, structs

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a value with some fields changed. Raises TypeError for an unknown field name."""
        copy = structs.replace if isinstance(value, Struct) else dataclasses.replace
        return copy(value, **changes)


__all__ = ["replace"]
