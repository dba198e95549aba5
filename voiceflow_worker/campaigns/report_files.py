"""The files of a report, CSV and Excel, both written from the same lines: one for each call, or each row of a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

from anyio import to_thread

from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.campaigns.lists.source import Spool
from voiceflow_worker.campaigns.rejects import whole_file
from voiceflow_worker.campaigns.uncalled import LISTED, ListedRow, UncalledList, time_text
from voiceflow_worker.core.base.reading import find_pages
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import result_of, sip_code_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.status import SIP_CODES
from voiceflow_worker.model.text.printable import printable
from voiceflow_worker.model.text.wording import zone_words
from voiceflow_worker.reporting.status import waits_in_words

PAGE = 500
"""The most calls in one round trip to the store."""
_NO_DATA: Mapping[str, object] = {}
_NO_WAITS: Mapping[str, str] = {}


class ReportLine(NamedTuple):
    """One call: every field but `data` is a string, empty if missing. Times are RFC 3339.

    `called` is the number of the person that the newest call went to. `seconds` is the duration of the call. `data` has
    the columns of the campaign's own file, or other data that was stored with the call. Control characters are escaped,
    because reports are also read in terminals.
    """

    destination: str
    result: str
    state: str
    outcome: str
    code: str
    message: str
    answer: str
    digits: str
    seconds: str
    started_at: str
    ended_at: str
    attempt: str
    called: str
    source: str
    unique_key: str
    batch_id: str
    created_at: str
    valid_until: str
    session_id: str
    job_id: str
    data: Mapping[str, object] = _NO_DATA


COLUMNS = ReportLine._fields[:-1]
"""The columns of every report: all fields but `data`."""
OF_ROW = "data."
"""The prefix of the columns of a report that come from the campaign's own file."""


def report_line(job: Job, *, zone: ZoneInfo | None = None) -> ReportLine:
    """Return the line of a job, with its newest outcome. Times are in `zone`, by default in UTC.

    Without an outcome, `code` is that of 8x8's answer to the last POST, and `message` is the reason for the job's
    state, else the message of that answer.
    """
    outcome, post = job.outcome, job.last_post
    status = ""
    code = post.code if post is not None else None
    message = job.reason or (post.message if post is not None else None)
    if outcome is not None:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        sip = SIP_CODES.get(sip_code_of(job) or 0)
        code, message = outcome.code, outcome.message or (job.reason if sip is None else sip.meaning)
    return ReportLine(
        destination=job.destination,
        result=_text(result_of(job)),
        state=job.state.value,
        outcome=_text(status),
        code=_text(code),
        message=_text(message),
        answer=_text(job.answer),
        digits=_text(job.digits),
        seconds=_text(f"{outcome.seconds:g}" if outcome and outcome.seconds is not None else None),
        started_at=time_text(outcome.started_at if outcome else None, zone),
        ended_at=time_text(outcome.ended_at if outcome else None, zone),
        attempt=str(job.attempt),
        called=_text(job.number_of(post) if post is not None else None),
        source=job.source,
        unique_key=_text(job.unique_key),
        batch_id=_text(job.batch_id),
        created_at=time_text(job.created_at, zone),
        valid_until=time_text(job.valid_until, zone),
        session_id=_text(job.session_id),
        job_id=job.id,
        data=job.data or {},
    )


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))


class ReportColumn(NamedTuple):
    """A column: a field of every line, or, if `is_own`, a column of the campaign's own file."""

    heading: str
    name: str
    is_own: bool = False

    def of(self, line: ReportLine | ListedRow) -> object:
        """Return the value in this column: a text, or, of an own column, any value."""
        return line.data.get(self.name) if self.is_own else getattr(line, self.name)


def listed_columns(names: Iterable[str]) -> list[ReportColumn]:
    """Return the columns of a list of rows: those of the file with these names, then what became of the row."""
    own = [ReportColumn(name, row_name(name), is_own=True) for name in names if name]
    taken = {each.name for each in own}
    headings = [f"{name} (call)" if name in taken else name for name in LISTED]
    return [*own, *(ReportColumn(each.replace("_", " "), name) for each, name in zip(headings, LISTED, strict=True))]


class LineSpool(Spool):
    """The lines of report `files`, kept in a temporary `file`: one for each call, or for each row.

    CSV and Excel are written from the same lines, so that they show the same. Raises OSError.
    """

    def __init__(self, file: IO[bytes], files: ReportFiles) -> None:
        super().__init__(file)
        self.files = files
        self._data_names: dict[str, str] = {}

    @property
    def columns(self) -> list[ReportColumn]:
        """Columns of every report, and those of the campaign's own file."""
        if self.files.rows:
            columns = listed_columns(self._data_names.values())
            return [each for each in columns if each.is_own or each.name != "batch"]
        own = [ReportColumn(OF_ROW + name, name, is_own=True) for name in self._data_names]
        return [*map(ReportColumn, COLUMNS, COLUMNS), *own]

    def add(self, jobs: Sequence[Job], waits: Mapping[str, str] = _NO_WAITS) -> None:
        """Add a line for each of these jobs; in a list of rows, with why they wait.

        A call that was made again has no line there: its person has that of the other one.
        """
        if self.files.rows:
            self.add_lines([ListedRow.of(job, self.files.zone, waits) for job in jobs if job.again is None])
        else:
            self.add_lines([report_line(job, zone=self.files.zone) for job in jobs])

    def add_names(self, names: Iterable[str]) -> None:
        """Add columns of the campaign's own file; in a list of rows, a column has the name that the file gave it."""
        for name in names:
            self._data_names.setdefault(row_name(name) if self.files.rows else name, name)

    def add_lines(self, lines: Sequence[ReportLine] | Sequence[ListedRow]) -> None:
        """Add these lines."""
        for line in lines:
            self.add_names(line.data)
        self.put([tuple(line) for line in lines])

    def packs(self) -> Iterator[list[ReportLine] | list[ListedRow]]:
        """Yield the lines, in the order in which they were added."""
        for pack in self:
            yield [ListedRow(*line) for line in pack] if self.files.rows else [ReportLine(*line) for line in pack]


# A spreadsheet runs a cell that begins like this as a formula (OWASP, CSV injection). A number such as +6587654321 is
# harmless, and so is a number with single spaces, such as +65 8765 4321.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
# A program may take another character than the comma for the delimiter. A cell then begins in the middle of a text.
# Quotes around the text do not prevent this: for such a program, they are not at the ends of a cell.
_NEXT_CELL = re.compile(r"([;|\t\r\n])((?:[^\S\t\r\n]|\")*[=+\-@\uff1d\uff0b\uff0d\uff20][^;|\t\r\n]*)")
_NUMBER = re.compile(r"[+-]?\d+( \d+)*(\.\d+)?", re.ASCII)


def harmless(cell: str) -> str:
    """Return the text with an apostrophe before each part that a spreadsheet could run as a formula.

    Parts are separated by semicolons, vertical bars, tabs and line breaks.
    """
    guarded = _NEXT_CELL.sub(_guarded, cell)
    return f"'{guarded}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else guarded


def _guarded(found: re.Match[str]) -> str:
    separator, part = found.groups()
    return found[0] if _NUMBER.fullmatch(part.strip()) else f"{separator}'{part}"


def data_text(value: object) -> str:
    """Return a value of a column as text: nothing for null, and `true` or `false` as in JSON."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return printable(str(value))


_NUMBERS = frozenset({"code", "seconds", "attempt", "row", "calls"})
_TIMES = frozenset({"started_at", "ended_at", "created_at", "valid_until", "called_at"})
MOST_ROWS = 1_048_575
"""The largest number of lines of a sheet below its header, by the limit of Excel."""
_MOST_DIGITS, _LONGEST_TEXT = 15, 32_767
"""The largest number of digits that Excel keeps of a number, and of characters in a cell."""
_CODED = re.compile("_(?=x[0-9A-Fa-f]{4}_)|[\\0-\\x08\\x0b-\\x1f\ufffe\uffff]")
"""What XML cannot have, or what would be read as a code of it: _x000D_ (ECMA-376, 22.9.2.19)."""
_COMMANDS = ("=", "+", "-", "@", "\t", "\r", "\n", "#")
"""How a text begins that a program may take for a formula or an error."""


def write_csv_report(path: Path, spool: LineSpool) -> None:
    """Write a line for each call, in the order of enqueuing. By its byte order mark, Excel knows the encoding.

    The file gets its name when it is complete. Raises OSError.
    """
    columns = spool.columns
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # Gnumeric splits at a plus
        rows.writerow(harmless(data_text(column.heading)) for column in columns)
        for pack in spool.packs():
            rows.writerows([harmless(data_text(column.of(line))) for column in columns] for line in pack)


def write_xlsx_report(path: Path, spool: LineSpool) -> None:
    """Write a workbook with one sheet, row by row. Texts are written as texts, so that Excel runs no formula in them.

    The file gets its name when it is complete. Raises OSError.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    columns, zone = spool.columns, zone_words(spool.files.zone)
    book: Any = Workbook(write_only=True)
    sheet = book.create_sheet("Rows" if spool.files.rows else "Calls")
    sheet.freeze_panes, last = "A2", get_column_letter(len(columns))
    for place in range(len(columns)):
        sheet.column_dimensions[get_column_letter(place + 1)].width = 18
    header, quoted = WriteOnlyCell(sheet), WriteOnlyCell(sheet)
    header.font = Font(bold=True)
    quoted.quotePrefix = True  # the text stays one when it is edited

    def typed(column: ReportColumn, value: object) -> object:
        match value:
            case None | "":
                return None
            case bool():
                return value
            case int() | float() if _is_exact(value):
                return value
            case str() if not column.is_own and column.name in _NUMBERS:
                return float(value)
            case str() if not column.is_own and column.name in _TIMES:
                return datetime.fromisoformat(value).replace(tzinfo=None)
            case _:
                text = printable(str(value))
                return as_text(text, quoted) if text.startswith(_COMMANDS) else _coded(text)

    def as_text(text: str, cell: Any) -> object:
        cell.value = _coded(text)
        cell.data_type = "s"  # whatever it looks like
        return cell

    with whole_file(path) as unfinished:
        try:
            headings = (f"{each.heading} ({zone})" if each.name == "called_at" else each.heading for each in columns)
            sheet.append(as_text(printable(each), header) for each in headings)
            for pack in spool.packs():
                for line in pack:
                    sheet.append(typed(column, column.of(line)) for column in columns)
            sheet.auto_filter.ref = f"A1:{last}{len(spool) + 1}"
            book.save(unfinished)
        except BaseException:
            with suppress(Exception):
                sheet.close()
            with suppress(Exception):
                sheet._writer.cleanup()  # noqa: SLF001 - nothing else removes the temporary file
            raise


def _coded(text: str) -> str:
    return _CODED.sub(lambda found: f"_x{ord(found[0]):04X}_", text)[:_LONGEST_TEXT]


def _is_exact(number: float) -> bool:
    return isfinite(number) and len(str(number).strip("-0.").replace(".", "")) <= _MOST_DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """The files that a report is written to. A format whose file is None is left out.

    With `rows`, the files have a line for each row of the campaign's lists that calls nobody, and then one for each
    call, with the cells of its row. Times are in `zone`, by default in UTC. Raises InvalidInputError if both formats
    have the same file.
    """

    csv: Path | None = None
    xlsx: Path | None = None
    zone: ZoneInfo | None = None
    rows: bool = False

    def __post_init__(self) -> None:
        if self.csv is not None and self.csv == self.xlsx:
            raise InvalidInputError("two formats of the report have the same file; give each format its own file")

    def __bool__(self) -> bool:
        return any((self.csv, self.xlsx))


async def write_report_files(
    files: ReportFiles,
    store: Store,
    queue: str,
    batch_id: str | None,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the calls of a batch into the files, and return how many calls were read.

    A batch id of None means the whole queue. Each call is read once. Memory does not grow with the calls, but for their
    ids if rows are listed. `progress` is called with the number of calls that are read. Raises OSError, StoreError, and
    InvalidInputError if a library is missing, or if there are more lines than a sheet of Excel has.
    """
    read = 0
    if files.xlsx is not None and find_spec("openpyxl") is None:
        raise InvalidInputError(
            "Excel files need openpyxl: pip install 'voiceflow-worker[files]'; --csv works without it"
        )
    with TemporaryFile() as held:
        spool = LineSpool(held, files)
        if files.rows and batch_id is not None:
            kept = UncalledList(store, queue, batch_id)
            for file in await kept.files():
                spool.add_names(file.columns)
            async with aclosing(kept.read()) as parts:
                async for rows in parts:
                    await to_thread.run_sync(spool.add_lines, rows)
        async with aclosing(find_pages(store, Listing(queue=queue, batch=batch_id, limit=PAGE))) as pages:
            async for calls in pages:
                waits = await waits_in_words(store, calls, zone=files.zone) if files.rows else _NO_WAITS
                await to_thread.run_sync(spool.add, calls, waits)
                read += len(calls)
                if progress is not None:
                    progress(read)
        if files.xlsx is not None and len(spool) > MOST_ROWS:
            lines = f"{len(spool):,} lines are more than a sheet of Excel has ({MOST_ROWS:,})"
            raise InvalidInputError(f"{lines}: give --csv")
        if files.csv is not None:
            await to_thread.run_sync(write_csv_report, files.csv, spool)
        if files.xlsx is not None:
            await to_thread.run_sync(write_xlsx_report, files.xlsx, spool)
    return read
