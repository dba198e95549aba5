"""Where the boxes of a picture stand: a tree that grows to the right, in which every box has one place.

An arrow to a box that stands elsewhere already ends in a small box with its name. So no line crosses another, however
many menus lead back to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap

from voiceflow_worker.ivr.graph.picture import Arrow, Box, Picture, Shape

CHARACTER = 7.6
LINE = 17.0
PADDING = 10.0
GAP = 14.0
BETWEEN = 36.0
LONGEST_LINE = 30
LONGEST_LABEL_LINE = 20


@dataclass(slots=True)
class Node:
    """One box with its place: the upper left corner and the size, in pixels; `lines` are its text, wrapped.

    `reference` is the name of the box that this one only points to.
    """

    box: Box
    lines: Sequence[str]
    reference: str | None = None
    label: Sequence[str] = ()
    is_dotted: bool = False
    children: list[Node] = field(default_factory=list["Node"])
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def middle(self) -> float:
        """The height at which arrows arrive and leave."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Placed trees, one for each first menu, and the size of it all."""

    roots: Sequence[Node]
    width: float
    height: float


def laid_out(picture: Picture) -> Layout:
    """The places of all boxes of a picture."""
    boxes = {box.name: box for box in picture.boxes}
    leaving: dict[str, list[Arrow]] = {}
    for arrow in picture.arrows:
        leaving.setdefault(arrow.start, []).append(arrow)
    placed: set[str] = set()
    roots = [_grown(box, boxes, leaving, placed) for box in picture.boxes if box.name not in placed]
    columns = _columns(roots)
    starts = [PADDING]
    for nodes in columns:
        widest = max(node.width for node in nodes)
        labels = [len(line) * CHARACTER for node in nodes for child in node.children for line in child.label]
        starts.append(starts[-1] + widest + BETWEEN + max(labels, default=0.0) + BETWEEN)
    bottom = PADDING
    for root in roots:
        bottom = _placed(root, starts, 0, bottom) + GAP
    right = max((node.x + node.width for nodes in columns for node in nodes), default=0.0)
    return Layout(roots, right + PADDING, bottom - GAP + PADDING if roots else 2 * PADDING)


def _grown(box: Box, boxes: dict[str, Box], leaving: dict[str, list[Arrow]], placed: set[str]) -> Node:
    """A box with all that it leads to and that stands nowhere yet, level by level."""
    root = _node(box)
    placed.add(box.name)
    waiting = [root]
    while waiting:
        node = waiting.pop(0)
        for arrow in leaving.get(node.box.name, ()):
            child = _node(boxes[arrow.end], points=arrow.end in placed)
            child.label = wrap(arrow.label, LONGEST_LABEL_LINE)
            child.is_dotted = arrow.is_dotted
            node.children.append(child)
            if child.reference is None:
                placed.add(arrow.end)
                waiting.append(child)
    return root


def _node(box: Box, *, points: bool = False) -> Node:
    if points:
        lines = [f"\N{LEFTWARDS ARROW WITH HOOK} {box.title or box.text}"]
    else:
        lines = [*([box.title] if box.title else []), *wrap(box.text, LONGEST_LINE)]
    return Node(
        box=box,
        lines=lines,
        reference=box.name if points else None,
        width=max(map(len, lines), default=1) * CHARACTER + 2 * PADDING,
        height=len(lines) * LINE + 1.2 * PADDING,
    )


def _columns(roots: Sequence[Node]) -> list[list[Node]]:
    columns: list[list[Node]] = []
    level = list(roots)
    while level:
        columns.append(level)
        level = [child for node in level for child in node.children]
    return columns


def _placed(node: Node, starts: Sequence[float], depth: int, top: float) -> float:
    """Place a node and all below it, from `top` down; gives where they end. A node stands in the middle of its own."""
    node.x = starts[depth]
    bottom = top
    for place, child in enumerate(node.children):
        label = len(child.label) * LINE
        room = max(0.0, label - child.height)
        bottom = _placed(child, starts, depth + 1, bottom + (GAP if place else 0.0) + room / 2) + room / 2
    height = bottom - top
    if node.height > height:
        _shift(node.children, (node.height - height) / 2)
        node.y = top
        return top + node.height
    node.y = top + (height - node.height) / 2
    return bottom


def _shift(nodes: Sequence[Node], by: float) -> None:
    for node in nodes:
        node.y += by
        _shift(node.children, by)


def shape_of(node: Node) -> Shape | None:
    """The shape to draw; None for a box that only points to another."""
    return None if node.reference is not None else node.box.shape
