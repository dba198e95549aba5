"""What is known of a call while it goes on: its legs, failures of its menus, and the calls that come in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TypeVar

from voiceflow_worker.core.base.record_set import RecordSet, json_records, text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.events import (
    ActionStatus,
    CallAction,
    CallStatus,
    Direction,
    fold_name,
)
from voiceflow_worker.model.reports.outcome import CallLeg

STATES = "call-progress"
FAILURES = "menu-failure"

ANSWERED = "session-answered"
"""Namespace of the sessions in which somebody answered, as actions without keys say. Keys are stored by themselves."""

INCOMING = "incoming-call"
"""Namespace of the calls to numbers of the account, by session: an erasure finds by them what is stored of a caller."""

STATES_KEPT = timedelta(days=7)
MOST_OF_A_SESSION = 500
"""The most events of one session that are read; a call has a dozen."""


_AFTER_RINGING = frozenset({200, 408, 480, 486, 487, 600, 603})
"""SIP codes of a leg that ended on its phone: no answer, switched off, busy, cancelled, declined (RFC 3261 §21)."""


_FIRST_FAILURE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class LegState:
    """A new state of a leg of a call. `status` is in 8x8's spelling; `at` is the event's time, else its arrival."""

    session_id: str
    at: datetime
    status: str | None = None
    call_id: str | None = None
    direction: str | None = None
    source: str | None = None
    destination: str | None = None
    seconds: float | None = None
    sip_code: int | None = None

    @property
    def shows_ringing(self) -> bool:
        """True if a phone rang, or may have rung, by this state."""
        status = fold_name(self.status or "")
        if status == "callinitiated":
            return 180 <= (self.sip_code or 0) < 200
        return status != "calldisconnected" or bool(self.seconds) or self.sip_code in _AFTER_RINGING

    @property
    def failure(self) -> CallLeg | None:
        """Leg with the SIP code of its failure, if this is the end of a leg that was never connected."""
        ended = fold_name(self.status or "") == "calldisconnected" and not self.seconds
        if not ended or (self.sip_code or 0) < _FIRST_FAILURE:
            return None
        return CallLeg(call_id=self.call_id, source=self.source, destination=self.destination, sip_code=self.sip_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuFailure:
    """A menu that could not go on in a call: its name, if it is known, and the reason."""

    session_id: str
    at: datetime
    menu: str = ""
    reason: str


@dataclass(frozen=True, slots=True)
class SessionProgress:
    """The progress of some sessions: states in order of their time, failures of menus."""

    states: tuple[LegState, ...] = ()
    failures: tuple[MenuFailure, ...] = ()


Progress = TypeVar("Progress", LegState, MenuFailure)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """A call to a number of the account. `source` is the caller's number."""

    session_id: str
    source: str | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFailure:
    """When a menu could not go on for the last time, and in which call."""

    menu: str
    at: datetime
    job_id: str | None


def last_failures(store: Store) -> RecordSet[LastFailure]:
    """Return the last failure of each menu within a day, by its name. Raises StoreError."""
    return json_records(store, "menu-failed", LastFailure, keep_for=timedelta(days=1), durable=False)


class CallProgress:
    """Stores the events of sessions and finds them again. Events may be repeated, and may come in any order.

    Methods raise StoreError; it is then safe to call them again.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._states = json_records(store, STATES, LegState, keep_for=STATES_KEPT)
        self._failures = json_records(store, FAILURES, MenuFailure, keep_for=STATES_KEPT, durable=False)
        self._answered = text_records(store, ANSWERED, keep_for=STATES_KEPT)
        self._incoming = json_records(store, INCOMING, IncomingCall, keep_for=STATES_KEPT)

    async def status(self, event: CallStatus) -> LegState | None:
        """Store a call status event (VCS), and return it. An event without a session is not stored: None."""
        if event.session_id is None:
            return None
        await self._note_incoming(event)
        state = LegState(
            session_id=event.session_id,
            at=event.timestamp or self._clock.now(),
            status=event.call_status,
            call_id=event.call_id,
            direction=event.direction.value if event.direction is not None else None,
            source=event.source,
            destination=event.destination,
            seconds=event.duration.total_seconds() if event.duration is not None else None,
            sip_code=event.sip_code,
        )
        same = (event.event_id, event.call_id, event.call_status, event.timestamp)
        await _keep(self._states, state, same)
        return state

    async def action(self, event: CallAction) -> bool:
        """Store the incoming call that a call action event (VCA) begins, or that somebody answered our call.

        The actions themselves are the menus' own.
        """
        await self._note_incoming(event)
        if event.session_id is not None and event.direction is not Direction.INBOUND and event.dtmf is None:
            await self._answered.put({event.session_id: ""})
        return True

    async def _note_incoming(self, event: CallStatus | CallAction) -> None:
        """Store the call that this event is about, unless an earlier event did, or it is no incoming call."""
        is_received = isinstance(event, CallAction) and event.call_status is ActionStatus.CALL_RECEIVED
        is_incoming = event.direction is Direction.INBOUND if event.direction is not None else is_received
        # Of the actions, only the first: each further key press would cost a round trip to the store.
        if event.session_id is not None and is_incoming and (is_received or isinstance(event, CallStatus)):
            call = IncomingCall(session_id=event.session_id, source=event.source, destination=event.destination)
            await self._incoming.add({event.session_id: call})

    async def shows_ringing(self, session_id: str) -> bool:
        """Return whether an event of this session says that a phone rang, or that somebody answered."""
        if await self._answered.get([session_id]):
            return True
        return any(state.shows_ringing for state in await _of_session(self._states, session_id))

    async def failures(self, session_id: str | None) -> list[CallLeg]:
        """Return the legs of a session that failed, with their SIP codes, as far as events name them."""
        states = await _of_session(self._states, session_id) if session_id is not None else []
        return [leg for state in states if (leg := state.failure) is not None]

    async def failure(self, session_id: str, *, menu: str, reason: str) -> bool:
        """Store that a menu could not go on."""
        failed = MenuFailure(session_id=session_id, at=self._clock.now(), menu=menu, reason=reason)
        return await _keep(self._failures, failed, (menu, reason))

    async def of(self, session_ids: Iterable[str]) -> SessionProgress:
        """Return the progress of these sessions."""
        states: list[LegState] = []
        failures: list[MenuFailure] = []
        for session_id in dict.fromkeys(session_ids):
            states += await _of_session(self._states, session_id)
            failures += await _of_session(self._failures, session_id)
        states.sort(key=lambda state: state.at)
        return SessionProgress(tuple(states), tuple(failures))

    async def of_job(self, job: Job) -> SessionProgress:
        """Return the progress of all sessions of a job."""
        named = [(post.session_id, post.outcome.session_id if post.outcome else None) for post in job.posts]
        return await self.of(session_id for pair in named for session_id in pair if session_id)


async def _keep(records: RecordSet[Progress], value: Progress, same: Sequence[object]) -> bool:
    """Store an event once, even if it is repeated. The values in `same` identify the event."""
    await records.within(value.session_id).add({digest_of(same): value})
    return True


async def _of_session(records: RecordSet[Progress], session_id: str) -> list[Progress]:
    page = await records.within(session_id).page(limit=MOST_OF_A_SESSION)
    return [value for _, value in page if value is not None]


def digest_of(same: Sequence[object]) -> str:
    """Return a short text that is the same for the same values."""
    return blake2b(json.dumps(same, default=str).encode(), digest_size=12).hexdigest()
