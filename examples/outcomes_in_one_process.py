"""A worker and the webhook receiver in one process.

The program needs no account: a sandbox in this process simulates 8x8, and calls nobody. By its scripts, one line is
busy, and one person does not answer.

    python examples/outcomes_in_one_process.py
"""

from __future__ import annotations

import asyncio

from voiceflow_worker import (
    CallFlow,
    CallQueue,
    CallRequest,
    Receiver,
    Sandbox,
    SessionStatus,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
NAMES = {"+6587654321": "Customer 1", "+6587654322": "Customer 2", "+6587654323": "Customer 3"}


def reminder(destination: str, name: str) -> CallRequest:
    """Return the call for one person."""
    flow = CallFlow.call(destination, source="+6531234567").say(
        f"Hello {name}. Your appointment is tomorrow at ten.", voice_profile="en-IE-EmilyNeural"
    )
    return CallRequest(flow=flow, batch_id="tomorrow", unique_key=f"tomorrow-{destination}")


async def main() -> None:
    """Enqueue the calls, send them, and wait until every summary has come."""
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await queue.enqueue_many([reminder(destination, name) for destination, name in NAMES.items()])

        # By the heartbeats the worker knows that a receiver runs, so its drain waits for the summaries.
        receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store)
        async with receiver.running(), serving(receiver.app) as address:
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=50)
            sandbox.scripts.add(Script(destination="+6587654321", outcome=SessionStatus.COMPLETED))
            sandbox.scripts.add(Script(destination="+6587654322", outcome=SessionStatus.BUSY))
            sandbox.scripts.add(Script(destination="+6587654323", outcome=SessionStatus.NO_ANSWER))
            async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
                await Worker(store, voice, rate=10).drain()

        for job in await queue.find(batch_id="tomorrow"):
            ended = job.outcome.status_text if job.outcome else "not known yet"
            print(f"{NAMES[job.destination]}: {job.state} ({ended})")


if __name__ == "__main__":
    asyncio.run(main())
