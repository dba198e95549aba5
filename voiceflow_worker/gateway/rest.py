"""The client for requests that place no call. It retries a GET, with tenacity; it sends a POST or DELETE once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from voiceflow_worker.errors import RequestFailedError, VoiceUnavailableError
from voiceflow_worker.gateway.answer import HttpAnswer, read_answer
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.verdict import quote, read_retry_after
from voiceflow_worker.gateway.wire import CHECK_API_KEY, CHECK_BASE_URL, CHECK_SUB_ACCOUNT, Wire

LONGEST_ANSWER = 8 * 1024 * 1024
"""The most bytes of a JSON answer. A list of all voices has about 50 KB, and a list of 10,000 numbers about 2 MB."""
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RestClient:
    """A client for requests about one sub-account over one transport. `network` explains why one of them failed.

    `timeouts` are httpx's, in seconds; `deadline` limits one request. A GET is sent at most `tries` times, and is not
    retried after a Retry-After of more than `longest_pause`. Every method raises VoiceUnavailableError when 8x8 cannot
    be reached, is out of service or asks for a later try, and RequestFailedError for any other error.
    """

    transport: httpx.AsyncBaseTransport
    wire: Wire
    _: KW_ONLY
    network: Network
    timeouts: Mapping[str, float]
    deadline: timedelta
    tries: int
    longest_pause: timedelta
    sleep: Sleep = anyio.sleep

    def url(self, *path: str) -> httpx.URL:
        """Return the URL of the resource at `path`."""
        return self.wire.url(*path)

    async def get(self, *path: str) -> Mapping[str, object]:
        """GET the JSON object at `path`, with retries."""

        async def once() -> Mapping[str, object]:
            answer = await self.send("GET", *path)
            if not (fields := answer.fields):
                raise self._failed(
                    answer, self.url().host, " with a body that is not the expected JSON", CHECK_BASE_URL
                )
            return fields

        return await self._with_retries(once)

    async def download(self, url: httpx.URL, *, deadline: timedelta, longest: int) -> HttpAnswer:
        """Download the file behind a signed link, with retries. Reads at most `longest` bytes."""

        async def once() -> HttpAnswer:
            request = self.wire.download(url, extensions={"timeout": dict(self.timeouts)})
            return await self._exchange(request, deadline=deadline, longest=longest)

        return await self._with_retries(once)

    async def send(self, method: str, *path: str, body: Mapping[str, object] | None = None) -> HttpAnswer:
        """Send a request once."""
        extensions = {"timeout": dict(self.timeouts)}
        request = self.wire.request(method, *path, body=body, extensions=extensions)
        return await self._exchange(request)

    async def _with_retries(self, once: Callable[[], Awaitable[T]]) -> T:
        def gives_up(state: RetryCallState) -> bool:
            too_long = state.upcoming_sleep > self.longest_pause.total_seconds()
            return too_long or state.attempt_number >= self.tries

        unavailable = retry_if_exception_type(VoiceUnavailableError)
        trying = AsyncRetrying(sleep=self.sleep, retry=unavailable, wait=_pause, stop=gives_up, reraise=True)
        return await trying(once)

    async def _exchange(
        self,
        request: httpx.Request,
        *,
        deadline: timedelta | None = None,
        longest: int = LONGEST_ANSWER,
    ) -> HttpAnswer:
        host = request.url.host  # messages have only the host: a signed link gives access without a key
        answer = await self._answer(request, within=deadline or self.deadline, longest=longest)
        if 200 <= answer.status < 300:
            return answer
        fields = answer.fields
        text = fields.get("statusMessage") or fields.get("message")
        message = quote(text) if isinstance(text, str) else ""
        said = f" ({message})" if message else ""
        if answer.status not in _RETRIED:
            raise self._failed(answer, host, said, self._remedy(request, answer))
        wait = read_retry_after(answer.raw_headers, now=datetime.now(UTC))
        again = f"; it asks for a wait of {wait.total_seconds():g} s" if wait else ""
        raise VoiceUnavailableError(
            self.wire.hide(f"{host} answered {answer.status}{said}{again}"),
            status=answer.status,
            remedy="try again later",
            retry_after=wait,
        )

    async def _answer(self, request: httpx.Request, *, within: timedelta, longest: int) -> HttpAnswer:
        try:
            with anyio.fail_after(within.total_seconds()):
                response = await self.transport.handle_async_request(request)
                answer = await read_answer(response, longest=longest)
        except Exception as error:  # noqa: BLE001 - each transport has errors of its own for this
            no_answer = isinstance(error, TimeoutError) and not str(error)
            failure = TimeoutError(f"no answer within {within.total_seconds():g} s") if no_answer else error
            why = self.network.why(failure, request.url)
            advice = self.network.advice(failure, request.url)
            if request.url.query:
                why = why.replace(request.url.query.decode("ascii"), "…")
        else:
            if answer.is_whole:
                return answer
            why, advice = f"the answer broke off, or has more than {longest // 2**20} MiB", ""
        proxy = self.network.proxy_to(request.url)
        checked = "the network and DNS of this machine" if proxy is None else f"the proxy {proxy}"
        raise VoiceUnavailableError(
            self.wire.hide(f"{request.url.host} cannot be reached ({why})"),
            remedy="; ".join(filter(None, (f"check {checked}", advice, CHECK_BASE_URL))),
        ) from None

    def _failed(self, answer: HttpAnswer, host: str, said: str, remedy: str) -> RequestFailedError:
        message = self.wire.hide(f"{host} answered {answer.status}{said}")
        if answer.status == 401 and remedy:
            message = f"8x8 does not accept the API key: {message}"
        return RequestFailedError(message, status=answer.status, remedy=remedy)

    def _remedy(self, request: httpx.Request, answer: HttpAnswer) -> str:
        if "authorization" not in request.headers:
            return "the link may have expired: try again"
        match answer.status:
            case 401:
                return CHECK_API_KEY
            case 403:
                return (
                    "check that the API key belongs to the sub-account and has the permission for this request, and "
                    "that the sub-account allows this machine's address"
                )
            case 404:
                return (
                    f"8x8 does not know the sub-account {self.wire.sub_account} at this address: "
                    f"{CHECK_SUB_ACCOUNT}, and {CHECK_BASE_URL}"
                )
            case status if 300 <= status < 400:
                there = self.wire.hide(quote(answer.headers.get("location", "")))
                return f"the API has moved{f' to {there}' if there else ''}: {CHECK_BASE_URL}"
            case _:
                return ""


_backing_off = wait_exponential(multiplier=0.5, max=8) + wait_random(0, 0.3)


def _pause(state: RetryCallState) -> float:
    """Return the pause before a retry, in seconds: as long as the answer asks for, otherwise growing with each try."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, VoiceUnavailableError) else None
    return _backing_off(state) if asked is None else asked.total_seconds()
