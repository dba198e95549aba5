"""A store that was rolled back: nothing rings, what it forgot is in doubt, and the queue is held; on every backend."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import apsw
import pytest

from tests.contract.samples import ManualClock, commit
from tests.support.engine import Engine
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.stores import BACKENDS
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, JobState, Worker, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.reading import count_states, gates_of
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import LIMITS
from voiceflow_worker.core.ports.outside import ORDERS, OrderLine, journal_of
from voiceflow_worker.core.ports.store import BulkWrite, History, Put
from voiceflow_worker.core.rollback import (
    HELD,
    HELD_AS_LACKING,
    HELD_AS_TAKEN_OVER,
    NO_FILES,
    OTHER_LACKS,
    Histories,
    RollbackGuard,
)
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writer import Compared, compared, numbers_in
from voiceflow_worker.core.writes import changed
from voiceflow_worker.errors import SettingsError, UnreadFilesError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import THEN, Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import NoteKind
from voiceflow_worker.model.jobs.policy import OutcomeSource, PersonLimit
from voiceflow_worker.model.jobs.rollback import REASON
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.text.wording import in_words

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
ANSWERED = Verdict(kind=VerdictKind.CREATED, message="Created", code=1, session_id="kept", http_status=200)


class Killed(BaseException):
    """The worker is killed here."""


class Lab:
    """A store that can be copied and set back, journal files, and workers that come and go."""

    def __init__(self, backend: str, folder: Path, clock: ManualClock) -> None:
        self.backend = backend
        self.folder = folder
        self.clock = clock
        self.files = JournalFiles(folder / "journals")
        self.voice = ScriptedVoice()
        self._memory = MemoryStore(clock=clock)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        if self.backend == "memory":
            yield self._memory
        else:
            async with open_store(f"sqlite:///{self.folder / 'calls.db'}", clock=self.clock) as opened:
                yield opened

    def back_up(self, name: str = "backup") -> None:
        """Copy the store; nobody has it open."""
        if self.backend == "memory":
            setattr(self, name, self._copied(self._memory))
        else:
            db = apsw.Connection(str(self.folder / "calls.db"))
            db.execute("VACUUM INTO ?", (str(self.folder / f"{name}.db"),))
            db.close()

    def rolled_back(self, name: str = "backup") -> None:
        """Put the copy in the place of the store; nobody has it open."""
        if self.backend == "memory":
            self._memory = self._copied(getattr(self, name))
            return
        for extra in ("", "-wal", "-shm"):
            (self.folder / f"calls.db{extra}").unlink(missing_ok=True)
        shutil.copy(self.folder / f"{name}.db", self.folder / "calls.db")

    def worker(self, store: Store, *, policy: CallPolicy = POLICY) -> Engine:
        return Engine(store, self.voice, policy=policy, local_journal=self.files)

    def _copied(self, store: MemoryStore) -> MemoryStore:
        return copy.deepcopy(store, {id(self.clock): self.clock})


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Lab:
    return Lab(request.param, tmp_path, clock)


async def sent_after_a_backup(lab: Lab, calls: int = 3) -> list[str]:
    """Calls that were enqueued before the backup was made, and sent after it; gives their ids."""
    async with lab.store() as store:
        engine = lab.worker(store)
        jobs = [await engine.enqueue(number(place)) for place in range(calls)]
    lab.back_up()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        sent = [job for _ in range(calls) for job in await engine.send(limit=1)]
        assert [job.state for job in sent] == [JobState.ACCEPTED] * calls
    return [job.id for job in jobs]


async def forget_numbers(store: Store) -> None:
    """Drop the numbers of all writers."""
    numbers = numbers_in(store)
    await numbers.remove([name for name, _ in await numbers.all()])


async def hold_of(store: Store) -> str | None:
    """The first reason of the hold of the queue."""
    gates = await gates_of(store, "default")
    return gates[0].reason.partition(THEN)[0] if gates else None


async def test_a_store_that_was_rolled_back_is_held_and_its_calls_are_in_doubt_or_made_again(lab: Lab) -> None:
    """One was enqueued before the backup, and the other after it."""
    async with lab.store() as store:
        known = await lab.worker(store).enqueue(number(0))
    lab.back_up()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        made = await engine.enqueue(number(1), unique_key="order-1", batch="batch-1")
        await engine.send()
        before = [await engine.queue.get(each.id) for each in (known, made)]
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        assert await engine.send() == []
        assert await hold_of(store) == HELD
        for was in before:
            job = await engine.queue.get(was.id)
            assert (job.state, job.reason, job.post_count) == (JobState.IN_DOUBT, REASON, 1)
            assert (job.body, job.unique_key, job.batch_id) == (was.body, was.unique_key, was.batch_id)
            assert job.open_post is not None
            assert job.open_post.began_at == was.posts[-1].began_at
        assert [event.kind.value for event in await store.events("default")] == ["doubted", "doubted"]
        # The same file again finds its calls.
        again = await engine.enqueue(number(1), unique_key="order-1", batch="batch-1")
        assert again.id == made.id
    assert len(lab.voice.placed) == 2


async def test_workers_that_follow_one_another_go_on_with_one_file_and_its_numbers(
    any_store: Store, tmp_path: Path
) -> None:
    """So there are as many as workers at once."""
    files = JournalFiles(tmp_path)
    for place in range(3):
        async with Engine(any_store, ScriptedVoice(), policy=POLICY, local_journal=files).at_work() as engine:
            await engine.enqueue(number(place))
            assert len(await engine.send()) == 1
            async with Engine(any_store, ScriptedVoice(), policy=POLICY, local_journal=files).at_work():
                pass
    assert len(await files.files("default")) == 2
    assert sorted(str(text) for _, text in await numbers_in(any_store).all()) == ["3", "6"]
    unguarded = Engine(any_store, ScriptedVoice(), policy=POLICY)
    await unguarded.enqueue(number(4))
    assert len(await unguarded.send()) == 1
    assert len(await numbers_in(any_store).all()) == 2


@pytest.mark.parametrize("loss", ["another server", "a forgotten POST", "a restart that was noticed"])
async def test_a_call_that_was_prepared_before_its_store_was_rolled_back_gets_no_entry(
    tmp_path: Path, clock: ManualClock, loss: str
) -> None:
    store, voice = MemoryStore(clock=clock), ScriptedVoice()
    async with Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path)).at_work() as engine:
        assert engine.guard is not None
        job = await engine.enqueue()
        dispatches = await engine.prepare()
        match loss:
            case "another server":
                store.memory.server = "second"
            case "a forgotten POST":
                await forget_numbers(store)
            case _:
                engine.guard.restarts += 1
        assert await engine.begin(dispatches) == []
        assert (await engine.queue.get(job.id)).posts == ()
    assert not voice.placed


async def test_what_changes_while_the_store_is_looked_at_is_looked_at_before_the_next_call(
    tmp_path: Path, clock: ManualClock
) -> None:
    """A rate, for example: it woke a worker that had just read the one before."""
    store, looks = FaultyStore(MemoryStore(clock=clock)), list[StoreCall]()
    async with Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path)).at_work() as engine:
        guard = engine.guard
        assert guard is not None

        async def note(call: StoreCall) -> None:
            if call.name == "records" and LIMITS in call.arguments[0]:
                looks.append(call)
                if len(looks) == 1:
                    guard.look_again()

        store.before = note
        assert await guard.poll()
        assert [(await guard.verify(), len(looks)) for _ in range(2)] == [(True, 2)] * 2


async def test_after_resolve_and_resume_it_goes_on(lab: Lab) -> None:
    placed, not_placed = await sent_after_a_backup(lab, 2)
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        await engine.queue.resolve(placed, placed=True, note="seen in the log")
        lab.clock.advance(timedelta(minutes=10))
        await engine.queue.resolve(not_placed, placed=False, note="not in the log")
        assert await engine.send() == []
        await engine.queue.resume()
        assert [job.id for job in await engine.send()] == [not_placed]
        assert await engine.state(await engine.queue.get(placed)) == "accepted"
    assert lab.voice.client_request_ids[2:] == [f"{not_placed}.2"]
    async with lab.store() as store, lab.worker(store).at_work():
        assert await hold_of(store) is None


@pytest.mark.parametrize("settled", [True, False])
async def test_a_worker_that_is_slow_to_hold_what_a_person_has_settled_since_holds_nothing(
    lab: Lab, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job_id] = await sent_after_a_backup(lab, 1)
    lab.rolled_back()
    looks = itertools.count(1)
    at_once = compared

    async def slowly(store: Store, *files: Any, **how: Any) -> list[Compared]:
        """The look before the order ends long after it was taken."""
        seen = await at_once(store, *files, **how)
        if next(looks) == 1:
            lab.clock.advance(timedelta(seconds=5))
            if settled:
                async with lab.worker(store).at_work() as quick:
                    assert await hold_of(store) == HELD
                    await quick.queue.resolve(job_id, placed=True, note="seen in the log")
            await lab.worker(store).queue.resume()
            lab.clock.advance(timedelta(seconds=5))
        return seen

    monkeypatch.setattr("voiceflow_worker.core.rollback.compared", slowly)
    async with lab.store() as store, lab.worker(store).at_work() as slow:
        assert await hold_of(store) == (None if settled else HELD)
        assert await slow.state(await slow.queue.get(job_id)) == ("accepted" if settled else "in_doubt")


@pytest.mark.parametrize(("cut_after", "unknown"), combinations(range(1, 9), [0, 1, 3]))
async def test_a_worker_that_is_killed_while_it_restores_leaves_the_rest_to_the_next(
    lab: Lab, cut_after: int, unknown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three calls that were sent, the newest were enqueued after the backup."""
    async with lab.store() as store:
        jobs = [await lab.worker(store).enqueue(number(place)) for place in range(3 - unknown)]
    lab.back_up()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        jobs += [await engine.enqueue(number(place)) for place in range(3 - unknown, 3)]
        assert sum([len(await engine.send(limit=1)) for _ in jobs]) == 3
    lab.rolled_back()
    async with lab.store() as store:
        writes, write = itertools.count(), store.write

        async def until_killed(bulk: BulkWrite, **how: Any) -> Any:
            if next(writes) >= cut_after:
                raise Killed
            return await write(bulk, **how)

        monkeypatch.setattr(store, "write", until_killed)
        try:
            async with lab.worker(store).at_work():
                pass
        except* Killed:
            pass
        monkeypatch.undo()
        async with lab.worker(store).at_work() as engine:
            assert await hold_of(store) == HELD
            states = {await engine.state(await engine.queue.get(job.id)) for job in jobs}
            assert states <= {"in_doubt", "sending"}


async def test_it_is_held_although_the_clock_of_the_person_who_resumed_last_was_ahead(lab: Lab) -> None:
    async with lab.store() as store:
        lab.clock.jump(timedelta(seconds=8))
        await lab.worker(store).queue.resume()
        lab.clock.jump(timedelta(seconds=-8))
    [job_id] = await sent_after_a_backup(lab, 1)
    lab.rolled_back()
    with anyio.fail_after(5):
        async with lab.store() as store, lab.worker(store).at_work() as engine:
            assert await hold_of(store) == HELD
            assert await engine.state(await engine.queue.get(job_id)) == "in_doubt"


async def test_attempts_that_a_store_forgot_count_in_the_limit_per_person(lab: Lab) -> None:
    limit = PersonLimit(2, timedelta(hours=24))
    policy = replace(POLICY, max_per_person=limit)
    async with lab.store() as store:
        known = await lab.worker(store, policy=policy).enqueue(number(0))
    lab.back_up()
    async with lab.store() as store, lab.worker(store, policy=policy).at_work() as engine:
        await engine.send()
        lab.clock.advance(timedelta(hours=1))
        unknown = await engine.enqueue(number(0))
        await engine.send()
    assert len(lab.voice.placed) == 2
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store, policy=policy).at_work() as engine:
        for job in (known, unknown):
            await engine.queue.resolve(job.id, placed=True, note="in the log of 8x8")
        lab.clock.advance(timedelta(minutes=10))
        await engine.queue.resume()
        third = await engine.enqueue(number(0))
        assert await engine.send() == []
        waiting = await engine.queue.get(third.id)
        free_at = known.created_at + policy.submit_window + limit.span
        assert (waiting.state, waiting.due_at) == (JobState.QUEUED, free_at)
        lab.clock.advance(limit.span - timedelta(hours=1, minutes=10) + policy.submit_window)
        assert [job.id for job in await engine.send()] == [third.id]
        await engine.enqueue(number(0))
        assert await engine.send() == []
    assert len(lab.voice.placed) == 3


async def test_the_same_call_enqueued_again_after_the_restore_is_not_sent(lab: Lab) -> None:
    async with lab.store() as store:
        await lab.worker(store).enqueue(number(9))
    lab.back_up()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        first = await engine.enqueue(unique_key="order-1")
        await engine.send()
    lab.rolled_back()
    async with lab.store() as store:
        second = await lab.worker(store).enqueue(unique_key="order-1")
        assert second.id != first.id
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        found = await engine.queue.get(second.id)
        assert found.state is JobState.CANCELLED
        assert first.id in (found.reason or "")
        made = await engine.queue.get(first.id)
        assert (made.state, made.unique_key) == (JobState.IN_DOUBT, None)


async def test_a_call_that_an_unknowing_worker_sent_again_is_an_incident(lab: Lab) -> None:
    """Of another host, say: its files know nothing of the first POST."""
    (job_id,) = await sent_after_a_backup(lab, 1)
    lab.rolled_back()
    lab.clock.advance(timedelta(minutes=5))
    async with lab.store() as store:
        await Engine(store, lab.voice, policy=POLICY).send()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        found = await engine.queue.get(job_id)
        assert [note.kind for note in found.notes] == [NoteKind.RANG_TWICE]
        assert await hold_of(store) == HELD
        await engine.queue.resume()
    async with lab.store() as store, lab.worker(store).at_work():
        assert await hold_of(store) is None


async def test_a_verdict_that_comes_after_the_store_was_emptied_finds_its_call(lab: Lab) -> None:
    if lab.backend == "sqlite":
        pytest.skip("a file that is in use is not replaced; a server is (tests/backends/redis)")
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        job = await engine.enqueue()
        (dispatch,) = await engine.prepare()

        async def emptied(*_: object) -> None:
            assert isinstance(store, MemoryStore)
            store.memory = MemoryStore(clock=lab.clock).memory

        place = lab.voice.place

        async def place_and_empty(*args: object, **options: object) -> object:
            verdict = await place(*args, **options)  # type: ignore[arg-type]
            await emptied()
            return verdict

        lab.voice.place = place_and_empty  # type: ignore[method-assign,assignment]
        await engine.finish(dispatch)
        found = await engine.queue.get(job.id)
        assert (found.state, found.session_id) == (JobState.ACCEPTED, f"session-{job.id}.1")
        assert await hold_of(store) == HELD


@pytest.mark.parametrize("who", ["nobody", "another host", "a file of this host"])
async def test_after_a_restart_those_who_know_more_have_time_to_hold_the_queue(
    tmp_path: Path, clock: ManualClock, who: str
) -> None:
    """The file is that of a worker that was killed as the store was rolled back: it alone knows the newest call."""
    store, voice, files = MemoryStore(clock=clock), ScriptedVoice(), JournalFiles(tmp_path)
    job = await Engine(store, voice, policy=POLICY).enqueue()
    newer = copy.deepcopy(store, {id(clock): clock})
    async with Engine(store, voice, policy=POLICY, local_journal=files).at_work() as engine:
        if who == "a file of this host":
            async with Engine(newer, voice, policy=POLICY, local_journal=files).at_work() as killed:
                await killed.send()
        before = len(voice.placed)
        async with anyio.create_task_group() as group:
            store.memory.server = "second"
            group.start_soon(engine.send)
            await anyio.wait_all_tasks_blocked()
            assert clock.sleepers == 1
            clock.advance(timedelta(seconds=1.9))
            await anyio.wait_all_tasks_blocked()
            assert len(voice.placed) == before
            if who == "another host":
                await engine.queue.hold(reason="by a worker that knows")
            clock.advance(timedelta(seconds=0.1))
        found = (await engine.state(job), len(voice.placed), await hold_of(store))
    assert (
        found
        == {
            "nobody": ("accepted", 1, None),
            "another host": ("queued", 0, "by a worker that knows"),
            "a file of this host": ("in_doubt", 1, HELD),
        }[who]
    )


A, B = History("a", made_in="a"), History("b", made_in="a")
A_TRUSTED, B_TRUSTED = replace(A, is_trusted=True), replace(B, is_trusted=True)


@pytest.mark.parametrize(
    ("histories", "held"),
    [
        ([A, A], False),  # a restart
        ([A, B], True),
        ([A, B_TRUSTED], False),
        ([A_TRUSTED, B], True),
        ([None, B], True),  # the queue has its first worker after the failover
        ([None, A], False),
        ([None, B_TRUSTED], False),
        ([A, None], False),
    ],
)
@pytest.mark.parametrize("lives", [True, False])
async def test_after_a_failover_a_person_must_resume_each_queue_unless_failovers_are_trusted(
    tmp_path: Path, clock: ManualClock, histories: list[History | None], *, held: bool, lives: bool
) -> None:
    """Also if no worker was there meanwhile: no journal file knows of a lost opt-out."""
    store, voice = MemoryStore(clock=clock), ScriptedVoice()
    engine = Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path))
    store.memory.history = histories[0]
    await engine.enqueue()
    async with engine.at_work():
        store.memory.history, store.memory.server = histories[1], "another"
        clock.advance(timedelta(seconds=5))
        if lives:
            assert engine.guard is not None
            assert await engine.guard.poll()
    other = Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path))
    async with other.at_work():
        assert await hold_of(store) == (HELD_AS_TAKEN_OVER if held else None)
        assert len(await other.send()) == (not held)
        clock.advance(timedelta(seconds=5))
        await other.queue.resume()
        assert len(await other.send()) == held
    async with Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path)).at_work():
        assert await hold_of(store) is None, "what a person has settled is settled for all workers"


async def test_a_queue_with_many_failovers_is_held_once_for_each_also_if_a_journal_has_seen_them_all(
    clock: ManualClock,
) -> None:
    store = MemoryStore(clock=clock)
    hold, held = Gate.of("default", None, GateState.HELD, since=clock.now(), reason=HELD), list[int]()
    for place in [*range(60), 59]:
        store.memory.history = History(str(place), made_in="0")
        histories = Histories(store, "default")
        for seen in range(place + 1):
            histories.note(str(seen))
        held += [] if await histories.follow(hold) is None else [place]
    assert held == [*range(1, 60)]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("lives", [True, False])
async def test_what_a_worker_or_a_journal_has_seen_counts_when_the_store_lacks_it(
    tmp_path: Path, clock: ManualClock, *, lives: bool, trusted: bool
) -> None:
    """The old primary comes back and is taken for the store. It does not know that another one had its place."""
    store = MemoryStore(clock=clock)
    store.memory.history = replace(A, is_trusted=trusted)
    async with Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path)).at_work():
        pass
    old = copy.deepcopy(store.memory)
    engine = Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path))
    async with engine.at_work() as worker:
        store.memory.history, store.memory.server = B_TRUSTED, "another"
        assert worker.guard is not None
        assert await worker.guard.poll()
        assert await hold_of(store) is None
        if lives:
            store.memory = old
            await worker.guard.poll()
    store.memory = old
    async with Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path)).at_work():
        assert await hold_of(store) == HELD_AS_TAKEN_OVER


async def test_a_store_that_lacks_the_record_of_a_worker_without_calls_is_held_once(
    tmp_path: Path, clock: ManualClock
) -> None:
    """It was rolled back to before two workers began, which had sent nothing. The second one finds it held."""
    store = MemoryStore(clock=clock)
    older = copy.deepcopy(store.memory)
    first, second = (
        Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path / name))
        for name in ("one", "two")
    )
    async with first.at_work(), second.at_work():
        assert first.guard is not None
        assert second.guard is not None
        store.memory = older
        assert not await first.guard.poll()
        assert await second.guard.poll(), "it is held already"
        assert await hold_of(store) == HELD_AS_LACKING
        clock.advance(-timedelta(seconds=30))
        await first.queue.resume()
        assert await second.guard.poll()
        assert await first.guard.poll()
        assert await hold_of(store) is None


async def test_the_successor_of_a_worker_that_sent_nothing_notices_that_calls_of_another_machine_are_lost(
    lab: Lab,
) -> None:
    """Whatever became of the other one: nobody asks it."""
    async with lab.store() as store:
        for place in range(3):
            await lab.worker(store).enqueue(number(place))
    lab.back_up()
    here, there = lab.files, JournalFiles(lab.folder / "of another machine")
    async with lab.store() as store, lab.worker(store).at_work() as mine:
        guard = cast("RollbackGuard", mine.guard)
        lab.files = there
        async with lab.worker(store).at_work() as other:
            assert await guard.poll()
            assert len(await other.send(limit=1)) == len(await other.send(limit=1)) == 1
            assert await guard.poll()
        (sender,) = [name for name, text in await numbers_in(store).all() if text == "3"]
    lab.files = here
    for _ in range(2):
        lab.rolled_back()
        async with lab.store() as store, lab.worker(store).at_work() as engine:
            assert await engine.send() == []
            (gate,) = await gates_of(store, "default")
            assert OTHER_LACKS.format(host=socket.gethostname()) in gate.reason.split(THEN)
            assert cast("RollbackGuard", engine.guard)._others.noted[sender] == 0
            lab.clock.advance(timedelta(seconds=5))
            await engine.queue.resume()
        async with lab.store() as store, lab.worker(store).at_work():
            assert await hold_of(store) is None, "what a person has settled is settled"
    lab.files = there
    async with lab.store() as store, lab.worker(store).at_work():
        assert await hold_of(store) == HELD
        assert (await count_states(store, "default"))[JobState.IN_DOUBT] == 2


async def test_a_worker_that_lives_notices_at_once_that_calls_of_another_machine_are_lost(
    tmp_path: Path, clock: ManualClock
) -> None:
    store, voice = MemoryStore(clock=clock), ScriptedVoice()
    one, other = (Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path / name)) for name in "ab")
    async with one.at_work(), other.at_work():
        assert one.guard is not None
        assert await one.guard.poll()
        for place in range(2):
            await one.enqueue(number(place))
        older = copy.deepcopy(store.memory)
        assert len(await other.send()) == 2
        assert await one.guard.poll()
        store.memory = older
        assert not await one.guard.poll()
        assert await hold_of(store) == OTHER_LACKS.format(host=socket.gethostname())
        assert await one.send() == []
    assert len(voice.placed) == 2


async def test_a_worker_notices_that_orders_of_another_machine_are_lost(tmp_path: Path, clock: ManualClock) -> None:
    """The opt-out of a receiver, with no POST after it."""
    store = MemoryStore(clock=clock)
    receiver = OrderedStore(store, lambda: JournalFiles(tmp_path / "there" / "id" / "url"))
    one = Engine(store, ScriptedVoice(), policy=POLICY, local_journal=JournalFiles(tmp_path / "here"))
    async with one.at_work():
        assert one.guard is not None
        await one.enqueue(number(1))
        older = copy.deepcopy(store.memory)
        await SuppressionList(cast("Store", receiver)).add(number(1))
        assert await one.guard.poll()
        store.memory = older
        assert not await one.guard.poll()
        assert await hold_of(store) == OTHER_LACKS.format(host=socket.gethostname())
        assert await one.send() == []
        receiver.close()
        await OrderedStore(store, lambda: JournalFiles(tmp_path / "there" / "id" / "url")).put_opt_outs_back()
        assert await SuppressionList(store).find(number(1))
        await one.queue.resume()
        assert await one.guard.poll()
        assert await hold_of(store) is None


async def test_a_hold_says_since_when_writes_may_be_missing(lab: Lab) -> None:
    """That is the time of the newest POST that the store still has."""
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        for place in (1, 2):
            await engine.enqueue(number(place))
            lab.clock.advance(timedelta(minutes=1))
            await engine.send()
        survives = lab.clock.now()
    lab.back_up()
    lab.clock.advance(timedelta(minutes=1))
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        for place in (3, 4):
            await engine.enqueue(number(place))
            await engine.send()
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work():
        (gate,) = await gates_of(store, "default")
        assert gate.reason == f"{HELD}{THEN}what was stored after {in_words(survives)} may be missing"


async def test_after_a_failover_a_worker_without_files_of_the_store_says_where_they_may_be(
    tmp_path: Path, clock: ManualClock
) -> None:
    store, voice = MemoryStore(clock=clock), ScriptedVoice()
    store.memory.history = A
    engine = Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path / "old"))
    async with engine.at_work():
        await engine.enqueue()
        await engine.send()
    store.memory.history, store.memory.server = B, "another"
    clock.advance(timedelta(seconds=5))
    async with Engine(store, voice, policy=POLICY, local_journal=JournalFiles(tmp_path / "new")).at_work():
        (gate,) = await gates_of(store, "default")
        assert gate.reason == f"{HELD_AS_TAKEN_OVER}{THEN}{NO_FILES}"


async def test_what_a_hold_says_for_programs_is_kept_with_it_and_no_note_of_a_person_says_it(lab: Lab) -> None:
    async with lab.store() as store:
        queue = lab.worker(store).queue
        await queue.hold(reason=HELD)
        assert [gate.kinds for gate in await gates_of(store, "default")] == [frozenset()]
        for kinds in ({GateKind.MAY_LACK}, set[GateKind]()):
            now = lab.clock.now()
            ordered = Gate.of("default", None, GateState.HELD, since=now, reason=HELD, kinds=frozenset(kinds))
            await order_gate(store, ordered)
        (gate,) = await gates_of(store, "default")
        assert (gate.kinds, gate.reason) == (frozenset({GateKind.MAY_LACK}), HELD)
        lab.clock.advance(timedelta(seconds=1))
        await queue.resume()
        await queue.hold(reason="a person's")
        assert [gate.kinds for gate in await gates_of(store, "default")] == [frozenset()]


@pytest.mark.parametrize("name", ["default", ORDERS])
@pytest.mark.parametrize(
    "text", ['{"voiceflow_journal":7,"writer":"w"}\n', '{"voiceflow_journal":10}\n', "\0\0\0\n{}\n"]
)
async def test_a_journal_file_of_another_version_or_damaged_at_its_head_holds_the_queue_once(
    lab: Lab, name: str, text: str
) -> None:
    path = lab.files.folder / name / "2026-W01-1.journal"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    async with lab.store() as store:
        pass
    lab.back_up()
    for is_held in (True, False, True):
        async with lab.store() as store, lab.worker(store).at_work() as engine:
            reason = await hold_of(store) or ""
            assert (f"the journal file {path} cannot be read" in reason) is is_held
            assert ("Then move the file elsewhere" in reason) is is_held
            if is_held:
                with pytest.raises(UnreadFilesError, match="resume with --unread-files"):
                    await engine.queue.resume()
                assert await hold_of(store) is not None
            await engine.queue.resume(unread_files=True)
        if not is_held:
            lab.rolled_back()
    path.write_text(f"{text}{{}}\n")  # another file with the same name
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        assert f"the journal file {path} cannot be read" in (await hold_of(store) or "")
    path.rename(path.with_suffix(".old"))
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work():
        assert await hold_of(store) is None


async def test_jobs_that_another_process_lets_be_pruned_sooner_raise_no_alarm(lab: Lab) -> None:
    """A receiver that ends calls with a shorter retention than the workers have decides when they go."""
    async with lab.store() as store, lab.worker(store, policy=CallPolicy()).at_work() as engine:
        job = await engine.enqueue()
        await engine.send()
        receiver = Engine(store, lab.voice, policy=CallPolicy(retention=timedelta(days=1)))
        await receiver.summarise(job)
        lab.clock.advance(timedelta(days=2))
        assert await engine.sweeper.prune() == 1
        later = await engine.enqueue(number(1))
        assert [each.id for each in await engine.send()] == [later.id]
        assert await hold_of(store) is None
    async with lab.store() as store, lab.worker(store, policy=CallPolicy()).at_work():
        assert await hold_of(store) is None


async def test_a_call_that_was_lost_to_somebody_else_is_not_told_as_sent(lab: Lab) -> None:
    """Its entry was written and its commit refused: it never left, so a rollback of the store leaves it in no doubt."""
    async with lab.store() as store:
        engine = lab.worker(store)
        lost = await engine.enqueue(number(1))
        await engine.enqueue(number(2), batch="sent")
    lab.back_up()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        dispatches = await engine.prepare()
        mine = next(dispatch for dispatch in dispatches if dispatch.job.id == lost.id)
        now = lab.clock.now()
        elsewhere = lifecycle.release(mine.job, at=now, due_at=now + timedelta(hours=1))
        assert await commit(store, [changed(mine.job, elsewhere, at=now)[1]]) == [True]
        await engine.finish(*dispatches)
    assert len(lab.voice.placed) == 1
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work() as engine:
        assert await engine.state(lost) == "queued"
        assert (await count_states(store, "default"))[JobState.IN_DOUBT] == 1


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path / "journals")
    (await files.begin("default", at=datetime.now(UTC))).close()
    (path,) = (tmp_path / "journals" / "default").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_folder_that_cannot_be_written_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "journals").write_text("in the way")
    async with open_store("memory://") as store:
        worker = Worker(store, ScriptedVoice(), local_journal=JournalFiles(tmp_path / "journals"))
        with pytest.raises(SettingsError, match="set VOICEFLOW_STATE_DIR"):
            await worker.run()


async def test_a_full_file_is_followed_by_another_and_all_of_them_are_read(lab: Lab) -> None:
    lab.files = JournalFiles(lab.folder / "journals", full=2000)
    job_ids = await sent_after_a_backup(lab, 9)
    assert len(await lab.files.files("default")) > 2
    lab.rolled_back()
    async with lab.store() as store, lab.worker(store).at_work():
        assert (await count_states(store, "default"))[JobState.IN_DOUBT] == len(job_ids)


async def test_old_files_go_and_those_of_living_workers_stay(lab: Lab) -> None:
    await sent_after_a_backup(lab, 1)
    lab.clock.advance(timedelta(days=8))
    async with lab.store() as store, lab.worker(store).at_work():
        assert len(await lab.files.files("default")) == 2
        await lab.files.prune("default", before=lab.clock.now() - timedelta(days=14))
        assert len(await lab.files.files("default")) == 2
        await lab.files.prune("default", before=lab.clock.now())
        assert len(await lab.files.files("default")) == 1
        await lab.files.prune("default", before=lab.clock.now() + timedelta(days=14))
        assert len(await lab.files.files("default")) == 1


SPOILT: tuple[Any, ...] = (None, 5, -1.5, True, "x", "2026-01-01T00:00:00", [], [[]], {}, {"x": []})


def damaged(line: bytes, dice: random.Random) -> bytes:
    """The line, damaged or from elsewhere: without a field, with a foreign value somewhere, or with foreign bytes."""
    if dice.random() < 0.2:
        place = dice.randrange(len(line))
        return (
            line[:place] + dice.randbytes(dice.randint(1, 5)).replace(b"\n", b"") + line[place + dice.randint(0, 5) :]
        )
    fields = json.loads(line)
    name = dice.choice(list(fields))
    if dice.random() < 0.3:
        del fields[name]
    elif isinstance(fields[name], list) and fields[name] and dice.random() < 0.7:
        fields[name][dice.randrange(len(fields[name]))] = dice.choice(SPOILT)
    else:
        fields[name] = dice.choice(SPOILT)
    return json.dumps(fields, separators=(",", ":")).encode()


@pytest.mark.parametrize("seed", range(5))
async def test_no_damaged_or_foreign_line_stops_anything(tmp_path: Path, clock: ManualClock, seed: int) -> None:
    dice, lab = random.Random(seed), Lab("memory", tmp_path / "lab", clock)
    job_ids = await sent_after_a_backup(lab, 3)
    tokens = ["first", "second", "third"]
    listed = (Put("suppressed", number(1), "{}", None),)
    orders = [OrderLine(at=clock.now(), store=token, listed=listed) for token in tokens]
    file = await lab.files.begin(ORDERS, at=clock.now())
    await file.append(list(enumerate(orders, 1)))
    file.close()
    (calls,) = (lab.files.folder / "default").glob("*.journal")
    (ordered,) = (lab.files.folder / ORDERS).glob("*.journal")
    texts = {path: [line for line in path.read_bytes().splitlines() if line] for path in (calls, ordered)}
    for _ in range(120):
        left: dict[Path, bytes] = {}
        for path, lines in texts.items():
            place = dice.randrange(1, len(lines))
            left[path] = b"".join(lines[:place] + lines[place + 1 :])
            path.write_bytes(
                b"".join(line + b"\n" for line in (*lines[:place], damaged(lines[place], dice), *lines[place + 1 :]))
            )
        files = JournalFiles(lab.files.folder)
        for each in await files.files("default"):
            read = {job.id for _, job in (await files.entries(each.name)).jobs}
            assert read >= {each for each in job_ids if each.encode() in left[calls]}
        (of_orders,) = await files.files(ORDERS, since=clock.now())
        found = [order for _, order in (await files.entries(of_orders.name)).orders]
        assert {order.store for order in found} >= {token for token in tokens if token.encode() in left[ordered]}
        assert all(order.at > clock.now() - timedelta(days=400) for order in found), "each has a time with a zone"
        for queue in ("default", ORDERS):
            await files.prune(queue, before=clock.now() - timedelta(days=7))
        for path in texts:
            path.unlink(missing_ok=True)


def spoil_second_entry(folder: Path, name: str, spoils: tuple[str, str]) -> None:
    for path in folder.glob(f"calls.db.journals/*/*/{name}/*.journal"):
        begin, *lines = path.read_text().splitlines()
        entries = [line for line in lines if '"n":' in line]
        spoilt = [re.sub(*spoils, line, count=1) if line in entries[1:2] else line for line in lines]
        path.write_text("\n".join([begin, *spoilt, ""]))


@pytest.mark.parametrize("name", ["default", ORDERS])
@pytest.mark.parametrize(
    "spoils",
    [
        (r"^{", r'{"mood":1,'),
        (r'"(head|ordered)"', r'"mood"'),
        (r'("ordered":{|"record":"{)(\\?")', r"\1\2mood\2:1,\2"),
        (r"^{", "x"),
    ],
)
async def test_lines_that_nobody_can_read_are_logged_and_hold_the_queue_if_the_store_was_rolled_back(
    tmp_path: Path, clock: ManualClock, name: str, spoils: tuple[str, str]
) -> None:
    """An entry with a field that is not known, too."""
    lab = Lab("sqlite", tmp_path, clock)

    async def held() -> list[str]:
        async with (
            open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as store,
            Engine(store, lab.voice, policy=POLICY, local_journal=journal_of(store)).at_work() as engine,
        ):
            found = [gate for gate in await gates_of(store, "default") if GateKind.UNREAD_FILES in gate.kinds]
            if found:
                with pytest.raises(UnreadFilesError):
                    await engine.queue.resume()
            return [gate.reason for gate in found]

    assert await held() == []
    lab.back_up()
    async with (
        open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as store,
        Engine(store, lab.voice, policy=POLICY, local_journal=journal_of(store)).at_work() as one,
    ):
        for place in range(3):
            await one.enqueue(number(place))
            await one.send()
            await SuppressionList(store).add(f"+6591{place:06}")
    spoil_second_entry(tmp_path, name, spoils)
    assert await held() == []
    lab.rolled_back()
    (reason,) = await held()
    assert f"1 line of the journal file {tmp_path}" in reason
    assert ("the orders in them" if name == ORDERS else "the calls in them") in reason
