"""A picture of menus as Mermaid text, which GitHub, GitLab and many wikis draw (mermaid.js.org, flowchart syntax)."""

from __future__ import annotations

from voiceflow_worker.ivr.graph.picture import Box, Picture, Shape

_SHAPES = {
    Shape.MENU: ('["', '"]'),
    Shape.SPEECH: ('("', '")'),
    Shape.BRIDGE: ('[["', '"]]'),
    Shape.END: ('(["', '"])'),
    Shape.CODE: ('{{"', '"}}'),
}
_ESCAPES = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "\\": "#92;", "`": "#96;", "#": "#35;"}


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart, with a line break at its end."""
    lines = ["flowchart TD"]
    lines += [f"    {box.name}{_shaped(box)}" for box in picture.boxes]
    for arrow in picture.arrows:
        line = "-.->" if arrow.is_dotted else "-->"
        label = f'|"{_escaped(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {arrow.start} {line}{label} {arrow.end}")
    return "\n".join(lines) + "\n"


def _shaped(box: Box) -> str:
    opens, closes = _SHAPES[box.shape]
    title = f"<b>{_escaped(box.title)}</b>" if box.title else ""
    return f"{opens}{'<br/>'.join(part for part in (title, _escaped(box.text)) if part)}{closes}"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
