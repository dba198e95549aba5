"""Progress: what 8x8 tells of a call beside its summary. States of its legs (VCS), and recordings that are ready (VRU).

Kept as records beside the job, by session: no event of these commits a job, so a call whose phone is ringing is not
moved by it, and a session that no POST has named yet is told of all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import quote

from voiceflow_worker.core.numbers.health import NumberHealth
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.events import CallStatus, NumberUpdate, RecordingReady

STATES = "call-progress"
RECORDINGS = "recording"

STATES_KEPT = timedelta(days=7)
RECORDINGS_KEPT = timedelta(days=30)
MOST_OF_A_SESSION = 500
"""How many events of one session are read; a call has a dozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegState:
    """A leg of a call has changed its state. `status` is 8x8's own spelling, `at` its time, or else ours of hearing."""

    session_id: str
    at: datetime
    status: str | None = None
    call_id: str | None = None
    direction: str | None = None
    source: str | None = None
    destination: str | None = None
    seconds: float | None = None
    sip_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording of a call: its state in 8x8's spelling, and, once it was uploaded, where it is."""

    session_id: str
    at: datetime
    recording_id: str | None = None
    status: str | None = None
    seconds: float | None = None
    file_path: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of some sessions: states in order of their time, and one entry for each recording."""

    states: tuple[LegState, ...] = ()
    recordings: tuple[Recording, ...] = ()


Told = TypeVar("Told", LegState, Recording)


@dataclass(frozen=True, slots=True)
class _Record:
    namespace: str
    key: str
    value: str


class CallProgress:
    """Keeps the events of sessions and finds them again. The same event again, and any order, are harmless.

    States are kept for `states_for`, recordings for `recordings_for`. Events that come together are written together.
    """

    def __init__(
        self, store: Store, *, states_for: timedelta = STATES_KEPT, recordings_for: timedelta = RECORDINGS_KEPT
    ) -> None:
        self._records = store.records
        self._number_health = NumberHealth(store)
        self._clock = store.clock
        self._kept_for = {STATES: states_for, RECORDINGS: recordings_for}
        self._batcher: Batcher[_Record, bool] = Batcher(self._write)

    async def status(self, event: CallStatus) -> bool:
        """Keep what a call status event (VCS) tells; False if it names no session, and so cannot be found again.

        Raises StoreError; asking again is safe.
        """
        if event.session_id is None:
            return False
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
        return await self._keep(STATES, event.session_id, same, asdict(state))

    async def recording(self, event: RecordingReady) -> bool:
        """Keep what a recording event (VRU) tells; False if it names no session. Raises StoreError."""
        if event.session_id is None:
            return False
        recording = Recording(
            session_id=event.session_id,
            at=self._clock.now(),
            recording_id=event.recording_id,
            status=event.status,
            seconds=event.duration.total_seconds() if event.duration is not None else None,
            file_path=event.file_path,
        )
        same = (event.recording_id, event.status, event.file_path)
        return await self._keep(RECORDINGS, event.session_id, same, asdict(recording))

    async def numbers(self, event: NumberUpdate) -> None:
        """Keep which numbers of the account are not Active (VNU). Raises StoreError."""
        await self._number_health.note(event)

    async def of(self, session_ids: Iterable[str]) -> Heard:
        """What was heard of these sessions. Raises StoreError."""
        states: list[LegState] = []
        recordings: list[Recording] = []
        for session_id in dict.fromkeys(session_ids):
            states += [_read_as(LegState, text) for text in await self._read(STATES, session_id)]
            recordings += [_read_as(Recording, text) for text in await self._read(RECORDINGS, session_id)]
        states.sort(key=lambda state: state.at)
        return Heard(tuple(states), _one_each(recordings))

    async def of_job(self, job: Job) -> Heard:
        """What was heard of all sessions of a job. Raises StoreError."""
        named = [(post.session_id, post.outcome.session_id if post.outcome else None) for post in job.posts]
        return await self.of(session_id for pair in named for session_id in pair if session_id)

    async def _keep(self, namespace: str, session_id: str, same: Sequence[object], told: Mapping[str, object]) -> bool:
        """Events in which `same` is the same are one."""
        mark = blake2b(json.dumps(same, default=str).encode(), digest_size=12).hexdigest()
        value = json.dumps({name: each for name, each in told.items() if each is not None}, default=datetime.isoformat)
        return await self._batcher.submit(_Record(namespace, _prefix(session_id) + mark, value))

    async def _write(self, told: Sequence[_Record]) -> list[bool | BaseException]:
        now = self._clock.now()
        for namespace, kept_for in self._kept_for.items():
            values: dict[str, str] = {}
            for each in told:
                if each.namespace == namespace:
                    values.setdefault(each.key, each.value)
            if values:
                await self._records.put_if_absent(namespace, values, expires_at=now + kept_for, now=now)
        return [True] * len(told)

    async def _read(self, namespace: str, session_id: str) -> list[str]:
        found = await self._records.scan(
            namespace, now=self._clock.now(), prefix=_prefix(session_id), limit=MOST_OF_A_SESSION
        )
        return [text for _, text in found]


def _prefix(session_id: str) -> str:
    """What the keys of a session begin with, and those of no other."""
    return f"{quote(session_id, safe='')}/"


def _read_as(kind: type[Told], text: str) -> Told:
    """What was kept; fields that a newer version has added are left out."""
    told: dict[str, Any] = json.loads(text)
    known: dict[str, Any] = {each.name: told[each.name] for each in fields(kind) if each.name in told}
    known["at"] = datetime.fromisoformat(told["at"]).astimezone(UTC)
    return kind(**known)


def _one_each(told: Iterable[Recording]) -> tuple[Recording, ...]:
    """One entry a recording. Order is not promised: one that says where the file is stands before one that does not."""
    found: dict[tuple[str, str | None], Recording] = {}
    for each in sorted(told, key=lambda recording: recording.at):
        name = (each.session_id, each.recording_id)
        before = found.get(name)
        if before is None or each.file_path is not None or before.file_path is None:
            found[name] = each if before is None else replace(each, seconds=each.seconds or before.seconds)
    return tuple(found.values())
