"""`voiceflow worker`: send the calls of a queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import structlog
from cyclopts import Parameter

from voiceflow_worker.cli.opening import (
    collect_less,
    ending_in_time,
    misspelt_settings,
    opened,
    raise_limit,
    signals_to,
)
from voiceflow_worker.cli.options import Flag, PortOption, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Meter, Output, meter
from voiceflow_worker.core.base.background import BackgroundTasks, beside
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.logs import logged
from voiceflow_worker.errors import InvalidInputError, StoreError
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.wording import rate_in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.drained import drained_as_json, drained_lines, states_in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.drain import DrainResult
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.notify.delivery import Notifications
    from voiceflow_worker.voiceflow import Voiceflow

_log = structlog.get_logger("voiceflow.worker")

DESCRIPTORS = 80
"""The descriptors of a worker for all but the connections to 8x8: its store, journal, log and metrics."""
MOST_AFTER_GRACE = 20.0
"""Seconds in which a worker stores what it knows, once its calls in flight had their time; then it is ended."""
LAST_WAIT = timedelta(seconds=30)
"""The longest wait of a drain for the first delivery of its last outcomes."""
LOOK_EVERY = 2.0
"""Seconds between two looks at a draining queue."""
_MOVING = (JobState.QUEUED, JobState.LEASED, JobState.SENDING, JobState.SUBMITTED)


async def worker(
    *,
    rate: Annotated[str | None, Parameter(metavar="N|unlimited")] = None,
    burst: int | None = None,
    concurrency: int | None = None,
    max_active: int | None = None,
    max_per_person: Annotated[str | None, Parameter(metavar="N/SPAN")] = None,
    drain: Annotated[bool, Flag] = False,
    metrics_port: PortOption | None = None,
    metrics_host: str | None = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Send the calls of a queue, until it is stopped.

    The first SIGINT or SIGTERM lets calls in flight finish, the second stops at once. Needs VOICEFLOW_API_KEY and
    VOICEFLOW_SUB_ACCOUNT.

    Args:
        rate: Calls per second of all workers of the queue together, or unlimited. [VOICEFLOW_RATE, else 10]
        burst: The largest number of calls that are sent at once after a pause. [VOICEFLOW_BURST, else 1]
        concurrency: The largest number of POSTs in flight, per worker. [VOICEFLOW_CONCURRENCY, else 50]
        max_active: The largest number of open calls of the queue. [VOICEFLOW_MAX_ACTIVE, else any number]
        max_per_person: The most attempts to call one person in a span of time, such as 3/24h.
            [VOICEFLOW_MAX_PER_PERSON, else any number]
        drain: End when no more calls are due. Exit 1 if a hold stopped the worker, or if calls are in doubt.
        metrics_port: Serve GET /metrics for Prometheus, and GET /healthz, on this port; 0 for any free port.
        metrics_host: The address of --metrics-port, such as 0.0.0.0 in a container. [127.0.0.1]

    Examples:
        voiceflow worker --rate 10 --concurrency 50
        voiceflow worker --drain --json
        voiceflow worker --rate unlimited --metrics-port 9464
    """
    from voiceflow_worker.notify.webhook import notifier_of

    settings = common.settings(
        rate=rate, burst=burst, concurrency=concurrency, max_active=max_active, max_per_person=max_per_person
    )
    notifier_of(settings)  # reports what is wrong before anything is opened
    if metrics_host is not None and metrics_port is None:
        raise InvalidInputError("--metrics-host works only together with --metrics-port")
    raise_limit(least=DESCRIPTORS + settings.concurrency)
    async with AsyncExitStack() as stack:
        voiceflow = await stack.enter_async_context(opened(settings))
        hooks = await stack.enter_async_context(voiceflow.duties())
        sender = voiceflow.worker()
        if metrics_port is not None:
            from voiceflow_worker.service.metrics import serving_metrics

            figures = serving_metrics(
                voiceflow.queue, sender, hooks, settings, host=metrics_host or "127.0.0.1", port=metrics_port
            )
            _log.info(f"metrics are on {await stack.enter_async_context(figures)}/metrics")
        code = await _send(common.output(), voiceflow, sender, drain=drain)
        if drain and hooks is not None:
            await _deliver_last(hooks)
        return code


async def _send(output: Output, voiceflow: Voiceflow, sender: Worker, *, drain: bool) -> ExitCode:
    """Run the worker until a signal, or until nothing more is due."""
    collect_less()
    calls, grace = voiceflow.queue, voiceflow.settings.shutdown_grace.total_seconds()
    signals = 0
    result: DrainResult | None = None
    with ending_in_time() as end_within:

        def stop(count: int) -> None:
            nonlocal signals
            signals = count
            if count == 1:
                _log.info(
                    f"stopping: the calls in flight ({sender.in_flight}) are being finished, for {grace:g} s at most; "
                    "a second signal stops at once"
                )
            sender.stop()
            end_within((grace if count == 1 else 0) + MOST_AFTER_GRACE)

        async with signals_to(stop):
            await _log_start(voiceflow)
            with logged():
                if drain:
                    async with showing_progress(calls, label="draining"):
                        result = await sender.drain()
                else:
                    await sender.run()
    if signals:
        _log.info("stopped")
    return ExitCode.DONE if result is None else await _show_drained(output, calls, result, stopped=bool(signals))


async def _log_start(voiceflow: Voiceflow) -> None:
    calls, settings = voiceflow.queue, voiceflow.settings
    for each in misspelt_settings():
        _log.warning(each)
    _log.info(
        f"voiceflow worker sends queue {calls.name} of {calls.store.url}: rate {rate_in_words(settings.rate)} "
        "(unless `voiceflow rate` has set another), "
        f"at most {settings.concurrency} POSTs in flight"
    )


@asynccontextmanager
async def showing_progress(calls: CallQueue, *, label: str) -> AsyncGenerator[None]:
    """Show, while the block lasts, how many calls of the queue have ended, and why others wait."""
    before = await count_states(calls.store, calls.name)

    async def look(shown: Meter) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY)
            with suppress(StoreError):  # the worker reports it
                status = await calls.status()
                _show(shown, before, status.states, waiting=status.waiting.in_words())

    with meter(label) as shown:
        run = partial(BackgroundTasks(calls.store.clock).run, "the progress was not shown", partial(look, shown))
        async with beside(run):
            yield
        _show(shown, before, await count_states(calls.store, calls.name))


def _show(shown: Meter, before: Mapping[JobState, int], counts: Mapping[JobState, int], *, waiting: str = "") -> None:
    ended = sum(counts[state] - before[state] for state in FINAL_STATES)
    left = sum(counts[state] for state in _MOVING)
    others = states_in_words(counts, *_MOVING[1:], JobState.IN_DOUBT)
    note = f"{ended} of {ended + left} calls have ended{', ' + others if others else ''}"
    shown(ended, ended + left, f"{note}; waiting: {waiting}" if waiting and counts[JobState.QUEUED] else note)


async def _show_drained(output: Output, calls: CallQueue, result: DrainResult, *, stopped: bool) -> ExitCode:
    """Print the result of a drain, and the calls that have not ended.

    `stopped` is True if a person stopped the worker; the exit code is then 0. Otherwise the exit code is 1 if a hold
    ended the drain, or if a call is in doubt. Failed calls do not change the exit code.
    """
    status, receiver = await calls.status(), await Heartbeats(calls.store).has_receiver()
    line, *notes = drained_lines(status, result, stopped=stopped, receiver=receiver)
    output.result(drained_as_json(status, result), line)
    for note in notes:
        output.note(note)
    undone = result.stopped_by_hold or result.doubts
    return ExitCode.UNDONE if undone and not stopped else ExitCode.DONE


async def _deliver_last(hooks: Notifications) -> None:
    """Wait for the first delivery of the outcomes that exist now, for at most LAST_WAIT, or until a signal."""
    scope = anyio.CancelScope()
    async with signals_to(lambda _: scope.cancel()):
        with anyio.move_on_after(LAST_WAIT.total_seconds()), scope:
            await hooks.caught_up()
