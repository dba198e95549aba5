"""Removal of secrets from addresses that are displayed or logged. No other module removes secrets.

People write passwords into URLs unquoted, with `/`, `@`, `?` or `#` in them. A parser then finds parts of the password
in other places of the URL. So any part that could belong to a password is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"

_FILES = frozenset({"sqlite", "file"})
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_USER = re.compile(r"[\w.~%+-]*", re.ASCII)
_OPEN_OPTIONS = frozenset({"durability", "replicas", "prefix", "tls", "ssl_cert_reqs", "ssl_check_hostname", "mode"})
"""Options of store URLs whose values are not secret."""
_OPEN_VALUE = re.compile(r"[a-z0-9-]{1,20}")
# Paths of files may contain an @.
_IN_TEXT = re.compile(r"\b(?!(?:sqlite|file):)([A-Za-z][A-Za-z0-9+.-]*://)([^\s@]*)@(?=\S)")


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
        text = text.replace(secret, HIDDEN)
    return _IN_TEXT.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


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
