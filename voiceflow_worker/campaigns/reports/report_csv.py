"""The lines of a report, one for each call, and the CSV file of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.files.rows import SpooledRows, whole_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import printable
from voiceflow_worker.model.text.wording import folded, rfc3339

_NO_DATA: Mapping[str, object] = {}


class ReportLine(NamedTuple):
    """One call: every field but `data` is a string, empty if missing. Times are RFC 3339.

    `called` is the number of the person that the newest call went to. `seconds` is the duration of the call. `price`
    and `billed_seconds` are totals of all its sessions, from 8x8's log. `data` has the columns of the campaign's own
    file, or other data that was stored with the call. Control characters are escaped, because reports are also read in
    terminals.
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
    price: str
    currency: str
    billed_seconds: str
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


def report_line(job: Job, *, zone: ZoneInfo | None = None) -> ReportLine:
    """The line of a job, with its newest outcome. Times are in `zone`, by default in UTC.

    Without an outcome, `code` is that of 8x8's answer to the last POST, and `message` is the reason for the job's
    state, else the message of that answer.
    """
    outcome, post = job.outcome, job.last_post
    status = ""
    code = post.code if post is not None else None
    message = job.reason or (post.message if post is not None else None)
    if outcome is not None:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        code, message = outcome.code, outcome.message or job.reason
    cost = job.cost
    billed = [
        post.charge.billed_seconds for post in job.posts if post.charge and post.charge.billed_seconds is not None
    ]
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
        price=_text(", ".join(str(price) for price in cost.values())),
        currency=_text(", ".join(cost)),
        billed_seconds=_text(f"{sum(billed):g}" if billed else None),
        started_at=_time(outcome.started_at if outcome else None, zone),
        ended_at=_time(outcome.ended_at if outcome else None, zone),
        attempt=str(job.attempt),
        called=_text(job.number_of(post) if post is not None else None),
        source=job.source,
        unique_key=_text(job.unique_key),
        batch_id=_text(job.batch_id),
        created_at=_time(job.created_at, zone),
        valid_until=_time(job.valid_until, zone),
        session_id=_text(job.session_id),
        job_id=job.id,
        data=job.data or {},
    )


def _time(at: datetime | None, zone: ZoneInfo | None) -> str:
    if at is None or zone is None:
        return _text(rfc3339(at))
    return at.astimezone(zone).isoformat(timespec="seconds")


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))


DATA = "data."
"""The prefix of columns that come from the campaign's own file."""


class ReportColumn(NamedTuple):
    """A column: a field of every line, or, if `is_own`, a column of the campaign's own file."""

    heading: str
    name: str
    is_own: bool = False

    def of(self, line: ReportLine) -> object:
        """The value in this column: a text, or, of an own column, any value."""
        return line.data.get(self.name) if self.is_own else getattr(line, self.name)


class LineSpool(SpooledRows):
    """The lines of a report, kept in a temporary `file`.

    CSV, Excel and HTML are written from the same lines, so that they show the same calls. `select` are the columns to
    show, instead of all. Times are in `zone`, by default in UTC. Raises OSError.
    """

    def __init__(self, file: IO[bytes], *, select: Sequence[str] = (), zone: ZoneInfo | None = None) -> None:
        super().__init__(file)
        self.select = select
        self.zone = zone
        self._data_names: dict[str, None] = {}

    @property
    def columns(self) -> list[ReportColumn]:
        """The columns to show: those selected, else those of every report and those of the campaign's own file.

        Raises InvalidInputError for a selected column that no call has.
        """
        own = [ReportColumn(DATA + name, name, is_own=True) for name in self._data_names]
        every = [*map(ReportColumn, COLUMNS, COLUMNS), *own]
        return [self._selected(wanted, every) for wanted in self.select] if self.select else every

    def _selected(self, wanted: str, every: Sequence[ReportColumn]) -> ReportColumn:
        for form in (str, folded):  # the exact name first
            for each in every:
                if form(wanted) in {form(each.heading), form(each.name)}:
                    return each._replace(heading=wanted)
        if len(self):
            headings = ", ".join(each.heading for each in every)
            raise InvalidInputError(f"no call has the column {wanted!r}; the columns are: {headings}")
        return ReportColumn(wanted, wanted, is_own=True)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add a line for each of these jobs."""
        pack = [report_line(job, zone=self.zone) for job in jobs]
        for line in pack:
            self._data_names.update(dict.fromkeys(line.data))
        self.put([tuple(line) for line in pack])

    def packs(self) -> Iterator[list[ReportLine]]:
        """The lines, in the order of their calls."""
        for pack in self:
            yield [ReportLine(*line) for line in pack]


# A spreadsheet runs a cell that begins like this as a formula (OWASP, CSV injection). A number such as +6587654321 is
# harmless, and so is a number with single spaces, such as +65 8765 4321.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
# A program may take another character than the comma for the delimiter. A cell then begins in the middle of a text.
# Quotes around the text do not prevent this: for such a program, they are not at the ends of a cell.
_NEXT_CELL = re.compile(r"([;|\t\r\n])((?:[^\S\t\r\n]|\")*[=+\-@\uff1d\uff0b\uff0d\uff20][^;|\t\r\n]*)")
_NUMBER = re.compile(r"[+-]?\d+( \d+)*(\.\d+)?", re.ASCII)


def write_csv_report(path: Path, spool: LineSpool) -> Generator[int]:
    """Write a line for each call, in the order of enqueuing. A byte order mark tells Excel the encoding.

    Each step of the generator writes some calls, and yields the number of calls that are written. The file gets its
    name when it is complete. If the generator is closed earlier, a file that was there stays unchanged. Raises OSError.
    """
    columns, count = spool.columns, 0
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8-sig", newline="") as file:
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
