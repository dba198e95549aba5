"""What a cell of a spreadsheet shows by a format of digits, signs and letters: 0331 123456, +6581234567, K-0042."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from voiceflow_worker.model.flows.values import EXACT

_PART = re.compile(r'"([^"]*)"|\\(.)|\[\$([^-\]]*)[^\]]*\]|\[[^\]]*\]|_.|\*.|(.)', re.DOTALL)
_PLACES, _SIGNS = frozenset("0#?@"), frozenset("-+ ()$:!';")


@lru_cache(maxsize=1000)
def _parts(code: str) -> tuple[tuple[str, bool], ...]:
    """The parts of a format's first section, and whether they are places for digits; none if it shows a quantity.

    What is no quantity has several zeros, or other characters before its last digit, which are no currency.
    """
    parts: list[tuple[str, bool]] = []
    for quoted, escaped, currency, plain in _PART.findall(code):
        if plain == ";":
            break
        if plain and plain not in _PLACES | _SIGNS:
            return ()
        parts.append((quoted or escaped or currency or plain, plain in _PLACES))
    last = max((place for place, (_, is_place) in enumerate(parts) if is_place), default=0)
    is_money = any(unicodedata.category(sign) == "Sc" for text, _ in parts for sign in text)
    return () if is_money or not "".join(text for text, _ in parts[:last]).strip("#? ") else tuple(parts)


def shown_by(code: str, value: object) -> object:
    """The text of a number or of a text as this format shows it; the value itself if it shows no more than that."""
    digits = value if isinstance(value, str) else _digits(value)
    parts = _parts(code)
    if not parts or digits is None or (digits is value and ("@", True) not in parts):
        return value
    text, places = "", sum(is_place for _, is_place in parts)
    for part, is_place in reversed(parts):  # the first place has all digits that are left
        places -= is_place
        here, digits = ("", digits) if not is_place else (digits[-1:], digits[:-1]) if places else (digits, "")
        text = (here or part.strip("#?@") if is_place else part) + text
    return value if text.strip() == str(value) else text.strip()


def _digits(value: object) -> str | None:
    """The digits of a whole number, unless some are lost: Excel keeps 15, and a shortened one ends in zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < EXACT or value != int(value):
        return None
    digits = str(int(value) or "")
    return None if len(digits) > 9 and len(digits.rstrip("0")) < 7 else digits
