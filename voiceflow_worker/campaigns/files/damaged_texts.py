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
