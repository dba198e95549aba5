"""A bulk write of several scripts that breaks between two of them: what the server has answered is kept and told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.breaking import ended, endings
from tests.contract.suite import NOW, QUEUE, ManualClock, sample_jobs
from tests.contract.writing import DAY, DONE, NOT_FREE, held, new, next_of, put, results_of, stored, to
from tests.support.cutting_proxy import CuttingProxy
from tests.support.engine import LEASE, Engine
from tests.support.flows import number
from tests.support.redis_server import RedisServer
from tests.support.stores import bare
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Delete, Same, Write, tally_change
from voiceflow_worker.core.settling.changes import Changed, Changes, JobChange
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio

MANY, AT_ONCE = 40, 16
GUARDED = (AtMost("n", ("never",), 0),)


def fill(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)


def empty(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 0)


def before_part(store: Store, number: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something before the n-th script of the next write goes to the server."""
    store = bare(store, RedisStore)
    parts, run = 0, store.manager.run_durably

    async def counted(name: str, asked: Any) -> Any:
        nonlocal parts
        parts += 1
        if parts == number:
            do()
        return await run(name, asked)

    monkeypatch.setattr(store.manager, "run_durably", counted)


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("ends", ["full", "lost"])
async def test_the_answers_to_earlier_parts_are_kept(
    ends: str, part: int, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        CuttingProxy(own_server.port).listening() as proxy,
        open_store(own_server.url) as local_journal,
        open_store(f"redis://127.0.0.1:{proxy.port}/0") as store,
    ):
        jobs = await stored(local_journal, *sample_jobs(MANY))
        await results_of(local_journal, Write(puts=tuple(put(f"old {job.id}") for job in jobs)))
        writes = [replace(write, conditions=GUARDED) for write in endings(jobs)]
        await results_of(store, Write(conditions=(AtMost("n", ("new",), 0),)))  # the server knows the script
        cut = lambda: proxy.cut_answer_to(script("write").sha.encode())  # noqa: E731
        with monkeypatch.context() as patched:
            before_part(store, part, (lambda: fill(own_server)) if ends == "full" else cut, patched)
            with pytest.raises(StoreReadOnlyError if ends == "full" else StoreUnavailableError) as failed:
                await store.write(BulkWrite(writes=tuple(writes)), now=NOW)
        known = [None if answer is None else answer.result for answer in failed.value.answers]
        told = AT_ONCE * (part - 1)
        assert known == [DONE] * told + [None] * (MANY - told)
        empty(own_server)
        assert sum(await ended(local_journal, jobs)) in (
            {told} if ends == "full" else {told, min(told + AT_ONCE, MANY)}
        )
        assert await results_of(local_journal, *writes) == [DONE] * MANY


async def test_a_full_server_answers_what_it_has_and_takes_what_became_of_calls(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        jobs = await stored(store, *sample_jobs(6))
        sent = [next_of(job, state=JobState.SENDING) for job in jobs]
        gone = Write(changes=(Delete(jobs[5], NOW + DAY, tally_change(jobs[5], None)),))
        swap = Write(conditions=(Same("n", "swap", None),), puts=(put("swap", "token"),))
        entries = [to(job, each, conditions=GUARDED) for job, each in zip(jobs[:4], sent, strict=False)]
        written = (*entries, gone, swap, new(sample_jobs(8)[7]))
        assert await results_of(store, *written) == [DONE] * len(written)
        evidence = [to(each, next_of(each, state=JobState.SUBMITTED), puts=(put(each.id),)) for each in sent[:4]]
        assert await results_of(store, evidence[0]) == [DONE]
        fill(own_server)
        for bulk in ([evidence[0]], written[4:], written[1:], [swap], [evidence[0], swap]):
            assert await results_of(store, *bulk) == [DONE] * len(bulk)
        assert await results_of(store, evidence[1]) == [DONE]
        entry = to(jobs[4], sent[4], conditions=GUARDED)
        refused = Write(conditions=(AtMost("n", ("swap",), 0),), puts=(put("b"),))
        for other in (entry, Write(puts=(put("a"),)), new(sample_jobs(9)[8])):
            with pytest.raises(StoreReadOnlyError, match="maxmemory") as failed:
                await results_of(store, evidence[1], other, evidence[2], refused)
            known = [None if each is None else each.result for each in failed.value.answers]
            assert known == [DONE, None, DONE, NOT_FREE]
            if other.changes:  # a record that is stored with evidence is a part of it
                with pytest.raises(StoreReadOnlyError):
                    await results_of(store, all_or_none((evidence[3], other)))
        assert set(await held(store)) == {"swap", *(each.id for each in sent[:3])}
        empty(own_server)
        assert await results_of(store, all_or_none((evidence[3], entry))) == [DONE]


async def test_changes_that_were_stored_before_the_connection_was_lost_are_told(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        CuttingProxy(own_server.port).listening() as proxy,
        open_store(own_server.url) as local_journal,
        open_store(f"redis://127.0.0.1:{proxy.port}/0") as store,
    ):
        jobs = await stored(local_journal, *sample_jobs(MANY))
        changes = Changes(store, CallPolicy())

        def cancelled(job: Any) -> Any:
            return lifecycle.cancel(job, at=NOW, reason="by a person", policy=CallPolicy())

        cut = lambda: proxy.cut_answer_to(script("write").sha.encode())  # noqa: E731
        await results_of(store, Write(conditions=(AtMost("n", ("new",), 0),)))
        before_part(store, 2, cut, monkeypatch)
        answers = await changes.change_each([JobChange(job.id, cancelled, job) for job in jobs])
        assert [isinstance(answer, Changed) for answer in answers] == [place < AT_ONCE for place in range(MANY)]
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers[AT_ONCE:])
        assert (await totals_of(local_journal, QUEUE)).states[JobState.CANCELLED] >= AT_ONCE


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("part", [1, 2, 3])
async def test_calls_whose_journal_entries_a_server_took_before_it_was_full_are_sent_and_the_others_wait(
    part: int, *, guarded: bool, own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice, files = ScriptedVoice(), JournalFiles(tmp_path / "journals") if guarded else None
    clock = ManualClock()
    async with open_store(own_server.url, clock=clock) as store:
        engine = Engine(store, voice, policy=CallPolicy(outcomes=OutcomeSource.NONE), local_journal=files)
        async with engine.at_work():
            jobs = [await engine.enqueue(number(place)) for place in range(MANY)]
            dispatches = await engine.prepare(limit=MANY)
            with monkeypatch.context() as patched:
                before_part(store, part, lambda: fill(own_server), patched)
                begun = await engine.submitter.begin(dispatches)
            for dispatch in begun:
                await engine.finish(dispatch)
            assert len(voice.placed) == AT_ONCE * (part - 1)
            states = [await engine.state(job) for job in jobs]
            assert states.count("accepted") == len(voice.placed)
            assert {"accepted", "queued"} >= {state for state in states if state != "leased"}, "none is in doubt"
            empty(own_server)
            clock.advance(LEASE + timedelta(seconds=1))
            await engine.sweeper.sweep()
            while await engine.send():
                pass
            assert sorted(voice.client_request_ids) == sorted(set(voice.client_request_ids))
            assert {await engine.state(job) for job in jobs} == {"accepted"}
            assert len(voice.placed) == MANY
