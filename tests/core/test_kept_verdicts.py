"""What a live worker knows is kept until it is stored, whatever its store raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.flows import flow, number
from tests.support.manual_time import passing
from tests.support.stores import clocked
from tests.support.voices import ScriptedVoice, created, refused, turned_away, unknown
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import (
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreForgetsError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = pytest.mark.anyio

ANYTHING = (
    StoreUnavailableError("away"),
    StoreUnavailableError("refused", passes=False),
    StoreForgetsError("forgets"),
    StoreCorruptError("a table is not there"),
    StoreVersionError("of another version"),
    StoreError("refused a statement"),
    SettingsError("a role's default was changed"),
    OSError("no file descriptors"),
    ValueError("an answer that cannot be read"),
    RuntimeError("a mistake of ours"),
    ExceptionGroup("a group", [ValueError("within it")]),
)


store = clocked("memory", within=FaultyStore)


def placed(placement: Placement) -> Verdict:
    return created(placement.client_request_id)


def held(placement: Placement) -> Verdict:
    return turned_away(403, placement.client_request_id, until_opened=True)


async def test_a_verdict_that_waits_for_the_store_keeps_no_call_from_being_sent(
    store: FaultyStore, clock: ManualClock
) -> None:
    """After a doubt, one call at a time has no answer. The verdict of the doubt itself cannot be stored."""
    doubted: list[str] = []

    async def fails(call: StoreCall) -> None:
        if doubted and call.name == "write" and any(
            any(each.job.id == doubted[0] for each in write.changes)
            for write in call.arguments[0].writes
        ):  # fmt: skip
            raise StoreUnavailableError("away")

    def answers(placement: Placement) -> Verdict:
        doubted.extend([] if doubted else [placement.client_request_id.rpartition(".")[0]])
        is_first = placement.client_request_id.startswith(doubted[0])
        return unknown() if is_first else created(placement.client_request_id)

    voice = ScriptedVoice(answer=answers)
    queue = await enqueued(store, 1)
    worker = worker_for(store, voice)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await clock.sleep(3)
            await queue.enqueue(flow(number(7)))
            await clock.sleep(5)
            assert len(voice.placed) > 1, "the others are sent"
            store.before = nothing
            worker.stop()

    store.before = fails
    await passing(clock, work)


async def test_under_a_rate_a_session_shares_the_commit_of_the_next_entry_and_a_refusal_waits_for_nothing(
    store: FaultyStore, clock: ManualClock
) -> None:
    """Nobody waits for the session; a refusal may hold the queue. The last answer has no next entry to wait for."""
    stored: list[tuple[float, str]] = []
    answered: list[float] = []

    async def note(call: StoreCall) -> None:
        stored.extend((clock.monotonic(), job.state.value) for job in call.stores)

    def answers(placement: Placement) -> Verdict:
        answered.append(clock.monotonic())
        return refused(-1001) if len(answered) == 3 else placed(placement)

    queue = await enqueued(store, 5)
    store.before = note
    await passing(clock, worker_for(store, ScriptedVoice(answer=answers), rate=10).drain)
    at = {state: [time for time, each in stored if each == state] for state in ("sending", "accepted", "failed")}
    assert await states(queue) == {"accepted": 4, "failed": 1}
    assert at["failed"] == [answered[2]]
    assert set(at["accepted"][:-1]) <= set(at["sending"])
    assert at["accepted"][-1] == answered[-1]
    came = [*answered[:2], *answered[3:]]
    assert max(time - answer for time, answer in zip(at["accepted"], came, strict=True)) <= 0.2


@pytest.mark.parametrize(("rate", "together"), [(5, 1), (10, 2), (50, 5), (200, 5)])
async def test_entries_of_a_tenth_of_a_second_share_a_commit_and_a_kill_leaves_few_in_doubt(
    store: FaultyStore, clock: ManualClock, rate: int, together: int
) -> None:
    commits: list[int] = []

    async def note(call: StoreCall) -> None:
        commits.append(sum(job.state is JobState.SENDING for job in call.stores))

    answered: list[float] = []

    def answers(placement: Placement) -> Verdict:
        answered.append(clock.monotonic())
        return placed(placement)

    await enqueued(store, 12 * together)
    store.before = note
    await passing(clock, worker_for(store, ScriptedVoice(answer=answers), rate=rate).drain)
    entries = list(filter(None, commits))
    assert max(entries[2:-1]) == together, "the first ones know of no slot yet"
    assert Counter(entries).most_common(1)[0][0] == together
    assert all(later - at >= 1 / rate - 0.001 for at, later in pairwise(answered))


@pytest.mark.parametrize(("error", "answer"), combinations(ANYTHING, [placed, held]))
async def test_a_verdict_is_kept_until_it_is_stored(
    store: FaultyStore, clock: ManualClock, error: Exception, answer: Callable[[Placement], Verdict]
) -> None:
    """Every trip fails for a while after the answer; then the store works again."""
    answered_at: list[float] = []
    failed = 0

    async def fails(_: StoreCall) -> None:
        nonlocal failed
        if answered_at and clock.monotonic() < answered_at[0] + 20:
            failed += 1
            raise error

    def answers(placement: Placement) -> Verdict:
        answered_at.append(clock.monotonic())
        return answer(placement)

    voice = ScriptedVoice(answer=answers)
    queue = await enqueued(store, 1)
    worker = worker_for(store, voice)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            while not answered_at or clock.monotonic() < answered_at[0] + 25:
                await clock.sleep(0.5)
            worker.stop()

    store.before = fails
    try:
        await passing(clock, work)
    except* (StoreCorruptError, StoreVersionError):
        pass  # a worker ends for these, and keeps its verdicts until then
    store.before = nothing
    assert failed
    assert "sending" not in await states(queue)
    assert "in_doubt" not in await states(queue)
    assert len(voice.placed) == 1
    assert sum(worker.counts.task_failures.values())
