"""Numbers as people of 30 countries write them, and the slips they make. It shares nothing with the reader.

The tables are those of the countries' own dialling habits: X is any digit, N is 2 to 9. The first group of a pattern is
the area code or the first digits of a mobile number. phonenumbers says only which of the made numbers exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import phonenumbers


@dataclass(frozen=True, slots=True)
class Land:
    """A country: its code, what is dialled before national numbers, before foreign ones, and forms of its numbers."""

    name: str
    code: str
    trunk: str
    exits: tuple[str, ...]
    forms: tuple[str, ...]


LANDS = (
    Land("SG", "65", "", ("00", "001", "002", "008"), ("9XXX XXXX", "8XXX XXXX", "6XXX XXXX")),
    Land("MY", "60", "0", ("00",), ("12 XXX XXXX", "11 XXXX XXXX", "3 XXXX XXXX", "4 XXX XXXX")),
    Land("ID", "62", "0", ("001", "007", "008"), ("812 XXXX XXXX", "856 XXXX XXX", "21 XXXX XXXX", "22 XXX XXXX")),
    Land("TH", "66", "0", ("001", "009"), ("81 XXX XXXX", "2 XXX XXXX", "53 XXX XXX")),
    Land("PH", "63", "0", ("00",), ("917 XXX XXXX", "2 8XXX XXXX", "32 XXX XXXX")),
    Land("VN", "84", "0", ("00",), ("91X XXX XXX", "24 XXXX XXXX", "28 XXXX XXXX")),
    Land("IN", "91", "0", ("00",), ("98XXX XXXXX", "22 XXXX XXXX", "80 XXXX XXXX")),
    Land("CN", "86", "0", ("00",), ("138 XXXX XXXX", "10 XXXX XXXX", "755 XXXX XXXX")),
    Land("HK", "852", "", ("001", "002", "00"), ("9XXX XXXX", "2XXX XXXX")),
    Land("TW", "886", "0", ("002", "005", "009"), ("912 XXX XXX", "2 XXXX XXXX", "4 XXXX XXXX")),
    Land("JP", "81", "0", ("010",), ("90 XXXX XXXX", "3 XXXX XXXX", "45 XXX XXXX")),
    Land("KR", "82", "0", ("001", "002", "00700"), ("10 XXXX XXXX", "2 XXXX XXXX", "31 XXX XXXX")),
    Land("AU", "61", "0", ("0011",), ("4XX XXX XXX", "2 XXXX XXXX", "3 XXXX XXXX")),
    Land("NZ", "64", "0", ("00",), ("21 XXX XXXX", "9 XXX XXXX", "27 XXX XXXX")),
    Land("US", "1", "1", ("011",), ("NXX NXX XXXX",)),
    Land("MX", "52", "", ("00",), ("55 XXXX XXXX", "81 XXXX XXXX", "656 XXX XXXX", "442 XXX XXXX")),
    Land("BR", "55", "0", ("00", "0021", "0015"), ("11 9XXXX XXXX", "21 NXXX XXXX", "11 NXXX XXXX")),
    Land("CO", "57", "0", ("00", "005", "009"), ("300 XXX XXXX", "601 XXX XXXX")),
    Land("AR", "54", "0", ("00",), ("11 XXXX XXXX", "351 XXX XXXX")),
    Land("GB", "44", "0", ("00",), ("20 7XXX XXXX", "7911 XXXXXX", "161 XXX XXXX", "1223 XXXXXX")),
    Land("DE", "49", "0", ("00",), ("30 XXXXXXXX", "171 XXXXXXX", "431 XXXXXX", "8151 XXXXX", "4121 XXXXX")),
    Land("AT", "43", "0", ("00",), ("1 XXXXXXX", "664 XXXXXXX", "512 XXXXXX", "5632 XXXX")),
    Land("CH", "41", "0", ("00",), ("44 XXX XX XX", "79 XXX XX XX", "22 XXX XX XX")),
    Land("FR", "33", "0", ("00",), ("1 XX XX XX XX", "6 XX XX XX XX", "4 XX XX XX XX")),
    Land("IT", "39", "", ("00",), ("06 XXXX XXXX", "02 XXXX XXXX", "347 XXX XXXX", "055 XXX XXXX")),
    Land("ES", "34", "", ("00",), ("6XX XXX XXX", "91X XXX XXX", "93X XXX XXX")),
    Land("NL", "31", "0", ("00",), ("20 XXX XXXX", "6 XXXX XXXX", "70 XXX XXXX")),
    Land("PL", "48", "", ("00",), ("5XX XXX XXX", "22 XXX XX XX", "60X XXX XXX")),
    Land("ZA", "27", "0", ("00",), ("82 XXX XXXX", "21 XXX XXXX", "11 XXX XXXX")),
    Land("RU", "7", "8", ("810", "8~10"), ("495 XXX XX XX", "916 XXX XX XX", "812 XXX XX XX")),
)  # fmt: skip


class Spelt(NamedTuple):
    """A number as somebody wrote it in a file of the country, and what it is."""

    country: str
    text: str
    e164: str
    kind: str


def made(land: Land, random: Random) -> str:
    """A number of the country that exists, in groups."""
    while True:
        form = random.choice(land.forms)
        groups = "".join(
            str(random.randint(0, 9)) if sign == "X" else str(random.randint(2, 9)) if sign == "N" else sign
            for sign in form
        )
        number = phonenumbers.PhoneNumber()
        try:
            number = phonenumbers.parse(f"+{land.code}{groups.replace(' ', '')}")
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number_for_region(number, land.name):
            return groups


def good(random: Random) -> Spelt:
    """A good spelling, in one of many styles."""
    land = random.choice(LANDS)
    kind = random.choice(
        ("national", "national", "bare", "brackets", "slash", "own code", "exit", "zero", "area", "abroad")
    )
    other = random.choice(LANDS) if kind == "abroad" else land
    groups = made(other, random)
    area, _, rest = groups.partition(" ")
    mark = random.choice((" ", "-", ".", " - ", "\u00a0", "\u2011", ""))
    tail = rest.replace(" ", mark)
    trunk, code = land.trunk, other.code
    typed_trunk = trunk if trunk != "1" or random.random() < 0.3 else ""  # Americans rarely write it
    leave = random.choice(land.exits)
    match kind:
        case "national":
            text = f"{typed_trunk}{' ' if trunk in {'8', '1'} and typed_trunk and mark else ''}{area}{mark}{tail}"
        case "bare":  # a spreadsheet has dropped the zero
            text = f"{area}{mark}{tail}" if trunk else f"{area}{rest}".replace(" ", "")
        case "brackets":
            text = f"({trunk}{area}) {tail}" if trunk == "0" else f"{typed_trunk} ({area}) {tail}".strip()
        case "slash":
            text = f"{typed_trunk}{area}/{tail}"
        case "own code":
            text = f"{code}{mark}{area}{mark}{tail}"
        case "exit" | "abroad":
            text = f"{leave}{random.choice((' ', '-', ''))}{code}{mark}{area}{mark}{tail}"
        case "zero":
            front = random.choice(("+", leave + " ")) + code
            zero = f"({trunk})" if trunk else "(0)" if not area.startswith("0") else ""
            text = f"{front} {zero}{area}{mark}{tail}"
            if not trunk and area.startswith("0"):
                text = f"{front} (0){area[1:]}{mark}{tail}"
        case _:
            text = f"+{code} ({area}) {tail}"
    return Spelt(land.name, text, f"+{code}{groups}".replace(" ", ""), kind)


SLIPS = ("digit more", "digit less", "extension", "exit", "second", "groups", "digits", "plus")


def slip(random: Random) -> Spelt:
    """A number that needs interpretation in its country's file, with a slip. `e164` is what was meant."""
    land = random.choice(LANDS)
    kind = random.choice(SLIPS)
    groups = made(land, random)
    meant = f"+{land.code}{groups}".replace(" ", "")
    mark = random.choice((" ", "-", "", " "))
    trunk = land.trunk if land.trunk != "1" else ""
    leave = random.choice(land.exits)
    front = random.choice((trunk, trunk, trunk, "", land.code + mark, f"{leave}{mark}{land.code}{mark}"))
    text = front + groups.replace(" ", mark)
    # A slip in a country code behind a code for calls abroad names another country: nobody can know it.
    safe = len(front) if front.startswith(leave) else 0
    match kind:
        case "digit more":
            place = random.randint(safe, len(text))
            text = f"{text[:place]}{random.randint(0, 9)}{text[place:]}"
        case "digit less":
            place = random.choice([place for place, sign in enumerate(text) if sign.isdigit() and place >= (safe or 2)])
            text = text[:place] + text[place + 1 :]
        case "extension":
            number = str(random.randint(0, 9999))
            text += random.choice((" ", "/", " / ", " x", " ext ", " ext. ", "\n", " (", " #", "-", "  ")) + number
            text += ")" if "(" in text else ""
        case "exit":
            text = random.choice((leave, leave, "00", "0")) + mark + random.choice((trunk, "")) + text[len(front) :]
        case "second":
            text += random.choice(("/", " / ", "\n", " ", ", ", "; ", " or ", "")) + made(land, random).replace(
                " ", mark
            )
        case "groups":
            area, *parts = groups.split(" ")
            random.shuffle(parts)
            text = front + mark.join((area, *parts))
        case "digits":
            place = random.randint(safe, len(text) - 2)
            text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        case _:
            other = random.choice(LANDS)
            abroad = made(other, random)
            text = mark.join((other.code, *abroad.split(" ")))
    return Spelt(land.name, text, meant, kind)


def valid_readings(country: str, text: str) -> set[str]:
    """What a text could mean by the tables, in the simplest way: the numbers that exist."""
    land = next(each for each in LANDS if each.name == country)
    found: set[str] = set()
    for written in {text, text.replace("(0)", "")}:
        digits = "".join(sign for sign in written if sign.isdigit())
        if written.startswith("+"):
            found |= _existing([digits])
            continue
        bare = [digits, digits[len(land.trunk) :]] if land.trunk and digits.startswith(land.trunk) else [digits]
        found |= _existing([land.code + each for each in bare], country)
        if digits.startswith(land.code):
            found |= _existing([digits], country)
        exits = {"".join(sign for sign in each if sign.isdigit()) for each in (*land.exits, "00")}
        found |= _existing([digits[len(each) :] for each in exits if digits.startswith(each)])
    return found


def _existing(numbers: list[str], country: str | None = None) -> set[str]:
    found: set[str] = set()
    for number in numbers:
        try:
            read = phonenumbers.parse("+" + number)
        except phonenumbers.NumberParseException:
            continue
        exists = phonenumbers.is_valid_number(read)
        if exists and (country is None or phonenumbers.is_valid_number_for_region(read, country)):
            found.add(phonenumbers.format_number(read, phonenumbers.PhoneNumberFormat.E164))
    return found


def spelt(seed: int, count: int) -> Iterator[Spelt]:
    """So many good spellings that have one valid reading."""
    random = Random(seed)
    left = count
    while left:
        each = good(random)
        if len(valid_readings(each.country, each.text)) == 1:
            left -= 1
            yield each


def slips(seed: int, count: int) -> Iterator[Spelt]:
    """So many slips."""
    random = Random(seed)
    return (slip(random) for _ in range(count))
