"""Call flows for tests; the numbers are of the kinds that numbering plans keep free for fiction."""

from __future__ import annotations

from voiceflow_worker import CallFlow

SOURCE = "+6531234567"


def flow(destination: str = "+6587654321", text: str = "Your order is ready.") -> CallFlow:
    return CallFlow.call(destination, source=SOURCE).say(text, voice_profile="en-IE-EmilyNeural").hangup()


def number(place: int) -> str:
    """The n-th number of a made-up range: one number for each call of a test."""
    return f"+65{80000000 + place}"
