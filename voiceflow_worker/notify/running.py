"""Notifications as the settings ask for them: sent while a worker or a receiver runs, and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from voiceflow_worker.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.notify.webhook import OutcomeWebhook
    from voiceflow_worker.settings import Settings

HOOK = "notify"
"""The name of the hook that sends notifications."""

_COUNTERS = {
    "told": "Outcomes delivered to a hook.",
    "failures": "Failed deliveries.",
    "parked": "Outcomes set aside after days of failed deliveries.",
    "behind": "How often outcomes were deleted before they were delivered.",
}


def notifier_of(settings: Settings) -> OutcomeWebhook | None:
    """The notification webhook of these settings, not opened yet; None if they name no URL. Raises SettingsError."""
    if settings.notify_url is None:
        return None
    from voiceflow_worker.notify.signature import MAKE_ONE
    from voiceflow_worker.notify.webhook import OutcomeWebhook

    if settings.notify_secret is None:
        raise SettingsError(
            "the secret for signing notifications is missing: set VOICEFLOW_NOTIFY_SECRET, or "
            f"VOICEFLOW_NOTIFY_SECRET_FILE to a file that holds it; make one: {MAKE_ONE}"
        )
    return OutcomeWebhook(
        settings.notify_url,
        secret=settings.notify_secret.get_secret_value(),
        allow_plain_http=settings.allow_plain_http == "yes",
    )


@asynccontextmanager
async def notifying(
    notifier: OutcomeWebhook | None, settings: Settings, store: Store, *, queue: str | None, tell: Callable[[str], None]
) -> AsyncGenerator[OutcomeHooks | None]:
    """Send the outcomes of a queue to the notifier while the block lasts. If `queue` is None, send those of all queues.

    `tell` gets a sentence with the host to which they go. Yields the hooks that send the outcomes; None without a
    notifier.
    """
    if notifier is None:
        yield None
        return
    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks

    hooks = OutcomeHooks(store, queue=queue)
    hooks.on_outcome(name=HOOK)(notifier)
    async with notifier, anyio.create_task_group() as group:
        group.start_soon(hooks.run)
        host = urlsplit(settings.notify_url or "").hostname
        tell(f"outcomes of {'all queues' if queue is None else f'queue {queue}'} are sent to {host}")
        try:
            yield hooks
        finally:
            hooks.stop()


class HookMetrics:
    """Prometheus metrics of the hooks of this process."""

    def __init__(self, hooks: OutcomeHooks) -> None:
        self._hooks = hooks

    def collect(self) -> Iterator[Metric]:
        """The metrics with their current values."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, meaning in _COUNTERS.items():
            counter = CounterMetricFamily(f"voiceflow_hook_{name}", meaning, labels=["hook"])
            for hook, counts in self._hooks.counts.items():
                counter.add_metric([hook], getattr(counts, name))
            yield counter
        waiting = GaugeMetricFamily("voiceflow_hook_waiting", "Outcomes waiting for delivery.", labels=["hook"])
        stopped = GaugeMetricFamily("voiceflow_hook_stopped", "1 if the hook has stopped.", labels=["hook"])
        for hook, counts in self._hooks.counts.items():
            waiting.add_metric([hook], counts.waiting)
            stopped.add_metric([hook], int(counts.is_stopped))
        yield from (waiting, stopped)
