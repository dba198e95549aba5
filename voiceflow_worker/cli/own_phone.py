"""`voiceflow doctor --call`: a test call to the user's own phone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.cli.call_steps import Step, failed, steps_of
from voiceflow_worker.cli.checks.diagnosis import Level
from voiceflow_worker.cli.checks.queue import resume_of
from voiceflow_worker.cli.opening import opened_queue
from voiceflow_worker.cli.sending import worker_of
from voiceflow_worker.cli.stopping import signals_to
from voiceflow_worker.cli.voice import voice_client
from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError, TooLateError
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.phone import is_e164, normalise
from voiceflow_worker.model.text.duration import write_duration

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings

BATCH = "doctor"
TEXT = "This is a test call of voiceflow worker. If you hear this, your calls work. Goodbye."
VALID_FOR = timedelta(minutes=2)
SUMMARY_WITHIN = timedelta(minutes=5)
"""How long a summary is waited for: ringing takes a minute and a half, the text ten seconds, the rest is patience."""
LOOK_EVERY = 0.1
RECEIVER_EVERY = 2.0
TURN_AFTER = 5.0
"""Seconds in the queue after which a call that has a free number is said to wait for its turn."""

_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
_NOT_LEFT = frozenset({JobState.QUEUED, JobState.LEASED})

Tell = Callable[[Step], None]


def number_to_call(text: str) -> str:
    """The number in E.164 form. Raises InvalidInputError for one without its plus and country code."""
    number = "".join(sign for sign in text if sign not in " -.()")
    if not number.startswith("+") or not is_e164(number):
        raise InvalidInputError(
            f"--call {text}: write the number of your phone with a plus and its country code, such as +6581234567"
        )
    return number


async def call_own_phone(settings: Settings, number: str, *, tell: Tell, without_outcome: bool) -> bool:
    """Call `number` once, and report each step as it happens; returns whether the call was answered.

    The first SIGINT or SIGTERM takes the call back, unless it has left; the second does not wait for a POST in flight.
    Raises StoreError, VoiceError, SettingsError.
    """
    listens = settings.policy().outcomes is OutcomeSource.WEBHOOK and not without_outcome
    voice = voice_client(settings)
    async with opened_queue(settings, makes=True) as calls, voice:
        gates = await calls.store.control.gates(calls.name)
        batch = _batch(gates)
        obstacle = await _obstacle(calls, settings, gates, batch=batch, listens=listens)
        if obstacle is not None:
            tell(obstacle)
            return False
        worker = await _worker(settings, calls.store, voice, batch=batch)
        stop = anyio.Event()

        def stopped(_count: int) -> None:
            stop.set()
            worker.stop()

        async with signals_to(stopped):
            job = await _enqueued(calls, settings, voice, number, batch=batch, tell=tell)
            if job is None:
                return False
            return await _Watch(calls, worker, job, tell=tell, stop=stop, listens=listens).call()


def _batch(gates: Iterable[Gate]) -> str:
    """The batch of the call: `doctor`, and another one where that was cancelled for good."""
    cancelled = {gate.name for gate in gates if gate.scope is GateScope.BATCH and gate.state is GateState.CANCELLED}
    names = (BATCH if number == 1 else f"{BATCH}-{number}" for number in count(1))
    return next(name for name in names if name not in cancelled)


async def _obstacle(
    calls: CallQueue, settings: Settings, gates: Iterable[Gate], *, batch: str, listens: bool
) -> Step | None:
    """What would keep the call from leaving, or its outcome from coming; None if nothing is known to."""
    now = calls.store.clock.now()
    if settings.source is None:
        remedy = "set VOICEFLOW_SOURCE to a number that `voiceflow account numbers` lists"
        return failed("not called", now, "the source number is not set", remedy=remedy)
    gate = _hold(gates, batch=batch, at=now)
    if gate is not None:
        return _held(gate, at=now)
    if listens and not await Heartbeats(calls.store).has_receiver():
        return failed(
            "not called",
            now,
            f"no receiver listens for {calls.store.url}, so the outcome of the call would be lost",
            remedy="run `voiceflow serve --register https://…` with this store in another terminal, then this again; "
            "or call with --without-outcome",
        )
    return None


def _hold(gates: Iterable[Gate], *, batch: str, at: datetime) -> Gate | None:
    """The hold that the call stands behind."""
    for gate in gates:
        concerned = gate.scope is GateScope.QUEUE or gate.name == batch
        if concerned and gate.is_closed(at=at):
            return gate
    return None


def _held(gate: Gate, *, at: datetime) -> Step:
    reason = f": {gate.reason}" if gate.reason else ""
    remedy = f"see to its reason, then {resume_of(gate)}, and run this again"
    return failed("not called", at, f"{gate_in_words(gate)}{reason}", remedy=remedy)


async def _worker(settings: Settings, store: Store, voice: VoiceClient, *, batch: str) -> Worker:
    """A worker for this batch alone. The queue's rate and limits stay as they are."""
    limits = await store.control.limits(settings.queue)
    if limits is not None:
        as_they_are = {"rate": limits.rate, "burst": limits.burst, "max_active": limits.max_active}
        settings = settings.model_copy(update=as_they_are)
    return worker_of(settings, store, voice, batch_id=batch)


async def _enqueued(
    calls: CallQueue, settings: Settings, voice: VoiceClient, number: str, *, batch: str, tell: Tell
) -> Job | None:
    """The call, handed in; None after telling why it was not."""
    now = calls.store.clock.now()
    left = await calls.find(states=_NOT_LEFT, batch_id=batch, destination=number)
    for each in left:
        # Of a run that was killed. Left alone, it would ring the same phone beside this one.
        with suppress(TooLateError):
            await calls.cancel(each.id, reason="left over from a `voiceflow doctor --call` that was killed")
            message = f"{each.id}, left over from a run that was killed, was cancelled"
            tell(Step(name="cancelled", at=now, message=message, level=Level.WARNING))
    profile = settings.voice_profile or await _voice(voice)
    if profile is None:
        remedy = "ask 8x8 for a voice, or set VOICEFLOW_VOICE_PROFILE"
        tell(failed("not called", now, "the sub-account does not have a voice", remedy=remedy))
        return None
    try:
        flow = CallFlow.call(number, source=normalise(settings.source or ""))
        flow = flow.say(TEXT, voice_profile=profile).hangup()
        return await calls.enqueue(flow, batch_id=batch, valid_for=VALID_FOR, redial=_ONCE)
    except InvalidInputError as error:
        tell(failed("not called", now, str(error)))
        return None


async def _voice(voice: VoiceClient) -> str | None:
    """The first voice of the account, an English one if there is any: the text is English."""
    profiles = await voice.speech_profiles()
    english = [each for each in profiles if (each.locale or each.code).casefold().startswith("en")]
    return next((each.code for each in (*english, *profiles)), None)


class _Watch:
    """A call in progress; each of its steps is reported once."""

    def __init__(
        self, calls: CallQueue, worker: Worker, job: Job, *, tell: Tell, stop: anyio.Event, listens: bool
    ) -> None:
        self._calls = calls
        self._clock = calls.store.clock
        self._worker = worker
        self._job = job
        self._tell = tell
        self._told: set[tuple[str, str]] = set()
        self._stop = stop
        self._listens = listens
        self._progress = CallProgress(calls.store)
        self._heartbeats = Heartbeats(calls.store)
        self._began = self._clock.monotonic()
        self._taken: float | None = None
        self._heard_of_receiver = self._began

    async def call(self) -> bool:
        """Send the call and watch it until it has ended, or nothing more is to be seen; whether it was answered."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._worker.run)
                await self._watch()
                self._worker.stop()
        finally:
            with anyio.CancelScope(shield=True):
                await self._take_back()
        return self._job.state is JobState.COMPLETED

    async def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                await self._look()
                if self._job.state.is_final or await self._is_over():
                    return
            except StoreUnavailableError as error:
                # A POST may be in flight, and its answer must be stored: the worker waits for the store, and so does
                # this.
                self._tell_once(self._warning("waits", f"the store is away: {error}"))
            with anyio.move_on_after(LOOK_EVERY):
                await self._stop.wait()

    async def _look(self) -> None:
        self._job = await self._calls.get(self._job.id)
        heard = await self._progress.of_job(self._job)
        for step in steps_of(self._job, heard=heard, now=self._clock.now()):
            self._tell_once(step)

    async def _is_over(self) -> bool:
        """Whether to stop waiting; reports why."""
        now, passed = self._clock.now(), self._clock.monotonic()
        match self._job.state:
            case JobState.QUEUED:
                gates = await self._calls.store.control.gates(self._calls.name)
                gate = _hold(gates, batch=self._job.batch_id or BATCH, at=now)
                if gate is not None:
                    self._tell_once(_held(gate, at=now))
                    return True
                if self._job.reason is None and passed - self._began > TURN_AFTER:
                    self._tell_once(
                        self._warning("waits", "other calls use up the rate of the queue, or its --max-active")
                    )
            case JobState.SUBMITTED | JobState.IN_DOUBT:
                self._taken = passed if self._taken is None else self._taken
                return await self._is_out_of_hearing(passed)
            case _:
                pass
        return False

    async def _is_out_of_hearing(self, passed: float) -> bool:
        """Whether no summary is to be waited for."""
        show = f"`voiceflow calls show {self._job.id}`"
        if not self._listens:
            message = "no receiver listens, so the outcome is unknown"
            self._tell_once(self._warning("no outcome", message, remedy=f"with a receiver, {show} shows it"))
            return True
        if passed - (self._taken or passed) > SUMMARY_WITHIN.total_seconds():
            within = write_duration(SUMMARY_WITHIN)
            message = f"none came within {within}: 8x8 did not reach the receiver, or was turned away"
            remedy = f"`voiceflow doctor` looks at the webhook; a summary that comes later is in {show}"
            self._tell_once(failed("no summary", self._clock.now(), message, remedy=remedy))
            return True
        if passed - self._heard_of_receiver > RECEIVER_EVERY:
            self._heard_of_receiver = passed
            if not await self._heartbeats.has_receiver():
                remedy = f"run `voiceflow serve`; a summary that comes later is in {show}"
                message = "the receiver went away before it came"
                self._tell_once(failed("no summary", self._clock.now(), message, remedy=remedy))
                return True
        return False

    async def _take_back(self) -> None:
        """Cancel the call if it was not sent yet, and report its last state."""
        self._job = await self._calls.get(self._job.id)
        if self._job.state in _NOT_LEFT:
            with suppress(TooLateError):
                await self._calls.cancel(self._job.id, reason="`voiceflow doctor --call` ended before it left")
        await self._look()
        if self._stop.is_set() and not self._job.state.is_final:
            remedy = f"`voiceflow calls show {self._job.id}` shows how it ends"
            message = f"it is too late to take it back: it is {self._job.state.value}, and the phone may ring"
            self._tell_once(self._warning("stopped", message, remedy=remedy))

    def _warning(self, name: str, message: str, *, remedy: str | None = None) -> Step:
        return Step(name=name, at=self._clock.now(), message=message, level=Level.WARNING, remedy=remedy)

    def _tell_once(self, step: Step) -> None:
        if step.is_same_as not in self._told:
            self._told.add(step.is_same_as)
            self._tell(step)
