"""The graph of menus: the edges from each menu to the steps that may follow, and the paths along them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

from voiceflow_worker.ivr.caller import BridgeResult
from voiceflow_worker.ivr.menu import BACK, END, Again, Back, Choice, End, Go, Handler, Manner, Menu, Step
from voiceflow_worker.model.flows.callflow import CallFlow

_SAMPLES: Mapping[object, Step] = {CallFlow: CallFlow.reply(), End: END, Again: Again(), Back: BACK, str: ""}
"""A sample step of each kind. Menus are drawn and checked with these samples where the return annotation of a handler
names only kinds of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One edge, from a menu to the steps that may come next. `keys` is its label, such as `1, 2` or `otherwise`.

    `steps` are the steps that the edge is declared to lead to. `handler` is the name of the handler that returns one of
    them, if any, and `is_handled` is True then. `is_exact` is False if the handler's return annotation declares only
    the kinds of steps. `lacks_menu` is True if the annotation declares a menu, but not which one. `is_fallback` is True
    for an edge that is followed without a valid key.
    """

    keys: str
    steps: tuple[Step, ...]
    is_exact: bool = True
    lacks_menu: bool = False
    is_handled: bool = False
    is_fallback: bool = False
    handler: str = ""

    @property
    def is_declared(self) -> bool:
        """True if anything is declared about the steps that the edge leads to."""
        return self.is_exact or bool(self.steps) or self.lacks_menu

    @property
    def menus(self) -> tuple[Menu, ...]:
        """The menus that the edge is declared to lead to."""
        return tuple(menu for step in self.steps if (menu := menu_of(step)) is not None)


def edges_of(menu: Menu) -> list[Edge]:
    """Every edge from a menu, in the order of declaration; those without a key come last."""
    edges = [_edge(_label(choice), choice.action, choice.leads_to) for choice in menu.choices]
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


def _edge(keys: str, action: Step | Handler, leads_to: Sequence[Step] | None, *, is_fallback: bool = False) -> Edge:
    if not is_handler(action):
        return Edge(keys=keys, steps=(typing.cast("Step", action),), is_fallback=is_fallback)
    function = _function(action)
    name = getattr(function, "__name__", "handler").replace("<lambda>", "")
    if leads_to is not None:
        return Edge(keys=keys, steps=tuple(leads_to), is_handled=True, handler=name, is_fallback=is_fallback)
    kinds = _returned(function)
    return Edge(
        keys=keys,
        steps=tuple(_SAMPLES[kind] for kind in kinds if kind in _SAMPLES),
        is_exact=False,
        is_handled=True,
        lacks_menu=Menu in kinds or Go in kinds,
        handler=name,
        is_fallback=is_fallback,
    )


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
