"""The rest of the 8x8 API: what belongs to the sub-account, and where its events are sent. Nothing here calls anybody.

GETs are tried again, with tenacity: it sleeps as it is told to, on any event loop. A POST or DELETE is sent once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import anyio
import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from voiceflow_worker.errors import InvalidInputError, RequestFailedError, VoiceUnavailableError
from voiceflow_worker.gateway.account.resources import (
    Fields,
    OwnedNumber,
    RecordingPush,
    SessionRecording,
    SpeechProfile,
    Webhook,
    WebhookType,
    read_number_answer,
    read_numbers,
    read_profiles,
    read_recording_push,
    read_recordings,
    read_webhooks,
    webhook_type,
)
from voiceflow_worker.gateway.account.wire import AccountWire
from voiceflow_worker.gateway.answers.answer import Answer, AnswerReader
from voiceflow_worker.gateway.answers.retry_after import read_retry_after
from voiceflow_worker.gateway.answers.verdict import describe, quote
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers.phone import normalise

TRIES = 3
"""How often one GET is sent at most."""
LONGEST_PAUSE = timedelta(seconds=10)
"""A Retry-After of more than this is not waited for."""
LONGEST_ANSWER = 8 * 1024 * 1024
"""A list of all voices has some 50 KB; an account with ten thousand numbers gets by with 2 MB."""

Sleep = Callable[[float], Awaitable[None]]

_COME_BACK = frozenset({408, 425, 429, 500, 502, 503, 504})
_PUSH = "recording-push-config"
PROTOCOLS = ("S3", "SFTP")
_MOST_PORT = 65535
_WRONG_ADDRESS = "check VOICEFLOW_BASE_URL"


@dataclass(frozen=True, slots=True)
class _Said:
    """The JSON object of an answer, empty if there was none."""

    status: int
    fields: Fields


class AccountApi:
    """Asks about one sub-account over one transport. `timeouts` are httpx's, in seconds; `deadline` is for one request.

    Every method raises VoiceUnavailableError when 8x8 cannot be reached or asks to come back later, and
    RequestFailedError when it says no.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        wire: AccountWire,
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

    async def speech_profiles(self) -> tuple[SpeechProfile, ...]:
        """The voices that call flows of the sub-account may name."""
        return read_profiles((await self._get("speech-profiles")).fields)

    async def numbers(self) -> tuple[OwnedNumber, ...]:
        """The numbers that belong to the account."""
        return read_numbers((await self._get("numbers")).fields)

    async def number(self, msisdn: str) -> OwnedNumber | None:
        """A number with its country and reference; None if it is not the account's. `numbers` tells status and health.

        Raises PhoneNumberError for what is no number.
        """
        said = await self._get("numbers", normalise(msisdn).removeprefix("+"), absent=True)
        return None if said.status == 404 else read_number_answer(said.fields)

    async def webhooks(self) -> tuple[Webhook, ...]:
        """Where events are sent."""
        return read_webhooks((await self._get("webhooks")).fields)

    async def register_webhook(self, kind: WebhookType | str, url: str, *, auth_header: str | None = None) -> None:
        """Have events of a type sent to `url`, with `auth_header` as their Authorization value.

        Raises InvalidInputError for a type or an address that cannot be one.
        """
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InvalidInputError(f"{url!r} is no address for webhooks: give one with http:// or https://")
        body: dict[str, object] = {"type": webhook_type(kind).value, "url": url, "enabled": True}
        if auth_header is not None:
            body["httpAuthHeader"] = auth_header
        await self._ask("POST", "webhooks", body=body)

    async def delete_webhook(self, kind: WebhookType | str) -> bool:
        """Have events of a type sent nowhere; False if they were not sent anywhere before."""
        return (await self._ask("DELETE", "webhooks", webhook_type(kind).value, absent=True)).status != 404

    async def recordings(self, session_id: str) -> tuple[SessionRecording, ...]:
        """The recordings of a session; none if it was not recorded, or is not known."""
        if not session_id.strip(". "):
            raise InvalidInputError(f"{session_id!r} is no session id")
        return read_recordings((await self._get("recordings", session_id, absent=True)).fields)

    async def recording_push_config(self) -> RecordingPush | None:
        """The server that recordings are uploaded to; None if there is none."""
        said = await self._get(_PUSH, absent=True)
        return None if said.status == 404 else read_recording_push(said.fields)

    async def set_recording_push_config(
        self, push: RecordingPush, *, password: str | None = None
    ) -> RecordingPush | None:
        """Have recordings uploaded to a server. Gives what 8x8 says of it; the password is never among it.

        Raises InvalidInputError for a protocol, a host or a port that cannot be one.
        """
        protocol, host, port = (push.protocol or "").upper(), push.host or "", push.port
        if protocol not in PROTOCOLS:
            raise InvalidInputError(
                f"{push.protocol!r} is no protocol for recordings; there are {', '.join(PROTOCOLS)}"
            )
        if not host.strip() or any(map(str.isspace, host)) or "://" in host:
            raise InvalidInputError(
                f"{host!r} is no host for recordings: give its name alone, such as sftp.example.com"
            )
        if port is not None and not 0 < port <= _MOST_PORT:
            raise InvalidInputError(f"{port} is no port: give one between 1 and {_MOST_PORT}")
        given = {"port": port, "username": push.username, "password": password, "path": push.path}
        body = {"protocol": protocol, "host": host, **{name: each for name, each in given.items() if each is not None}}
        said = await self._ask("POST", _PUSH, body=body, secret=password)
        return read_recording_push(said.fields)

    async def delete_recording_push_config(self) -> bool:
        """Have recordings uploaded nowhere; False if they were not uploaded anywhere before."""
        return (await self._ask("DELETE", _PUSH, absent=True)).status != 404

    async def _get(self, *path: str, absent: bool = False) -> _Said:
        trying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception_type(VoiceUnavailableError),
            wait=_pause,
            stop=_given_up,
            reraise=True,
        )
        async for attempt in trying:
            with attempt:
                return await self._ask("GET", *path, absent=absent)
        raise AssertionError("tenacity raises what the last attempt did")  # pragma: no cover

    async def _ask(
        self,
        method: str,
        *path: str,
        body: Mapping[str, object] | None = None,
        absent: bool = False,
        secret: str | None = None,
    ) -> _Said:
        """Send one request, once. With `absent`, a 404 that is about the thing asked for is an answer too.

        A `secret` of the body is in no error, should somebody have sent it back.
        """
        request = self._wire.request(method, *path, body=body, extensions=self._extensions)
        answer = await self._exchange(request)
        said = _Said(answer.status, _fields(answer))
        if 200 <= answer.status < 300:
            if method == "GET" and not said.fields:
                raise self._failed(answer, "with what is no answer of its API", remedy=_WRONG_ADDRESS)
            return said
        told = _message(said)
        if secret:
            told = told.replace(secret, "[password]")
        if absent and answer.status == 404 and said.fields and "subaccount" not in _letters(told):
            return said
        if answer.status in _COME_BACK:
            wait = read_retry_after(answer.headers, now=datetime.now(UTC))
            again = f"; it asks to wait {wait.total_seconds():g} s" if wait else ""
            raise VoiceUnavailableError(
                self._wire.hide(f"{self._wire.host} answered {answer.status}{_quoted(told)}{again}"),
                status=answer.status,
                remedy="try again later",
                retry_after=wait,
            )
        raise self._failed(answer, _quoted(told), remedy=self._remedy(answer))

    async def _exchange(self, request: httpx.Request) -> Answer:
        try:
            with anyio.fail_after(self._deadline.total_seconds()):
                response = await self._transport.handle_async_request(request)
                reader = AnswerReader(response, longest=LONGEST_ANSWER)
                await reader.read()
        except TimeoutError:
            why = f"no answer within {self._deadline.total_seconds():g} s"
        except Exception as error:  # noqa: BLE001 - out of reach, in whichever words the transport has for it
            why = describe(error)
        else:
            answer = reader.answer(post_was_cut=False)
            if answer.is_whole:
                return answer
            why = "its answer broke off"
        raise VoiceUnavailableError(
            self._wire.hide(f"{self._wire.host} cannot be reached ({why})"),
            remedy=f"check the network and DNS of this machine; {_WRONG_ADDRESS}",
        ) from None

    def _failed(self, answer: Answer, told: str, *, remedy: str) -> RequestFailedError:
        message = self._wire.hide(f"{self._wire.host} answered {answer.status} {told}".rstrip())
        return RequestFailedError(message, status=answer.status, remedy=remedy)

    def _remedy(self, answer: Answer) -> str:
        match answer.status:
            case 401:
                return "8x8 does not accept the API key: check VOICEFLOW_API_KEY"
            case 403:
                return (
                    "check that the API key belongs to the sub-account and may do this, and that the sub-account "
                    "allows this machine's address"
                )
            case 404:
                return (
                    f"8x8 does not know the sub-account {self._wire.sub_account} at this address: check "
                    "VOICEFLOW_SUB_ACCOUNT and VOICEFLOW_BASE_URL"
                )
            case status if 300 <= status < 400:
                there = self._wire.hide(quote(answer.headers.get("location", "")))
                return f"the API has moved{f' to {there}' if there else ''}: {_WRONG_ADDRESS}"
            case _:
                return ""


def _fields(answer: Answer) -> Fields:
    try:
        found: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if is_object(found) else {}


def _message(said: _Said) -> str:
    told = said.fields.get("statusMessage") or said.fields.get("message")
    return quote(told) if isinstance(told, str) else ""


def _quoted(told: str) -> str:
    return f"({told})" if told else ""


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).casefold()


_backing_off = wait_exponential(multiplier=0.5, max=3) + wait_random(0, 0.3)


def _pause(state: RetryCallState) -> float:
    """As long as the answer asked for; else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, VoiceUnavailableError) else None
    return _backing_off(state) if asked is None else asked.total_seconds()


def _given_up(state: RetryCallState) -> bool:
    return state.attempt_number >= TRIES or state.upcoming_sleep > LONGEST_PAUSE.total_seconds()
