"""The checks of `voiceflow doctor`, each after the checks that it depends on. They change nothing and call nobody."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx

from voiceflow_worker.backends.health import HealthCheck, checks_of
from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.backends.sqlite.opening import require_there
from voiceflow_worker.backends.store_url import file_of, is_server
from voiceflow_worker.core.base.clock import SET_CLOCK, ahead_of_8x8, off_in_words
from voiceflow_worker.core.base.probe import store_probe
from voiceflow_worker.core.heartbeats import REGISTER, Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.queue_account import TAKE_OVER, QueueAccount, registered_addresses
from voiceflow_worker.errors import (
    InvalidInputError,
    NoStoreError,
    RequestFailedError,
    SettingsError,
    StoreError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.finding import Diagnosis, Level, failure, ok, warning
from voiceflow_worker.gateway.account import PATH, Webhook, WebhookType
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.verdict import describe
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.model.text.web_address import why_not_from_outside
from voiceflow_worker.model.text.wording import write_duration
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.settings import Settings, unknown_variables

TIME_LIMIT = timedelta(seconds=10)
"""The time limit of one check. A person waits for the result, and a slow answer is a finding too."""
STEP_LIMIT = timedelta(seconds=4)
"""The time limit of each step of a request."""
NOT_FOR_GET = 405
"""The HTTP status with which a receiver answers a GET request to its webhook."""


class CannotLookError(Exception):
    """Raised by a check that must wait until another check, named `cause`, is ok."""

    def __init__(self, cause: str, why: str) -> None:
        self.cause = cause
        super().__init__(why)


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
        """Return the webhooks of the account. Raises VoiceflowError; a failed request is not repeated."""
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

    async def webhook(self, kind: WebhookType) -> Webhook | None:
        """Return the webhook for events of this type, if there is one. Raises CannotLookError."""
        await self.usable()
        return next((each for each in await self.webhooks() if each.type == kind.value), None)

    async def usable(self) -> VoiceClient:
        """Return the client, if 8x8 accepts its credentials. Otherwise raises CannotLookError."""
        try:
            await self.webhooks()
        except VoiceflowError as error:
            raise CannotLookError("credentials", "a request to 8x8 failed") from error
        return self.voice


@dataclass(slots=True, kw_only=True)
class CheckContext:
    """The settings, store and account that the doctor examines.

    `opening` is the result of opening the store, and `of_store` are the checks of its server or its disk.
    """

    settings: Settings
    opening: Diagnosis
    opened: Store | None
    of_store: Mapping[str, HealthCheck]
    client: Account | None

    @property
    def store(self) -> Store:
        """Open store. Raises CannotLookError if there is none."""
        if self.opened is None:
            raise CannotLookError("store", "the store could not be opened")
        return self.opened

    @property
    def account(self) -> Account:
        """Account. Raises CannotLookError if there is no client for it."""
        if self.client is None:
            raise CannotLookError("account", "the API key or the sub-account is missing, or the base URL is wrong")
        return self.client

    @property
    def awaits_outcomes(self) -> bool:
        """True if outcomes come by webhook."""
        return self.settings.policy().outcomes is OutcomeSource.WEBHOOK


Check = Callable[[CheckContext], Coroutine[Any, Any, Diagnosis | None]]
"""A check. It returns its diagnosis, or None if it does not apply."""


async def examine(load: Callable[[], Settings], report: Callable[[Diagnosis], None]) -> None:
    """Run every check, and report each result at once.

    If the settings cannot be read, the error is reported, and only the checks that need no settings are run.
    """

    async def run(name: str, look: Callable[[], Awaitable[Diagnosis | None]]) -> None:
        found = await carried_out(name, look)
        if found is not None:
            report(found)

    await run("unknown settings", unknown_settings)
    try:
        settings = load()
    except SettingsError as error:
        remedy = "correct these settings, then check them with `voiceflow config show`"
        report(replace(failure(str(error), remedy=remedy), check="settings"))
        return
    async with open_context(settings) as context:

        def bound(checks: Mapping[str, Check]) -> dict[str, HealthCheck]:
            return {name: partial(check, context) for name, check in checks.items()}

        for name, look in {**bound(_FIRST), **context.of_store, **bound(_CHECKS)}.items():
            await run(name, look)
        await run("queue", partial(_of_queue, context, report))


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
        within = f"no answer within {limit.total_seconds():g} s"
        found = failure(within, remedy="check the machine, the disk and the network")
    except CannotLookError as error:
        remedy = f"correct `{error.cause}` first"
        found = Diagnosis(Level.WARNING, f"skipped: {error}", remedy, waits_for=error.cause)
    except RequestFailedError as error:
        found = failure(error.message, remedy=error.remedy or "try again later")
    except VoiceflowError as error:
        found = failure(str(error), remedy="see the message")
    except Exception as error:  # noqa: BLE001 - a traceback here would end the other checks too
        what = f"this check itself failed: {type(error).__name__}: {error}"
        found = failure(what, remedy="report this line as a bug")
    return None if found is None else replace(found, check=name)


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncGenerator[CheckContext]:
    """Open the store and the client of the account. If one cannot be opened, it is left out."""
    async with AsyncExitStack() as stack:
        client = None
        if not settings.missing_for_calls():
            with suppress(SettingsError):  # the account check reports it
                voice = VoiceClient.from_settings(settings, timeout=STEP_LIMIT)
                client = Account(await stack.enter_async_context(voice))
        store, opening = await stack.enter_async_context(_opened(settings))
        of_store: Mapping[str, HealthCheck] = {}
        with suppress(SettingsError):  # the check of the store reports it
            of_store = checks_of(settings.store, store)
        yield CheckContext(settings=settings, opening=opening, opened=store, of_store=of_store, client=client)


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
                found = ok(f"{store.url} opens, and takes a write")
                if store.url.startswith("memory:"):
                    remedy = "set VOICEFLOW_STORE to a SQLite file, a PostgreSQL or a Redis, unless this is a test"
                    found = warning("memory:// keeps calls in one process, and loses them when it ends", remedy=remedy)
            except NoStoreError as error:
                found = warning(str(error), remedy="if it was there, check VOICEFLOW_STORE and the directory")
            except (StoreError, SettingsError) as error:
                found = failure(str(error), remedy="do what the message says")
            opening.deadline = math.inf
            yield store, found
        return
    within = f"the store did not open within {TIME_LIMIT.total_seconds():g} s"
    yield None, failure(within, remedy="check its disk, or its server")


async def _of_queue(context: CheckContext, report: Callable[[Diagnosis], None]) -> Diagnosis | None:
    """Report what is in the way of the queue's calls, as `status` does."""
    from voiceflow_worker.service.whole_queue import read_queue  # a worker uses other checks

    queue = CallQueue(context.store, context.settings.queue, policy=context.settings.policy())
    whole = await read_queue(queue)
    if whole.unheard is not None and context.opening.level is Level.FAILURE:  # one cause is reported once
        whole = replace(whole, unheard="the store takes no write, see the check `store`")
    found = [each for each in whole.conditions if each.level is not Level.OK]
    for each in found:
        report(each)
    return None if found else ok("nothing is in the way of its calls")


# -- settings, account and clock ---------------------------------------------------------------------------------------


async def unknown_settings() -> Diagnosis:
    """Check that there are no unknown names among the settings."""
    try:
        unknown = unknown_variables()
    except SettingsError as error:
        return failure(str(error), remedy="correct or remove that file")
    if not unknown:
        return ok("no unknown settings")
    return warning("; ".join(each.in_words() for each in unknown), remedy="correct their names, or remove them")


async def _account(context: CheckContext) -> Diagnosis:
    if missing := context.settings.missing_for_calls():
        names, _, ways = zip(*(each.partition(": ") for each in missing), strict=True)
        return failure("; ".join(names), remedy="; ".join(ways))
    client = VoiceClient.from_settings(context.settings)
    if context.opened is not None:
        of_queue = QueueAccount(context.opened, context.settings.queue)
        if (problem := await of_queue.problem(client.account)) is not None:
            return failure(problem, remedy=f"set VOICEFLOW_SUB_ACCOUNT and VOICEFLOW_BASE_URL to those; {TAKE_OVER}")
    return ok(f"{context.settings.sub_account}, at {context.settings.base_url or BASE_URL}")


async def _store(context: CheckContext) -> Diagnosis:
    return context.opening


async def _credentials(context: CheckContext) -> Diagnosis:
    await context.account.webhooks()
    return ok(f"8x8 accepts the API key for {context.settings.sub_account}")


async def _clock(context: CheckContext) -> Diagnosis:
    account = context.account
    if account.is_out_of_reach:
        raise CannotLookError("credentials", "8x8 could not be asked for the time")
    now = context.opened.clock.now if context.opened is not None else partial(datetime.now, UTC)
    before = now()
    theirs = await account.voice.server_time()
    if theirs is None:
        return warning("the answer of 8x8 had no time, so this clock was not checked", remedy="run this command again")
    return judged_clock(before, now(), theirs, allowed=context.settings.clock_skew)


def judged_clock(before: datetime, after: datetime, theirs: datetime, *, allowed: timedelta) -> Diagnosis:
    """Return the diagnosis of this clock, by one request to 8x8.

    `before` and `after` are the times of this clock around the request. `theirs` is the time in the answer.
    """
    ahead = timedelta(seconds=round(ahead_of_8x8(theirs, before=before, after=after).total_seconds()))
    if not ahead:
        return ok("this clock agrees with the clock of 8x8")
    off_by = f"this clock is {off_in_words(ahead, of='8x8')}"
    if abs(ahead) <= allowed:
        return ok(f"{off_by}, within VOICEFLOW_CLOCK_SKEW")
    most = write_duration(allowed)
    return failure(
        f"{off_by}, but VOICEFLOW_CLOCK_SKEW allows only {most}: calls expire too early, or may ring too late",
        remedy=f"{SET_CLOCK}, then run `voiceflow resume` if a queue is held",
    )


async def _voice(context: CheckContext) -> Diagnosis | None:
    wanted = context.settings.voice_profile
    if wanted is None:
        return None
    voices = {each.code.casefold(): each.code for each in await (await context.account.usable()).speech_profiles()}
    if wanted in voices.values():
        return ok(f"{wanted} is a voice of the account")
    nearest = ", ".join(voices[each] for each in get_close_matches(wanted.casefold(), voices, cutoff=0))
    return failure(
        f"the account has no voice {wanted}, so 8x8 refuses calls with it (-1002); the nearest: {nearest or 'none'}",
        remedy="set VOICEFLOW_VOICE_PROFILE to a voice that `voiceflow account` lists",
    )


async def _source(context: CheckContext) -> Diagnosis | None:
    wanted = context.settings.source
    if wanted is None:
        return None
    try:
        numbers = read_sources(wanted).numbers
    except InvalidInputError as error:
        return failure(str(error), remedy="write VOICEFLOW_SOURCE with its country code, such as +6531234567")
    found = [await _own_number(context, number) for number in numbers]
    bad = next((each for each in found if each.level is not Level.OK), None)
    return bad or ok("; ".join(each.message for each in found))


async def _own_number(context: CheckContext, number: str) -> Diagnosis:
    voice = await context.account.usable()
    listed = (each for each in await voice.numbers() if each.msisdn.removeprefix("+") == number.removeprefix("+"))
    found = next(listed, None)
    if found is None:
        return warning(
            f"{number} is not a number of the account: 8x8 refuses calls from it (-1014), unless 8x8 has allowed it as "
            "a caller id",
            remedy="set VOICEFLOW_SOURCE to a number that `voiceflow account` lists as Active; a test call "
            "(`voiceflow doctor --call NUMBER`) shows whether 8x8 allows this one",
        )
    if found.status is None:
        return ok(f"{number} belongs to the account, but 8x8 does not list its state")
    if found.is_active and not found.is_unhealthy:
        return ok(f"{number} belongs to the account, and is active")
    status = "unhealthy" if found.is_unhealthy else found.status.lower()
    kind = warning if found.is_unhealthy or found.is_expiring else failure
    remedy = "renew it with 8x8, or import the list again with another source (`voiceflow enqueue … --replace`)"
    return kind(f"{number} is {status}{f' ({found.health})' if found.health else ''}", remedy=remedy)


# -- how events come back ----------------------------------------------------------------------------------------------


async def registered(context: CheckContext) -> Diagnosis | None:
    """Check that 8x8 sends session summaries to a receiver."""
    if not context.awaits_outcomes:
        return ok("not needed: VOICEFLOW_OUTCOMES is none")
    return await _sent(
        context, WebhookType.SESSION_SUMMARY, "no outcome of a call arrives",
        f"{REGISTER}; or set VOICEFLOW_OUTCOMES=none",
    )  # fmt: skip


async def _call_actions(context: CheckContext) -> Diagnosis | None:
    """Check that 8x8 sends call actions to a receiver, if receivers serve menus or waiting calls begin with them."""
    if context.opened is None:
        return None
    menus = await Heartbeats(context.opened).menus()
    menus = menus or (await CallQueue(context.opened, context.settings.queue).status()).menus
    if not menus:
        return None
    return await _sent(
        context, WebhookType.CALL_ACTION, f"key presses in {', '.join(menus)} are not answered",
        "`voiceflow serve --ivr MENU --register URL` registers it (MENU: MODULE:MENU, or a TOML file)",
    )  # fmt: skip


async def _sent(context: CheckContext, kind: WebhookType, lost: str, remedy: str) -> Diagnosis:
    """Return where 8x8 sends events of this type, and whether a receiver can get them there."""
    webhook = await context.account.webhook(kind)
    if webhook is None or not webhook.enabled:
        what = "is not registered" if webhook is None else f"is off ({webhook.url})"
        return failure(f"the webhook for {kind.value} events {what}: {lost}", remedy=remedy)
    if context.opened is not None:
        ours = (await registered_addresses(context.opened).get([kind.value])).get(kind.value)
        if ours not in {None, webhook.url}:
            return failure(
                f"8x8 sends {kind.value} events to {webhook.url}, and not to {ours}, which a receiver of this store "
                f"registered: {lost}",
                remedy="`voiceflow serve --register URL --force` registers it in that place",
            )
    why = why_not_from_outside(webhook.url)
    if why is None or context.settings.calls_a_sandbox:
        return ok(f"{kind.value} events are sent to {webhook.url}")
    return failure(
        f"8x8 sends {kind.value} events to {webhook.url}, which it cannot reach: {why}",
        remedy="run `voiceflow serve --register URL` with the https address of a proxy, or of a tunnel to this machine",
    )


async def _reachable(context: CheckContext) -> Diagnosis | None:
    """Check that a receiver answers at the address for session summaries."""
    webhook = await context.account.webhook(WebhookType.SESSION_SUMMARY)
    if webhook is None or not context.awaits_outcomes:
        return None
    parts, network = urlsplit(webhook.url), Network.of(context.settings)
    path = parts.path.rstrip("/")
    root = path.removesuffix(PATH) if path.endswith(PATH) else ""
    health = urlunsplit(parts._replace(path=f"{root}/healthz", query="", fragment=""))
    timeout = httpx.Timeout(STEP_LIMIT.total_seconds())
    try:
        async with httpx.AsyncClient(transport=network.transport(limit=1), timeout=timeout, trust_env=False) as client:
            answer = await client.get(health)
            if answer.status_code == 200 and '"ok"' in answer.text[:100]:
                return ok(f"{health} answers")
            # A proxy may pass only the webhook, on purpose.
            status = (await client.get(webhook.url)).status_code
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        why = network.why(error, error.request.url) if isinstance(error, httpx.RequestError) else describe(error)
        remedy = "start `voiceflow serve` and the proxy before it, and check DNS and the certificate of the address"
        return failure(f"{webhook.url} cannot be reached from here: {why}", remedy=remedy)
    if status == NOT_FOR_GET:
        return ok(f"{webhook.url} answers; {health} need not be reachable from outside")
    kind = failure if status >= 500 else warning
    return kind(
        f"{webhook.url} answers {status} to a GET, but a receiver would answer {NOT_FOR_GET}",
        remedy="check that the proxy leads to `voiceflow serve`, which runs, and that the address is the right one",
    )


async def secret(context: CheckContext) -> Diagnosis | None:
    """Check that not everybody may send events."""
    settings = context.settings
    if not context.awaits_outcomes:
        return None
    if settings.webhook_secret is not None or settings.webhook_allow:
        return ok("events need a secret" if settings.webhook_secret is not None else "only listed networks send events")
    return warning(
        "anyone who reaches the receiver can send events: neither a secret nor a list of networks is set",
        remedy=f"set VOICEFLOW_WEBHOOK_SECRET, then {REGISTER}",
    )


_FIRST: Mapping[str, Check] = {"account": _account, "store": _store}
"""The checks before those of the store's backend."""
_CHECKS: Mapping[str, Check] = {
    "credentials": _credentials, "clock": _clock, "source": _source, "voice": _voice, "webhook": registered,
    "webhook address": _reachable, "webhook secret": secret, "call actions": _call_actions,
}  # fmt: skip
