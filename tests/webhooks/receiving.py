"""Helpers of the receiver tests: a settler of summaries, events as 8x8 sends them, a served receiver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.support.engine import Engine
from tests.support.flows import SOURCE
from tests.support.voices import ScriptedVoice, unknown
from tests.webhooks.payload_forms import Call, whole
from voiceflow_worker import Job, Store, load_settings
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, Network
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.progress import LegState
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallAction, CallStatus, SessionSummary
from voiceflow_worker.webhooks import PATH, Receiver
from voiceflow_worker.webhooks.events import EventEndpoint

SECRET = "Basic c2VjcmV0LW9mLWV2ZW50cw"


def summary(**changes: object) -> dict[str, Any]:
    return whole(Call("default.01J.1", "5ab17a4e-5b28-4d2c-a5c1-2c1e0f1d9d70"), **changes)


def other(event_type: str, **payload: object) -> dict[str, Any]:
    return {"namespace": "VOICE", "eventType": event_type, "payload": {"sessionId": "s", "eventId": "e", **payload}}


def metric_in(text: str, name: str) -> float:
    """The value of a metric of the receiver in what /metrics tells; 0 if it is not there."""
    for line in text.splitlines():
        if line.startswith(f"voiceflow_webhook_{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


@dataclass
class Settling:
    """Settles nothing, and remembers it; or raises what it is given."""

    result: SummaryResult = SummaryResult.SETTLED
    error: Exception | None = None
    stuck: bool = False
    begun: int = 0
    taken: list[SessionSummary] = field(default_factory=list)

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        self.begun += 1
        if self.stuck:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        self.taken.append(summary)
        return self.result


class Progress:
    """Each event names a session, and nothing is stored."""

    async def action(self, _event: CallAction) -> bool:
        return True

    async def status(self, _event: CallStatus) -> LegState | None:
        return None


async def nothing_to_say(_event: CallAction) -> bytes:
    return b"{}"


@dataclass
class Sender:
    """A client of a served receiver."""

    url: str
    client: httpx.AsyncClient

    async def send(self, event: object = None, *, secret: str | None = SECRET, **headers: str) -> httpx.Response:
        shown = {} if secret is None else {"Authorization": secret}
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(event, bytes):
            return await self.client.post(self.url + PATH, content=event, headers=shown)
        return await self.client.post(self.url + PATH, json=summary() if event is None else event, headers=shown)

    async def metric(self, name: str) -> float:
        return metric_in((await self.client.get(f"{self.url}/metrics")).text, name)


def receiver_of(store: Store, **settings: Any) -> Receiver:
    given: dict[str, Any] = {"webhook_secret": SECRET, **settings}
    return Receiver(load_settings(**given), store)


def events_app(
    settle: Any = None,
    *,
    secret: str = SECRET,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    progress: Any = Progress(),  # noqa: B008 - it has no state
    on_action: Any = None,
    registry: CollectorRegistry | None = None,
) -> Starlette:
    """The paths of events and of metrics, without a store."""
    counted = registry or CollectorRegistry()
    gatekeeper = Gatekeeper(secrets=[secret], allow=allow, trusted_proxies=trusted_proxies)
    endpoint = EventEndpoint(
        Settling() if settle is None else settle,  # type: ignore[arg-type]
        gatekeeper,
        progress,
        on_action or nothing_to_say,
        registry=counted,
    )
    metrics = Route("/metrics", lambda _: Response(generate_latest(counted)))
    return Starlette(routes=[*endpoint.routes, metrics])


@asynccontextmanager
async def receiving(settle: Any = None, **more: Any) -> AsyncGenerator[Sender]:
    async with (
        serving(events_app(settle, **more)) as address,
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
    ):
        yield Sender(address.url, client)


@asynccontextmanager
async def posting(app: ASGIApp, *, secret: str | None = SECRET) -> AsyncGenerator[Sender]:
    """A client of an app that is not served: no sockets, and what follows an answer is over when the answer is here."""
    headers = {} if secret is None else {"Authorization": secret}
    transport = httpx.ASGITransport(app, client=("18.140.80.2", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver", headers=headers) as client:
        yield Sender("http://receiver", client)


async def submitted(store: Store, *, answered: bool = True) -> Job:
    """A call that waits for its summary; or one whose POST was not answered."""
    engine = Engine(store, ScriptedVoice() if answered else ScriptedVoice(answer=lambda _: unknown()))
    await engine.enqueue()
    (job,) = await engine.send()
    return job


def named(job: Job) -> Call:
    (post,) = job.posts
    return Call(post.client_request_id, post.session_id or f"session-{post.client_request_id}")


async def now(store: Store, job: Job) -> Job:
    return (await get_jobs(store, [job.id]))[job.id]


def of_call(job: Job, event_type: str, **changes: object) -> dict[str, Any]:
    """An event during a call, with each field of the printed ones."""
    payload = {
        "eventId": "eb0fc709-9693-11ea-454d-1705dde98182",
        "callId": "a1d6a5e3-efec-11e9-b999-7d370b5f90d1",
        "sessionId": named(job).session_id,
        "subAccountId": "account_x",
        "callStatus": "CALL_CONNECTED",
        "callDirection": "OUTBOUND",
        "callType": "PSTN",
        "source": SOURCE,
        "destination": job.destination,
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": "SG",
        "destinationCountryCode": "Null",
        "sourceRefId": "Null",
        "destinationRefId": "vn-ref-1",
        "callDuration": 10,
        "eventData": " ",
        "sipCode": 200,
        "timestamp": "2026-07-01T08:12:01Z",
        **changes,
    }
    return {"namespace": "VOICE", "eventType": event_type, "description": "", "payload": payload}
