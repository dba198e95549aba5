"""What a cell of a spreadsheet shows by its number format: 15%, 13.07, 0331 123456, K-0042, Yes, Thursday.

Signs between thousands, currencies, and the units behind a quantity are left out: texts and filters read the amount.
Fractions and powers of ten are plain numbers. A cell that shows a day and its month holds that date, however its format
writes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property, lru_cache
from locale import windows_locale
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.model.flows.values import EXACT, value_text

if TYPE_CHECKING:
    from babel import Locale

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"?|\\(?P<escaped>.)|\[\$(?P<currency>[^-\]]*)-?(?P<language>[^\]]*)\]|\[(?P<elapsed>h+|m+|s+)\]|'
    r"\[(?P<condition>[<>=]+)(?P<limit>-?\d+(?:\.\d*)?)\]|\[(?P<colour>[^\]]*)\]|(?P<skipped>[_*].)|(?P<general>General)|"
    r"(?P<noon>AM/PM|A/P|上午/下午|午前/午後|오전/오후)|(?P<power>E[+-])|(?P<part>y+|m+|d+|h+|s+|b+|g+|e+)|"
    r"(?P<next>;)|(?P<plain>.)",
    re.DOTALL | re.IGNORECASE,
)
_PLAIN = {**dict.fromkeys("0#?", "place"), ".": "point", ",": "group", "%": "percent", "@": "value"}
_PERCENT = re.compile(" ?[%‰]")
_DAY, _HOUR, _MINUTE, _SECOND = ({part, part * 2} for part in "dhMs")
_LONGEST_CODE, _SHOWN_DIGITS = 9, 6
"""A longer number that has no more digits before its zeros may have lost some: Excel keeps 15."""
_NOON = {"上午/下午": "zh", "午前/午後": "ja", "오전/오후": "ko"}
_EAST_ASIAN = {**dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 57, 58), "yyyy-mm-dd"), 32: "h:mm", 33: "h:mm:ss"}
"""The built-in formats of Excel in Chinese, Japanese and Korean (ECMA-376)."""


class BadCell(NamedTuple):
    """A cell whose content cannot be used, and the reason, as a clause."""

    problem: str

    def __str__(self) -> str:
        """What a file of rejects has in its place: an error, so that nobody takes it for a value."""
        return "#N/A"


class Shown(NamedTuple):
    """The text that a cell shows by its format, and the value behind it: the text is not all of it."""

    text: str
    value: object

    def __str__(self) -> str:
        """The text."""
        return self.text

    @property
    def hidden_time(self) -> time | None:
        """The time of day behind a cell that shows its day alone; None for any other cell."""
        is_day = isinstance(self.value, datetime) and self.text == self.value.date().isoformat()
        return self.value.time() if is_day and isinstance(self.value, datetime) else None


class _Token(NamedTuple):
    """A part of a format: a literal text, or what stands for a part of the value."""

    kind: str
    text: str


@dataclass
class _Section:
    """One section of a format. `language` is that of its names; `is_coloured` if it has a colour, such as red."""

    tokens: list[_Token]
    condition: tuple[str, Decimal] | None = None
    language: str | None = None
    is_coloured: bool = False

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of its tokens."""
        return frozenset(token.kind for token in self.tokens)

    def has(self, *kinds: str) -> bool:
        """Whether it has a token of one of these kinds."""
        return not self.kinds.isdisjoint(kinds)

    @cached_property
    def parts(self) -> set[str]:
        """The parts of a date and time that it shows: `mm` is the month, and `MM` are the minutes."""
        return {token.text for token in self.tokens if token.kind == "part"}

    @cached_property
    def text(self) -> str:
        """All of it as it is written, without quotes."""
        return "".join(token.text for token in self.tokens)

    def meets(self, value: Decimal) -> bool:
        """Whether its condition, such as >=90, holds for a value."""
        sign, limit = self.condition or (">=", value)
        equal, less = "=" in sign and value == limit, "<" in sign and value < limit
        return equal or less or (">" in sign and value > limit)

    @cached_property
    def is_code(self) -> bool:
        """Whether it shows a code, and no quantity: it has several zeros, or other signs before its last digit.

        A currency makes a quantity of any number.
        """
        if self.has("point", "group", "percent") or _has_currency(self.text):
            return False
        before = self.tokens[: self.last_place]
        return any(token == ("place", "0") or (token.kind == "text" and token.text.strip()) for token in before)

    def quantity(self, amount: Decimal) -> str:
        """An amount with the decimals that it shows, signs such as + before it, and its percent or thousands."""
        kinds = [token.kind for token in self.tokens]
        point = kinds.index("point") if "point" in kinds else len(kinds)
        ones = max((index for index in range(point) if kinds[index] == "place"), default=0)
        thousands = kinds[ones:].count("group")
        decimals = "".join(token.text for token in self.tokens[point:] if token.kind == "place")
        zeros = sum(token == ("place", "0") for token in self.tokens[:point])
        sign = "".join(token.text for token in self.tokens[: kinds.index("place")] if token.kind == "text").strip()
        if _has_currency(sign) or not {*"-\u2212()"}.isdisjoint(sign) or any(map(str.isalnum, sign)):
            sign = ""
        behind = "".join(token.text for token in self.tokens[self.last_place + 1 :] if token.kind != "group")
        unit = behind if thousands else "".join(_PERCENT.findall(behind)[:1])
        exact, kept = amount * 100 ** kinds.count("percent") / 1000**thousands, len(decimals.rstrip("#?"))
        before, _, after = f"{_rounded(exact, len(decimals)):f}".partition(".")
        after = after[:kept] + after[kept:].rstrip("0")
        return f"{sign}{before.rjust(zeros, '0')}{'.' if after else ''}{after}{unit}".strip()

    @cached_property
    def last_place(self) -> int:
        """The index of its last digit."""
        return max(index for index, token in enumerate(self.tokens) if token.kind == "place")

    @cached_property
    def is_signed(self) -> bool:
        """Whether a section for numbers below 0 shows that: by a minus, by brackets or by a colour."""
        return self.is_coloured or not {"-", "\u2212", "("}.isdisjoint(self.text)


def _has_currency(text: str) -> bool:
    return any(unicodedata.category(sign) == "Sc" for sign in text)


@dataclass(frozen=True)
class NumberFormat:
    """A number format, by its sections: for numbers above 0, below 0, of 0, and for texts."""

    sections: Sequence[_Section]

    @cached_property
    def of_numbers(self) -> Sequence[_Section]:
        """The sections for numbers."""
        return [each for each in self.sections[:3] if not each.has("value")] or [self.sections[0]]

    @cached_property
    def is_moment(self) -> bool:
        """Whether the cell holds a date, a time or a duration."""
        return self.sections[0].has("part", "elapsed", "noon")

    @cached_property
    def is_duration(self) -> bool:
        """Whether it counts hours, minutes or seconds beyond a day."""
        return self.sections[0].has("elapsed")

    @cached_property
    def shows_clock(self) -> bool:
        """Whether it shows a time of day, or a duration."""
        return self.sections[0].has("elapsed", "noon") or bool(self.sections[0].parts & (_HOUR | _MINUTE | _SECOND))

    def of_text(self, text: str) -> str:
        """A text as the format shows it."""
        section = self.sections[-1]
        if not section.has("value") or section.text == "@":
            return text
        return "".join(text if token.kind == "value" else token.text for token in section.tokens).strip()

    def of_number(self, value: float) -> object:
        """A number as the format shows it: a code as a text, a quantity as `Shown`, and None for an empty cell.

        The number itself, if it is shown as it is, or in a way that loses digits.
        """
        exact = Decimal(repr(value))
        section, is_own = self._section(exact)
        if abs(exact) >= EXACT or section.has("power", "value", "general") or "/" in section.text:
            return value
        if not section.has("place"):
            return section.text.strip() or None
        is_signed = exact < 0 and (section.is_signed if is_own else True)
        if section.is_code and not (is_own and section.is_signed):
            digits = str(int(_rounded(abs(exact), 0)) or "")
            if len(digits) > _LONGEST_CODE and len(digits.rstrip("0")) <= _SHOWN_DIGITS:
                return value
            return ("-" if is_signed and digits else "") + _filled(section.tokens, digits)
        text = section.quantity(abs(exact))
        if is_signed and not {*"123456789"}.isdisjoint(text):
            text = f"-{text}"
        return value if text == value_text(value) else Shown(text, value)

    def of_moment(self, value: date | time | timedelta, voice: str) -> object:
        """A date, time or duration as the format shows it, or the value itself, if the cell shows all of it.

        Names of days and months are in the format's language, else in that of a `voice` such as de-DE-KatjaNeural.
        """
        section = self.sections[0]
        parts = section.parts
        if isinstance(value, timedelta):
            is_plain = section.parts & _MINUTE and section.has("elapsed") and "h" in section.text
            return value if is_plain else Shown(_written(section, value, voice), value)
        if parts & _DAY and any(part[0] == "m" for part in parts):
            if not isinstance(value, datetime):
                return value
            if self.shows_clock:
                return value if parts & _SECOND else value.replace(second=0, microsecond=0)
            return _day_of(value)
        clock = value.time() if isinstance(value, datetime) else value
        signs = "".join(token.text for token in section.tokens if token.kind != "part")
        is_clock = parts & _HOUR and parts & _MINUTE and all(part[0] in "hMs" for part in parts)
        if not isinstance(clock, time) or not is_clock or signs.strip(":. "):
            return Shown(_written(section, value, voice), value)
        clock = clock if parts & _SECOND else clock.replace(second=0, microsecond=0)
        if isinstance(value, time):
            return clock
        return Shown(clock.isoformat("seconds" if clock.second else "minutes"), value)

    def _section(self, value: Decimal) -> tuple[_Section, bool]:
        """The section for a number, and whether it is for numbers below 0 alone, so that it shows their sign itself."""
        sections = self.of_numbers
        if any(each.condition for each in sections):
            found = next((each for each in sections if each.condition is None or each.meets(value)), sections[-1])
            sign, limit = found.condition or ("", value)
            return found, value < 0 and "<" in sign and limit <= 0
        if value < 0 and len(sections) > 1:
            return sections[1], True
        return sections[2 if value == 0 and len(sections) > 2 else 0], False


@lru_cache(maxsize=1000)
def number_format(code: str) -> NumberFormat | None:
    """The format of a code such as 0.00%; None for one that shows each value as it is."""
    sections = [_Section([])]
    for match in _TOKEN.finditer(code):
        kind, section = match.lastgroup or "colour", sections[-1]
        match kind:
            case "next":
                sections.append(_Section([]))
            case "language":
                section.tokens += [_Token("text", match["currency"])] if match["currency"] else []
                section.language = _language_of(match["language"]) or section.language
            case "limit":
                section.condition = match["condition"], Decimal(match["limit"])
            case "colour":
                section.is_coloured = match[0].casefold().startswith(("[red", "[color"))
            case _:
                section.tokens.append(_token(kind, match))
    for section in sections:
        _mark_minutes(section.tokens)
    is_plain = len(sections) == 1 and sections[0].text.casefold() in {"", "general", "@"}
    return None if is_plain else NumberFormat(sections)


def _token(kind: str, match: re.Match[str]) -> _Token:
    text = match[kind]
    match kind:
        case "quoted" | "escaped":
            return _Token("text", text)
        case "skipped":  # the width of another sign, or a sign that fills the cell
            return _Token("text", " ")
        case "plain":
            return _Token(_PLAIN.get(text, "text"), text)
        case _:
            return _Token(kind, text.lower() if kind in {"part", "elapsed"} else text)


def built_in(number: int) -> str | None:
    """The code of a built-in format; None for one that shows each value as it is."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS

    return _EAST_ASIAN.get(number) or BUILTIN_FORMATS.get(number)


def _mark_minutes(tokens: list[_Token]) -> None:
    """Write the minutes of a time of day as M: m beside hours and seconds is no month."""
    units = [index for index, token in enumerate(tokens) if token.kind in {"part", "elapsed"}]
    for place, index in enumerate(units):
        if tokens[index].kind == "part" and tokens[index].text in {"m", "mm"}:
            before = tokens[units[place - 1]].text[0] if place else ""
            behind = tokens[units[place + 1]].text[0] if place + 1 < len(units) else ""
            if before == "h" or behind == "s":
                tokens[index] = _Token("part", tokens[index].text.upper())


def _language_of(tag: str) -> str | None:
    """The language that a format names, such as 407 or de-DE, for names of days and months."""
    if re.fullmatch("[0-9A-Fa-f]{3,8}", tag):
        return windows_locale.get(int(tag, 16) & 0xFFFF)
    return tag if re.fullmatch("[a-z]{2,3}(-[A-Za-z]{2,4})*", tag) else None


def _rounded(amount: Decimal, decimals: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def _filled(tokens: Sequence[_Token], digits: str) -> str:
    """The digits of a code in their places; the first place has all that are left."""
    text, places = "", sum(token.kind == "place" for token in tokens)
    for kind, part in reversed(tokens):
        here = part
        if kind == "place":
            places -= 1
            here, digits = (digits[-1:], digits[:-1]) if places else (digits, "")
            here = here or part.strip("#?")
        text = here + text
    return text.strip()


def _day_of(value: datetime) -> object:
    """The date that a cell without a time of day shows. What is within a minute of midnight is meant for it.

    Programs that take the clock of another year for that of a zone are some seconds off.
    """
    near = value + timedelta(minutes=1)
    return near.date() if near.time() <= time(minute=2) else Shown(value.date().isoformat(), value)


def _written(section: _Section, value: date | time | timedelta, voice: str) -> str:
    """A moment, part by part, as a section writes it."""
    elapsed = value if isinstance(value, timedelta) else timedelta()
    if isinstance(value, datetime | time):
        elapsed = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second)
    seconds = int(elapsed.total_seconds())
    hour, clocks = seconds // 3600 % 24, {"h": 3600, "m": 60, "s": 1}
    names, text = _locale(section.language or voice), ""
    for kind, part in section.tokens:
        if kind == "elapsed":
            text += f"{seconds // clocks[part[0]]:0{len(part)}}"
        elif kind == "noon":
            own = _locale(_NOON[part]).day_periods["format"]["wide"] if part in _NOON else None
            text += own["pm" if hour >= 12 else "am"] if own else part.split("/")[hour >= 12]
        elif kind == "part" and part[0] in "hMs":
            shown = hour if part[0] == "h" else seconds // clocks[part[0].lower()] % 60
            text += f"{(shown + 11) % 12 + 1 if part[0] == 'h' and section.has('noon') else shown:0{len(part)}}"
        elif kind == "part":
            text += _of_day(part, value, names) if isinstance(value, date) else ""
        else:
            text += part
    return " ".join(text.split())


def _of_day(part: str, value: date, names: Locale) -> str:
    """A part of a date: its day, month or year, in digits or by name."""
    from babel.dates import format_date

    if part[0] in "bge":
        return str(value.year) if part[0] != "g" else ""
    pattern = part.replace("d", "c") if part[:3] == "ddd" else part.replace("m", "L")
    return format_date(value, pattern, locale=names)


@lru_cache(maxsize=64)
def _locale(voice: str) -> Locale:
    """The names of days and months in a language such as de_DE, or that of a voice; in English, if none is known."""
    from babel import Locale, UnknownLocaleError

    parts = re.split("[-_]", voice)
    for name in ("_".join(parts[:2]), parts[0]):
        with suppress(UnknownLocaleError, ValueError):
            return Locale.parse(name)
    return Locale("en")
