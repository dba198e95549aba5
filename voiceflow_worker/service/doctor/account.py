"""Checks of the settings, this machine, the account at 8x8 and its webhooks. They change nothing and call nobody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import httpx

from voiceflow_worker.core.base.clock import SET_CLOCK, ahead_of_8x8, off_in_words
from voiceflow_worker.core.heartbeats import REGISTER, Heartbeats
from voiceflow_worker.errors import InvalidInputError, RequestFailedError, SettingsError, VoiceError
from voiceflow_worker.finding import Diagnosis, Level, failure, ok, warning
from voiceflow_worker.gateway.account import PATH, Webhook, WebhookType
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.verdict import certificate_problem, describe, is_unresolved
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.model.text.web_address import why_not_from_outside
from voiceflow_worker.model.text.wording import write_duration
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.doctor.context import CannotLookError, CheckContext
from voiceflow_worker.settings import Settings, unknown_variables

_REFUSED = frozenset({401, 403})
"""Statuses by which 8x8 says that it accepts no request with this key."""


async def obstacle(settings: Settings, voice: VoiceClient) -> str | None:
    """Return why no call will leave, or why no outcome will arrive, as the account of a worker shows; None for nothing.

    Faults that the calls meet too, and that the worker then reports, are no obstacle.
    """
    if settings.policy().outcomes is not OutcomeSource.WEBHOOK:
        return None
    try:
        found = summaries(settings, await voice.webhooks())
    except RequestFailedError as error:
        return f"NO CALLS: {error}" if error.status in _REFUSED else None
    except VoiceError:
        return None
    return None if found.level is Level.OK else f"NO OUTCOMES: {found.message}; {found.remedy}"


async def unknown_settings() -> Diagnosis:
    """Check that there are no unknown names among the settings."""
    try:
        unknown = unknown_variables()
    except SettingsError as error:
        return failure(str(error), remedy="correct or remove that file")
    if not unknown:
        return ok("no unknown settings")
    return warning("; ".join(each.in_words() for each in unknown), remedy="correct their names, or remove them")


async def account(context: CheckContext) -> Diagnosis:
    """Check that an API key and a sub-account are set, and that the base URL can be used with the key."""
    missing = context.settings.missing_for_calls()
    if missing:
        names, _, ways = zip(*(each.partition(": ") for each in missing), strict=True)
        return failure("; ".join(names), remedy="; ".join(ways))
    VoiceClient.from_settings(context.settings)
    return ok(f"{context.settings.sub_account}, at {context.settings.base_url or BASE_URL}")


async def credentials(context: CheckContext) -> Diagnosis:
    """Check that 8x8 accepts the API key for the sub-account."""
    await context.account.webhooks()
    return ok(f"8x8 accepts the API key for {context.settings.sub_account}")


async def certificate(context: CheckContext) -> Diagnosis | None:
    """Check that the certificate of 8x8 is a public one. A proxy that decrypts connections shows one of its own."""
    url = httpx.URL(context.settings.base_url or BASE_URL)
    if url.scheme != "https":
        return None
    await context.account.usable()
    if await Network.of(context.settings).is_publicly_trusted(url):
        return ok(f"the certificate of {url.host} is signed by a public authority")
    through = "the certificates of this machine" if context.settings.ca_file is None else "VOICEFLOW_CA_FILE"
    return warning(
        f"the certificate of {url.host} is trusted only through {through}: something on the way decrypts the "
        "connection. It reads the API key and every call, and if it repeats a request, a phone rings twice",
        remedy=f"ask who runs the proxy not to decrypt connections to {url.host}",
    )


async def clock(context: CheckContext) -> Diagnosis:
    """Check that the clock of the store, or of this machine, agrees with the clock of 8x8."""
    account = context.account
    if account.is_out_of_reach:
        raise CannotLookError("credentials", "8x8 could not be asked for the time")
    now = context.opened.clock.now if context.opened is not None else partial(datetime.now, UTC)
    before = now()
    theirs = await account.voice.server_time()
    if theirs is None:
        return warning(
            "the answer of 8x8 had no time, so this clock was not checked",
            remedy="run this command again; check that the clock of this machine is set (NTP)",
        )
    return judged_clock(before, now(), theirs, allowed=context.settings.clock_skew)


def judged_clock(before: datetime, after: datetime, theirs: datetime, *, allowed: timedelta) -> Diagnosis:
    """The diagnosis of this clock, by one request to 8x8.

    `before` and `after` are the times of this clock around the request. `theirs` is the time in the answer.
    """
    ahead = timedelta(seconds=round(ahead_of_8x8(theirs, before=before, after=after).total_seconds()))
    if not ahead:
        return ok("this clock agrees with the clock of 8x8")
    off_by = f"this clock is {off_in_words(ahead, of='8x8')}"
    if abs(ahead) > allowed:
        most = write_duration(allowed)
        return failure(
            f"{off_by}, but VOICEFLOW_CLOCK_SKEW allows only {most}: calls expire too early, or may ring too late",
            remedy=f"{SET_CLOCK}, then run `voiceflow resume` if a queue is held",
        )
    return ok(f"{off_by}, within VOICEFLOW_CLOCK_SKEW")


async def voice(context: CheckContext) -> Diagnosis | None:
    """Check that the voice of the settings (VOICEFLOW_VOICE_PROFILE) is one of the account."""
    wanted = context.settings.voice_profile
    if wanted is None:
        return None
    voices = {each.code.casefold(): each.code for each in await (await context.account.usable()).speech_profiles()}
    if wanted in voices.values():
        return ok(f"{wanted} is a voice of the account")
    nearest = [voices[each] for each in get_close_matches(wanted.casefold(), voices, cutoff=0)]
    return failure(
        f"the account has no voice {wanted}, so 8x8 refuses calls with it (-1002); "
        + (f"the nearest: {', '.join(nearest)}" if nearest else "it has none"),
        remedy="set VOICEFLOW_VOICE_PROFILE to a voice that `voiceflow account` lists",
    )


async def source(context: CheckContext) -> Diagnosis | None:
    """Check that the calling numbers (VOICEFLOW_SOURCE) belong to the account, and are active."""
    wanted = context.settings.source
    if wanted is None:
        return None
    try:
        numbers = read_sources(wanted).numbers
    except InvalidInputError as error:
        return failure(str(error), remedy="write VOICEFLOW_SOURCE with its country code, such as +6531234567")
    found = [await _own_number(context, number) for number in numbers]
    told = next((each for each in found if each.level is not Level.OK), None)
    return told or ok("; ".join(each.message for each in found))


async def _own_number(context: CheckContext, number: str) -> Diagnosis:
    voice = await context.account.usable()
    digits = number.removeprefix("+")
    # Only the list has the status and the health of a number.
    found = next((each for each in await voice.numbers() if each.msisdn.removeprefix("+") == digits), None)
    if found is None:
        found = await voice.number(number)
        if found is not None and found.status is None:
            return ok(f"{number} belongs to the account, but 8x8 does not list its state")
    if found is None:
        return warning(
            f"{number} is not a number of the account: 8x8 refuses calls from it (-1014), unless 8x8 has allowed it as "
            "a caller id",
            remedy="set VOICEFLOW_SOURCE to a number that `voiceflow account` lists as Active; a test call "
            "(`voiceflow doctor --call NUMBER`) shows whether 8x8 allows this one",
        )
    if found.is_active and not found.is_unhealthy:
        return ok(f"{number} belongs to the account, and is active")
    status = "unhealthy" if found.is_unhealthy else (found.status or "in no known state").lower()
    told = warning if found.is_unhealthy or found.is_expiring else failure
    return told(
        f"{number} is {status}{f' ({found.health})' if found.health else ''}",
        remedy="renew it with 8x8, or give waiting calls another source: import their list again "
        "(`voiceflow enqueue FILE --batch ID --replace --source NUMBER`)",
    )


TIMEOUT = httpx.Timeout(4)
NOT_FOR_GET = 405
"""The HTTP status with which a receiver answers a GET request to its webhook."""


async def registered(context: CheckContext) -> Diagnosis | None:
    """Check that 8x8 sends session summaries to a receiver."""
    if not _awaits_outcomes(context):
        return ok("not needed: VOICEFLOW_OUTCOMES is none")
    await context.account.usable()
    return summaries(context.settings, await context.account.webhooks())


def summaries(settings: Settings, webhooks: Iterable[Webhook]) -> Diagnosis:
    """Where these webhooks of the account send session summaries, and whether a receiver can get them there."""
    webhook = _of_type(webhooks, WebhookType.SESSION_SUMMARY)
    if webhook is None:
        return failure(
            "8x8 has no webhook for the session summaries (VSS) of this account, so no outcome of a call arrives",
            remedy=f"{REGISTER}; or set VOICEFLOW_OUTCOMES=none",
        )
    if not webhook.enabled:
        return failure(f"the webhook for session summaries, {webhook.url}, is off", remedy=REGISTER)
    return _out_of_reach(settings, webhook) or ok(f"session summaries (VSS) are sent to {webhook.url}")


async def call_actions(context: CheckContext) -> Diagnosis | None:
    """Check that 8x8 sends call actions to a receiver, if menus are used."""
    used = await _menus_used(context)
    if used is None:
        return None
    webhook = await _webhook(context, WebhookType.CALL_ACTION)
    if webhook is None or not webhook.enabled:
        why = "is not registered" if webhook is None else f"is off ({webhook.url})"
        return failure(
            f"menus are used ({used}), but the webhook for call actions (VCA) {why}: key presses are not answered",
            remedy="`voiceflow serve --ivr MENU --register URL` registers it (MENU: MODULE:MENU, or a TOML file)",
        )
    return _out_of_reach(context.settings, webhook) or ok(f"call actions (VCA) are sent to {webhook.url}")


async def reachable(context: CheckContext) -> Diagnosis | None:
    """Check that a receiver answers at the address for session summaries."""
    webhook = await _webhook(context)
    if webhook is None or not _awaits_outcomes(context):
        return None
    health = health_url(webhook.url)
    network = Network.of(context.settings)
    try:
        async with httpx.AsyncClient(transport=network.transport(limit=1), timeout=TIMEOUT, trust_env=False) as client:
            health_answer = await client.get(health)
            if health_answer.status_code == 200 and '"ok"' in health_answer.text[:100]:
                return ok(f"{health} answers")
            # A proxy may pass only the webhook, on purpose.
            status = (await client.get(webhook.url)).status_code
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        remedy = (
            "start `voiceflow serve` and the proxy before it; another machine shows if only this one cannot reach it"
        )
        if certificate_problem(error) is not None:
            remedy = "give the proxy at this address a certificate of a public authority for this name"
        elif is_unresolved(error):
            remedy = "correct DNS, or register the right address"
        said = network.why(error, error.request.url) if isinstance(error, httpx.RequestError) else describe(error)
        return failure(f"{webhook.url} cannot be reached from here: {said}", remedy=remedy)
    if status == NOT_FOR_GET:
        return ok(
            f"{webhook.url} answers. {health} does not answer as a receiver would, but it need not be reachable from "
            "outside"
        )
    told = failure if status >= 500 else warning
    return told(
        f"{webhook.url} answers {status} to a GET, but a receiver would answer 405",
        remedy="check that the proxy leads to `voiceflow serve`, which runs, and that the address is the right one",
    )


def health_url(url: str) -> str:
    """The address of /healthz on the receiver that a webhook's URL leads to."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    root = path.removesuffix(PATH) if path.endswith(PATH) else ""
    return urlunsplit(parts._replace(path=f"{root}/healthz", query="", fragment=""))


async def secret(context: CheckContext) -> Diagnosis | None:
    """Check that not everybody may send events. That a secret is not the one of 8x8 shows when events are refused."""
    if not _awaits_outcomes(context):
        return None
    settings = context.settings
    if settings.webhook_secret is not None or settings.webhook_allow:
        return ok("events need a secret" if settings.webhook_secret is not None else "only listed networks send events")
    return warning(
        "anyone who reaches the receiver can send events: neither a secret nor a list of networks is set",
        remedy=f"set VOICEFLOW_WEBHOOK_SECRET, then {REGISTER}",
    )


async def _menus_used(context: CheckContext) -> str | None:
    """A clause that names the menus in use: those that receivers serve, else those of waiting calls.

    None if there are neither.
    """
    if context.opened is None:
        return None
    served = await Heartbeats(context.opened).menus()
    if served:
        return f"a receiver serves {', '.join(served)}"
    named = (await CallQueue(context.opened, context.settings.queue).status()).menus
    return f"waiting calls begin with {', '.join(named)}" if named else None


def _out_of_reach(settings: Settings, webhook: Webhook) -> Diagnosis | None:
    """A failure if 8x8 cannot reach the address of this webhook, else None. A local sandbox reaches any address."""
    why = why_not_from_outside(webhook.url)
    if why is None or settings.calls_a_sandbox:
        return None
    return failure(
        f"8x8 sends {webhook.type} events to {webhook.url}, which it cannot reach: {why}",
        remedy="run `voiceflow serve --register URL` with the https address of a proxy, or of a tunnel to this machine",
    )


def _awaits_outcomes(context: CheckContext) -> bool:
    return context.settings.policy().outcomes is OutcomeSource.WEBHOOK


async def _webhook(context: CheckContext, kind: WebhookType = WebhookType.SESSION_SUMMARY) -> Webhook | None:
    """The webhook for events of this type. Raises CannotLookError."""
    await context.account.usable()
    return _of_type(await context.account.webhooks(), kind)


def _of_type(webhooks: Iterable[Webhook], kind: WebhookType) -> Webhook | None:
    return next((each for each in webhooks if each.type == kind.value), None)
