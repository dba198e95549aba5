"""The digits that a menu takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """How many digits may be typed, and whether # ends the input."""

    min_digits: int
    max_digits: int
    complete_on_hash: bool

    def takes(self, digits: str) -> bool:
        """Whether this input is valid: the right number of characters, all of them digits."""
        return self.min_digits <= len(digits) <= self.max_digits and digits.isascii() and digits.isdigit()
