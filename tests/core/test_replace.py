"""`replace=True`: a call that has the key, differs, and waits, is changed; nothing else is."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, CallRequest, JobState, Store
from voiceflow_worker.errors import KeyConflictError

pytestmark = pytest.mark.anyio


def words(text: str, to: str = number(1)) -> CallFlow:
    return CallFlow.call(to, source="+6531234567").say(text, voice_profile="en-US-JennyNeural")


async def test_a_waiting_call_is_changed_and_stays_the_same_call(any_store: Store) -> None:
    engine = Engine(any_store, voice := ScriptedVoice())
    first = await engine.queue.enqueue(words("Monday."), unique_key="visit")
    with pytest.raises(KeyConflictError, match=r"With replace=True, it is changed while it waits\."):
        await engine.queue.enqueue(words("Tuesday."), unique_key="visit")
    changed = await engine.queue.enqueue(words("Tuesday."), unique_key="visit", replace=True)
    assert (changed.id, [job.id for job in await engine.queue.find()]) == (first.id, [first.id])
    await engine.send()
    (placed,) = [placement for _, placement in voice.placed]
    assert "Tuesday." in str(placed.body)
    with pytest.raises(KeyConflictError) as refused:
        await engine.queue.enqueue(words("Friday."), unique_key="visit", replace=True)
    assert "replace=True" not in str(refused.value)


async def test_all_are_changed_and_enqueued_or_none(any_store: Store) -> None:
    engine = Engine(any_store, ScriptedVoice())
    for key in ("one", "two"):
        await engine.queue.enqueue(words("Monday."), unique_key=key)
    await engine.queue.cancel((await engine.queue.find(unique_key="two"))[0].id)
    ordered = [CallRequest(words("Friday."), unique_key=key) for key in ("one", "two")]
    new = CallRequest(flow(number(3)), unique_key="three")
    with pytest.raises(KeyConflictError, match=r"\(and 1 more\)"):
        await engine.queue.enqueue_many([*ordered, new], replace=True)
    (one,) = await engine.queue.find(states=[JobState.QUEUED])
    assert "Monday." in one.body
    done = await engine.queue.enqueue_many([ordered[0], new], replace=True)
    assert [(each.job.unique_key, each.created) for each in done] == [("one", False), ("three", True)]
    assert sorted("Friday." in job.body for job in await engine.queue.find(states=[JobState.QUEUED])) == [False, True]
