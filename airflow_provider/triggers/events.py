"""The trigger that starts DAGs by the ends of calls: for the watcher of an asset (Airflow 3.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider.calls.identity import digest
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.voice import shared_queue
from voiceflow_worker import CallOutcome, CallQueue, VoiceflowError
from voiceflow_worker.core.outcomes.outbox import OutboxReader, outcome_of
from voiceflow_worker.core.ports.reading import get_jobs
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.progress import IncomingCalls, incoming_position
from voiceflow_worker.types import OutcomeKind

try:
    from airflow.triggers.base import BaseEventTrigger
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer
except ImportError as error:
    raise ImportError("VoiceEventTrigger needs Airflow 3.3 or later: earlier versions do not confirm events") from error

log = logging.getLogger(__name__)

Raw = dict[str, Any]

PAGE = 100
SETTLING = timedelta(seconds=3)
"""How long receivers may take to store an incoming call."""
AWAY = 10.0
"""Seconds until the store is tried again after an error."""


class VoiceEventTrigger(BaseEventTrigger):
    """A trigger for an `AssetWatcher`: each call that ends updates the asset, and so starts the DAGs scheduled by it.

    With `incoming`, each call to a number of the account does so instead, when it begins; its event has the caller's
    number `source`, the number `destination`, the `session_id` and `at`. `voiceflow serve` must get its events.

    By default all calls of the queue count; with `batch_id`, those of a batch; with `answers`, those whose person gave
    one of these answers in a menu. It begins with the calls that end from its first run on. Its position is kept in the
    store of the calls, and moves when Airflow has stored an event: so each call is reported at least once, also after
    a crash. A trigger with other arguments is another one, and begins anew.

    An event has the `id` of the outcome, which is the same if it is repeated, the `job_id`, `batch_id` and `unique_key`
    of the call, its `state` and `answer`, and the time `at`. It has no phone number and no text, because Airflow keeps
    events. Only the triggerer reads the store, and several DAGs may watch one asset.
    """

    def __init__(
        self,
        *,
        batch_id: str | None = None,
        answers: Sequence[str] | None = None,
        incoming: bool = False,
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        poll_interval: float = 2.0,
    ) -> None:
        super().__init__()
        self.batch_id = batch_id
        self.answers = None if answers is None else list(answers)
        if incoming and not (batch_id is None and answers is None):
            raise ValueError("incoming calls belong to no batch and have no answers: leave batch_id and answers out")
        self.incoming = incoming
        self.voiceflow_conn_id = voiceflow_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the triggerer."""
        arguments = {
            "batch_id": self.batch_id,
            "answers": self.answers,
            "incoming": self.incoming,
            "voiceflow_conn_id": self.voiceflow_conn_id,
            "poll_interval": self.poll_interval,
        }
        return "airflow_provider.triggers.events.VoiceEventTrigger", arguments

    def shared_stream_key(self) -> Hashable:
        """Return the name of the reader. Airflow confirms the events of shared streams alone, so this is one."""
        return _reader_name(self.serialize()[1])

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the reader of what this trigger wants."""
        return CallEvents(kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Raw]) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each call that the reader gives."""
        async for event in shared_stream:
            yield TriggerEvent(event)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Not used: the triggerer calls `filter_shared_stream`."""
        raise NotImplementedError("this trigger belongs to the watcher of an asset")
        yield TriggerEvent(None)  # pyright: ignore[reportUnreachable]


class CallEvents(SharedStreamProducer):
    """The reader of what a trigger wants. Its position is stored once Airflow has stored the events before it."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self._wanted = wanted
        self._reader: EndedCalls | ArrivedCalls | None = None
        self._unconfirmed = 0
        self._position: Any = None

    async def open_stream(self) -> AsyncIterator[tuple[Raw, Any]]:
        """Yield each event with its position, without end. If the store fails, begin again at the stored position."""
        hook = VoiceFlowHook(self._wanted["voiceflow_conn_id"])
        while True:
            try:
                async with shared_queue(hook) as queue:
                    kind = ArrivedCalls if self._wanted.get("incoming") else EndedCalls
                    reader = self._reader = kind(queue, self._wanted)
                    await reader.open()
                    while True:
                        for event, position in await reader.page():
                            self._unconfirmed += 1
                            yield event, position
                        if not self._unconfirmed:
                            await reader.save_here()
                        is_scanning = reader.is_behind and not self._unconfirmed
                        await asyncio.sleep(0 if is_scanning else self._wanted["poll_interval"])
            except VoiceflowError as error:
                log.warning("the events of calls cannot be read; the trigger tries again: %s", error)
                await asyncio.sleep(AWAY)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Store the position of the last of these events. If Airflow failed to store one, they are given again."""
        if not all(item.outcome.is_clean for item in batch):
            raise RuntimeError("Airflow has not stored the event of a call; the trigger begins again before it")
        self._unconfirmed -= len(batch)
        last = batch[-1].broker_payload
        self._position = last if self._position is None else max(self._position, last)
        if self._reader is not None:
            await self._reader.save(self._position)


class EndedCalls:
    """Reads the calls of a queue that have ended."""

    def __init__(self, queue: CallQueue, wanted: Mapping[str, Any]) -> None:
        self._store = queue.store
        self._wanted = wanted
        name = f"airflow/{_reader_name(wanted)}/{queue.name}"
        self._outbox = OutboxReader(queue.store, queue.name, name=name, since=queue.store.clock.now())
        self.open = self._outbox.open
        self.save = self._outbox.save

    async def save_here(self) -> None:
        """Store the position of the last event that was read."""
        await self.save(self._outbox.position)

    @property
    def is_behind(self) -> bool:
        """Whether there may be more to read."""
        return self._outbox.is_behind

    async def page(self) -> list[tuple[Raw, int]]:
        """Return the next events that are wanted, with their positions."""
        events = await self._outbox.page()
        jobs = await get_jobs(self._store, [event.job_id for event in events])
        outcomes = [outcome_of(event, jobs[event.job_id]) for event in events if event.job_id in jobs]
        return [(_shown(outcome), outcome.sequence) for outcome in outcomes if self._is_wanted(outcome)]

    def _is_wanted(self, outcome: CallOutcome) -> bool:
        batch_id, answers = self._wanted.get("batch_id"), self._wanted.get("answers")
        is_in_batch = batch_id is None or outcome.job.batch_id == batch_id
        is_answered = answers is None or outcome.job.answer in answers
        return outcome.kind is OutcomeKind.ENDED and is_in_batch and is_answered


class ArrivedCalls:
    """Reads the incoming calls of a store."""

    def __init__(self, queue: CallQueue, wanted: Mapping[str, Any]) -> None:
        self._clock = queue.store.clock
        self._calls = IncomingCalls(queue.store)
        self._positions = text_records(queue.store, "incoming-position")
        self._name = f"airflow/{_reader_name(wanted)}"
        self._position = ""
        self._saved = ""
        self.is_behind = True

    async def open(self) -> None:
        """Go to the stored position; a new reader begins now."""
        stored = (await self._positions.get([self._name])).get(self._name)
        self._position = self._saved = stored or ""
        if stored is None:
            self._position = incoming_position(self._clock.now())
            await self.save_here()

    async def page(self) -> list[tuple[Raw, str]]:
        """The next calls with their positions, but not the newest: another receiver may still store one before."""
        settled = incoming_position(self._clock.now() - SETTLING)
        found = await self._calls.after(self._position, limit=PAGE)
        calls = [(position, call) for position, call in found if position < settled]
        self.is_behind = len(calls) == PAGE
        self._position = calls[-1][0] if calls else self._position
        return [
            (
                {
                    "id": call.session_id,
                    "session_id": call.session_id,
                    "source": call.source,
                    "destination": call.destination,
                    "at": call.at.isoformat(),
                },
                position,
            )
            for position, call in calls
        ]

    async def save(self, position: str) -> None:
        """Store a new position."""
        if position != self._saved:
            await self._positions.put({self._name: position})
        self._saved = position

    async def save_here(self) -> None:
        """Store the position of the last call that was read."""
        await self.save(self._position)


def _shown(outcome: CallOutcome) -> Raw:
    job = outcome.job
    return {
        "id": outcome.id,
        "job_id": job.id,
        "batch_id": job.batch_id,
        "unique_key": job.unique_key,
        "state": outcome.state.value,
        "answer": job.answer,
        "at": outcome.at.isoformat(),
    }


def _reader_name(wanted: Mapping[str, Any]) -> str:
    """Return a name that is the same for the same connection and the same calls."""
    calls = (wanted.get("batch_id"), wanted.get("answers"), bool(wanted.get("incoming")))
    return digest(wanted["voiceflow_conn_id"], *calls)[:24]
