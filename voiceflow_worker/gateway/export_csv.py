"""Reads the files of a log export (8x8 voice log export reference, "Logs files format").

Tolerantly: columns by their names in any order and spelling, what is missing or unreadable is None. A line that cannot
be read becomes a row that says nothing, and so may be any call: it keeps others from being bound, or found missing.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from voiceflow_worker.errors import CallLogError
from voiceflow_worker.model.events import Direction
from voiceflow_worker.model.export import ExportRow
from voiceflow_worker.model.payload import fold_name
from voiceflow_worker.model.status import fold_session_status

_NEEDED = ("SessionId", "SourceEndpoint", "DestinationEndpoint", "InitiatedAt")
_NOTHING = frozenset({"", "null", "none"})
# What spreadsheets are told, so that they take a number for a text: ="6587654321" or '6587654321.
_FOR_SPREADSHEETS = re.compile(r"=\"(.*)\"|'(.*)", re.DOTALL)


def read_rows(content: bytes) -> list[ExportRow]:
    """The rows of one file. Raises CallLogError if this is no log export."""
    text = content.decode("utf-8-sig", errors="replace")
    first = text.partition("\n")[0]
    lines = _lines(text, delimiter=max(",;\t", key=first.count))
    columns = next(lines, None) or []
    places = {fold_name(name): place for place, name in reversed(list(enumerate(columns)))}
    missing = [name for name in _NEEDED if fold_name(name) not in places]
    if missing:
        raise CallLogError(f"a file of the log export is none: it has no column {', '.join(missing)}")
    return [_row(cells, places.get, width=len(columns)) for cells in lines if cells != []]


def _lines(text: str, *, delimiter: str) -> Iterator[list[str] | None]:
    """The lines, cell by cell; None for one that is broken."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _row(cells: Sequence[str] | None, place_of: Callable[[str], int | None], *, width: int) -> ExportRow:
    if cells is None or len(cells) != width:
        return ExportRow()

    def text(name: str) -> str | None:
        place = place_of(fold_name(name))
        return None if place is None else _text(cells[place])

    status = text("SessionStatus")
    times = [text(name) for name in ("InitiatedAt", "ConnectedAt", "DisconnectedAt")]
    return ExportRow(
        is_zoneless=any(_is_zoneless(time) for time in times),
        session_id=text("SessionId"),
        call_id=text("CallId"),
        direction=_direction(text("Direction")),
        source=text("SourceEndpoint"),
        destination=text("DestinationEndpoint"),
        initiated_at=_moment(text("InitiatedAt")),
        connected_at=_moment(text("ConnectedAt")),
        disconnected_at=_moment(text("DisconnectedAt")),
        status=fold_session_status(status),
        status_text=status,
        call_status=text("CallStatus"),
        seconds=_decimal(text("DurationInSec")),
    )


def _text(cell: str) -> str | None:
    text = cell.strip()
    wrapped = _FOR_SPREADSHEETS.fullmatch(text)
    if wrapped is not None:
        text = (wrapped[1] or wrapped[2] or "").strip()
    return None if text.casefold() in _NOTHING else text


def _direction(text: str | None) -> Direction | None:
    try:
        return None if text is None else Direction(text.upper())
    except ValueError:
        return None


def _decimal(text: str | None) -> float | None:
    try:
        number = None if text is None else float(text)
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None


def _is_zoneless(text: str | None) -> bool:
    try:
        return text is not None and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _moment(text: str | None) -> datetime | None:
    """ISO 8601; UTC is meant where no zone is written."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
        if moment is None or moment.tzinfo is not None:
            return moment and moment.astimezone(UTC)
        return moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
