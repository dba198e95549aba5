"""The rest of the API: asked again where that is harmless, never told twice where it is not, clear when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.conftest import Kind, Said, StandIn, trio_too
from tests.gateway.misbehaving import Connection, MisbehavingServer, answer, answers, closed_port
from voiceflow_worker.errors import (
    InvalidInputError,
    RequestFailedError,
    VoiceUnavailableError,
)
from voiceflow_worker.gateway.account import (
    LONGEST_PAUSE,
    TRIES,
    AccountApi,
    OwnedNumber,
    SpeechProfile,
    Webhook,
    read_list,
)
from voiceflow_worker.gateway.rest import RestClient

pytestmark = pytest.mark.anyio

WEBHOOKS = b'{"subAccountId":"acme","count":0,"webhooks":[],"statusCode":0,"statusMessage":"ok"}'
REFUSED = b'{"statusCode":404,"statusMessage":"SubAccount not found by Id : acme"}'


class Api(AccountApi):
    """The account API through this client."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def _account(self) -> RestClient:
        return self._rest


class Service(StandIn):
    """Answers one request after the other."""

    def __init__(self, *answers: Said) -> None:
        super().__init__()
        self.answers = list(answers)

    def answers_to(self, _request: httpx.Request) -> list[Said]:
        return self.answers

    @property
    def api(self) -> AccountApi:
        return Api(self.rest("http://127.0.0.1:1/", "a&cme", tries=TRIES, longest_pause=LONGEST_PAUSE))


def said(status: int, content: bytes = WEBHOOKS, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=content, headers={name.replace("_", "-"): headers[name] for name in headers})


Ask = Callable[[AccountApi], Awaitable[object]]
GETS: list[Ask] = [
    lambda api: api.speech_profiles(),
    lambda api: api.numbers(),
    lambda api: api.webhooks(),
]
WRITES: list[Ask] = [
    lambda api: api.register_webhook("VSS", "https://calls.example.com/"),
]


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_what_cannot_be_meant_is_not_asked() -> None:
    service = Service(said(200))
    for wrong in (
        service.api.register_webhook("SMS", "https://calls.example.com/"),
        service.api.register_webhook("VSS", "calls.example.com"),
    ):
        with pytest.raises(InvalidInputError):
            await wrong
    assert service.requests == []


@pytest.mark.parametrize("content", [REFUSED, b"", b"<html>nothing here</html>"])
async def test_a_404_about_the_account_or_the_address_is_raised(content: bytes) -> None:
    for ask in GETS:
        with pytest.raises(RequestFailedError, match="check the sub-account id") as failed:
            await ask(Service(said(404, content)).api)
        assert failed.value.status == 404


# -- what fails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "check the API key"), (403, "belongs to the sub-account"), (422, "answered 422"),
     (307, "has moved to /elsewhere")],
)  # fmt: skip
async def test_a_refusal_is_raised_at_once_and_says_what_to_do(status: int, remedy: str) -> None:
    content = b'{"errorId":"1","statusCode":"1001","statusMessage":"no, not with secret-key-1","timestamp":"now"}'
    for ask in (*GETS, *WRITES):
        service = Service(said(status, content, location="/elsewhere"))
        with pytest.raises(RequestFailedError, match=remedy) as failed:
            await ask(service.api)
        assert not isinstance(failed.value, VoiceUnavailableError)
        assert f"127.0.0.1 answered {status} (no, not with [API key])" in str(failed.value)
        assert (len(service.requests), service.naps) == (1, [])


@pytest.mark.parametrize("content", [b"", b"<html>Welcome</html>", b"[]", b"null"])
async def test_what_is_not_an_answer_of_the_api_is_reported(content: bytes) -> None:
    with pytest.raises(RequestFailedError, match="not the expected JSON; check the base URL"):
        await Service(said(200, content)).api.webhooks()


OUTAGES = [said(503), said(429), said(500, b""), httpx.ConnectError("refused"), OSError("odd")]


@pytest.mark.parametrize("outage", OUTAGES, ids=repr)
async def test_only_a_get_is_asked_again_with_growing_pauses_and_not_for_ever(outage: Any) -> None:
    for ask in GETS:
        service = Service(outage, outage, said(200))
        await ask(service.api)
        assert len(service.requests) == len(service.naps) + 1 == 3
        assert 0 < service.naps[0] < service.naps[1] < 5
    for ask, tries in ((GETS[2], TRIES), *((write, 1) for write in WRITES)):
        service = Service(outage)
        with pytest.raises(VoiceUnavailableError):
            await ask(service.api)
        assert len(service.requests) == tries


async def test_retry_after_is_waited_for_and_a_long_one_is_not() -> None:
    short = Service(said(429, retry_after="7"), said(200))
    await short.api.webhooks()
    assert short.naps == [7.0]
    long = Service(said(503, retry_after="600"), said(200))
    with pytest.raises(VoiceUnavailableError, match="asks for a wait of 600 s") as failed:
        await long.api.webhooks()
    assert (len(long.requests), failed.value.retry_after) == (1, timedelta(minutes=10))


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


# -- data of the account -----------------------------------------------------------------------------------------------


LISTS = {"speechProfiles": SpeechProfile, "numbers": OwnedNumber, "webhooks": Webhook}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["speechProfiles", "numbers", "webhooks", "recordings", "msisdn", "type", "url", "recordingId", "duration",
     "startRecordingTime", "speechProfileCode", "enabled", "payload", "numberHealth", "rentalPrice", "port", "host"]
)  # fmt: skip


def test_the_state_of_a_number_is_read() -> None:
    for status, active, expiring in (
        ("Active", True, False), ("ACTIVE", True, False), ("Expiring", False, True), ("Inactive", False, False),
    ):  # fmt: skip
        fields = {"msisdn": "6531234567", "countryCode": "SG", "operationalStatus": status}
        (number,) = read_list({"numbers": [fields]}, "numbers", OwnedNumber)
        assert number == OwnedNumber(msisdn="6531234567", country="SG", status=status)
        assert (number.is_active, number.is_expiring) == (active, expiring)


def test_the_health_of_a_number_is_read() -> None:
    number = {
        "msisdn": "6531234567", "dateCreated": "2026-01-05T08:00:00Z", "operationalStatus": "Active",
        "referenceId": "r-1", "rentalPrice": 5.10, "numberType": "LOCAL", "numberHealthCheckEnabled": True,
        "numberHealth": {"isHealthy": False, "status": "Failing", "lastCheckedTime": "2026-11-20T09:00:00Z"},
    }  # fmt: skip
    (found,) = read_list({"numbers": [number]}, "numbers", OwnedNumber)
    assert (found.is_healthy, found.health, found.is_unhealthy) == (False, "Failing", True)
    assert found.health_checked_at == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert (found.number_type, found.reference_id) == ("LOCAL", "r-1")


def test_whether_a_webhook_is_on_is_read_in_both_spellings() -> None:
    ways: list[tuple[dict[str, object], bool]] = [
        ({"enabled": True}, True), ({"enabled": False}, False), ({"active": False}, False), ({}, True),
    ]  # fmt: skip
    for more, enabled in ways:
        fields = {"type": "vss", "url": "https://example.com/", "httpAuthHeaderAvailable": True, **more}
        webhook = Webhook(type="VSS", url="https://example.com/", enabled=enabled, has_auth_header=True)
        assert read_list({"webhooks": [fields]}, "webhooks", Webhook) == (webhook,)


def test_an_entry_without_its_name_is_none() -> None:
    answer = {"webhooks": [{"type": "VSS"}, {"url": "https://example.com/"}, "VSS", None]}
    assert read_list(answer, "webhooks", Webhook) == ()


@given(st.dictionaries(names, st.lists(st.dictionaries(names, anything) | anything, max_size=3) | anything))
def test_no_answer_is_too_strange_to_be_read(answer: dict[str, Any]) -> None:
    for name, kind in LISTS.items():
        assert isinstance(read_list(answer, name, kind), tuple)
