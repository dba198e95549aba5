"""`--notify URL`: beside a worker or a receiver, outcomes are told to the user's own system."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import anyio
from cyclopts import Parameter

from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.stopping import signals_to
from voiceflow_worker.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.notify.webhook import OutcomeWebhook
    from voiceflow_worker.settings import Settings

HOOK = "notify"
"""The name under which the store remembers what was told."""
LAST_WAIT = timedelta(seconds=30)

NotifyOption = Annotated[
    str | None,
    Parameter(
        name="--notify",
        metavar="URL",
        help="Tell this address, your own, what becomes of calls: POSTs signed with VOICEFLOW_NOTIFY_SECRET. "
        "[VOICEFLOW_NOTIFY_URL]",
    ),
]


def notifier_of(settings: Settings) -> OutcomeWebhook | None:
    """The webhook out of these settings, not open yet; None if there is none. Raises SettingsError."""
    if settings.notify_url is None:
        return None
    from voiceflow_worker.notify.signature import MAKE_ONE
    from voiceflow_worker.notify.webhook import OutcomeWebhook

    if settings.notify_secret is None:
        raise SettingsError(
            "notifications are signed, and there is no secret for it: set VOICEFLOW_NOTIFY_SECRET, or "
            f"VOICEFLOW_NOTIFY_SECRET_FILE to a file that holds it; make one: {MAKE_ONE}"
        )
    return OutcomeWebhook(
        settings.notify_url,
        secret=settings.notify_secret.get_secret_value(),
        allow_plain_http=settings.allow_plain_http == "yes",
    )


@asynccontextmanager
async def notifying(
    notifier: OutcomeWebhook | None, settings: Settings, store: Store, *, queue: str | None
) -> AsyncGenerator[OutcomeHooks | None]:
    """While the block lasts, tell the notifier what becomes of the calls of a queue, or with None of all queues."""
    if notifier is None:
        yield None
        return
    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks

    hooks = OutcomeHooks(store, queue=queue)
    hooks.on_outcome(name=HOOK)(notifier)
    async with notifier, anyio.create_task_group() as group:
        group.start_soon(hooks.run)
        host = urlsplit(settings.notify_url or "").hostname
        Output().note(f"{host} is told what becomes of {'all calls' if queue is None else f'the calls of {queue}'}")
        try:
            yield hooks
        finally:
            hooks.stop()


async def tell_the_rest(hooks: OutcomeHooks | None, output: Output) -> None:
    """Wait until what has happened by now was told, for half a minute at most, or until a signal."""
    if hooks is None:
        return
    scope = anyio.CancelScope()
    async with signals_to(lambda _: scope.cancel()):
        with anyio.move_on_after(LAST_WAIT.total_seconds()), scope:
            await hooks.caught_up()
    waiting = hooks.counts[HOOK].waiting
    if waiting:
        output.note(
            f"notifications not taken yet: {waiting}; they are kept, and sent by the next worker or serve with --notify"
        )


class HookMetrics:
    """What hooks were told by this process, as metrics for Prometheus."""

    def __init__(self, hooks: OutcomeHooks) -> None:
        self._hooks = hooks

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        told = CounterMetricFamily("voiceflow_hook_told", "Outcomes that a hook has taken.", labels=["hook"])
        failures = CounterMetricFamily("voiceflow_hook_failures", "Tries that failed.", labels=["hook"])
        parked = CounterMetricFamily("voiceflow_hook_parked", "Outcomes given up after days.", labels=["hook"])
        behind = CounterMetricFamily(
            "voiceflow_hook_behind", "Times that outcomes were forgotten before they were told.", labels=["hook"]
        )
        waiting = GaugeMetricFamily("voiceflow_hook_waiting", "Outcomes that are to be told.", labels=["hook"])
        stopped = GaugeMetricFamily("voiceflow_hook_stopped", "1: the hook wants no more.", labels=["hook"])
        for name, counts in self._hooks.counts.items():
            told.add_metric([name], counts.told)
            failures.add_metric([name], counts.failures)
            parked.add_metric([name], counts.parked)
            behind.add_metric([name], counts.behind)
            waiting.add_metric([name], counts.waiting)
            stopped.add_metric([name], int(counts.is_stopped))
        yield from (told, failures, parked, behind, waiting, stopped)
