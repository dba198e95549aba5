"""The language of the console: texts from gettext catalogues, numbers and times as the locale writes them.

English stands in the sources. Any other language is a folder `locale/LANGUAGE/LC_MESSAGES`, read at the start:
`console.po` has the texts of the pages, and `messages.po` those that are made elsewhere, of files, questions and
results. These have `{}` for each value, and are found again in what was made of them: so no message is made twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from io import BytesIO
from itertools import count

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime, format_skeleton
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from voiceflow_worker.model.text.wording import duration_in_words

SOURCE = "en"
LOCALE: ContextVar[Locale] = ContextVar("locale", default=Locale(SOURCE))  # noqa: B039 - a locale does not change
"""The locale of the request that is answered."""
_ACCEPTED = re.compile(r"([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)(?:\s*;\s*q=([01](?:\.\d*)?))?")


_VALUE = re.compile(r"\{(\d?)\}")
_TIME, _READ_TIME = re.compile(r"(?<!\w)[A-Z][a-z]{2} \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d"), "%a %d %b %Y %H:%M"
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+")
_SUBJECT, _BETWEEN = re.compile(r"('[^']*'|[+\d]\S*) (.+)", re.DOTALL), re.compile(r"(; |: |\. )")
"""What stands before a clause about it, and what stands between messages that were joined to one."""
_CERTAIN = 10
"""The fewest characters beside its values by which a message is recognised before a text is taken apart."""
_MOST_PARTS = 9
"""The most parts of a text that one message may have."""
_LONG = 1000
"""The characters from which each part is a message of its own: a page must not wait for many tries of joining them."""


@cache
def catalogues() -> Mapping[str, NullTranslations]:
    """The texts by language."""
    found = {SOURCE: NullTranslations()}
    for folder in resources.files("voiceflow_worker.console").joinpath("locale").iterdir():
        compiled = BytesIO()
        write_mo(compiled, _file(folder.name, "console"))
        compiled.seek(0)
        found[folder.name] = GNUTranslations(compiled)
    return found


def _file(language: str, name: str) -> Catalog:
    place = resources.files("voiceflow_worker.console").joinpath("locale", language, "LC_MESSAGES", f"{name}.po")
    return read_po(BytesIO(place.read_bytes()), locale=language)


@cache
def _messages(language: str) -> tuple[Mapping[str, str], Sequence[tuple[int, re.Pattern[str], str]]]:
    """The messages without values, and those with values, each with its length: the longest first."""
    found = () if language == SOURCE else _file(language, "messages")
    texts = {str(each.id).removesuffix("."): str(each.string).removesuffix(".") for each in found if each.id}
    parted = [(len(each.replace("{}", "")), _pattern(*each.split("{}")), texts[each]) for each in texts if "{}" in each]
    return texts, sorted(parted, key=lambda each: -each[0])


def _pattern(first: str, *others: str) -> re.Pattern[str]:
    *within, last = map(re.escape, others)  # atomic groups, so that the time does not grow with their number
    return re.compile(f"{re.escape(first)}{''.join(f'(?>(.*?){each})' for each in within)}(.*){last}", re.DOTALL)


def choices() -> list[tuple[str, str]]:
    """The languages, each with its own name for itself."""
    return [(code, (Locale(code).get_display_name() or code).title()) for code in catalogues()]


def choose(*wanted: str, accepted: str) -> Locale:
    """The locale of the first language that has texts: of those `wanted`, then of those a browser says it accepts."""
    named = sorted(_ACCEPTED.findall(accepted[:1000]), key=lambda found: -float(found[1] or 1))
    for tag in (*wanted, *(tag for tag, quality in named if float(quality or 1))):
        with suppress(UnknownLocaleError, ValueError):
            locale = Locale.parse(tag, sep="-")
            if locale.language in catalogues():
                return locale
    return Locale(SOURCE)


def translated(text: str) -> str:
    """A text in the language of the request; the text itself, if the catalogue has none for it."""
    language = LOCALE.get().language
    found = catalogues()[language].gettext(text) if text else ""
    if found != text or language == SOURCE:
        return found
    parts = _BETWEEN.split(text) if len(text) > _LONG else [text]
    return "".join(each if place % 2 else _message(each, *_messages(language)) for place, each in enumerate(parts))


def _message(text: str, texts: Mapping[str, str], parted: Sequence[tuple[int, re.Pattern[str], str]]) -> str:
    """A message that was made of `texts`, of which those that are `parted` have values, which may be messages too."""

    def with_values(text: str, *, certain: bool) -> str | None:
        for length, pattern, said in parted:
            if (length >= _CERTAIN) is certain and (match := pattern.fullmatch(text)):
                return _filled(said, [_message(each, texts, parted) for each in match.groups()])
        return None

    def whole(text: str) -> str | None:
        if text.endswith("."):
            return f"{said}." if (said := whole(text[:-1])) else None
        if found := texts.get(text) or with_values(text, certain=True):
            return found
        about = _SUBJECT.fullmatch(text)
        clause = whole(about[2]) if about else None
        return f"{about[1]} {clause}" if about and clause else None

    if found := whole(text):
        return found
    parts = _BETWEEN.split(text)
    for size in range(min(len(parts) - 2, _MOST_PARTS), 0, -2):
        first, between, rest = "".join(parts[:size]), parts[size], "".join(parts[size + 1 :])
        if size == 1 or whole(first):
            return f"{_message(first, texts, parted)}{between}{_message(rest, texts, parted)}"
    if found := with_values(text, certain=False):
        return found
    return _TIME.sub(_as_written, _GROUPED.sub(lambda at: number(int(at[0].replace(",", ""))), text))


def _filled(text: str, values: Sequence[str]) -> str:
    places = count()
    return _VALUE.sub(lambda at: values[int(at[1] or next(places))], text)


def _as_written(time: re.Match[str]) -> str:
    at = datetime.strptime(time[0], _READ_TIME)  # noqa: DTZ007 - its zone stands behind it
    return f"{format_skeleton('yMMMEd', at, locale=LOCALE.get())}, {at:%H:%M}"


def translated_count(one: str, several: str, count: int) -> str:
    """The text for a count, in the language of the request."""
    return catalogues()[LOCALE.get().language].ngettext(one, several, count)


def number(value: float, digits: int = 0) -> str:
    """A number such as 50,014, with its digits in groups."""
    return format_decimal(value, f"#,##0{'.' * bool(digits)}{'0' * digits}", locale=LOCALE.get())


def moment(at: datetime) -> str:
    """A time in UTC. The script of the pages then shows it in their zone."""
    return f"{format_datetime(at, 'medium', tzinfo=UTC, locale=LOCALE.get())} UTC"


def span(duration: timedelta) -> str:
    """A duration in words that stays on one line: `6 min 7 s`, with no-break spaces."""
    return duration_in_words(duration).replace(" ", "\u00a0")
