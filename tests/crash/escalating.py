"""A process with a worker that carries on with an escalation, and kills itself at a write of it."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta

import anyio

from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Escalation, Escalations, VoiceClient, Worker, WorkerOptions, open_store
from voiceflow_worker.service import escalations

KEY = "incident-42"
ANA, BEN, CHEN, DAN = "+6587654321", "+6587654322", "+6587654323", "+6587654324"
NUMBERS = (ANA, (BEN, DAN), ANA, CHEN, (BEN, DAN))
"""Ben and Dan are called at once. Chen presses the key; the last step is not called."""


async def advance(url: str, base_url: str, *, when: str, kill_at: int) -> None:
    """Start or continue the escalation to its end, and print its state; die before or after a write of it."""
    escalations.LOOK_EVERY = 0.02
    writes = 0

    async def strike(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    options = WorkerOptions(lease=timedelta(seconds=1))
    alarm = Escalation(numbers=NUMBERS, say="Fire.", source="+6531234567", voice_profile="en-IE-EmilyNeural")
    async with open_store(url) as store, VoiceClient("any-key", "demo", base_url=base_url) as voice:
        worker = Worker(store, voice, rate=None, options=options)
        watched = FaultyStore(store, before=strike) if when == "before" else FaultyStore(store, after=strike)
        under_way = Escalations(CallQueue(watched))
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await under_way.start(alarm, key=KEY)
            await under_way.wait(under_way.id_of(KEY))
            worker.stop()
        sys.stdout.write(f"{(await under_way.get(under_way.id_of(KEY))).state.value}\n")


if __name__ == "__main__":
    anyio.run(lambda: advance(sys.argv[1], sys.argv[2], when=sys.argv[3], kill_at=int(sys.argv[4])))
