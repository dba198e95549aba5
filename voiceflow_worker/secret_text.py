"""Secrets of which two values may stand at once, while they are changed."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

SHORTEST = 8
"""The least characters of a value, if two stand."""
LEAST = 16
"""The least characters of a secret that others may try to guess, without the scheme before it."""
_SCHEME = re.compile(r"\s*(?:bearer|basic)\s+", re.IGNORECASE)


def both_values(text: str) -> tuple[str, ...]:
    """Return the values in the text of a secret: two, if it has one comma between two of them, the new one first."""
    parts = tuple(part.strip() for part in text.split(","))
    return parts if len(parts) == 2 and min(map(len, parts)) >= SHORTEST else (text.strip(),)


def is_one_of(shown: bytes, values: Iterable[str]) -> bool:
    """Return whether this is one of the values. Takes as long, whichever it is."""
    return sum(hmac.compare_digest(shown, value.encode()) for value in values) > 0


def why_guessable(value: str) -> str | None:
    """Return why a secret can be guessed, as a clause; None if it cannot."""
    count = len(_SCHEME.sub("", value, count=1).strip())
    if count >= LEAST:
        return None
    return f"has {count} of at least {LEAST} characters, and can be guessed; `openssl rand -hex 32` makes one"
