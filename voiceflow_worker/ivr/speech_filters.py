"""Template filters that write values as a voice should speak them, in the language of the voice.

`{{ day|date }}`, `{{ at|time }}`, `{{ amount|money("SGD") }}`, `{{ litres|number }}`, `{{ code|digits }}`, `{{
code|spell }}`. A filter takes a value as lists have it, such as 2030-01-31 and 1250.50, and refuses any other. Words
and their order come from the CLDR, through Babel.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from voiceflow_worker.model.flows.values import DECIMAL, WHOLE, value_text
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.model.times import YEARS, PersonZone, UnknownZoneError, year_problem

if TYPE_CHECKING:
    from babel import Locale
    from jinja2.runtime import Context

VOICE = "the voice"
"""The variable that holds a text's voice while it is filled in. No template can use it: its name has a space."""
ZONE = "the zone"
"""The variable that holds the person's `PersonZone` while a text is filled in. No template can use it either."""

_VOICE_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_]([A-Z][a-z]{3}))?(?:[-_]([A-Z]{2}|[0-9]{3}))?(?![A-Za-z0-9])")
_MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})?(?:(?:(?<=\d)[Tt ]|\A)(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s*([Zz]|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
"""A day, a time of day, or both; behind a time, its offset."""
_FORMS = ("full", "long", "medium", "short")
_DAY_PERIOD = re.compile(r"'[^']*'|a+")
_BETWEEN_DIGITS = re.compile(r"[\s\-+/()]")
_DECIMALS_OF = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}  # fmt: skip
_DECIMALS = {code: decimals for decimals, codes in _DECIMALS_OF.items() for code in codes.split()}
"""The decimals of currencies that have not 2, by ISO 4217. Those of the CLDR change with what is in use."""


class SpecimenText(str):
    """A stand-in for any value. Filters return it unchanged."""

    __slots__ = ()


class FilterError(ValueError):
    """Raised when a filter cannot use a value; `name` is the filter."""

    def __init__(self, name: str, value: str, reason: str) -> None:
        self.name = name
        self.value = value
        # No text can write a name with a space: it is that of a filter which the text does not show.
        super().__init__(reason if " " in name else f"{reason} (filter {name})")


def speech_filters() -> dict[str, Callable[..., object]]:
    """Return the filters for speech, by name."""
    filters = (date_, digits, money, number, spell, time_)
    return {each.__name__.strip("_"): _for_speech(each) for each in filters}


def _for_speech(function: Callable[..., str]) -> Callable[..., object]:
    from jinja2 import pass_context

    name = function.__name__.strip("_")

    @pass_context
    def filtered(context: Context, value: object, *arguments: object, language: str | None = None) -> str:
        if isinstance(value, SpecimenText):
            return value
        text = str(value)  # an empty cell raises here
        try:
            text = value_text(value).strip()
            if name in {"date", "time"}:
                text = local_text(text, context.get(ZONE), is_day=name == "date")
            spoken = function(text, _locale(language or str(context.get(VOICE) or "")), *arguments)
            return "".join(" " if unicodedata.category(each) == "Zs" else each for each in spoken)
        except TypeError:
            taken = ", ".join(map(repr, arguments)) or "no argument"
            raise FilterError(name, text, f"the filter does not take {taken}") from None
        except ValueError as error:
            raise FilterError(name, text, str(error)) from None

    return filtered


def zoned_moment(text: str) -> datetime | None:
    """Return the moment that a day, a time of day and an offset have; None for other texts. Raises ValueError."""
    match = _MOMENT.fullmatch(text)
    if match is None or match[3] is None:
        return None
    if match[1] is None:
        raise ValueError(f"{text[:40]!r} has a time zone and no day; write it as '2030-01-31T{text}', or without zone")
    clock = match[2] if match[2][1] != ":" else f"0{match[2]}"
    try:
        return datetime.fromisoformat(f"{match[1]}T{clock}{match[3].upper()}")
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time: there is no such day, time or offset; correct it") from None


def local_text(text: str, person: object, *, is_day: bool) -> str:
    """Return a time with an offset as the clocks of the person show it; other texts unchanged.

    Raises ValueError if the person's zone is not known, and with `is_day` for midnight in UTC that is another day
    there.
    """
    if (moment := zoned_moment(text)) is None:
        return text
    if moment.year not in YEARS:  # tables write a time of day so, by the clock of a program
        alone = "" if is_day else ", or write the time of day alone, such as 14:05"
        raise ValueError(f"{text[:40]!r} has the year {moment.year}: correct it{alone}")
    try:
        zone = person if isinstance(person, PersonZone) else PersonZone(None, ())
        local = zone.to_local(moment, text)
    except UnknownZoneError as error:
        raise ValueError(
            f"{text[:40]!r} has a time zone of its own, and that of the person is not known: {error}. Set `time_zone`, "
            "or give the row a column time_zone."
        ) from None
    in_utc = moment.astimezone(UTC)
    if is_day and in_utc.time() == time() and in_utc.date() != local.date():
        raise ValueError(
            f"{text[:40]!r} is midnight in UTC, which may be the day {in_utc.date()}, or {local:%Y-%m-%d %H:%M} where "
            "the phone is: write the day alone, or the local time without an offset"
        )
    return local.isoformat(" ", "minutes")


def date_(text: str, locale: Locale, form: str = "long") -> str:
    """Return a date: 31 January 2030. The form `full` has the weekday too."""
    from babel.dates import format_date

    if form not in _FORMS:
        raise ValueError(f"{form!r} is not a date format; give one of {', '.join(_FORMS)}")
    match = _MOMENT.fullmatch(text)
    try:
        day = date.fromisoformat((match and match[1]) or "")
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date; write it as 2030-01-31") from None
    if (problem := year_problem(day)) is not None:
        raise ValueError(f"{text[:40]!r} {problem}")
    if re.fullmatch(r"M\d\d", str(locale.months["format"]["wide"][day.month])):
        raise ValueError(f"the names of months are not known in {locale.english_name}: write the date in words")
    return format_date(day, form, locale=locale)


def time_(text: str, locale: Locale) -> str:
    """Return a time of day: 2:05 PM, or 14:05."""
    from babel.dates import format_time, get_time_format

    match = _MOMENT.fullmatch(text)
    try:
        hour, minute = ((match and match[2]) or "").split(":")[:2]
        at = time(int(hour), int(minute))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time of day; write it as 14:05") from None
    pattern = get_time_format("short", locale).pattern
    if "am" in locale.day_periods["format"].get("wide", {}):  # in Korean, the short form is English
        pattern = _DAY_PERIOD.sub(lambda part: "aaaa" if part[0] == "a" else part[0], pattern)
    return format_time(at, pattern, locale=locale)


def money(text: str, locale: Locale, currency: str) -> str:
    """Return an amount with the name of its currency: 12.50 Singapore dollars. Whole amounts have no decimals."""
    from babel.numbers import format_currency, get_currency_name, is_currency

    amount, code = _number(text, "an amount", "1250.50"), currency.upper()
    if not is_currency(code):
        raise ValueError(f"{code[:10]!r} is not a currency; write three letters, such as SGD")
    fraction = text.partition(".")[2]
    decimals = 0 if fraction in {"", "0", "00"} else len(fraction)
    if decimals > (most := _DECIMALS.get(code, 2)):
        # In many countries, a dot separates thousands: 1.250.
        right = f"write the amount without a separator, such as 1250{'.' + '5'.ljust(most, '0') if most else ''}"
        raise ValueError(f"{text[:40]!r} has {count_of(decimals, 'decimal')}, but {code} has {most}; {right}")
    if get_currency_name(code, locale=locale) == code:
        raise ValueError(f"the name of {code} is not known in {locale.english_name}: write it in the text")
    if is_whole := amount == amount.to_integral_value():
        amount = Decimal(int(amount))  # 1.00 has the plural of numbers with decimals: "1.00 dollars"
    shown: dict[str, Any] = {"format": "0" if is_whole else f"0.{'0' * most}", "currency_digits": False}
    return format_currency(amount, code, locale=locale, format_type="name", group_separator=False, **shown)


def number(text: str, locale: Locale) -> str:
    """Return a number with the decimal sign of the language: 1,25 in German."""
    return f"{_number(text, 'a number', '1250.5'):f}".replace(".", _decimal_sign(locale))


def _number(text: str, what: str, example: str) -> Decimal:
    """Return the number that a text is. Raises ValueError if it is none, or below 0."""
    if not (WHOLE.fullmatch(text) or DECIMAL.fullmatch(text)):
        raise ValueError(f"{text[:40]!r} is not {what}; write it as {example}")
    if (found := Decimal(text)) < 0:
        raise ValueError(
            f"{text[:40]!r} is below 0, and half of the voices leave a minus out: write the word in the text, and "
            "the amount with |abs"
        )
    return abs(found)


def _decimal_sign(locale: Locale) -> str:
    """Return the sign before decimals. English voices read a point everywhere, in South Africa too."""
    return "." if locale.language == "en" else str(locale.number_symbols["latn"]["decimal"])


def digits(text: str, _locale: Locale) -> str:
    """Return digits one by one: 1, 2, 3."""
    found = _BETWEEN_DIGITS.sub("", text)
    if not found.isdecimal():
        raise ValueError(f"{text[:40]!r} contains more than digits; use the filter spell, which also speaks letters")
    return ", ".join(str(int(digit)) for digit in found)


def spell(text: str, _locale: Locale) -> str:
    """Return letters and digits one by one: A, B, 1. A letter keeps its accents and vowel signs."""
    letters: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if letters and unicodedata.category(character)[0] == "M":
            letters[-1] += character
        elif character.isalnum():
            letters.append(character.upper() if len(character.upper()) == 1 else character)
    if not letters or DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} has no letters or digits, or is a number with decimals")
    return ", ".join(letters)


@lru_cache(maxsize=256)
def _locale(voice: str) -> Locale:
    """Return the locale of a voice such as en-IE-EmilyNeural, or of a language such as en. Raises ValueError."""
    from babel import Locale, UnknownLocaleError

    match = _VOICE_LANGUAGE.match(voice)
    if match is None:
        what = f"{voice[:40]!r} does not begin with the code of a language"
        what = what if voice else "no voice is set, so the language is unknown"
        raise ValueError(f"{what}; give the language, such as language='en-US'")
    for name in dict.fromkeys(("_".join(filter(None, match.groups())), match[1])):
        try:
            return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    raise ValueError(f"the language of {voice[:40]!r} is not known; give another language, such as language='en-US'")
