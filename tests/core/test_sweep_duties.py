"""Each duty of the sweep is a part of its own: one that fails is told, and keeps none of the others from being done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, ManualClock, sample_job
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.stores import clocked
from voiceflow_worker import CallPolicy, JobState
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.base.record_set import unreadable_here
from voiceflow_worker.core.ports.reads import Due, Expired
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import SettingsError, StoreError, StoreUnavailableError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio

DUTIES: dict[str, Callable[[Any], bool]] = {
    "leased": lambda read: isinstance(read, Due) and read.state is JobState.LEASED,
    "sending": lambda read: isinstance(read, Due) and read.state is JobState.SENDING,
    "submitted": lambda read: isinstance(read, Due) and read.state is JobState.SUBMITTED,
    "in_doubt": lambda read: isinstance(read, Due) and read.state is JobState.IN_DOUBT,
    "queued": lambda read: isinstance(read, Expired),
}
"""The reads of the duties, by the state of the calls that each looks for."""
ERRORS = (RuntimeError("a mistake"), StoreUnavailableError("away"), StoreError("refused"), SettingsError("changed"))


store = clocked("memory", within=FaultyStore)


def overdue() -> list[Job]:
    """One overdue call in each state that the sweep looks at."""
    return [
        sample_job(1, state=JobState.LEASED, worker_id="w"),
        lifecycle_job(2, JobState.SENDING),
        lifecycle_job(3, JobState.SUBMITTED),
        sample_job(4, valid_until=NOW),
    ]


def lifecycle_job(number: int, state: JobState) -> Job:
    return sample_job(number, state=state, worker_id="w" if state is JobState.SENDING else None)


async def moved(store: FaultyStore) -> set[str]:
    """The states in which no call is left."""
    states = await count_states(store, QUEUE)
    queued = states[JobState.EXPIRED] == 1
    return {state.value for state in JobState if not states[state]} | ({"queued"} if queued else set())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("failing", ["leased", "sending", "submitted", "queued"])
async def test_a_duty_that_fails_keeps_no_other_from_being_done(
    store: FaultyStore, clock: ManualClock, failing: str, error: Exception
) -> None:
    clock.jump(NOW - clock.now())
    await add_jobs(store, overdue())
    background = BackgroundTasks(clock)

    async def fails(call: StoreCall) -> None:
        if call.name == "jobs" and DUTIES[failing](call.arguments[0]):
            raise error

    store.before = fails
    sweeper = Sweeper(store, queue=QUEUE, policy=CallPolicy(), log_timeout=timedelta(0), background=background)
    await sweeper.sweep()
    others = {"leased", "sending", "submitted", "queued"} - {failing}
    assert others <= await moved(store)
    assert sum(background.count.values()) >= 1
    assert len(background.failing) == 1, "the task that fails is named"
    store.before = _nothing
    await sweeper.sweep()
    assert not background.failing
    assert failing in await moved(store)


async def test_without_parts_the_first_error_is_raised_when_all_is_done(store: FaultyStore, clock: ManualClock) -> None:
    clock.jump(NOW - clock.now())
    await add_jobs(store, overdue())

    async def fails(call: StoreCall) -> None:
        if call.name == "jobs" and DUTIES["leased"](call.arguments[0]):
            raise StoreError("refused")

    store.before = fails
    with pytest.raises(StoreError, match="refused"):
        await Sweeper(store, queue=QUEUE, policy=CallPolicy()).sweep()
    store.before = _nothing
    assert {"sending", "queued"} <= await moved(store)


async def test_a_job_that_cannot_be_moved_is_set_aside_and_counted(
    store: FaultyStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls beside it on its page move."""
    clock.jump(NOW - clock.now())
    jobs = [sample_job(number, state=JobState.LEASED, worker_id="w") for number in range(3)]
    await add_jobs(store, jobs)
    release = lifecycle.release

    def fails(job: Job, **how: Any) -> Job:
        if job.id == jobs[1].id:
            raise ValueError(f"a record of {job.id} that nobody understands")
        return release(job, **how)

    monkeypatch.setattr(lifecycle, "release", fails)
    before = unreadable_here()
    background = BackgroundTasks(clock)
    for _ in range(2):
        await Sweeper(store, queue=QUEUE, policy=CallPolicy(), background=background).sweep()
    states = await count_states(store, QUEUE)
    assert (states[JobState.LEASED], states[JobState.QUEUED]) == (1, 2)
    assert unreadable_here() == before + 1, "it is named once"


async def _nothing(_: StoreCall) -> None: ...
