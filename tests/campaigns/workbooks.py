"""Workbooks, written for the tests of campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from openpyxl import Workbook, load_workbook


def workbook(folder: Path, rows: Iterable[Sequence[object]], name: str = "visits.xlsx", **more: Any) -> Path:
    """A workbook with the sheet People, and a sheet for each further argument."""
    book = Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for title, content in {"People": rows, **more}.items():
        sheet = book.create_sheet(title)
        for row in content:
            sheet.append(list(row))
    path = folder / name
    book.save(path)
    return path


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    """A workbook with a change of its first sheet."""
    book = load_workbook(path, rich_text=True)
    change(book.worksheets[0])
    book.save(path)
    return path
