"""The log export of 8x8: requested with a POST, awaited, downloaded and read (8x8 voice log export reference)."""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import anyio
import httpx
from anyio import to_thread

from voiceflow_worker.errors import CallLogError, CallLogUnavailableError, RequestFailedError, VoiceUnavailableError
from voiceflow_worker.gateway.rest import RestClient, Sleep
from voiceflow_worker.gateway.verdict import quote
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedCalls
from voiceflow_worker.model.reports.events import Payload, fold_name, read_fields

_NEEDED = ("SessionId", "SourceEndpoint", "DestinationEndpoint", "InitiatedAt")


def read_rows(content: bytes) -> list[ExportRow]:
    """Return the rows of one file. Raises CallLogError if the file is not a log export."""
    text = content.decode("utf-8-sig", errors="replace")
    first = text.partition("\n")[0]
    lines = _lines(text, delimiter=max(",;\t", key=first.count))
    names = next(lines, None) or []
    known = set(map(fold_name, names))
    missing = [name for name in _NEEDED if fold_name(name) not in known]
    if missing:
        raise CallLogError(f"a file of the log export cannot be read: columns are missing ({', '.join(missing)})")
    return [_row(names, cells) for cells in lines if cells != []]


def _row(names: Sequence[str], cells: Sequence[str] | None) -> ExportRow:
    """Return the row with these cells; one that may be of any call if they are not those of the columns."""
    if cells is None or len(cells) != len(names):
        return ExportRow()
    return ExportRow(**read_fields(ExportRow, Payload(dict(zip(names, cells, strict=True)))))


def _lines(text: str, *, delimiter: str) -> Iterator[list[str] | None]:
    """Return the cells of each line; None for a line that cannot be read."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


TIMEOUT = timedelta(minutes=5)
"""The longest time to wait until 8x8 has finished one export."""
TRIES = 5
"""The most times that a GET is sent."""
LONGEST_PAUSE = timedelta(minutes=1)
"""The longest Retry-After that is waited for. After a longer one, a GET is not retried."""
FIRST_LOOK, LONGEST_LOOK = 0.25, 10.0
"""The first and the longest pause, in seconds, between two checks of the state of an export."""
LONGEST_FILE = 256 * 1024 * 1024
_EXPORTS = ("messages", "exports")
_DOWNLOAD = timedelta(minutes=5)


class _Job(NamedTuple):
    """The state of an export: queued, running, succeeded, empty, failed, cancelled or error; and its files."""

    state: str
    files: tuple[str, ...]


class LogExport:
    """Exports of the call log. `rest` is a client for the address of the export; `sleep` makes the pauses."""

    def __init__(self, rest: RestClient, *, sleep: Sleep = anyio.sleep) -> None:
        self._rest = rest
        self._sleep = sleep

    async def read(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """All rows of this range. Raises CallLogError, or CallLogUnavailableError if it may help to try again."""
        asked = {"from": _whole_second(since), "to": _whole_second(until, up=True), "limit": 0}
        with _log_errors("begin an export of 8x8's log"):
            started = await self._rest.send("POST", *_EXPORTS, body=asked)
        job_id = started.fields.get("jobId")
        if not isinstance(job_id, str | int) or not str(job_id):
            raise CallLogError(
                f"8x8 did not begin an export of its log: the answer ({started.status}) has no jobId; try again"
            )
        job = await self._finished(str(job_id))
        rows: list[ExportRow] = []
        for place, url in enumerate(job.files, 1):
            rows += await self._rows(url, what=f"download file {place} of {len(job.files)} of 8x8's log")
        return LoggedCalls(rows=rows, since=since, until=until)

    async def _finished(self, job_id: str) -> _Job:
        """Wait until 8x8 has finished the export, and return it. The pauses between checks grow to ten seconds."""
        waited, pause = 0.0, FIRST_LOOK
        while (job := await self._job(job_id)).state in {"queued", "running"}:
            if waited + pause > TIMEOUT.total_seconds():
                minutes = TIMEOUT.total_seconds() / 60
                raise CallLogError(f"the export of 8x8's log was not ready after {minutes:g} minutes; try again")
            await self._sleep(pause)
            waited, pause = waited + pause, min(2 * pause, LONGEST_LOOK)
        if job.state not in {"succeeded", "empty"}:
            raise CallLogError(f"the export of 8x8's log ended with the state {job.state}; try again")
        if job.state == "succeeded" and not job.files:
            raise CallLogError("the export of 8x8's log succeeded, but its answer names no file; try again")
        return job

    async def _job(self, job_id: str) -> _Job:
        with _log_errors("ask for the state of an export of 8x8's log"):
            fields = await self._rest.get(*_EXPORTS, job_id)
        data = fields.get("data")
        files = [data] if isinstance(data, str) else data if is_list(data) else []
        state = quote(str(fields.get("status"))).lower()
        return _Job(state, tuple(url for url in files if isinstance(url, str)))

    async def _rows(self, url: str, *, what: str) -> list[ExportRow]:
        try:
            link = self._rest.url(*_EXPORTS).join(url)
        except (httpx.InvalidURL, UnicodeError):
            link = httpx.URL()
        if link.scheme not in {"http", "https"} or not link.host:
            raise CallLogError(
                "the export of 8x8's log names a file whose address is not an http or https address; try again"
            )
        with _log_errors(what):
            answer = await self._rest.download(link, deadline=_DOWNLOAD, longest=LONGEST_FILE)
        # In a thread, so that a long file does not delay the calls that are being sent.
        return await to_thread.run_sync(read_rows, answer.body)


@contextmanager
def _log_errors(what: str) -> Generator[None]:
    """Give a context that turns errors of requests into errors of the call log.

    `what` completes the message "cannot …".
    """
    try:
        yield
    except VoiceUnavailableError as error:
        raise CallLogUnavailableError(f"cannot {what}: {error}", retry_after=error.retry_after) from None
    except RequestFailedError as error:
        raise CallLogError(f"cannot {what}: {error}") from None


def _whole_second(at: datetime, *, up: bool = False) -> str:
    at = at.astimezone(UTC)
    if up and at.microsecond:
        at += timedelta(seconds=1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
