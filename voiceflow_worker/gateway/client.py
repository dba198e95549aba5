"""The client of the 8x8 Voice API: it places calls, and reads the account and the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from uuid import uuid4

import anyio
import httpx
import structlog

from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import (
    CallInDoubtError,
    CallNotSentError,
    CallRefusedError,
    SettingsError,
    VoiceflowError,
)
from voiceflow_worker.gateway import account as api
from voiceflow_worker.gateway import wire
from voiceflow_worker.gateway.answer import read_answer
from voiceflow_worker.gateway.connections import ConnectionPosts
from voiceflow_worker.gateway.first_byte import FirstByte
from voiceflow_worker.gateway.network import Network, Timeouts
from voiceflow_worker.gateway.transports import AnswerProof, HttpxPosts, check_transport, open_transports
from voiceflow_worker.gateway.verdict import (
    read_date,
    verdict_on_answer,
    verdict_on_failure,
    verdict_on_lateness,
)
from voiceflow_worker.gateway.wire import Wire
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.call_log import LoggedCalls
from voiceflow_worker.model.reports.verdict import (
    BeforeFirstByte,
    Departure,
    NotSentError,
    Verdict,
    VerdictKind,
)
from voiceflow_worker.model.text.arguments import checked_duration
from voiceflow_worker.model.text.web_address import is_this_machine

if TYPE_CHECKING:
    from voiceflow_worker.gateway.rest import RestClient
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.client")


class RateLimit(Protocol):
    """A limit on the POSTs of this process, such as `pacing.ProcessRate`."""

    async def acquire(self) -> None:
        """Wait until one more POST may be sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCall:
    """A call that 8x8 accepted: its session id, and the ids that its summary will contain."""

    session_id: str
    client_request_id: str
    client_batch_id: str | None = None
    valid_until: datetime | None = None


class VoiceClient(api.AccountApi):
    """The client of one sub-account for the 8x8 Voice API; an async context manager.

    A POST is sent once, without redirects or retries. Its deadline is `read_timeout` plus twice `connect_timeout` (once
    to connect, once to write). `limiter` paces the POSTs of this process; `concurrency` is the most POSTs in flight.
    With `retry_not_created_5xx`, two further answers count as proof that nobody was called, and the call can be tried
    again: a NOT_CREATED with a 5xx, and a 503 with a Retry-After.

    Without a `transport`, the client keeps connections of its own on asyncio, and uses httpx's pool on trio. They go
    through the `proxy` (`http://user:password@host:port`; it must know CONNECT), except to this machine and to the
    hosts in `no_proxy`. None of these and no `ssl_context` can be given together with a `transport`. Nothing is read
    from the environment. A given `transport` must speak HTTP/1.1, and is closed with the client. If it is not
    `httpx.AsyncHTTPTransport` itself, each of its errors leaves the call in doubt.

    The API key does not appear in any repr, log or error. Over http:// it is sent only to this machine (a sandbox),
    unless `allow_plain_http` is set. Raises SettingsError for invalid settings, and InvalidInputError for a timeout
    that is not a timedelta.
    """

    def __init__(
        self,
        api_key: str,
        sub_account: str,
        *,
        base_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: SSLContext | None = None,
        proxy: str | None = None,
        no_proxy: str | Sequence[str] = (),
        connect_timeout: timedelta = timedelta(seconds=5),
        read_timeout: timedelta = timedelta(seconds=30),
        limiter: RateLimit | None = None,
        retry_not_created_5xx: bool = False,
        concurrency: int = 100,
        allow_plain_http: bool = False,
    ) -> None:
        if transport is not None and (proxy is not None or no_proxy or ssl_context is not None):
            raise SettingsError(
                "proxy, no_proxy and ssl_context cannot be given together with transport: set them in the transport"
            )
        if min(connect_timeout, read_timeout) <= timedelta(0) or concurrency < 1:
            raise SettingsError("connect_timeout, read_timeout and concurrency must be greater than 0")
        to = partial(Wire, api_key, sub_account, allow_plain_http=allow_plain_http)
        self._wire = to(base_url=base_url or wire.BASE_URL)
        self._export_wire = to(base_url=base_url or wire.EXPORT_URL)
        timeouts = Timeouts(connect_timeout.total_seconds(), read_timeout.total_seconds())
        self._timeouts = timeouts
        self._network = Network(proxy=proxy, no_proxy=no_proxy, ssl_context=ssl_context)
        self._concurrency = concurrency
        self._given = transport
        if transport is not None:
            check_transport(transport)
        self._limiter = limiter
        self._retries_5xx = retry_not_created_5xx
        self._open: tuple[ConnectionPosts | HttpxPosts, httpx.AsyncBaseTransport] | None = None
        self._proof = AnswerProof()

    @classmethod
    def from_env(cls, *, transport: httpx.AsyncBaseTransport | None = None, limiter: RateLimit | None = None) -> Self:
        """Return a client with the settings from the environment and `.env` (VOICEFLOW_API_KEY, …).

        Raises SettingsError, which names every missing setting.
        """
        from voiceflow_worker.settings import load_settings

        return cls.from_settings(load_settings(), transport=transport, limiter=limiter)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        limiter: RateLimit | None = None,
        timeout: timedelta | None = None,
    ) -> Self:
        """Return a client with these settings. `timeout` is an upper bound for both timeouts in the settings.

        Raises SettingsError, which names every missing setting, and InvalidInputError for a wrong `timeout`.
        """
        if timeout is not None:
            checked_duration("timeout", timeout, positive=True)
        missing = settings.missing_for_calls()
        if missing or settings.api_key is None or settings.sub_account is None:
            raise SettingsError("; ".join(missing))
        client = cls(
            settings.api_key.get_secret_value(),
            settings.sub_account,
            base_url=settings.base_url,
            transport=transport,
            connect_timeout=min(settings.connect_timeout, timeout or settings.connect_timeout),
            read_timeout=min(settings.read_timeout, timeout or settings.read_timeout),
            limiter=limiter,
            retry_not_created_5xx=settings.retry_not_created_5xx,
            concurrency=settings.concurrency,
            allow_plain_http=settings.allow_plain_http,
        )
        if transport is None:
            client._network = Network.of(settings)
        return client

    def __repr__(self) -> str:
        return f"<VoiceClient {self._wire.sub_account} at {self._wire.host}>"

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("this VoiceClient is open already; make a new client for each `async with`")
        posts, others = open_transports(
            self._network, self._wire.calls, headers=self._wire.post_headers, timeouts=self._timeouts,
            limit=self._concurrency, given=self._given,
        )  # fmt: skip
        await others.__aenter__()
        self._open = posts, others
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened[0].aclose()
            await opened[1].__aexit__(kind, error, trace)

    @property
    def is_open(self) -> bool:
        """True if the client is within its `async with` block."""
        return self._open is not None

    @property
    def account(self) -> str:
        """Sub-account and its host, such as `demo at voice.8x8.com`. All loopback addresses are one host."""
        host = "this machine" if is_this_machine(str(self._wire.calls)) else self._wire.host
        return f"{self._wire.sub_account} at {host}"

    @property
    def connects_each_time(self) -> bool:
        """True if the open client keeps no connection from one call to the next: over httpx."""
        return self._open is not None and isinstance(self._open[0], HttpxPosts)

    @property
    def has_unproven_hold(self) -> bool:
        """True if an answer has come that holds the queue, and may be the answer to another request."""
        return self._proof.unproven_holds > 0

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        """POST one call, once, and return its verdict.

        `before_first_byte` is awaited once, when there is a connection. What it raises is raised, and then no byte was
        sent. All other failures, of the network or the service, are verdicts. If this is cancelled, nothing was sent
        unless `before_first_byte` had returned. Raises RuntimeError if the client is not open.
        """
        return await self._post(wire.body_of(placement), before_first_byte, valid_until=placement.valid_until)

    async def send(
        self,
        flow: CallFlow,
        *,
        client_request_id: str | None = None,
        client_batch_id: str | None = None,
        valid_until: datetime | None = None,
    ) -> PlacedCall:
        """Place one call without a queue. Omitted values are taken from the flow; a request id is generated if needed.

        Raises CallFlowError if the flow breaks a rule or its validity has ended, CallRefusedError if 8x8 refuses the
        call, and CallNotSentError if nobody was called and the call may be tried again. Raises CallInDoubtError if the
        call may have been placed: do not send it again, and look for a summary with its `client_request_id`.

        A time limit around this ends it with TimeoutError, and the phone may ring all the same. Give your own
        `client_request_id` then, by which the call can be looked up; the log names it, too.
        """
        request_id = client_request_id or flow.client_request_id or uuid4().hex
        now = datetime.now(UTC)
        named = flow.replace(client_request_id=request_id, client_batch_id=client_batch_id, valid_until=valid_until)
        # Parsed again as a request for a call: a CallFlow may also be an answer to an event.
        ready = CallFlow.parse(named.to_body()).validated(now=now)
        until = ready.valid_until
        if until is not None and until <= now:
            verdict = verdict_on_lateness(valid_until=until, now=now)
        else:
            verdict = await self._sent(ready, request_id)
        match verdict:
            case Verdict(kind=VerdictKind.CREATED, session_id=str(session_id)):
                return PlacedCall(
                    session_id=session_id,
                    client_request_id=request_id,
                    client_batch_id=ready.client_batch_id,
                    valid_until=until,
                )
            case Verdict(kind=VerdictKind.REFUSED):
                raise CallRefusedError(verdict.message, code=verdict.code)
            case Verdict(kind=VerdictKind.NOT_SENT | VerdictKind.TURNED_AWAY):
                remedy = f" ({verdict.hold.reason})" if verdict.hold else ""
                raise CallNotSentError(f"{verdict.message}{remedy}")
            case _:
                raise CallInDoubtError(
                    f"{verdict.message}. Do not send it again. If it was placed, its summary names the client request "
                    f"id {request_id}",
                    client_request_id=request_id,
                )

    async def _sent(self, flow: CallFlow, request_id: str) -> Verdict:
        """POST a call; if the wait for its answer is cancelled, log the request id by which it can be looked up."""
        has_begun = False

        async def begin() -> Departure:
            nonlocal has_begun
            has_begun = True
            return Departure(datetime.now(UTC), math.inf)

        try:
            return await self._post(flow.to_json(), begin, valid_until=flow.valid_until)
        except anyio.get_cancelled_exc_class():
            if has_begun:
                _log.warning(
                    f"nobody waits for the answer of 8x8: the call with the client request id {request_id} may "
                    "have been placed. Do not send it again; look for its summary"
                )
            raise

    async def server_time(self) -> datetime | None:
        """Return the time by the clock of 8x8, from the Date of an answer to a new request; None without one."""
        _, others = self._opened()
        request = self._wire.request("GET", "webhooks", extensions={"timeout": self._timeouts.of_httpx})
        with anyio.move_on_after(self._timeouts.deadline):
            try:
                response = await others.handle_async_request(request)
            except Exception:  # noqa: BLE001 - each transport has errors of its own for this
                return None
            await read_answer(response)
            return read_date(response.headers.raw)
        return None

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """All rows of 8x8's call log for this range of time. An export of the log takes seconds to minutes.

        The export is requested from the client's `base_url` if one was given, else from https://voice.wavecell.com.
        Raises CallLogError, or CallLogUnavailableError if it may help to try again.
        """
        from voiceflow_worker.gateway import log_export as log

        rest = self._rest(self._export_wire, tries=log.TRIES, longest_pause=log.LONGEST_PAUSE)
        return await log.LogExport(rest).read(since=since, until=until)

    def _account(self) -> RestClient:
        return self._rest(self._wire, tries=api.TRIES, longest_pause=api.LONGEST_PAUSE)

    def _rest(self, rest_wire: Wire, *, tries: int, longest_pause: timedelta) -> RestClient:
        from voiceflow_worker.gateway.rest import RestClient

        return RestClient(
            self._opened()[1],
            rest_wire,
            network=self._network,
            timeouts=self._timeouts.of_httpx,
            deadline=timedelta(seconds=self._timeouts.deadline),
            tries=tries,
            longest_pause=longest_pause,
        )

    def _opened(self) -> tuple[ConnectionPosts | HttpxPosts, httpx.AsyncBaseTransport]:
        if self._open is None:
            raise RuntimeError("this VoiceClient is not open; use it inside `async with`")
        return self._open

    async def _post(self, body: bytes, before: BeforeFirstByte, *, valid_until: datetime | None) -> Verdict:
        self._opened()
        if self._limiter is not None:
            await self._limiter.acquire()
        first, posts = FirstByte(before, valid_until=valid_until), self._opened()[0]
        try:
            exchange = await posts.post(body, first)
        except Exception as error:  # noqa: BLE001 - every error of a transport gets a verdict
            if first.error is not None:
                raise first.error from None
            return self._without_key(self._verdict_on(error, may_have_left=first.may_have_left))
        keep = False
        try:
            verdict = verdict_on_answer(exchange.answer, now=first.time_now(), retry_not_created_5xx=self._retries_5xx)
            verdict, keep = await self._proof.verify(verdict, exchange)
        finally:
            exchange.release(keep=keep)
        return self._without_key(verdict)

    def _verdict_on(self, error: Exception, *, may_have_left: bool) -> Verdict:
        """Return the verdict on a POST that got no answer."""
        if isinstance(error, NotSentError):
            return error.verdict
        url = self._wire.calls
        return verdict_on_failure(
            error,
            nothing_sent=not may_have_left,
            host=self._wire.host,
            why=self._network.why(error, url),
            advice=self._network.advice(error, url),
        )

    def _without_key(self, verdict: Verdict) -> Verdict:
        """Return the verdict without the API key, which a server or a proxy may have sent back."""
        hide, hold = self._wire.hide, verdict.hold
        message, reason = hide(verdict.message), "" if hold is None else hide(hold.reason)
        if message == verdict.message and (hold is None or reason == hold.reason):
            return verdict
        return replace(verdict, message=message, hold=None if hold is None else replace(hold, reason=reason))


TIMEOUT = timedelta(seconds=3)
"""The longest wait for an answer of 8x8, because a person is waiting."""


async def time_at_8x8(settings: Settings) -> datetime | None:
    """Return the present time by the clock of 8x8; None if there is no API key, or no answer within `TIMEOUT`."""
    if settings.missing_for_calls():
        return None

    async with VoiceClient.from_settings(settings, timeout=TIMEOUT) as voice:
        return await voice.server_time()


async def voices_of(settings: Settings) -> frozenset[str] | None:
    """Return the voices of the account with these settings; None if 8x8 does not tell within `TIMEOUT`."""
    with anyio.move_on_after(TIMEOUT.total_seconds()), suppress(VoiceflowError):
        async with VoiceClient.from_settings(settings, timeout=TIMEOUT) as voice:
            return frozenset(profile.code for profile in await voice.speech_profiles())
    return None
