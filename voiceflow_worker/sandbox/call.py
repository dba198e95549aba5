"""A call of the sandbox, and its entry in the ledger of all requested calls."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from voiceflow_worker.model.flows.actions import Action, read_action
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.orders import Script
from voiceflow_worker.sandbox.outcomes import PlannedCall, text

_TIMES = frozenset({"at", "rang_at", "ended_at"})
"""The fields that are in seconds since the epoch."""


@dataclass(slots=True, kw_only=True)
class Ring:
    """The ringing of a phone, from `rang_at` to `ended_at` (None while the line is in use), in epoch seconds."""

    destination: str | None
    rang_at: float
    ended_at: float | None = None


@dataclass(slots=True, kw_only=True)
class LedgerEntry:
    """The entry of one POST to the callflows endpoint.

    `at` is when the call was accepted or refused, in epoch seconds by the true clock. `answered_with` is the answer to
    the client. `http_status` is None if the answer was not HTTP. `heard` has the texts, and the addresses of files,
    that the person has heard so far. `pressed` has the keys that counted, one entry for each question. `bridged_to` is
    the second party, once it has answered. `rings` has all phones that rang for the call, with true times. `seconds` is
    the duration of the session by its summary; None until it has ended.
    """

    at: float
    source: str | None = None
    destination: str | None = None
    session_id: str | None = None
    rang: bool = False
    outcome: str | None = None
    heard: Sequence[str] = ()
    pressed: Sequence[str | None] = ()
    bridged_to: str | None = None
    rings: list[Ring] = field(default_factory=list[Ring])
    seconds: float | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None
    valid_until: str | None = None
    answered_with: str = ""
    http_status: int | None = None

    def as_json(self) -> dict[str, object]:
        """Return the fields as JSON. Times are RFC 3339 in UTC; `at_seconds` is `at` in epoch seconds."""
        return {
            "at_seconds": self.at,
            **_with_moments(asdict(self)),
            "rings": [*map(_with_moments, map(asdict, self.rings))],
        }


class Ledger(list[LedgerEntry]):
    """All entries of the ledger, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry. The caller may fill in the fields of the answer later."""
        super().append(entry)
        self._grown.set()

    async def reached(self, count: int) -> None:
        """Wait until there are this many entries."""
        while len(self) < count:
            self._grown.clear()
            await self._grown.wait()


def _with_moments(given: Mapping[str, Any]) -> dict[str, object]:
    return {name: moment(each) if name in _TIMES and each is not None else each for name, each in given.items()}


def moment(seconds: float) -> str:
    """Return a time, given in epoch seconds, as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id() -> str:
    """Return a new id in the form that the service uses."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRequest:
    """The contents of a body, read without checks. Missing or wrong fields are None or empty."""

    source: str | None = None
    destination: str | None = None
    actions: Sequence[object] = ()
    valid_until: str | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None


@dataclass(slots=True, kw_only=True)
class SessionLeg:
    """One leg of a session, to one person.

    Its times are in simulated seconds since dialling. `status` is the status with which the leg ends. `ring` has the
    real times at which the phone rang and the line became free.
    """

    source: str | None
    destination: str | None
    dialled: float = 0.0
    connected: float | None = None
    ended: float = 0.0
    status: SessionStatus = SessionStatus.COMPLETED
    ring: Ring | None = None
    call_id: str = field(default_factory=new_id)

    def rings(self, entry: LedgerEntry) -> None:
        """Record that the phone begins to ring, in this leg and in the entry of its call."""
        self.ring = Ring(destination=self.destination, rang_at=time.time())
        entry.rings.append(self.ring)

    def ends(self) -> None:
        """Record that the line is free."""
        if self.ring is not None:
            self.ring.ended_at = time.time()


@dataclass(slots=True, kw_only=True)
class Call:
    """A call in progress. `accepted_at` is in seconds since the epoch, and `plan` is the course of the call.

    `dialled_at` is that moment on the sandbox's clock. `legs` has the legs that were dialled. `script` is the script of
    the person, if any.
    """

    request: FlowRequest
    sub_account: str
    accepted_at: float
    dialled_at: datetime
    plan: PlannedCall
    entry: LedgerEntry
    script: Script | None = None
    legs: list[SessionLeg] = field(default_factory=list[SessionLeg])
    last_action: Action = Action.MAKE_CALL
    client_action_id: str | None = None
    session_id: str = field(default_factory=new_id)
    call_flow_request_id: str = field(default_factory=new_id)

    @property
    def first_leg(self) -> SessionLeg:
        """Leg of the person who is called."""
        return self.legs[0]

    @property
    def began(self) -> datetime:
        """Time at which the session began."""
        return datetime.fromtimestamp(self.accepted_at, UTC)

    @property
    def end(self) -> datetime:
        """Simulated time at which the session ends, by its plan."""
        return self.moment(self.plan.ring_seconds + self.plan.talk_seconds)

    def moment(self, seconds: float) -> datetime:
        """Return the simulated time `seconds` after dialling. With a speed above 1, it is ahead of the clock."""
        return self.began + timedelta(seconds=seconds)


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
        valid_until=text(body, "validUntil"),
        client_request_id=text(body, "clientRequestId"),
        client_batch_id=text(body, "clientBatchId"),
    )


def _first_call(actions: Sequence[object]) -> Mapping[str, object]:
    for action, params in map(read_action, actions):
        if action is Action.MAKE_CALL:
            return params
    return {}
