"""Checks of menus before they are served."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any, TypeGuard

from voiceflow_worker.errors import InvalidInputError, VoiceflowError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.caller import (
    BridgeResult,
    Caller,
    Text,
    filled,
    in_language,
    specimens,
    spoken,
    template_of,
    tidy,
)
from voiceflow_worker.ivr.menu import BACK, END, Again, Back, Choice, End, Go, Handler, Manner, Menu, Step, language_of
from voiceflow_worker.ivr.template_text import TemplateText, UnfitValueError
from voiceflow_worker.model.flows.actions import MAX_TEXT_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.rules import speech_problem
from voiceflow_worker.model.flows.values import is_missing, language_in
from voiceflow_worker.model.jobs.call_json import is_result
from voiceflow_worker.model.text.names_of_the_world import at_odds
from voiceflow_worker.model.text.wording import name_among

_SAMPLES: Mapping[object, Step] = {CallFlow: CallFlow.reply(), End: END, Again: Again(), Back: BACK, str: ""}
"""A sample step of each kind. Menus are checked with these samples where the return annotation of a handler
names only kinds of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One edge, from a menu to the steps that may come next. `keys` is its label, such as `1, 2` or `otherwise`.

    `steps` are the steps that the edge is declared to lead to. `handler` is the name of the function that is run
    before, if any, and `is_handled` is True if it returns one of them. `is_exact` is False if the handler's return
    annotation declares only the kinds of steps, and `is_open` is True if it may return any menu. `is_fallback` is True
    for an edge that is followed without a valid key.
    """

    keys: str
    steps: tuple[Step, ...]
    is_exact: bool = True
    is_open: bool = False
    is_handled: bool = False
    is_fallback: bool = False
    handler: str = ""

    @property
    def menus(self) -> tuple[Menu, ...]:
        """The menus that the edge is declared to lead to."""
        return tuple(menu for step in self.steps if (menu := menu_of(step)) is not None)


def edges_of(menu: Menu) -> list[Edge]:
    """Every edge from a menu, in the order of declaration; those without a key come last."""
    edges = [_edge(_label(choice), choice.action, choice.leads_to, does=choice.do) for choice in menu.choices]
    return edges + [_edge(keys, action, menu.leads_to, is_fallback=True) for keys, action in _without_keys(menu)]


def _without_keys(menu: Menu) -> Iterator[tuple[str, Step | Handler]]:
    """The labels and actions that need no key: of the opening, of each result of a bridge, and of the fallback."""
    if menu.opening is not None:
        yield "at first", menu.opening
    if (after := menu.after_bridge) is not None:
        yield from ((f"after a bridge: {result.value}", after.of(result)) for result in BridgeResult)
    if menu.fallback is not None:
        yield "otherwise", menu.fallback


def reachable(roots: Sequence[Menu]) -> list[Menu]:
    """The roots and every menu that they lead to, each once, in the order of a walk from the first root."""
    found: dict[int, Menu] = {}
    waiting = list(reversed(roots))
    while waiting:
        menu = waiting.pop()
        if id(menu) in found:
            continue
        found[id(menu)] = menu
        waiting += [each for edge in reversed(edges_of(menu)) for each in reversed(edge.menus)]
    return list(found.values())


def menu_of(step: Step) -> Menu | None:
    """The menu that a step goes to, if it goes to one."""
    match step:
        case Menu():
            return step
        case Go():
            return step.menu
        case _:
            return None


def is_handler(action: object) -> TypeGuard[Handler]:
    """True for a handler, which is a function that gets the caller; False for a step."""
    return callable(action) and not isinstance(action, Menu | CallFlow | End | Again | Go | Back | str)


def manner_of(path: tuple[Menu, ...]) -> Manner:
    """The settings of the last menu of a path. A missing setting is taken from the nearest earlier menu that has it."""
    return Manner.inherited(reversed(path))


def onto(path: tuple[Menu, ...], menu: Menu) -> tuple[Menu, ...]:
    """The path after a step to this menu. If the menu is already in the path, the path is cut after it."""
    return path[: path.index(menu) + 1] if menu in path else (*path, menu)


def _label(choice: Choice) -> str:
    if choice.captured is None:
        return ", ".join(choice.keys)
    fewest, most = choice.captured.min_digits, choice.captured.max_digits
    return f"{fewest} digit{'s' * (fewest > 1)}" if fewest == most else f"{fewest}-{most} digits"


def _edge(
    keys: str,
    action: Step | Handler,
    leads_to: Sequence[Step] | None,
    *,
    is_fallback: bool = False,
    does: Callable[..., Any] | None = None,
) -> Edge:
    if not is_handler(action):
        name = "" if does is None else _name(does)
        return Edge(keys=keys, steps=(typing.cast("Step", action),), is_fallback=is_fallback, handler=name)
    function, name = _function(action), _name(action)
    if leads_to is not None:
        return Edge(keys=keys, steps=tuple(leads_to), is_handled=True, handler=name, is_fallback=is_fallback)
    kinds = _returned(function)
    return Edge(
        keys=keys,
        steps=tuple(_SAMPLES[kind] for kind in kinds if kind in _SAMPLES),
        is_exact=False,
        is_handled=True,
        is_open=Menu in kinds or Go in kinds or _SAMPLES.keys().isdisjoint(kinds),
        handler=name,
        is_fallback=is_fallback,
    )


def _name(handler: Callable[..., Any]) -> str:
    return getattr(_function(handler), "__name__", "handler").replace("<lambda>", "")


def _function(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a handler. The handler itself may be a partial or a callable object."""
    while isinstance(handler, partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else type(handler).__call__


def _returned(function: Callable[..., Any]) -> Sequence[object]:
    """The types that a return annotation names; none if it is missing or cannot be read."""
    try:
        returned = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - reading an annotation may run any code
        return ()
    return typing.get_args(returned) if isinstance(returned, types.UnionType) else (returned,)


_KEY = re.compile(r"[0-9*#]{1,25}")
_SPOKEN_SETTINGS = ("retry_text", "success_message", "failure_message", "voice_profile")
_UNHASHED = {*_SPOKEN_SETTINGS, "fallback", "after_bridge"}
"""Settings that are compared by identity, because they may be mappings, which have no hash."""
_NOT_LATER = {*_SPOKEN_SETTINGS, "play"}
_SAMPLE = Caller(now=datetime(2026, 7, 1, 4, tzinfo=UTC), number="+6587654321", our_number="+6531234567")


def check_menus(
    roots: Sequence[Menu], *, beside: Mapping[str, Menu] | None = None, data: Mapping[str, object] | None = None
) -> list[Finding]:
    """The errors and warnings about `roots` and the menus that they lead to. Menus with errors are not served.

    `beside` are further menus of the same module, each with a warning if nothing leads to it. `data` is a job's data
    for the prompts; by default, each name in a prompt has itself as its value. If the data names no language, errors
    are looked for in each one in which all texts are. Prompts that are functions are run, handlers are not.
    """
    menus = reachable(roots)
    walk = _Walk(roots, menus, data)
    findings = [*_names(menus), *walk.menus()]
    for language in walk.languages() if not language_in(data or {}) else ():
        other = _Walk(roots, menus, data, language=language)
        errors = [found for found in other.menus() if found.is_error] if other.is_whole() else []
        findings += [replace(each, path=f"{each.path} in {language}") for each in errors if each not in findings]
    findings += walk.silence()
    known = {id(menu) for menu in menus}
    findings += [
        _warning(f"this menu cannot be reached from {', '.join(root.name for root in roots)}", path=name)
        for name, menu in (beside or {}).items()
        if id(menu) not in known
    ]
    return sorted(findings, key=lambda found: not found.is_error)


class MenuTexts:
    """All texts of a menu and of the menus that it leads to, to be checked against the data of calls.

    `name` and `definition` are those of the menu. With `language`, these are the texts for calls in this language.
    Raises InvalidInputError if a text is malformed, or not there in this language.
    """

    def __init__(self, menu: Menu, language: str | None = None) -> None:
        self.name: str = menu.name
        self.definition: str = menu.definition
        menus = reachable([menu])
        walk = _Walk([menu], menus, None, language=language)
        self._in_language: dict[str, MenuTexts | str] = {}
        """The texts in each language, or why they are not all there in it."""
        for name in walk.languages() if language is None else ():
            try:
                self._in_language[name] = MenuTexts(menu, name)
            except InvalidInputError as error:
                self._in_language[name] = str(error)
        self._values: dict[str | None, dict[str, tuple[str, TemplateText]]] = {}
        self._later: dict[str, tuple[str, str | None]] = {}
        for place, text, manner in walk.texts():
            voice = manner.voice_profile
            # A voice that depends on the caller is not known here; English stands in for its language.
            spoken_by = voice if isinstance(voice, str) else None
            if not callable(voice) and isinstance(voice, Mapping):
                with suppress(InvalidInputError):  # found by the check of the menu
                    spoken_by = in_language(voice, manner.language)
            if place != f"{menu.title} prompt" and place.rpartition(" ")[2] not in _NOT_LATER:
                self._later.setdefault(place, (text, spoken_by))
            value = template_of(text)
            if not isinstance(value, str):
                self._values.setdefault(spoken_by, {}).setdefault(value.text, (place, value))
        found = self._all = [value for values in self._values.values() for _, value in values.values()]
        self.names: frozenset[str] = frozenset(name for value in found for name in value.variables)
        """The names of all values in the texts."""

    def read_by(self, *filters: str) -> frozenset[str]:
        """The names of the values to which the texts apply these filters."""
        return frozenset(name for value in self._all for name in value.read_by(*filters))

    @property
    def has_languages(self) -> bool:
        """Whether it is known in which languages the texts are."""
        return bool(self._in_language)

    @property
    def languages(self) -> Sequence[str]:
        """The languages in which all texts are."""
        return [name for name, texts in self._in_language.items() if isinstance(texts, MenuTexts)]

    def spoken_in(self, language: str) -> MenuTexts:
        """The texts in this language; all of them, if nothing says which they have.

        Raises InvalidInputError if one of them is not there in this language.
        """
        found = in_language(self._in_language, language) if self._in_language else self
        if isinstance(found, str):
            raise InvalidInputError(found)
        return found

    def later(self, data: Mapping[str, object]) -> list[tuple[str, str]]:
        """The texts after the first question as they are spoken with this data, each with its menu and key.

        The data may have a `ZONE`, in which times are spoken that have one of their own.
        """
        return [
            (place, filled(text, data, partial(_voice_in, voice, data))) for place, (text, voice) in self._later.items()
        ]

    def problems(self, data: Mapping[str, object]) -> list[tuple[str | None, str, bool]]:
        """The reasons why texts cannot be spoken with this data: a value's name, a clause, and True if it is missing.

        A plain value that is empty is missing too: it would be spoken as nothing.
        """
        found: list[tuple[str | None, str, bool]] = []
        for voice, values in self._values.items():
            given: Mapping[str, object] | None = None
            for place, value in values.values():
                said: object = data.get(name_among(data, value.only)) if value.only is not None else None
                try:
                    if not isinstance(said, str) or is_missing(said):
                        given = given or {**data, "voice_profile": _voice_in(voice, data)}
                        said = value.filled(data if value.only is not None else given)
                    if place in self._later and (why := _unspoken(str(said))):
                        found.append((value.alone, f"{why} ({place})", False))
                except UnfitValueError as error:
                    for problem in error.problems:
                        why = problem.message
                        if problem.is_missing:
                            name = name_among(data, problem.column or "")
                            why = (
                                f"is empty, but a text of the menu needs it ({place}); fill it in, or write "
                                f"{{{{ {name} or 'something' }}}}"
                                if name in data
                                else f"is needed by a text of the menu ({place})"
                            )
                        found.append((problem.column, why, problem.is_missing))
        return found


def _unspoken(text: str) -> str | None:
    """Why 8x8 does not speak a text of a menu; None if it does, or nothing is to be spoken."""
    if len(text) <= MAX_TEXT_CHARACTERS and text.isprintable():
        return None
    said = tidy(text)
    return speech_problem(said) if said else None


def _voice_in(voice: str | None, data: Mapping[str, object]) -> str:
    try:
        return "en" if voice is None else filled(voice, data)
    except InvalidInputError:
        return "en"


class _Walk:
    """The menus to check, each with the paths that lead to it. A menu inherits settings along its path."""

    def __init__(
        self,
        roots: Sequence[Menu],
        menus: Sequence[Menu],
        data: Mapping[str, object] | None,
        *,
        language: str | None = None,
    ) -> None:
        self._menus = menus
        self._roots = roots
        self._data = data
        self._language = language
        self._edges = {id(menu): edges_of(menu) for menu in menus}
        self._paths = self._all_paths()

    def _all_paths(self) -> list[tuple[Menu, ...]]:
        """One path to each menu for each combination of inherited settings, in the order of the menus."""
        paths = list[tuple[Menu, ...]]()
        seen = set[tuple[object, ...]]()
        waiting: list[tuple[Menu, ...]] = [(root,) for root in self._roots]
        while waiting:
            path = waiting.pop(0)
            menu, manner = path[-1], self._manner(path)
            settings = {each.name: getattr(manner, each.name) for each in fields(manner)}
            mark = (id(menu), *(id(value) if name in _UNHASHED else value for name, value in settings.items()))
            if mark in seen:
                continue
            seen.add(mark)
            paths.append(path)
            for edge in self._edges[id(menu)]:
                waiting += [onto(path, each) for each in edge.menus]
        order = {id(menu): place for place, menu in enumerate(self._menus)}
        return sorted(paths, key=lambda path: order[id(path[-1])])

    def _manner(self, path: tuple[Menu, ...]) -> Manner:
        """The settings of the last menu of a path, in the language of the call."""
        manner = manner_of(path)
        wanted = (self._data or {}).get("language") if self._language is None else self._language
        manner.language = language_of(path, {"language": wanted})
        return manner

    def menus(self) -> Iterator[Finding]:
        """The findings about each menu: about the menu alone, and about the menu on each path to it."""
        for menu, paths in groupby(self._paths, key=lambda path: path[-1]):
            on_paths = (found for path in paths for found in self._on(path))
            for found in (*_keys(menu), *dict.fromkeys(on_paths), *self._ways_on(menu)):
                yield replace(found, path=f"{menu.title}{found.path or ''}")

    def _on(self, path: tuple[Menu, ...]) -> Iterator[Finding]:
        """The findings about the last menu of a path, with the settings that it has there."""
        menu, manner = path[-1], self._manner(path)
        caller = self._caller(menu, manner)
        if menu.asks:
            yield from _question(menu, manner, caller)
        is_checked = self._data is not None
        for edge in self._edges[id(menu)]:
            for step in edge.steps if edge.is_exact else ():
                yield from _step(step, manner, caller, f" {edge.keys}", is_checked=is_checked and not edge.is_handled)
        yield from _text(manner.retry_text, manner, caller, " retry_text", is_checked=is_checked)

    def is_whole(self) -> bool:
        """Whether all texts are there in the language of this walk."""
        try:
            return bool(list(self.texts()))
        except InvalidInputError:
            return False

    def _ways_on(self, menu: Menu) -> Iterator[Finding]:
        edges = self._edges[id(menu)]
        if menu.asks and all(edge.is_fallback for edge in edges):
            yield _error("no key leads to a next step: add choices with on() or capture()")
        for edge in edges:
            if edge.is_open:
                named = f"handler {edge.handler}" if edge.handler else "handler"
                missing = f"the {named} does not say which menus it leads to: give leads_to, or its return type"
                yield _warning(missing, path=f" {edge.keys}")

    def silence(self) -> Iterator[Finding]:
        """The findings about callers who press nothing, at most one for each menu."""
        seen: set[str] = set()
        for path in self._paths:
            menu = path[-1]
            if menu.name in seen:
                continue
            if self._manner(path).fallback is END and all(each.fallback is None for each in path):
                name = "goodbye" if path[0].definition else "fallback"
                what = f"has no {name}: after silence, or when a handler fails, the call is hung up without a word"
                yield _warning(what, path=menu.title)
                seen.add(menu.name)

    def languages(self) -> list[str]:
        """The languages of texts, and those that menus have."""
        spoken = (text for path in self._paths for _, text in self.named(path) if not callable(text))
        texts = (text for text in spoken if isinstance(text, Mapping))
        return sorted({*(name for text in texts for name in text), *filter(None, (m.language for m in self._roots))})

    def named(self, path: tuple[Menu, ...]) -> list[tuple[str, Text | None]]:
        """The texts of the last menu of a path, with their names. A text from a handler is spoken unchanged."""
        menu, manner = path[-1], manner_of(path)
        named: list[tuple[str, Text | None]] = [(name, getattr(manner, name)) for name in _SPOKEN_SETTINGS]
        named += [("prompt", menu.prompt), ("play", menu.play)]
        for edge in self._edges[id(menu)]:
            named += [(edge.keys, _text_of(step)) for step in edge.steps if not edge.is_handled]
        return named

    def texts(self) -> Iterator[tuple[str, str, Manner]]:
        """Each declared text that is filled in with values of the call: its place, the text, and its menu's settings.

        A text by language is the one in the language of its menu. Raises InvalidInputError if the walk is in a language
        in which a text is not there.
        """
        for path in self._paths:
            menu, manner = path[-1], self._manner(path)
            for name, text in self.named(path):
                if text is not None and not isinstance(text, str) and not callable(text):
                    try:
                        own = in_language(text, manner.language)
                    except InvalidInputError as error:
                        if self._language is not None:
                            raise InvalidInputError(f"{menu.title} {name}: {error}") from None
                        continue  # found by the check of the menu
                    yield f"{menu.title} {name}", own, manner
                elif isinstance(text, str):
                    yield f"{menu.title} {name}", text, manner

    def _caller(self, menu: Menu, manner: Manner) -> Caller:
        data = self._data
        if data is None:
            texts = [menu.prompt, menu.play, manner.retry_text, manner.voice_profile]
            texts += [manner.success_message, manner.failure_message]
            data = {name: each for text in texts if text is not None for name, each in _specimens(text).items()}
        return replace(_SAMPLE, menu=menu.name, language=manner.language, data=data)


def _names(menus: Sequence[Menu]) -> Iterator[Finding]:
    for name, count in Counter(menu.name for menu in menus).items():
        if count > 1:
            yield _error(
                f"{count} menus have this name: callers could get the wrong one; give each a name of its own", path=name
            )


def _keys(menu: Menu) -> Iterator[Finding]:
    keys = [key for choice in menu.choices for key in choice.keys]
    for key, count in Counter(keys).items():
        if not _KEY.fullmatch(key):
            yield _error("is not a key of a phone: use 0-9, * and #", path=f" {key}")
        elif count > 1:
            yield _error(f"is declared {count} times: only the first declaration would be used", path=f" {key}")
    for choice in menu.choices:
        if is_result(choice.result):
            yield _error(
                f"answer {choice.result!r}: reports use this word for what became of a call; give the answer another "
                f"name, such as {choice.result} by phone",
                path=f" {_label(choice)}",
            )
    captures = [choice.captured for choice in menu.choices if choice.captured is not None]
    if len(captures) > 1 and any(
        one.min_digits <= other.max_digits and other.min_digits <= one.max_digits
        for place, one in enumerate(captures)
        for other in captures[place + 1 :]
    ):
        yield _error("two captures take the same number of digits: only the first would be used")
    if any("#" in key for key in keys) and any(each.complete_on_hash for each in captures):
        yield _warning("# is a key here, so it does not end typed input; give the capture complete_on_hash=False")


def _text_of(step: Step) -> Text | None:
    match step:
        case str():
            return step
        case Go(text=text) | End(text=text) | Again(text=text):
            return text
        case _:
            return None


def _question(menu: Menu, manner: Manner, caller: Caller) -> Iterator[Finding]:
    """The findings about the question of a menu."""
    if isinstance(manner.voice_profile, str) and (why := at_odds(manner.voice_profile, manner.language)):
        yield _warning(why, path=" voice")
    try:
        flow = menu.question(manner, caller, begun=CallFlow.reply())
    except Exception as error:  # noqa: BLE001 - a prompt may be any function
        yield _untried(error, " prompt", is_function=callable(menu.prompt) or callable(manner.voice_profile))
        return
    for found in flow.problems():
        if found.is_error:
            yield replace(found, path=f" prompt {(found.path or '').rpartition('.')[2]}")
    prompt = spoken(menu.prompt, caller, manner.voice)
    if not prompt:
        yield _error("is empty: callers would not know which keys to press", path=" prompt")


def _step(step: Step, manner: Manner, caller: Caller, path: str, *, is_checked: bool) -> Iterator[Finding]:
    if isinstance(step, CallFlow):
        if not step.is_reply:
            yield _error("is a CallFlow.call(…): use CallFlow.bridge(…) to connect somebody", path=path)
        yield from (replace(found, path=f"{path} {found.path}") for found in step.problems() if found.is_error)
    yield from _text(_text_of(step), manner, caller, path, is_checked=is_checked)


def _text(text: Text | None, manner: Manner, caller: Caller, path: str, *, is_checked: bool) -> Iterator[Finding]:
    """The findings about a text. Unless `is_checked`, values that the caller's data lack have stand-ins."""
    if text is None:
        return
    try:
        data = caller.data if is_checked else {**specimens(text), **caller.data}
        said = spoken(text, replace(caller, data=data), manner.voice)
        findings = CallFlow.reply().say(said, voice_profile="en-US-BenjaminRUS").problems()
    except Exception as error:  # noqa: BLE001 - a text may be any function
        yield _untried(error, path, is_function=callable(text))
        return
    yield from (replace(found, path=path) for found in findings if found.is_error)


def _specimens(text: Text) -> Mapping[str, object]:
    try:
        return specimens(text)
    except InvalidInputError:
        return {}  # a malformed text is found where it is tried


def _untried(error: Exception, path: str, *, is_function: bool) -> Finding:
    if is_function and not isinstance(error, VoiceflowError):
        return _warning(f"could not be tried: {type(error).__name__}: {error}; give sample data of a call", path=path)
    if is_function:
        return _warning(f"could not be tried: {error}", path=path)
    return _error(str(error), path=path)


def _error(message: str, *, path: str = "") -> Finding:
    return Finding(message=message, path=path)


def _warning(message: str, *, path: str = "") -> Finding:
    return Finding(message=message, path=path, severity=Severity.WARNING)
