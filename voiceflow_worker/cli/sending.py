"""What a worker does beside sending: what it says at its start, progress, the result of a drain."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.cli.opening import misspelt_settings, signals_to
from voiceflow_worker.cli.output import ExitCode, Meter, Output, meter
from voiceflow_worker.core.base.background import BackgroundTasks, beside
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.wording import rate_in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.drained import drained_as_json, drained_lines, states_in_words

if TYPE_CHECKING:
    from voiceflow_worker.notify.delivery import Notifications
    from voiceflow_worker.voiceflow import Voiceflow

LOOK_EVERY, SAY_EVERY = 2.0, 30.0
"""Seconds between two looks at a draining queue, and at a queue whose waiting calls get a line when that changes."""
_MOVING = (JobState.QUEUED, JobState.LEASED, JobState.SENDING, JobState.SUBMITTED)


async def tell_start(output: Output, voiceflow: Voiceflow) -> None:
    """Say what is sent, and what is odd about it."""
    calls, settings = voiceflow.queue, voiceflow.settings
    for each in misspelt_settings():
        output.note(each)
    rate = (await SetRate(calls.store, calls.name).over(Limits(rate=settings.rate))).rate
    was_set = "" if rate == settings.rate else " (set by `voiceflow rate`; `voiceflow rate --reset` ends that)"
    output.note(
        f"voiceflow worker sends queue {calls.name} of {calls.store.url}: rate {rate_in_words(rate)}{was_set}, "
        f"at most {settings.concurrency} POSTs in flight"
    )
    with suppress(StoreError):  # the worker reports it
        if menus := (await calls.status()).menus:
            from voiceflow_worker.ivr.menu_data import unserved_in_words, unserved_menus  # seldom needed

            if unserved := await unserved_menus(calls.store, menus):
                stop = f"press Ctrl-C or run `voiceflow hold --queue {calls.name}`"
                serve = "start a receiver with the menu (`voiceflow serve --ivr MODULE:MENU`)"
                output.note(f"{unserved_in_words(unserved)}. To stop these calls, {stop}; then {serve}")


@asynccontextmanager
async def account_asked(output: Output, voiceflow: Voiceflow) -> AsyncGenerator[None]:
    """Ask the account beside the block whether calls can leave and summaries arrive. If not, print a line."""
    from voiceflow_worker.service.doctor.account import obstacle

    async def ask() -> None:
        if (found := await obstacle(voiceflow.settings, voiceflow.client)) is not None:
            output.note(found)

    async with anyio.create_task_group() as group:
        task = "8x8 was not asked whether summaries can arrive"
        group.start_soon(BackgroundTasks(voiceflow.store.clock).run, task, ask)
        yield
        group.cancel_scope.deadline = anyio.current_time() + 1  # who drains an empty queue hears of it too


@asynccontextmanager
async def showing_progress(calls: CallQueue, output: Output, *, label: str | None) -> AsyncGenerator[None]:
    """Show, while the block lasts, why calls wait; with a label, how many calls of the queue have ended, too."""
    before = await count_states(calls.store, calls.name)

    async def look(shown: Meter | None) -> None:
        last = ""
        while True:
            await anyio.sleep(SAY_EVERY if shown is None and last else LOOK_EVERY)
            with suppress(StoreError):  # the worker reports it
                status = await calls.status()
                words = status.waiting.in_words()
                if shown is not None:
                    _show(shown, before, status.states, waiting=words)
                elif words and words != last:
                    output.note(f"waiting: {words}")
                last = words

    run = partial(BackgroundTasks(calls.store.clock).run, "the progress was not shown")
    if label is None:
        async with beside(partial(run, partial(look, None))):
            yield
        return
    with meter(label) as shown:
        async with beside(partial(run, partial(look, shown))):
            yield
        _show(shown, before, await count_states(calls.store, calls.name))


def _show(shown: Meter, before: Mapping[JobState, int], counts: Mapping[JobState, int], *, waiting: str = "") -> None:
    ended = max(sum(counts[state] - before[state] for state in FINAL_STATES), 0)
    left = sum(counts[state] for state in _MOVING)
    others = states_in_words(counts, *_MOVING[1:], JobState.IN_DOUBT)
    note = f"{ended} of {ended + left} calls have ended{', ' + others if others else ''}"
    shown(ended, ended + left, f"{note}; waiting: {waiting}" if waiting and counts[JobState.QUEUED] else note)


async def tell_drained(output: Output, calls: CallQueue, result: DrainResult, *, stopped: bool) -> ExitCode:
    """Report the result of a drain, and the calls that have not ended.

    `stopped` is True if a person stopped the worker; the exit code is then 0. Otherwise the exit code is 1 if a hold
    or a clock that is behind ended the drain, or if a call is in doubt. Failed calls do not change the exit code.
    """
    status, receiver = await calls.status(), await Heartbeats(calls.store).has_receiver()
    output.document(drained_as_json(status, result))
    line, *notes = drained_lines(status, result, stopped=stopped, receiver=receiver)
    if not output.as_json:
        output.say(line)
    for note in notes:
        output.note(note)
    undone = result.stopped_by_hold or result.stopped_by_clock or result.doubts
    return ExitCode.UNDONE if undone and not stopped else ExitCode.DONE


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
    if waiting := hooks.counts[HOOK].waiting:
        output.note(f"notifications not delivered yet: {waiting}; the next `voiceflow worker --notify` sends them")
