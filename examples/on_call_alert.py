"""An on-call alert: people on a rota are called one after another until somebody presses 1.

The program needs no account: a sandbox in this process simulates 8x8 and the people, and calls nobody.

    python examples/on_call_alert.py

With --for-real it calls the given numbers from VOICEFLOW_SOURCE. The exit code is 1 if nobody takes the alarm. This
needs `voiceflow worker` and `voiceflow serve --ivr on_call_alert:alarm` on the same store:

    python examples/on_call_alert.py --for-real incident-42 "The database is full" +6587654321 +6587654322
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from voiceflow_worker import (
    CallQueue,
    End,
    Job,
    Menu,
    MenuEvents,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
    receiver_app,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.errors import OutcomeTimeoutError
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

# -- the menu and the rota --------------------------------------------------------------------------------------------

alarm = Menu(
    "alarm",
    prompt="This is an alarm. {{text}}. To take it press 1, to pass it on press 2.",
    voice_profile="en-US-BenjaminRUS",
    again="Sorry, that is not a valid choice.",
    fallback=End("The alarm goes to the next person."),
)
alarm.on("1", result="taken", goto=End("Thank you. It is yours."))
alarm.on("2", goto=End("Thank you. It goes to the next person."))

RINGS_WITHIN = timedelta(minutes=1)
"""A call that is not placed within this time is not placed at all, because the next person is called."""
PATIENCE = timedelta(minutes=4)
"""The longest wait for one person, from the enqueueing to the end of the call."""


async def alert(queue: CallQueue, *, incident: str, text: str, source: str, rota: Sequence[str]) -> Job | None:
    """Call one person after another until somebody takes the alarm. Returns that person's call, or None.

    The unique key of each call is made of the incident and the number. If the program runs again for the same incident,
    for instance after a crash, it goes on where it ended, and calls nobody a second time.
    """
    data, called = {"text": text}, list[str]()
    for number in rota:
        job = await queue.enqueue(
            alarm.call(number, source=source, data=data),
            menu=alarm.name,
            data=data,
            batch_id=incident,
            unique_key=f"{incident}-{number}",
            valid_for=RINGS_WITHIN,
        )
        called.append(job.id)
        with suppress(OutcomeTimeoutError):
            await queue.wait_for_outcome(job.id, timeout=PATIENCE)
        for job_id in called:  # an earlier person may have pressed 1 late
            if (job := await queue.get(job_id)).answer == "taken":  # stored at once, before the summary of the call
                return job
    return None


# -- the alert in use -------------------------------------------------------------------------------------------------

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
SOURCE = "+6531234567"
SPEED = 200
"""The factor by which calls are faster than in reality."""
ROTA = {
    "+6587654321": Script(outcome=SessionStatus.NO_ANSWER),
    "+6587654322": Script(outcome=SessionStatus.COMPLETED, keys=["2"]),
    "+6587654323": Script(outcome=SessionStatus.COMPLETED, keys=["hangup"]),
    "+6587654324": Script(outcome=SessionStatus.COMPLETED, keys=[None]),
    "+6587654325": Script(outcome=SessionStatus.COMPLETED, keys=["7", "1"]),
    "+6587654326": Script(outcome=SessionStatus.COMPLETED, keys=["1"]),
}
"""The reaction of each person when the phone rings."""


async def try_out(store: Store) -> tuple[Sandbox, Job | None]:
    """Raise an alarm in a sandbox, stop it while the second phone rings, and raise it again."""
    queue = CallQueue(store)
    raised = {"incident": "incident-42", "text": "The database is full", "source": SOURCE}
    receiver = receiver_app(store, secret=AUTHORIZATION, on_event=MenuEvents(store, alarm))
    async with serving(receiver) as address:
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
            first = group.create_task(alert(queue, rota=list(ROTA), **raised))
            await sandbox.ledger.reached(2)
            first.cancel()
            took = await alert(queue, rota=list(ROTA), **raised)
            worker.stop()
    return sandbox, took


async def report() -> None:
    """Raise an alarm in a sandbox, and print the results."""
    async with open_store("memory://") as store:
        sandbox, took = await try_out(store)
        print("The program was stopped while the second phone rang, and started again.")
        for number in ROTA:
            calls = [entry for entry in sandbox.ledger if entry.destination == number]
            for entry in calls:
                keys = " ".join(key for key in entry.pressed if key) or "nothing"
                print(f"{number} rang: {entry.outcome}, pressed {keys}")
            if not calls:
                print(f"{number} did not ring")
        print(f"taken by {took.destination}" if took is not None else "nobody took it")


async def raise_alarm(incident: str, text: str, *rota: str) -> None:
    """Call people through the workers and receivers that use the store."""
    settings = load_settings()
    if settings.source is None:
        sys.exit("set VOICEFLOW_SOURCE to the number that people see when they are called")
    async with open_store(settings.store) as store:
        queue = CallQueue(store, settings.queue)
        took = await alert(queue, incident=incident, text=text, source=settings.source, rota=rota)
    if took is None:
        sys.exit("nobody took the alarm")
    print(f"taken by {took.destination}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--for-real", incident, text, first, *others]:
            asyncio.run(raise_alarm(incident, text, first, *others))
        case []:
            asyncio.run(report())
        case _:
            sys.exit(__doc__)
