"""Files of environment variables, read as systemd reads those of `EnvironmentFile=` (systemd.exec(5)).

A shell reads `postgresql://…?a=b&schema=c` as two commands, and `$` as a variable: a command would then run with
another store than the service. What systemd would drop without a word, or what its versions read differently, is
refused here.
"""

from __future__ import annotations

import re

SERVICE_FILE = "VOICEFLOW_ENV_FILE"
"""The variable that names the file of a service's settings."""
_SKIPPED = re.compile(r"[ \t\n\r]*")
_COMMENT = re.compile(r"[#;][^\n\r]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ASSIGNMENT = re.compile(r"([^=\n\r]*)(=?)[ \t]*")
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:\\.|[^"\\])*)")[ \t]*""", re.DOTALL)
_ESCAPED_IN_QUOTES = re.compile(r"\\(?:([\"\\`$])|\n)")
"""Before anything else, a backslash within double quotes stays."""
_PLAIN = re.compile(r"(?:\\.|\\\Z|[^\\\n\r])*", re.DOTALL)
_PIECE = re.compile(r"\\(.?)|([^\\]+)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def read_env_file(content: bytes) -> dict[str, str]:
    """The variables of a file. The last of several with one name counts. Raises ValueError, which names the line.

    A value ends with its line. Blanks around it do not count, quotes at its beginning are taken away, and a backslash
    at the end of a line continues it. Lines that begin with `#` or `;` are comments; behind a value they belong to it.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not in UTF-8: save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError(
            "begins with a byte order mark, because of which systemd drops its first line: save it without"
        )
    if "\0" in text:
        raise ValueError("has a NUL, after which systemd reads nothing: save it as plain text in UTF-8")
    found: dict[str, str] = {}
    place = _end_of(_SKIPPED, text, 0)
    while place < len(text):
        line = f"line {text.count(chr(10), 0, place) + 1}"
        if comment := _COMMENT.match(text, place):
            if "\\" in comment[0]:
                raise ValueError(
                    f"has a backslash in the comment in {line}, which versions of systemd read differently: take it "
                    "away"
                )
            place = comment.end()
        else:
            name, value, place = _assigned(text, place, line)
            if _CONTROL.search(value):
                raise ValueError(f"has a control character in the value of {name} in {line}")
            found[name] = value
        place = _end_of(_SKIPPED, text, place)
    return found


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return place if found is None else found.end()


def _assigned(text: str, place: int, line: str) -> tuple[str, str, int]:
    """The name and the value of the assignment at a place, and where it ends. Raises ValueError."""
    begun = _ASSIGNMENT.match(text, place)
    name = "" if begun is None else begun[1].rstrip()
    if begun is None or not begun[2] or not _NAME.fullmatch(name):
        remedy = "write NAME=value, without `export`" if name.startswith("export") else "write NAME=value"
        raise ValueError(f"has a line that systemd drops, {line}: {remedy}, or # before it")
    value, place = "", begun.end()
    while quoted := _QUOTED.match(text, place):
        single, double = quoted.groups()
        value += _ESCAPED_IN_QUOTES.sub(r"\1", double) if single is None else single
        place = quoted.end()
    if text[place : place + 1] in {"'", '"'}:
        raise ValueError(f"has a quote in the value of {name} in {line} that is not closed")
    end = _end_of(_PLAIN, text, place)
    for piece in _PIECE.finditer(text[place:end]):
        escaped, plain = piece.groups()
        value += escaped.strip("\n\r") if plain is None else plain if piece.end() < end - place else plain.rstrip(" \t")
    return name, value, end
