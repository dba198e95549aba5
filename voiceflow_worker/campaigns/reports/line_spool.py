"""The lines of a report, kept in a temporary file until all calls have been read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

from voiceflow_worker.campaigns.files.packs import Packs
from voiceflow_worker.campaigns.reports.report_line import COLUMNS, ReportLine, report_line
from voiceflow_worker.model.jobs.job import Job

DATA = "data."
"""The prefix of columns that come from the campaign's own file."""


class LineSpool(Packs):
    """The lines of a report, kept in a temporary `file`. `data_names` are the campaign's own columns.

    CSV, Excel and HTML are written from the same lines, so that they show the same calls. Raises OSError.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._data_names: dict[str, None] = {}

    @property
    def columns(self) -> list[str]:
        """The names of all columns: those of every report, and those of the campaign's own file."""
        return [*COLUMNS, *(DATA + name for name in self._data_names)]

    @property
    def data_names(self) -> list[str]:
        """The names of the campaign's own columns, in the order in which they were first read."""
        return list(self._data_names)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add a line for each of these jobs."""
        pack = [report_line(job) for job in jobs]
        for line in pack:
            self._data_names.update(dict.fromkeys(line.data))
        self.put([tuple(line) for line in pack])

    def packs(self) -> Iterator[list[ReportLine]]:
        """The lines, in the order of their calls."""
        for pack in self:
            yield [ReportLine(*line) for line in pack]
