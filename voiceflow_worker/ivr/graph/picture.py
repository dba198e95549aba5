"""Menus as a graph to be drawn: boxes for menus and ends, arrows for keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from voiceflow_worker.ivr.graph.leads import Lead, leads_of, menu_of, reachable
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.steps import Again, Back, End, Go, Step, Text
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import is_object

LONGEST_LABEL = 90


class Shape(Enum):
    """What a box stands for."""

    MENU = auto()
    SPEECH = auto()
    BRIDGE = auto()
    END = auto()
    CODE = auto()


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its `name` is unique, `title` may be empty, `text` is what is said, or done."""

    name: str
    shape: Shape
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another; dotted when a handler may go there, as far as its code tells, or when no key does."""

    start: str
    end: str
    label: str = ""
    is_dotted: bool = False


@dataclass(slots=True)
class Picture:
    """A graph of menus; the first box is where a call begins."""

    boxes: list[Box] = field(default_factory=list[Box])
    arrows: list[Arrow] = field(default_factory=list[Arrow])


def picture_of(*roots: Menu) -> Picture:
    """The menus that these lead to, with every way on from them."""
    picture = Picture()
    menus = reachable(roots)
    names = {id(menu): f"m{place}" for place, menu in enumerate(menus)}
    for menu in menus:
        picture.boxes.append(Box(names[id(menu)], Shape.MENU, menu.name, shortened(menu.prompt)))
    for menu in menus:
        for place, lead in enumerate(leads_of(menu)):
            for box, arrow in _drawn(menu, lead, names, f"{names[id(menu)]}c{place}"):
                if box is not None:
                    picture.boxes.append(box)
                picture.arrows.append(arrow)
    return picture


def shortened(text: Text) -> str:
    """A text as a picture shows it."""
    if callable(text):
        name = getattr(text, "__name__", "function")
        return "(made for each caller)" if name == "<lambda>" else f"({name.strip('_').replace('_', ' ')})"
    said = " ".join((text if isinstance(text, str) else next(iter(text.values()), "")).split())
    return said if len(said) <= LONGEST_LABEL else said[: LONGEST_LABEL - 1].rstrip() + "…"


def _drawn(menu: Menu, lead: Lead, names: Mapping[int, str], name: str) -> Iterator[tuple[Box | None, Arrow]]:
    """What a way on is drawn as. A handler with several ways on gets a box of its own."""
    start, label = names[id(menu)], lead.keys
    dotted = lead.is_fallback
    if not lead.is_told or len(lead.steps) > 1:
        yield Box(name, Shape.CODE, lead.label or "handler"), Arrow(start, name, label, dotted)
        start, label, dotted = name, "", not lead.is_sure
    elif lead.label and not _is_named(lead.steps):
        label = f"{label}: {lead.label}"
    for place, step in enumerate(lead.steps):
        yield from _step(menu, step, names, Arrow(start, f"{name}s{place}", label, dotted))


def _is_named(steps: Sequence[Step]) -> bool:
    return any(menu_of(step) is not None for step in steps)


def _step(menu: Menu, step: Step, names: Mapping[int, str], arrow: Arrow) -> Iterator[tuple[Box | None, Arrow]]:
    start, end, label, dotted = arrow.start, arrow.end, arrow.label, arrow.is_dotted
    here = names[id(menu)]
    match step:
        case Menu():
            yield None, Arrow(start, names[id(step)], label, dotted)
        case Go():
            yield None, Arrow(start, names[id(step.menu)], _with(label, shortened(step.text)), dotted)
        case Back():
            yield Box(end, Shape.END, text="back"), arrow
        case Again():
            yield None, Arrow(start, here, _with(label, "again" if step.text is None else shortened(step.text)), dotted)
        case str():
            yield None, Arrow(start, here, _with(label, shortened(step) or "a text"), dotted)
        case End():
            text = "hang up" if step.text is None else shortened(step.text)
            yield Box(end, Shape.END, text=text), arrow
        case CallFlow():
            yield _flow(step, end), arrow


def _flow(flow: CallFlow, name: str) -> Box:
    said: list[str] = []
    shape = Shape.SPEECH
    for entry in flow.actions:
        params = entry.get("params")
        given: Mapping[str, object] = params if is_object(params) else {}
        match entry.get("action"):
            case Action.SAY | Action.SAY_AND_CAPTURE:
                said.append(str(given.get("text", given.get("promptMessage", ""))))
            case Action.PLAY_FILE:
                said.append(str(given.get("fileUrl", "")).rpartition("/")[2])
            case Action.MAKE_CALL:
                shape = Shape.BRIDGE
                said.append(f"call {given.get('destination')}")
            case Action.HANGUP:
                shape = Shape.END if shape is Shape.SPEECH else shape
            case _:
                pass
    return Box(name, shape, text=shortened(" ".join(said)) or "call flow")


def _with(label: str, text: str) -> str:
    return f"{label}: {text}" if label else text
