"""Checks of menus before they are served."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import cast

from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.edges import edges_of, is_handler, manner_of, menu_of, onto, reachable
from voiceflow_worker.ivr.menu import Go, Manner, Menu, Step
from voiceflow_worker.ivr.speech import Text, names_in, spoken
from voiceflow_worker.ivr.steps import END, Again, Back, End
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.callflow import CallFlow

LONG_PROMPT = 600
"""The longest good prompt in characters, about 40 s of speech: after a longer one nobody remembers the first key."""

_KEY = re.compile(r"[0-9*#]{1,25}")
_UNHASHED = {"voice_profile", "again", "fallback", "success_message", "failure_message", "after_bridge"}
"""Settings that are compared by identity, because they may be mappings, which have no hash."""
_SAMPLE = Caller(now=datetime(2026, 7, 1, 4, tzinfo=UTC), number="+6587654321", our_number="+6531234567")


def check_menus(
    roots: Sequence[Menu], *, beside: Mapping[str, Menu] | None = None, data: Mapping[str, object] | None = None
) -> list[Finding]:
    """The errors and warnings about `roots` and the menus that they lead to. Menus with errors are not served.

    `beside` are further menus of the same module, each with a warning if nothing leads to it. `data` is a job's data
    for the prompts; by default, each name in a prompt has itself as its value. Prompts that are functions are run,
    handlers are not.
    """
    menus = reachable(roots)
    walk = _Walk(roots, menus, data)
    findings = [*_names(menus)]
    for menu in menus:
        findings += [replace(found, path=f"{menu.name}{found.path or ''}") for found in walk.menu(menu)]
    findings += walk.silence()
    known = {id(menu) for menu in menus}
    findings += [
        _warning(f"this menu cannot be reached from {', '.join(root.name for root in roots)}", path=name)
        for name, menu in (beside or {}).items()
        if id(menu) not in known
    ]
    return sorted(findings, key=lambda found: not found.is_error)


class _Walk:
    """The menus to check, each with the paths that lead to it. A menu inherits settings along its path."""

    def __init__(self, roots: Sequence[Menu], menus: Sequence[Menu], data: Mapping[str, object] | None) -> None:
        self._menus = menus
        self._roots = roots
        self._data = data
        self._edges = {id(menu): edges_of(menu) for menu in menus}
        self._paths = self._all_paths()

    def _all_paths(self) -> dict[int, list[tuple[Menu, ...]]]:
        """For each menu, one path for each combination of inherited settings."""
        paths: dict[int, list[tuple[Menu, ...]]] = {id(menu): [] for menu in self._menus}
        seen: set[tuple[object, ...]] = set()
        waiting: list[tuple[Menu, ...]] = [(root,) for root in self._roots]
        while waiting:
            path = waiting.pop(0)
            menu = path[-1]
            manner = manner_of(path)
            settings = {each.name: getattr(manner, each.name) for each in fields(manner)}
            mark = (id(menu), *(id(value) if name in _UNHASHED else value for name, value in settings.items()))
            if mark in seen:
                continue
            seen.add(mark)
            paths[id(menu)].append(path)
            for edge in self._edges[id(menu)]:
                waiting += [onto(path, each) for each in edge.menus]
        return paths

    def menu(self, menu: Menu) -> Iterator[Finding]:
        """The findings about one menu: about the menu alone, and about the menu on each path to it."""
        yield from _keys(menu)
        yield from dict.fromkeys(
            found for path in self._paths[id(menu)] for found in (*self._asked(path), *self._steps(path))
        )
        yield from self._ways_on(menu)

    def _asked(self, path: tuple[Menu, ...]) -> Iterator[Finding]:
        menu, manner = path[-1], manner_of(path)
        caller = self._caller(menu, manner)
        if not menu.asks:
            return
        yield from _languages(menu.prompt, manner, "")
        try:
            flow = menu.question(manner, caller, begun=CallFlow.reply())
        except Exception as error:  # noqa: BLE001 - a prompt may be any function
            yield _untried(error, " prompt", is_function=callable(menu.prompt) or callable(manner.voice_profile))
            return
        yield from (replace(found, path=f" prompt {_place(found)}") for found in flow.problems() if found.is_error)
        prompt = spoken(menu.prompt, caller)
        if len(prompt) > LONG_PROMPT:
            yield _warning(
                f"takes about {len(prompt) // 15} s to speak; shorten it, or divide the menu", path=" prompt"
            )
        if not prompt:
            yield _error("is empty: callers would not know which keys to press", path=" prompt")

    def _steps(self, path: tuple[Menu, ...]) -> Iterator[Finding]:
        menu, manner = path[-1], manner_of(path)
        caller = self._caller(menu, manner)
        for edge in self._edges[id(menu)]:
            for step in edge.steps if edge.is_exact else ():
                yield from _step(step, manner, caller, f" {edge.keys}")
        if manner.again is not None:
            yield from _languages(manner.again, manner, " again")
            yield from _text(manner.again, caller, " again")

    def _ways_on(self, menu: Menu) -> Iterator[Finding]:
        edges = self._edges[id(menu)]
        if menu.asks and all(edge.is_fallback for edge in edges):
            yield _error("no key leads to a next step: add choices with on() or capture()")
        for edge in edges:
            named = f"handler {edge.handler}" if edge.handler else "handler"
            if edge.lacks_menu:
                missing = f"the {named} returns a menu that is neither in leads_to nor served: add it to leads_to"
                yield _warning(missing, path=f" {edge.keys}")
            elif not edge.is_declared:
                missing = f"the {named} declares no steps: annotate its return type, or give leads_to"
                yield _warning(missing, path=f" {edge.keys}")
        if edges and not _can_end(menu):
            yield _warning("no key ends the call here, or in any menu that follows: callers can only hang up")

    def silence(self) -> Iterator[Finding]:
        """The findings about callers who press nothing, at most one for each menu."""
        seen: set[str] = set()
        for paths in self._paths.values():
            for path in paths:
                menu, manner = path[-1], manner_of(path)
                if menu.name in seen:
                    continue
                if manner.fallback is END and all(each.fallback is None for each in path):
                    seen.add(menu.name)
                    yield _warning(
                        "has no fallback: after silence, or when a handler fails, the call is hung up without a word",
                        path=menu.name,
                    )
                elif _never_ends(path):
                    seen.add(menu.name)
                    yield _warning(
                        "a silent caller hears up to 100 questions: let a fallback end the call", path=menu.name
                    )

    def _caller(self, menu: Menu, manner: Manner) -> Caller:
        data = self._data
        if data is None:
            texts = [menu.prompt, menu.play, manner.again, manner.voice_profile]
            texts += [manner.success_message, manner.failure_message]
            data = {name: name for text in texts if text is not None for name in names_in(text)}
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
    captures = [choice.captured for choice in menu.choices if choice.captured is not None]
    if len(captures) > 1 and any(
        one.min_digits <= other.max_digits and other.min_digits <= one.max_digits
        for place, one in enumerate(captures)
        for other in captures[place + 1 :]
    ):
        yield _error("two captures take the same number of digits: only the first would be used")
    if any("#" in key for key in keys) and any(each.complete_on_hash for each in captures):
        yield _warning("# is a key here, so it does not end typed input; give the capture complete_on_hash=False")


def _step(step: Step, manner: Manner, caller: Caller, path: str) -> Iterator[Finding]:
    match step:
        case str():
            yield from _text(step, caller, path)
        case Go(text=text) | End(text=text) | Again(text=text):
            if text is not None:
                yield from _languages(text, manner, path)
                yield from _text(text, caller, path)
        case CallFlow():
            if not step.is_reply:
                yield _error("is a CallFlow.call(…): use CallFlow.bridge(…) to connect somebody", path=path)
            yield from (replace(found, path=f"{path} {found.path}") for found in step.problems() if found.is_error)
        case Menu() | Back():
            pass


def _text(text: Text, caller: Caller, path: str) -> Iterator[Finding]:
    data = caller.data or {}
    names = {name: name for name in names_in(text)}
    try:
        said = spoken(text, replace(caller, data={**names, **data}))
        findings = CallFlow.reply().say(said, voice_profile="en-US-BenjaminRUS").problems()
    except Exception as error:  # noqa: BLE001 - a text may be any function
        yield _untried(error, path, is_function=callable(text))
        return
    yield from (replace(found, path=path) for found in findings if found.is_error)


def _languages(text: Text, manner: Manner, path: str) -> Iterator[Finding]:
    if isinstance(text, Mapping) and manner.language is None:
        yield _error("has texts by language, but no menu on the path sets a language: set it in a menu", path=path)


def _untried(error: Exception, path: str, *, is_function: bool) -> Finding:
    if is_function and not isinstance(error, VoiceflowError):
        return _warning(f"could not be tried: {type(error).__name__}: {error}; give sample data of a call", path=path)
    if is_function:
        return _warning(f"could not be tried: {error}", path=path)
    return _error(str(error), path=path)


def _never_ends(path: tuple[Menu, ...]) -> bool:
    """True if silence leads from fallback to fallback without an end."""
    seen: set[str] = set()
    while path:
        menu, fallback = path[-1], manner_of(path).fallback
        if fallback is None or is_handler(fallback):
            return False
        following = menu_of(cast("Step", fallback))
        if isinstance(fallback, Back):
            following = path[-2] if len(path) > 1 else menu
        if following is None:
            return False
        if following.name in seen:
            return True
        seen.add(following.name)
        path = onto(path, following)
    return False


def _can_end(menu: Menu) -> bool:
    """True if at least one path from this menu ends the call, or may end it."""
    edges = [edge for each in reachable([menu]) for edge in edges_of(each)]
    return any(not edge.is_declared or any(_is_end(step) for step in edge.steps) for edge in edges)


def _is_end(step: Step) -> bool:
    if isinstance(step, CallFlow):
        actions = [entry.get("action") for entry in step.actions]
        return not actions or Action.HANGUP in actions or Action.MAKE_CALL in actions
    return isinstance(step, End)


def _place(found: Finding) -> str:
    return (found.path or "").rpartition(".")[2]


def _error(message: str, *, path: str = "") -> Finding:
    return Finding(message=message, path=path)


def _warning(message: str, *, path: str = "") -> Finding:
    return Finding(message=message, path=path, severity=Severity.WARNING)
