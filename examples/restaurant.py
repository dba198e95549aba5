"""A menu with handlers and typed digits, which answers calls to your numbers.

The program plays a call, without a telephone:

    python examples/restaurant.py

With an account, a receiver answers real ones: voiceflow serve --ivr restaurant:main --register https://calls.example.com
"""

from __future__ import annotations

import asyncio
from zoneinfo import ZoneInfo

from voiceflow_worker import CallFlow, CallWindow, Menu
from voiceflow_worker.ivr import Caller, End, Retry, SimulatedCall

OURS, DESK = "+6531234567", "+6587654322"
HOURS, ZONE = CallWindow.parse("11:00-22:00", days="mon-sat", holidays="SG"), ZoneInfo("Asia/Singapore")

main = Menu(
    "main",
    prompt="To book a table press 1, for our opening hours press 2, to speak to us press 3.",
    voice_profile="en-US-BenjaminRUS",
    retry_text="Sorry, that is not a valid choice.",
    fallback=End("Goodbye."),
    inbound=True,
)
people = Menu("people", prompt="For how many people? Type the number, then press hash.")

main.on("1", goto=people)
main.on("2", goto="We are open from Monday to Saturday, from eleven to ten.")


@main.on("3")
def speak(caller: Caller) -> CallFlow | End:
    """Connect the caller to the desk while somebody is there."""
    if HOURS.is_open(caller.now, ZONE):
        return CallFlow.bridge(source=OURS, destination=DESK)
    return End("We are closed now. Please call again.")


@people.capture(max_digits=2)
async def book(caller: Caller) -> End | Retry:
    """Book a table for the number of people that was typed."""
    if not 1 <= int(caller.digits) <= 12:
        return Retry("We seat one to twelve.")
    return End(f"Your table for {caller.digits} is booked.")


async def play() -> None:
    """Play a call of somebody who books a table."""
    call = SimulatedCall(main)
    print("hears:", (await call.begin()).text)
    for keys in ("1", "44#", "4#"):
        print("presses", keys, "and hears:", (await call.press(keys)).text)


if __name__ == "__main__":
    asyncio.run(play())
