"""Write the rows of a list that are not called, each with its reason, so that they can be corrected and read again."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson

from voiceflow_worker.campaigns.lists.columns import NOT_READ, REASON
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import OpenList, Row
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

_OTHER_FORMATS = frozenset({".xlsx", ".xlsm", ".xls", ".parquet", ".gz"})

Reject = Callable[[Row, Sequence[Finding]], None]
"""What adds a row that is not called. Its reasons are the errors among its findings, else the last one."""


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a temporary path. At the end of the block the file is moved to `path`; after an error it is removed.

    A new file is readable by its user only. A `path` that is not a plain file (a pipe, `/dev/stdout`) is written
    directly. Raises OSError, which names `path`.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        unfinished.touch(mode=0o600)
        yield unfinished
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    except OSError as error:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def rejects_file(path: Path, source: OpenList, *, read: InputFile) -> Generator[Reject]:
    """Yield a function that adds a row of a list to a file: a CSV file of a table, else JSON lines.

    The reason is the first cell of a row. The complete file appears at the end of the block, if there was no error and
    at least one row; otherwise an earlier file with this name stays unchanged. Raises CampaignFileError if the name is
    that of another file that is read, or of another format, and if the file cannot be written.
    """
    if path.suffix.lower() in _OTHER_FORMATS:
        extension = ".csv" if source.kind.is_table else ".jsonl"
        raise CampaignFileError(f"{path}: rejects are written as {extension}; give them that extension")
    if read.path is not None and path.resolve() == read.path.resolve() and not _had_reasons(source):
        raise CampaignFileError(f"{path} is the input file: the rejects would replace its good rows; name another file")
    put: Callable[[Row, str], object] | None = None

    def add(row: Row, findings: Sequence[Finding]) -> None:
        nonlocal put
        if put is None:
            put = _writer(opened.enter_context(whole_file(path)), source, opened)
        put(row, reason_of(findings))

    try:
        with ExitStack() as opened:
            yield add
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CampaignFileError(f"{path} cannot be written: {error.strerror or error}") from error


def _writer(path: Path, source: OpenList, opened: ExitStack) -> Callable[[Row, str], object]:
    """Return a function that writes a row and its reason to this path."""
    if not source.kind.is_table:
        lines = opened.enter_context(path.open("w", encoding="utf-8", newline=""))
        return lambda row, reason: lines.write(_line(row, reason))
    skipped = _had_reasons(source)
    # Excel knows the encoding of a CSV file by its byte order mark.
    file = opened.enter_context(path.open("w", encoding="utf-8-sig", newline=""))
    write = csv.writer(file, delimiter=source.delimiter or ",", lineterminator="\n").writerow
    write([REASON, *source.header[skipped:]])
    return lambda row, reason: write([reason, *row.cells[skipped:]])


def _had_reasons(source: OpenList) -> bool:
    """Return whether a table has come from a rejects file."""
    return bool(source.header) and source.header[0].strip() == REASON


def _line(row: Row, reason: str) -> str:
    """Return a row of JSON lines with its reason; a line that is no object becomes a text beside it."""
    data = dict(row.data) if row.names else {"line": row.text.rstrip()}
    if next(iter(data), None) in {REASON, NOT_READ}:
        del data[next(iter(data))]
    return orjson.dumps({NOT_READ if REASON in data else REASON: reason, **data}).decode() + "\n"


def reason_of(findings: Sequence[Finding]) -> str:
    """Return why a row is not called: the errors among its findings, else the last one."""
    reasons = [found for found in findings if found.is_error] or findings[-1:]
    places = dict.fromkeys((found.column or found.path, found.message) for found in reasons)
    return "; ".join(f"{place}: {message}" if place else message for place, message in places)
