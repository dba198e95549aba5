"""The menu that the receiver answers with: two levels, an end, a second party, and one who must not be called."""

from __future__ import annotations

from tests.support.flows import SOURCE, number
from voiceflow_worker import CallFlow, Menu
from voiceflow_worker.ivr import Caller, End

AGENTS = tuple(number(9_000_000 + place) for place in range(60))
"""Second parties, who are in one call at a time."""
NEVER_CALLED = number(9_900_000)
"""On the suppression list from the beginning, and still in the menu."""

main = Menu(
    "main",
    prompt="For our hours press 1, for a table 2, to speak to us 3, for the old desk 4, to end 5.",
    voice_profile="en-IE-EmilyNeural",
    retry_text="Sorry.",
    retries=1,
    fallback=End("Goodbye."),
)
table = Menu("table", prompt="For today press 1, for tomorrow 2, for the main menu 3.")
main.on("1", result="hours", goto=End("From nine to five."))
main.on("2", goto=table)
main.on("4", goto=CallFlow.bridge(source=SOURCE, destination=NEVER_CALLED))
main.on("5", result="nothing", goto=End("Goodbye."))
table.on("1", "2", result="a table", goto=End("Your table is booked."))
table.on("3", goto=main)


@main.on("3", leads_to=[CallFlow.bridge(source=SOURCE, destination=AGENTS[0])])
def speak(caller: Caller) -> CallFlow:
    """To one of those who may be in another call."""
    return CallFlow.bridge(source=SOURCE, destination=agent_for(caller.number or ""))


def agent_for(text: str) -> str:
    return AGENTS[sum(text.encode()) % len(AGENTS)]
