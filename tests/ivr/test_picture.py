from __future__ import annotations

import pytest

from voiceflow_worker import BACK, Again, Caller, CallFlow, End, Menu
from voiceflow_worker.ivr.graph.mermaid import mermaid

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
    text = mermaid(main)
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
