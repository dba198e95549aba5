"""Weather: the sandbox misbehaves as a network and a busy service do, by a seed."""

from __future__ import annotations

import random
from typing import Any


def calm(dice: random.Random) -> dict[str, Any]:
    """Answers that take their time: what a call is most of its life."""
    place = dice.choice(["before", "after"])
    return {"next": dice.randint(10, 40), "fault": "delay", "seconds": dice.uniform(0.002, 0.06), "place": place}


def storm(dice: random.Random) -> dict[str, Any]:
    """One to three POSTs that end in an unclear way, placed or not, or are turned away."""
    faults: list[dict[str, Any]] = [
        {"fault": "reset", "place": "after"},
        {"fault": "reset", "place": "before"},
        {"fault": "cut", "place": "after"},
        {"fault": "junk", "place": "after"},
        {"fault": "status", "status": 500, "place": "after"},
        {"fault": "status", "status": 502, "place": "before"},
        {"fault": "status", "status": 429, "retry_after": 0.05},
    ]
    return {"next": dice.randint(1, 3), **dice.choice(faults)}


def odd_summaries(dice: random.Random) -> dict[str, Any]:
    """The summary of the next call never comes, so that the log must tell of it, or comes again and again."""
    return {"times": 1, "drop": True} if dice.random() < 0.7 else {"times": 1, "duplicates": 2}


def weather(dice: random.Random) -> dict[str, Any]:
    """What comes next: a storm one time in five."""
    return storm(dice) if dice.random() < 0.2 else calm(dice)
