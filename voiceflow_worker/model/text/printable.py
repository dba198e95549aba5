"""Foreign text made safe: for display, for stores, and without secrets and numbers in logs.

Control characters move the cursor or type text on some terminals, and bidirectional overrides reorder a line (Unicode
TR 36 §2.4). No store can keep a NUL or half a surrogate pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, cast

from voiceflow_worker.errors import InvalidInputError

_STEERING = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x2028, 0x202F),  # line and paragraph separator, embeddings and overrides
    *range(0x2066, 0x206A),  # isolates
)
_SURROGATES = range(0xD800, 0xE000)

_IN_LINES = {code: repr(chr(code))[1:-1] for code in (*_STEERING, *_SURROGATES)}
_IN_TEXTS = {code: shown for code, shown in _IN_LINES.items() if chr(code) not in "\t\n"}
_IN_PAGES = {code: _IN_TEXTS[code] for code in _STEERING if code in _IN_TEXTS}
_IN_JSON = {code: f"\\u{code:04x}" for code in (*_STEERING, *_SURROGATES) if code >= 0x20}


def printable(text: str) -> str:
    r"""Return the text with control characters written out, as `\x1b`; tabs and line breaks are kept."""
    return text if text.isprintable() else text.translate(_IN_TEXTS)


def printable_line(text: str) -> str:
    r"""Return the text on one line, with control characters and line breaks written out, as `\x1b` and `\n`."""
    return text if text.isprintable() else text.translate(_IN_LINES)


def printable_json(document: str) -> str:
    r"""Return the JSON document with control characters written as escapes, such as `\u009b`."""
    return document if document.isprintable() else document.translate(_IN_JSON)


def shown_in_page(value: object) -> object:
    """Return the value as a page shows it (Jinja's `finalize`): text made `printable`, markup unchanged."""
    return value.translate(_IN_PAGES) if type(value) is str else value


HIDDEN = "***"
SHORTEST_HIDDEN = 6
"""The fewest characters of a secret that is hidden everywhere: a shorter one may be a part of words."""

_FILES = frozenset({"sqlite", "file"})
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(sqlite|file|memory):", re.IGNORECASE)
_OPEN_OPTIONS = re.compile(
    r"(?:(?:durability|replicas|prefix|tls|ssl_cert_reqs|ssl_check_hostname|mode|schema)=[a-z0-9_-]{1,41}(?:&|$))*"
)
"""The options of store URLs whose values are not secret."""
# Paths of files may contain an @. A quote that ends a value of JSON, or a name, ends the URL; an escaped one does not.
_IN_TEXT = re.compile(
    r"\b(?!(?:sqlite|file):)([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s@\"\\]|\\[^\s@]?|\"(?![,:}\]]))*+@(?=\S)"
)


def without_secrets(url: str, *, options: bool = False) -> str:
    """Return the URL without the user and password that it may carry, and without its query.

    With `options`, the options of a query of which none can be secret are shown.
    """
    scheme = _SCHEME.match(url)
    head, rest = ("", url) if scheme is None else (scheme[0], url[scheme.end() :])
    place, mark, query = rest.partition("?")
    shown = f"?{query if _OPEN_OPTIONS.fullmatch(query) else HIDDEN}" if mark and options else ""
    if head.partition(":")[0].lower() in _FILES and place.startswith("/"):
        return head + place + shown  # a plain path: it is not decoded, and has no user in front
    _, at, host = place.rpartition("@")
    is_open = "://" in head or ":" not in place or _HOST_AND_PORT.fullmatch(place)
    if "@" in query or not (at or is_open):
        return head + HIDDEN  # a password may begin before the mark and end at this @
    return f"{head}{HIDDEN}@{host}{shown}" if at else head + place + shown


def without_secrets_in(text: str, *, known: Iterable[str] = ()) -> str:
    """Return a text in which the passwords of URLs, and the secrets in `known`, are hidden."""
    for secret in known:
        text = without_secret(text, secret, shown=HIDDEN)
    return _IN_TEXT.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


def without_secret(text: str, secret: str, *, shown: str) -> str:
    """Return the text with `shown` in place of the secret; a short one is replaced only where it is a whole word."""
    if len(secret) >= SHORTEST_HIDDEN or secret not in text:
        return text.replace(secret, shown)
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", lambda _: shown, text)


_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
DATES = rf"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}|{_DAY}[-/.]{_DAY}[-/.]{_YEAR}"
"""The pattern of dates, with their separators."""
_BLANKS, _DASHES = r" \u00a0\u2000-\u200a\u202f", r"\u2010-\u2015\u2212-"
NUMBER = rf"\+?\(?\d(?:(?:[./{_BLANKS}{_DASHES}]| ?\(|\)[ -]?| [{_DASHES}] )?\d)*"
"""The pattern of a telephone number: digits, with what is written between those of one number."""
_LEAST_DIGITS = 7
_SHOWN_DIGITS = 2
"""The digits that are shown of a masked number: of its end, and of its begin if it is in international form."""

_HOUR = r"(?:[01]?\d|2[0-4]):[0-5]\d"
_MOMENT = (
    rf"(?:19|20|21)\d\d-{_MONTH}-{_DAY}(?:[T ]{_HOUR}(?::[0-5]\d(?:\.\d{{1,9}})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    rf"|(?:{DATES})(?: {_HOUR}(?::[0-5]\d)?)?"
    rf"|{_HOUR}(?::[0-5]\d(?:\.\d{{1,9}})?)?|{_HOUR}[-\u2013]{_HOUR}(?:, ?{_HOUR}[-\u2013]{_HOUR})*"
)
_KEPT = (
    rf"(?<!\S)(?:{_MOMENT})(?!\S)"
    r"|(?<![^\W_])(?:(?=[\d-]{0,35}[a-f])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}|oncall-[\da-f]{20,24}"
    r"|0[\dA-HJKMNP-TV-Z]{25}(?:\.\d{1,6})?)(?![^\W_])"
)
"""The pattern of a whole date or time (also the hours of a window), or an id of 8x8 or of ours."""
_ESCAPED = r"\\(?:u[\da-fA-F]{4}|x[\da-fA-F]{2}|[bfnrtv])|%[\da-fA-F]{2}"
_BETWEEN = rf"(?:{_ESCAPED}|[\W_\u30fc\uff70])*"
"""The pattern of what may stand between two digits: signs, escaped ones too, and the long marks written for a dash."""
_NUMBER_OR_KEPT = re.compile(
    rf"{_KEPT}|{_ESCAPED}|(?P<plus>\+[ (\[]*)?(?P<number>\d(?:{_BETWEEN}(?=\d)(?!{_KEPT})\d){{{_LEAST_DIGITS - 1},}})"
)


def without_numbers(text: str) -> str:
    """Return the text with its telephone numbers masked, such as `+65******67`.

    A number is seven digits or more, with anything but letters between them. Only ids, and dates and times with a blank
    or nothing on both sides, are none.
    """
    return _NUMBER_OR_KEPT.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    number: str | None = found["number"]
    if number is None:
        return found[0]
    places = [place for place, each in enumerate(number) if each.isdecimal()]
    hidden = {*places[_SHOWN_DIGITS if found["plus"] else 0 : -_SHOWN_DIGITS]}
    return (found["plus"] or "") + "".join("*" if place in hidden else each for place, each in enumerate(number))


_SMALLEST_NUMBER = 10 ** (_LEAST_DIGITS - 1)


def shown_masked(value: object) -> object:
    """Return a small figure or a time itself, and any other value as its text without telephone numbers."""
    is_small = isinstance(value, int | float | Decimal) and abs(value) < _SMALLEST_NUMBER
    return value if is_small or isinstance(value, date | timedelta | None) else without_numbers(str(value))


def masked_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return an event of the log with the numbers of all its fields masked: a processor of structlog."""
    for name, value in event.items():
        if name != "timestamp":  # which the chain has set
            event[name] = _masked_value(value)
    return event


def _masked_value(value: object) -> object:
    match value:
        case str() | int() | float() | date() | None:
            return shown_masked(value)
        case Mapping():
            fields = cast("Mapping[object, object]", value)
            return {without_numbers(str(name)): _masked_value(each) for name, each in fields.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked_value(each) for each in cast("Iterable[object]", value)]
        case _:
            return without_numbers(repr(value))


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def unstorable_in(text: str) -> re.Match[str] | None:
    """Return the first NUL, or half of a surrogate pair, in a text; None if there is none."""
    return None if text.isascii() and "\0" not in text else _UNSTORABLE.search(text)


def as_stored(text: str) -> str:
    """Return the text with U+FFFD in place of each NUL and each half of a surrogate pair, which no store can keep."""
    return text if unstorable_in(text) is None else _UNSTORABLE.sub("\ufffd", text)


def storing_problem(text: object) -> str | None:
    """Return why no store can keep a text, as a clause; None for any other text."""
    if not isinstance(text, str):
        return f"is {str(text)[:40]}, which is not a text; give a text"
    found = unstorable_in(text)
    if found is None:
        return None
    what = "a NUL character" if found[0] == "\0" else "half a surrogate pair"
    return f"has {what} (U+{ord(found[0]):04X}) at character {found.start() + 1}, which no store can keep; remove it"


def checked_text(name: str, text: str) -> str:
    """Return the text. Raise InvalidInputError, with a message that begins with `name`, if no store can keep it."""
    problem = storing_problem(text)
    if problem is not None:
        raise InvalidInputError(f"{name} {problem}")
    return text
