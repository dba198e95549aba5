"""A support callback, with a menu of one level: 1 connects to the desk, 2 requests a later call.

The program needs no account: a sandbox in this process simulates 8x8 and the people, and calls nobody.

    python examples/support_callback.py

The menu is `callback`. To play it in the terminal:

    voiceflow ivr play support_callback:callback --data name=Ana --data subject="your order"
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from voiceflow_worker import (
    CallFlow,
    CallQueue,
    CallRequest,
    End,
    JobState,
    Menu,
    Receiver,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.ivr import call_me_back
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

# -- the menu ---------------------------------------------------------------------------------------------------------

OURS, DESK = "+6531234567", "+6531234568"
LATER, PROMISE = timedelta(hours=2), End("Thank you. We call you again in two hours.")

callback = Menu(
    "callback",
    prompt="Hello {{name}}. We return your call about {{subject}}. To be connected press 1, to be called later "
    "press 2.",
    voice_profile="en-US-BenjaminRUS",
    retry_text="Sorry, that is not a valid choice.",
    fallback=End("Please call us when it suits you. Goodbye."),
)
callback.on("1", goto=CallFlow.bridge(source=OURS, destination=DESK))


callback.on("2", goto=PROMISE, do=call_me_back(LATER))  # the key press is stored before the promise is heard

# -- the menu in use --------------------------------------------------------------------------------------------------

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
BATCH = "callbacks"
SPEED = 200
"""The factor by which calls are faster than in reality."""
PEOPLE = {
    "+6587654321": Script(outcome=SessionStatus.COMPLETED, keys=["1"]),
    "+6587654322": Script(outcome=SessionStatus.COMPLETED, keys=["2"]),
    "+6587654323": Script(outcome=SessionStatus.COMPLETED, keys=["7", None, "2"]),
    "+6587654324": Script(outcome=SessionStatus.COMPLETED, keys=[None]),
    "+6587654325": Script(outcome=SessionStatus.COMPLETED, keys=["hangup"]),
    "+6587654326": Script(outcome=SessionStatus.NO_ANSWER),
}
"""The reaction of each person when the phone rings."""


def callback_to(number: str, *, name: str, subject: str) -> CallRequest:
    """Return the call for one person."""
    data = {"name": name, "subject": subject}
    flow = callback.call(number, source=OURS, data=data)
    return CallRequest(flow=flow, menu=callback.name, data=data, batch_id=BATCH, unique_key=f"{BATCH}-{number}")


async def try_out(store: Store) -> Sandbox:
    """Call everybody in a sandbox, and return it with its ledger."""
    requests = [
        callback_to(number, name=f"Customer {place}", subject="your order")
        for place, number in enumerate(PEOPLE, start=1)
    ]
    await CallQueue(store).enqueue_many(requests)
    receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store, menus=[callback])
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=SPEED)
        for number, script in PEOPLE.items():
            sandbox.scripts.add(script.model_copy(update={"destination": number}))
        async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
    return sandbox


async def main() -> None:
    """Call everybody, and print the results."""
    async with open_store("memory://") as store:
        sandbox = await try_out(store)
        connected = {entry.destination: entry.bridged_to for entry in sandbox.ledger}
        jobs = await CallQueue(store).find(batch_id=BATCH)
        for job in sorted(jobs, key=lambda job: job.destination):
            name = (job.data or {})["name"]
            if job.state is JobState.QUEUED:
                hours = (job.due_at - job.created_at) / timedelta(hours=1)
                print(f"{name} pressed {job.digits}, and is called again in {hours:.0f} hours")
                continue
            ended = job.outcome.status_text if job.outcome else "not known yet"
            desk = f", connected to {connected[job.destination]}" if connected[job.destination] else ""
            print(f"{name}: {job.state} ({ended}), pressed {job.digits or 'nothing'}{desk}")


if __name__ == "__main__":
    asyncio.run(main())
