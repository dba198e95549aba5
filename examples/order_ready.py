"""One call from Python: enqueued, sent, and read back.

The program needs no account: a sandbox in this process simulates 8x8, and calls nobody.

    python examples/order_ready.py

With --for-real it calls the first number from the second, with the account in VOICEFLOW_API_KEY and
VOICEFLOW_SUB_ACCOUNT:

    python examples/order_ready.py --for-real +6587654321 +6531234567
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from voiceflow_worker import CallFlow, CallQueue, Sandbox, VoiceClient, Worker, open_store


async def call(store_url: str, client: VoiceClient, *, destination: str, source: str) -> None:
    """Enqueue one call, send it, and read its state."""
    flow = (
        CallFlow.call(destination, source=source)
        .say("Your order is ready.", voice_profile="en-IE-EmilyNeural")
        .hangup()
    )
    async with open_store(store_url) as store:
        queue = CallQueue(store)
        job = await queue.enqueue(flow, unique_key="order-42", valid_for=timedelta(hours=2))
        print(f"{job.id} to {job.destination} is {job.state}")

        # The same key with the same flow is the same call.
        again = await queue.enqueue(flow, unique_key="order-42", valid_for=timedelta(hours=2))
        print(f"enqueued again: {'the same call' if again.id == job.id else 'another call'}")

        async with client as voice:
            await Worker(store, voice, rate=10, concurrency=50).drain()

        job = await queue.get(job.id)
        print(f"{job.id} is {job.state}; its session at 8x8 is {job.session_id}")


async def main() -> None:
    """Call through the sandbox, or with --for-real through 8x8."""
    with TemporaryDirectory() as folder:
        store_url = f"sqlite:///{Path(folder) / 'calls.db'}"
        match sys.argv[1:]:
            case ["--for-real", destination, source]:
                await call(store_url, VoiceClient.from_env(), destination=destination, source=source)
            case []:
                async with Sandbox().running() as url:
                    client = VoiceClient("any-key", "demo", base_url=url)
                    await call(store_url, client, destination="+6587654321", source="+6531234567")
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    asyncio.run(main())
