"""The checks of `voiceflow doctor`, each after the checks that it depends on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.finding import Diagnosis, failure, message_of
from voiceflow_worker.service.doctor import account, store
from voiceflow_worker.service.doctor.context import TIME_LIMIT, Check, carried_out, open_context
from voiceflow_worker.service.doctor.recordings import recordings
from voiceflow_worker.settings import Settings

Tell = Callable[[Diagnosis], None]

FIRST: tuple[tuple[str, Check], ...] = (
    ("settings", account.settings),
    ("account", account.account),
    ("time limits", account.time_limits),
    ("store", store.opens),
)
"""The checks before those of the store's backend."""
CHECKS: tuple[tuple[str, Check], ...] = (
    ("schema", store.schema),
    ("journal files", store.journals),
    ("credentials", account.credentials),
    ("certificate", account.certificate),
    ("clock", account.clock),
    ("time zones", account.time_zones),
    ("voice profile", account.voice_profile),
    ("source", account.source),
    ("webhook", account.registered),
    ("webhook address", account.reachable),
    ("webhook secret", account.secret),
    ("call actions", account.call_actions),
    ("receiver", account.receiver),
    ("console", account.console),
    ("menus", account.menus),
    ("workers", store.workers),
    ("limits", store.limits),
    ("numbers", store.numbers),
    ("holds", store.holds),
    ("doubts", store.doubts),
    ("records", store.records),
    ("schedules", store.schedules),
)

LIMITS: Mapping[str, timedelta] = {"journal files": timedelta(minutes=1), "recordings": timedelta(minutes=5)}
"""The time limits of checks that may take longer than the others. A journal file may hold a million calls."""


async def examine(load: Callable[[], Settings], tell: Tell, *, files: bool = False) -> None:
    """Run every check, and report each result at once. With `files`, recordings are fetched and listened to.

    If the settings cannot be read, the error is reported, and only the checks that need no settings are run.
    """

    async def run(name: str, look: Callable[[], Awaitable[Diagnosis | None]]) -> None:
        found = await carried_out(name, look, limit=LIMITS.get(name, TIME_LIMIT))
        if found is not None:
            tell(found)

    await run("unknown settings", account.unknown_settings)
    try:
        settings = load()
    except SettingsError as error:
        tell(
            replace(
                failure(
                    message_of(error), remedy="correct these settings, then check them with `voiceflow config show`"
                ),
                check="settings",
            )
        )
        return
    async with open_context(settings) as context:
        for name, check in FIRST:
            await run(name, partial(check, context))
        for name, look in context.health.checks().items():
            await run(name, look)
        for name, check in CHECKS:
            await run(name, partial(check, context))
        if files:
            await run("recordings", partial(recordings, context))
