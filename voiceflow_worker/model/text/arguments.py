"""Arguments of the public API: each is checked by its type when it is passed, and a wrong one is named."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, partial, wraps
from itertools import chain, repeat
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, Unpack, cast, get_args, get_origin

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
Problem = Callable[[Any], "str | None"]
"""A function that gives what is wrong with a value, as a clause: None for nothing, empty for one of another type."""


class AtMost(NamedTuple):
    """The most characters of a text, as in `Annotated[str, AtMost(50)]`."""

    characters: int


class _Check(NamedTuple):
    right: str
    problem: Problem


def checked(public: Public) -> Public:
    """A function, or a class with its public methods, whose arguments are checked at each call by their annotations.

    An argument of another type raises InvalidInputError, with its name, before anything is done; so does a time without
    a zone, and a number or duration that no store can keep. The values of a dataclass are checked when they are used:
    here by their types alone. The elements of an iterator are not looked at. See also `checks_itself`.
    """
    if not inspect.isclass(public):
        return cast("Public", _checking(cast("Callable[..., Any]", public)))
    for name, member in list(vars(public).items()):
        if (name == "__init__" or not name.startswith("_")) and not hasattr(member, "checks_itself"):
            if inspect.isfunction(member):
                setattr(public, name, _checking(member, by_type_alone=name == "__init__" and is_dataclass(public)))
            elif isinstance(member, classmethod):
                setattr(public, name, classmethod(_checking(cast("Any", member).__func__)))
    return public


def checks_itself(function: Public) -> Public:
    """A method of a class that is `checked`, which reports wrong arguments by itself."""
    cast("Any", function).checks_itself = True
    return function


def option_problems(typed: Any, given: Mapping[str, Any]) -> Mapping[str, str]:
    """The error message for each given value that the annotated names of a class do not allow, by its name."""
    return {
        name: _message(name, check, given[name], problem)
        for name, check in _checks_of_class(typed).items()
        if name in given and (problem := check.problem(given[name])) is not None
    }


def time_problem(name: str, time: object) -> str | None:
    """The error message for an invalid time; None if the time is valid or not given."""
    problem = None if time is None else _time(time)
    return f"{name} {problem or _is_not(time, 'a datetime')}" if problem is not None else None


def checked_time(name: str, time: datetime) -> datetime:
    """The time, if it is valid. Otherwise raises InvalidInputError."""
    problem = time_problem(name, time)
    if problem is not None:
        raise InvalidInputError(problem)
    return time


def _checking(function: Callable[..., Any], *, by_type_alone: bool = False) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    rest = [each.name for each in parameters if each.kind is each.VAR_POSITIONAL]
    checks = cache(partial(_checks_of, function, by_type_alone=by_type_alone))

    def look(given: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        known = checks()
        for name, value in zip(chain(names, repeat(rest[0])) if rest else names, given, strict=False):
            if name in known and (problem := known[name][1](value)) is not None:
                raise InvalidInputError(_message(name, known[name], value, problem))
        for name, value in options.items():
            if name in known and (problem := known[name][1](value)) is not None:
                raise InvalidInputError(_message(name, known[name], value, problem))

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


def _message(name: str, check: _Check, value: Any, problem: str) -> str:
    is_secret = "secret" in name or "api_key" in name
    return f"{name} {problem or _is_not(f'a {type(value).__name__}' if is_secret else value, check.right)}"


def _is_not(value: object, right: str) -> str:
    told = str(value)[:40] if right == "a text" else shown(value)
    return f"is {told}, which is not {right}; give {right}{_EXAMPLES.get(right, '')}"


def shown(value: object) -> str:
    """A wrong value in an error message, with its type if its text may be that of a right one."""
    of_type = f" of type {type(value).__name__}" if type(value).__module__ != "builtins" else ""
    return f"{str(value)[:40]!r}{of_type}"


def _checks_of(typed: Any, *, by_type_alone: bool = False) -> Mapping[str, _Check]:
    """The checks of the annotated names of a function or a class, without those that may be anything."""
    names = _Names(vars(sys.modules[typed.__module__]))
    checks: dict[str, _Check] = {}
    for name, hint in typed.__annotations__.items():
        written = getattr(hint, "__forward_arg__", hint)
        known = eval(written, {}, names) if isinstance(written, str) else written  # noqa: S307 - our own annotation
        if get_origin(known) is Unpack:
            checks |= _checks_of(get_args(known)[0], by_type_alone=by_type_alone)
        elif name != "return" and (check := _check_of(known, by_type_alone)).problem is not _nothing:
            checks[name] = check
    return checks


_checks_of_class = cache(partial(_checks_of, by_type_alone=True))


class _Later(type):
    """A name that a module does not have when its annotations are read: another module, or itself, defines it later.

    Until somebody has imported that module, no value can be right.
    """

    definitions: ClassVar[dict[str, Any]] = {}

    def __instancecheck__(cls, value: object) -> bool:
        name = cls.__name__
        if name not in _Later.definitions:
            ours = [vars(module) for at, module in list(sys.modules.items()) if at.startswith("voiceflow_worker.")]
            found = next((names[name] for names in ours if name in names), None)
            if found is None:  # the class of another package
                return any(each.__name__ == name for each in type(value).__mro__)
            _Later.definitions[name] = found
        return _check_of(_Later.definitions[name]).problem(value) is None

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Later(name, (), {})


class _Names(dict[str, Any]):
    """The names that the annotations of a module use."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, None) or _Later(name, (), {})


# --- One kind of hint each ----------------------------------------------------------------------------------------


def _nothing(_: Any) -> str | None:
    return None


def _instance(value: Any, *, kind: Any) -> str | None:
    return None if isinstance(value, kind) else ""


def _time(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return ""
    if value.utcoffset() is None:
        return f"is {value.isoformat()}, without a time zone; set its tzinfo, such as UTC"
    return f"is {value.isoformat()}; give a time before the year {LATEST.year}" if value >= LATEST else None


def _duration(value: Any) -> str | None:
    if not isinstance(value, timedelta):
        return ""
    return None if -LONGEST <= value <= LONGEST else f"is {value}; give a duration from 0 to {LONGEST.days} days"


def _whole(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return ""
    return None if abs(value) <= _MOST else f"is {value}; give at most {_MOST}"


def _number(value: Any, *, kind: Any = int | float) -> str | None:
    return None if isinstance(value, kind) and not isinstance(value, bool) else ""


def _enum(value: Any, *, kind: type[Enum]) -> str | None:
    try:
        kind(value)
    except (ValueError, TypeError):
        return ""
    return None


_ANYTHING = _Check("", _nothing)
_PLAIN: Mapping[Any, _Check] = {
    Any: _ANYTHING,
    object: _ANYTHING,
    None: _Check("None", partial(_instance, kind=NoneType)),
    NoneType: _Check("None", partial(_instance, kind=NoneType)),
    str: _Check("a text", partial(_instance, kind=str)),
    bool: _Check("True or False", partial(_instance, kind=bool)),
    int: _Check("a whole number", _whole),
    float: _Check("a number", _number),
    datetime: _Check("a datetime", _time),
    timedelta: _Check("a timedelta", _duration),
}
_BY_TYPE = {
    int: _Check("a whole number", partial(_number, kind=int)),
    datetime: _Check("a datetime", partial(_instance, kind=datetime)),
    timedelta: _Check("a timedelta", partial(_instance, kind=timedelta)),
}


@cache
def _check_of(hint: Any, by_type_alone: bool = False) -> _Check:  # noqa: FBT001, FBT002 - a key of the cache
    if (plain := {**_PLAIN, **(_BY_TYPE if by_type_alone else {})}.get(hint)) is not None:
        return plain
    kind: Any = get_origin(hint) or hint
    inner = get_args(hint)
    if kind is cast("Any", abc).Callable:
        return _Check("a function", partial(_protocol, names=[]))
    if kind is Annotated:
        return _at_most(_check_of(inner[0], by_type_alone), inner[1].characters)
    if kind in {Union, UnionType}:
        return _either([_check_of(each, by_type_alone) for each in inner])
    if not inspect.isclass(kind):
        return _ANYTHING
    parts = [_check_of(each, by_type_alone) for each in inner if each is not ...]
    if issubclass(kind, abc.Mapping):
        # What is in a row or in JSON is reported by its reader.
        known = parts if _ANYTHING not in parts else [_ANYTHING] * len(parts)
        return _Check("a mapping", partial(_elements, kind=kind, checks=known))
    if issubclass(kind, Enum):
        return _Check(f"one of {', '.join(str(each.value) for each in kind)}", partial(_enum, kind=kind))
    if getattr(kind, "_is_protocol", False) and kind.__module__ != abc.__name__:
        return _Check(_a(kind), partial(_protocol, names=[each for each in vars(kind) if each[0] != "_"]))
    if issubclass(kind, abc.Iterable | abc.Container) and parts and (kind is not tuple or ... in inner):
        known = [_ANYTHING if each.right == "a mapping" else each for each in parts[:1]]
        right = _a(kind)
        if issubclass(kind, abc.Set):
            kind = abc.Set
        return _Check(right, partial(_elements, kind=kind, checks=known))
    return _Check(_a(kind), partial(_instance, kind=kind))


def _a(kind: Any) -> str:
    name = kind.__name__ if kind.__module__.startswith("voiceflow_worker") else kind.__name__.lower()
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _at_most(check: _Check, most: int) -> _Check:
    def problem(value: Any) -> str | None:
        if not isinstance(value, str) or len(value) <= most:
            return check.problem(value)
        return f"has {len(value)} characters; give at most {most}"

    return _Check(check.right, problem)


def _either(checks: list[_Check]) -> _Check:
    if any(each.problem is _nothing for each in checks):
        return _ANYTHING

    problems = [each.problem for each in checks]
    has_none = any(each.right == "None" for each in checks)

    def problem(value: Any) -> str | None:
        if value is None and has_none:
            return None
        worst = ""
        for each in problems:
            if (found := each(value)) is None:
                return None
            worst = worst or found
        return worst

    return _Check(" or ".join(each.right for each in checks if each.right != "None"), problem)


def _protocol(value: Any, *, names: list[str]) -> str | None:
    """A stand-in may lack some of the names, but no plain value may pass for one."""
    if not names:
        return None if callable(value) else ""
    is_plain = type(value).__module__ == "builtins"
    return "" if is_plain or 2 * sum(hasattr(value, name) for name in names) < len(names) else None


def _elements(value: Any, *, kind: Any, checks: list[_Check]) -> str | None:
    if isinstance(value, str | bytes) or not isinstance(value, kind):
        return ""
    columns: list[Any] = [value.keys(), value.values()] if isinstance(value, abc.Mapping) else [value]
    for check, column in zip(checks, columns, strict=False):
        for each in cast("Any", column) if isinstance(column, abc.Collection) and check.problem is not _nothing else ():
            if (problem := check.problem(each)) is not None:
                return f"has an element that {problem or _is_not(each, check.right)}"
    return None
