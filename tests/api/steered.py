"""What can be steered over HTTP: a call in doubt, a held batch."""

from __future__ import annotations

from tests.actions.work import ANA, waiting
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallQueue, Store


async def doubtful(store: Store) -> str:
    engine = Engine(store, ScriptedVoice(answers=[unknown()]))
    job = await engine.enqueue(ANA)
    await engine.send()
    return job.id


async def held(store: Store) -> str:
    await CallQueue(store).hold(reason="lunch")
    return await waiting(store)
