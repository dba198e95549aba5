"""One call, sent at once and watched until its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.core.audit import Actor, Interface, login_name
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.heartbeats import NO_RECEIVER, Heartbeats
from voiceflow_worker.core.progress import CallProgress, SessionProgress
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError, StoreUnavailableError, TooLateError, VoiceError
from voiceflow_worker.finding import Diagnosis, Level, failure, ok, warning
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.phone import aliases
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import rfc3339, write_duration
from voiceflow_worker.reporting.gates import closed_in_words, resume_of
from voiceflow_worker.reporting.story import one_line, story
from voiceflow_worker.service.doctor.account import summaries

if TYPE_CHECKING:
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings


VALID_FOR = timedelta(minutes=2)
SUMMARY_WITHIN = timedelta(minutes=5)
"""The longest wait for a summary: ample, as ringing takes up to a minute and a half, and the text ten seconds."""
LOOK_EVERY = 0.1
TURN_AFTER = 5.0
"""Seconds after which a call that is queued without a reason is reported to wait for the limits of its queue."""

_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
_NOT_LEFT = frozenset({JobState.QUEUED, JobState.LEASED})

_LISTEN = "to receive outcomes, set VOICEFLOW_OUTCOMES=webhook and run `voiceflow serve`"


@dataclass(frozen=True, slots=True)
class CallStep:
    """One step of a call, or the reason why the call does not go on."""

    name: str
    at: datetime
    result: Diagnosis

    def as_json(self) -> dict[str, object]:
        """The step for scripts."""
        result = self.result.as_json()
        del result["check"]
        return {"step": self.name, "at": rfc3339(self.at), **result}

    def as_line(self) -> str:
        """The step for people, with its remedy on a line of its own."""
        line = printable_line(f"{self.at.astimezone(UTC):%H:%M:%S}  {self.name:<10}  {self.result.message}")
        remedy = self.result.remedy
        return line if remedy is None else f"{line}\n{' ' * 22}-> {printable_line(remedy)}"


def steps_of(job: Job, *, heard: SessionProgress, now: datetime) -> list[CallStep]:
    """The story of this call up to `now`, and its state. `heard` has the states of its legs."""
    happened = [each for each in story(job, at=now, heard=heard).timeline if not each.is_technical]
    level = Level.WARNING if job.reason else Level.OK
    if job.state.is_final:
        level = Level.OK if job.state is JobState.COMPLETED else Level.FAILURE
    state = Diagnosis(level, one_line(job), _LISTEN if job.state is JobState.ACCEPTED else None)
    return [
        *(CallStep("call", each.at, ok(": ".join((each.line, *each.more)))) for each in happened),
        CallStep(job.state.value.replace("_", " "), now, state),
    ]


Tell = Callable[[CallStep], None]
Stops = Callable[[Callable[[int], None]], AbstractAsyncContextManager[None]]
"""A context that calls a function for each request to stop, with the number of requests so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCall:
    """The call that is placed. `command` is the command as people type it, for messages."""

    number: str
    text: str
    batch: str
    command: str


def number_to_call(text: str, *, place: str) -> str:
    """The number in E.164 form. Raises InvalidInputError for a number that is not certain without a country.

    `place` is the option or argument of the number, for the message.
    """
    try:
        return read_whole_number(text)
    except PhoneNumberError as error:
        raise InvalidInputError(
            f"{place} {error}: write the number with a plus and its country code, such as +6581234567"
        ) from None


async def place_call(
    calls: CallQueue,
    voice: VoiceClient,
    call: OneCall,
    *,
    settings: Settings,
    make_worker: Callable[[str], Awaitable[Worker]],
    tell: Tell,
    stops: Stops,
    without_outcome: bool = False,
) -> bool:
    """Place the call once, report each step as it happens, and return True if the call was answered.

    After the first request to stop, the call is cancelled if it has not been sent. After the second, a POST in flight
    is not awaited. Raises StoreError, VoiceError.
    """
    listens = settings.policy().outcomes is OutcomeSource.WEBHOOK and not without_outcome
    now = calls.store.clock.now()
    batch = await _batch(calls, call.batch)
    obstacle = await _obstacle(calls, settings, voice, await _hold(calls, batch=batch), listens=listens)
    if obstacle is not None:
        tell(CallStep("not called", now, obstacle))
        return False
    worker = await make_worker(batch)
    stop = anyio.Event()

    def stopped(_count: int) -> None:
        stop.set()
        worker.stop()

    async with stops(stopped):
        for left in await _left_over(calls, batch, call.number):
            # If this worker sent the old call too, the phone would ring twice.
            with suppress(TooLateError):
                await calls.cancel(left.id, reason=f"left over from a `{call.command}` that was killed", for_good=False)
                tell(CallStep("cancelled", now, warning(f"cancelled a call that a killed run left behind: {left.id}")))
        job = await _enqueued(calls, settings, voice, call, batch=batch)
        if isinstance(job, Diagnosis):
            tell(CallStep("not called", now, job))
            return False
        watch = _Watch(calls=calls, worker=worker, job=job, tell=tell, stop=stop, listens=listens, command=call.command)
        return await watch.call()


async def _left_over(calls: CallQueue, batch: str, number: str) -> list[Job]:
    """The unsent calls of this batch that killed runs left behind. They go to this number, in any of its spellings."""
    found: list[Job] = []
    for spelling in aliases(number):
        found += await calls.find(states=_NOT_LEFT, batch_id=batch, destination=spelling)
    return found


async def _batch(calls: CallQueue, usual: str) -> str:
    """The batch of the call: `usual`, or `usual-2` and so on if the batch `usual` was cancelled for good."""
    for number in count(1):
        name = usual if number == 1 else f"{usual}-{number}"
        gate = (await gates_at(calls.store, calls.name, [name])).get(name)
        if gate is None or gate.state is not GateState.CANCELLED:
            return name
    raise AssertionError("there are infinitely many names")


async def _hold(calls: CallQueue, *, batch: str | None) -> Diagnosis | None:
    """The hold of the queue or of the call's batch, if there is one."""
    at = calls.store.clock.now()
    for gate in (await gates_at(calls.store, calls.name, [None, batch])).values():
        if gate.keeps_back(batch, at=at):
            return failure(
                closed_in_words(gate), remedy=f"correct the cause, then {resume_of(gate)}, and run this command again"
            )
    return None


async def _obstacle(
    calls: CallQueue, settings: Settings, voice: VoiceClient, hold: Diagnosis | None, *, listens: bool
) -> Diagnosis | None:
    """The reason why the call cannot be placed, or why its outcome would be lost; None if there is none.

    `hold` is the hold that stops the call, if any. With `listens`, a receiver must be running, and 8x8 must send
    summaries to it.
    """
    if settings.source is None:
        remedy = "set VOICEFLOW_SOURCE to a number that `voiceflow account` lists"
        return failure("the source number is not set", remedy=remedy)
    if hold is None and listens and not await Heartbeats(calls.store).has_receiver():
        return failure(
            NO_RECEIVER,
            remedy="run `voiceflow serve --register https://…` with this store in another terminal, then run this "
            "command again; or call with --without-outcome",
        )
    if hold is None and listens:
        with suppress(VoiceError):  # the call meets the same fault
            found = summaries(settings, await voice.webhooks())
            return found if found.level is Level.FAILURE else None
    return hold


async def _enqueued(
    calls: CallQueue, settings: Settings, voice: VoiceClient, call: OneCall, *, batch: str
) -> Job | Diagnosis:
    """The enqueued call, or the reason why it could not be enqueued."""
    profile = settings.voice_profile or await _voice(voice)
    if profile is None:
        remedy = "ask 8x8 for a voice, or set VOICEFLOW_VOICE_PROFILE"
        return failure("the sub-account has no voices", remedy=remedy)
    try:
        flow = CallFlow.call(call.number, source=settings.source or "")
        flow = flow.say(call.text, voice_profile=profile).hangup()
        async with calls.ordered(Actor(on=Interface.COMMAND, login=login_name())) as queue:
            return await queue.enqueue(flow, batch=batch, valid_for=VALID_FOR, redial=_ONCE)
    except InvalidInputError as error:
        return failure(str(error))


async def _voice(voice: VoiceClient) -> str | None:
    """The first voice of the account, an English one if there is any."""
    profiles = await voice.speech_profiles()
    english = [each for each in profiles if (each.locale or each.code).casefold().startswith("en")]
    return next((each.code for each in (*english, *profiles)), None)


@dataclass(slots=True, kw_only=True)
class _Watch:
    """A call in progress; each of its steps is reported once. `sent_at` is in seconds since the watch began."""

    calls: CallQueue
    worker: Worker
    job: Job
    tell: Tell
    stop: anyio.Event
    listens: bool
    command: str
    told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    sent_at: float | None = None

    async def call(self) -> bool:
        """Send the call, watch it until there is nothing more to wait for, and return True if it was answered."""
        try:
            async with self.worker.running():
                await self._watch()
        finally:
            with anyio.CancelScope(shield=True):
                await self._take_back()
        return self.job.state is JobState.COMPLETED

    async def _watch(self) -> None:
        began = self.calls.store.clock.monotonic()
        while not self.stop.is_set():
            try:
                await self._look()
                if self.job.state.is_final or await self._is_over(self.calls.store.clock.monotonic() - began):
                    return
            except StoreUnavailableError as error:
                # A POST may be in flight. The worker waits for the store to save the answer, and so does this loop.
                self._report("waits", warning(f"the store cannot be reached: {error}"))
            with anyio.move_on_after(LOOK_EVERY):
                await self.stop.wait()

    async def _look(self) -> None:
        self.job = await self.calls.get(self.job.id)
        heard = await CallProgress(self.calls.store).of_job(self.job)
        for step in steps_of(self.job, heard=heard, now=self.calls.store.clock.now()):
            self._tell_once(step)

    async def _is_over(self, passed: float) -> bool:
        """True if there is nothing more to wait for; the reason is then reported. `passed` is in seconds."""
        match self.job.state:
            case JobState.QUEUED:
                hold = await _hold(self.calls, batch=self.job.batch_id)
                if hold is not None:
                    self._report("not called", hold)
                    return True
                if self.job.reason is None and passed > TURN_AFTER:
                    self._report("waits", warning("other calls use up the rate of the queue, or its --max-active"))
                return False
            case JobState.SUBMITTED | JobState.IN_DOUBT:
                self.sent_at = passed if self.sent_at is None else self.sent_at
                return await self._is_out_of_hearing(passed - self.sent_at)
            case _:
                return False

    async def _is_out_of_hearing(self, waited: float) -> bool:
        """True if it is useless to wait for the summary; the reason is then reported. `waited` is in seconds."""
        show = f"`voiceflow calls show {self.job.id}`"
        if not self.listens:
            unknown = "no summary is awaited, so the outcome is unknown"
            self._report("no outcome", warning(unknown, remedy=f"if a receiver runs, {show} shows the outcome later"))
        elif waited > SUMMARY_WITHIN.total_seconds():
            within = write_duration(SUMMARY_WITHIN)
            missing = f"no summary came within {within}: 8x8 did not reach the receiver, or the receiver refused it"
            remedy = f"`voiceflow doctor` checks the webhook; {show} shows a summary that comes later"
            self._report("no summary", failure(missing, remedy=remedy))
        elif not await Heartbeats(self.calls.store).has_receiver():
            remedy = f"run `voiceflow serve`; {show} shows a summary that comes later"
            self._report("no summary", failure("the receiver stopped before the summary came", remedy=remedy))
        else:
            return False
        return True

    async def _take_back(self) -> None:
        """Cancel the call if it was not sent yet, and report its last state."""
        self.job = await self.calls.get(self.job.id)
        if self.job.state in _NOT_LEFT:
            with suppress(TooLateError):
                await self.calls.cancel(
                    self.job.id, reason=f"`{self.command}` ended before the call was sent", for_good=False
                )
        await self._look()
        if self.stop.is_set() and not self.job.state.is_final:
            remedy = f"`voiceflow calls show {self.job.id}` shows how it ends"
            message = f"the call can no longer be cancelled: it is {self.job.state.value}, and the phone may ring"
            self._report("stopped", warning(message, remedy=remedy))

    def _report(self, name: str, result: Diagnosis) -> None:
        self._tell_once(CallStep(name, self.calls.store.clock.now(), result))

    def _tell_once(self, step: CallStep) -> None:
        known = (step.name, step.result.message)
        if known not in self.told:
            self.told.add(known)
            self.tell(step)
