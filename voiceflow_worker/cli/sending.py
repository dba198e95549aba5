"""What a worker does beside sending: processes of its own, progress, the result of a drain."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.cli.opening import signals_to
from voiceflow_worker.cli.output import ExitCode, Meter, Output, meter
from voiceflow_worker.core.base.background import BackgroundTasks, beside
from voiceflow_worker.core.base.clock import SET_CLOCK
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.heartbeats import NO_RECEIVER, Heartbeats
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words, gate_as_json, resume_of

if TYPE_CHECKING:
    from voiceflow_worker.notify.delivery import Notifications


LOOK_EVERY = 2.0
"""Seconds between two looks at a draining queue. Each reads up to 500 waiting calls, in the worker's process."""
_MOVING = (JobState.QUEUED, JobState.LEASED, JobState.SENDING, JobState.SUBMITTED)


@asynccontextmanager
async def drain_progress(calls: CallQueue, *, label: str) -> AsyncGenerator[None]:
    """Show how many calls of the queue have ended, and why others wait, while the block lasts."""
    before = await count_states(calls.store, calls.name)

    async def look(shown: Meter) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY)
            try:
                status = await calls.status()
            except StoreError:
                continue  # the worker reports it
            _show(shown, before, status.states, waiting=status.waiting.in_words())

    with meter(label) as shown:
        run = BackgroundTasks(calls.store.clock).run
        async with beside(partial(run, "the progress was not shown", partial(look, shown))):
            yield
        _show(shown, before, await count_states(calls.store, calls.name))


def _show(shown: Meter, before: Mapping[JobState, int], counts: Mapping[JobState, int], *, waiting: str = "") -> None:
    ended = max(sum(counts[state] - before[state] for state in FINAL_STATES), 0)
    left = sum(counts[state] for state in _MOVING)
    others = states_in_words(counts, *_MOVING[1:], JobState.IN_DOUBT)
    note = f"{ended} of {ended + left} calls have ended{', ' + others if others else ''}"
    shown(ended, ended + left, f"{note}; waiting: {waiting}" if waiting and counts[JobState.QUEUED] else note)


def states_in_words(counts: Mapping[JobState, int], *states: JobState) -> str:
    """The counts of these states in words, such as `3 sending, 12 submitted`. Counts of 0 are left out."""
    return ", ".join(f"{counts[state]} {state.value}" for state in states if counts[state])


async def tell_drained(output: Output, calls: CallQueue, result: DrainResult, *, stopped: bool) -> ExitCode:
    """Report the result of a drain, and the calls that have not ended.

    `stopped` is True if a person stopped the worker; the exit code is then 0. Otherwise the exit code is 1 if a hold
    or a clock that is behind ended the drain, or if a call is in doubt. Failed calls do not change the exit code.
    """
    counts = await count_states(calls.store, calls.name)
    output.document(
        {
            "queue": calls.name,
            "states": {state.value: counts[state] for state in JobState},
            "later": result.later,
            "held": result.held,
            "holds": [gate_as_json(gate) for gate in result.holds],
            "doubts": result.doubts,
            "submitted": result.submitted,
            "total": sum(counts.values()),
            **({} if result.clock is None else {"clock_behind_seconds": result.clock.by.total_seconds()}),
        }
    )
    if not output.as_json:
        end = "is drained of what is due now" if result.later else "is drained"
        end = "is not drained, because of a hold" if result.stopped_by_hold else end
        end = "is not drained, because the clock is behind" if result.stopped_by_clock else end
        end = "is not drained, because the worker was stopped" if stopped else end
        output.say(f"queue {calls.name} {end}: {states_in_words(counts, *JobState) or 'no calls'}")
    later = await _why_later(calls) if result.later else ""
    for line in _left(result, later=later, receiver=await Heartbeats(calls.store).has_receiver()):
        output.note(line)
    undone = result.stopped_by_hold or result.stopped_by_clock or result.doubts
    return ExitCode.UNDONE if undone and not stopped else ExitCode.DONE


async def _why_later(calls: CallQueue) -> str:
    """When the next queued call of a drained queue may begin, and why others wait, as a clause."""
    status = await calls.status()
    words = [] if status.next_call is None else [f"the next may begin at {status.next_call.in_words()}"]
    waiting = status.waiting.in_words()
    return "; ".join([*words, *([f"waiting: {waiting}"] if waiting else [])])


def _left(result: DrainResult, *, later: str, receiver: bool) -> Iterator[str]:
    if result.clock is not None:
        yield f"{result.clock.in_words()}; {SET_CLOCK}"
    if result.later and not result.stopped_by_clock:
        why = f" ({later})" if later else ""
        yield f"left in the queue for later: {count_of(result.later, 'call')}{why}; run this command again then"
    if result.submitted:
        without = f"{count_of(result.submitted, 'call')} accepted by 8x8 without a summary yet"
        yield (
            f"{without}; the receiver that is running stores the summaries when they come"
            if receiver
            else f"{NO_RECEIVER}: {without}; run `voiceflow serve`, or set VOICEFLOW_OUTCOMES=none"
        )
    if result.stopped_by_hold:
        for gate in result.holds:
            yield closed_in_words(gate)
        opening = " and ".join(resume_of(gate) for gate in result.holds if gate.state is not GateState.CANCELLED)
        remedy = (
            f"correct the cause, then {opening}, and run this command again"
            if opening
            else "their batch was cancelled for good, so they are never sent"
        )
        yield f"waiting behind a hold: {count_of(result.held, 'call')}; {remedy}"
    if result.doubts:
        yield (
            f"in doubt: {count_of(result.doubts, 'call')} may have been placed and will not be sent again without "
            "evidence; see `voiceflow calls list --state in_doubt` and `voiceflow calls resolve`"
        )


EVERY = 30.0
"""Seconds between two reads of the reasons why calls wait."""


def waiting_lines(calls: CallQueue, output: Output) -> AbstractAsyncContextManager[None]:
    """Print on stderr why queued calls wait, whenever the reasons change, while the block lasts."""
    run, say = BackgroundTasks(calls.store.clock).run, partial(_say, calls, output)
    return beside(partial(run, "the reasons why calls wait were not shown", say))


async def _say(calls: CallQueue, output: Output) -> None:
    last = ""
    while True:
        with suppress(StoreError):  # the worker reports it
            words = (await calls.status()).waiting.in_words()
            if words and words != last:
                output.note(f"waiting: {words}")
            last = words
        await anyio.sleep(EVERY)


LAST_WAIT = timedelta(seconds=30)


async def tell_the_rest(hooks: Notifications | None, output: Output) -> None:
    """Wait for the first delivery of the outcomes that exist now, and print how many are not delivered yet.

    The wait ends after LAST_WAIT, or at a signal to stop.
    """
    if hooks is None:
        return
    from voiceflow_worker.notify.delivery import HOOK

    scope = anyio.CancelScope()
    async with signals_to(lambda _: scope.cancel()):
        with anyio.move_on_after(LAST_WAIT.total_seconds()), scope:
            await hooks.caught_up()
    waiting = hooks.counts[HOOK].waiting
    if waiting:
        output.note(f"notifications not delivered yet: {waiting}; the next `voiceflow worker --notify` sends them")
