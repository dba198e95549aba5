"""What can be steered over HTTP: a call in doubt, an escalation, a held batch."""

from __future__ import annotations

from tests.actions.work import ANA, waiting
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalations import Escalations


async def doubtful(store: Store) -> str:
    engine = Engine(store, ScriptedVoice(answers=[unknown()]))
    job = await engine.enqueue(ANA)
    await engine.send()
    return job.id


async def escalated(store: Store, key: str = "disk") -> str:
    escalation = Escalation.of({"numbers": [ANA], "say": "x", "source": "+6531234567", "voice_profile": "v"})
    return (await Escalations(CallQueue(store)).start(escalation, key=key)).status.id


async def held(store: Store) -> str:
    await CallQueue(store).hold(reason="lunch")
    return await waiting(store)
