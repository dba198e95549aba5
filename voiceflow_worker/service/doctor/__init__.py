"""The checks of `voiceflow doctor`, each after the checks that it depends on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from voiceflow_worker.backends.health import HealthCheck
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.finding import Diagnosis, Level, failure, ok
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.doctor import account, store
from voiceflow_worker.service.doctor.context import TIME_LIMIT, Check, CheckContext, carried_out, open_context
from voiceflow_worker.settings import Settings

Tell = Callable[[Diagnosis], None]

FIRST: Mapping[str, Check] = {"account": account.account, "store": store.opens}
"""The checks before those of the store's backend."""
CHECKS: Mapping[str, Check] = {
    "journal files": store.journals,
    "credentials": account.credentials,
    "certificate": account.certificate,
    "clock": account.clock,
    "source": account.source,
    "voice": account.voice,
    "webhook": account.registered,
    "webhook address": account.reachable,
    "webhook secret": account.secret,
    "call actions": account.call_actions,
}

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

    await run("unknown settings", account.unknown_settings)
    try:
        settings = load()
    except SettingsError as error:
        remedy = "correct these settings, then check them with `voiceflow config show`"
        tell(replace(failure(str(error), remedy=remedy), check="settings"))
        return
    async with open_context(settings) as context:

        def bound(checks: Mapping[str, Check]) -> dict[str, HealthCheck]:
            return {name: partial(check, context) for name, check in checks.items()}

        for name, look in {**bound(FIRST), **context.health.checks(), **bound(CHECKS)}.items():
            await run(name, look)
        await run("queue", partial(_of_queue, context, tell))


async def _of_queue(context: CheckContext, tell: Tell) -> Diagnosis | None:
    """Tell what stands in the way of the queue's calls, as `status` does."""
    from voiceflow_worker.service.whole_queue import read_queue  # a worker uses other checks

    queue = CallQueue(context.store, context.settings.queue, policy=context.settings.policy())
    whole = await read_queue(queue)
    if whole.unheard is not None and context.opening.level is Level.FAILURE:  # one cause is told once
        whole = replace(whole, unheard="the store takes no write, see the check `store`")
    found = whole.conditions
    for each in found:
        tell(each)
    return None if found else ok("nothing stands in the way of its calls")
