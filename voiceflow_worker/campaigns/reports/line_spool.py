"""The lines of a report, kept in a temporary file until all calls have been read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.files.packs import Packs
from voiceflow_worker.campaigns.reports.report_line import COLUMNS, ReportLine, report_line
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.names import folded

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


class LineSpool(Packs):
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
