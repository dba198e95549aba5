"""The client as its users meet it: alone, from the environment, paced, and never telling its key."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from tests.gateway.conftest import OURS, Before, Kind, happened, place, trio_too
from tests.gateway.misbehaving import CREATED, Behaviour, MisbehavingServer, answer, answers, closed_port, places, sends
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.loops import either_loop
from voiceflow_worker import JobState, open_store
from voiceflow_worker.errors import (
    CallFlowError,
    CallInDoubtError,
    CallNotSentError,
    CallRefusedError,
    SettingsError,
    VoiceError,
)
from voiceflow_worker.gateway.client import PlacedCall, VoiceClient
from voiceflow_worker.gateway.transports import is_known
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

KEY = "secret-key-1"
FLOW = CallFlow.call("+6587654321", source="+6531234567").say("Hello.", voice_profile="en-IE-EmilyNeural")
SOON = timedelta(minutes=5)


def answering(status: int = 200, body: bytes = CREATED, **headers: str) -> httpx.MockTransport:
    """A transport that answers everything alike, and is one that the gateway does not know."""
    return httpx.MockTransport(lambda _: httpx.Response(status, content=body, headers=headers))


def client_of(transport: httpx.AsyncBaseTransport, **options: Any) -> VoiceClient:
    return VoiceClient(KEY, "sub_account", base_url="http://127.0.0.1:1", transport=transport, **options)


# -- alone -------------------------------------------------------------------------------------------------------------


@trio_too
async def test_a_call_is_placed_without_a_queue(kind: Kind) -> None:
    until = (datetime.now(UTC) + SOON).replace(microsecond=0)
    with MisbehavingServer(places) as server:
        async with kind.client(server.url) as client:
            placed = await client.send(FLOW, client_request_id="order-42", client_batch_id="b", valid_until=until)
        assert placed == PlacedCall(
            session_id="6f7a2c1e-0001", client_request_id="order-42", client_batch_id="b", valid_until=until
        )
        sent = orjson.loads(server.bodies[0])
        assert CallFlow.parse(sent) == FLOW.replace(
            client_request_id="order-42", client_batch_id="b", valid_until=until
        )


async def test_what_the_flow_says_itself_is_kept_and_no_validity_is_made_up() -> None:
    async with client_of(answering()) as client:
        own = await client.send(FLOW.replace(client_request_id="mine", client_batch_id="ours"))
        bare = await client.send(FLOW)
    assert own == PlacedCall(session_id="6f7a2c1e-0001", client_request_id="mine", client_batch_id="ours")
    assert bare.valid_until is None
    assert 0 < len(bare.client_request_id) <= 50


async def test_a_flow_that_breaks_a_rule_is_not_sent(kind: Kind) -> None:
    reply = CallFlow.reply().say("Hello.", voice_profile="en-IE-EmilyNeural")
    with MisbehavingServer(places) as server:
        async with kind.client(server.url) as client:
            for wrong in (CallFlow.call("+65", source="+6531234567"), reply, FLOW.replace(client_request_id="x" * 51)):
                with pytest.raises(CallFlowError):
                    await client.send(wrong)
            with pytest.raises(CallFlowError, match="-1015"):
                await client.send(FLOW, valid_until=datetime.now(UTC) - SOON)
        assert server.heads == []


@pytest.mark.parametrize(
    ("behaviour", "error", "told", "code"),
    [
        (answers(422, b'{"sessionStatus":"NOT CREATED","statusCode":"-1014","statusMessage":"Source not allowed"}'),
         CallRefusedError, "Source not allowed", -1014),
        (answers(401), CallNotSentError, "check the API key", None),
        (answers(200, b"junk"), CallInDoubtError, "Do not send it again", None),
    ],
    ids=["refused", "not sent", "in doubt"],
)  # fmt: skip
async def test_what_is_not_placed_is_raised_and_says_what_to_do(
    kind: Kind, behaviour: Behaviour, error: type[VoiceError], told: str, code: int | None
) -> None:
    with MisbehavingServer(behaviour) as server:
        async with kind.client(server.url) as client:
            with pytest.raises(error, match=told) as raised:
                await client.send(FLOW, client_request_id="order-42")
    if isinstance(raised.value, CallRefusedError):
        assert raised.value.code == code
    if isinstance(raised.value, CallInDoubtError):
        assert raised.value.client_request_id == "order-42", "the id to look for"


async def test_a_call_whose_answer_nobody_waits_for_is_in_the_log_with_its_id() -> None:
    arrived = anyio.Event()

    async def silent(_: httpx.Request) -> httpx.Response:
        arrived.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with client_of(httpx.MockTransport(silent)) as client, anyio.create_task_group() as group:
        with capture_logs() as logged:
            group.start_soon(partial(client.send, FLOW, client_request_id="order-42"))
            await arrived.wait()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
    assert ["order-42 may have been placed" in line["event"] for line in logged] == [True]


@either_loop
@pytest.mark.parametrize("waits", [False, True], ids=["before", "while it waits for the limiter"])
async def test_a_client_that_was_closed_leaves_no_doubt(waits: bool) -> None:
    class Closing:
        async def acquire(self) -> None:
            await client.__aexit__(None, None, None)

    before, client = Before(), client_of(answering(), limiter=Closing() if waits else None)
    async with client:
        if waits:
            with pytest.raises(RuntimeError, match="not open"):
                await place(client, before=before)
    if not waits:
        with pytest.raises(RuntimeError, match="not open"):
            await place(client, before=before)
    assert not before.taken


@either_loop
async def test_calls_of_a_worker_whose_client_was_closed_stay_in_the_queue() -> None:
    """An application may close the client before its worker has stopped."""
    client = client_of(answering())
    async with client, open_store("memory://") as store:
        engine = Engine(store, client)
        jobs = [await engine.enqueue(number(place)) for place in range(3)]
        await client.__aexit__(None, None, None)
        assert [job.state for job in await engine.send()] == [JobState.QUEUED] * 3
        assert [(await engine.queue.get(job.id)).attempt for job in jobs] == [0] * 3


# -- the limiter -------------------------------------------------------------------------------------------------------


class Turnstile:
    """Counts who asks, and lets them through when told."""

    def __init__(self, *, takes: float = 0.0) -> None:
        self.asked = 0
        self.takes = takes

    async def acquire(self) -> None:
        self.asked += 1
        await anyio.sleep(self.takes)  # the limiter is slow: the validity passes in it


async def test_each_post_takes_its_turn(kind: Kind) -> None:
    limiter = Turnstile()
    with MisbehavingServer(places) as server:
        async with kind.client(server.url, limiter=limiter) as client:
            for _ in range(3):
                await place(client)
            await client.send(FLOW)
            await client.server_time()
    assert limiter.asked == 4


@either_loop
async def test_who_becomes_late_while_waiting_is_not_sent() -> None:
    limiter = Turnstile(takes=0.05)
    async with client_of(answering(), limiter=limiter) as client:
        with pytest.raises(CallNotSentError, match="validUntil had passed"):
            await client.send(FLOW, valid_until=datetime.now(UTC) + timedelta(seconds=0.02))
    assert limiter.asked == 1


# -- transports of others ----------------------------------------------------------------------------------------------


class Short(httpx.AsyncByteStream):
    async def __aiter__(self) -> Any:
        yield CREATED


async def test_an_answer_is_read_with_its_content_and_is_not_whole_if_that_is_shorter_than_it_says() -> None:
    longer = {"Content-Length": str(len(CREATED) + 1)}
    short = httpx.MockTransport(lambda _: httpx.Response(200, stream=Short(), headers=longer))
    for transport, expected in ((answering(), VerdictKind.CREATED), (short, VerdictKind.UNKNOWN)):
        async with client_of(transport) as client:
            assert (await place(client)).kind is expected


@pytest.mark.parametrize("error", [RuntimeError("odd"), ExceptionGroup("odd", [OSError()]), httpx.ConnectError("no")])
async def test_no_error_of_a_stranger_is_raised_or_believed(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    async with client_of(httpx.MockTransport(fail)) as client:
        assert (await place(client)).kind is VerdictKind.UNKNOWN
        assert await client.server_time() is None


class Tunnelled(httpx.AsyncHTTPTransport):
    """A subclass may do anything."""


def test_only_what_is_known_exactly_is_trusted() -> None:
    known = [httpx.AsyncHTTPTransport(), Tunnelled(), answering()]
    assert [is_known(transport) for transport in known] == [True, False, False]


async def test_a_transport_that_speaks_http_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = httpx.AsyncHTTPTransport()
    monkeypatch.setattr(transport._pool, "_http2", True)  # what http2=True sets; it needs a package that is not here
    with pytest.raises(SettingsError, match=r"HTTP/1\.1"):
        client_of(transport)


async def test_a_proxys_credentials_reach_the_proxy_alone() -> None:
    with MisbehavingServer(sends(answer(407))) as proxy:
        url = f"http://user:pass%20word@127.0.0.1:{proxy.port}"
        async with OURS.client("https://voice.invalid", proxy=url) as client:
            verdict = await place(client)
        head = proxy.heads[0].lower()
    assert verdict.kind is VerdictKind.NOT_SENT
    assert b"proxy-authorization: basic " + b"dXNlcjpwYXNzIHdvcmQ=".lower() in head
    assert KEY.encode() not in head
    assert "does not accept the user name and password" in verdict.message
    assert not any(text in verdict.message for text in ("word@", "pass word", "pass%20"))


@trio_too
async def test_the_connections_end_with_the_client(kind: Kind) -> None:
    with MisbehavingServer(places) as server:
        client = kind.client(server.url)
        async with client:
            await place(client)
            with pytest.raises(RuntimeError, match="open already"):
                await client.__aenter__()
        await happened(server.ended)
        with pytest.raises(RuntimeError, match="async with"):
            await place(client)


# -- the key -----------------------------------------------------------------------------------------------------------


async def test_the_key_is_told_to_8x8_and_to_nobody_else(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Not even when a server sends it back."""
    caplog.set_level(logging.DEBUG)
    body = b'{"sessionStatus":"NOT_CREATED","statusCode":-1,"statusMessage":"Bearer secret-key-1 is no good"}'
    told: list[str] = []
    for status in (401, 400, 307, 500):
        with MisbehavingServer(answers(status, body)) as server:
            async with kind.client(server.url) as client:
                told += [repr(await place(client)), repr(client), str(client)]
                try:
                    await client.send(FLOW)
                except Exception as error:  # noqa: BLE001
                    told += traceback.format_exception(error)
            assert KEY.encode() in server.heads[0]
    with closed_port() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            told.append(repr(await place(client)))
    assert any("[API key]" in text for text in told)
    assert not [text for text in told if KEY in text]
    assert not [record for record in caplog.records if KEY in record.getMessage()]


async def test_a_key_is_hidden_as_a_word_and_in_an_address() -> None:
    transport = answering(500, b"a fault of a key: k")
    async with VoiceClient("k", "sub_account", base_url="http://127.0.0.1:1", transport=transport) as client:
        assert "a fault of a key: [API key]" in (await place(client)).message
    async with client_of(answering(307, b"", location=f"/?key={KEY}")) as client:
        assert "/?key=[API key]" in str((await place(client)).hold)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_from_env_takes_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "mine_01")
    client = VoiceClient.from_env()
    assert repr(client) == "<VoiceClient mine_01 at voice.8x8.com>"
    monkeypatch.setenv("VOICEFLOW_BASE_URL", "http://127.0.0.1:8088")
    assert repr(VoiceClient.from_env()) == "<VoiceClient mine_01 at 127.0.0.1>"


@pytest.mark.parametrize("missing", ["VOICEFLOW_API_KEY", "VOICEFLOW_SUB_ACCOUNT"])
def test_from_env_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"VOICEFLOW_API_KEY": KEY, "VOICEFLOW_SUB_ACCOUNT": "mine_01"}.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=missing):
        VoiceClient.from_env()


def test_settings_that_cannot_be_right_are_refused() -> None:
    here, other = "http://127.0.0.1:1", answering()
    options: Any
    for options in (
        {"connect_timeout": timedelta(0)}, {"read_timeout": -timedelta(seconds=1)}, {"concurrency": 0},
        {"proxy": "socks5://127.0.0.1:1"}, {"proxy": "127.0.0.1:8080"}, {"no_proxy": here},
        {"transport": other, "proxy": here}, {"transport": other, "no_proxy": "127.0.0.1"},
    ):  # fmt: skip
        with pytest.raises(SettingsError):
            VoiceClient(KEY, "sub_account", **options)
