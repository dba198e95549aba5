"""The address at which 8x8 reaches the receivers of a store: registered by one of them, and looked at by each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.queue_account import QueueAccount, registered_addresses
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.account import WebhookType
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings

LOOK_EVERY = 60.0
TASK = "8x8 and this store do not agree"

_log = structlog.get_logger("voiceflow.webhooks")


class Registration:
    """What 8x8 and the store must agree on: the address of the receivers, and the account of each queue.

    The address `url` is registered for events of these `kinds`, with the webhook secret. One that 8x8 has instead, and
    that no receiver of this store registered, is replaced only with `force`.
    """

    def __init__(
        self, settings: Settings, store: Store, *, url: str | None, kinds: Sequence[WebhookType], force: bool
    ) -> None:
        self._settings = settings
        self._store = store
        self._addresses = registered_addresses(store)
        self._asked = {} if url is None else {kind.value: url for kind in kinds}
        self._registered = set[str]()
        self._force = force

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Register the address, and look once a minute whether it is still registered, while the block lasts.

        What is wrong is logged, and is in the heartbeat of the receiver.
        """
        return BackgroundTasks(self._store.clock).repeated(TASK, self._look, every=LOOK_EVERY)

    async def _look(self) -> None:
        """Raise VoiceflowError if the address is not registered, or a queue belongs to another account."""
        if self._settings.missing_for_calls() and not self._asked:
            return  # a receiver alone needs no account
        client, sent_to = VoiceClient.from_settings(self._settings), dict[str, str]()
        queues = [QueueAccount(self._store, name) for name in await QueueNames(self._store).known()]
        wrong = [problem for queue in queues if (problem := await queue.problem(client.account)) is not None]
        ours = await self._addresses.get([kind.value for kind in WebhookType])
        if ours or self._asked:
            async with client as voice:
                sent_to = {webhook.type: webhook.url for webhook in await voice.webhooks() if webhook.enabled}
                for kind, url in self._asked.items():
                    known = {None, url, ours.get(kind)}
                    if kind not in self._registered and (self._force or sent_to.get(kind) in known):
                        await self._register(voice, kind, url)
                        sent_to[kind] = url
        wrong += [
            f"8x8 sends {kind} events to {sent_to.get(kind, 'nobody')}. `serve --register URL --force` registers {url}"
            for kind, url in {**ours, **self._asked}.items()
            if url is not None and sent_to.get(kind) != url
        ]
        if wrong:
            raise SettingsError("; ".join(wrong))

    async def _register(self, voice: VoiceClient, kind: str, url: str) -> None:
        secret = next(iter(self._settings.secret_values("webhook_secret")), None)
        await voice.register_webhook(kind, url, auth_header=secret)
        await self._addresses.put({kind: url})
        self._registered.add(kind)
        header = "with VOICEFLOW_WEBHOOK_SECRET" if secret else "without an Authorization header"
        _log.info(f"8x8 now sends {kind} events to {url}, {header}")
