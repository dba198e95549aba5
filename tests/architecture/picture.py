"""Pictures of the rooms, drawn from the imports of the source: `./dev picture`.

A room is a box in the row of its layer, and an arrow is an import. Arrows that follow from others are left out: with
`cli -> core` and `core -> model`, nothing is drawn from `cli` to `model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from tests.architecture.imports import ROOT, module_graph, modules
from tests.architecture.layers import layer_contracts, rooms_of

IMAGES = ROOT / "docs" / "images"
PICTURES = {
    "rooms": "voiceflow_worker",
    "core-rooms": "voiceflow_worker.core",
    "model-rooms": "voiceflow_worker.model",
}
"""Each picture, and the package whose rooms it shows."""

CHARACTER = 7.2
BOX_PADDING = 12
LINE = 16
GAP = 26
ROW_GAP = 46
LANE = 18
"""The width that an arrow takes in a row that it only passes."""
MARGIN = 16
WIDEST_ROOMS_LINE = 26

STYLE = """
  .page { fill: #ffffff } .box { fill: #f2f5f9; stroke: #5b6b7f } .name { fill: #17202b; font-weight: 600 }
  .inner { fill: #4c5a6b; font-size: 11px } .arrow { fill: none; stroke: #6b7c92; stroke-width: 1.2 }
  .head { fill: #6b7c92 }
  text { font: 13px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; text-anchor: middle }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12171e } .box { fill: #1f2833; stroke: #7d8ea3 } .name { fill: #e8eef5 }
    .inner { fill: #a9b7c8 } .arrow { stroke: #8b9cb2 } .head { fill: #8b9cb2 }
  }
"""

Edges = Mapping[str, frozenset[str]]


@dataclass
class _Place:
    """A room in its row, or, with no `name`, the point where an arrow passes the row."""

    name: str
    lines: Sequence[str] = ()
    x: float = 0
    y: float = 0
    row_height: float = 0
    above: list[_Place] = field(default_factory=list)
    below: list[_Place] = field(default_factory=list)

    @property
    def width(self) -> float:
        if not self.name:
            return LANE
        longest = max([len(self.name) * CHARACTER * 1.1, *(len(line) * CHARACTER * 0.86 for line in self.lines)])
        return longest + 2 * BOX_PADDING

    @property
    def height(self) -> float:
        return LINE * (1 + len(self.lines)) + BOX_PADDING if self.name else 0


def draw(package: str) -> str:
    """The rooms of a package and their imports, as SVG."""
    edges = _reduced(_imports(package))
    rows = _arranged(package, edges)
    width = max(sum(place.width + GAP for place in row) for row in rows) - GAP + 2 * MARGIN
    bottom = _set_out(rows, width)
    body = [_arrow(path) for path in _paths(rows)] + [_box(place) for row in rows for place in row if place.name]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom:.0f}" '
        f'width="{width:.0f}" height="{bottom:.0f}" role="img" aria-label="Rooms of {package} and their imports">'
    )
    page = '<rect class="page" width="100%" height="100%" rx="8"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *body, "</svg>", ""])


def _imports(package: str) -> Edges:
    """Which room of the package imports which."""
    found: dict[str, set[str]] = {room: set() for layer in layer_contracts()[package] for room in rooms_of(layer)}
    for name, imported in module_graph().items():
        here = _room_in(package, name)
        for other in (_room_in(package, each) for each in imported):
            if here in found and other in found and here != other:
                found[here].add(other)
    return {room: frozenset(others) for room, others in found.items()}


def _room_in(package: str, module: str) -> str:
    inner = module.removeprefix(package + ".")
    return "" if inner == module else inner.partition(".")[0]


def _reduced(edges: Edges) -> Edges:
    """The edges without those that follow from others."""

    def reach(room: str) -> set[str]:
        return set(edges[room]).union(*(reach(other) for other in edges[room]))

    beyond = {room: set().union(*(reach(other) for other in others)) for room, others in edges.items()}
    return {room: frozenset(others - beyond[room]) for room, others in edges.items()}


def _arranged(package: str, edges: Edges) -> Sequence[Sequence[_Place]]:
    """The rows from top to bottom, each in an order in which few arrows cross."""
    rows: list[list[_Place]] = []
    row_of: dict[str, int] = {}
    places: dict[str, _Place] = {}
    for layer in layer_contracts()[package]:
        rest = [room for room in rooms_of(layer) if any(_room_in(package, name) == room for name in modules())]
        while rest:  # a layer whose rooms import each other takes several rows
            top = [room for room in rest if not any(room in edges[other] for other in rest)]
            for room in top:
                places[room] = _Place(room, _inner_lines(f"{package}.{room}"))
                row_of[room] = len(rows)
            rows.append([places[room] for room in top])
            rest = [room for room in rest if room not in top]
    for room in sorted(row_of):
        for other in sorted(edges[room]):
            upper = places[room]
            for index in range(row_of[room] + 1, row_of[other]):
                rows[index].append(passing := _Place(""))
                _join(upper, passing)
                upper = passing
            _join(upper, places[other])
    for downwards in (True, False) * 8:
        _sort_rows(rows, downwards=downwards)
    return rows


def _join(upper: _Place, lower: _Place) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _sort_rows(rows: Sequence[list[_Place]], *, downwards: bool) -> None:
    """Move each place towards the middle of those that it is joined to in the row before."""
    for before, row in list(pairwise(rows))[:: 1 if downwards else -1]:
        fixed, moving = (before, row) if downwards else (row, before)
        at = {id(place): index / max(1, len(fixed) - 1) for index, place in enumerate(fixed)}
        old = {id(place): index / max(1, len(moving) - 1) for index, place in enumerate(moving)}

        def middle(place: _Place, at: Mapping[int, float] = at, old: Mapping[int, float] = old) -> float:
            joined = place.above if downwards else place.below
            return sum(at[id(each)] for each in joined) / len(joined) if joined else old[id(place)]

        moving.sort(key=middle)


def _inner_lines(package: str) -> Sequence[str]:
    """The rooms within a room, in lines of a few words."""
    below = {_room_in(package, name) for name, path in modules().items() if path.name == "__init__.py"} - {""}
    lines: list[str] = []
    for room in sorted(below):
        if lines and len(lines[-1]) + len(room) < WIDEST_ROOMS_LINE:
            lines[-1] += f" · {room}"
        else:
            lines.append(room)
    return lines


def _set_out(rows: Sequence[Sequence[_Place]], width: float) -> float:
    """Give every place its middle; gives the height of the picture."""
    y = float(MARGIN)
    for row in rows:
        height = max(place.height for place in row)
        free = (width - 2 * MARGIN - sum(place.width for place in row)) / (len(row) + 1)
        x = MARGIN + free
        for place in row:
            place.x, place.y, place.row_height = x + place.width / 2, y + height / 2, height
            x += place.width + free
        y += height + ROW_GAP
    return y - ROW_GAP + MARGIN


def _paths(rows: Sequence[Sequence[_Place]]) -> Iterable[Sequence[_Place]]:
    """Each arrow as the places that it goes through."""
    for row in rows:
        for place in row:
            for below in place.below if place.name else ():
                path = [place, below]
                while not path[-1].name:
                    path.append(path[-1].below[0])
                yield path


def _arrow(path: Sequence[_Place]) -> str:
    """A line from the lower edge of a box to the upper edge of another, through the places between."""
    start, end = path[0], path[-1]
    leaves = _port(start, start.below, path[1])
    arrives = _port(end, end.above, path[-2])
    x, y = arrives, end.y - end.height / 2 - 6
    drawn = f"M{leaves:.1f} {start.y + start.height / 2:.1f}"
    above = (leaves, start.y + start.row_height / 2)
    for x2, place in [*((each.x, each) for each in path[1:-1]), (arrives, end)]:
        top = place.y - place.row_height / 2 - (6 if place is end else 0)
        half = (above[1] + top) / 2
        drawn += f"V{above[1]:.1f}C{above[0]:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {top:.1f}"
        above = (x2, place.y + place.row_height / 2)
    drawn += f"V{y:.1f}"
    head = f"M{x - 4:.1f} {y:.1f}h8l-4 6z"
    return f'<path class="arrow" d="{drawn}"/><path class="head" d="{head}"/>'


def _port(place: _Place, joined: Sequence[_Place], other: _Place) -> float:
    """Where the arrow from or to `other` meets the edge of a box: side by side, in the order of the places joined."""
    order = sorted(joined, key=lambda each: each.x)
    index = next(index for index, each in enumerate(order) if each is other)
    return place.x + (index - (len(order) - 1) / 2) * min(14, (place.width - 20) / len(order))


def _box(place: _Place) -> str:
    top = place.y - place.height / 2
    left = place.x - place.width / 2
    texts = [f'<text class="name" x="{place.x:.1f}" y="{top + LINE + 1:.1f}">{escape(place.name)}</text>']
    texts += [
        f'<text class="inner" style="font-size:11px" x="{place.x:.1f}" y="{top + LINE * (index + 2):.1f}">'
        f"{escape(line)}</text>"
        for index, line in enumerate(place.lines)
    ]
    box = (
        f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" rx="6"/>'
    )
    return box + "".join(texts)


def main() -> None:
    """Write all pictures."""
    for name, package in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(draw(package), encoding="utf-8")


if __name__ == "__main__":
    main()
