"""One object for a program that embeds the library: the store, the client and the queue of its settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.worker import Worker, WorkerOptions
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.jobs.job import Job, RedialPolicy
from voiceflow_worker.model.jobs.policy import redial_policy
from voiceflow_worker.model.text.wording import did_you_mean
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.campaign import Campaign
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.notify.delivery import Notifications
    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.webhooks import Receiver

LIMITS: Final = (
    "rate", "burst", "concurrency", "max_active", "max_per_person", "lease", "shutdown_grace",
)  # fmt: skip
"""The settings that `Voiceflow.worker` takes."""
_NO_KEY: Final = "-"
_log = structlog.get_logger("voiceflow")


class Voiceflow:
    """The calls of one account and queue: enqueue, send and receive them. An async context manager.

    It opens the store of the `settings`, and the client if they have an API key and a sub-account. A `store` or
    `client` that is given must be open, and stays open. Use it on the event loop, and in the process, that opened it.
    """

    def __init__(self, settings: Settings, *, store: Store | None = None, client: VoiceClient | None = None) -> None:
        self.settings = settings
        self._store = store
        self._client = client
        self._queue: CallQueue | None = None
        self._stack: AsyncExitStack | None = None

    @classmethod
    def from_env(cls, **settings: Any) -> Self:
        """Return one with the settings of the environment and `.env`. Settings that are given here override both.

        They have the names of the settings in lower case: `store="redis://…"`. Raises SettingsError, which names every
        unknown or wrong setting.
        """
        return cls(load_settings(options_place="given directly", **settings))

    async def __aenter__(self) -> Self:
        """Open the store, and the client. Raises StoreError, SettingsError."""
        if self._stack is not None:
            raise RuntimeError("this Voiceflow is open already. Make one for each `async with`")
        async with AsyncExitStack() as stack:
            if self._store is None:
                opened = open_store(self.settings.store, settings=self.settings)
                self._store = await stack.enter_async_context(opened)
                stack.callback(setattr, self, "_store", None)
            if self._client is None and not self.settings.missing_for_calls():
                self._client = await stack.enter_async_context(VoiceClient.from_settings(self.settings))
                stack.callback(setattr, self, "_client", None)
            stack.callback(setattr, self, "_queue", None)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    @property
    def store(self) -> Store:
        """Open store of the calls."""
        if self._store is None:
            raise RuntimeError("this Voiceflow is not open. Use it inside `async with`")
        return self._store

    @property
    def client(self) -> VoiceClient:
        """Open client of 8x8. Raises SettingsError if the settings have no API key or no sub-account."""
        if self._client is None:
            if missing := self.settings.missing_for_calls():
                raise SettingsError("; ".join(missing))
            raise RuntimeError("this Voiceflow is not open. Use it inside `async with`")
        return self._client

    @property
    def queue(self) -> CallQueue:
        """Queue of the settings, with their policies."""
        if self._queue is None:
            policy, redial = self.settings.policy(), _redial_of(self.settings)
            self._queue = CallQueue(self.store, self.settings.queue, policy=policy, redial=redial)
        return self._queue

    @property
    def suppression(self) -> SuppressionList:
        """List of the numbers that are never called."""
        return SuppressionList(self.store, policy=self.settings.policy())

    async def call(
        self,
        to: str | None = None,
        *,
        unique_key: str | None = None,
        connection: object = None,
        replace: bool = False,
        **fields: Any,
    ) -> Job:
        """Enqueue one call, and return its job; or the job that already has the `unique_key`, if it is the same call.

        It takes the fields of a call, as text (`valid_for="2h"`) or as Python's types: `say`, `flow` (a `CallFlow` or
        a body) or `ivr` (a `Menu` or `module:menu`), and `redial` (a `RedialPolicy`). What is left out comes from the
        settings. `connection` and `replace` are those of `CallQueue.enqueue`. Without `to`, a `flow` calls its own
        number. Raises InvalidInputError with a finding for each field that is missing, unknown or wrong, and the
        errors of `CallQueue.enqueue`.
        """
        from voiceflow_worker.service.named_call import read_call  # a worker needs no campaigns

        flow, redial = fields.get("flow"), fields.pop("redial", None)
        if isinstance(flow, CallFlow):
            fields["flow"] = flow = flow.to_body()
        if is_object(flow) and unique_key is None:
            unique_key = CallFlow.parse(flow).client_request_id
        if isinstance(redial, RedialPolicy):
            given = {"redial_on": [*redial.on], "redial_max": redial.limit, "redial_after": redial.after}
            fields = {**given, **fields}
        call = read_call(
            {"to": to, **fields},
            key=_NO_KEY if unique_key is None else unique_key,
            settings=self.settings,
            now=self.store.clock.now(),
        )
        if unique_key is None:
            call = call._replace(unique_key=None)
        (found,) = await self.queue.enqueue_many([call], connection=connection, replace=replace)
        return found.job

    def campaign(self, **fields: Any) -> Campaign:
        """Return the campaign with these fields (`Campaign.of`), completed by the settings."""
        from voiceflow_worker.campaigns.campaign import Campaign

        return Campaign.of(fields, settings=self.settings)

    def worker(self, *, batch: str | None = None, **limits: Any) -> Worker:
        """Return a worker of the queue, or of one batch, which keeps a journal and looks up doubts in 8x8's log.

        `limits` are settings that count here: rate, burst, concurrency, max_active, max_per_person, lease and
        shutdown_grace. Raises SettingsError for a wrong or missing setting, and InvalidInputError for another name.
        """
        if unknown := next((name for name in limits if name not in LIMITS), None):
            raise InvalidInputError(f"{unknown} is no limit of a worker{did_you_mean(unknown, LIMITS)}")
        return self._worker(self.settings.changed(**limits), batch)

    async def temporary_worker(self, *, batch: str | None = None, but: Collection[str] = ()) -> Worker:
        """Return a worker for a command or a task that sends and ends: it leaves the limits of the queue as they are.

        `but` names the limits that it sets. Raises StoreError and SettingsError.
        """
        limits, settings = await limits_of(self.store, self.settings.queue), self.settings
        if limits is not None and not limits.are_unreadable:
            own = {name: each for name, each in asdict(limits).items() if name not in but}
            settings = settings.model_copy(update=own)
        return self._worker(settings, batch)

    def _worker(self, settings: Settings, batch: str | None) -> Worker:
        options = WorkerOptions(
            burst=settings.burst,
            max_active=settings.max_active,
            lease=settings.lease,
            shutdown_grace=settings.shutdown_grace,
            batch_id=batch,
            policy=settings.policy(),
        )
        concurrency = settings.concurrency
        return Worker(
            self.store, self.client, queue=settings.queue, rate=settings.rate, concurrency=concurrency, options=options
        )

    @asynccontextmanager
    async def working(self, *, batch: str | None = None, **limits: Any) -> AsyncGenerator[Worker]:
        """Run a worker beside the block. When the block ends, in whatever way, it stops in order.

        It also does the `duties` of such a process. An error of the block is raised as it came. If the worker cannot go
        on, the block is cancelled, and the worker's error is raised.
        """
        worker = self.worker(batch=batch, **limits)
        async with self.duties(), worker.running():
            yield worker

    @asynccontextmanager
    async def duties(self, *, tell: Callable[[str], None] = _log.info) -> AsyncGenerator[Notifications | None]:
        """Do what a process does beside its worker, while the block lasts; yield the notifications, if there are any.

        It sends outcomes to VOICEFLOW_NOTIFY_URL, and follows escalations: see `service.on_call.follow`.
        """
        from voiceflow_worker.notify.webhook import notifier_of, notifying
        from voiceflow_worker.service.on_call import following

        settings, store, queue = self.settings, self.store, self.settings.queue
        async with (
            notifying(notifier_of(settings), settings, store, queue=queue, tell=tell) as hooks,
            following(CallQueue(store, queue, policy=settings.policy())),
        ):
            yield hooks

    def receiver(self, *, menus: Iterable[Menu] = (), api: bool | None = None) -> Receiver:
        """Return a receiver of 8x8's events with these settings; its `app` is mounted in an app of your own.

        With `api`, it serves `/v1`, too. Needs the extra `server`. Raises SettingsError.
        """
        from voiceflow_worker.webhooks import Receiver

        return Receiver(self.settings, self.store, menus=[*menus], api=api)

    @classmethod
    @asynccontextmanager
    async def in_sandbox(cls, **settings: Any) -> AsyncGenerator[tuple[Self, Sandbox]]:
        """Yield an open Voiceflow and the sandbox that it calls, which calls nobody: for tests and examples.

        A receiver in this process takes the sandbox's events. The store is in memory unless one is given. Nothing is
        read from the environment. Calls are answered unless the sandbox has a script for them, and pass quickly. Needs
        the extra `server`. Raises SettingsError.
        """
        from voiceflow_worker.asgi import serving
        from voiceflow_worker.gateway.account import PATH
        from voiceflow_worker.sandbox import Sandbox

        secret = token_hex(16)
        fixed = {"api_key": "sandbox", "sub_account": "sandbox", "webhook_secret": secret}
        usual = {"store": "memory://", "source": "+6531234567", "voice_profile": "en-US-JennyNeural"}
        read = Settings().changed(**{**usual, **settings, **fixed})
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(read.store, settings=read))
            receiver = cls(read, store=store).receiver()
            await stack.enter_async_context(receiver.running())
            address = await stack.enter_async_context(serving(receiver.app))
            sandbox = Sandbox(webhook=f"{address.url}{PATH}", webhook_secret=secret, speed=_SPEED, answers=True)
            url = await stack.enter_async_context(sandbox.running())
            async with cls(read.changed(base_url=url), store=store) as voiceflow:
                yield voiceflow, sandbox


_SPEED: Final = 50.0


def _redial_of(settings: Settings) -> RedialPolicy | None:
    """Return the redial policy of the settings; None if they ask for no redials."""
    if not settings.redial_on:
        return None
    return redial_policy(settings.redial_on, limit=settings.redial_max, after=settings.redial_after, spare=True)
