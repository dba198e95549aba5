"""Menus drawn as Mermaid text, which GitHub, GitLab and many wikis show as a picture (mermaid.js.org, flowchart)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from voiceflow_worker.ivr.edges import Edge, edges_of, reachable
from voiceflow_worker.ivr.menu import Again, Back, End, Go, Menu, Step
from voiceflow_worker.ivr.speech import Text
from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.flows.callflow import CallFlow

LONGEST_LABEL = 90

_Shape: TypeAlias = tuple[str, str]
_MENU: _Shape = ('["', '"]')
_SPEECH: _Shape = ('("', '")')
_BRIDGE: _Shape = ('[["', '"]]')
_END: _Shape = ('(["', '"])')
_CODE: _Shape = ('{{"', '"}}')
_ESCAPES = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "\\": "#92;", "`": "#96;", "#": "#35;"}


def mermaid(*roots: Menu) -> str:
    """A Mermaid flowchart of these menus and all menus that they lead to. The text ends with a line break.

    A call begins at the first box. An arrow is dotted if it is followed without a valid key, or if only the kind of the
    next step is declared.
    """
    menus = reachable(roots)
    chart = _Chart({id(menu): f"m{place}" for place, menu in enumerate(menus)})
    for menu in menus:
        chart.box(chart.names[id(menu)], _MENU, shortened(menu.prompt), title=menu.name)
    for menu in menus:
        for place, edge in enumerate(edges_of(menu)):
            chart.edge(menu, edge, f"{chart.names[id(menu)]}c{place}")
    return "\n".join(["flowchart TD", *chart.boxes, *chart.arrows]) + "\n"


class _Chart:
    """The lines of a flowchart; `names` are the names of the menus' boxes."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self.boxes: list[str] = []
        self.arrows: list[str] = []

    def box(self, name: str, shape: _Shape, text: str, *, title: str = "") -> None:
        opens, closes = shape
        bold = f"<b>{_escaped(title)}</b>" if title else ""
        self.boxes.append(f"    {name}{opens}{'<br/>'.join(part for part in (bold, _escaped(text)) if part)}{closes}")

    def arrow(self, start: str, end: str, label: str, *, dotted: bool) -> None:
        line = "-.->" if dotted else "-->"
        self.arrows.append(f"    {start} {line}" + (f'|"{_escaped(label)}"|' if label else "") + f" {end}")

    def edge(self, menu: Menu, edge: Edge, name: str) -> None:
        """Add the boxes and arrows of one edge. A handler that leads to exactly one step has no box of its own."""
        start, label, dotted = self.names[id(menu)], edge.keys, edge.is_fallback
        if len(edge.steps) != 1:
            self.box(name, _CODE, "", title=edge.handler or "handler")
            self.arrow(start, name, label, dotted=dotted)
            start, label, dotted = name, "", not edge.is_exact
        elif edge.handler and not edge.menus:
            label = f"{label}: {edge.handler}"
        for place, step in enumerate(edge.steps):
            end, said = self._end(menu, step, f"{name}s{place}")
            self.arrow(start, end, ": ".join(part for part in (label, said) if part), dotted=dotted)

    def _end(self, menu: Menu, step: Step, name: str) -> tuple[str, str]:
        """The box that a step leads to, and the text of its arrow. If the box is not a menu, it is drawn here."""
        match step:
            case Menu():
                return self.names[id(step)], ""
            case Go():
                return self.names[id(step.menu)], shortened(step.text)
            case Again():
                return self.names[id(menu)], "again" if step.text is None else shortened(step.text)
            case str():
                return self.names[id(menu)], shortened(step) or "a text"
            case Back():
                self.box(name, _END, "back")
            case End():
                self.box(name, _END, "hang up" if step.text is None else shortened(step.text))
            case CallFlow():
                self._flow(step, name)
        return name, ""

    def _flow(self, flow: CallFlow, name: str) -> None:
        said: list[str] = []
        shape = _SPEECH
        for action, params in map(read_action, flow.actions):
            if action is Action.MAKE_CALL:
                shape = _BRIDGE
                said.append(f"call {params.get('destination')}")
            elif action is Action.HANGUP:
                shape = _END if shape is _SPEECH else shape
            else:
                words = wording(action, params) or ""
                said.append(words.rpartition("/")[2] if action is Action.PLAY_FILE else words)
        self.box(name, shape, shortened(" ".join(said)) or "call flow")


def shortened(text: Text) -> str:
    """A text shortened for a label."""
    if callable(text):
        name = getattr(text, "__name__", "function")
        return "(made for each caller)" if name == "<lambda>" else f"({name.strip('_').replace('_', ' ')})"
    said = " ".join((text if isinstance(text, str) else next(iter(text.values()), "")).split())
    return said if len(said) <= LONGEST_LABEL else said[: LONGEST_LABEL - 1].rstrip() + "…"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
