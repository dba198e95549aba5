"""The webhook out, over real connections: what arrives, what counts as taken, and what is sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from tests.support.calls import Calls
from tests.support.endpoint import Endpoint, Received, answering
from tests.support.stores import clocked
from tests.support.waiting import until
from voiceflow_worker import open_store
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import HookGoneError, RetryLaterError, SettingsError
from voiceflow_worker.model.jobs.call_json import CallOutcome, call_as_json
from voiceflow_worker.notify.webhook import OutcomeWebhook, verify_notification
from voiceflow_worker.webhooks import app as from_settings

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 11, 20, 9, 0, 30, tzinfo=UTC)


store = clocked("memory")


@pytest.fixture
async def outcome(store: Store) -> CallOutcome:
    calls = Calls(store)
    job = await calls.placed()
    stream = calls.queue.outcomes()
    await calls.end(job)
    return await anext(stream)


def webhook_to(endpoint: Endpoint, *, deadline: timedelta = timedelta(seconds=20)) -> OutcomeWebhook:
    return OutcomeWebhook(endpoint.url, secret=SECRET, now=lambda: NOW, deadline=deadline)


async def failure(outcome: CallOutcome, webhook: OutcomeWebhook) -> RetryLaterError:
    with pytest.raises(RetryLaterError) as caught:
        await webhook(outcome)
    assert "token" not in str(caught.value), "an address may hold a secret"
    return caught.value


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_receiver_on_another_server_sends_the_outcomes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with Endpoint().running() as endpoint, open_store(url) as store:
        await QueueNames(store).remember("default")
        settings = {"STORE": url, "NOTIFY_URL": endpoint.url, "ALLOW_PLAIN_HTTP": "yes"}
        for name, value in settings.items():
            monkeypatch.setenv(f"VOICEFLOW_{name}", value)
        with pytest.raises(SettingsError, match="VOICEFLOW_NOTIFY_SECRET"):
            from_settings.app()
        monkeypatch.setenv("VOICEFLOW_NOTIFY_SECRET", SECRET)
        app = from_settings.app()
        async with app.router.lifespan_context(app):
            calls = Calls(store)
            job = await calls.placed()
            await calls.end(job)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://calls") as client:

                async def is_counted() -> bool:
                    return 'voiceflow_hook_delivered_total{hook="notify"} 1.0' in (await client.get("/metrics")).text

                await until(is_counted)
    assert [each.document["data"]["id"] for each in endpoint.received] == [job.id]


async def test_an_outcome_arrives_signed_and_whole(outcome: CallOutcome) -> None:
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        await webhook(outcome)
    [received] = endpoint.received
    told = verify_notification(SECRET, received.headers, received.body, now=NOW)
    assert told == {
        "id": outcome.id,
        "type": "call.ended",
        "timestamp": told["timestamp"],
        "state": "completed",
        "number": 1,
        "data": call_as_json(outcome.job),
    }
    assert datetime.fromisoformat(str(told["timestamp"])) == outcome.at
    assert received.headers["request-line"] == "POST /hooks/calls?token=of-the-tests HTTP/1.1"
    assert received.headers["content-type"] == "application/json"
    assert received.id == outcome.id


async def test_a_repetition_has_the_same_id_and_a_time_of_its_own(outcome: CallOutcome) -> None:
    times = [NOW, NOW + timedelta(hours=1)]
    async with (
        Endpoint().running() as endpoint,
        OutcomeWebhook(endpoint.url, secret=SECRET, now=lambda: times.pop(0)) as webhook,
    ):
        await webhook(outcome)
        await webhook(outcome)
    first, second = endpoint.received
    assert first.id == second.id
    assert first.body == second.body
    assert verify_notification(SECRET, second.headers, second.body, now=NOW + timedelta(hours=1))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_means_taken(outcome: CallOutcome, status: int) -> None:
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [answering(status, body=b"")]
        await webhook(outcome)
    assert len(endpoint.received) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503])
async def test_everything_else_is_sent_again(outcome: CallOutcome, status: int) -> None:
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [answering(status, f"Location: {endpoint.url}")]
        error = await failure(outcome, webhook)
    assert str(error) == f"127.0.0.1 answered {status}"
    assert error.after is None
    assert len(endpoint.received) == 1, "redirects are not followed"


@pytest.mark.parametrize(
    ("value", "wait"),
    [("120", timedelta(minutes=2)), ("Fri, 20 Nov 2026 09:01:00 GMT", timedelta(seconds=30)), ("soon", None)],
)
async def test_a_retry_after_is_honoured(outcome: CallOutcome, value: str, wait: timedelta | None) -> None:
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [answering(503, f"Retry-After: {value}")]
        assert (await failure(outcome, webhook)).after == wait


async def test_410_means_that_nothing_more_is_wanted(outcome: CallOutcome) -> None:
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [answering(410)]
        with pytest.raises(HookGoneError, match="answered 410 Gone"):
            await webhook(outcome)


async def test_no_answer_in_time_is_a_failure(outcome: CallOutcome) -> None:
    async def silence(_received: Received, _stream: SocketStream) -> None:
        await anyio.sleep_forever()

    async def slowly(_received: Received, stream: SocketStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            await stream.send(b"X-More: yes\r\n")
            await anyio.sleep(0.05)  # an answer whose lines come slowly

    async with Endpoint().running() as endpoint, webhook_to(endpoint, deadline=timedelta(seconds=0.3)) as webhook:
        for answer in (silence, slowly):
            endpoint.answers = [answer]
            assert str(await failure(outcome, webhook)) == "127.0.0.1 gave no answer within 0.3 s"


async def test_an_answer_that_goes_on_for_ever_is_one_all_the_same(
    outcome: CallOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(_received: Received, stream: SocketStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await stream.send(b"x" * 1000)
            await anyio.sleep(0.01)  # an answer whose bytes come slowly

    monkeypatch.setattr("voiceflow_worker.notify.webhook.READING", 0.1)
    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [endless]
        await webhook(outcome)
        await webhook(outcome)
    assert len(endpoint.received) == 2


async def test_nobody_there_and_a_broken_answer_are_failures(outcome: CallOutcome) -> None:
    async def broken(_received: Received, stream: SocketStream) -> None:
        await stream.send(b"HTTP/1.1 2")
        await stream.aclose()

    async with Endpoint().running() as endpoint, webhook_to(endpoint) as webhook:
        endpoint.answers = [broken]
        assert "cannot be reached" in str(await failure(outcome, webhook))
    async with webhook_to(endpoint) as webhook:
        assert "cannot be reached" in str(await failure(outcome, webhook))


async def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="remove the user name and password") as caught:
        OutcomeWebhook("https://me:hunter2@crm.example.com", secret=SECRET)
    assert "hunter2" not in str(caught.value)
    assert "token" not in repr(OutcomeWebhook("https://crm.example.com/?token=x", secret=SECRET))


async def test_a_transport_of_ones_own_is_used(outcome: CallOutcome) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202)

    async with OutcomeWebhook(
        "https://crm.example.com/x", secret=SECRET, transport=httpx.MockTransport(handle)
    ) as webhook:
        await webhook(outcome)
    assert [request.url.host for request in seen] == ["crm.example.com"]
