from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from voiceflow_worker import BACK, END, Again, Caller, CallFlow, End, Menu
from voiceflow_worker.ivr.graph.layout import Node, laid_out
from voiceflow_worker.ivr.graph.mermaid import mermaid
from voiceflow_worker.ivr.graph.picture import picture_of
from voiceflow_worker.ivr.graph.svg import svg

OURS, DESK = "+6531234567", "+6587654322"


@pytest.fixture
def main() -> Menu:
    main = Menu("main", prompt='To "book" press 1 & wait; <b>2</b> is #2.', voice_profile="v", fallback=End("Goodbye."))
    booking = Menu("booking", prompt="Which day? " * 20)
    main.on("1", goto=booking)
    main.on("3", goto="We open at nine.")
    main.on("4", goto=CallFlow.reply().say("One moment.", voice_profile="v").then_call(DESK, source=OURS))

    @main.on("2")
    def connect(_: Caller) -> CallFlow | End:
        return CallFlow.bridge(source=OURS, destination=DESK)

    @booking.capture(max_digits=2, leads_to=[main, Again()])
    def day(_: Caller) -> Menu | Again:
        return main

    booking.on("9", goto=BACK)
    return main


def test_mermaid_shows_every_menu_and_every_way(main: Menu) -> None:
    text = mermaid(picture_of(main))
    assert text.startswith("flowchart TD\n")
    lines = [line.strip() for line in text.splitlines()]
    assert 'm0["<b>main</b><br/>To #quot;book#quot; press 1 #amp; wait; #lt;b#gt;2#lt;/b#gt; is #35;2."]' in lines
    assert 'm0 -->|"1"| m1' in lines
    assert 'm0 -->|"3: We open at nine."| m0' in lines
    assert 'm0c2s0[["One moment. call +6587654322"]]' in lines
    assert 'm0c3{{"<b>connect</b>"}}' in lines
    assert "m0c3 -.-> m0c3s0" in lines
    assert 'm0 -.->|"otherwise"| m0c4s0' in lines
    assert 'm0c4s0(["Goodbye."])' in lines
    assert "m1c0 --> m0" in lines
    assert 'm1c0 -->|"again"| m1' in lines
    assert 'm1 -->|"9"| m1c1s0' in lines
    assert any("…" in line for line in lines)  # the long prompt is cut


def test_svg_is_one_well_formed_document_with_every_text(main: Menu) -> None:
    text = svg(picture_of(main), title="The menus of <x> & y")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    said = " ".join(root.itertext())
    for each in ("The menus of <x> & y", "main", "booking", "connect", "hang up", "Goodbye.", "↩ main", "1-2 digits"):
        assert each in said
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # nothing comes from elsewhere


def test_boxes_stand_apart_and_within_the_picture(main: Menu) -> None:
    layout = laid_out(picture_of(main))
    nodes: list[Node] = []
    waiting = list(layout.roots)
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting += node.children
    assert len(nodes) >= 10
    for place, one in enumerate(nodes):
        assert one.x >= 0
        assert one.x + one.width <= layout.width
        assert one.y >= 0
        assert one.y + one.height <= layout.height
        for other in nodes[place + 1 :]:
            apart = (
                one.x + one.width <= other.x
                or other.x + other.width <= one.x
                or one.y + one.height <= other.y
                or other.y + other.height <= one.y
            )
            assert apart, f"{one.lines} and {other.lines} overlap"


def test_menus_that_nothing_joins_stand_side_by_side() -> None:
    one, two = Menu("one", prompt="One.", voice_profile="v"), Menu("two", prompt=lambda _: "Two.", voice_profile="v")
    one.on("1", goto=END)
    layout = laid_out(picture_of(one, two))
    assert [root.box.title for root in layout.roots] == ["one", "two"]
    assert layout.roots[0].y + layout.roots[0].height <= layout.roots[1].y
