"""The rest of the API: asked again where that is harmless, never told twice where it is not, clear when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Kind, trio_too
from tests.gateway.misbehaving import Connection, MisbehavingServer, answer, answers, closed_port
from voiceflow_worker.errors import (
    InvalidInputError,
    PhoneNumberError,
    RequestFailedError,
    VoiceUnavailableError,
)
from voiceflow_worker.gateway.account import LONGEST_PAUSE, TRIES, AccountApi
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.rest import RestClient
from voiceflow_worker.gateway.wire import Wire

pytestmark = pytest.mark.anyio

KEY = "secret-key-1"
WEBHOOKS = b'{"subAccountId":"acme","count":0,"webhooks":[],"statusCode":0,"statusMessage":"ok"}'
REFUSED = b'{"statusCode":404,"statusMessage":"SubAccount not found by Id : acme"}'


class Api(AccountApi):
    """The account API through this client."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def _account(self) -> RestClient:
        return self._rest


class Service:
    """Answers one request after the other with what it is given, the last for ever, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @property
    def api(self) -> AccountApi:
        wire = Wire(KEY, "a&cme", base_url="http://127.0.0.1:1/")
        return Api(
            RestClient(
                httpx.MockTransport(self),
                wire,
                network=Network(),
                timeouts={},
                deadline=timedelta(seconds=20),
                tries=TRIES,
                longest_pause=LONGEST_PAUSE,
                sleep=self.sleep,
            )
        )


def said(status: int, content: bytes = WEBHOOKS, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=content, headers={name.replace("_", "-"): headers[name] for name in headers})


Ask = Callable[[AccountApi], Awaitable[object]]
GETS: list[Ask] = [
    lambda api: api.speech_profiles(),
    lambda api: api.numbers(),
    lambda api: api.number("+6531234567"),
    lambda api: api.webhooks(),
    lambda api: api.recordings("s-1"),
]
WRITES: list[Ask] = [
    lambda api: api.register_webhook("VSS", "https://calls.example.com/"),
    lambda api: api.delete_webhook("VSS"),
]


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_what_cannot_be_meant_is_not_asked() -> None:
    service = Service(said(200))
    for wrong in (
        service.api.register_webhook("SMS", "https://calls.example.com/"),
        service.api.register_webhook("VSS", "calls.example.com"),
        service.api.delete_webhook("SMS"),
        service.api.recordings(".."),
        service.api.recordings(" "),
    ):
        with pytest.raises(InvalidInputError):
            await wrong
    with pytest.raises(PhoneNumberError):
        await service.api.number("me")
    assert service.asked == []


async def test_a_session_id_stays_within_its_segment() -> None:
    service = Service(said(200))
    await service.api.recordings("../../webhooks?x=1")
    assert service.asked[0].url.raw_path.endswith(b"/recordings/..%2F..%2Fwebhooks%3Fx%3D1")


# -- what is absent ----------------------------------------------------------------------------------------------------


async def test_a_404_about_the_thing_itself_is_an_answer() -> None:
    service = Service(said(404, b'{"statusCode":404,"statusMessage":"Number not found"}'))
    assert await service.api.number("6531234567") is None
    assert await service.api.recordings("s-1") == ()
    assert await service.api.delete_webhook("VSS") is False
    with pytest.raises(RequestFailedError):
        await service.api.numbers()


@pytest.mark.parametrize("content", [REFUSED, b"", b"<html>nothing here</html>"])
async def test_a_404_about_the_account_or_the_address_is_raised(content: bytes) -> None:
    for ask in (*GETS, *WRITES[1:]):
        with pytest.raises(RequestFailedError, match="check the sub-account id") as failed:
            await ask(Service(said(404, content)).api)
        assert failed.value.status == 404


# -- what fails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check the API key"),
        (403, "belongs to the sub-account"),
        (422, "answered 422"),
        (307, "has moved to /elsewhere"),
    ],
)
async def test_a_refusal_is_raised_at_once_and_says_what_to_do(status: int, remedy: str) -> None:
    content = b'{"errorId":"1","statusCode":"1001","statusMessage":"no, not with secret-key-1","timestamp":"now"}'
    for ask in (*GETS, *WRITES):
        service = Service(said(status, content, location="/elsewhere"))
        with pytest.raises(RequestFailedError, match=remedy) as failed:
            await ask(service.api)
        assert not isinstance(failed.value, VoiceUnavailableError)
        assert f"127.0.0.1 answered {status} (no, not with [API key])" in str(failed.value)
        assert len(service.asked) == 1
        assert service.slept == []


@pytest.mark.parametrize("content", [b"", b"<html>Welcome</html>", b"[]", b"null"])
async def test_what_is_not_an_answer_of_the_api_is_reported(content: bytes) -> None:
    with pytest.raises(RequestFailedError, match="not the expected JSON; check the base URL"):
        await Service(said(200, content)).api.webhooks()


OUTAGES = [said(503), said(429), said(500, b""), httpx.ConnectError("refused"), OSError("odd")]


@pytest.mark.parametrize("outage", OUTAGES, ids=repr)
async def test_a_get_is_asked_again_with_growing_pauses(outage: Any) -> None:
    for ask in GETS:
        service = Service(outage, outage, said(200))
        await ask(service.api)
        assert len(service.asked) == len(service.slept) + 1 == 3
        assert 0 < service.slept[0] < service.slept[1] < 5


@pytest.mark.parametrize("outage", OUTAGES, ids=repr)
async def test_a_get_is_given_up_after_some_tries(outage: Any) -> None:
    service = Service(outage)
    with pytest.raises(VoiceUnavailableError):
        await service.api.webhooks()
    assert len(service.asked) == TRIES


@pytest.mark.parametrize("outage", OUTAGES, ids=repr)
async def test_what_changes_something_is_sent_once(outage: Any) -> None:
    for write in WRITES:
        service = Service(outage, said(200))
        with pytest.raises(VoiceUnavailableError):
            await write(service.api)
        assert len(service.asked) == 1


async def test_retry_after_is_waited_for_and_a_long_one_is_not() -> None:
    short = Service(said(429, retry_after="7"), said(200))
    await short.api.webhooks()
    assert short.slept == [7.0]
    long = Service(said(503, retry_after="600"), said(200))
    with pytest.raises(VoiceUnavailableError, match="asks for a wait of 600 s") as failed:
        await long.api.webhooks()
    assert (len(long.asked), failed.value.retry_after) == (1, timedelta(minutes=10))


# -- over real connections ---------------------------------------------------------------------------------------------


async def test_it_is_asked_over_every_transport(kind: Kind) -> None:
    with MisbehavingServer(answers(200, WEBHOOKS)) as server:
        async with kind.client(server.url) as client:
            assert await client.webhooks() == ()
            await client.register_webhook("VSS", "https://calls.example.com/")
        assert [head.split(b"\r\n")[0] for head in server.heads] == [
            b"GET /api/v1/subaccounts/sub_account/webhooks HTTP/1.1",
            b"POST /api/v1/subaccounts/sub_account/webhooks HTTP/1.1",
        ]


async def test_no_connection_is_used_for_a_second_request_even_if_the_service_would_keep_it(kind: Kind) -> None:
    def keeps(connection: Connection) -> None:
        while connection.read_request():
            connection.send(answer(200, WEBHOOKS))

    with MisbehavingServer(keeps) as server:
        async with kind.client(server.url) as client:
            for _ in range(3):
                await client.webhooks()
        assert server.connections == 3


async def test_nobody_there_is_reported_with_what_to_check(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
    with closed_port() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(VoiceUnavailableError, match=r"127\.0\.0\.1 cannot be reached .*check the base URL"):
                await client.webhooks()


@trio_too
async def test_silence_ends_at_the_deadline(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
    with MisbehavingServer(lambda connection: connection.stall()) as server:
        async with kind.client(server.url, connect=0.1, read=0.1) as client:
            with pytest.raises(VoiceUnavailableError, match="cannot be reached"):
                await client.webhooks()
