"""The receiver over a real socket: each answer, and what it leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.waiting import until
from tests.webhooks.payload_forms import whole
from tests.webhooks.receiving import (
    SECRET,
    Sender,
    Settling,
    named,
    other,
    posting,
    receiver_of,
    receiving,
    submitted,
    summary,
)
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StaleJobError, StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.reports.events import CallAction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.webhooks import PATH

pytestmark = pytest.mark.anyio

LOOPBACK = [ip_network("127.0.0.0/8")]
ELSEWHERE = [ip_network("18.140.80.2/32")]


async def test_a_summary_is_settled_and_answered_with_200() -> None:
    settling = Settling()
    began = time.perf_counter()
    async with receiving(settling) as sender:
        answer = await sender.send()
        assert await sender.metric('events_total{kind="VSS"}') == 1
        assert await sender.metric('summaries_total{result="settled"}') == 1
        assert await sender.metric('answers_total{status="200"}') == 1
        assert 0 < await sender.metric("seconds_sum") < time.perf_counter() - began
    assert (answer.status_code, answer.content) == (200, b"{}")
    (taken,) = settling.taken
    assert (taken.client_request_id, taken.status) == ("default.01J.1", SessionStatus.COMPLETED)


@pytest.mark.parametrize(
    ("secret", "allow", "status"), [("Basic wrong", "18.140.80.2", 401), (SECRET, "127.0.0.0/8", 403)]
)
async def test_a_stranger_changes_nothing_whatever_the_event(
    store: Store, secret: str, allow: str, status: int
) -> None:
    job = await submitted(store)

    async def is_asked(call: StoreCall) -> None:
        raise AssertionError(f"a stranger had {call.name} asked")

    app = receiver_of(FaultyStore(store, before=is_asked), webhook_allow=allow).app
    events = [
        whole(named(job)), whole(named(job), clientRequestId=None), other("CALL_ACTION"), other("CALL_STATUS"), b"{",
        b"\x00" * 2_000_000,
    ]  # fmt: skip
    async with posting(app) as sender:
        for event in events:
            assert (await sender.send(event, secret=secret)).status_code == status
        assert (await sender.client.get("/healthz")).status_code == 200, "health needs neither"


@pytest.mark.parametrize(("secret", "allow", "status"), [("Basic wrong", LOOPBACK, 401), (SECRET, ELSEWHERE, 403)])
async def test_strangers_are_turned_away_before_their_body_is_read(secret: str, allow: Any, status: int) -> None:
    async with receiving(allow=allow) as sender:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\nContent-Length: 500\r\n\r\n"
        assert (await first_line(sender, head.encode())) == f"HTTP/1.1 {status}"
        reason = {401: "secret", 403: "network"}[status]
        assert await sender.metric(f'refusals_total{{reason="{reason}"}}') == 1


async def first_line(sender: Sender, sent: bytes) -> str:
    """The protocol and status that are answered while the connection stays open."""
    address = httpx.URL(sender.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(20):
            return (await reader.readline()).decode()[:12]
    finally:
        writer.close()


async def test_a_menu_answers_call_actions() -> None:
    asked: list[CallAction] = []

    async def menu(event: CallAction) -> bytes:
        asked.append(event)
        return b'{"as": "it is"}'

    async with receiving(on_action=menu) as sender:
        answer = await sender.send(other("CALL_ACTION", eventData={"dtmf": "1"}))
        await sender.send(summary())
    assert answer.content == b'{"as": "it is"}'
    assert [event.session_id for event in asked] == ["s"]


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("locked"), StoreReadOnlyError("disk full"), StaleJobError("default.01J")]
)
async def test_an_event_that_could_not_be_stored_is_never_answered_with_200(error: Exception) -> None:
    async def menu(_event: CallAction) -> bytes:
        raise error

    async with receiving(Settling(error=error), on_action=menu) as sender:
        assert (await sender.send()).status_code == 503
        assert (await sender.send(other("CALL_ACTION"))).status_code == 503
        assert await sender.metric("store_failures_total") == 2


async def test_an_error_nobody_thought_of_is_reported_and_takes_nothing_with_it() -> None:
    settling = Settling(error=RuntimeError("a mistake"))
    with capture_logs() as logs:
        async with receiving(settling) as sender:
            assert (await sender.send()).status_code == 500
            assert await sender.metric('unparsed_total{reason="failure"}') == 1
            settling.error = None
            assert (await sender.send()).status_code == 200
    (line,) = [log for log in logs if log["log_level"] == "error"]
    assert (line["event"], line["kind"]) == ("an event failed, and was answered with 500", "VSS")


async def test_a_body_of_a_million_bytes_is_taken_and_one_more_is_too_much() -> None:
    def of_length(length: int) -> bytes:
        begun = b'{"eventType":"NEW","payload":{"a":"'
        return begun + b"x" * (length - len(begun) - 3) + b'"}}'

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 50_000

    async with receiving() as sender:
        assert (await sender.send(of_length(1_000_000))).status_code == 200
        assert (await sender.send(of_length(1_000_001))).status_code == 413
        assert await sender.metric('refusals_total{reason="too_large"}') == 1
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\nContent-Length: {10**9}\r\n\r\n"
        assert (await first_line(sender, head.encode())) == "HTTP/1.1 413", "it is not waited for"
        answer = await sender.client.post(sender.url + PATH, content=pieces(), headers={"Authorization": SECRET})
        assert answer.status_code == 413, "nothing said its length"


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.asgi.limits.BODY", timedelta(seconds=0.2))
    async with receiving() as sender:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\nContent-Length: 500\r\n\r\n{{"
        assert (await first_line(sender, head.encode())) == "HTTP/1.1 408"
        address = httpx.URL(sender.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(head.encode())
        async with asyncio.timeout(20):
            assert b"408" in await reader.read(), "what comes of the rest of the body would be read as a request"
        writer.close()


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    settling = Settling()
    async with receiving(settling) as sender:
        address = httpx.URL(sender.url)
        stream = await anyio.connect_tcp(address.host, address.port or 0)
        await stream.send(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\nContent-Length: 500\r\n\r\n{{".encode()
        )
        await stream.aclose()
        assert (await sender.send()).status_code == 200
        assert await sender.metric('answers_total{status="200"}') == 1
    assert len(settling.taken) == 1


async def test_a_slow_summary_does_not_hold_up_others() -> None:
    settling = Settling(stuck=True)
    async with receiving(settling) as sender, anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send)
        await until(lambda: settling.begun == 1)
        assert (await sender.send(other("CALL_STATUS"))).status_code == 200
        tasks.cancel_scope.cancel()
