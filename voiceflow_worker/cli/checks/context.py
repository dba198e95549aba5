"""The settings, the store and the account that the checks examine, as far as they could be opened."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio

from voiceflow_worker.backends.file_address import file_of
from voiceflow_worker.backends.registry import is_redis, open_store
from voiceflow_worker.backends.sqlite.file.nearby import stores_near
from voiceflow_worker.cli.checks.diagnosis import TIME_LIMIT, CannotLookError, Diagnosis, failure, ok, warning
from voiceflow_worker.cli.remedies import with_remedies
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import SettingsError, StoreError, VoiceflowError, VoiceUnavailableError
from voiceflow_worker.gateway.account.resources import Webhook
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings

PATIENCE = timedelta(seconds=4)
"""The time limit of each step of a request to 8x8."""


@dataclass(slots=True)
class Account:
    """The account at 8x8. Its webhooks are requested once, and all checks use that answer."""

    voice: VoiceClient
    _answer: tuple[Webhook, ...] | VoiceflowError | None = None

    @property
    def is_out_of_reach(self) -> bool:
        """True if 8x8 did not answer at all."""
        return isinstance(self._answer, VoiceUnavailableError) and self._answer.status is None

    async def webhooks(self) -> tuple[Webhook, ...]:
        """The webhooks of the account. Raises VoiceflowError; a failed request is not repeated."""
        if self._answer is None:
            # Kept if the check times out during the request.
            self._answer = VoiceUnavailableError("8x8 did not answer")
            try:
                self._answer = await self.voice.webhooks()
            except VoiceflowError as error:
                self._answer = error
        if isinstance(self._answer, VoiceflowError):
            raise self._answer
        return self._answer

    async def usable(self) -> VoiceClient:
        """The client, if 8x8 accepts its credentials. Otherwise raises CannotLookError."""
        try:
            await self.webhooks()
        except VoiceflowError as error:
            raise CannotLookError("credentials", "a request to 8x8 failed") from error
        return self.voice


@dataclass(slots=True, kw_only=True)
class CheckContext:
    """The settings, store and account that the doctor examines. `opening` is the result of opening the store."""

    settings: Settings
    opening: Diagnosis
    opened: Store | None
    asked: Account | None

    @property
    def store(self) -> Store:
        """The open store. Raises CannotLookError if there is none."""
        if self.opened is None:
            raise CannotLookError("store", "the store could not be opened")
        return self.opened

    @property
    def account(self) -> Account:
        """The account. Raises CannotLookError if there is no client for it."""
        if self.asked is None:
            raise CannotLookError("account", "the API key or the sub-account is missing, or the base URL is wrong")
        return self.asked


Check = Callable[[CheckContext], Coroutine[Any, Any, Diagnosis | None]]
"""A check. It returns its diagnosis, or None if it does not apply."""


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncGenerator[CheckContext]:
    """Open the store and the client of the account. If one cannot be opened, it is left out."""
    async with AsyncExitStack() as stack:
        account = None
        if not settings.missing_for_calls():
            with suppress(SettingsError):  # the account check reports it
                voice = VoiceClient.from_settings(settings, patience=PATIENCE)
                account = Account(await stack.enter_async_context(voice))
        store, found = await stack.enter_async_context(_opened(settings))
        yield CheckContext(settings=settings, opening=found, opened=store, asked=account)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[tuple[Store | None, Diagnosis]]:
    try:
        path = file_of(settings.store)
    except SettingsError as error:
        yield None, failure(str(error), remedy="set VOICEFLOW_STORE")
        return
    if path is not None and not path.exists() and path.parent.is_dir():
        near = ", ".join(map(str, stores_near(path)))
        yield (
            None,
            warning(
                f"there is no store {path}{f'; stores nearby: {near}' if near else ''}",
                remedy="`voiceflow enqueue` creates it; if it was there, check VOICEFLOW_STORE and the directory",
            ),
        )
        return
    # The limit applies to the opening alone, because an open store may have tasks that run until it is closed.
    with anyio.CancelScope(deadline=anyio.current_time() + TIME_LIMIT.total_seconds()) as opening:
        async with AsyncExitStack() as stack:
            store: Store | None = None
            # The check of the durability reports a Redis that should be configured differently.
            quietly: dict[str, Any] = {"advises": False} if is_redis(settings.store) else {}
            try:
                store = await stack.enter_async_context(open_store(settings.store, **quietly))
                found = _found(store)
            except (StoreError, SettingsError) as error:
                found = failure(
                    with_remedies(str(error), error.remedies),
                    remedy="do what the message says, and check VOICEFLOW_STORE",
                )
            opening.deadline = math.inf
            yield store, found
        return
    yield (
        None,
        failure(
            f"the store did not open within {TIME_LIMIT.total_seconds():g} s", remedy="check its disk, or its server"
        ),
    )


def _found(store: Store) -> Diagnosis:
    if store.url.startswith("memory:"):
        return warning(
            "memory:// keeps calls in one process, and loses them when it ends",
            remedy="set VOICEFLOW_STORE to a SQLite file or a Redis, unless this is a test",
        )
    return ok(f"{store.url} opens")
