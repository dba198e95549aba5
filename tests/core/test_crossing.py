"""Evidence that crosses other evidence on its way to the store: none is dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.voices import created
from voiceflow_worker import CallPolicy, JobState, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.jobs.evidence import answered
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[FaultyStore]:
    async with open_store("memory://", clock=clock) as opened:
        yield FaultyStore(opened)


async def test_an_answer_that_its_bearer_takes_for_stored_is_compared_with_what_the_store_has(
    store: FaultyStore, clock: ManualClock, engine: Engine
) -> None:
    """A worker whose commit was rolled back remembers a job that knows the answer; the store does not."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()
    remembered = answered(sending, 1, created("s-1"), at=clock.now(), policy=CallPolicy())
    assert remembered.state is JobState.SUBMITTED
    await engine.settler.verdict(remembered, 1, created("s-1"))
    stored = await engine.queue.get(job.id)
    assert (stored.state, stored.session_id) == (JobState.SUBMITTED, "s-1")


async def test_a_summary_that_is_parked_while_its_session_is_being_named_settles_its_call_at_once(
    store: FaultyStore, engine: Engine
) -> None:
    """The answer is stored between the look and the parking: nobody would look again before the sweep."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()

    async def answer_is_stored(call: StoreCall) -> None:
        if call.name == "write":
            store.before = nothing_more
            await engine.settler.verdict(sending, 1, created(f"session-{job.id}.1"))

    async def nothing_more(call: StoreCall) -> None:
        """Let the other calls be."""

    store.before = answer_is_stored
    result = await engine.summarise(job, SessionStatus.COMPLETED, with_client_request_id=False)
    assert store.before is nothing_more
    assert (result, await engine.state(job)) == (SummaryResult.SETTLED, "completed")
    assert await engine.settler.apply_all_parked() == ""
    wanted = {"parked-summary": Page()}
    assert await store.records(wanted, now=store.clock.now()) == {"parked-summary": []}
