"""A call that bridges two people rings two telephones: both are locked, and both are looked up in the list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import SOURCE, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, CallPolicy, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writes import NUMBER, SECOND_PARTY
from voiceflow_worker.errors import SuppressedNumberError
from voiceflow_worker.model.flows.rules import second_parties

pytestmark = pytest.mark.anyio

ANA, BEN, CLEO, DESK = (number(place) for place in range(4))
AGAIN = timedelta(seconds=3)


@pytest.fixture
def here(any_store: Store) -> Engine:
    return Engine(any_store, ScriptedVoice())


@pytest.fixture
def listed(any_store: Store) -> SuppressionList:
    return SuppressionList(any_store)


def bridge(first: str, second: str) -> CallFlow:
    words = CallFlow.call(first, source=SOURCE).say("You are connected.", voice_profile="en-IE-EmilyNeural")
    return words.then_call(second, source=SOURCE)


def sent(jobs: Sequence[Job]) -> list[str]:
    return [job.destination for job in jobs]


async def hand_in(engine: Engine, clock: ManualClock, *flows: CallFlow) -> list[Job]:
    """Calls that are enqueued one after the other, and leased in that order."""
    jobs: list[Job] = []
    for each in flows:
        jobs.append(await engine.queue.enqueue(each))
        clock.advance(timedelta(milliseconds=1))
    return jobs


async def locks(store: Store) -> list[str]:
    found = await store.records({NUMBER: Page(), SECOND_PARTY: Page()}, now=store.clock.now())
    return [record.group for records in found.values() for record in records]


async def test_the_second_party_is_in_one_open_call_at_a_time(here: Engine, clock: ManualClock) -> None:
    await hand_in(here, clock, *(bridge(first, DESK) for first in (ANA, BEN, CLEO)))
    (first,) = await here.send()
    assert (first.destination, first.state) == (ANA, JobState.SUBMITTED)
    waiting = await here.queue.find(states=[JobState.QUEUED])
    assert [job.destination for job in waiting] == [BEN, CLEO]
    for job in waiting:
        assert job.reason is not None
        assert DESK in job.reason
        assert "list it as shared" in job.reason
    clock.advance(AGAIN)
    assert await here.send() == []
    await here.summarise(first)
    clock.advance(AGAIN)
    assert len(await here.send()) == 1


async def test_calls_that_wait_for_one_line_look_again_one_after_the_other(here: Engine, clock: ManualClock) -> None:
    jobs = await hand_in(here, clock, *(bridge(number(10 + place), DESK) for place in range(6)))
    await here.send()
    waits = [(await here.queue.get(job.id)).due_at - clock.now() for job in jobs[1:]]
    assert waits == sorted(waits)
    assert waits[0] <= timedelta(seconds=2.5)
    assert timedelta(seconds=7.5) <= waits[-1] <= timedelta(seconds=12.5)


async def test_a_shared_number_takes_many_calls_at_once(any_store: Store, clock: ManualClock) -> None:
    here = Engine(any_store, ScriptedVoice(), policy=CallPolicy(shared_numbers=frozenset({DESK.removeprefix("+")})))
    await hand_in(here, clock, *(bridge(first, DESK) for first in (ANA, BEN, CLEO)))
    assert sent(await here.send()) == [ANA, BEN, CLEO]
    # As the person called it is one number like any other.
    await here.enqueue(DESK)
    await here.enqueue(DESK)
    assert sent(await here.send()) == [DESK]


async def test_a_suppressed_second_party_is_refused_at_intake(here: Engine, listed: SuppressionList) -> None:
    await listed.add(BEN, reason="asked by mail")
    with pytest.raises(SuppressedNumberError, match="asked by mail") as caught:
        await here.queue.enqueue(bridge(ANA, BEN))
    assert [(each.index, each.number) for each in caught.value.suppressed] == [(0, BEN)]
    assert BEN in caught.value.suppressed[0].reason


async def test_a_second_party_who_was_suppressed_meanwhile_is_not_rung(here: Engine, listed: SuppressionList) -> None:
    job = await here.queue.enqueue(bridge(ANA, BEN))
    await listed.add(BEN)
    assert await here.send() == []
    ended = await here.queue.get(job.id)
    assert ended.state is JobState.CANCELLED
    assert ended.reason is not None
    assert ended.reason.startswith(f"its second party {BEN} has been on the suppression list")
    assert await locks(here.store) == []


@pytest.mark.parametrize("shared", [frozenset[str](), frozenset({DESK.removeprefix("+")})])
async def test_a_second_party_who_is_suppressed_while_the_call_waits_for_its_slot_is_not_rung(
    any_store: Store, clock: ManualClock, shared: frozenset[str]
) -> None:
    voice = ScriptedVoice()
    here = Engine(any_store, voice, policy=CallPolicy(shared_numbers=shared))
    job = await here.queue.enqueue(bridge(ANA, DESK))
    await here.suppress_before_slot(DESK, reason="asked us", clock=clock)
    assert voice.placed == []
    assert await here.state(job) == JobState.CANCELLED
    assert await locks(here.store) == []


# -- one telephone, two spellings ----------------------------------------------------------------------------------


def test_a_body_with_one_call_is_not_read() -> None:
    tricky = (
        CallFlow.call(ANA, source=SOURCE).say('say "makeCall" and "makeCall"', voice_profile="x").to_json().decode()
    )
    assert second_parties(tricky) == ()
    assert second_parties('"makeCall" "makeCall" and no JSON') == ()
    assert second_parties(bridge(ANA, DESK).to_json().decode().replace(DESK, DESK.removeprefix("+"))) == (DESK,)
    assert second_parties(bridge(ANA, ANA).to_json().decode()) == ()
