"""Addresses as they may be shown and logged: without what may be a secret in them. The one place that hides.

People write passwords into URLs as they are, with `/`, `@`, `?` or `#` in them, and such a URL is then read with the
password's parts in other places. So nothing is shown that could be a part of one: rather too little than too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"

_FILES = frozenset({"sqlite", "file"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_USER = re.compile(r"[\w.~%+-]*", re.ASCII)
_OPEN_OPTIONS = frozenset({"durability", "replicas", "prefix", "tls", "ssl_cert_reqs", "ssl_check_hostname", "mode"})
"""Options of stores that hold no secret, and values that cannot be the rest of one."""
_OPEN_VALUE = re.compile(r"[a-z0-9-]{1,20}")
# What has its own scheme is somebody's address; a file's path may hold an @.
_IN_TEXT = re.compile(r"\b(?!(?:sqlite|file):)([A-Za-z][A-Za-z0-9+.-]*://)([^\s@]*)@(?=\S)")


def without_secrets(url: str, *, options: bool = False) -> str:
    """The URL without the password that it may carry, and without its query.

    With `options`, the query is shown as far as it holds options that are known not to be secret.
    """
    head, rest = _parted(url)
    place, mark, query = rest.partition("?")
    shown = _shown_options(query) if mark and options else ""
    if head.partition(":")[0].lower() in _FILES and place.startswith("/"):
        return head + place + shown  # a path as it is: nothing in it is decoded, and no user stands before it
    place, hash_mark, fragment = place.partition("#")
    if "@" in query or (hash_mark and "@" in fragment):
        return head + HIDDEN  # it may be the end of the password, and what stands before the mark its beginning
    credentials, at, host = place.rpartition("@")
    if not at:
        return head + (place if "://" in head or ":" not in place else HIDDEN) + shown
    user, colon, _ = credentials.partition(":")
    if not colon:
        return f"{head}{HIDDEN}@{host}{shown}"  # a token as often as a name
    return f"{head}{user if _USER.fullmatch(user) else HIDDEN}:{HIDDEN}@{host}{shown}"


def without_secrets_in(text: str, *, known: Iterable[str] = ()) -> str:
    """A text with the passwords of the URLs in it hidden, and the secrets that are `known`, however they came there."""
    for secret in known:
        text = text.replace(secret, HIDDEN)
    return _IN_TEXT.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


def _parted(url: str) -> tuple[str, str]:
    """The scheme with what separates it, and the rest; no scheme for what has none, as `me:password@host`."""
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
