"""8x8's side of a call in its menus: events as the service sends them, through the ASGI app of a receiver."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from tests.webhooks.receiving import events_app
from voiceflow_worker import CallPolicy, Job, Menu, Store
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.webhooks import PATH
from voiceflow_worker.webhooks.menu_events import MenuEvents

SECRET = "Bearer of-the-tests-of-calls"
OURS = "+6531234567"
"""A receiver that is busy answers 503 after its limits, and is sent the event again: not here."""


@dataclass
class Receiver:
    """One receiver of a store, with its metrics."""

    app: ASGIApp
    events: MenuEvents
    registry: CollectorRegistry

    @classmethod
    def of(cls, store: Store, *menus: Menu, **more: Any) -> Receiver:
        registry = CollectorRegistry()
        events = MenuEvents(store, *menus, **{"policy": CallPolicy(), "registry": registry, **more})
        app = events_app(Settler(store, CallPolicy()), secret=SECRET, on_action=events, registry=registry)
        return cls(app, events, registry)

    async def post(self, event: Mapping[str, object]) -> tuple[int, bytes]:
        """POST one event; its status and body. Without a socket: it is the menus that are looked at."""
        content = json.dumps(event).encode()
        scope = {
            "type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "root_path": "",
            "query_string": b"", "headers": [(b"authorization", SECRET.encode())], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        status, body = 0, b""

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")

        await self.app(scope, receive, send)
        return status, body

    def count(self, result: str) -> float:
        """How many answers had this result."""
        return self.registry.get_sample_value("voiceflow_ivr_answers_total", {"result": result}) or 0.0


@dataclass
class Line:
    """One call: it keeps the `clientActionId` that was given last, as the service does."""

    session_id: str = field(default_factory=lambda: f"session-{uuid4()}")
    source: str = OURS
    destination: str = "+6587654321"
    direction: str = "OUTBOUND"
    token: str | None = None

    @classmethod
    def of(cls, job: Job, *, session_id: str | None = None) -> Line:
        return cls(session_id=session_id or f"session-{job.id}.1", source=job.source, destination=job.destination)

    def elsewhere(self) -> Line:
        """The same call at the same place, for events that are sent beside the usual ones."""
        return replace(self)

    def event(self, keys: str | None, **more: object) -> dict[str, Any]:
        """The event (VCA) after these keys; None for none."""
        payload: dict[str, object] = {
            "eventId": str(uuid4()), "callId": "c", "sessionId": self.session_id, "subAccountId": "tests",
            "callStatus": "ACTION_COMPLETED", "callDirection": self.direction, "source": self.source,
            "destination": self.destination, "eventData": {"dtmf": keys}, "sipCode": 200,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        if self.token is not None:
            payload["clientActionId"] = self.token
        return {"namespace": "VOICE", "eventType": "CALL_ACTION", "payload": {**payload, **more}}

    def took(self, body: bytes) -> Heard:
        """What the caller hears of an answer; its `clientActionId` is kept."""
        answer = json.loads(body)
        self.token = answer.get("clientActionId", self.token)
        return Heard.of(answer)

    async def press(self, receiver: Receiver, keys: str | None, **more: object) -> Heard:
        """Press keys, and hear what follows."""
        status, body = await receiver.post(self.event(keys, **more))
        assert status == 200, body
        return self.took(body)


@dataclass(frozen=True)
class Heard:
    """What the caller hears."""

    text: str
    asks: bool
    connected_to: str | None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Heard:
        said: list[str] = []
        connected, asks = None, False
        for entry in answer["callflow"]:
            params = entry.get("params") or {}
            said += [params[name] for name in ("text", "promptMessage") if name in params]
            asks = asks or entry["action"] == "sayAndCapture"
            connected = params.get("destination") if entry["action"] == "makeCall" else connected
        return cls(" ".join(said), asks, connected)
