"""Foreign text made safe: for display, for stores, and without secrets and numbers in logs.

Control characters (U+0000 to U+001F, U+007F to U+009F) move the cursor, clear the screen, change the title of the
window, and on some terminals type text. Bidirectional overrides and isolates reorder a line (Unicode TR 36 §2.4). A NUL
and half a surrogate pair can be kept by no store. Joiners and marks of ordinary writing are kept.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any, cast
from unicodedata import normalize

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
    r"""The text with control characters written out, as `\x1b`; tabs and line breaks are kept."""
    return text if text.isprintable() else text.translate(_IN_TEXTS)


def printable_line(text: str) -> str:
    r"""The text on one line, with control characters and line breaks written out, as `\x1b` and `\n`."""
    return text if text.isprintable() else text.translate(_IN_LINES)


def printable_json(document: str) -> str:
    r"""The JSON document with control characters written as escapes, such as `\u009b`."""
    return document if document.isprintable() else document.translate(_IN_JSON)


def shown_in_page(value: object) -> object:
    """The value as a page shows it (Jinja's `finalize`): text made `printable`, markup unchanged."""
    return value.translate(_IN_PAGES) if type(value) is str else value


HIDDEN = "***"
SHORTEST_HIDDEN = 6
"""The fewest characters of a secret that is hidden wherever it stands: a shorter one may be a part of words."""

_FILES = frozenset({"sqlite", "file"})
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_USER = re.compile(r"[\w.~%+-]*", re.ASCII)
_OPEN_OPTIONS = frozenset(
    {"durability", "replicas", "prefix", "tls", "ssl_cert_reqs", "ssl_check_hostname", "mode", "schema"}
)
"""Options of store URLs whose values are not secret."""
_OPEN_VALUE = re.compile(r"[a-z0-9_-]{1,41}")
# Paths of files may contain an @. A quote that ends a value of JSON, or a name, ends the URL; an escaped one does not.
_IN_TEXT = re.compile(
    r"\b(?!(?:sqlite|file):)([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s@\"\\]|\\[^\s@]?|\"(?![,:}\]]))*+@(?=\S)"
)


def without_secrets(url: str, *, options: bool = False) -> str:
    """The URL without the password that it may carry, and without its query.

    With `options`, the options of the query that cannot be secret are shown.
    """
    head, rest = _parted(url)
    place, mark, query = rest.partition("?")
    shown = _shown_options(query) if mark and options else ""
    if head.partition(":")[0].lower() in _FILES and place.startswith("/"):
        return head + place + shown  # a plain path: it is not decoded, and has no user in front
    place, hash_mark, fragment = place.partition("#")
    if "@" in query or (hash_mark and "@" in fragment):
        return head + HIDDEN  # a password may begin before the mark and end at this @
    credentials, at, host = place.rpartition("@")
    if not at:
        is_open = "://" in head or ":" not in place or _HOST_AND_PORT.fullmatch(place)
        return head + (place if is_open else HIDDEN) + shown
    user, colon, _ = credentials.partition(":")
    if not colon:
        return f"{head}{HIDDEN}@{host}{shown}"  # the user may be a token
    return f"{head}{user if _USER.fullmatch(user) else HIDDEN}:{HIDDEN}@{host}{shown}"


def without_secrets_in(text: str, *, known: Iterable[str] = ()) -> str:
    """A text in which the passwords of URLs, and the secrets in `known`, are hidden."""
    for secret in known:
        text = without_secret(text, secret, shown=HIDDEN)
    return _IN_TEXT.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


def without_secret(text: str, secret: str, *, shown: str) -> str:
    """The text with `shown` in place of the secret. One that is short is hidden only where it is a whole word."""
    if len(secret) >= SHORTEST_HIDDEN or secret not in text:
        return text.replace(secret, shown)
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", lambda _: shown, text)


def _parted(url: str) -> tuple[str, str]:
    """The scheme with its separator, and the rest. The scheme is empty for `me:password@host`."""
    for mark in ("://", ":"):
        scheme, found, rest = url.partition(mark)
        if found and _SCHEME.fullmatch(scheme) and (mark == "://" or scheme.lower() in _FILES | {"memory"}):
            return scheme + mark, rest
    return "", url


def _shown_options(query: str) -> str:
    if not query:
        return ""
    shown: list[str] = []
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name in _OPEN_OPTIONS and _OPEN_VALUE.fullmatch(value):
            shown.append(option)
        elif HIDDEN not in shown:
            shown.append(HIDDEN)
    return "?" + "&".join(shown)


_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
DATES = rf"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}|{_DAY}[-/.]{_DAY}[-/.]{_YEAR}"
"""The pattern of dates, with their separators."""
_BLANKS, _DASHES = r" \u00a0\u2000-\u200a\u202f", r"\u2010-\u2015\u2212-"
NUMBER = rf"\+?\(?\d(?:(?:[./{_BLANKS}{_DASHES}]| ?\(|\)[ -]?| [{_DASHES}] )?\d)*"
"""The pattern of a telephone number: digits, with what is written between those of one number."""
_LEAST_DIGITS = 7
_SHOWN_DIGITS = 2
"""The digits that are shown of a masked number: of its end, and of its begin if it is in international form."""

_LIKE_DIGITS = re.compile(r"(?<=\d)[OoIl](?=[OoIl]*\d)|(?<=\d[OoIl])[OoIl](?=\d)")
_LONG_MARKS = "ーｰ"
"""Letters by their kind, which people write for a dash."""
_BYTE = re.compile(r"(?:%|\\+x)([\da-f]{2})", re.IGNORECASE)
_ESCAPE = re.compile(rf"(?:{_BYTE.pattern})+|\\+(?:[bfnrtv]|u([\da-f]{{4}}))", re.IGNORECASE)

_HOUR = r"(?:[01]?\d|2[0-4]):[0-5]\d"
_MOMENT = (
    rf"(?P<day>(?:19|20|21)\d\d-\d\d-\d\d)(?:[T ]{_HOUR}(?::[0-5]\d(?:\.\d{{1,9}})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    rf"|(?P<local>{DATES})(?: {_HOUR}(?::[0-5]\d)?)?"
    rf"|{_HOUR}(?::[0-5]\d(?:\.\d{{1,9}})?)?|{_HOUR}[-\u2013]{_HOUR}(?:, ?{_HOUR}[-\u2013]{_HOUR})*"
)
_KEPT = re.compile(
    rf"(?<!\S)(?:{_MOMENT})(?!\S)"
    r"|(?<![^\W_])(?:(?=[\d-]*[a-f])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}|escalation-[\da-f]{20}"
    r"|0[\dA-HJKMNP-TV-Z]{25}(?:\.\d{1,6})?)(?![^\W_])"
)
"""A date or a time that stands whole (also the hours of a window), or an id of 8x8 or of ours."""


def without_numbers(text: str) -> str:
    """The text with its telephone numbers masked, such as `+65******67`: the same digits are shown of each spelling.

    A number is what is shown as one: seven digits or more in a row, once the text is normalised (NFKC), and its signs
    and blanks are taken out. Only ids, and valid dates and times with a blank or nothing on both sides, are none. What
    is escaped, as in a URL or in JSON, is read both as it stands and as it is meant. A letter that looks like a digit
    counts as one among them.
    """
    seen = _LIKE_DIGITS.sub("0", text)
    if sum(map(str.isdecimal, normalize("NFKC", seen))) < _LEAST_DIGITS:
        return text
    kept = {place for found in _KEPT.finditer(text) if _is_kept(found) for place in range(*found.span())}
    hidden = {
        each for escapes in {(), tuple(_ESCAPE.finditer(text))} for each in _hidden(_unescaped(seen, escapes), kept)
    }
    shown = list(text)
    for start, end in sorted(hidden, reverse=True):
        shown[start:end] = ["*", *[""] * (end - start - 1)]
    return without_numbers("".join(shown)) if hidden else text  # what is masked may have parted what is left


def _is_kept(found: re.Match[str]) -> bool:
    """Whether what looks like a date is the date of a day."""
    first, second, third = map(int, re.findall(r"\d+", found["day"] or found["local"] or "2000-01-01"))
    for order in ((first, second, third), (third, first, second), (third, second, first)):
        with suppress(ValueError):
            return bool(date(*order))
    return False


def _unescaped(text: str, escapes: Iterable[re.Match[str]]) -> Iterator[tuple[int, int, str]]:
    """The characters of a text, each with its place, and these escapes as what they stand for."""
    place = 0
    for found in escapes:
        yield from ((at, at + 1, text[at]) for at in range(place, found.start()))
        place = found.end()
        if found[1] is None:
            yield found.start(), place, chr(int(found[2] or "20", 16))
            continue
        units = list(_BYTE.finditer(found[0]))
        for each in bytes(int(unit[1], 16) for unit in units).decode(errors="surrogateescape"):
            ours = [units.pop(0) for _ in each.encode(errors="surrogateescape")]
            yield found.start() + ours[0].start(), found.start() + ours[-1].end(), each
    yield from ((at, at + 1, text[at]) for at in range(place, len(text)))


def _hidden(characters: Iterable[tuple[int, int, str]], kept: Container[int]) -> set[tuple[int, int]]:
    """The places of the digits of numbers that are not shown."""
    hidden: set[tuple[int, int]] = set()
    row: list[tuple[int, int]] = []
    has_plus = False
    for start, end, written in chain(characters, [(-1, -1, "x")]):
        for each in () if start in kept else written if written.isascii() else normalize("NFKC", written):
            if each.isdecimal():
                row.append((start, end))
            elif each.isalnum() and each not in _LONG_MARKS:
                if len(row) >= _LEAST_DIGITS:
                    shown = {*row[-_SHOWN_DIGITS:], *(row[:_SHOWN_DIGITS] if has_plus else ())}
                    hidden |= set(row) - shown
                row, has_plus = [], False
            elif not row:
                has_plus = each == "+" or (has_plus and each in " ([")
    return hidden


_SMALLEST_NUMBER = 10 ** (_LEAST_DIGITS - 1)


def shown_masked(value: object) -> object:
    """A value as people see it who see no whole telephone number: a small figure or a time itself, else its text."""
    is_small = isinstance(value, int | float | Decimal) and abs(value) < _SMALLEST_NUMBER
    return value if is_small or isinstance(value, date | timedelta | None) else without_numbers(str(value))


def masked_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An event of the log with the numbers of all its fields masked: a processor of structlog."""
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
    """The first NUL, or half of a surrogate pair, in a text; None if there is none."""
    return None if text.isascii() and "\0" not in text else _UNSTORABLE.search(text)


def as_stored(text: str) -> str:
    """The text as a store can keep it: U+FFFD stands for each NUL and each half of a surrogate pair."""
    return text if unstorable_in(text) is None else _UNSTORABLE.sub("\ufffd", text)


def storing_problem(text: object) -> str | None:
    """The error message, without its subject, for what is no text that a store can keep; None for any other text."""
    if not isinstance(text, str):
        return f"is {str(text)[:40]}, which is not a text; give a text"
    found = unstorable_in(text)
    if found is None:
        return None
    what = "a NUL character" if found[0] == "\0" else "half a surrogate pair"
    return f"has {what} (U+{ord(found[0]):04X}) at character {found.start() + 1}, which no store can keep; remove it"


def checked_text(name: str, text: str) -> str:
    """The text, if a store can keep it. Otherwise raises InvalidInputError; its message begins with `name`."""
    problem = storing_problem(text)
    if problem is not None:
        raise InvalidInputError(f"{name} {problem}")
    return text
