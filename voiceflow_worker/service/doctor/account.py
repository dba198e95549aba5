"""Checks of the settings, this machine, the account at 8x8 and its webhooks. They change nothing and call nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import httpx

from voiceflow_worker.asgi.gatekeeper import NamingProxy
from voiceflow_worker.core.heartbeats import FRESH, NO_RECEIVER, REFUSED, Heartbeats
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.finding import Diagnosis, Level, failure, message_of, ok, warning
from voiceflow_worker.gateway.account import PATH, Webhook, WebhookType
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.ivr.approval import BUILT_IN
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.model.text.web_address import why_not_from_outside
from voiceflow_worker.model.text.wording import did_you_mean, duration_in_words, write_duration
from voiceflow_worker.model.times import zone_data
from voiceflow_worker.service.doctor.context import CannotLookError, CheckContext
from voiceflow_worker.service.doctor.store import menus_waiting, waiting_menus
from voiceflow_worker.settings import DEFAULT, Settings, unknown_variables


async def settings(context: CheckContext) -> Diagnosis:
    """List the settings that differ from the defaults, grouped by origin."""
    given = [shown for shown in context.settings.shown() if shown.place != DEFAULT]
    if not given:
        return ok("all settings have their defaults (`voiceflow config show --all`)")
    places: dict[str, list[str]] = {}
    for shown in given:
        name, _, place = shown.place.rpartition(" (")
        places.setdefault(place.rstrip(")"), []).append(name)
    return ok("; ".join(f"{', '.join(names)} from {place}" for place, names in places.items()))


async def unknown_settings() -> Diagnosis:
    """Check that there are no unknown names among the settings."""
    try:
        unknown = unknown_variables()
    except SettingsError as error:
        return failure(message_of(error), remedy="correct or remove that file")
    if not unknown:
        return ok("no unknown settings")
    meant = [f"{each.name} ({each.place})" for each in unknown]
    hints = [f"use {each.suggestion} instead of {each.name}" for each in unknown if each.suggestion]
    verb = "is not a setting" if len(unknown) == 1 else "are not settings"
    return warning(
        f"{', '.join(meant)} {verb} of this version", remedy="; ".join(hints) or "check the spelling, or remove them"
    )


async def account(context: CheckContext) -> Diagnosis:
    """Check that an API key and a sub-account are set, and that the base URL can be used with the key."""
    missing = context.settings.missing_for_calls()
    if missing:
        names, _, ways = zip(*(each.partition(": ") for each in missing), strict=True)
        return failure("; ".join(names), remedy="; ".join(ways))
    VoiceClient.from_settings(context.settings)
    return ok(f"{context.settings.sub_account}, at {context.settings.base_url or BASE_URL}")


async def time_limits(context: CheckContext) -> Diagnosis:
    """Check that the lease of a call is longer than its POST can take."""
    chosen = context.settings
    deadline = 2 * chosen.connect_timeout + chosen.read_timeout
    lease = write_duration(chosen.lease)
    limits = f"a POST takes {write_duration(deadline)} at most, and the lease of a call is {lease}"
    if chosen.lease > deadline:
        return ok(limits)
    return warning(
        f"{limits}: a call can be put in doubt while it is still being sent",
        remedy=f"set VOICEFLOW_LEASE to more than {write_duration(deadline)}, or shorten VOICEFLOW_READ_TIMEOUT",
    )


DATE_GRAIN = timedelta(seconds=1)
"""The precision of a Date header: whole seconds, rounded down (RFC 9110 §5.6.7)."""


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
    # The duration of the request and the rounding of the header do not count as a difference.
    behind, ahead = theirs - after, before - (theirs + DATE_GRAIN)
    off = timedelta(seconds=round(max(behind, ahead, timedelta(0)).total_seconds()))
    if not off:
        return ok("this clock agrees with the clock of 8x8")
    off_by = f"this clock is {write_duration(off)} {'behind' if behind > ahead else 'ahead of'} the clock of 8x8"
    if off > allowed:
        most = write_duration(allowed)
        return failure(
            f"{off_by}, but VOICEFLOW_CLOCK_SKEW allows only {most}: calls expire too early, or may ring too late",
            remedy="set the clock (NTP: timedatectl set-ntp true), then run `voiceflow resume` if a queue is held",
        )
    return ok(f"{off_by}, within VOICEFLOW_CLOCK_SKEW")


async def time_zones(_context: CheckContext) -> Diagnosis:
    """Say which time zone database is used: countries change their clocks at short notice."""
    versions = zone_data()
    used = versions.package if versions.is_of_package else versions.system
    return ok(
        f"time zones are of {used}: the package tzdata has {versions.package}, the system {versions.system or 'none'}"
    )


async def voice_profile(context: CheckContext) -> Diagnosis | None:
    """Check that the voice of the settings is a voice of the sub-account."""
    wanted = context.settings.voice_profile
    if wanted is None:
        return None
    codes = [profile.code for profile in await (await context.account.usable()).speech_profiles()]
    if wanted in codes:
        return ok(f"{wanted} is a voice of the sub-account")
    return failure(
        f"the sub-account has no voice {wanted}, so 8x8 refuses calls with it (-1002){did_you_mean(wanted, codes)}",
        remedy="set VOICEFLOW_VOICE_PROFILE to a voice that `voiceflow account profiles` lists",
    )


async def source(context: CheckContext) -> Diagnosis | None:
    """Check that the calling numbers (VOICEFLOW_SOURCE) belong to the account, and are active."""
    wanted = context.settings.source
    if wanted is None:
        return None
    try:
        numbers = read_sources(wanted).numbers
    except InvalidInputError as error:
        return failure(message_of(error), remedy="write VOICEFLOW_SOURCE with its country code, such as +6531234567")
    found = [await _own_number(context, number) for number in numbers]
    told = next((each for each in found if each.level is not Level.OK), None)
    return told or ok("; ".join(each.message for each in found))


async def _own_number(context: CheckContext, number: str) -> Diagnosis:
    remedy = (
        "set VOICEFLOW_SOURCE to a number that `voiceflow account numbers` lists as Active, or ask 8x8 to allow this "
        "number"
    )
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
            remedy=f"{remedy}; a test call (`voiceflow doctor --call NUMBER`) shows whether 8x8 allows it",
        )
    if found.is_unhealthy:
        return warning(
            f"{number} is unhealthy{f' ({found.health})' if found.health else ''}: it should not be used for new calls",
            remedy="choose another source until this number is healthy again",
        )
    if found.is_active:
        return ok(f"{number} belongs to the account, and is active")
    if found.is_expiring:
        return warning(f"{number} is expiring", remedy="renew it with 8x8, or choose another source")
    return failure(f"{number} is {found.status or 'in no known state'}: calls from it fail", remedy=remedy)


TIMEOUT = httpx.Timeout(4)
NOT_FOR_GET = 405
"""The HTTP status with which a receiver answers a GET request to its webhook."""

_REGISTER = "`voiceflow serve --register URL` registers this receiver"


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
            remedy=f"{_REGISTER}; or set VOICEFLOW_OUTCOMES=none",
        )
    if not webhook.enabled:
        return failure(f"the webhook for session summaries, {webhook.url}, is off", remedy=_REGISTER)
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
        return failure(
            f"{webhook.url} cannot be reached from here: {network.explain(error)}",
            remedy="start `voiceflow serve`; check DNS, the proxy and its certificate. Try the address from another "
            "machine too: perhaps only this one cannot reach it",
        )
    if status == NOT_FOR_GET:
        return ok(
            f"{webhook.url} answers. {health} does not answer as a receiver would, but it need not be reachable from "
            "outside"
        )
    return warning(
        f"{webhook.url} answers {status} to a GET, but a receiver would answer 405",
        remedy="check that the proxy leads to `voiceflow serve`, and that the address is the right one",
    )


def health_url(url: str) -> str:
    """The address of /healthz on the receiver that a webhook's URL leads to."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    root = path.removesuffix(PATH) if path.endswith(PATH) else ""
    return urlunsplit(parts._replace(path=f"{root}/healthz", query="", fragment=""))


async def secret(context: CheckContext) -> Diagnosis | None:
    """Check that events are protected.

    Either the receiver and 8x8 both have a secret, or neither has one and only listed networks may send events.
    """
    webhook = await _webhook(context)
    if webhook is None or not _awaits_outcomes(context):
        return None
    failing: Mapping[str, str] = {}
    if context.opened is not None:
        failing = await Heartbeats(context.opened).failing(context.settings.queue)
    if (refused := failing.get(REFUSED)) is not None:
        return failure(f"{REFUSED}: {refused}", remedy=_REGISTER)
    set_here, set_there = context.settings.webhook_secret is not None, webhook.has_auth_header
    match set_here, set_there:
        case True, True:
            return ok("the secret is set here and at 8x8 (8x8 does not say whether the two secrets are equal)")
        case True, False:
            return failure(
                "VOICEFLOW_WEBHOOK_SECRET is set, but 8x8 sends no Authorization header: every event is answered 401",
                remedy=_REGISTER,
            )
        case False, True:
            return warning(
                "8x8 sends an Authorization header, but VOICEFLOW_WEBHOOK_SECRET is not set: the header is not checked",
                remedy="set VOICEFLOW_WEBHOOK_SECRET for the receiver, to the value that was registered",
            )
        case _ if context.settings.webhook_allow:
            return ok("no secret is set, but only the networks in VOICEFLOW_WEBHOOK_ALLOW may send events")
        case _:
            return warning(
                "anyone who reaches the receiver can send events: neither a secret nor a list of networks is set",
                remedy=f"set VOICEFLOW_WEBHOOK_SECRET, then {_REGISTER}",
            )


async def receiver(context: CheckContext) -> Diagnosis | None:
    """Check that a receiver is running for this store."""
    if not _awaits_outcomes(context):
        return None
    if await Heartbeats(context.store).has_receiver():
        return ok(f"a receiver was seen in the last {duration_in_words(FRESH)}")
    return warning(NO_RECEIVER, remedy="run `voiceflow serve` with this store")


async def console(context: CheckContext) -> Diagnosis | None:
    """Check that the settings of the console let in those who should come in, and nobody else."""
    settings = context.settings
    try:
        proxy = NamingProxy.of(settings)
    except SettingsError as error:
        return failure(message_of(error), remedy="correct these settings: until then, `voiceflow serve` does not start")
    if proxy is None:
        return None
    named = f"a proxy in {', '.join(map(str, settings.trusted_proxies))} names people in {settings.auth_header}"
    if not settings.auth_operators:
        return warning(f"{named}, and none of them may act", remedy="set VOICEFLOW_AUTH_OPERATORS to those who may")
    return ok(f"{named}; {', '.join(settings.auth_operators)} may act")


async def menus(context: CheckContext) -> Diagnosis | None:
    """Check that running receivers serve the menus of waiting calls."""
    if context.opened is None:
        return None
    found = await waiting_menus(context.opened, context.settings.queue)
    if not found.named:
        return None
    if found.trouble is None:
        return ok(f"running receivers serve the menus of waiting calls ({', '.join(found.named)})")
    if BUILT_IN.issuperset(found.unserved):  # which no receiver needs to be told
        return failure(found.trouble, remedy="run `voiceflow serve` with this store")
    remedy = "run `voiceflow serve --ivr MODULE:MENU` for this store; give `--ivr` once for each of these menus"
    return failure(found.trouble, remedy=remedy)


async def _menus_used(context: CheckContext) -> str | None:
    """A clause that names the menus in use: those that receivers serve, else those of waiting calls.

    None if there are neither.
    """
    if context.opened is None:
        return None
    served = await Heartbeats(context.opened).menus()
    if served:
        return f"a receiver serves {', '.join(served)}"
    named = await menus_waiting(context.opened, context.settings.queue)
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
