"""A server that is killed, full, demoted, or loses answers and keys: said clearly, nothing lost nor done twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from tests.contract.breaking import ended, endings
from tests.contract.samples import add_jobs, commit, new_job
from tests.contract.suite import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from tests.contract.writing import DAY, DONE, NOT_FREE, held, new, next_of, put, results_of, stored, to
from tests.support.cutting_proxy import CuttingProxy
from tests.support.engine import LEASE, Engine
from tests.support.flows import number
from tests.support.redis_server import RedisServer, WatchedPair, free_port, wait_for
from tests.support.stores import bare
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available
from voiceflow_worker import CallPolicy, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis.scripts import script
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Delete, Owner, Put, Same, Write, tally_change
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


async def answers(store: Store, queue: str) -> bool:
    try:
        await count_states(store, queue)
    except StoreUnavailableError:
        return False
    return True


async def states(store: Store) -> dict[JobState, int]:
    return {state: count for state, count in (await count_states(store, QUEUE)).items() if count}


async def test_a_killed_server_is_said_to_be_away_and_found_again(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        await add_jobs(store, sample_jobs(50))
        leased = await store.lease(QUEUE, worker_id="w", limit=20, until=NOW + MINUTE, now=NOW)
        moves = [moved(job, state=JobState.SENDING) for job in leased]
        assert all(await commit(store, moves))

        await to_thread.run_sync(own_server.kill)
        with anyio.fail_after(5):  # none of them waits for the others
            for error in await asyncio.gather(*(commit(store, moves) for _ in range(9)), return_exceptions=True):
                assert isinstance(error, StoreUnavailableError)
                assert "cannot be reached" in str(error)
        await to_thread.run_sync(own_server.start)

        started = time.monotonic()
        assert await once_available(lambda: commit(store, moves)) == [True] * 20
        assert time.monotonic() - started < 5
        assert await states(store) == {JobState.QUEUED: 30, JobState.SENDING: 20}


async def test_a_paused_server_is_given_up_and_found_again(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.redis.client.ANSWER_TIMEOUT", 0.3)
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        move = moved(job, state=JobState.CANCELLED)
        own_server.pause()
        with pytest.raises(StoreUnavailableError):
            await commit(store, [move])
        own_server.go_on()
        # Whether the paused server made it or not: asked again, it is made once.
        assert await once_available(lambda: commit(store, [move])) == [True]


async def test_a_full_server_takes_nothing_and_says_what_to_do(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        own_server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreReadOnlyError, match="maxmemory") as told:
            await add_jobs(store, [sample_job(2)])
        assert "retention" not in str(told.value), "which frees nothing today"
        with pytest.raises(StoreReadOnlyError, match="maxmemory"):
            await store.write(BulkWrite(writes=(Write(puts=(Put("number", "+6587654321", job.id, None),)),)), now=NOW)
        assert (await get_jobs(store, [job.id, sample_job(2).id])) == {job.id: job}
        # Who looks at it now opens it anew.
        async with open_store(own_server.url) as another:
            assert await states(another) == {JobState.QUEUED: 1}
        # What is known of a call that is there already is taken all the same: evidence is never dropped.
        assert await commit(store, [moved(job, state=JobState.SUBMITTED)]) == [True]
        own_server.ask("CONFIG", "SET", "maxmemory", "0")
        await add_jobs(store, [sample_job(2)])
        assert await states(store) == {JobState.QUEUED: 1, JobState.SUBMITTED: 1}


async def test_a_primary_that_becomes_a_replica_is_not_written_to(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        own_server.ask("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(StoreUnavailableError, match="replica"):
            await commit(store, [moved(job, state=JobState.LEASED)])
        own_server.ask("REPLICAOF", "NO", "ONE")
        assert await once_available(lambda: commit(store, [moved(job, state=JobState.CANCELLED)])) == [True]


@pytest.mark.alone
async def test_a_primary_that_is_replaced_while_alive_is_left(watched_pair: WatchedPair) -> None:
    """For a moment the old primary takes writes that it will forget: with a replica to confirm, none of them counts."""
    async with open_store(f"{watched_pair.url}?replicas=1") as store:
        await add_jobs(store, [sample_job()])
        old = watched_pair.named_port()
        await to_thread.run_sync(wait_for, watched_pair.fail_over, "replica that the sentinel would take")
        await to_thread.run_sync(wait_for, lambda: watched_pair.named_port() != old, "other primary")
        move = moved(sample_job(), state=JobState.CANCELLED)
        assert await once_available(lambda: commit(store, [move])) == [True]
        assert watched_pair.replica.ask("ZCARD", "{voiceflow}:queue:default:state:cancelled") == 1


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncGenerator[CuttingProxy]:
    async with CuttingProxy(redis_server.port).listening() as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: CuttingProxy) -> AsyncGenerator[Store]:
    async with open_store(f"redis://127.0.0.1:{proxy.port}/0") as store:
        yield store


@pytest.fixture
async def local_journal(redis_server: RedisServer) -> AsyncGenerator[Store]:
    """The same store without the proxy."""
    async with open_store(redis_server.url) as store:
        yield store


def lose_answer_of(proxy: CuttingProxy, name: str) -> None:
    proxy.cut_answer_to(script(name).sha.encode())


async def test_a_committed_move_whose_answer_is_lost_is_sent_once_unavailable_and_then_true(
    store: Store, proxy: CuttingProxy, local_journal: Store
) -> None:
    job = sample_job()
    await add_jobs(local_journal, [job])
    event = Event(job_id=job.id, kind=EventKind.ENDED, at=NOW, state=JobState.FAILED, revision="r")
    move = moved(job, event, state=JobState.FAILED)
    # The server must know the script, or the first try would be refused unmade.
    assert await commit(local_journal, [moved(sample_job(9))]) == [False]

    lose_answer_of(proxy, "write")
    with pytest.raises(StoreUnavailableError):
        await commit(store, [move])
    assert proxy.cut == 1
    assert (await get_jobs(local_journal, [job.id]))[job.id] == new_job(move)
    await get_jobs(store, [job.id])  # whatever the client would try again by itself has been tried by now
    sent = b"".join(proxy.requests)
    assert (sent.count(script("write").sha.encode()), script("write").text.encode() in sent) == (1, False)
    assert await commit(store, [move]) == [True]
    assert len(await local_journal.events(QUEUE)) == 1


async def test_who_asks_again_has_something_to_wait_for(store: Store, redis_server: RedisServer) -> None:
    """WAITAOF and WAIT wait for what their own connection wrote: so what was made already is written again."""
    if redis_server.version >= (7,):
        pytest.skip("it keeps what a script has changed, and no script, and nobody waits for this server")

    def written() -> int:
        return int(str(redis_server.ask("INFO", "persistence")).partition("aof_current_size:")[2].split()[0])

    move = moved(sample_job(), state=JobState.SENDING)
    for ask in (
        lambda: add_jobs(store, [sample_job()]),
        lambda: commit(store, [move]),
        lambda: store.write(
            BulkWrite(writes=(Write(conditions=(Same("n", "k", None),), puts=(Put("n", "k", "me", None),)),)), now=NOW
        ),
    ):
        await ask()
        before = written()
        await ask()
        assert written() > before


async def test_a_waiting_task_hears_of_a_change_made_while_its_connection_was_cut(
    store: Store, proxy: CuttingProxy, local_journal: Store
) -> None:
    seen = await store.wait(QUEUE, seen=0, until=store.clock.now() + MINUTE)
    counts: list[int] = []

    async def wait() -> None:
        while not counts or counts[-1] == seen:
            counts.append(await once_available(lambda: store.wait(QUEUE, seen=seen, until=store.clock.now() + MINUTE)))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            proxy.close_all()
            await add_jobs(local_journal, [sample_job()])
    assert counts[-1] > seen


BASE = "{voiceflow}:queue:default"


def drop(server: RedisServer, *jobs: Job) -> None:
    """Drop the records of jobs, as a server does that evicts."""
    for job in jobs:
        assert server.ask("DEL", f"{BASE}:job:{job.id}") == 1


async def lease(store: Store, limit: int = 10) -> list[str]:
    found = await store.lease(QUEUE, worker_id="w", limit=limit, until=NOW + MINUTE, now=NOW)
    return [job.id for job in found]


async def test_a_lost_job_does_not_stop_the_queue(redis_server: RedisServer) -> None:
    jobs = [sample_job(number, batch_id="b" if number % 2 else None, valid_until=NOW + MINUTE) for number in range(6)]
    async with open_store(redis_server.url) as store:
        await add_jobs(store, jobs)
        drop(redis_server, jobs[0], jobs[1], jobs[4])
        assert await lease(store) == [jobs[2].id, jobs[3].id, jobs[5].id]
        assert (await count_states(store, QUEUE))[JobState.QUEUED] == 0
        assert (await count_states(store, QUEUE, batch_id="b"))[JobState.QUEUED] == 0


async def test_a_lost_job_keeps_its_unique_key(redis_server: RedisServer) -> None:
    """Nobody knows whether it was called, so its key must not call the person again."""
    job = sample_job(1, unique_key="k")
    async with open_store(redis_server.url) as store:
        await add_jobs(store, [job])
        drop(redis_server, job)
        await lease(store)
        (answer,) = await add_jobs(store, [sample_job(2, unique_key="k")])
        assert list(answer.owners.values()) == [Owner(job.id, "", JobState.IN_DOUBT)]


MANY, AT_ONCE = 40, 16
GUARDED = (AtMost("n", ("never",), 0),)


def fill(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)


def empty(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 0)


def before_part(store: Store, number: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something before the n-th script of the next write goes to the server."""
    store = bare(store, RedisStore)
    parts, run = 0, store.client.run_durably

    async def counted(name: str, asked: Any) -> Any:
        nonlocal parts
        parts += 1
        if parts == number:
            do()
        return await run(name, asked)

    monkeypatch.setattr(store.client, "run_durably", counted)


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
                begun = await engine.begin(dispatches)
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


async def test_a_restarted_server_is_another_incarnation(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        before = store.server
        assert before == own_server.ask("INFO", "server").split("run_id:")[1][:40]  # type: ignore[attr-defined]
        await to_thread.run_sync(own_server.kill)
        await to_thread.run_sync(own_server.start)
        await once_available(lambda: store.records({"n": ["k"]}, now=store.clock.now()))
        assert store.server == own_server.ask("INFO", "server").split("run_id:")[1][:40] != before  # type: ignore[attr-defined]
