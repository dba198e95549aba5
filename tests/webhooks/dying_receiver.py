"""A receiver that is killed between the commit of a summary and its answer: as a process, told its store's URL."""

from __future__ import annotations

import os
import signal
import sys

import anyio

from tests.webhooks.receiving import SECRET
from voiceflow_worker import CallPolicy, open_store
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.core.settling.settle import Settler, SummaryResult
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.webhooks import webhook_app


class Dying(Settler):
    """Settles, and dies of it."""

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        await super().summary(summary)
        os.kill(os.getpid(), signal.SIGKILL)
        return SummaryResult.SETTLED


async def main(url: str) -> None:
    async with open_store(url) as store, serving(webhook_app(Dying(store, CallPolicy()), secret=SECRET)) as address:
        print(f"ready on {address.url}", flush=True)  # noqa: T201 - its parent reads this
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
