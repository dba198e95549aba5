"""Telephone numbers as people, programs and spreadsheets write them, made by rules: no list has all of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from random import Random
from urllib.parse import quote, unquote

BLANKS = (" ", "\u00a0", "\u2009", "\u202f", "\u3000", "\t", "\u200b", "\ufeff", "\u200e", "\u202a")
SIGNS = (*"-./,;:()[]{}_|*#~'\"=+&!?@$%^<>\\", "\u2010", "\u2013", "\u2014", "\u2212", "\uff0d", "\u30fc", "\u00b7")
FORMS = (
    "{}", "Tel{}", "{}ext12", "{}Ann", "{}.0", "{}e0", "x{}x", "({})", "k0/{}", "of {} now", "2026-11-28 10:{}", "{}/2",
)  # fmt: skip
_DIGITS = ("", "\uff10", "\u0660", "\u06f0", "\u0966", "\U0001d7ce", "\u2080")
"""The zeros of other digits, and none for the usual ones."""


def spelt(random: Random, digits: str) -> str:
    """The digits in a spelling of their own: other digits, signs and blanks between them, and words around them."""
    zero = random.choice(_DIGITS)
    written = [chr(ord(zero) + int(each)) if zero else each for each in digits]
    parts: list[str] = []
    for each in written:
        if parts and random.random() < 0.4:
            parts += random.choices((*BLANKS, *SIGNS), k=random.randint(1, 6))
        parts.append(each)
    text = random.choice(FORMS).format("".join(parts).strip())
    match random.randrange(8):
        case 0:
            return quote(text, safe="")
        case 1:
            return quote(text)
        case 2:
            return "".join(each if each.isascii() else f"\\u{ord(each):04x}" for each in text if ord(each) < 0x10000)
        case _:
            return text


_MOMENT = re.compile(r"(?<!\S)(\d{4})-(\d\d)-(\d\d)(?: \d\d:\d\d)?(?!\S)")


def rows_of_digits(text: str) -> Iterator[str]:
    """The digits in a row of a text, as it stands and as its escapes mean it: without signs, blanks and whole dates."""
    unescaped = re.sub(
        r"\\+u([\da-fA-F]{4})", lambda found: chr(int(found[1], 16)), re.sub(r"\\+[nrt]", " ", unquote(text))
    )
    for shown in (text, unescaped):
        without = _MOMENT.sub(lambda found: " " if _is_date(found) else found[0], shown)
        plain = (each for each in unicodedata.normalize("NFKC", without) if each.isalnum() and each != "\u30fc")
        for row in re.findall(r"\d+", "".join(plain)):
            yield "".join(str(int(each)) for each in row)


def _is_date(found: re.Match[str]) -> bool:
    try:
        date(*map(int, found.groups()))
    except ValueError:
        return False
    return True
