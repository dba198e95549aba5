"""Checks of the settings, of this machine and of the account at 8x8. They change nothing and call nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial
from zoneinfo import ZoneInfo

from voiceflow_worker.cli.checks.context import CannotLookError, CheckContext, Diagnosis, failure, ok, warning
from voiceflow_worker.cli.messages import with_remedies
from voiceflow_worker.errors import PhoneNumberError, RequestFailedError, SettingsError, VoiceUnavailableError
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.numbers.phone import normalise
from voiceflow_worker.model.text.wording import write_duration
from voiceflow_worker.settings import DEFAULT, unknown_variables

ZONE = "Asia/Singapore"


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
        return failure(str(error), remedy="correct or remove that file")
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
    try:
        VoiceClient.from_settings(context.settings)
    except SettingsError as error:
        return failure(with_remedies(str(error), error.remedies), remedy="correct VOICEFLOW_BASE_URL")
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


async def time_zones(zone: str = ZONE) -> Diagnosis:
    """Check that this machine knows time zones, from the system or from the package tzdata."""
    try:
        ZoneInfo.no_cache(zone)
    except (KeyError, OSError):
        return failure(
            f"{zone} is not known on this machine: local times in files cannot be read",
            remedy="install time zones: pip install tzdata, or the system's package tzdata",
        )
    return ok(f"{zone} is known")


DATE_GRAIN = timedelta(seconds=1)
"""The precision of a Date header: whole seconds, rounded down (RFC 9110 §5.6.7)."""


async def credentials(context: CheckContext) -> Diagnosis:
    """Check that 8x8 accepts the API key for the sub-account."""
    try:
        await context.account.webhooks()
    except VoiceUnavailableError as error:
        return failure(error.message, remedy=with_remedies(error.remedy or "try again later", error.remedies))
    except RequestFailedError as error:
        return failure(error.message, remedy=with_remedies(error.remedy or "see the message", error.remedies))
    return ok(f"8x8 accepts the API key for {context.settings.sub_account}")


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


async def voice_profile(context: CheckContext) -> Diagnosis | None:
    """Check that the voice of the settings is a voice of the sub-account."""
    wanted = context.settings.voice_profile
    if wanted is None:
        return None
    codes = [profile.code for profile in await (await context.account.usable()).speech_profiles()]
    if wanted in codes:
        return ok(f"{wanted} is a voice of the sub-account")
    folded = {code.casefold(): code for code in codes}
    close = get_close_matches(wanted.casefold(), folded, n=1)
    meant = f"; did you mean {folded[close[0]]}?" if close else ""
    return failure(
        f"the sub-account has no voice {wanted}, so 8x8 would refuse calls with it (-1002){meant}",
        remedy="set VOICEFLOW_VOICE_PROFILE to a voice that `voiceflow account profiles` lists",
    )


async def source(context: CheckContext) -> Diagnosis | None:
    """Check that the calling number (VOICEFLOW_SOURCE) belongs to the account, and is active."""
    wanted = context.settings.source
    if wanted is None:
        return None
    remedy = (
        "set VOICEFLOW_SOURCE to a number that `voiceflow account numbers` lists as Active, or ask 8x8 to allow this "
        "number"
    )
    try:
        number = normalise(wanted)
    except PhoneNumberError as error:
        return failure(str(error), remedy="write VOICEFLOW_SOURCE with its country code, such as +6531234567")
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
