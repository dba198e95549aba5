"""The log export of 8x8: asked for, waited for, downloaded and read.

A POST begins it and is sent once; the GETs that follow are tried again, with tenacity: it sleeps as it is told to, on
any event loop, and keeps nothing for the whole process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import anyio
import httpx
import orjson
from anyio import to_thread
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    retry_if_result,
    wait_exponential,
    wait_random,
)

from voiceflow_worker.errors import CallLogError, CallLogUnavailableError
from voiceflow_worker.gateway.answers.answer import Answer, AnswerReader
from voiceflow_worker.gateway.answers.retry_after import read_date, read_retry_after
from voiceflow_worker.gateway.answers.verdict import describe, quote
from voiceflow_worker.gateway.export.csv_files import read_rows
from voiceflow_worker.gateway.export.wire import ExportWire
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedCalls

PATIENCE = timedelta(minutes=5)
"""How long the waits for an export may be, all together."""
TRIES = 5
"""How often one GET is sent at most."""
LONGEST_PAUSE = timedelta(minutes=1)
"""A Retry-After of more than this is not waited for."""
LONGEST_FILE = 256 * 1024 * 1024
_LONGEST_ANSWER = 1024 * 1024
_DOWNLOAD = timedelta(minutes=5)
_GOODBYE = 5.0
_COME_BACK = frozenset({408, 425, 429, 500, 502, 503, 504})

Sleep = Callable[[float], Awaitable[None]]


class ExportState(StrEnum):
    """How far an export is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    EMPTY = "empty"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ERROR = "error"


_GOES_ON = frozenset({ExportState.QUEUED, ExportState.RUNNING})


@dataclass(frozen=True, slots=True)
class _Job:
    state: ExportState
    files: tuple[str, ...] = ()


class LogExport:
    """Reads logs over one transport. `timeouts` are httpx's, in seconds; `deadline` is for one small request."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        wire: ExportWire,
        *,
        timeouts: Mapping[str, float],
        deadline: timedelta,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        self._transport = transport
        self._wire = wire
        self._extensions = {"timeout": dict(timeouts)}
        self._deadline = deadline
        self._sleep = sleep

    async def read(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """All rows of this range. Raises CallLogError, and CallLogUnavailableError where trying again may help."""
        request = self._wire.start(since=since, until=until, extensions=self._extensions)
        started = await self._ask(request, "begin an export of its log")
        job_id = _fields(started).get("jobId")
        if not isinstance(job_id, str | int) or not str(job_id):
            raise CallLogError(f"8x8 began no export of its log: its answer ({started.status}) has no jobId")
        job = await self._finished(str(job_id))
        rows: list[ExportRow] = []
        for place, url in enumerate(job.files, 1):
            rows += await self._rows(url, f"file {place} of {len(job.files)} of its log")
        return LoggedCalls(rows=rows, since=since, until=until, asked_at=read_date(started.headers))

    async def _finished(self, job_id: str) -> _Job:
        """The export once it has come to its end, asked after less and less often."""
        waiting = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_result(_goes_on),
            wait=wait_exponential(multiplier=0.25, max=10),
            stop=_waited_long_enough,
        )
        job = _Job(ExportState.QUEUED)
        try:
            async for attempt in waiting:
                with attempt:
                    job = await self._job(job_id)
                if attempt.retry_state.outcome and not attempt.retry_state.outcome.failed:
                    attempt.retry_state.set_result(job)
        except RetryError:
            await self._call_off(job_id)
            minutes = PATIENCE.total_seconds() / 60
            raise CallLogError(f"the export of 8x8's log was not ready after {minutes:g} minutes; try again") from None
        if job.state not in {ExportState.SUCCEEDED, ExportState.EMPTY}:
            raise CallLogError(f"the export of 8x8's log ended as {job.state.value}; try again")
        if job.state is ExportState.SUCCEEDED and not job.files:
            raise CallLogError("the export of 8x8's log succeeded, and names no file")
        return job

    async def _job(self, job_id: str) -> _Job:
        answer = await self._get(lambda: self._wire.state(job_id, extensions=self._extensions), "tell of its export")
        told = _fields(answer)
        try:
            state = ExportState(str(told.get("status")).strip().lower())
        except ValueError:
            raise CallLogError(
                f"the export of 8x8's log is in no state that is known: {told.get('status')!r}"
            ) from None
        data = told.get("data")
        files = [data] if isinstance(data, str) else data if is_list(data) else []
        return _Job(state, tuple(url for url in files if isinstance(url, str)))

    async def _rows(self, url: str, what: str) -> list[ExportRow]:
        if self._wire.file(url, extensions={}) is None:
            raise CallLogError("the export of 8x8's log names a file by no web address")

        def request() -> httpx.Request:
            made = self._wire.file(url, extensions=self._extensions)
            assert made is not None  # noqa: S101 - looked at above
            return made

        answer = await self._get(request, f"send {what}", deadline=_DOWNLOAD, longest=LONGEST_FILE)
        # In a thread: a long file must not hold up the calls that are being sent.
        return await to_thread.run_sync(read_rows, answer.body)

    async def _call_off(self, job_id: str) -> None:
        """Tell 8x8 that nobody waits any more; if it does not hear, nothing is lost."""
        with anyio.move_on_after(_GOODBYE):
            try:
                await self._ask(self._wire.cancel(job_id, extensions=self._extensions), "cancel its export")
            except CallLogError:
                return

    async def _get(
        self,
        make: Callable[[], httpx.Request],
        what: str,
        *,
        deadline: timedelta | None = None,
        longest: int = _LONGEST_ANSWER,
    ) -> Answer:
        trying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception_type(CallLogUnavailableError),
            wait=_pause,
            stop=_given_up,
            reraise=True,
        )
        async for attempt in trying:
            with attempt:
                return await self._ask(make(), what, deadline=deadline, longest=longest)
        raise AssertionError("tenacity raises what the last attempt did")  # pragma: no cover

    async def _ask(
        self, request: httpx.Request, what: str, *, deadline: timedelta | None = None, longest: int = _LONGEST_ANSWER
    ) -> Answer:
        """Send one request, once; what is no success is raised."""
        host = request.url.host  # never more of an address: a signed one is as good as a key
        within = (deadline or self._deadline).total_seconds()
        try:
            with anyio.fail_after(within):
                response = await self._transport.handle_async_request(request)
                reader = AnswerReader(response, longest=longest)
                await reader.read()
        except TimeoutError:
            why = f"no answer within {within:g} s"
        except Exception as error:  # noqa: BLE001 - out of reach, in whichever words the transport has for it
            why = describe(error)
            if request.url.query:
                why = why.replace(request.url.query.decode("ascii"), "…")
        else:
            answer = reader.answer(post_was_cut=False)
            if answer.is_whole:
                return self._judged(answer, host, what)
            why = f"its answer broke off, or has more than {longest // 2**20} MiB"
        raise CallLogUnavailableError(self._wire.hide(f"{host} could not be asked to {what} ({why})")) from None

    def _judged(self, answer: Answer, host: str, what: str) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        told = self._wire.hide(f"{host} answered {answer.status} when asked to {what}{_message(answer)}")
        if answer.status in _COME_BACK:
            wait = read_retry_after(answer.headers, now=datetime.now(UTC))
            raise CallLogUnavailableError(told, retry_after=wait)
        raise CallLogError(told + _REMEDIES.get(answer.status, ""))


_REMEDIES = {
    401: "; check VOICEFLOW_API_KEY",
    403: "; the key may not do this, or a link has expired",
    404: "; check VOICEFLOW_SUB_ACCOUNT, and that the account may export its log",
}


def _fields(answer: Answer) -> Mapping[str, object]:
    try:
        found: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if is_object(found) else {}


def _message(answer: Answer) -> str:
    fields = _fields(answer)
    told = fields.get("message") or fields.get("statusMessage")
    return f" ({quote(told)})" if isinstance(told, str) else ""


def _goes_on(job: object) -> bool:
    return isinstance(job, _Job) and job.state in _GOES_ON


def _waited_long_enough(state: RetryCallState) -> bool:
    return state.idle_for + state.upcoming_sleep > PATIENCE.total_seconds()


_backing_off = wait_exponential(multiplier=0.5, max=8) + wait_random(0, 0.5)


def _pause(state: RetryCallState) -> float:
    """As long as the answer asked for; else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, CallLogUnavailableError) else None
    return _backing_off(state) if asked is None else asked.total_seconds()


def _given_up(state: RetryCallState) -> bool:
    return state.attempt_number >= TRIES or state.upcoming_sleep > LONGEST_PAUSE.total_seconds()
