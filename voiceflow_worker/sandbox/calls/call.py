"""One call that was accepted, or came in, as the sandbox knows it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.validity import read_valid_until
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.calls.inbound import InboundEntry, InboundOrder
from voiceflow_worker.sandbox.calls.ledger import LedgerEntry, Ring
from voiceflow_worker.sandbox.calls.outcomes import CallPlan
from voiceflow_worker.sandbox.orders.event_orders import EventKind
from voiceflow_worker.sandbox.orders.script import Script


def new_id() -> str:
    """An id as the service makes them."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a body asks for, read without judging it: what is missing or of the wrong kind is None or empty."""

    source: str | None = None
    destination: str | None = None
    actions: Sequence[object] = ()
    valid_until_text: str | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None

    @property
    def valid_until(self) -> datetime | None:
        """When the call must not be placed any more."""
        return read_valid_until(self.valid_until_text)


@dataclass(slots=True, kw_only=True)
class Leg:
    """One of the calls of a session, with one person; its times in that person's seconds since the session's dialling.

    `status` is how it ended, or will; `ring` tells from when to when the telephone was taken, by the true clock.
    """

    source: str | None
    destination: str | None
    direction: Direction = Direction.OUTBOUND
    dialled: float = 0.0
    connected: float | None = None
    ended: float = 0.0
    status: SessionStatus = SessionStatus.COMPLETED
    is_recorded: bool = False
    ring: Ring | None = None
    call_id: str = field(default_factory=new_id)

    def rings(self, entry: LedgerEntry | InboundEntry) -> None:
        """Its telephone begins to ring, for a call that has this entry."""
        self.ring = Ring(destination=self.destination, rang_at=time.time())
        entry.rings.append(self.ring)

    def ends(self, *, ago: float = 0.0) -> None:
        """Its line is free, since so many true seconds."""
        if self.ring is not None:
            self.ring.ended_at = time.time() - ago


@dataclass(slots=True, kw_only=True)
class Call:
    """A call under way: `accepted_at` in seconds since the epoch, `plan` what becomes of it.

    `dialled_at` is by the sandbox's own clock; None before, and for a call whose validity passed first. `legs` are
    those that were dialled. `script` tells how the person behaves, if anything does.
    """

    request: CallRequest
    sub_account: str
    accepted_at: float
    plan: CallPlan
    entry: LedgerEntry | InboundEntry
    script: Script | InboundOrder | None = None
    dialled_at: datetime | None = None
    legs: list[Leg] = field(default_factory=list[Leg])
    last_action: Action = Action.MAKE_CALL
    client_action_id: str | None = None
    session_id: str = field(default_factory=new_id)
    call_flow_request_id: str = field(default_factory=new_id)
    after_summary: tuple[Callable[[], None], ...] = ()
    """What waits for the summary to be delivered."""
    _awaited: tuple[tuple[EventKind, asyncio.Event], ...] = ()

    @property
    def first_leg(self) -> Leg:
        """The call with the person that this is about."""
        return self.legs[0]

    @property
    def summary_script(self) -> Script | None:
        """What a script has to say about the summary."""
        return self.script if isinstance(self.script, Script) else None

    def moment(self, seconds: float) -> datetime:
        """So many of the person's seconds after the dialling; in a sandbox that is sped up, ahead of the clock."""
        return datetime.fromtimestamp(self.accepted_at, UTC) + timedelta(seconds=self.plan.dial_seconds + seconds)

    def awaits(self, kind: EventKind) -> asyncio.Event:
        """What is set once the first event of this kind was answered, or when the session's end was told."""
        event = asyncio.Event()
        self._awaited += ((kind, event),)
        return event

    def has_told(self, kind: EventKind) -> None:
        """An event of this kind was answered; with the summary everything was told."""
        for awaited, event in self._awaited:
            if kind in {awaited, EventKind.VSS}:
                event.set()


def read_request(body: object) -> CallRequest:
    """What a decoded body asks for. Never raises."""
    if not is_object(body):
        return CallRequest()
    flow = body.get("callflow")
    actions = flow if is_list(flow) else ()
    params = _first_call(actions)
    return CallRequest(
        source=_text(params, "source"),
        destination=_text(params, "destination"),
        actions=actions,
        valid_until_text=_text(body, "validUntil"),
        client_request_id=_text(body, "clientRequestId"),
        client_batch_id=_text(body, "clientBatchId"),
    )


def _first_call(actions: Sequence[object]) -> Mapping[str, object]:
    for entry in actions:
        if is_object(entry) and entry.get("action") == Action.MAKE_CALL:
            params = entry.get("params")
            return params if is_object(params) else {}
    return {}


def _text(given: Mapping[str, object], key: str) -> str | None:
    value = given.get(key)
    return value if isinstance(value, str) else None
