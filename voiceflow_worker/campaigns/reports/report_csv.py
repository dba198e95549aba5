"""A report as a CSV file, with one line for each call."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator
from pathlib import Path

from voiceflow_worker.campaigns.files.rows import whole_file
from voiceflow_worker.campaigns.reports.line_spool import LineSpool
from voiceflow_worker.model.text.printable import printable

# A spreadsheet runs a cell that begins like this as a formula (OWASP, CSV injection). A number such as +6587654321 is
# harmless, and so is a number with single spaces, such as +65 8765 4321.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
# A program may take another character than the comma for the delimiter. A cell then begins in the middle of a text.
# Quotes around the text do not prevent this: for such a program, they are not at the ends of a cell.
_NEXT_CELL = re.compile(r"([;|\t\r\n])((?:[^\S\t\r\n]|\")*[=+\-@\uff1d\uff0b\uff0d\uff20][^;|\t\r\n]*)")
_NUMBER = re.compile(r"[+-]?\d+( \d+)*(\.\d+)?", re.ASCII)


def write_csv_report(path: Path, spool: LineSpool) -> Generator[int]:
    """Write a line for each call, in the order of enqueuing.

    Each step of the generator writes some calls, and yields the number of calls that are written. The file gets its
    name when it is complete. If the generator is closed earlier, a file that was there stays unchanged. Raises OSError.
    """
    columns, count = spool.columns, 0
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(harmless(column.heading) for column in columns)
        for pack in spool.packs():
            rows.writerows([harmless(data_text(column.of(line))) for column in columns] for line in pack)
            count += len(pack)
            yield count


def harmless(cell: str) -> str:
    """The text with an apostrophe before each part that a spreadsheet could run as a formula.

    Parts are separated by semicolons, vertical bars, tabs and line breaks.
    """
    guarded = _NEXT_CELL.sub(_guarded, cell)
    return f"'{guarded}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else guarded


def _guarded(found: re.Match[str]) -> str:
    separator, part = found.groups()
    return found[0] if _NUMBER.fullmatch(part.strip()) else f"{separator}'{part}"


def data_text(value: object) -> str:
    """A value of a column as text: nothing for null, and `true` or `false` as in JSON."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return printable(str(value))
