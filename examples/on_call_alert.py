"""An on-call alert: people on a rota are called one after another until somebody presses 1.

The program needs no account: a sandbox in this process simulates 8x8 and the people, and calls nobody.

    python examples/on_call_alert.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from voiceflow_worker import Escalation, Sandbox, SessionStatus, Voiceflow, start_escalation
from voiceflow_worker.sandbox import Script

ROTA = {
    "+6587654321": Script(outcome=SessionStatus.NO_ANSWER),
    "+6587654322": Script(outcome=SessionStatus.BUSY),
    "+6587654323": Script(outcome=SessionStatus.COMPLETED, keys=["1"]),
    "+6587654324": Script(outcome=SessionStatus.COMPLETED, keys=["1"]),
}
"""The reaction of each person when the phone rings."""


async def alert(voiceflow: Voiceflow, *, incident: str, text: str, rota: Sequence[str]) -> str | None:
    """Call one person after another until somebody presses 1; return the number of that person, None for nobody.

    If the program runs again for the same incident, for instance after a crash, nobody is called a second time.
    """
    alarm = Escalation(
        numbers=rota, say=f"This is an alarm. {text}.", every=timedelta(minutes=1), rounds=1,
        source="+6531234567", voice_profile="en-US-BenjaminRUS",
    )  # fmt: skip
    batch = f"oncall-{incident}"
    await start_escalation(voiceflow.queue, alarm, name=batch)
    await voiceflow.queue.wait_for_batch(batch)
    calls = await voiceflow.queue.find(batch_id=batch)
    return next((call.number for call in calls if call.answer == "acknowledged"), None)


async def try_out() -> tuple[Sandbox, str | None]:
    """Raise an alarm in a sandbox, twice, and return who took it."""
    async with Voiceflow.in_sandbox() as (voiceflow, sandbox), voiceflow.working():
        for number, script in ROTA.items():
            sandbox.scripts.add(script.model_copy(update={"destination": number}))
        taken = [
            await alert(voiceflow, incident="incident-42", text="The database is full", rota=list(ROTA))
            for _ in range(2)
        ]
    return sandbox, taken[-1]


async def report() -> None:
    """Raise an alarm in a sandbox, and print what happened."""
    sandbox, taken = await try_out()
    for number in ROTA:
        rang = sum(entry.destination == number for entry in sandbox.ledger)
        print(f"{number} rang {rang} times{', and pressed 1' if number == taken else ''}")


if __name__ == "__main__":
    asyncio.run(report())
