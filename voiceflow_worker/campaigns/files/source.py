"""The format of a campaign file, by its name or its first lines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.json_rows import JsonDocument, JsonLines, read_json
from voiceflow_worker.campaigns.files.lines import read_lines
from voiceflow_worker.campaigns.files.rows import FileKind, RowSource

_BY_SUFFIX = {
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".jsonl": FileKind.JSON_LINES,
    ".ndjson": FileKind.JSON_LINES,
    ".json": FileKind.JSON,
    ".json5": FileKind.JSON,
    ".jsonc": FileKind.JSON,
}


def open_source(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> RowSource:
    """The rows of a file. Raises CampaignFileError when it cannot be read at all."""
    match kind_of(path):
        case FileKind.CSV:
            return CsvRows(path, on_bytes=on_bytes)
        case FileKind.JSON_LINES:
            return JsonLines(path, on_bytes=on_bytes)
        case FileKind.JSON:
            return JsonDocument(path, on_bytes=on_bytes)


def kind_of(path: Path) -> FileKind:
    """The format of a file. Raises CampaignFileError when its first lines are needed and cannot be read."""
    known = _BY_SUFFIX.get(path.suffix.lower())
    if known is not None:
        return known
    first = [line.text for line in islice(read_lines(path), 50) if line.text.strip()]
    if not first or not first[0].lstrip().startswith(("{", "[", "//", "/*")):
        return FileKind.CSV
    try:
        read_json(first[0])
    except ValueError:
        return FileKind.JSON
    return FileKind.JSON_LINES if len(first) > 1 else FileKind.JSON
