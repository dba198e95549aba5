"""Texts that programs leave in cells in place of what was meant: errors of formulas, and wrongly decoded characters."""

from __future__ import annotations

import re

_ERROR = re.compile(r"#(?:[¡¿]?[^\W\d_][\w/ ]*[!?]|[^\W\d_]{1,2}/[^\W\d_]{1,2}|NV|YOK|GETTING_DATA|#+)|Err:\d{3}")
"""An error as spreadsheets show it, in any language: #REF!, #N/A, #¡VALOR!, #NV, ####, Err:502."""


def error_in(text: str) -> str | None:
    """The reason why a text is an error of a spreadsheet and no value, as a clause; None if it is a value."""
    if text[:1] not in {"#", "E"} or _ERROR.fullmatch(text) is None:
        return None
    if text[0] == "#" and text.upper() != text:
        return None
    return error_sentence(text)


def error_sentence(error: str) -> str:
    """The clause about a cell that holds this error."""
    if error.startswith("##"):
        return (
            f"holds {error}: the column was too narrow for its value when the file was saved; widen the column in "
            "the workbook, and save the file again"
        )
    return f"holds the error {error} of a formula; correct it in the workbook, and save the file again"


_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_LIKELY = {
    "cp1252": "Windows-1252",
    "mac_roman": "Mac OS Roman",
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp850": "DOS code page 850",
    "cp437": "DOS code page 437",
}
"""The encodings in which UTF-8 is read by mistake, and their names for people; the most likely ones first."""
_REMEDY = "open the original again as UTF-8 (Excel: Data, From Text/CSV, 65001: Unicode), and save it"


def misread(text: str) -> str | None:
    """The reason why a text seems to be wrongly decoded, as a clause with the likely encoding; None if it does not.

    It is for a warning, because the text may be right.
    """
    if text.isascii():
        return None
    if "\ufffd" in text:
        return (
            f"has U+FFFD in {_shown(text, text.index(chr(0xFFFD)))}, the sign for a character that a program could not "
            "read: the original was probably in Windows-1252, and read as UTF-8. Export it again as UTF-8"
        )
    for run in _RUN.finditer(text):
        for encoding, name in _LIKELY.items():
            meant = _meant(run[0], encoding)
            if meant is not None:
                shown = _shown(text, run.start())
                return f"has {shown}, probably {shown.replace(run[0], meant)}: UTF-8 that was read as {name}; {_REMEDY}"
    return None


def _meant(run: str, encoding: str) -> str | None:
    """What characters meant, if they are UTF-8 that was read in this encoding; else None."""
    try:
        # Windows has no characters for five bytes, and programs read them as control characters.
        content = b"".join(bytes([ord(each)]) if "\x80" <= each <= "\x9f" else each.encode(encoding) for each in run)
        meant = content.decode("utf-8")
    except UnicodeError:
        return None
    # Other letters than these are hardly ever meant: `É»`, say, would be a phonetic sign.
    return meant if meant.isprintable() and not any(0x180 <= ord(each) <= 0x36F for each in meant) else None


def _shown(text: str, place: int) -> str:
    """The part of a text around a place."""
    return repr(text[max(0, place - 12) : place + 20])
