"""Foreign text made safe for display: without control characters and changes of direction.

Control characters (U+0000 to U+001F, U+007F to U+009F) move the cursor, clear the screen, change the title of the
window, and on some terminals type text. Bidirectional overrides and isolates reorder a line (Unicode TR 36 §2.4). Half
a surrogate pair cannot be written at all. Joiners and marks of ordinary writing are kept.
"""

from __future__ import annotations

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
