"""Names of people in reasons and notes."""

from __future__ import annotations

from voiceflow_worker.model.text.printable import printable_line

LONGEST_NAME = 60


def by_person(who: str | None, text: str | None, done: str) -> str:
    """A person's reason with their name, such as `a wrong date (by Mary)`.

    Without a reason, the text says what was `done`: `held by Mary`, or `held by a person` if no name is known.
    """
    if not text:
        return f"{done} by {who or 'a person'}"
    return text if who is None else f"{text} (by {who})"


def read_name(text: str) -> str:
    """The name of a person on one line. Raises ValueError for an empty or too long name."""
    name = printable_line(" ".join(text.split()))
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"give a name of 1 to {LONGEST_NAME} characters")
    return name
