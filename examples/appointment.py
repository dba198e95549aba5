"""Appointments by phone: 1 confirms, 2 moves, 3 cancels. People who do not answer are called again, twice at most.

The program needs no account: a sandbox in this process simulates 8x8 and the people, and calls nobody.

    python examples/appointment.py

The menu is `appointment`, and the campaign is appointments.csv. The texts come from the rows, so no code is needed.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from voiceflow_worker import (
    CallFlow,
    CallQueue,
    CampaignOptions,
    Menu,
    Receiver,
    RedialPolicy,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    enqueue_file,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.ivr import BACK, End
from voiceflow_worker.reporting.report import build_report
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

# -- the menus --------------------------------------------------------------------------------------------------------

OURS, DESK = "+6531234567", "+6531234568"

appointment = Menu(
    "appointment",
    prompt="Hello {{name}}. Your appointment is {{time}}. To confirm it press 1, to move it press 2, to cancel it "
    "press 3.",
    voice_profile="en-US-BenjaminRUS",
    retry_text="Sorry, that is not a valid choice.",
    fallback=End("We will call you again about it. Goodbye."),
)
move = Menu(
    "move",
    prompt="You could also come {{other_time}}. To take that press 1, to speak to us press 2, to go back press 9.",
)
appointment.on("1", result="confirmed", goto=End("Thank you, {{name}}. See you {{time}}."))
appointment.on("2", goto=move)
appointment.on("3", result="called off", goto=End("Your appointment is cancelled. Goodbye."))
move.on("1", result="moved", goto=End("Thank you, {{name}}. See you {{other_time}}."))
move.on("2", result="asked for us", goto=CallFlow.bridge(source=OURS, destination=DESK))
move.on("9", goto=BACK)

LATER = timedelta(minutes=15)
UNANSWERED = RedialPolicy(on=frozenset({SessionStatus.NO_ANSWER, SessionStatus.BUSY}), limit=2, after=LATER)

# -- the menus in use -------------------------------------------------------------------------------------------------

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"
CAMPAIGN = Path(__file__).parent / "appointments.csv"
BATCH = "appointments"
SPEED = 1800
"""The factor by which calls and redials are faster than in reality. 15 minutes take half a second."""
S = SessionStatus
PEOPLE = {
    "+6587654321": [Script(outcome=S.COMPLETED, keys=["1"])],
    "+6587654322": [Script(outcome=S.NO_ANSWER, times=1), Script(outcome=S.COMPLETED, keys=["2", "1"])],
    "+6587654323": [Script(outcome=S.BUSY, times=2), Script(outcome=S.COMPLETED, keys=["1"])],
    "+6587654324": [Script(outcome=S.COMPLETED, keys=["3"])],
    "+6587654325": [Script(outcome=S.COMPLETED, keys=["2", "9", "2", "2"])],
    "+6587654326": [Script(outcome=S.NO_ANSWER)],
    "+6587654327": [Script(outcome=S.COMPLETED, keys=["5", None, "hangup"])],
}
"""The scripts for the calls to each person, in order."""


async def try_out(store: Store) -> Sandbox:
    """Call everybody in a sandbox, and return it with its ledger."""
    options = CampaignOptions(
        menu=appointment,
        source=OURS,
        window="any",
        valid_for=timedelta(hours=4),
        redial=RedialPolicy(on=UNANSWERED.on, limit=UNANSWERED.limit, after=LATER / SPEED),
    )
    await enqueue_file(CallQueue(store), CAMPAIGN, options, now=store.clock.now())
    receiver = Receiver(load_settings(webhook_secret=AUTHORIZATION), store, menus=[appointment])
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=AUTHORIZATION, speed=SPEED)
        for number, scripts in PEOPLE.items():
            for script in scripts:
                sandbox.scripts.add(script.model_copy(update={"destination": number}))
        async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
    return sandbox


async def main() -> None:
    """Call everybody, and print the results."""
    async with open_store("memory://") as store:
        await try_out(store)
        for job in await CallQueue(store).find(batch_id=BATCH):
            name, calls = (job.data or {})["name"], f"{job.attempt} call{'s' * (job.attempt > 1)}"
            print(f"{name}: {job.answer or 'no answer'} ({job.state} after {calls}, pressed {job.digits or 'nothing'})")
        report = await build_report(store, "default", BATCH)
    print("outcomes:", ", ".join(f"{count} {status}" for status, count in sorted(report.outcomes.items())))
    print("answers:", ", ".join(f"{count} {answer}" for answer, count in report.answers.items()))
    print(f"answered: {report.answered} of {report.total}")


if __name__ == "__main__":
    asyncio.run(main())
