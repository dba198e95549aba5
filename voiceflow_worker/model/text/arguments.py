"""Arguments of the public API: each is checked by its type when it is passed, and a wrong one is named."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from functools import cache, partial, wraps
from itertools import chain, zip_longest
from types import NoneType, UnionType, new_class
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, Unpack, cast, get_args, get_origin

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import LONGEST

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""The end of the valid times. Until then, a floating-point number of seconds is exact to the microsecond, and a time
can be written in every time zone."""
_MOST = 2**63 - 1
_EXAMPLES = {
    "a timedelta": ", such as timedelta(seconds=30)",
    "a whole number": ", such as int(…)",
    "a number": ", such as float(…)",
}
Public = TypeVar("Public")


@dataclass(frozen=True, slots=True)
class _Check:
    """What is `right`, the `types` whose values all are, and the problem of another value.

    A problem is a clause: None for nothing, empty for a value of another type.
    """

    right: str
    problem: Callable[[object], str | None]
    types: frozenset[type] = frozenset()


def checked(public: Public) -> Public:
    """A function, or a class with its public methods, whose arguments are checked at each call by their annotations.

    An argument of another type raises InvalidInputError, with its name, before anything is done; so does a time without
    a zone, a number or duration that no store can keep, and a text of more than 50 characters for `Annotated[str, 50]`.
    The elements of an iterator are not looked at, and of a protocol only that no plain value passes for it, nor for
    a class that its module imports for type checkers alone.
    """
    if not inspect.isclass(public):
        return cast("Public", _checking(cast("Callable[..., Any]", public)))
    for name, member in list(vars(public).items()):
        if (name == "__init__" or not name.startswith("_")) and not hasattr(member, "checks_itself"):
            if inspect.isfunction(member):
                setattr(public, name, _checking(member))
            elif isinstance(member, classmethod):
                setattr(public, name, classmethod(_checking(cast("Any", member).__func__)))
    return public


def checks_itself(function: Public) -> Public:
    """A method of a class that is `checked`, which reports wrong arguments by itself."""
    cast("Any", function).checks_itself = True
    return function


def option_problems(typed: Any, given: Mapping[str, Any]) -> Mapping[str, str]:
    """The error message for each given value that the annotated names of a class do not allow, by its name."""
    return dict(_problems(_checks_of(typed), given.items()))


def time_problem(name: str, time: object) -> str | None:
    """The error message for an invalid time; None if the time is valid or not given."""
    problem = None if time is None else _time(time)
    return f"{name} {problem or _is_not(time, 'a datetime')}" if problem is not None else None


_STEP, _HOUR = timedelta(minutes=15), timedelta(hours=1)
"""The offsets of all clocks of today are multiples of this one. Those of local mean times, such as +06:55, are not."""


def offset_problem(offset: timedelta) -> str | None:
    """The error message for an offset from UTC that no clock has, as a clause; None for others."""
    return "whose offset no clock has" if offset % _STEP or not -12 <= offset / _HOUR <= 14 else None


def shown(value: object) -> str:
    """A wrong value in an error message, with its type if its text may be that of a right one."""
    of_type = f" of type {type(value).__name__}" if type(value).__module__ != "builtins" else ""
    return f"{str(value)[:40]!r}{of_type}"


def _checking(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "")

    def look(given: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        named = chain(zip_longest(names[: len(given)], given, fillvalue=rest), options.items())
        for _, problem in _problems(_checks_of(function), named):
            raise InvalidInputError(problem)

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*given: Any, **options: Any) -> Any:
            look(given, options)
            return await function(*given, **options)

        return awaited

    @wraps(function)
    def called(*given: Any, **options: Any) -> Any:
        look(given, options)
        return function(*given, **options)

    return called


def _problems(checks: Mapping[str, _Check], named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, value in named:
        if name in checks and type(value) not in (check := checks[name]).types:
            problem = check.problem(value)
            if problem is not None:
                is_secret = "secret" in name or "api_key" in name
                told = f"a {type(value).__name__}" if is_secret else value
                yield name, f"{name} {problem or _is_not(told, check.right)}"


def _is_not(value: object, right: str) -> str:
    told = str(value)[:40] if right == "a text" else shown(value)
    return f"is {told}, which is not {right}; give {right}{_EXAMPLES.get(right, '')}"


@cache
def _checks_of(typed: Any) -> Mapping[str, _Check]:
    """The checks of the annotated names of a function or a class, without those that may be anything."""
    names = _Names(vars(builtins) | vars(sys.modules[typed.__module__]))
    checks: dict[str, _Check] = {}
    for name, hint in typed.__annotations__.items():
        if name == "return":
            continue
        known = eval(getattr(hint, "__forward_arg__", hint), {}, names)  # noqa: S307 - our own annotation
        if get_origin(known) is Unpack:
            checks |= _checks_of(get_args(known)[0])
        elif (check := _check_of(known)) is not None:
            checks[name] = check
    return checks


class _Names(dict[str, Any]):
    """The names that annotations use. Of a class that is imported for type checkers alone, nothing is known."""

    def __missing__(self, name: str) -> Any:
        return new_class(name, (Protocol,), exec_body=lambda body: body.update(__module__=__name__))


# --- One kind of hint each ----------------------------------------------------------------------------------------


def _time(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return ""
    if (offset := value.utcoffset()) is None:
        return f"is {value.isoformat()}, without a time zone; set its tzinfo, such as UTC"
    if (problem := offset_problem(offset)) is not None:
        return f"is {value.isoformat()}, {problem}; set its tzinfo to a ZoneInfo (with pytz, use localize)"
    if not isinstance(value.tzinfo, timezone) and 1 < value.year < LATEST.year:
        exists = value.astimezone(UTC).astimezone(value.tzinfo).replace(tzinfo=None) == value.replace(tzinfo=None)
        if not exists:
            return f"is {value.isoformat()}, which does not exist: the clocks skip it; give another time"
    return f"is {value.isoformat()}; give a time before the year {LATEST.year}" if value >= LATEST else None


def _duration(value: Any) -> str | None:
    if not isinstance(value, timedelta):
        return ""
    return None if -LONGEST <= value <= LONGEST else f"is {value}; give a duration from 0 to {LONGEST.days} days"


def _whole(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return ""
    return None if abs(value) <= _MOST else f"is {value}; give at most {_MOST}"


def _number(value: Any) -> str | None:
    return None if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _of_class(kind: Any, right: str) -> _Check:
    return _Check(right, lambda value: None if isinstance(value, kind) else "", frozenset({kind}))


_PLAIN: Mapping[Any, _Check | None] = {
    Any: None,
    object: None,
    NoneType: _of_class(NoneType, "None"),
    str: _of_class(str, "a text"),
    bool: _of_class(bool, "True or False"),
    int: _Check("a whole number", _whole),
    float: _Check("a number", _number, frozenset({float})),
    datetime: _Check("a datetime", _time),
    timedelta: _Check("a timedelta", _duration),
}


def _check_of(hint: Any) -> _Check | None:
    """The check of a hint; None for one that may be anything."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return _Check("a text", partial(_text, inner[1]))
    if kind is Literal:
        return _Check(" or ".join(map(repr, inner)), lambda value: None if value in inner else "")
    if kind is cast("Any", abc).Callable:
        return _Check("a function", lambda value: None if callable(value) else "")
    parts = [_check_of(each) for each in inner if each is not ...]
    if kind in {Union, UnionType}:
        return None if None in parts else _either([each for each in parts if each is not None])
    if not inspect.isclass(kind):
        return None
    name = kind.__name__ if kind.__module__.startswith("voiceflow_worker") else kind.__name__.lower()
    right = f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
    if getattr(kind, "_is_protocol", False) and kind.__module__ != abc.__name__:
        plain = _Check(right, lambda value: "" if type(value).__module__ == "builtins" else None)
        return _check_of(abc.Callable) if "__call__" in vars(kind) else plain
    if issubclass(kind, Enum):
        values: list[Any] = list(kind)
        right = f"one of {', '.join(str(each.value) for each in values)}"
        return _Check(right, lambda value: None if value in values else "")
    if issubclass(kind, abc.Mapping):
        return _Check("a mapping", partial(_elements, kind, [] if None in parts else parts))
    if issubclass(kind, abc.Iterable | abc.Container) and parts and (kind is not tuple or ... in inner):
        # What is in a row is reported by its reader.
        known = [each for each in parts[:1] if each is not None and each.right != "a mapping"]
        return _Check(right, partial(_elements, abc.Set if issubclass(kind, abc.Set) else kind, known))
    return _of_class(kind, right)


def _text(most: int, value: Any) -> str | None:
    if not isinstance(value, str):
        return ""
    return None if len(value) <= most else f"has {len(value)} characters; give at most {most}"


def _either(checks: list[_Check]) -> _Check:
    def problem(value: Any) -> str | None:
        found = [each.problem(value) for each in checks]
        return None if None in found else next(filter(None, found), "")

    right = " or ".join(each.right for each in checks if each.right != "None")
    return _Check(right, problem, frozenset[type]().union(*(each.types for each in checks)))


def _elements(kind: Any, checks: list[Any], value: Any) -> str | None:
    if isinstance(value, str | bytes) or not isinstance(value, kind):
        return ""
    columns: list[Any] = [value.keys(), value.values()] if isinstance(value, abc.Mapping) else [value]
    for check, column in zip(checks, columns, strict=False):
        for each in cast("Any", column) if isinstance(column, abc.Collection) else ():
            if type(each) not in check.types and (problem := check.problem(each)) is not None:
                return f"has an element that {problem or _is_not(each, check.right)}"
    return None
