"""The language of the console: texts from gettext catalogues, numbers and times as the locale writes them.

English stands in the sources. Any other language is a file `locale/LANGUAGE/LC_MESSAGES/console.po`, read at the start,
with the pages' own texts. What people wrote, and sentences about it, such as findings, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from io import BytesIO
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.finding import Remedy, message_of
from voiceflow_worker.model.jobs.call_json import is_result
from voiceflow_worker.model.text.wording import duration_in_words, with_moments

SOURCE = "en"
LOCALE: ContextVar[Locale] = ContextVar("locale", default=Locale(SOURCE))  # noqa: B039 - a locale does not change
"""The locale of the request that is answered."""
ZONE: ContextVar[ZoneInfo] = ContextVar("zone", default=ZoneInfo("UTC"))  # noqa: B039 - a zone does not change
"""The zone of all times on the page that is shown, and of those that are typed into it."""
_FORMS = {"full": ("yMMMd", "Hms"), "said": ("yMMMd", "Hm"), "short": ("MMMd", "Hm"), "time": ("Hms",)}
_ACCEPTED = re.compile(r"([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)(?:\s*;\s*q=([01](?:\.\d*)?))?")


@cache
def catalogues() -> Mapping[str, NullTranslations]:
    """The texts by language."""
    found = {SOURCE: NullTranslations()}
    for folder in resources.files("voiceflow_worker.console").joinpath("locale").iterdir():
        compiled = BytesIO()
        place = folder.joinpath("LC_MESSAGES", "console.po")
        write_mo(compiled, read_po(BytesIO(place.read_bytes()), locale=folder.name))
        compiled.seek(0)
        found[folder.name] = GNUTranslations(compiled)
    return found


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
    """A text of the pages in the language of the request; the text itself, if the catalogue has none for it."""
    return catalogues()[LOCALE.get().language].gettext(text) if text else ""


def translated_count(one: str, several: str, count: int) -> str:
    """The text for a count, in the language of the request."""
    return catalogues()[LOCALE.get().language].ngettext(one, several, count)


def answer_in_words(answer: str) -> str:
    """The name that somebody gave an answer, or the words of a result of our own, which no answer may have."""
    return translated(answer.replace("_", " ")) if is_result(answer) else answer


def countries() -> Mapping[str, str]:
    """The names of countries and regions, by their codes."""
    names: Mapping[str, str] = LOCALE.get().territories
    return names


def number(value: float, digits: int = 0) -> str:
    """A number such as 50,014, with its digits in groups."""
    return format_decimal(value, f"#,##0{'.' * bool(digits)}{'0' * digits}", locale=LOCALE.get())


def moment(at: datetime, form: str = "full") -> str:
    """A time in the zone of the page: `full`, `short` (no year, no seconds), `said` in a sentence, or the `time`."""
    parts = (format_skeleton(each, at, tzinfo=ZONE.get(), locale=LOCALE.get()) for each in _FORMS[form])
    return ", ".join(parts)


def told(text: str) -> str:
    """A sentence of ours with its times as the page shows all others."""
    return with_moments(text, lambda at: moment(at, "said"))


def with_labels(text: str) -> str:
    """A sentence of ours, with the labels of the fields by which its remedies are carried out, if the page has them."""

    def called(remedy: Remedy, value: str) -> str:
        labels = ", ".join(f"“{label_of(name)}”" for name in remedy.fields if name in _LABELS)
        return labels and labels + (value and f": {value}")

    return message_of(text).named(called)


_LABELS = {name: each.label for name, each in fields_of(Of.CAMPAIGN).items() if each.label}


def label_of(name: str) -> str:
    """What the page calls a field of a campaign; the name itself, if the page has no such field."""
    return translated(_LABELS[name]) if name in _LABELS else name


def span(duration: timedelta) -> str:
    """A duration in words that stays on one line: `6 min 7 s`, with no-break spaces."""
    return duration_in_words(duration).replace(" ", "\u00a0")
