"""All checks, each after the checks that it depends on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from voiceflow_worker.cli.checks import account, queue, storage, webhook
from voiceflow_worker.cli.checks.context import TIME_LIMIT, Check, Diagnosis, carried_out, failure, open_context
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.settings import Settings

Tell = Callable[[Diagnosis], None]

ALONE: tuple[tuple[str, Callable[[], Awaitable[Diagnosis]]], ...] = (
    ("unknown settings", account.unknown_settings),
    ("time zones", account.time_zones),
)
"""Checks that need no settings."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("settings", account.settings),
    ("account", account.account),
    ("time limits", account.time_limits),
    ("store", storage.opens),
    ("file system", storage.of_file(storage.file_system)),
    ("permissions", storage.of_file(storage.permissions)),
    ("disk space", storage.of_file(storage.disk_space)),
    ("sqlite", storage.of_file(storage.sqlite)),
    ("durability", storage.durability),
    ("memory", storage.memory),
    ("journal files", storage.journals),
    ("credentials", account.credentials),
    ("clock", account.clock),
    ("voice profile", account.voice_profile),
    ("source", account.source),
    ("webhook", webhook.registered),
    ("webhook address", webhook.reachable),
    ("webhook secret", webhook.secret),
    ("call actions", webhook.call_actions),
    ("receiver", webhook.receiver),
    ("menus", webhook.menus),
    ("workers", queue.workers),
    ("limits", queue.limits),
    ("holds", queue.holds),
    ("doubts", queue.doubts),
    ("numbers", queue.numbers),
)

LIMITS: Mapping[str, timedelta] = {"journal files": timedelta(minutes=1)}
"""The time limits of checks that may take longer than the others. A journal file may hold a million calls."""


async def examine(load: Callable[[], Settings], tell: Tell) -> None:
    """Run every check, and report each result at once.

    If the settings cannot be read, the error is reported, and only the checks that need no settings are run.
    """

    async def run(name: str, look: Callable[[], Awaitable[Diagnosis | None]]) -> None:
        found = await carried_out(name, look, limit=LIMITS.get(name, TIME_LIMIT))
        if found is not None:
            tell(found)

    for name, alone in ALONE:
        await run(name, alone)
    try:
        settings = load()
    except SettingsError as error:
        tell(
            replace(
                failure(str(error), remedy="correct these settings, then check them with `voiceflow config show`"),
                check="settings",
            )
        )
        return
    async with open_context(settings) as context:
        for name, check in CHECKS:
            await run(name, partial(check, context))
