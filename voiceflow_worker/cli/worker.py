"""`voiceflow worker`: send the calls of a queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import Parameter

from voiceflow_worker.cli.opening import (
    DESCRIPTORS,
    collect_less,
    ending_in_time,
    misspelt_settings,
    opened_queue,
    raise_limit,
    signals_to,
    voice_client,
)
from voiceflow_worker.cli.options import Flag, HostOption, NotifyOption, PortOption, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Output, keep_stdout, with_remedies
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.errors import InvalidInputError, RequestFailedError, StoreError, VoiceError
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.text.wording import rate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.drain import DrainResult
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.notify.delivery import Notifications
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings


async def worker(
    *,
    rate: Annotated[str | None, Parameter(metavar="N|unlimited")] = None,
    burst: int | None = None,
    concurrency: int | None = None,
    max_active: int | None = None,
    max_per_person: Annotated[str | None, Parameter(metavar="N/SPAN")] = None,
    drain: Annotated[bool, Flag] = False,
    metrics_port: PortOption | None = None,
    metrics_host: HostOption | None = None,
    retry_not_created_5xx: Annotated[bool, Flag] = False,
    notify: NotifyOption = None,
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
        retry_not_created_5xx: Send a call again if 8x8 answers NOT_CREATED with a 5xx status. Only if 8x8 has confirmed
            that this is safe. [VOICEFLOW_RETRY_NOT_CREATED_5XX, else no]

    Examples:
        voiceflow worker --rate 10 --concurrency 50
        voiceflow worker --drain --json
        voiceflow worker --rate unlimited --metrics-port 9464
    """
    from voiceflow_worker.cli.sending import tell_the_rest
    from voiceflow_worker.notify.webhook import notifier_of, notifying
    from voiceflow_worker.service.escalations import advancing
    from voiceflow_worker.service.worker import worker_of

    settings = common.settings(
        rate=rate,
        burst=burst,
        concurrency=concurrency,
        max_active=max_active,
        max_per_person=max_per_person,
        retry_not_created_5xx=retry_not_created_5xx or None,
        notify_url=notify,
    )
    voice = voice_client(settings)  # reports missing settings before anything is opened
    notifier = notifier_of(settings)
    if metrics_host is not None and metrics_port is None:
        raise InvalidInputError("--metrics-host works only together with --metrics-port")
    keep_stdout()
    raise_limit(least=DESCRIPTORS + settings.concurrency)
    output = common.output(masks=settings.log_mask)
    async with (
        opened_queue(settings, makes=True) as calls,
        notifying(notifier, settings, calls.store, queue=calls.name, tell=output.note) as hooks,
        advancing(calls.store, queue=calls.name, policy=settings.policy()),
        voice,
    ):
        sender = worker_of(settings, calls.store, voice)
        async with _metrics(calls, sender, hooks, settings, host=metrics_host or "127.0.0.1", port=metrics_port):
            with ending_in_time() as end_within:
                code = await _send(output, calls, settings, sender, drain=drain, end_within=end_within)
            if drain:
                await tell_the_rest(hooks, output)
        return code


MOST_AFTER_GRACE = 20.0
"""Seconds in which a worker stores what it knows, once its calls in flight had their time; then it is ended."""
_REFUSED = frozenset({401, 403})
"""Statuses by which 8x8 says that it accepts no request with this key."""


async def _send(
    output: Output,
    calls: CallQueue,
    settings: Settings,
    sender: Worker,
    *,
    drain: bool,
    end_within: Callable[[float], None],
) -> ExitCode:
    from voiceflow_worker.cli.sending import tell_drained
    from voiceflow_worker.core.logs import logged

    collect_less()
    stopped = False

    def stop(count: int) -> None:
        nonlocal stopped
        stopped = True
        if count == 1:
            output.note(
                f"stopping: the calls in flight ({sender.in_flight}) are being finished, for "
                f"{settings.shutdown_grace.total_seconds():g} s at most; a second signal stops at once"
            )
        sender.stop()
        end_within((settings.shutdown_grace.total_seconds() if count == 1 else 0) + MOST_AFTER_GRACE)

    result: DrainResult | None = None
    async with (
        signals_to(stop),
        _lines(output, calls, drain=drain),
        _account_asked(output, settings),
    ):
        await _tell_start(output, calls, settings)
        with logged():
            if drain:
                result = await sender.drain()
            else:
                await sender.run()
    if stopped:
        output.note("stopped")
    return ExitCode.DONE if result is None else await tell_drained(output, calls, result, stopped=stopped)


def _lines(output: Output, calls: CallQueue, *, drain: bool) -> AbstractAsyncContextManager[None]:
    """A context that shows lines while a worker sends: why calls wait and, with `drain`, the progress of the drain."""
    from voiceflow_worker.cli.sending import drain_progress, waiting_lines

    return drain_progress(calls, label="draining") if drain else waiting_lines(calls, output)


async def _tell_start(output: Output, calls: CallQueue, settings: Settings) -> None:
    from voiceflow_worker.core.set_rate import SetRate

    for each in misspelt_settings():
        output.note(each)
    wanted = settings.rate
    held = (await SetRate(calls.store, calls.name).over(Limits(rate=wanted))).rate
    output.note(
        f"voiceflow worker sends queue {calls.name} of {calls.store.url}: rate {rate_in_words(held)}, "
        f"at most {settings.concurrency} POSTs in flight"
    )
    if held != wanted:
        output.note(
            f"the rate was set by `voiceflow rate`: to use the rate of this worker's settings ({rate_in_words(wanted)})"
            ", run `voiceflow rate --reset` and start the worker again"
        )
    with suppress(StoreError):  # the worker reports it
        if menus := (await calls.status()).menus:
            from voiceflow_worker.ivr.menu_data import unserved_in_words, unserved_menus  # seldom needed

            if unserved := await unserved_menus(calls.store, menus):
                output.note(
                    f"{unserved_in_words(unserved)}. To stop these calls, press Ctrl-C or run `voiceflow hold --queue "
                    f"{calls.name}`; then start a receiver with the menu (`voiceflow serve --ivr MODULE:MENU`)"
                )


@asynccontextmanager
async def _account_asked(output: Output, settings: Settings) -> AsyncGenerator[None]:
    """A context beside which the account is asked whether summaries can arrive. If they cannot, a line says so."""
    from voiceflow_worker.core.base.background import BackgroundTasks
    from voiceflow_worker.finding import Level
    from voiceflow_worker.service.doctor.account import summaries

    async def ask() -> None:
        try:
            async with voice_client(settings) as voice:
                found = summaries(settings, await voice.webhooks())
        except RequestFailedError as error:
            if error.status in _REFUSED:  # also before the first call, which would meet the same fault
                output.note(f"NO CALLS: {with_remedies(error)}")
        except VoiceError:
            pass  # the calls meet the same fault, and the worker reports it
        else:
            if found.level is not Level.OK:
                output.note(f"NO OUTCOMES: {found.message}; {found.remedy}")

    async with anyio.create_task_group() as group:
        if settings.policy().outcomes is OutcomeSource.WEBHOOK:
            task = "8x8 was not asked whether summaries can arrive"
            group.start_soon(BackgroundTasks(SystemClock()).run, task, ask)
        yield
        group.cancel_scope.deadline = anyio.current_time() + 1  # who drains an empty queue hears of it too


@asynccontextmanager
async def _metrics(
    calls: CallQueue, sender: Worker, hooks: Notifications | None, settings: Settings, *, host: str, port: int | None
) -> AsyncGenerator[None]:
    if port is None:
        yield
        return
    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.service.metrics import Figures, metrics_app, of_hooks, of_process, of_work

    of_all = [lambda: of_work(sender.counts), lambda: of_process(settings.state_dir)]
    app = metrics_app(calls, *map(Figures, of_all), *([] if hooks is None else [Figures(lambda: of_hooks(hooks))]))
    async with serving(app, host=host, port=port) as address:
        Output().note(f"metrics are on {address.url}/metrics")
        yield
