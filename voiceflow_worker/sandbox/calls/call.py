"""A call of the sandbox, outgoing or incoming."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from voiceflow_worker.model.flows.actions import Action, read_action
from voiceflow_worker.model.flows.rules import read_valid_until
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.calls.ledger import CallEntry, Ring
from voiceflow_worker.sandbox.calls.outcomes import PlannedCall, text
from voiceflow_worker.sandbox.orders import Conduct, EventKind, Script


def new_id() -> str:
    """Return a new id in the form that the service uses."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRequest:
    """The contents of a body, read without checks. Missing or wrong fields are None or empty."""

    source: str | None = None
    destination: str | None = None
    actions: Sequence[object] = ()
    valid_until_text: str | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None

    @property
    def valid_until(self) -> datetime | None:
        """The time after which the call must not be placed."""
        return read_valid_until(self.valid_until_text)


@dataclass(slots=True, kw_only=True)
class SessionLeg:
    """One leg of a session, to or from one person.

    Its times are in simulated seconds since dialling. `status` is the status with which the leg ends. `ring` has the
    real times at which the phone rang and the line became free.
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

    def rings(self, entry: CallEntry) -> None:
        """Record that the phone begins to ring, in this leg and in the entry of its call."""
        self.ring = Ring(destination=self.destination, rang_at=time.time())
        entry.rings.append(self.ring)

    def ends(self, *, ago: float = 0.0) -> None:
        """Record that the line has been free for `ago` seconds."""
        if self.ring is not None:
            self.ring.ended_at = time.time() - ago


@dataclass(slots=True, kw_only=True)
class Call:
    """A call in progress. `accepted_at` is in seconds since the epoch, and `plan` is the course of the call.

    `dialled_at` is on the sandbox's clock. It is None before dialling, and if the validity passed before dialling.
    `legs` has the legs that were dialled. `script` is the script of the person, if any.
    """

    request: FlowRequest
    sub_account: str
    accepted_at: float
    plan: PlannedCall
    entry: CallEntry
    script: Conduct | None = None
    dialled_at: datetime | None = None
    legs: list[SessionLeg] = field(default_factory=list[SessionLeg])
    last_action: Action = Action.MAKE_CALL
    client_action_id: str | None = None
    session_id: str = field(default_factory=new_id)
    call_flow_request_id: str = field(default_factory=new_id)
    after_summary: tuple[Callable[[], None], ...] = ()
    """Functions to call when the summary has been delivered."""
    _awaited: tuple[tuple[EventKind, asyncio.Event], ...] = ()

    @property
    def first_leg(self) -> SessionLeg:
        """The leg of the person who is called, or who calls."""
        return self.legs[0]

    @property
    def summary_script(self) -> Script | None:
        """The script with options for the summary, if any."""
        return self.script if isinstance(self.script, Script) else None

    @property
    def began(self) -> datetime:
        """The time at which the session began."""
        return datetime.fromtimestamp(self.accepted_at, UTC)

    @property
    def end(self) -> datetime:
        """The simulated time at which the session ends, by its plan."""
        return self.moment(self.plan.ring_seconds + self.plan.talk_seconds)

    def moment(self, seconds: float) -> datetime:
        """Return the simulated time `seconds` after dialling. With a speed above 1, it is ahead of the clock."""
        return self.began + timedelta(seconds=self.plan.dial_seconds + seconds)

    def awaits(self, kind: EventKind) -> asyncio.Event:
        """Return a flag that is set by the first answer to an event of this kind, or by the summary's delivery."""
        event = asyncio.Event()
        self._awaited += ((kind, event),)
        return event

    def has_told(self, kind: EventKind) -> None:
        """Record that an event of this kind was answered. The summary, the last event, ends all waits for events."""
        for awaited, event in self._awaited:
            if kind in {awaited, EventKind.VSS}:
                event.set()


def read_request(body: object) -> FlowRequest:
    """Return the contents of a decoded body. Never raises."""
    if not is_object(body):
        return FlowRequest()
    flow = body.get("callflow")
    actions = flow if is_list(flow) else ()
    params = _first_call(actions)
    return FlowRequest(
        source=text(params, "source"),
        destination=text(params, "destination"),
        actions=actions,
        valid_until_text=text(body, "validUntil"),
        client_request_id=text(body, "clientRequestId"),
        client_batch_id=text(body, "clientBatchId"),
    )


def _first_call(actions: Sequence[object]) -> Mapping[str, object]:
    for action, params in map(read_action, actions):
        if action is Action.MAKE_CALL:
            return params
    return {}
