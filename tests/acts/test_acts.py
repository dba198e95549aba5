"""Acts of people, apart from the commands and pages that ask and show: their questions, checks, deeds and results."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from tests.console.stored_calls import ended, in_doubt
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    InvalidInputError,
    JobState,
    SessionStatus,
    Store,
    SuppressionList,
    open_store,
)
from voiceflow_worker.acts import (
    COUNT_HOLDS,
    Act,
    ActRefusedError,
    CancelBatch,
    Hold,
    Operator,
    Redial,
    RedialBatch,
    Resolve,
    Resume,
    Suppress,
    UnknownSubjectError,
)
from voiceflow_worker.backends.contract.samples import ManualClock
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.model.jobs.gate import Gate

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def mary(clock: ManualClock) -> AsyncGenerator[Operator]:
    async with open_store("memory://", clock=clock) as store:
        yield Operator(store, CallPolicy(), "Mary Tan")


async def waiting(store: Store, count: int = 1) -> None:
    for place in range(count):
        await CallQueue(store).enqueue(flow(number(place)), batch_id="march")


async def test_a_question_says_what_rings_and_what_does_not(mary: Operator) -> None:
    await in_doubt(mary.store)
    await waiting(mary.store, 3)
    asked = await CancelBatch(operator=mary, queue="default", batch="march").question()
    assert asked.rings == ("Nothing: no call is under way. 1 call in doubt may have rung.",)
    assert "3 waiting calls" in asked.silent[0]


async def test_a_batch_without_calls_is_unknown_in_one_wording(mary: Operator) -> None:
    await waiting(mary.store)
    wrong: list[Act] = [act(operator=mary, queue="default", batch="Marhc") for act in (Hold, Resume, CancelBatch)]
    wrong.append(RedialBatch(operator=mary, queue="default", batch="Marhc", outcomes=["busy"]))
    for act in wrong:
        for ask in (act.question, act.do):
            with pytest.raises(UnknownSubjectError, match=r"batch Marhc has no calls in .* did you mean march\?"):
                await ask()
    assert await gates_of(mary.store, "default") == []


async def test_a_hold_that_nobody_has_seen_is_not_ended(mary: Operator) -> None:
    await waiting(mary.store)
    await Hold(operator=mary, queue="default", batch="march", note="lunch").do()
    resume = Resume(operator=mary, queue="default", batch="march")
    asked = await resume.question()
    await resume.do()
    await Hold(operator=mary, queue="default", batch="march", note="the store was\nset back").do()
    with pytest.raises(ActRefusedError, match="another hold was set since the question"):
        await resume.do(asked.seen)
    assert [gate.reason for gate in await gates_of(mary.store, "default")] == ["the store was\nset back (by Mary Tan)"]
    await resume.do((await resume.question()).seen)
    await resume.do(asked.seen)
    assert await gates_of(mary.store, "default") == []


@pytest.mark.parametrize("asked", [True, False])
async def test_a_hold_that_is_set_while_somebody_resumes_stays(
    mary: Operator, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    await waiting(mary.store)
    hold, resume = Hold(operator=mary, queue="default", note="lunch"), Resume(operator=mary, queue="default")
    if asked:
        await hold.do()
    seen = (await resume.question()).seen
    at_once = CallQueue.resume

    async def overtaken(queue: CallQueue, **how: Any) -> Gate:
        monkeypatch.undo()
        await queue.resume()
        await queue.hold(reason="the store was set back")
        return await at_once(queue, **how)

    monkeypatch.setattr(CallQueue, "resume", overtaken)
    with pytest.raises(ActRefusedError, match=r"another hold was set since the question.*set back"):
        await resume.do(seen)
    assert [gate.reason for gate in await gates_of(mary.store, "default")] == ["the store was set back"]


async def test_a_hold_with_the_words_of_one_that_has_ended_is_another(mary: Operator, clock: ManualClock) -> None:
    await waiting(mary.store)
    hold, resume = Hold(operator=mary, queue="default"), Resume(operator=mary, queue="default")
    await hold.do()
    seen = (await resume.question()).seen
    for act in (resume, hold):
        clock.advance(timedelta(seconds=1))
        await act.do()
    with pytest.raises(ActRefusedError, match="another hold was set since the question"):
        await resume.do(seen)
    assert len(await gates_of(mary.store, "default")) == 1


async def test_a_verdict_about_one_post_does_not_settle_the_doubt_about_the_next(
    mary: Operator, clock: ManualClock
) -> None:
    engine, (doubt,) = await in_doubt(mary.store)
    act = Resolve(operator=mary, call=doubt.id, placed=False, note="not in the portal")
    asked = await act.question()
    clock.advance(timedelta(minutes=5))
    await act.do(asked.seen)
    (again,) = await engine.send()
    assert (again.state, again.post_count) == (JobState.IN_DOUBT, 2)
    clock.advance(timedelta(minutes=5))
    for seen in (asked.seen, "", "x"):
        with pytest.raises(IllegalMoveError, match="POST 2, begun at"):
            await act.do(seen)
    assert (await act.do((await act.question()).seen)).documents[0]["state"] == "queued"


async def test_two_people_who_ask_for_one_redial_redial_once(mary: Operator) -> None:
    busy = await ended(mary.store)
    act = Redial(operator=mary, call=busy.id)
    asked = await act.question()
    await act.do(asked.seen)
    engine = Engine(mary.store, ScriptedVoice())
    (again,) = await engine.send()
    await engine.summarise(again, SessionStatus.BUSY)
    for seen in (asked.seen, "", "x"):
        with pytest.raises(IllegalMoveError, match="POST 2 is now the newest"):
            await act.do(seen)
    assert (await CallQueue(mary.store).get(busy.id)).state is JobState.UNREACHED


async def test_a_count_of_phones_is_confirmed_while_it_is_fresh(mary: Operator, clock: ManualClock) -> None:
    await ended(mary.store)
    act = RedialBatch(operator=mary, queue="default", batch="march", outcomes=["busy"])
    asked = await act.question()
    assert asked.title == "Redial 1 call of batch march?"
    clock.advance(COUNT_HOLDS + timedelta(seconds=1))
    for seen in (asked.seen, "", "never", "2026-07-01", "9999-12-31T23:59:59Z"):
        with pytest.raises(ActRefusedError, match="older than 15 minutes"):
            await act.do(seen)
    assert (await act.do((await act.question()).seen)).documents[0]["redialled"] == 1
    with pytest.raises(ActRefusedError, match="no call of batch march can be redialled"):
        await act.question()


async def test_the_question_of_a_redial_says_what_keeps_the_phone_silent(mary: Operator) -> None:
    job = await ended(mary.store)
    await Hold(operator=mary, queue="default", batch="march", note="lunch").do()
    await Suppress(operator=mary, numbers=[job.destination], note="asked by mail").do()
    asked = await Redial(operator=mary, call=job.id).question()
    assert ["asked by mail" in asked.silent[0], "batch march is held" in asked.silent[1]] == [True, True]


@pytest.mark.parametrize("ends", [{"until": True}, {"lasts": True}])
async def test_a_suppression_has_one_end(mary: Operator, clock: ManualClock, ends: dict[str, bool]) -> None:
    until, lasts = clock.now() + timedelta(days=1), timedelta(days=1)
    with pytest.raises(InvalidInputError, match="exclude each other"):
        await Suppress(operator=mary, numbers=["+6587654321"], until=until, lasts=lasts).do()
    one = Suppress(
        operator=mary,
        numbers=["+6587654321"],
        until=until if "until" in ends else None,
        lasts=lasts if "lasts" in ends else None,
    )
    await one.do()
    (entry,) = await SuppressionList(mary.store).scan()
    assert (entry.until, entry.reason) == (until, "put on the list by Mary Tan")


async def test_a_doubt_is_not_resolved_without_saying_how_one_knows(mary: Operator) -> None:
    _, (doubt,) = await in_doubt(mary.store)
    for note in (None, "", "  "):
        with pytest.raises(InvalidInputError, match="how you know"):
            await Resolve(operator=mary, call=doubt.id, note=note).do()
    assert (await CallQueue(mary.store).get(doubt.id)).state is JobState.IN_DOUBT
