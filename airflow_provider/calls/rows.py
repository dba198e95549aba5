"""The rows of a campaign: where they come from, and what each of them calls."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import Finding, InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker import CampaignOptions

_DELIMITERS = ",;\t|"


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file (with a header) or of JSON lines. Raises InvalidInputError for a file that is neither."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from None
    if file.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        try:
            whole = (
                json.loads(text)
                if text.lstrip()[:1] == "["
                else [json.loads(line) for line in text.splitlines() if line.strip()]
            )
        except ValueError as error:
            raise InvalidInputError(f"{file} is no JSON: {error}") from None
        return checked_rows(whole)
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    return [
        {name: value for name, value in row.items() if name and value is not None}
        for row in csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)
    ]


def checked_rows(rows: object) -> list[dict[str, Any]]:
    """The rows, if each is a mapping. Raises InvalidInputError telling what was given instead."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise InvalidInputError(
            f"rows are a list of mappings, such as [{{'destination': '+65…'}}], not {type(rows).__name__}"
        )
    checked: list[dict[str, Any]] = []
    for place, row in enumerate(cast("Sequence[object]", rows), 1):
        if not isinstance(row, Mapping):
            raise InvalidInputError(f"row {place} is {type(row).__name__}: give a mapping, with a destination")
        checked.append(dict(cast("Mapping[str, Any]", row)))
    return checked


def called_number(number: str) -> str:
    """What a row without a key of its own is known by: the number that it calls, in its usual form."""
    return f"number {number}"


def called_key(key: str) -> str:
    """What a row with a key of its own is known by."""
    return f"key {key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow:
    """One row that can be called: its place in the list, what it is known by, and a digest of what it says."""

    place: int
    called: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRows:
    """Rows, read: those that can be called, how many are the same call as an earlier one, and what is wrong."""

    asked: Sequence[AskedRow]
    duplicates: int
    rejected: int
    errors: Sequence[Finding]


def written(rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The rows as a file that the library reads: one on each line."""
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in rows), encoding="utf-8")
    return file


def read_rows(file: Path, options: CampaignOptions, *, now: datetime) -> ReadRows:
    """What the rows of this file call; nothing is stored. Raises CampaignFileError for a template that cannot be used.

    The calls of a task are one batch: a row that names another one is bad.
    """
    from voiceflow_worker import open_campaign

    asked: list[AskedRow] = []
    errors: list[Finding] = []
    duplicates = rejected = 0
    for read in open_campaign(file, options, now=now):
        found = [finding for finding in read.findings if finding.is_error]
        if read.request is not None and read.request.batch_id != options.batch_id:
            message = f"names another batch than that of this task ({options.batch_id}); leave it out"
            found.append(Finding(row=read.raw.number, column="batch_id", message=message))
        if found:
            errors += [replace(finding, file=None) for finding in found]
            rejected += 1
        elif read.request is None or read.number is None:
            duplicates += 1
        else:
            called = called_key(read.own_key) if read.own_key is not None else called_number(read.number)
            asked.append(AskedRow(place=read.raw.number - 1, called=called, digest=read.digest))
    return ReadRows(asked=asked, duplicates=duplicates, rejected=rejected, errors=errors)


def older_key(row: Mapping[str, Any], identity: TaskIdentity) -> str:
    """The unique key of a row in an older release: of its own key, else of all its columns."""
    own = row.get("unique_key")
    told = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return identity.key(str(own) if own else hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest())
