"""The outcomes of calls in two ways: a stream, and waiting for one call.

The program needs no account: a sandbox in this process simulates 8x8, and calls nobody. One line is busy at first, and
is called again.

    python examples/outcomes_stream.py
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from voiceflow_worker import (
    CallFlow,
    CallQueue,
    CallRequest,
    Receiver,
    RedialPolicy,
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
NAMES = {"+6587654321": "Customer 1", "+6587654322": "Customer 2"}
AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(seconds=2))


def reminder(destination: str) -> CallRequest:
    """Return the call for one person."""
    flow = CallFlow.call(destination, source="+6531234567").say(
        "Hello. Your appointment is tomorrow at ten.", voice_profile="en-IE-EmilyNeural"
    )
    return CallRequest(flow=flow, redial=AGAIN, data={"name": NAMES[destination]})


async def show(queue: CallQueue, calls: int) -> None:
    """Print outcomes until all calls have ended. After a restart, a consumer of the same name goes on from there."""
    async with queue.outcomes(consumer="screen") as outcomes:
        async for outcome in outcomes:
            name = (outcome.job.data or {}).get("name")
            how = outcome.outcome.status_text if outcome.outcome else outcome.job.reason
            print(f"{outcome.type}: {name} ({how}), the call is {outcome.state}")
            calls -= outcome.state.is_final
            if not calls:
                return


async def main() -> None:
    """Make two calls, and receive their outcomes in two ways."""
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        first, _ = await queue.enqueue_many([reminder(destination) for destination in NAMES])
        receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store)
        async with receiver.running(), serving(receiver.app) as address:
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=50)
            sandbox.scripts.add(Script(destination="+6587654321", outcome=SessionStatus.BUSY, times=1))
            sandbox.scripts.add(Script(destination="+6587654321", outcome=SessionStatus.COMPLETED, times=1))
            sandbox.scripts.add(Script(destination="+6587654322", outcome=SessionStatus.NO_ANSWER))
            async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
                worker = Worker(store, voice, rate=10)
                async with asyncio.TaskGroup() as group:
                    group.create_task(worker.run())
                    showing = group.create_task(show(queue, len(NAMES)))
                    job = await queue.wait_for_outcome(first.job.id, timeout=timedelta(seconds=30))
                    await showing
                    worker.stop()
        print(f"the wait for Customer 1 has ended: {job.state} after {job.attempt} attempts")


if __name__ == "__main__":
    asyncio.run(main())
