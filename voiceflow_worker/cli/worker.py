"""`voiceflow worker`: send the calls of a queue."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import DESCRIPTORS, collect_less, ending_in_time, opened, raise_limit, signals_to
from voiceflow_worker.cli.options import Flag, HostOption, NotifyOption, PortOption, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Output, keep_stdout
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.core.drain import DrainResult
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.voiceflow import Voiceflow


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
    from voiceflow_worker.notify.webhook import notifier_of

    settings = common.settings(
        rate=rate,
        burst=burst,
        concurrency=concurrency,
        max_active=max_active,
        max_per_person=max_per_person,
        retry_not_created_5xx=retry_not_created_5xx or None,
        notify_url=notify,
    )
    notifier_of(settings)  # reports what is wrong before anything is opened
    if metrics_host is not None and metrics_port is None:
        raise InvalidInputError("--metrics-host works only together with --metrics-port")
    keep_stdout()
    raise_limit(least=DESCRIPTORS + settings.concurrency)
    output = common.output(masks=settings.log_mask)
    async with AsyncExitStack() as stack:
        voiceflow = await stack.enter_async_context(opened(settings))
        hooks = await stack.enter_async_context(voiceflow.duties(tell=output.note))
        sender = voiceflow.worker()
        if metrics_port is not None:
            from voiceflow_worker.service.metrics import serving_metrics

            figures = serving_metrics(
                voiceflow.queue, sender, hooks, settings, host=metrics_host or "127.0.0.1", port=metrics_port
            )
            output.note(f"metrics are on {await stack.enter_async_context(figures)}/metrics")
        code = await _send(output, voiceflow, sender, drain=drain)
        if drain:
            await tell_the_rest(hooks, output)
        return code


MOST_AFTER_GRACE = 20.0
"""Seconds in which a worker stores what it knows, once its calls in flight had their time; then it is ended."""


async def _send(output: Output, voiceflow: Voiceflow, sender: Worker, *, drain: bool) -> ExitCode:
    from voiceflow_worker.cli.sending import account_asked, showing_progress, tell_drained, tell_start
    from voiceflow_worker.core.logs import logged

    collect_less()
    calls, grace = voiceflow.queue, voiceflow.settings.shutdown_grace.total_seconds()
    signals = 0
    result: DrainResult | None = None
    with ending_in_time() as end_within:

        def stop(count: int) -> None:
            nonlocal signals
            signals = count
            if count == 1:
                output.note(
                    f"stopping: the calls in flight ({sender.in_flight}) are being finished, for {grace:g} s at most; "
                    "a second signal stops at once"
                )
            sender.stop()
            end_within((grace if count == 1 else 0) + MOST_AFTER_GRACE)

        async with (
            signals_to(stop),
            showing_progress(calls, output, label="draining" if drain else None),
            account_asked(output, voiceflow),
        ):
            await tell_start(output, voiceflow)
            with logged():
                if drain:
                    result = await sender.drain()
                else:
                    await sender.run()
    if signals:
        output.note("stopped")
    return ExitCode.DONE if result is None else await tell_drained(output, calls, result, stopped=bool(signals))
