"""Template filters that write values as a voice should speak them, in the language of the voice.

`{{ day|date }}`, `{{ at|time }}`, `{{ amount|money("SGD") }}`, `{{ litres|number(",") }}`, `{{ place|ordinal }}`,
`{{ code|digits }}`, `{{ code|spell }}`, `{{ name|title }}`. Words and their order come from the CLDR, through Babel.
Voices read digits in their own language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from voiceflow_worker.finding import message_of, tell
from voiceflow_worker.model.flows.values import DECIMAL, Decimals, value_text
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.model.times import (
    PersonZone,
    UnknownZoneError,
    year_problem,
)

if TYPE_CHECKING:
    from babel import Locale
    from jinja2.runtime import Context

VOICE = "the voice"
"""The variable that holds a text's voice while it is filled in. No template can use it: its name has a space."""

_VOICE_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_]([A-Z][a-z]{3}))?(?:[-_]([A-Z]{2}|[0-9]{3}))?(?![A-Za-z0-9])")
ZONE = "the zone"
"""The variable that holds the person's `PersonZone` while a text is filled in. No template can use it either."""

_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ]\d{1,2}:\d{2}.*)?", re.ASCII)
_TIME = re.compile(r"(?:\d{4}-\d{2}-\d{2}[T ])?(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?", re.ASCII)
_CLOCK = re.compile(
    r"(?:(\d{4}-\d{2}-\d{2})[Tt ])?(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s*(.*)", re.ASCII | re.DOTALL
)
_OFFSET = re.compile(
    r"(?:Z|UTC|GMT|(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?)(?:\[[\w/+-]+\])?", re.ASCII | re.IGNORECASE
)
WITH_ZONE = re.compile(r":\d\d\S*\s*(?:Z|UTC|GMT|[+\u2212-]\d)", re.ASCII | re.IGNORECASE)
"""What each time with a zone of its own has in it."""
_ZONE_LIKE = re.compile(r"[+\u2212-] ?\d|\[|\(?[A-Za-z_]+/[A-Za-z]|\(?(?!UHR)[A-Z]{3,5}\b", re.ASCII)
"""The beginning of what stands after a time of day and may be its zone, such as CET or Europe/Berlin."""
_OTHER_TIME = re.compile(r"(?:[-\u2010-\u2015\u2212]\s+|to\s+|until\s+)\d")
_AMOUNT = re.compile(
    r"([-\u2212]?)(?:([A-Za-z]{3})\s*)?([+\-\u2212]?)(\d(?:[\d.,' \u2019]{0,20}\d)?)(?:\s*([A-Za-z]{3}))?", re.ASCII
)
_PLAIN_AMOUNT = re.compile(r"\d{1,15}(?:\.\d{1,4})?", re.ASCII)
_WITH_COMMA = re.compile(r"(0|\d{4,15}|\d{1,15}(?=,(?!\d{3}\Z))),(\d{1,4})", re.ASCII)
"""An amount whose comma has no thousands before or behind it."""
_WITH_THOUSANDS = re.compile(
    r"(\d{1,3}(?:([.,' \u2019])\d{3})(?:\2\d{3}){0,3}|\d{1,2}(?:,\d\d){1,4},\d{3})(?:([.,])(\d{1,4}))?", re.ASCII
)
_WHOLE = re.compile(r"\d{1,9}(?:\.00?)?", re.ASCII)
_WRITTEN_FLOAT = re.compile(r"\d+\.0", re.ASCII)
_BETWEEN_DIGITS = re.compile(r"[\s\-+./()]")
_DAY_PERIOD = re.compile(r"'[^']*'|a+")
_DOTTED = frozenset({"az", "tr"})
"""The languages whose i keeps its dot as a capital, and has none as a small letter of I."""
_WORD = re.compile(r"\w[\w\u0300-\u036f]*(?:['\u2019]\w(?!\w))?")
"""A word, as far as it has one capital: `O'Brien` has two words, and `I'm` one."""
_NO_MONTH = re.compile(r"M\d\d?")
"""What the CLDR has for a month whose name it does not have."""
_FROM_SIX = frozenset({"am"})
"""The languages whose speakers count the hours from six o'clock: 12:30 in the morning is half past six."""
_FORMS = ("full", "long", "medium", "short")

_DOT = dict.fromkeys(
    ("bs", "cs", "da", "de", "et", "fi", "hr", "hu", "is", "lv", "nb", "nn", "no", "pl", "sk", "sl", "sr", "tr"), "{}."
)
_ORDINALS: Mapping[str, str | Mapping[str, str]] = {
    **_DOT,
    "en": {"one": "{}st", "two": "{}nd", "few": "{}rd", "other": "{}th"},
    "es": "{}.º",
    "fil": "ika-{}",
    "fr": {"one": "{}er", "other": "{}e"},
    "id": "ke-{}",
    "it": "{}º",
    "ja": "第{}",
    "ko": "제{}",
    "ms": "ke-{}",
    "nl": "{}e",
    "pt": "{}.º",
    "ru": "{}-й",
    "sv": {"one": "{}:a", "other": "{}:e"},
    "th": "ที่ {}",
    "uk": "{}-й",
    "vi": {"one": "thứ nhất", "other": "thứ {}"},
    "yue": "第{}",
    "zh": "第{}",
}

_DECIMALS_OF = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}  # fmt: skip
_DECIMALS = {code: decimals for decimals, codes in _DECIMALS_OF.items() for code in codes.split()}
"""The decimals of currencies that have not 2, by ISO 4217. Those of the CLDR change with what is in use."""
_SIGNS = {
    "€": "EUR", "£": "EGP FKP GBP GIP LBP SHP", "¥": "CNY JPY", "￥": "CNY JPY", "元": "CNY HKD TWD", "円": "JPY",
    "₩": "KRW", "원": "KRW", "₹": "INR", "₱": "PHP", "₫": "VND", "đ": "VND", "฿": "THB", "₪": "ILS", "₺": "TRY",
    "₽": "RUB", "₴": "UAH", "₦": "NGN", "zł": "PLN", "Kč": "CZK", "Ft": "HUF", "kr": "DKK ISK NOK SEK", "lei": "RON",
    "R$": "BRL", "S$": "SGD", "A$": "AUD", "C$": "CAD NIO", "HK$": "HKD", "NZ$": "NZD", "NT$": "TWD", "US$": "USD",
    "RM": "MYR", "Rp": "IDR", "R": "ZAR", "Fr.": "CHF",
    "$": "ARS AUD BBD BMD BND BSD BZD CAD CLP COP DOP FJD GYD HKD JMD KYD MXN NAD NZD SGD TTD TWD USD UYU XCD",
}  # fmt: skip
"""The currencies that a sign beside an amount may mean."""
_ANY_SIGN = "|".join(map(re.escape, _SIGNS))
_BESIDE_SIGN = re.compile(
    rf"([-\u2212]?)(?:({_ANY_SIGN})\.? ?([-\u2212]?\d.*)|(\d(?:.*\d)?) ?({_ANY_SIGN})\.?)", re.ASCII
)
_OF_THE_MOON = frozenset({"si"})
"""The languages for which the CLDR has the months of the moon, since version 48."""


class SpecimenText(str):
    """A stand-in for any value. Filters return it unchanged."""

    __slots__ = ()


class FilterError(ValueError):
    """Raised when a filter cannot use a value; `name` is the filter."""

    def __init__(self, name: str, value: str, reason: str) -> None:
        self.name = name
        self.value = value
        # No text can write a name with a space: it is that of a filter which the text does not show.
        super().__init__(reason if " " in name else message_of(reason).plus(f" (filter {name})"))


def speech_filters() -> dict[str, Callable[..., object]]:
    """The filters for speech, by name."""
    filters = (date_, digits, money, number, ordinal, spell, time_, title)
    return {each.__name__.strip("_"): _for_speech(each) for each in filters}


def guarded(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A filter for Jinja that does what `function` does. Its errors name the filter and the value."""
    from jinja2 import UndefinedError

    @wraps(function)
    def filtered(*arguments: Any, **more: Any) -> object:
        try:
            return function(*arguments, **more)
        except (FilterError, UndefinedError):
            raise
        except Exception as error:
            value = str(arguments[1 if hasattr(function, "jinja_pass_arg") else 0])
            raise FilterError(name, value, f"{value[:40]!r} cannot be used with this filter") from error

    return filtered


def unknown_filter(name: str, known: Mapping[str, object]) -> str:
    """The message about a filter that does not exist."""
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]}? The" if close else "; the"
    return f"there is no filter {name}{meant} filters are {', '.join(sorted(known))}"


def _for_speech(function: Callable[..., str]) -> Callable[..., object]:
    from jinja2 import pass_context

    name = function.__name__.strip("_")

    @pass_context
    def filtered(context: Context, value: object, *arguments: object, language: str | None = None) -> str:
        if isinstance(value, SpecimenText):
            return value
        text = str(value)  # an empty cell raises here
        try:
            text, voice = value_text(value).strip(), language or str(context.get(VOICE) or "")
            if name == "title":  # which needs no more than the language of the voice, if it is known
                spoken = _VOICE_LANGUAGE.match(voice)
                return function(text, spoken[1] if spoken else "", *arguments)
            text = _plain(text).strip()
            if name == "number" and isinstance(value, float | Decimals):
                arguments = (".",)
            if name in _OF_MOMENTS:
                text = at_the_person(text, context.get(ZONE), is_clock=name == "time")
            return _plain(function(text, _locale(voice), *arguments))
        except TypeError:
            raise FilterError(name, text, f"the filter does not take {', '.join(map(repr, arguments))}") from None
        except ValueError as error:
            raise FilterError(name, text, message_of(error)) from None

    return filtered


_OF_MOMENTS = frozenset({"date", "time"})


def zoned_moment(text: str) -> datetime | None:
    """The moment that a text with a day, a time of day and a zone has; None for other texts.

    Raises ValueError, with a clause, if it is not certain.
    """
    match = _CLOCK.fullmatch(text)
    if match is None or not match[3]:
        return None
    offset = _OFFSET.fullmatch(match[3])
    if offset is None:
        if _OTHER_TIME.match(match[3]):
            raise ValueError(f"{text[:40]!r} has several times; write the one that is meant, such as 10:30")
        if _ZONE_LIKE.match(match[3]):
            raise ValueError(f"{text[:40]!r} ends in {match[3][:20]!r}; write its zone as an offset, such as +08:00")
        return None
    if match[1] is None:
        raise ValueError(
            f"{text[:40]!r} has a time zone and no day, so nobody knows when it is; write it as '2030-01-31T{text}', "
            "or the local time alone"
        )
    sign, hours, minutes = offset.groups()
    ahead = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    clock = match[2] if match[2][1] != ":" else f"0{match[2]}"
    try:
        return datetime.fromisoformat(f"{match[1]}T{clock}").replace(tzinfo=timezone(ahead))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time: there is no such day, time or offset; correct it") from None


NO_DAYS = (1899, 1900)
"""The years of the days that spreadsheets begin to count from: a time of day of theirs has such a day."""


_COUNTED_FROM = (date(1899, 12, 30), date(1899, 12, 31), date(1900, 1, 1))
_LAST_EPOCH = date(2000, 1, 1)


def is_of_epoch(day: date) -> bool:
    """Whether a time of this day is a mere time of day, or one of long ago: programs store it with 1970-01-01."""
    return day <= _LAST_EPOCH + timedelta(days=1)  # in any zone


def at_the_person(text: str, person: object, *, is_clock: bool) -> str:
    """A time that has a zone of its own, as the clocks of the person show it; other days and times in one form.

    A time of day with a day from which spreadsheets count is that of UTC, by which programs read their cells. Raises
    ValueError, with a clause, if the zone of one of the two is not certain: so it is of other days with which programs
    store a time of day, if that is what is asked for (`is_clock`). So it is of a day that is another one at the person
    than the one whose midnight in UTC it is: programs write days so.
    """
    if (moment := zoned_moment(text)) is None:
        return text
    if moment.year in NO_DAYS:
        # Clocks of that time were some minutes and seconds from those of today.
        if moment.utcoffset() or moment.second or moment.microsecond or moment.date() not in _COUNTED_FROM:
            raise ValueError(
                f"{text[:40]!r} has a day of {moment.year}, so it is a time of day, by the clock of a program: write "
                "the time alone, as the spreadsheet shows it, such as 14:05"
            )
        return moment.replace(tzinfo=None).isoformat(" ", "minutes")
    if is_clock and is_of_epoch(moment.date()):
        raise ValueError(
            f"{text[:40]!r} has a day of {moment.year}, so it is a time of day, and nobody knows by which clock: write "
            "the time of day alone, as 14:05"
        )
    try:
        zone = person if isinstance(person, PersonZone) else PersonZone(None, ())
        local = zone.to_local(moment, text)
    except UnknownZoneError as error:
        raise ValueError(tell("no_person_zone", time=text[:40], why=str(error))) from None
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is not between the years 1 and 9999; correct the year") from None
    in_utc = moment.astimezone(UTC)
    if not is_clock and in_utc.time() == time() and in_utc.date() != local.date():
        raise ValueError(
            f"{text[:40]!r} is midnight in UTC, which may be the day {in_utc.date()}, or {local:%Y-%m-%d %H:%M} where "
            "the phone is: write the day alone, or the local time without an offset"
        )
    return local.isoformat(" ", "minutes")


def date_(text: str, locale: Locale, form: str = "long") -> str:
    """A date: 31 January 2030. The form `full` has the weekday too.

    A time with a zone of its own is a date, and a time of day, in the zone of the person.
    """
    from babel.dates import format_date

    match = _DATE.fullmatch(text)
    if form not in _FORMS:
        raise ValueError(f"{form!r} is not a date format; give one of {', '.join(_FORMS)}")
    try:
        day = date.fromisoformat(match[1] if match else "")
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date; write it as 2030-01-31") from None
    if (problem := year_problem(day)) is not None:
        raise ValueError(f"{text[:40]!r} {problem}")
    if locale.language in _OF_THE_MOON or _NO_MONTH.fullmatch(str(locale.months["format"]["wide"][day.month])):
        raise ValueError(f"the names of months are not known in {locale.english_name}: write the date in words")
    return format_date(day, form, locale=locale)


def time_(text: str, locale: Locale) -> str:
    """A time of day: 2:05 PM, or 14:05."""
    from babel.dates import format_time, get_time_format

    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        at = time(int(match[1]), int(match[2]))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time of day; write it as 14:05") from None
    if locale.language in _FROM_SIX:
        raise ValueError(
            f"{locale.english_name} counts hours from six o'clock: write the time in words in its own column"
        )
    pattern = get_time_format("short", locale).pattern
    if "am" in locale.day_periods["format"].get("wide", {}):  # in Korean, the short form is English
        pattern = _DAY_PERIOD.sub(lambda part: "aaaa" if part[0] == "a" else part[0], pattern)
    return format_time(at, pattern, locale=locale)


def money(text: str, locale: Locale, currency: str | None = None) -> str:
    """An amount with the name of its currency: 12.50 Singapore dollars. Whole amounts have no decimals."""
    from babel.numbers import format_currency, get_currency_name, is_currency

    match = _AMOUNT.fullmatch(_with_code(text, currency))
    if match is None or (number := _amount(match[4])) is None or (match[2] and match[5]):
        raise ValueError(f"{text[:40]!r} is not an amount; write it as 1250.50, or as SGD 1250.50")
    before, first, sign, _, last = match.groups()
    code = (first or last or currency or "").upper()
    if not code:
        raise ValueError(f"{text[:40]!r} has no currency; write SGD {number}, or name the currency: money('SGD')")
    if not is_currency(code):
        raise ValueError(f"{code[:10]!r} is not a currency; write three letters, such as SGD")
    written = number.partition(".")[2]
    decimals = 0 if written in {"0", "00"} else len(written)
    if decimals > (most := _DECIMALS.get(code, 2)):
        # In many countries, a dot stands between thousands: 1.250.
        right = f"write the amount without a separator, such as 1250{'.' + '5'.ljust(most, '0') if most else ''}"
        raise ValueError(f"{text[:40]!r} has {count_of(decimals, 'decimal')}, but {code} has {most}; {right}")
    amount = Decimal(number)
    if is_whole := amount == amount.to_integral_value():
        amount = Decimal(int(amount))  # 1.00 has the plural of numbers with decimals: "1.00 dollars"
    shown: dict[str, Any] = {"format": "0" if is_whole else f"0.{'0' * most}", "currency_digits": False}
    if get_currency_name(code, locale=locale) == code:
        raise ValueError(
            f"the name of {code} is not known in {locale.english_name}: write it in words behind the amount"
        )
    spoken = format_currency(amount, code, locale=locale, format_type="name", group_separator=False, **shown)
    if amount and not {before, sign} <= {"", "+"}:
        raise ValueError(_BELOW_0.format(text[:40]))
    return spoken


_BELOW_0 = (
    "{!r} is below 0, and half of the voices leave a minus out: write the word in the text, and the amount with |abs"
)


def number(text: str, locale: Locale, decimal: str | None = None) -> str:
    """A number with the decimal sign of the language: 1,25 in German. `decimal` is the sign that the cell has, . or ,.

    Without it, a number with two readings is refused.
    """
    sign, written = text[:1].strip("0123456789"), text.lstrip("+-\u2212").strip()
    if decimal not in {None, ".", ","}:
        raise ValueError(f"{decimal!r} is not a decimal sign; give '.' or ','")
    if decimal is None:
        if (readings := two_readings(written)) is not None:
            raise ValueError(f"{text[:40]!r} is {readings}: write number('.') or number(','), by its decimal sign")
        found = written if DECIMAL.fullmatch(written) else _amount(written)
    else:
        whole, point, decimals = written.partition(decimal)
        groups = _WITH_THOUSANDS.fullmatch(whole)
        is_whole = whole.isdecimal() or (groups is not None and groups[3] is None)
        is_number = is_whole and (decimals.isdecimal() or not point)
        found = re.sub(r"\D", "", whole) + (f".{decimals}" if point else "") if is_number else None
    if found is None or sign not in {"", "+", "-", "\u2212"}:
        raise ValueError(f"{text[:40]!r} is not a number; write it as 1250.5")
    if sign in {"-", "\u2212"} and float(found):
        raise ValueError(_BELOW_0.format(text[:40]))
    return found.replace(".", _decimal_sign(locale))


_TWO_READINGS = re.compile(r"[+-]?([1-9]\d{0,2})[.,](\d{3})", re.ASCII)


def two_readings(text: str) -> str | None:
    """The readings of a number such as 1.250, whose sign may stand before decimals or not; None if it has one."""
    found = _TWO_READINGS.fullmatch(text)
    return f"{found[1]}{found[2]}, or {found[1]} and {found[2]} thousandths" if found else None


def with_decimal_sign(text: str, voice: str) -> str:
    """A number with a point, as this voice has it: with the decimal sign of its language, as far as that is known."""
    try:
        return text.replace(".", _decimal_sign(_locale(voice)))
    except ValueError:
        return text


def _decimal_sign(locale: Locale) -> str:
    """The sign before decimals. English voices read a point everywhere, in South Africa too."""
    return "." if locale.language == "en" else str(locale.number_symbols["latn"]["decimal"])


def _with_code(text: str, currency: str | None) -> str:
    """An amount with the code of its currency for a sign, such as EUR 12 for 12 €.

    It stays as it is if the sign may mean another currency than this one, or without one, several.
    """
    match = _BESIDE_SIGN.fullmatch(text)
    if match is None:
        return text
    minus, before, first, second, behind = match.groups()
    codes = _SIGNS[before or behind].split()
    code = codes[0] if currency is None and len(codes) == 1 else str(currency).upper()
    return f"{minus}{code} {first or second}" if code in codes else text


def _amount(written: str) -> str | None:
    """The digits of an amount with a point before its decimals; None if a sign in it may be either of the two.

    1250,50 and 1.250,50 and 1'250 have one meaning; 1,250 has two.
    """
    if _PLAIN_AMOUNT.fullmatch(written):
        return written
    if match := _WITH_COMMA.fullmatch(written):
        return f"{match[1]}.{match[2]}"
    match = _WITH_THOUSANDS.fullmatch(written)
    if match is None:
        return None
    whole, between, point, decimals = match.groups()
    if point == (between or ",") or (point is None and between in {".", ","} and whole.count(between) == 1):
        return None
    return re.sub(r"\D", "", whole) + (f".{decimals}" if decimals else "")


def ordinal(text: str, locale: Locale) -> str:
    """An ordinal number: 3rd, 3., 第3."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a whole number of at most 9 digits, such as 3")
    forms = _ORDINALS.get(locale.language)
    if forms is None:
        raise ValueError(f"the ordinals of {locale.english_name} are not known; write the word in the cell")
    number = int(Decimal(text))
    if isinstance(forms, str):
        return forms.format(number)
    return forms.get(locale.ordinal_form(number), forms["other"]).format(number)


def digits(text: str, _locale: Locale) -> str:
    """Digits one by one: 1, 2, 3."""
    _refuse_float(text)
    found = _BETWEEN_DIGITS.sub("", text)
    if not found.isdecimal():
        raise ValueError(f"{text[:40]!r} contains more than digits; use the filter spell, which also speaks letters")
    return ", ".join(str(int(digit)) for digit in found)


def spell(text: str, locale: Locale) -> str:
    """Letters and digits one by one: A, B, 1. A letter is written with its signs: नि, and นี้ as one."""
    _refuse_float(text)
    letters: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        is_sign = unicodedata.category(character)[0] == "M" or character in _VOWEL_SIGNS
        if letters and (is_sign or (character.isalnum() and letters[-1][-1] in _JOINING)):
            letters[-1] += character
        elif character.isalnum():
            letters.append(_capital(character, locale.language))
    if not letters:
        raise ValueError(f"{text[:40]!r} has no letters or digits")
    return ", ".join(letters)


_VOWEL_SIGNS = frozenset("\u0e33\u0eb3")
"""Signs of Thai and Lao that Unicode counts as letters."""
_JOINING = frozenset("\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d")
"""The signs of Indic scripts that join two consonants to one character."""


def _capital(letter: str, language: str) -> str:
    """The capital of a letter; the letter itself where that would be another, as of ß and the Turkish i."""
    capital = letter.upper()
    is_same = capital.lower() == letter and not (letter == "i" and language in _DOTTED)
    return capital if is_same else letter


def title(text: str, language: str) -> str:
    """The text with a capital at each word. Words with capitals within, such as McDonald, stay as they are."""

    def word(found: re.Match[str]) -> str:
        rest, small = found[0][1:], found[0]
        if rest != rest.lower() and not rest.isupper():
            return small
        if language in _DOTTED:
            small = small.replace("İ", "i").replace("I", "\u0131")
        small = small.lower().replace("i\u0307", "i")
        return (small[0].replace("i", "İ") if language in _DOTTED else small[0]).title() + small[1:]

    return _WORD.sub(word, text)


def _refuse_float(text: str) -> None:
    """Raise ValueError for a number such as 25.0, which a program wrote for 25: its 0 would be spoken as a digit."""
    if _WRITTEN_FLOAT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} ends in .0, which a program has added; write {text[:-2][:40]}")


@lru_cache(maxsize=256)
def _locale(voice: str) -> Locale:
    """The locale of a voice such as en-IE-EmilyNeural, or of a language such as en. Raises ValueError."""
    from babel import Locale, UnknownLocaleError

    match = _VOICE_LANGUAGE.match(voice)
    if match is None:
        code = f"{voice[:40]!r} does not begin with the code of a language"
        what = code if voice else "no voice is set, so the language is unknown"
        raise ValueError(f"{what}; give the language, such as language='en-US'")
    for name in dict.fromkeys(("_".join(filter(None, match.groups())), match[1])):
        try:
            return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    raise ValueError(f"the language of {voice[:40]!r} is not known; give another language, such as language='en-US'")


def _plain(text: str) -> str:
    """The text with plain spaces, without invisible characters."""
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in text)
    return "".join(each for each in spaced if unicodedata.category(each) != "Cf")
