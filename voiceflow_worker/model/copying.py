"""Copies of frozen dataclasses with some fields changed: `dataclasses.replace` at a tenth of its cost.

A call is copied some eight times on its way, and a job has thirty fields. `dataclasses.replace` reads each by name and
sets each by name: 8 µs a copy, a tenth of all the work of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace  # its checkers know the fields
else:
    from dataclasses import fields
    from functools import cache

    def replace(record: Any, /, **changes: Any) -> Any:
        """A copy of a record with these fields changed. Raises TypeError for a field that it does not have.

        The class is a frozen dataclass with slots, and without a `__post_init__`.
        """
        copied, setters = _made_for(type(record))
        copy = copied(record)
        try:
            for name, value in changes.items():
                setters[name](copy, value)
        except KeyError as error:
            raise TypeError(f"{type(record).__name__} has no field {error}") from None
        return copy

    @cache
    def _made_for(kind: type) -> tuple[Any, dict[str, Any]]:
        """A function that copies a record of this class, and the setters of its slots."""
        if hasattr(kind, "__post_init__"):
            raise TypeError(f"{kind.__name__} checks its fields: use dataclasses.replace")
        setters = {field.name: getattr(kind, field.name).__set__ for field in fields(kind)}
        steps = "; ".join(f"set_{name}(copy, record.{name})" for name in setters)
        made: dict[str, Any] = {"new": object.__new__, "kind": kind} | {
            f"set_{name}": setter for name, setter in setters.items()
        }
        # Written out by the names of the fields, as dataclasses makes its own methods: a loop costs four times as much.
        exec(f"def copied(record):\n copy = new(kind)\n {steps}\n return copy", made)  # noqa: S102
        return made["copied"], setters


__all__ = ["replace"]
