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

        The class is a frozen dataclass with slots, without a base and without a `__post_init__`.
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

        A draft has the same slots and can be changed; when its class is changed, it is a record. So a copy takes a
        quarter of the time that it takes to set the slots of a frozen record.
        """
        if hasattr(kind, "__post_init__"):
            raise TypeError(f"{kind.__name__} checks its fields: use dataclasses.replace")
        names = [field.name for field in fields(kind)]
        draft = type(f"{kind.__name__}Draft", (), {"__slots__": tuple(names)})
        draft().__class__ = kind  # raises TypeError for a class whose slots are not its fields
        steps = "; ".join(f"draft.{name} = record.{name}" for name in names)
        # Written out by the names of the fields, as dataclasses makes its own methods: a loop costs four times as much.
        exec(f"def copied(record):\n draft = new()\n {steps}\n return draft", made := {"new": draft})  # noqa: S102
        return made["copied"]


__all__ = ["replace"]
