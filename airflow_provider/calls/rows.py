"""Rows of a campaign, from a file or a list, and the calls that they request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_provider.calls.made_calls import called_key, called_number
from voiceflow_worker import Finding, InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker import CampaignOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRows:
    """The rows of a task, as mappings.

    For rows from a file, `lines` has their line numbers, and `unreadable` has the errors of lines that cannot be read.
    """

    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int] = ()
    unreadable: Sequence[Finding] = ()

    def number(self, place: int) -> int:
        """Return the row number for messages: the line in the file, or the position in the list, counted from 1."""
        return self.lines[place] if self.lines else place + 1

    def renumbered(self, found: Finding) -> Finding:
        """Return `found`, whose row is a position in the list (from 1), with the row number that messages show."""
        return found if found.row is None else replace(found, row=self.number(found.row - 1))


def rows_of(file: Path, options: CampaignOptions, *, now: datetime) -> TaskRows:
    """Return the rows of a campaign file. A file named .json may hold one array of rows.

    Raises CampaignFileError and InvalidInputError if the file cannot be read.
    """
    from voiceflow_worker import open_campaign

    if file.suffix.lower() == ".json" and (array := _array_of(file)) is not None:
        return TaskRows(rows=array)
    source = open_campaign(file, options, now=now).source
    rows, lines, unreadable = list[dict[str, Any]](), list[int](), list[Finding]()
    for raw in source:
        if raw.problems:
            unreadable += [Finding(row=raw.number, column=column, message=why) for column, why in raw.problems]
            continue
        cells = dict(zip(source.columns, raw.cells, strict=True)) if source.kind.is_table else dict(raw.data)
        rows.append({name: value for name, value in cells.items() if name})
        lines.append(raw.number)
    return TaskRows(rows=rows, lines=lines, unreadable=unreadable)


def _array_of(file: Path) -> list[dict[str, Any]] | None:
    """Return the rows of the array in a JSON file, or None if the file holds something else."""
    try:
        value: Sequence[object] | Mapping[str, object] | None = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None  # the reader of campaign files names the problem
    return checked_rows(value) if isinstance(value, list) else None


def checked_rows(rows: object) -> list[dict[str, Any]]:
    """Return the rows as dictionaries. Raises InvalidInputError if `rows` is not a list of mappings."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise InvalidInputError(
            f"rows must be a list of mappings, such as [{{'destination': '+65…'}}], not {type(rows).__name__}"
        )
    checked: list[dict[str, Any]] = []
    for place, row in enumerate(cast("Sequence[object]", rows), 1):
        if not isinstance(row, Mapping):
            raise InvalidInputError(f"row {place} must be a mapping with a destination, not {type(row).__name__}")
        checked.append(dict(cast("Mapping[str, Any]", row)))
    return checked


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRow:
    """A row that can be called.

    `place` is the index in the list. `called` identifies the row by its own key, or else by its telephone number.
    `digest` is a digest of the row's content.
    """

    place: int
    called: str
    digest: str


@dataclass(slots=True)
class CheckedRows:
    """The result of a check: the rows that can be called, counts of duplicate and of bad rows, and the errors."""

    requested: list[RequestedRow] = field(default_factory=list[RequestedRow])
    duplicates: int = 0
    rejected: int = 0
    errors: list[Finding] = field(default_factory=list[Finding])


def check_rows(rows: Sequence[Mapping[str, Any]], options: CampaignOptions, *, now: datetime) -> CheckedRows:
    """Check rows. Raises CampaignFileError if the template cannot be used.

    The calls of a task form one batch, so a row that names another batch is bad.
    """
    from voiceflow_worker import open_campaign

    checked = CheckedRows()
    for read in open_campaign(rows, options, now=now):
        errors = [finding for finding in read.findings if finding.is_error]
        if read.request is not None and read.request.batch_id != options.batch_id:
            message = f"must be empty, because the batch of this task is {options.batch_id}"
            errors.append(Finding(row=read.raw.number, column="batch_id", message=message))
        if errors:
            checked.errors += errors
            checked.rejected += 1
        elif read.request is None or read.number is None:
            checked.duplicates += 1
        else:
            called = called_key(read.own_key) if read.own_key is not None else called_number(read.number)
            checked.requested.append(RequestedRow(place=read.raw.number - 1, called=called, digest=read.digest))
    return checked
