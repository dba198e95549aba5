"""Copies of frozen dataclasses with some fields changed: `dataclasses.replace` at a tenth of its cost.

A job has thirty fields, and is copied about eight times for one call. `dataclasses.replace` reads and sets each field
by name. That takes 8 µs a copy, a tenth of all the work for a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace  # type checkers know the fields of its result
else:
    from dataclasses import fields
    from functools import cache

    def replace(record: Any, /, **changes: Any) -> Any:
        """A copy of a record with some fields changed. Raises TypeError for an unknown field name.

        The record is a frozen dataclass with slots, without a base class and without `__post_init__`.
        """
        kind = type(record)
        copy = _draft_of(kind)(record)
        try:
            for name, value in changes.items():
                setattr(copy, name, value)
        except AttributeError as error:
            raise TypeError(f"{kind.__name__} has no field {name!r}") from error
        copy.__class__ = kind
        return copy

    @cache
    def _draft_of(kind: type) -> Any:
        """A function that copies the fields of a record of this class to a draft.

        A draft has the same slots as a record and is not frozen. A change of its class makes it a record. This takes a
        quarter of the time that it takes to set the slots of a frozen record.
        """
        if hasattr(kind, "__post_init__"):
            raise TypeError(f"{kind.__name__} checks its fields: use dataclasses.replace")
        names = [field.name for field in fields(kind)]
        draft = type(f"{kind.__name__}Draft", (), {"__slots__": tuple(names)})
        draft().__class__ = kind  # raises TypeError for a class whose slots are not its fields
        steps = "; ".join(f"draft.{name} = record.{name}" for name in names)
        # The function is generated as source, as dataclasses generates methods: a loop over the fields takes four times
        # as long.
        exec(f"def copied(record):\n draft = new()\n {steps}\n return draft", made := {"new": draft})  # noqa: S102
        return made["copied"]


__all__ = ["replace"]
