"""Texts of monitoring as a person can hear them: without the codes, addresses and gaps that templates leave in them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final
from urllib.parse import unquote

from voiceflow_worker.model.text.web_address import split_web_address

LONGEST_SAID: Final = 500
"""The most characters that are spoken of an alarm: about 40 seconds."""
UNKNOWN: Final = "unknown"
_DIGITS: Final = 3


def speakable(text: str) -> str:
    """The text to be spoken, on one line. It may be empty.

    What is encoded (`%20`, `&quot;`) is decoded, a link is its words, an address its host, and a fraction with four
    digits or more is told to three. The marks of Markdown are left out. What a template could not fill in (`<no
    value>`, `{{ $labels.instance }}`) is "unknown".
    """
    for pattern, spoken in _SPOKEN:
        text = pattern.sub(spoken, text)
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return re.sub(r" (?=[,.;:!?](?: |$))", "", text).strip(",;: ")


def shortened(text: str, most: int = LONGEST_SAID) -> str:
    """The text, or its beginning with `…`, which ends with a word if that is long enough."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    words = cut.rpartition(" ")[0]
    return f"{(words if len(words) >= most // 2 else cut).rstrip(' ,;:')}…"


def _decoded(found: re.Match[str]) -> str:
    try:
        read = unquote(found[0], errors="strict")
    except UnicodeDecodeError:
        return found[0]
    return read if all(each.isprintable() or each.isspace() for each in read) else found[0]


def _host(found: re.Match[str]) -> str:
    address = found[0].rstrip(".,;:!?'")
    parts = split_web_address(address)
    return f"{(parts.hostname if parts is not None else None) or address}{found[0][len(address) :]}"


def _rounded(found: re.Match[str]) -> str:
    return format(Decimal(f"{float(found[0]):.{_DIGITS}g}"), "f")


_SPOKEN: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]]] = (
    (re.compile(r"&(?:#\d+|#x[\da-f]+|[a-z]+);", re.IGNORECASE), lambda found: html.unescape(found[0])),
    (re.compile(r"<error expanding template:.*>", re.DOTALL), " "),
    (
        re.compile(r"(?:\s*(?:[<\[](?:no value|nil)[>\]]|\{\{.*?\}\}|\$(?:\{\w[\w.]*\}|[A-Za-z_][\w.]*\b)))+"),
        f" {UNKNOWN} ",
    ),
    (
        re.compile(r"<https?://[^\s|<>]+\|([^<>]+)>|\[([^\[\]]+)\]\(https?://[^\s()]+\)"),
        lambda found: found[1] or found[2],
    ),
    (re.compile(r"https?://(?:\[[\da-fA-F:]+\])?[^\s<>\"|()\[\]]*"), _host),
    (re.compile(r"(?:%[\dA-Fa-f]{2})+"), _decoded),
    (re.compile(r"(?m)^\s*(?:#+|[-*])\s+"), " "),
    (re.compile(r"(?<!\w)[*`]+(?=\S)|(?<=\S)[*`]+(?!\w)"), ""),
    (re.compile(r"(?<![\w.])\d+\.\d+[eE][+-]?\d{1,2}(?!\w)|(?<![\w.])\d+\.\d{4,}(?!\d|\.\d)"), _rounded),
)  # fmt: skip
"""What is spoken otherwise than it is written, in this order."""
