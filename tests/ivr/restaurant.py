"""The restaurant of 8x8's guides: three levels, back to the main menu, opening hours, a person to speak to."""

from __future__ import annotations

import hashlib
from collections import Counter

from voiceflow_worker import Again, Caller, CallFlow, End, Menu, OpeningHours

OURS, DESK = "+6531234567", "+6587654322"
HOURS = OpeningHours("00:00-24:00", zone="Asia/Singapore")
FAILS_IN_100 = 5

main = Menu(
    "main",
    prompt="Welcome, {name}. To book press 1, for our opening hours press 2, to speak to us press 3, to end press 9.",
    voice_profile="en-US-BenjaminRUS",
    again="Sorry, that is no choice.",
    fallback=End("Goodbye."),
)
reservations = Menu("reservations", prompt="For today press 1, for tomorrow press 2, for the main menu press 9.")
people = Menu("people", prompt="For how many people? Then press hash.")

main.on("2", goto="We are open day and night.")
main.on("9", goto=End("See you soon."))
reservations.on("9", goto=main)
reservations.on("1", "2", goto=people)

booked: Counter[str | None] = Counter()
ran: Counter[str | None] = Counter()


def fails(event_id: str | None) -> bool:
    """Whether the handler of this event fails: in 5 of 100, and always for the same ones."""
    return int(hashlib.sha256(str(event_id).encode()).hexdigest(), 16) % 100 < FAILS_IN_100


@main.on("1", leads_to=[reservations])
async def book(caller: Caller) -> Menu:
    ran[caller.event_id] += 1
    if fails(caller.event_id):
        raise ConnectionError("the booking system is away")
    return reservations


@main.on("3")
def speak(caller: Caller) -> CallFlow | End:
    ran[caller.event_id] += 1
    if fails(caller.event_id):
        raise ConnectionError("the rota is away")
    return CallFlow.bridge(source=OURS, destination=DESK) if HOURS.is_open(caller.now) else End("We are closed.")


@people.capture(max_digits=2)
async def seats(caller: Caller) -> End | Again:
    ran[caller.event_id] += 1
    if fails(caller.event_id):
        raise ConnectionError("the booking system is away")
    if not 1 <= int(caller.digits) <= 12:
        return Again("We seat one to twelve.")
    booked[caller.job_id] += 1
    day = "today" if caller.pressed("reservations") == "1" else "tomorrow"
    return End(f"Booked for {caller.digits}, {day}.")
