"""Bulk writes that break in the middle: each write of them is stored whole or not at all, and with `together` all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.ports.reads import ById
from voiceflow_worker.core.ports.store import AtMost, Delete, Drop, Owner, Store, Write, tally_change
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState

from .samples import NOW, QUEUE, Ground, sample_job
from .writing import (
    DAY,
    DONE,
    EXISTS,
    STALE,
    answers,
    leased,
    new,
    next_of,
    put,
    results_of,
    states,
    stored,
    to,
    told,
)

MANY = 18
"""More than a store may write at once, unless they are one write."""
TURNS = (*range(12), 15, 20, 30)
"""After how many turns of the event loop a bulk write is given up."""
HALF = "half of a pair: \ud83d"
"""A text that no store can keep."""
SPOILT: dict[str, Callable[[Job, Write], Write]] = {
    "the key of a record": lambda _, write: replace(write, puts=(*write.puts, put(HALF))),
    "the value of a record": lambda _, write: replace(write, puts=(*write.puts, put("bad", HALF))),
    "the value of a drop": lambda _, write: replace(write, drops=(*write.drops, Drop("n", "bad", HALF))),
    "the revision of an event": lambda job, write: replace(
        write, events=(*write.events, replace(told(job), revision=HALF))
    ),
    "the name of a counter": lambda _, write: replace(
        write, changes=tuple(replace(each, tally={**each.tally, HALF: 1}) for each in write.changes)
    ),
    "the key of a condition": lambda _, write: replace(write, conditions=(AtMost("n", (HALF,), 0),)),
    "the body of a call": lambda job, _: new(replace(job, id=f"{job.id}x", body=HALF)),
}


class NewerState(StrEnum):
    """A state that a newer version has."""

    DREAMING = "daydreaming"


def newer(job: Job) -> Job:
    """The job in a state that this version lacks."""
    return replace(job, state=cast("JobState", NewerState.DREAMING))


def endings(jobs: Sequence[Job]) -> list[Write]:
    """Writes that end jobs; each has a record, a drop and an event too."""
    writes: list[Write] = []
    for job in jobs:
        ended = next_of(job, state=JobState.EXPIRED)
        drop = Drop("n", f"old {job.id}", None)
        writes.append(to(job, ended, puts=(put(f"new {job.id}"),), drops=(drop,), events=(told(ended),)))
    return writes


async def ready(store: Store, first: int = 1) -> list[Job]:
    """Jobs, each with a record that its end drops."""
    jobs = await stored(store, *(sample_job(number) for number in range(first, first + MANY)))
    await results_of(store, Write(puts=tuple(put(f"old {job.id}") for job in jobs)))
    return jobs


async def ended(store: Store, jobs: Sequence[Job]) -> list[bool]:
    """Whether each write of `endings` is in the store, as a whole; fails if a part of one is."""
    wanted = [f"{word} {job.id}" for job in jobs for word in ("old", "new")]
    found, again = await _states(store, jobs), dict[str, JobState]()
    records, events = set[str](), set[str]()
    while again != found:  # a bulk write that was given up may be written meanwhile
        found, records = again or found, {each.group for each in (await store.records({"n": wanted}, now=NOW))["n"]}
        events = {event.job_id for event in await store.events(QUEUE)}
        again = await _states(store, jobs)
    whole: list[bool] = []
    for job in jobs:
        parts = (
            found[job.id] is JobState.EXPIRED,
            f"new {job.id}" in records,
            f"old {job.id}" not in records,
            job.id in events,
        )
        assert len(set(parts)) == 1, f"a part of a write was written: {parts}"
        whole.append(parts[0])
    return whole


async def _states(store: Store, jobs: Sequence[Job]) -> dict[str, JobState]:
    read = ById(tuple(job.id for job in jobs))
    return {job.id: job.state for job in await store.jobs(read, now=NOW)}


def as_given(writes: Sequence[Write], *, together: bool) -> Sequence[Write]:
    """These writes, or one that has all of them."""
    return (all_or_none(writes),) if together else writes


class BreakContract(Ground):
    """Sentences 2, 4 and 13 of `write`, when something goes wrong in the middle of a bulk write."""

    async def test_a_job_of_a_newer_version_is_answered_by_its_head(self, store: Store) -> None:
        (job,) = await stored(store, newer(sample_job(unique_key="k")))
        owner = Owner(job.id, job.body_digest, "daydreaming")
        again = new(sample_job(2, unique_key="k", body_digest="different"))
        found = await answers(store, Write(puts=(put("a"),)), again, new(sample_job(6)))
        assert [each.result for each in found] == [DONE, EXISTS, DONE]
        (told,) = await answers(store, all_or_none((again, new(sample_job(5)))))
        assert list(found[1].owners.values()) == list(told.owners.values()) == [owner]
        gone = next_of(job, revision="unknown")
        assert await results_of(store, to(gone, next_of(gone))) == [STALE]
        assert await leased(store) == [6]
        delete = Write(changes=(Delete(job, NOW + DAY, tally_change(job, None)),))
        assert await results_of(store, all_or_none((new(sample_job(7)), delete))) == [DONE]
        (answer,) = await answers(store, new(sample_job(3, unique_key="k")))
        assert (answer.result, list(answer.owners.values())) == (EXISTS, [owner])

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
    async def test_a_text_that_cannot_be_stored_leaves_no_write_half_written(
        self, store: Store, spoil: Callable[[Job, Write], Write], *, together: bool
    ) -> None:
        for first, place in ((1, 0), (101, MANY - 1)):
            jobs = await ready(store, first)
            writes = endings(jobs)
            writes[place] = spoil(jobs[place], writes[place])
            with suppress(VoiceflowError, TypeError):
                await results_of(store, *as_given(writes, together=together))
            others = [job for at, job in enumerate(jobs) if at != place]
            written = await ended(store, others if spoil is SPOILT["the body of a call"] else jobs)
            if together:
                assert len(set(written)) == 1

    @pytest.mark.parametrize("together", [False, True])
    async def test_a_bulk_write_that_is_given_up_at_any_moment_leaves_no_write_half_written(
        self, store: Store, *, together: bool
    ) -> None:
        seen: list[Job] = []
        for turn in TURNS:
            jobs = await ready(store, 1 + 100 * turn)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(results_of, store, *as_given(endings(jobs), together=together)))
                    for _ in range(turn):
                        await checkpoint()
                    scope.cancel()
            written = await ended(store, jobs)
            seen += jobs
            if together:
                assert len(set(written)) == 1
        await results_of(store, Write(puts=(put("at last"),)))  # nothing of the earlier ones is in progress any more
        assert (await states(store)).get("expired", 0) == sum(await ended(store, seen))

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_a_bulk_write_whose_task_is_cancelled_at_any_moment_leaves_no_write_half_written(
        self, store: Store, *, together: bool
    ) -> None:
        """By asyncio's own `Task.cancel`, which `asyncio.wait_for` uses."""
        seen: list[Job] = []
        for turn in TURNS:
            jobs = await ready(store, 1 + 100 * turn)
            task: asyncio.Task[Any] = asyncio.ensure_future(
                results_of(store, *as_given(endings(jobs), together=together))
            )
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            written = await ended(store, jobs)
            seen += jobs
            if together:
                assert len(set(written)) == 1
        await results_of(store, Write(puts=(put("at last"),)))  # nothing of the earlier ones is in progress any more
        assert (await states(store)).get("expired", 0) == sum(await ended(store, seen))
