"""Where a menu leads: what its choices and its fallback go to, also what can be seen in the handlers' own code."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

from voiceflow_worker.ivr.bridging import BridgeResult
from voiceflow_worker.ivr.menu import Choice, Menu
from voiceflow_worker.ivr.steps import BACK, END, Again, Back, End, Go, Handler, Step
from voiceflow_worker.model.flows.callflow import CallFlow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """One way on from a menu. `keys` as a person reads them; `steps` are known ends of it, menus among them.

    `is_sure` is False for what a handler may do as far as its names and annotations tell. `is_told` is False when
    nothing tells where it leads. `is_fallback`: it is taken without a right key.
    """

    keys: str
    steps: tuple[Step, ...]
    is_sure: bool = True
    is_told: bool = True
    is_fallback: bool = False
    label: str = ""

    @property
    def menus(self) -> tuple[Menu, ...]:
        """The menus among its ends."""
        return tuple(menu for step in self.steps if (menu := menu_of(step)) is not None)


def leads_of(menu: Menu) -> list[Lead]:
    """Every way on from a menu, in the order of its declarations, what needs no key last."""
    leads = [_lead(choice) for choice in menu.choices]
    for keys, action in _beside_keys(menu):
        if is_handler(action):
            leads.append(_of_handler(action, keys=keys, leads_to=None, is_fallback=True))
        else:
            leads.append(Lead(keys=keys, steps=(typing.cast("Step", action),), is_fallback=True))
    return leads


def _beside_keys(menu: Menu) -> Iterator[tuple[str, Step | Handler]]:
    """What a menu leads to without a key: at the beginning of a call, after a bridge, and when nobody presses one."""
    if menu.opening is not None:
        yield "at first", menu.opening
    if (after := menu.own.after_bridge) is not None:
        yield from ((f"after a bridge: {result.value}", after.of(result)) for result in BridgeResult)
    if menu.own.fallback is not None:
        yield "otherwise", menu.own.fallback


def reachable(roots: Sequence[Menu]) -> list[Menu]:
    """The roots and every menu that they lead to, each once, in the order of a walk from the first."""
    found: dict[int, Menu] = {}
    waiting = list(reversed(roots))
    while waiting:
        menu = waiting.pop()
        if id(menu) in found:
            continue
        found[id(menu)] = menu
        waiting += [each for lead in reversed(leads_of(menu)) for each in reversed(lead.menus)]
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
    """Whether this is a function of the caller, and no step."""
    return callable(action) and not isinstance(action, Menu | CallFlow | End | Again | Go | Back | str)


def _lead(choice: Choice) -> Lead:
    if choice.captured is None:
        keys = ", ".join(choice.keys)
    else:
        fewest, most = choice.captured.min_digits, choice.captured.max_digits
        keys = f"{fewest} digit{'s' * (fewest > 1)}" if fewest == most else f"{fewest}-{most} digits"
    if choice.is_handler:
        return _of_handler(typing.cast("Callable[..., Any]", choice.action), keys=keys, leads_to=choice.leads_to)
    return Lead(keys=keys, steps=(typing.cast("Step", choice.action),))


def _of_handler(
    handler: Callable[..., Any], *, keys: str, leads_to: tuple[Step, ...] | None, is_fallback: bool = False
) -> Lead:
    label = getattr(_function(handler), "__name__", type(handler).__name__)
    label = "" if label == "<lambda>" else label
    if leads_to is not None:
        return Lead(keys=keys, steps=leads_to, label=label, is_fallback=is_fallback)
    named = list(_named_in(handler))
    menus = tuple(step for step in named if menu_of(step) is not None)
    ends = tuple(_ends_annotated(handler)) or tuple(step for step in named if menu_of(step) is None)
    return Lead(
        keys=keys,
        steps=(*menus, *ends),
        is_sure=False,
        is_told=bool(menus or ends),
        label=label,
        is_fallback=is_fallback,
    )


def _function(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function that stands in the source, behind partials, methods and decorators."""
    while isinstance(handler, partial):
        handler = handler.func
    handler = inspect.unwrap(handler)
    if inspect.ismethod(handler):
        return handler.__func__
    if not inspect.isfunction(handler) and hasattr(type(handler), "__call__"):  # noqa: B004 - an object that is a handler
        return getattr(type(handler).__call__, "__func__", type(handler).__call__)
    return handler


def _named_in(handler: Callable[..., Any]) -> Iterator[Step]:
    """The steps that a function's code names: menus of its module, of its closure and `module.menu`, END, `End(…)`."""
    function = _function(handler)
    if not inspect.isfunction(function):
        return
    names = inspect.getclosurevars(function)
    seen: list[object] = []
    for value in (*names.nonlocals.values(), *names.globals.values()):
        among = [getattr(value, name, None) for name in names.unbound] if isinstance(value, types.ModuleType) else []
        for each in (value, *among):
            step = each if isinstance(each, Menu | End | Back) else _sample(each)
            if step is not None and not any(step is other for other in seen):
                seen.append(step)
                yield step


def _sample(kind: object) -> Step | None:
    """A step of a kind, for pictures, where only the kind is known."""
    if kind is CallFlow:
        return CallFlow.reply()
    if kind is End:
        return END
    if kind is Again:
        return Again()
    return BACK if kind is Back else None


def _ends_annotated(handler: Callable[..., Any]) -> Iterator[Step]:
    """What the return annotation names besides menus: samples of their kinds, for pictures."""
    function = _function(handler)
    try:
        told = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - an annotation that cannot be read tells nothing, whatever is wrong with it
        return
    for kind in typing.get_args(told) if isinstance(told, types.UnionType) else (told,):
        step = "" if kind is str else _sample(kind)
        if step is not None:
            yield step
