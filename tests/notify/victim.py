"""A process that tells outcomes until it is killed: `python -m tests.notify.victim STORE URL SECRET`."""

from __future__ import annotations

import sys
from datetime import timedelta

import anyio

from voiceflow_worker import open_store
from voiceflow_worker.core.outcomes.hooks import OutcomeHooks
from voiceflow_worker.core.ports import leader_lease
from voiceflow_worker.notify.webhook import OutcomeWebhook


async def main(store_url: str, url: str, secret: str) -> None:
    # As in life, but quicker: who follows one that was killed waits until its turn is over.
    leader_lease.LENGTH, leader_lease.RENEW = timedelta(seconds=3), timedelta(seconds=1)
    async with open_store(store_url) as store, OutcomeWebhook(url, secret=secret) as webhook:
        hooks = OutcomeHooks(store)
        hooks.on_outcome(name="notify")(webhook)
        async with anyio.create_task_group() as group:
            group.start_soon(hooks.run)
            await hooks.caught_up()
            print("telling", flush=True)  # noqa: T201 - its parent reads this


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
