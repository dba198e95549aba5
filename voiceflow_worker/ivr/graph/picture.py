"""A picture of menus: boxes for menus and ends, arrows for keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from voiceflow_worker.ivr.edges import Edge, edges_of, reachable
from voiceflow_worker.ivr.menu import Go, Menu, Step
from voiceflow_worker.ivr.speech import Text
from voiceflow_worker.ivr.steps import Again, Back, End
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import is_object

LONGEST_LABEL = 90


class Shape(Enum):
    """The kinds of boxes."""

    MENU = auto()
    SPEECH = auto()
    BRIDGE = auto()
    END = auto()
    CODE = auto()


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its `name` is unique, its `title` may be empty, its `text` is spoken or describes an action."""

    name: str
    shape: Shape
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow between two boxes; dotted when only its kind is declared, or when no key is needed."""

    start: str
    end: str
    label: str = ""
    is_dotted: bool = False


@dataclass(slots=True)
class Picture:
    """The boxes and arrows; a call begins at the first box."""

    boxes: list[Box] = field(default_factory=list[Box])
    arrows: list[Arrow] = field(default_factory=list[Arrow])


def picture_of(*roots: Menu) -> Picture:
    """The picture of all menus that these lead to."""
    picture = Picture()
    menus = reachable(roots)
    names = {id(menu): f"m{place}" for place, menu in enumerate(menus)}
    for menu in menus:
        picture.boxes.append(Box(names[id(menu)], Shape.MENU, menu.name, shortened(menu.prompt)))
    for menu in menus:
        for place, edge in enumerate(edges_of(menu)):
            for box, arrow in _drawn(menu, edge, names, f"{names[id(menu)]}c{place}"):
                if box is not None:
                    picture.boxes.append(box)
                picture.arrows.append(arrow)
    return picture


def shortened(text: Text) -> str:
    """A text shortened for a label."""
    if callable(text):
        name = getattr(text, "__name__", "function")
        return "(made for each caller)" if name == "<lambda>" else f"({name.strip('_').replace('_', ' ')})"
    said = " ".join((text if isinstance(text, str) else next(iter(text.values()), "")).split())
    return said if len(said) <= LONGEST_LABEL else said[: LONGEST_LABEL - 1].rstrip() + "…"


def _drawn(menu: Menu, edge: Edge, names: Mapping[int, str], name: str) -> Iterator[tuple[Box | None, Arrow]]:
    """The boxes and arrows of one edge. A handler with no end or several gets a box of its own."""
    start, label = names[id(menu)], edge.keys
    dotted = edge.is_fallback
    if len(edge.steps) != 1:
        yield Box(name, Shape.CODE, edge.handler or "handler"), Arrow(start, name, label, dotted)
        start, label, dotted = name, "", not edge.is_exact
    elif edge.handler and not edge.menus:
        label = f"{label}: {edge.handler}"
    for place, step in enumerate(edge.steps):
        yield from _step(menu, step, names, Arrow(start, f"{name}s{place}", label, dotted))


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
