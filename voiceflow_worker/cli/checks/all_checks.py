"""The list of all checks, in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

from voiceflow_worker.cli.checks import configuration, eight, journals, queue, storage, webhook
from voiceflow_worker.cli.checks.context import CheckContext, open_context
from voiceflow_worker.cli.checks.diagnosis import TIME_LIMIT, Diagnosis, Found, carried_out, diagnosis, failure
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.settings import Settings

Tell = Callable[[Diagnosis], None]

ALONE: tuple[tuple[str, Callable[[], Awaitable[Found]]], ...] = (
    ("unknown settings", configuration.unknown_settings),
    ("time zones", configuration.time_zones),
)
"""Checks that need no settings."""

CHECKS: tuple[tuple[str, Callable[[CheckContext], Awaitable[Found | None]]], ...] = (
    ("settings", configuration.settings),
    ("account", configuration.account),
    ("time limits", configuration.time_limits),
    ("store", storage.opens),
    ("file system", storage.file_system),
    ("permissions", storage.permissions),
    ("disk space", storage.disk_space),
    ("sqlite", storage.sqlite),
    ("durability", storage.durability),
    ("journal files", journals.journals),
    ("credentials", eight.credentials),
    ("clock", eight.clock),
    ("voice profile", eight.voice_profile),
    ("source", eight.source),
    ("webhook", webhook.registered),
    ("webhook address", webhook.reachable),
    ("webhook secret", webhook.secret),
    ("call actions", webhook.call_actions),
    ("receiver", webhook.receiver),
    ("workers", queue.workers),
    ("limits", queue.limits),
    ("holds", queue.holds),
    ("doubts", queue.doubts),
    ("dropped jobs", queue.losses),
    ("numbers", queue.numbers),
)

LIMITS: Mapping[str, timedelta] = {"journal files": timedelta(minutes=1)}
"""Checks that may take longer: there may be a million calls in them."""


async def examine(load: Callable[[], Settings], tell: Tell) -> None:
    """Run every check, and report each result at once.

    Settings that cannot be read are a finding too; then only what needs none is looked at.
    """
    for name, alone in ALONE:
        await _tell(name, alone, tell)
    try:
        settings = load()
    except SettingsError as error:
        tell(
            diagnosis(
                "settings",
                failure(str(error), remedy="correct these; see `voiceflow config show`"),
            )
        )
        return
    async with open_context(settings) as context:
        for name, check in CHECKS:
            await _tell(name, partial(check, context), tell)


async def _tell(name: str, look: Callable[[], Awaitable[Found | None]], tell: Tell) -> None:
    found = await carried_out(name, look, limit=LIMITS.get(name, TIME_LIMIT))
    if found is not None:
        tell(found)
