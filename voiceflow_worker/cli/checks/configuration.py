"""Checks of the settings and of this machine, without the network."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from voiceflow_worker.cli.checks.context import CheckContext
from voiceflow_worker.cli.checks.diagnosis import Diagnosis, failure, ok, warning
from voiceflow_worker.cli.remedies import with_remedies
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.text.duration import write_duration
from voiceflow_worker.settings import unknown_variables

ZONE = "Asia/Singapore"


async def settings(context: CheckContext) -> Diagnosis:
    """List the settings that differ from the defaults, grouped by origin."""
    given = [shown for shown in context.settings.shown() if shown.place != "the default"]
    if not given:
        return ok("all settings have their defaults (`voiceflow config show`)")
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
