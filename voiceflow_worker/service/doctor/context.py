"""What the checks examine, and what they find."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import anyio

from voiceflow_worker.backends.health import Health
from voiceflow_worker.backends.registry import health_of, open_store
from voiceflow_worker.backends.sqlite.opening import require_there
from voiceflow_worker.backends.store_url import file_of, is_server
from voiceflow_worker.core.base.probe import store_probe
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import (
    NoStoreError,
    RequestFailedError,
    SettingsError,
    StoreError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.finding import Diagnosis, Level, failure, ok, warning
from voiceflow_worker.gateway.account import Webhook
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings

TIME_LIMIT = timedelta(seconds=10)
"""The time limit of one check. A person waits for the result, and a slow answer is a finding too."""


class CannotLookError(Exception):
    """Raised by a check that must wait until another check, named `cause`, is ok."""

    def __init__(self, cause: str, why: str) -> None:
        self.cause = cause
        super().__init__(why)


async def carried_out(
    name: str, look: Callable[[], Awaitable[Diagnosis | None]], *, limit: timedelta = TIME_LIMIT
) -> Diagnosis | None:
    """Run the check `look`, and return its diagnosis under this name; None if the check does not apply.

    An error becomes a failure, or a warning if another check must be ok first. The other checks can then still run.
    """
    try:
        with anyio.fail_after(limit.total_seconds()):
            found = await look()
    except TimeoutError:
        found = failure(
            f"no answer within {limit.total_seconds():g} s", remedy="check the machine, the disk and the network"
        )
    except CannotLookError as error:
        remedy = f"correct `{error.cause}` first"
        found = Diagnosis(Level.WARNING, f"skipped: {error}", remedy, waits_for=error.cause)
    except RequestFailedError as error:
        found = failure(error.message, remedy=error.remedy or "try again later")
    except VoiceflowError as error:
        found = failure(str(error), remedy="see the message")
    except Exception as error:  # noqa: BLE001 - a traceback here would end the other checks too
        found = failure(
            f"this check itself failed: {type(error).__name__}: {error}", remedy="report this line as a bug"
        )
    return None if found is None else replace(found, check=name)


TIMEOUT = timedelta(seconds=4)
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
    """The settings, store and account that the doctor examines.

    `opening` is the result of opening the store, and `health` what its backend tells of it, if its URL is right.
    """

    settings: Settings
    opening: Diagnosis
    opened: Store | None
    health: Health
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
                voice = VoiceClient.from_settings(settings, timeout=TIMEOUT)
                account = Account(await stack.enter_async_context(voice))
        store, found = await stack.enter_async_context(_opened(settings))
        health = Health()
        with suppress(SettingsError):  # the check of the store reports it
            health = health_of(settings.store, store)
        yield CheckContext(settings=settings, opening=found, opened=store, health=health, asked=account)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[tuple[Store | None, Diagnosis]]:
    try:
        path = file_of(settings.store)
    except SettingsError as error:
        yield None, failure(str(error), remedy="set VOICEFLOW_STORE")
        return
    # The limit applies to the opening alone, because an open store may have tasks that run until it is closed.
    with anyio.CancelScope(deadline=anyio.current_time() + TIME_LIMIT.total_seconds()) as opening:
        async with AsyncExitStack() as stack:
            store: Store | None = None
            try:
                if path is not None:
                    require_there(path)
                options: dict[str, Any] = {"makes": False} if is_server(settings.store) else {}
                opened = open_store(settings.store, advises=False, settings=settings, **options)
                store = await stack.enter_async_context(opened)
                await store_probe(store)()
                found = _found(store)
            except NoStoreError as error:
                found = warning(str(error), remedy="if it was there, check VOICEFLOW_STORE and the directory")
            except (StoreError, SettingsError) as error:
                remedy = "do what the message says"
                found = failure(str(error), remedy=remedy)
            opening.deadline = math.inf
            yield store, found
        return
    within = f"the store did not open within {TIME_LIMIT.total_seconds():g} s"
    yield None, failure(within, remedy="check its disk, or its server")


def _found(store: Store) -> Diagnosis:
    if store.url.startswith("memory:"):
        return warning(
            "memory:// keeps calls in one process, and loses them when it ends",
            remedy="set VOICEFLOW_STORE to a SQLite file, a PostgreSQL or a Redis, unless this is a test",
        )
    return ok(f"{store.url} opens, and takes a write")
