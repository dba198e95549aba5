"""A picture of menus as SVG, with nothing but this file: no fonts, scripts or styles from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from voiceflow_worker.ivr.graph.layout import CHARACTER, LINE, PADDING, Node, laid_out, shape_of
from voiceflow_worker.ivr.graph.picture import Picture, Shape

_FILLS = {
    Shape.MENU: ("#e8f0fe", "#3367d6"),
    Shape.SPEECH: ("#fef7e0", "#b06000"),
    Shape.BRIDGE: ("#e6f4ea", "#137333"),
    Shape.END: ("#f1f3f4", "#5f6368"),
    Shape.CODE: ("#f3e8fd", "#7627bb"),
    None: ("#ffffff", "#80868b"),
}
_FONT = 'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" font-size="13"'
_ARROWHEAD = (
    '<marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#5f6368"/></marker>'
)
_ROUND = {Shape.MENU: 4.0, Shape.SPEECH: 10.0, Shape.BRIDGE: 0.0, Shape.END: 16.0, Shape.CODE: 4.0, None: 16.0}


def svg(picture: Picture, *, title: str) -> str:
    """The picture as an SVG document; `title` is read to those who do not see it."""
    layout = laid_out(picture)
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">',
        f"<title>{escape(title)}</title>",
        f"<defs>{_ARROWHEAD}</defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for root in layout.roots:
        lines += _drawn(root)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(node: Node) -> Iterator[str]:
    for child in node.children:
        yield _arrow(node, child)
    yield _box(node)
    for child in node.children:
        yield from _drawn(child)


def _box(node: Node) -> str:
    shape = shape_of(node)
    fill, line = _FILLS[shape]
    dash = ' stroke-dasharray="3 3"' if shape is None else ""
    place = f'x="{node.x:.1f}" y="{node.y:.1f}" width="{node.width:.1f}" height="{node.height:.1f}"'
    rect = f'<rect {place} rx="{_ROUND[shape]}" fill="{fill}" stroke="{line}"{dash}/>'
    bold = bool(node.box.title) and shape is not None
    return rect + _text(node.lines, x=node.x + PADDING, middle=node.middle, bold=bold)


def _arrow(node: Node, child: Node) -> str:
    start, end = node.x + node.width, child.x
    label = max((len(line) for line in child.label), default=0) * CHARACTER
    text = end - 2 * PADDING - label
    bend = (start + (text if child.label else end)) / 2
    turn = text - 4 if child.label else end
    dash = ' stroke-dasharray="4 3"' if child.is_dotted else ""
    path = (
        f"M{start:.1f} {node.middle:.1f}C{bend:.1f} {node.middle:.1f} {bend:.1f} {child.middle:.1f} "
        f"{turn:.1f} {child.middle:.1f}L{end:.1f} {child.middle:.1f}"
    )
    line = f'<path d="{path}" fill="none" stroke="#5f6368"{dash} marker-end="url(#to)"/>'
    if not child.label:
        return line
    height = len(child.label) * LINE
    back = (
        f'<rect x="{text - 4:.1f}" y="{child.middle - height / 2:.1f}" width="{label + 4:.1f}" height="{height:.1f}" '
        'fill="#ffffff"/>'
    )
    return line + back + _text(child.label, x=text, middle=child.middle)


def _text(lines: Sequence[str], *, x: float, middle: float, bold: bool = False) -> str:
    first = middle - len(lines) * LINE / 2 + LINE * 0.75
    spans: list[str] = []
    for place, line in enumerate(lines):
        weight = ' font-weight="bold"' if bold and place == 0 else ""
        spans.append(f'<tspan x="{x:.1f}" y="{first + place * LINE:.1f}"{weight}>{escape(line)}</tspan>')
    return f'<text fill="#202124">{"".join(spans)}</text>'
