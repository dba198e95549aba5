"""One call, sent at once and watched until its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.core.audit import Actor, Interface, login_name
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.heartbeats import NO_RECEIVER, Heartbeats
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError, StoreUnavailableError, TooLateError
from voiceflow_worker.finding import Diagnosis, Level, failure, ok, warning
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import rfc3339, write_duration
from voiceflow_worker.reporting.gates import closed_in_words, resume_of
from voiceflow_worker.reporting.story import one_line, story

if TYPE_CHECKING:
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings

VALID_FOR = timedelta(minutes=2)
SUMMARY_WITHIN = timedelta(minutes=5)
"""The longest wait for a summary: ample, as ringing takes up to a minute and a half, and the text ten seconds."""
LOOK_EVERY = 0.1

_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
_NOT_LEFT = frozenset({JobState.QUEUED, JobState.LEASED})


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a call, or the reason why the call does not go on."""

    name: str
    at: datetime
    result: Diagnosis

    def as_json(self) -> dict[str, object]:
        """Return the step for scripts."""
        result = self.result.as_json()
        del result["check"]
        return {"step": self.name, "at": rfc3339(self.at), **result}

    def as_line(self) -> str:
        """Return the step for people, with its remedy on a line of its own."""
        line = printable_line(f"{self.at.astimezone(UTC):%H:%M:%S}  {self.name:<10}  {self.result.message}")
        remedy = self.result.remedy
        return line if remedy is None else f"{line}\n{' ' * 22}-> {printable_line(remedy)}"


Report = Callable[[Progress], None]
Stops = Callable[[Callable[[int], None]], AbstractAsyncContextManager[None]]
"""A context that calls a function for each request to stop, with the number of requests so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCall:
    """The call that is placed. `command` is the command as people type it, for messages."""

    __test__ = False  # pytest

    number: str
    text: str
    batch: str
    command: str


def number_to_call(text: str, *, place: str) -> str:
    """Return the number in E.164 form. Raises InvalidInputError for a number that is not certain without a country.

    `place` is the option or argument of the number, for the message.
    """
    try:
        return read_whole_number(text)
    except PhoneNumberError as error:
        raise InvalidInputError(
            f"{place} {error}: write the number with a plus and its country code, such as +6581234567"
        ) from None


async def call_and_watch(
    calls: CallQueue,
    voice: VoiceClient,
    call: TestCall,
    *,
    settings: Settings,
    make_worker: Callable[[str], Awaitable[Worker]],
    report: Report,
    stops: Stops,
) -> bool:
    """Place the call once, report each step as it happens, and return True if the call was answered.

    After a request to stop, the call is cancelled if it has not been sent. Raises StoreError, VoiceError.
    """
    listens = settings.policy().outcomes is OutcomeSource.WEBHOOK
    obstacle = await _obstacle(calls, settings, batch=call.batch, listens=listens)
    profile = settings.voice_profile or await _voice(voice)
    if obstacle is None and profile is None:
        obstacle = failure("the sub-account has no voices", remedy="ask 8x8 for a voice")
    if obstacle is not None:
        report(Progress("not called", calls.store.clock.now(), obstacle))
        return False
    worker = await make_worker(call.batch)
    stop = anyio.Event()

    def stopped(_count: int) -> None:
        stop.set()
        worker.stop()

    async with stops(stopped):
        flow = CallFlow.call(call.number, source=settings.source or "").say(call.text, voice_profile=profile or "")
        try:
            async with calls.ordered(Actor(on=Interface.COMMAND, login=login_name())) as queue:
                job = await queue.enqueue(flow.hangup(), batch=call.batch, valid_for=VALID_FOR, redial=_ONCE)
        except InvalidInputError as error:
            report(Progress("not called", calls.store.clock.now(), failure(str(error))))
            return False
        watch = _Watch(calls, job, report, stop)
        try:
            async with worker.running():
                await watch.until_the_end()
        finally:
            with anyio.CancelScope(shield=True):
                await watch.take_back(f"`{call.command}` ended before the call was sent")
        return watch.job.state is JobState.COMPLETED


async def _obstacle(calls: CallQueue, settings: Settings, *, batch: str, listens: bool) -> Diagnosis | None:
    """Return why the call cannot be placed, or why its outcome would be lost; None if nothing is in the way."""
    if settings.source is None:
        remedy = "set VOICEFLOW_SOURCE to a number that `voiceflow account` lists"
        return failure("the source number is not set", remedy=remedy)
    now = calls.store.clock.now()
    for gate in (await gates_at(calls.store, calls.name, [None, batch])).values():
        if gate.keeps_back(batch, at=now):
            remedy = f"correct the cause, then {resume_of(gate)}, and run this command again"
            return failure(closed_in_words(gate), remedy=remedy)
    if listens and not await Heartbeats(calls.store).has_receiver():
        remedy = "run `voiceflow serve --register https://…` in another terminal; or set VOICEFLOW_OUTCOMES=none"
        return failure(NO_RECEIVER, remedy=remedy)
    return None


async def _voice(voice: VoiceClient) -> str | None:
    """Return the first voice of the account, an English one if there is any."""
    profiles = await voice.speech_profiles()
    english = [each for each in profiles if (each.locale or each.code).casefold().startswith("en")]
    return next((each.code for each in (*english, *profiles)), None)


@dataclass(slots=True)
class _Watch:
    """A call in progress; each of its steps is reported once."""

    calls: CallQueue
    job: Job
    report: Report
    stop: anyio.Event
    reported: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    async def until_the_end(self) -> None:
        """Report the steps of the call until it has ended, its summary is late, or a request to stop."""
        clock, sent_at = self.calls.store.clock, float("inf")
        while not self.stop.is_set():
            try:
                await self._look()
                if self.job.state.is_final:
                    return
                if self.job.state not in _NOT_LEFT:
                    sent_at = min(sent_at, clock.monotonic())
                    if clock.monotonic() - sent_at > SUMMARY_WITHIN.total_seconds():
                        said = f"no summary came within {write_duration(SUMMARY_WITHIN)}"
                        self._step("no summary", failure(said, remedy=f"`voiceflow doctor` checks the webhook; {self}"))
                        return
            except StoreUnavailableError as error:
                # A POST may be in flight. The worker waits for the store to save the answer, and so does this loop.
                self._step("waits", warning(f"the store cannot be reached: {error}"))
            with anyio.move_on_after(LOOK_EVERY):
                await self.stop.wait()

    async def take_back(self, reason: str) -> None:
        """Cancel the call if it was not sent yet, and report its last state."""
        self.job = await self.calls.get(self.job.id)
        if self.job.state in _NOT_LEFT:
            with suppress(TooLateError):
                await self.calls.cancel(self.job.id, reason=reason, for_good=False)
        await self._look()
        if self.stop.is_set() and not self.job.state.is_final:
            message = f"the call can no longer be cancelled: it is {self.job.state.value}, and the phone may ring"
            self._step("stopped", warning(message, remedy=str(self)))

    def __str__(self) -> str:
        return f"`voiceflow calls show {self.job.id}` shows how it ends"

    async def _look(self) -> None:
        self.job = await self.calls.get(self.job.id)
        now, heard = self.calls.store.clock.now(), await CallProgress(self.calls.store).of_job(self.job)
        for each in story(self.job, at=now, heard=heard).timeline:
            if not each.is_technical:
                self._step("call", ok(": ".join((each.line, *each.more))), at=each.at)
        level = Level.WARNING if self.job.reason else Level.OK
        if self.job.state.is_final:
            level = Level.OK if self.job.state is JobState.COMPLETED else Level.FAILURE
        self._step(self.job.state.value.replace("_", " "), Diagnosis(level, one_line(self.job)))

    def _step(self, name: str, result: Diagnosis, *, at: datetime | None = None) -> None:
        if (name, result.message) not in self.reported:
            self.reported.add((name, result.message))
            self.report(Progress(name, at or self.calls.store.clock.now(), result))
