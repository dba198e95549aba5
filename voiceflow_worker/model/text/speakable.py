"""Texts of monitoring as a person can hear them: without the codes, addresses and gaps that templates leave in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from voiceflow_worker.model.text.web_address import split_web_address

LONGEST_SAID: Final = 500
"""The most characters that are spoken of an alarm: about 40 seconds."""
UNKNOWN: Final = "unknown"
_DIGITS: Final = 3


def speakable(text: str) -> str:
    """Return the text to be spoken, on one line. It may be empty.

    An address becomes its host, and a fraction with four digits or more has three. The stars and backticks of Markdown
    are left out. What a template could not fill in (`<no value>`, `{{ $labels.instance }}`) is "unknown".
    """
    for pattern, spoken in _SPOKEN:
        text = pattern.sub(spoken, text)
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return re.sub(r" (?=[,.;:!?](?: |$))", "", text).strip(",;: ")


def shortened(text: str, most: int = LONGEST_SAID) -> str:
    """Return the text, or its beginning with `…`, which ends with a word if that is long enough."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    words = cut.rpartition(" ")[0]
    return f"{(words if len(words) >= most // 2 else cut).rstrip(' ,;:')}…"


def _host(found: re.Match[str]) -> str:
    address = found[0].rstrip(".,;:!?'")
    parts = split_web_address(address)
    return f"{(parts.hostname if parts is not None else None) or address}{found[0][len(address) :]}"


def _rounded(found: re.Match[str]) -> str:
    return format(Decimal(f"{float(found[0]):.{_DIGITS}g}"), "f")


_SPOKEN: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]]] = (
    (re.compile(r"<error expanding template:.*>", re.DOTALL), " "),
    (
        re.compile(r"(?:\s*(?:[<\[](?:no value|nil)[>\]]|\{\{.*?\}\}|\$(?:\{\w[\w.]*\}|[A-Za-z_][\w.]*\b)))+"),
        f" {UNKNOWN} ",
    ),
    (re.compile(r"https?://(?:\[[\da-fA-F:]+\])?[^\s<>\"|()\[\]]*"), _host),
    (re.compile(r"(?<!\w)[*`]+(?=\S)|(?<=\S)[*`]+(?!\w)"), ""),
    (re.compile(r"(?<![\w.])\d+\.\d+[eE][+-]?\d{1,2}(?!\w)|(?<![\w.])\d+\.\d{4,}(?!\d|\.\d)"), _rounded),
)
"""What is spoken otherwise than it is written, in this order."""
