"""What a worker does beside sending: processes of its own, progress, the result of a drain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import Process
from pydantic import TypeAdapter

from voiceflow_worker.backends.sqlite.opening import Identities
from voiceflow_worker.cli.opening import (
    calls_logged,
    collect_less,
    log_to_stderr,
    opened_queue,
    settings_from,
    signals_to,
    voice_client,
)
from voiceflow_worker.cli.output import (
    ExitCode,
    Meter,
    Output,
    explained,
    keep_streams,
    meter,
    tell_error,
)
from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.heartbeats import NO_RECEIVER, Heartbeats, WorkCounts
from voiceflow_worker.core.ports.background import BackgroundTasks
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.reporting.story import closed_in_words, gate_as_json, resume_of
from voiceflow_worker.core.worker import Worker
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.worker import worker_of

if TYPE_CHECKING:
    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks


_COUNTS = TypeAdapter(WorkCounts)


class Crew:
    """The worker processes of one queue. `exit_code` is the exit code of the command that started them."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._told: dict[int, WorkCounts] = {}
        self.exit_code: ExitCode = ExitCode.DONE
        self.stopping: bool = False

    @property
    def counts(self) -> WorkCounts:
        """What all processes have done, as they told it last: a process that has ended has still done its work."""
        counts = WorkCounts()
        for told in self._told.values():
            counts.add(told)
        return counts

    def stop(self) -> None:
        """Ask every process to stop. If called again, ask them to stop at once."""
        self.stopping = True
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until every process has ended. A failed process is reported, and the others go on."""
        async with anyio.create_task_group() as group:
            for process in self._processes:
                group.start_soon(self._see_off, process)
                group.start_soon(self._listen, process)

    async def _listen(self, process: Process) -> None:
        if process.stdout is None:
            return
        rest = b""
        with suppress(anyio.BrokenResourceError):
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    with suppress(ValueError):
                        self._told[process.pid] = _COUNTS.validate_json(line)
        if process.pid in self._told:
            self._told[process.pid] = replace(
                self._told[process.pid], in_flight=0, verdicts_waiting=0, failing=Counter()
            )

    async def _see_off(self, process: Process) -> None:
        code = await process.wait()
        # A process that is still starting dies of the signal. It has sent nothing.
        if code == 0 or (self.stopping and code == -signal.SIGTERM):
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        failed = ExitCode.OUT_OF_REACH if code == ExitCode.OUT_OF_REACH else ExitCode.UNDONE
        self.exit_code = max(self.exit_code, failed)
        Output().note(
            f"the worker in process {process.pid} {how}; its calls in flight may be in doubt, and the other workers go "
            "on"
        )


@asynccontextmanager
async def crew(
    count: int, *, options: Mapping[str, object], drain: bool, files: Identities | None
) -> AsyncGenerator[Crew]:
    """Start `count` workers with these options, each in a process of its own.

    They open no store in other files than `files`.
    The workers are stopped and awaited at the end of the block. If this process is killed, they stop by themselves.
    """
    # -P: the child imports nothing from the working directory. It is left out if this process imports from there.
    safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
    command = [sys.executable, *safe, "-m", "voiceflow_worker.cli.sending"]
    order = json.dumps({"options": dict(options), "drain": drain, "files": files}).encode() + b"\n"
    processes: list[Process] = []
    group = Crew(processes)
    try:
        for _ in range(count):
            # Each child has its own session: Ctrl-C reaches only this process, and this process signals each child.
            process = await anyio.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, start_new_session=True
            )
            processes.append(process)
            if process.stdin is not None:
                await process.stdin.send(order)
        yield group
    finally:
        with anyio.CancelScope(shield=True):
            if any(process.returncode is None for process in processes):
                group.stop()
                await group.ended()


async def _work(order: str) -> None:
    wanted = json.loads(order)
    settings = settings_from(**wanted["options"])
    log_to_stderr(form=settings.log_format, level=settings.log_level, process=os.getpid(), secrets=settings.secrets())
    files = wanted["files"] and Identities(*(each and tuple(each) for each in wanted["files"]))
    voice = voice_client(settings)
    async with opened_queue(settings, makes=True, files=files) as calls, voice:
        worker = worker_of(settings, calls.store, voice)
        collect_less()
        async with signals_to(lambda _: worker.stop()), anyio.create_task_group() as group:
            group.start_soon(_stop_with_leader, worker)
            group.start_soon(_tell_counts, worker)
            with calls_logged():
                await (worker.drain() if wanted["drain"] else worker.run())
            group.cancel_scope.cancel()
        _tell(worker)


FAULT_LOGGED_EVERY = 1.0
"""Seconds after which a process of a crew tells again what it has done."""


async def _tell_counts(worker: Worker) -> None:
    os.set_blocking(sys.stdout.fileno(), False)
    while True:
        _tell(worker)
        await anyio.sleep(FAULT_LOGGED_EVERY)


def _tell(worker: Worker) -> None:
    """Tell the leader what this worker has done. A leader that does not listen delays and ends nothing."""
    with suppress(OSError):
        os.write(sys.stdout.fileno(), _COUNTS.dump_json(worker.counts) + b"\n")


async def _stop_with_leader(worker: Worker) -> None:
    while True:
        await anyio.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            break
    worker.stop()


def main() -> int:
    """Run one process of a crew, and return its exit code.

    The process reads its options from the first line of stdin, and stops at the end of stdin.
    """
    keep_streams()
    try:
        anyio.run(_work, sys.stdin.buffer.readline().decode())
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        tell_error(f"process {os.getpid()}: {known[1]}")
        return known[0]
    return 0


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
        async with anyio.create_task_group() as group:
            group.start_soon(BackgroundTasks(calls.store.clock).run, "the progress was not shown", partial(look, shown))
            yield
            group.cancel_scope.cancel()
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
        yield result.clock.in_words()
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


@asynccontextmanager
async def waiting_lines(calls: CallQueue, output: Output, *, every: float = EVERY) -> AsyncGenerator[None]:
    """Print on stderr why queued calls wait, whenever the reasons change, while the block lasts."""
    async with anyio.create_task_group() as group:
        say = partial(_say, calls, output, every)
        group.start_soon(BackgroundTasks(calls.store.clock).run, "the reasons why calls wait were not shown", say)
        yield
        group.cancel_scope.cancel()


async def _say(calls: CallQueue, output: Output, every: float) -> None:
    last = ""
    while True:
        with suppress(StoreError):  # the worker reports it
            words = (await calls.status()).waiting.in_words()
            if words and words != last:
                output.note(f"waiting: {words}")
            last = words
        await anyio.sleep(every)


LAST_WAIT = timedelta(seconds=30)


async def tell_the_rest(hooks: OutcomeHooks | None, output: Output) -> None:
    """Wait for the first delivery of the outcomes that exist now, and print how many are not delivered yet.

    The wait ends after LAST_WAIT, or at a signal to stop.
    """
    if hooks is None:
        return
    from voiceflow_worker.notify.webhook import HOOK

    scope = anyio.CancelScope()
    async with signals_to(lambda _: scope.cancel()):
        with anyio.move_on_after(LAST_WAIT.total_seconds()), scope:
            await hooks.caught_up()
    waiting = hooks.counts[HOOK].waiting
    if waiting:
        output.note(f"notifications not delivered yet: {waiting}; the next `voiceflow worker --notify` sends them")


if __name__ == "__main__":
    sys.exit(main())
