"""A restaurant's phone: three levels of menus, opening hours, and a person to speak to.

Guests call in, or are called. The program needs no account: a sandbox in this process simulates 8x8 and the guests.

    python examples/restaurant.py

The menu is `main`. To play it in the terminal: `voiceflow ivr play restaurant:main`.
"""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from textwrap import shorten
from zoneinfo import ZoneInfo

from voiceflow_worker import (
    Again,
    Caller,
    CallFlow,
    CallQueue,
    CallRequest,
    CallWindow,
    End,
    Menu,
    Receiver,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

# -- the menus --------------------------------------------------------------------------------------------------------

OURS, DESK, ZONE = "+6531234567", "+6531234568", "Asia/Singapore"
HOURS = CallWindow.parse("11:30-23:00", days="tue-sun")
TO_DESK = CallFlow.bridge(source=OURS, destination=DESK)
CLOSED = "Nobody is here at this hour."

main = Menu(
    "main",
    prompt="Welcome. To book a table press 1, for our opening hours press 2, to speak to us press 3, to end press 9.",
    voice_profile="en-US-BenjaminRUS",
    retry_text="Sorry, that is not a valid choice.",
    fallback=End("Goodbye."),
    inbound=True,
)
day = Menu("day", prompt="For a table today press 1, for tomorrow press 2, for the main menu press 9.")
people = Menu("people", prompt="For how many people? Then press hash. For the main menu press 0 and hash.")

main.on("1", goto=day)
main.on("2", goto="We are open from Tuesday to Sunday, from half past eleven in the morning to eleven at night.")
main.on("9", goto=End("Goodbye."))
day.on("1", "2", goto=people)
day.on("9", goto=main)
people.on("0", goto=main)


@main.on("3", leads_to=[TO_DESK, CLOSED])
def speak(caller: Caller) -> CallFlow | str:
    """Connect to the desk during opening hours."""
    return TO_DESK if HOURS.is_open(caller.now, ZoneInfo(ZONE)) else CLOSED


@people.capture(max_digits=2)
def book(caller: Caller) -> End | Again:
    """Book the table, or ask again."""
    if not 1 <= int(caller.digits) <= 12:
        return Again("We have tables for one to twelve.")
    today = caller.pressed("day") == "1"
    on = caller.local_time(ZONE).date() + timedelta(days=0 if today else 1)
    bookings[caller.session_id] = (caller.number, on, int(caller.digits))
    return End(f"A table for {caller.digits}, {'today' if today else 'tomorrow'}. We look forward to seeing you.")


bookings: dict[str | None, tuple[str | None, date, int]] = {}
"""Your booking system, by session. If a handler runs again after a crash, it books nothing twice."""

# -- the menus in use -------------------------------------------------------------------------------------------------

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
SPEED = 200
"""The factor by which calls are faster than in reality."""
CALLED: dict[str, list[str | None]] = {
    "+6587654321": ["1", "1", "4#"],
    "+6587654322": ["2", "1", "9", "1", "2", "12#"],
    "+6587654323": ["3", "9"],
    "+6587654324": ["7", "1", "2", "0#", "1", "2", "40#", "*#", "6#"],
    "+6587654325": [None],
}
"""The keys that guests press when they are called."""


def invitation(number: str) -> CallRequest:
    """Return the call for one guest."""
    flow = main.call(number, source=OURS)
    return CallRequest(flow=flow, menu=main.name, batch_id="guests", unique_key=f"guests-{number}")


async def try_out(store: Store) -> Sandbox:
    """Call guests in a sandbox."""
    await CallQueue(store).enqueue_many([invitation(number) for number in CALLED])
    receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store, menus=[main])
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=SPEED)
        for number, keys in CALLED.items():
            sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.COMPLETED, keys=keys))
        async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
            await sandbox.idle()
    return sandbox


async def report() -> None:
    """Make the calls, and print the results."""
    async with open_store("memory://") as store:
        sandbox = await try_out(store)
        lines: list[str] = []
        for entry in sandbox.ledger:
            heard = shorten(entry.heard[-1], 60, placeholder=" …")
            last = f"connected to {entry.bridged_to}" if entry.bridged_to else f"heard last: {heard}"
            lines.append(
                f"{entry.destination} pressed {' '.join(key or '-' for key in entry.pressed) or 'nothing'}; {last}"
            )
        print("\n".join(sorted(lines)))
        for number, on, count in sorted(bookings.values(), key=str):
            print(f"booked: a table for {count} on {on}, for {number}")


if __name__ == "__main__":
    asyncio.run(report())
