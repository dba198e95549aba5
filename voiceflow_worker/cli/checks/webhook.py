"""Checks of the delivery of outcomes: the webhook at 8x8, its address, its secret, and the receiver."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import httpx

from voiceflow_worker.cli.checks.context import CheckContext, Diagnosis, failure, ok, warning
from voiceflow_worker.cli.checks.queue import menus_waiting, waiting_menus
from voiceflow_worker.core.overview.heartbeat import FRESH, NO_RECEIVER, Heartbeats
from voiceflow_worker.gateway.account.resources import Webhook, WebhookType
from voiceflow_worker.gateway.answers.verdict import describe
from voiceflow_worker.ivr.approval import approval
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.text.web_address import is_this_machine, why_not_from_outside
from voiceflow_worker.model.text.wording import duration_in_words
from voiceflow_worker.settings import Settings
from voiceflow_worker.webhooks.app import PATH

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
            remedy="`voiceflow serve --ivr MODULE:MENU --register URL` registers it",
        )
    return _out_of_reach(context.settings, webhook) or ok(f"call actions (VCA) are sent to {webhook.url}")


async def reachable(context: CheckContext) -> Diagnosis | None:
    """Check that a receiver answers at the address for session summaries."""
    webhook = await _webhook(context)
    if webhook is None or not _awaits_outcomes(context):
        return None
    health = health_url(webhook.url)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
            health_answer = await client.get(health)
            if health_answer.status_code == 200 and '"ok"' in health_answer.text[:100]:
                return ok(f"{health} answers")
            # A proxy may pass only the webhook, on purpose.
            status = (await client.get(webhook.url)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return failure(
            f"{webhook.url} cannot be reached from here: {describe(error)}",
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
    root = parts.path.removesuffix(PATH) if parts.path.endswith(PATH) else ""
    return urlunsplit(parts._replace(path=f"{root}/healthz", query="", fragment=""))


async def secret(context: CheckContext) -> Diagnosis | None:
    """Check that events are protected.

    Either the receiver and 8x8 both have a secret, or neither has one and only listed networks may send events.
    """
    webhook = await _webhook(context)
    if webhook is None or not _awaits_outcomes(context):
        return None
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


async def menus(context: CheckContext) -> Diagnosis | None:
    """Check that running receivers serve the menus of waiting calls."""
    if context.opened is None:
        return None
    found = await waiting_menus(context.opened, context.settings.queue)
    if not found.named:
        return None
    if found.trouble is None:
        return ok(f"running receivers serve the menus of waiting calls ({', '.join(found.named)})")
    if found.unserved == (approval.name,):  # which no receiver needs to be told
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
    asked = settings.base_url
    why = why_not_from_outside(webhook.url)
    if why is None or (asked is not None and is_this_machine(asked)):
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
