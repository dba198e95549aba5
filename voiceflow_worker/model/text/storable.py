"""Texts that a store can keep: any Unicode text that has no half of a surrogate pair."""

from __future__ import annotations

import re

from voiceflow_worker.errors import InvalidInputError

_HALF = re.compile("[\ud800-\udfff]")


def half_pair_in(text: str) -> re.Match[str] | None:
    """The first place in a text that has half of a surrogate pair, high or low; None if there is none."""
    return None if text.isascii() else _HALF.search(text)


def half_pair_problem(text: str) -> str | None:
    """The error message, without its subject, for a text that no store can keep; None for any other text."""
    found = half_pair_in(text)
    if found is None:
        return None
    return (
        f"has half a surrogate pair (U+{ord(found[0]):04X}) at character {found.start() + 1}, which no store can keep; "
        "remove it"
    )


def checked_text(name: str, text: str) -> str:
    """The text, if a store can keep it. Otherwise raises InvalidInputError; its message begins with `name`."""
    problem = half_pair_problem(text)
    if problem is not None:
        raise InvalidInputError(f"{name} {problem}")
    return text
