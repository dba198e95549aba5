"""Faster ways to copy a frozen dataclass with some fields changed, and to convert it from and to a dict.

A job has thirty fields, and is copied about eight times for one call. `dataclasses.replace` reads and sets each field
by name. That takes 8 µs a copy, a tenth of all the work for a call. With `__init__`, it took 20 µs to make a job from
its stored form, which was half of the time of a report. So this module generates a function for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import replace  # type checkers know the fields of its result
else:

    def replace(record: Any, /, **changes: Any) -> Any:
        """A copy of a record with some fields changed. Raises TypeError for an unknown field name.

        The record is a frozen dataclass with slots, without a base class and without `__post_init__`.
        """
        kind = type(record)
        copy = _copier_of(kind)(record)
        try:
            for name, value in changes.items():
                setattr(copy, name, value)
        except AttributeError as error:
            raise TypeError(f"{kind.__name__} has no field {name!r}") from error
        copy.__class__ = kind
        return copy


Data = TypeVar("Data")
Readers = Mapping[str, Callable[[Any], Any]]
"""Functions by the name of a field: each makes the value of the field from a JSON value. Fields without a function keep
their JSON values."""


def maker(
    kind: type[Data],
    readers: Readers,
    *,
    given: Sequence[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
    check: Callable[[Mapping[str, Any]], object] = bool,
) -> Callable[..., Data]:
    """A function that makes a record of this class from a dict of its fields, as `kind(**fields)` does.

    The function passes fields through their `readers`, and does not change the dict. `given` are fields that are not in
    the dict: the function takes their values, in this order, as its second argument. `defaults` are used for missing
    fields before the defaults of the class. `check` may raise an error for a dict that the class refuses.
    """

    def plainly(values: Mapping[str, Any], others: Sequence[Any] = ()) -> Data:
        check(values)
        values = {**values, **dict(zip(given, others, strict=True))}
        return kind(**{**defaults, **{name: readers.get(name, _same)(value) for name, value in values.items()}})

    shape: Any = kind
    names: dict[str, Any] = {"new": _draft_of(shape), "kind": kind, "plainly": plainly}
    needed, steps = 0, [f"{', '.join(given)}, = others"] if given else []
    for field in fields(shape):
        name, default = field.name, defaults.get(field.name, field.default)
        reader = readers.get(name)
        if isinstance(reader, type) and issubclass(reader, Enum):
            reader = {each.value: each for each in reader}.__getitem__  # a fifth of the time of the enum
        names |= {f"read_{name}": reader, f"default_{name}": default}
        is_given, form = name in given, "{}" if reader is None else f"read_{name}({{}})"
        if is_given or default is MISSING:
            steps.append(f"draft.{name} = {form.format(name if is_given else f'values[{name!r}]')}")
            needed += not is_given
        else:
            step = f"draft.{name} = {form.format(f'values[{name!r}]')}; known += 1"
            steps += [f"if {name!r} in values: {step}", f"else: draft.{name} = default_{name}"]
    # Generated as in `_copier_of`. If this code cannot make a record, `plainly` does, or raises the error of the class.
    body = "\n  ".join(["draft = new()", f"known = {needed}", *steps])
    exec(  # noqa: S102
        f"def made(values, others=()):\n try:\n  {body}\n  if known == len(values):\n   draft.__class__ = kind\n"
        "   return draft\n except Exception:\n  pass\n return plainly(values, others)",
        names,
    )
    made: Callable[..., Data] = names["made"]
    return made


def writer(kind: type[Any], names: Collection[str] = ()) -> Callable[[Any], dict[str, Any]]:
    """A function that makes a dict of a record's fields: those in `names`, or all. Default values are left out."""
    defaults = {field.name: field.default for field in fields(kind)}
    steps: list[str] = []
    for name in names or defaults:
        if defaults[name] is MISSING:
            steps.append(f"values[{name!r}] = record.{name}")
        else:
            other = "" if defaults[name] is None else f" and value != default_{name}"
            steps.append(f"if (value := record.{name}) is not default_{name}{other}: values[{name!r}] = value")
    made: dict[str, Any] = {f"default_{name}": default for name, default in defaults.items()}
    body = "\n ".join(["values = {}", *steps, "return values"])
    exec(f"def written(record):\n {body}", made)  # noqa: S102
    written: Callable[[Any], dict[str, Any]] = made["written"]
    return written


def _same(value: Any) -> Any:
    return value


@cache
def _draft_of(kind: Any) -> Any:
    """The class of drafts for records of this class.

    A draft has the same slots as a record and is not frozen. When all fields are set, the class of the draft is changed
    to that of the record. Setting the slots of a frozen record takes four times as long.
    """
    if hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} has a __post_init__, which would be skipped: use dataclasses.replace")
    draft: Any = type(f"{kind.__name__}Draft", (), {"__slots__": tuple(field.name for field in fields(kind))})
    draft().__class__ = kind  # raises TypeError for a class whose slots are not its fields
    return draft


@cache
def _copier_of(kind: type) -> Any:
    """A function that copies the fields of a record of this class to a draft."""
    steps = "; ".join(f"draft.{field.name} = record.{field.name}" for field in fields(kind))
    # The function is generated as source, as dataclasses generates methods: a loop over the fields takes four times as
    # long.
    exec(f"def copied(record):\n draft = new()\n {steps}\n return draft", made := {"new": _draft_of(kind)})  # noqa: S102
    return made["copied"]


__all__ = ["Readers", "maker", "replace", "writer"]
