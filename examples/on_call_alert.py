"""An on-call alert: people on a rota are called one after another until somebody presses 1.

The program needs no account: a sandbox in this process simulates 8x8 and the people, and calls nobody.

    python examples/on_call_alert.py

With --for-real it calls the given numbers from VOICEFLOW_SOURCE, with VOICEFLOW_VOICE_PROFILE. The exit code is 1 if
nobody takes the alarm. This needs `voiceflow worker` and `voiceflow serve` on the same store:

    python examples/on_call_alert.py --for-real incident-42 "The database is full" +6587654321 +6587654322
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

from voiceflow_worker import (
    CallQueue,
    Escalation,
    Escalations,
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
from voiceflow_worker.sandbox import Script
from voiceflow_worker.types import EscalationStatus
from voiceflow_worker.webhooks import PATH


async def alert(
    queue: CallQueue, *, incident: str, text: str, source: str, voice_profile: str, rota: Sequence[str]
) -> EscalationStatus:
    """Call one person after another until somebody takes the alarm, and return what has happened.

    If the program runs again for the same incident, for instance after a crash, it goes on where the calls are, and
    calls nobody a second time. Workers and receivers go on too while no program waits.
    """
    alarm = Escalation(
        numbers=rota,
        say=f"This is an alarm. {text}.",
        how="To take it, press 1.",
        answer_within=timedelta(minutes=1),
        source=source,
        voice_profile=voice_profile,
    )
    escalations = Escalations(queue)
    started = await escalations.start(alarm, key=incident)
    return await escalations.wait(started.status.id)


# -- the alert in use -------------------------------------------------------------------------------------------------

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
SPEED = 200
"""The factor by which calls are faster than in reality."""
ROTA = {
    "+6587654321": Script(outcome=SessionStatus.NO_ANSWER),
    "+6587654322": Script(outcome=SessionStatus.COMPLETED, keys=["2"]),
    "+6587654323": Script(outcome=SessionStatus.COMPLETED, keys=["hangup"]),
    "+6587654324": Script(outcome=SessionStatus.COMPLETED, keys=["7", "1"]),
    "+6587654325": Script(outcome=SessionStatus.COMPLETED, keys=["1"]),
}
"""The reaction of each person when the phone rings."""


async def try_out(store: Store) -> tuple[Sandbox, EscalationStatus]:
    """Raise an alarm in a sandbox, stop the program while the second phone rings, and raise it again."""
    queue = CallQueue(store)

    async def raised() -> EscalationStatus:
        return await alert(
            queue,
            incident="incident-42",
            text="The database is full",
            source="+6531234567",
            voice_profile="en-US-BenjaminRUS",
            rota=list(ROTA),
        )

    receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store)
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=SPEED)
        for number, script in ROTA.items():
            sandbox.scripts.add(script.model_copy(update={"destination": number}))
        async with (
            sandbox.running() as url,
            VoiceClient("any-key", "demo", base_url=url) as voice,
            asyncio.TaskGroup() as group,
        ):
            worker = Worker(store, voice)
            group.create_task(worker.run())
            first = group.create_task(raised())
            await sandbox.ledger.reached(2)
            first.cancel()
            status = await raised()
            worker.stop()
    return sandbox, status


async def report() -> None:
    """Raise an alarm in a sandbox, and print what happened."""
    async with open_store("memory://") as store:
        sandbox, status = await try_out(store)
        print("The program was stopped while the second phone rang, and started again.")
        for step in status.steps:
            rang = sum(entry.destination == step.number for entry in sandbox.ledger)
            print(f"{step.number} rang {rang} times: {step.message}")


async def raise_alarm(incident: str, text: str, *rota: str) -> None:
    """Call people through the workers and receivers that use the store."""
    settings = load_settings()
    if settings.source is None or settings.voice_profile is None:
        sys.exit("set VOICEFLOW_SOURCE to the number that people see, and VOICEFLOW_VOICE_PROFILE to a voice")
    async with open_store(settings.store) as store:
        status = await alert(
            CallQueue(store, settings.queue),
            incident=incident,
            text=text,
            source=settings.source,
            voice_profile=settings.voice_profile,
            rota=rota,
        )
    print(status.in_words())
    if status.acknowledged is None:
        sys.exit(1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--for-real", incident, text, first, *others]:
            asyncio.run(raise_alarm(incident, text, first, *others))
        case []:
            asyncio.run(report())
        case _:
            sys.exit(__doc__)
