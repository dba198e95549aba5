"""The contract of a store (`core/store_port.py`), as a test suite that every backend must pass.

The fixture `opener` is a function that opens a store of the backend under test. Within a test, each call opens the same
storage, as if from another process. The storage must be empty when a test begins. The numbers in comments are those of
the sentences in "What `write` promises".
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import anyio
import pytest

from voiceflow_worker.backends.contract.samples import NOW, QUEUE, full_job, sample_job, sample_jobs
from voiceflow_worker.core.ports.moves import Event, EventKind
from voiceflow_worker.core.store_port import (
    GATES,
    MOST_TOGETHER,
    OPEN_STAYS,
    Absent,
    Answer,
    AtMost,
    Delete,
    Drop,
    Insert,
    Limits,
    Mode,
    OpenGate,
    Order,
    Owner,
    Page,
    Put,
    Query,
    Record,
    Replace,
    Result,
    Same,
    Step,
    Store,
    Unit,
    gate_from,
    gate_key,
    gate_put,
    limits_put,
    tally_change,
)
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, Post
from voiceflow_worker.model.jobs.totals import STATE
from voiceflow_worker.model.reports.verdict import VerdictKind

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
DONE, STALE, EXISTS, NOT_FREE = Result.DONE, Result.STALE, Result.EXISTS, Result.NOT_FREE
Opener = Callable[[], AbstractAsyncContextManager[Store]]

BODIES = {
    "empty lists and objects": '{"callflow":[],"extra":{},"nested":[[],{}]}',
    "integers beyond 64 bits": '{"n":123456789012345678901234567890,"m":-9007199254740993}',
    "floats": '{"speed":1.0,"tiny":1e-300,"third":0.1}',
    "letters of many scripts": '{"text":"Grüße, 你好, こんにちは, مرحبا, 👋🏽, é"}',
    "escapes": '{"text":"\\u0000 \\ud83d\\ude00 \\n \\" \\\\ </script>"}',
    "text that looks like SQL": '{"text":"\'); DROP TABLE jobs; -- %s ? :a $1 {0}"}',
    "much": json.dumps({"text": "long " * 60_000}),
    "nothing": "",
}

_tokens = count(1)


# --- What tests write ---


def new(job: Job, **parts: Any) -> Unit:
    """A unit that stores a new job."""
    return replace(Unit(change=Insert(job), tally=tally_change(None, job), wakes=job.queue), **parts)


def next_of(job: Job, **fields: Any) -> Job:
    """The next version of a job."""
    return replace(job, **{"revision": f"next-{next(_tokens)}", **fields})


def to(old: Job, job: Job, **parts: Any) -> Unit:
    """A unit that replaces a job by its next version."""
    wakes = job.queue if job.state is JobState.QUEUED else None
    return replace(Unit(change=Replace(old.revision, job), tally=tally_change(old, job), wakes=wakes), **parts)


def told(job: Job, kind: EventKind = EventKind.ENDED) -> Event:
    """An event of a job."""
    return Event(job_id=job.id, kind=kind, at=NOW, state=job.state, revision=job.revision)


def put(key: str, value: str = "v", ends_at: datetime | None = None, mode: Mode = Mode.ALWAYS) -> Put:
    return Put("n", key, value, ends_at, mode)


def gated(state: GateState, *, batch: str | None = None, until: datetime | None = None, queue: str = QUEUE) -> Unit:
    """A unit that sets a gate."""
    gate = Gate.of(queue, batch, state, since=NOW, until=until, reason="a reason")
    return Unit(puts=(gate_put(gate, token=f"t{next(_tokens)}"),), wakes=queue)


async def write(store: Store, *units: Unit, now: datetime = NOW, **fields: Any) -> list[Result]:
    """Write a step; returns the results of its units."""
    return [each.result for each in await answers(store, *units, now=now, **fields)]


async def answers(store: Store, *units: Unit, now: datetime = NOW, **fields: Any) -> tuple[Answer, ...]:
    step = Step(units=units, **fields)
    return (await store.write(step, now=now)).answers


async def stored(store: Store, *jobs: Job) -> list[Job]:
    """Store new jobs, and return them."""
    assert await write(store, *map(new, jobs)) == [DONE] * len(jobs)
    return list(jobs)


async def held(store: Store, *, now: datetime = NOW, namespace: str = "n") -> dict[str, str]:
    """The records of a namespace that stand."""
    found = await store.records({namespace: Page()}, now=now)
    return {record.key: record.value for record in found[namespace]}


async def job_of(store: Store, job: Job) -> Job | None:
    found = await store.jobs(Query(queue=job.queue, ids=(job.id,)), now=NOW)
    return found[0] if found else None


async def leased(store: Store, limit: int = 10, *, now: datetime = NOW, batch: str | None = None) -> list[int]:
    """Lease jobs; returns the numbers of the sample jobs."""
    jobs = await store.lease(QUEUE, worker_id="w", limit=limit, until=now + MINUTE, now=now, batch=batch)
    return [int(job.id.rpartition(".")[2]) for job in jobs]


async def states(store: Store, batch: str | None = None) -> dict[str, int]:
    totals = await store.totals(QUEUE, batch=batch)
    return {state.value: amount for state, amount in totals.states.items() if amount}


@pytest.mark.anyio
class Ground:
    """The base class of all parts of the contract. A subclass must define the fixture `opener`."""

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("a subclass of the contract must define the fixture `opener`")

    @pytest.fixture
    async def store(self, opener: Opener) -> AsyncGenerator[Store]:
        async with opener() as store:
            yield store

    @pytest.fixture
    async def other(self, opener: Opener, store: Store) -> AsyncGenerator[Store]:  # noqa: ARG002 - opened after it
        async with opener() as other:
            yield other


class WriteContract(Ground):
    """What `write` promises."""

    # 1. In order

    async def test_a_unit_sees_what_the_earlier_ones_of_its_step_wrote(self, store: Store) -> None:
        job = sample_job(unique_key="k")
        again = sample_job(2, unique_key="k")
        sent = next_of(job, state=JobState.SENDING)
        units = (
            new(job, puts=(put("lock", "one"),)),
            new(again),
            to(job, sent),
            Unit(needs=(Absent("n", ("lock",)),), puts=(put("other"),)),
            Unit(drops=(Drop("n", "lock", "one"),)),
            Unit(needs=(Absent("n", ("lock",)),), puts=(put("late"),)),
        )
        assert await write(store, *units) == [DONE, EXISTS, DONE, NOT_FREE, DONE, DONE]
        assert await held(store) == {"late": "v"}
        assert await job_of(store, job) == sent

    # 2. All or nothing

    async def test_of_a_refused_unit_nothing_is_written(self, store: Store) -> None:
        job = (await stored(store, sample_job(batch_id="b")))[0]
        await write(store, Unit(puts=(put("taken", "theirs"), put("kept"))))
        seen = await store.wait(QUEUE, seen=0, until=store.clock.now())
        whole: dict[str, Any] = {
            "puts": (put("more"),),
            "drops": (Drop("n", "kept", None),),
            "events": (told(job),),
            "needs": (Absent("n", ("free", "taken")),),
            "wakes": QUEUE,
        }
        gone = next_of(job, revision="unknown")
        refused = [
            to(job, next_of(job, state=JobState.CANCELLED), **whole),
            to(gone, next_of(gone), **{**whole, "needs": ()}),
            new(sample_job(2), **whole),
            Unit(**whole),
            Unit(change=Delete(job, NOW + DAY), tally=tally_change(job, None), **whole),
        ]
        assert await write(store, *refused) == [NOT_FREE, STALE, NOT_FREE, NOT_FREE, NOT_FREE]
        assert await held(store) == {"taken": "theirs", "kept": "v"}
        assert list(await store.jobs(Query(queue=QUEUE), now=NOW)) == [job]
        assert list(await store.events(QUEUE)) == []
        assert await states(store) == await states(store, "b") == {"queued": 1}
        assert await store.wait(QUEUE, seen=0, until=store.clock.now()) == seen

    async def test_a_condition_is_checked_before_the_units_own_records_are_written(self, store: Store) -> None:
        unit = Unit(needs=(Absent("n", ("a",)), AtMost("n", "a", 0)), puts=(put("a"), put("a 1")))
        assert await write(store, unit) == [DONE]
        assert await held(store) == {"a": "v", "a 1": "v"}

    async def test_a_move_stores_all_of_the_job(self, store: Store, other: Store) -> None:
        job = (await stored(store, sample_job(unique_key="k", batch_id="b", data={"name": "Tan", "list": 0})))[0]
        post = Post(number=1, client_request_id=f"{job.id}.1", began_at=NOW, valid_until=NOW, bridged=("+6590000001",))
        sent = next_of(job, state=JobState.SENDING, worker_id="w", active_until=NOW + DAY, posts=(post,), post_count=1)
        assert await write(store, to(job, sent)) == [DONE]
        assert await job_of(other, job) == sent

    @pytest.mark.parametrize("state", list(JobState))
    async def test_a_job_may_be_stored_in_any_state(self, store: Store, other: Store, state: JobState) -> None:
        """After a set-back of the store, a worker stores jobs again from its journal file. They may be in any state."""
        job = replace(full_job(), state=state)
        await stored(store, job)
        found = await job_of(other, job)
        assert found is not None
        for field in fields(Job):
            assert getattr(found, field.name) == getattr(job, field.name), field.name
        assert await states(store) == {state.value: 1}
        assert bool(await leased(store, now=job.due_at)) == (state is JobState.QUEUED)
        if state is not JobState.QUEUED:
            assert await write(store, to(job, next_of(job, state=JobState.IN_DOUBT))) == [DONE]

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    async def test_a_body_is_stored_unchanged(self, store: Store, body: str) -> None:
        job = (await stored(store, sample_job(body=body)))[0]
        assert await job_of(store, job) == job
        (taken,) = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + MINUTE, now=NOW)
        assert taken.body == body

    async def test_texts_are_stored_unchanged(self, store: Store) -> None:
        text = 'O\'Brien; "x" \\ %s ? 你好 👋 \n\t'
        job = sample_job(unique_key=text, batch_id=text, reason=text, time_zone="Asia/Ho_Chi_Minh")
        await stored(store, job)
        assert list(await store.jobs(Query(queue=QUEUE, unique_keys=(text,), batch_id=text), now=NOW)) == [job]

    async def test_answers_with_odd_contents_are_stored(self, store: Store) -> None:
        """8x8 may send half a surrogate pair or a huge number in an answer or a summary. The job is stored anyway."""
        job = (await stored(store, sample_job()))[0]
        post = Post(number=1, client_request_id="x", began_at=NOW, valid_until=NOW, code=10**30, message="half: \ud83d")
        odd = next_of(job, posts=(post,), reason="\ud83d and \x00")
        assert await write(store, to(job, odd)) == [DONE]
        assert await job_of(store, job) == odd

    # 3. Answered alone

    async def test_a_refused_unit_keeps_no_other_from_being_written(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(3))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        await write(store, to(jobs[1], next_of(jobs[1], state=JobState.CANCELLED)))
        assert await write(store, *map(to, jobs, ended)) == [DONE, STALE, DONE]
        assert await states(store) == {"expired": 2, "cancelled": 1}

    async def test_a_step_may_have_a_thousand_units(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(1000))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        assert await write(store, *map(to, jobs, ended)) == [DONE] * 1000
        assert await states(store) == {"expired": 1000}

    async def test_a_step_without_units_is_answered_with_the_server(self, store: Store) -> None:
        first = await store.write(Step(units=()), now=NOW)
        second = await store.write(Step(units=(Unit(puts=(put("a"),)),)), now=NOW)
        assert first.answers == ()
        assert first.server == second.server

    # 4. Together

    async def test_together_one_refusal_refuses_all(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        units = (
            new(sample_job(2, batch_id="b"), puts=(put("a"),), events=(told(job),)),
            to(job, next_of(job, state=JobState.CANCELLED), needs=(Absent("n", ("a",)),)),
            Unit(puts=(put("b"),)),
        )
        assert await write(store, *units, together=True) == [Result.WITHHELD, NOT_FREE, Result.WITHHELD]
        assert await held(store) == {}
        assert list(await store.jobs(Query(queue=QUEUE), now=NOW)) == [job]
        assert list(await store.events(QUEUE)) == []
        assert await states(store) == {"queued": 1}
        assert await states(store, "b") == {}
        assert await write(store, units[0], units[2], together=True) == [DONE, DONE]
        assert await held(store) == {"a": "v", "b": "v"}

    async def test_together_the_same_call_under_its_key_refuses_nothing_but_another_call_does(
        self, store: Store
    ) -> None:
        await stored(store, sample_job(1, unique_key="k"))
        same = new(sample_job(2, unique_key="k"))
        different = new(sample_job(3, unique_key="k", body_digest="different"))
        assert await write(store, same, new(sample_job(4)), together=True) == [EXISTS, DONE]
        assert await write(store, different, new(sample_job(5)), together=True) == [EXISTS, Result.WITHHELD]
        assert await states(store) == {"queued": 2}

    async def test_a_thousand_units_may_be_together_and_no_more(self, store: Store) -> None:
        units = [new(job) for job in sample_jobs(MOST_TOGETHER + 1)]
        with pytest.raises(ValueError, match="too long"):
            await write(store, *units, together=True)
        assert await write(store, *units[:-1], together=True) == [DONE] * MOST_TOGETHER

    # 5. Why it is not free

    async def test_a_failed_condition_tells_its_key_its_value_and_its_end(self, store: Store) -> None:
        hold = gated(GateState.HELD, batch="b", until=NOW + DAY)
        await write(store, hold, Unit(puts=(put("a", "q.j.1 more", NOW + MINUTE), put("b", "x"))))
        taken = Absent("n", ("c", "a"))
        wrong = Same("n", "b", "y")
        gone = Same("n", "none", "y")
        shut = OpenGate(QUEUE, "b")
        found = await answers(store, *(Unit(needs=(need,)) for need in (taken, wrong, gone, shut)))
        assert [each.result for each in found] == [NOT_FREE] * 4
        assert [each.need for each in found] == [taken, wrong, gone, shut]
        assert found[0].record == Record("a", "q.j.1 more", NOW + MINUTE)
        assert found[1].record == Record("b", "x", None)
        assert found[2].record is None
        assert found[3].record is not None
        assert gate_from(found[3].record) == Gate.of(
            QUEUE, "b", GateState.HELD, since=NOW, until=NOW + DAY, reason="a reason"
        )

    async def test_the_first_failed_condition_is_told(self, store: Store) -> None:
        await write(store, Unit(puts=(put("a"), put("b"))))
        needs = (Absent("n", ("c",)), Absent("n", ("b",)), Absent("n", ("a",)))
        (answer,) = await answers(store, Unit(needs=needs))
        assert answer.need == needs[1]

    async def test_a_limit_tells_the_record_with_whose_end_it_holds_again(self, store: Store) -> None:
        ends = (NOW + 3 * MINUTE, NOW + MINUTE, None, NOW + 2 * MINUTE)
        await write(store, Unit(puts=tuple(put(f"p {n}", "v", end) for n, end in enumerate(ends))))
        for most, end in ((3, NOW + MINUTE), (2, NOW + 2 * MINUTE), (1, NOW + 3 * MINUTE), (0, None)):
            unit = Unit(needs=(AtMost("n", "p ", most),))
            (answer,) = await answers(store, unit)
            assert answer.record is not None
            assert answer.record.ends_at == end
            if end is not None:
                assert await write(store, unit, now=end) == [DONE]
        assert await write(store, Unit(needs=(AtMost("n", "p ", 4),))) == [DONE]

    async def test_conditions_pass_over_the_records_of_their_owner_and_of_the_past(self, store: Store) -> None:
        records = (put("a", "q.j.1"), put("b", "q.j"), put("c", "q.jj.1"), put("d", "q.k.1 note", NOW + MINUTE))
        await write(store, Unit(puts=records))
        for key, owner, now, wanted in (
            ("a", "q.j", NOW, DONE), ("b", "q.j", NOW, DONE), ("c", "q.j", NOW, NOT_FREE), ("a", "q.j.1", NOW, DONE),
            ("d", "q.j", NOW, NOT_FREE), ("d", "q.k", NOW, DONE), ("d", None, NOW + MINUTE, DONE),
            ("a", None, NOW, NOT_FREE),
        ):  # fmt: skip
            units = (Unit(needs=(Absent("n", (key,), owner),)), Unit(needs=(AtMost("n", key, 0, owner),)))
            assert await write(store, *units, now=now) == [wanted, wanted], (key, owner)

    async def test_prefixes_are_taken_literally(self, store: Store) -> None:
        await write(store, Unit(puts=(put("a%"), put("ab"), put("é"), put("\U0001f600x"))))
        for prefix, most in (("a%", 1), ("a_", 0), ("a", 2), ("é", 1), ("\U0001f600", 1), ("[a]", 0), ("", 4)):
            assert await write(store, Unit(needs=(AtMost("n", prefix, most),))) == [DONE]
            if most:
                assert await write(store, Unit(needs=(AtMost("n", prefix, most - 1),))) == [NOT_FREE]

    async def test_a_closed_gate_refuses_and_an_open_one_does_not(self, store: Store) -> None:
        whole, batch = Unit(needs=(OpenGate(QUEUE),)), Unit(needs=(OpenGate(QUEUE, "b"),))
        assert await write(store, whole, batch) == [DONE, DONE]
        await write(store, gated(GateState.HELD, until=NOW + MINUTE))
        assert await write(store, whole, batch) == [NOT_FREE, NOT_FREE]
        assert await write(store, whole, batch, now=NOW + MINUTE) == [DONE, DONE]
        await write(store, gated(GateState.OPEN))
        await write(store, gated(GateState.CANCELLED, batch="b"))
        assert await write(store, whole, batch) == [DONE, NOT_FREE]
        assert await write(store, whole, batch, now=NOW + 1000 * DAY) == [DONE, NOT_FREE]

    # 6. Who owns the key

    async def test_a_taken_key_tells_its_owner(self, store: Store) -> None:
        job = (await stored(store, sample_job(unique_key="k", body_digest="one")))[0]
        (answer,) = await answers(store, new(sample_job(2, unique_key="k", body_digest="two")))
        assert answer == Answer(result=EXISTS, owner=Owner(job.id, "one", JobState.QUEUED))
        assert await write(store, new(sample_job(3, unique_key="k", queue="reminders"))) == [DONE]
        ended = next_of(job, state=JobState.COMPLETED)
        await write(store, to(job, ended), Unit(change=Delete(ended, NOW + DAY), tally=tally_change(ended, None)))
        (answer,) = await answers(store, new(sample_job(2, unique_key="k")))
        assert answer == Answer(result=EXISTS, owner=Owner(job.id, "one", JobState.COMPLETED))
        assert await write(store, new(sample_job(2, unique_key="k")), now=NOW + DAY) == [DONE]

    async def test_of_many_who_store_a_call_under_one_key_one_does(self, store: Store, other: Store) -> None:
        results: list[Result] = []

        async def claim(handle: Store, number: int) -> None:
            results.extend(await write(handle, new(sample_job(number, unique_key="k"))))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(claim, (store, other)[number % 2], number)
        assert sorted(results, key=str) == sorted([DONE, *[EXISTS] * 19], key=str)
        assert await states(store) == {"queued": 1}

    # 7. Puts

    async def test_a_put_does_what_its_mode_says(self, store: Store) -> None:
        later, latest = NOW + MINUTE, NOW + 2 * MINUTE
        table: list[tuple[Mode, datetime | None, datetime | None, str, datetime | None]] = [
            (Mode.ALWAYS, latest, later, "new", later),
            (Mode.EXTEND, latest, later, "new", latest),
            (Mode.EXTEND, later, latest, "new", latest),
            (Mode.EXTEND, None, later, "new", None),
            (Mode.EXTEND, later, None, "new", None),
            (Mode.KEEP, later, latest, "old", later),
            (Mode.LONGER, later, latest, "new", latest),
            (Mode.LONGER, later, None, "new", None),
            (Mode.LONGER, latest, later, "old", latest),
            (Mode.LONGER, later, later, "old", later),
            (Mode.LONGER, None, None, "old", None),
            (Mode.LONGER, None, later, "old", None),
        ]
        for place, (mode, was, now_ends, value, ends) in enumerate(table):
            key = str(place)
            await write(store, Unit(puts=(put(key, "old", was),)), Unit(puts=(put(key, "new", now_ends, mode),)))
            found = await store.records({"n": [key]}, now=NOW)
            assert list(found["n"]) == [Record(key, value, ends)], (mode, was, now_ends)

    async def test_an_ended_record_stands_in_no_puts_way(self, store: Store) -> None:
        for mode in Mode:
            await write(store, Unit(puts=(put(mode.value, "old", NOW + MINUTE),)))
            await write(store, Unit(puts=(put(mode.value, "new", NOW + DAY, mode),)), now=NOW + MINUTE)
        assert await held(store, now=NOW + 2 * MINUTE) == {mode.value: "new" for mode in Mode}

    async def test_a_drop_deletes_a_record_that_has_its_value(self, store: Store) -> None:
        await write(store, Unit(puts=(put("a", "mine"), put("b", "theirs"), put("c", "x"))))
        drops = (Drop("n", "a", "mine"), Drop("n", "b", "mine"), Drop("n", "c", None), Drop("n", "d", None))
        assert await write(store, Unit(drops=drops)) == [DONE]
        assert await held(store) == {"b": "theirs"}

    # 8. Written again

    async def test_a_step_that_is_written_again_changes_counts_and_tells_nothing(self, store: Store) -> None:
        job, other_job = await stored(store, sample_job(1, batch_id="b"), sample_job(2, batch_id="b", unique_key="k"))
        sent = next_of(job, state=JobState.SENDING)
        ended = next_of(other_job, state=JobState.COMPLETED)
        await write(store, to(other_job, ended))
        units = (
            new(sample_job(3, batch_id="b", unique_key="z"), needs=(Absent("n", ("lock",)),)),
            to(job, sent, puts=(put("lock", "q.j.1"),), events=(told(sent),), needs=(Absent("n", ("lock",)),)),
            Unit(change=Delete(ended, NOW + DAY), tally=tally_change(ended, None)),
            Unit(needs=(Same("n", "cas", None),), puts=(put("cas", "token 1"),)),
        )
        assert await write(store, *units) == [DONE] * 4
        await write(store, Unit(drops=(Drop("n", "lock", None),)))
        counted = await store.totals(QUEUE, batch="b")
        assert await write(store, *units) == [DONE] * 4
        assert await store.totals(QUEUE, batch="b") == counted
        assert await held(store) == {"cas": "token 1"}
        assert len(await store.events(QUEUE)) == 1

    async def test_a_repeat_that_comes_after_a_later_write_changes_nothing(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        sent = next_of(job, state=JobState.SENDING)
        back = next_of(sent, state=JobState.QUEUED)
        first = (
            to(job, sent, puts=(put("lock", "one"),)),
            Unit(needs=(Same("n", "cas", None),), puts=(put("cas", "1"),)),
        )
        await write(store, *first)
        swap = Unit(needs=(Same("n", "cas", "1"),), puts=(put("cas", "2"),))
        await write(store, to(sent, back, drops=(Drop("n", "lock", "one"),)), swap)
        assert await write(store, *first) == [STALE, NOT_FREE]
        assert await job_of(store, job) == back
        assert await held(store) == {"cas": "2"}

    async def test_of_many_who_compare_and_swap_one_wins_each_round(self, store: Store, other: Store) -> None:
        won: list[str] = []

        async def swap(handle: Store, name: str) -> None:
            unit = Unit(needs=(Same("n", "turn", None),), puts=(put("turn", name),))
            if await write(handle, unit) == [DONE]:
                won.append(name)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(swap, (store, other)[number % 2], f"w{number}")
        assert list((await held(store)).values()) == won

    # 9. Conditions hold at the commit

    async def test_two_units_that_contradict_each_other_are_never_both_written(
        self, store: Store, other: Store
    ) -> None:
        """A bridge and a journal entry; two attempts for one place: whichever is second is refused."""
        for number in range(20):
            journal = Unit(needs=(AtMost("n", f"beside {number} ", 0),), puts=(put(f"number {number}"),))
            bridge = Unit(needs=(Absent("n", (f"number {number}",)),), puts=(put(f"beside {number} x"),))
            places = [Unit(needs=(AtMost("n", f"p {number} ", 0),), puts=(put(f"p {number} {n}"),)) for n in "ab"]
            results: list[Result] = []

            async def one(handle: Store, *units: Unit, results: list[Result] = results) -> None:
                results += await write(handle, *units)

            async with anyio.create_task_group() as group:
                group.start_soon(one, store, journal, places[0])
                group.start_soon(one, other, bridge, places[1])
            assert sorted(each.value for each in results) == ["done", "done", "not free", "not free"]

    async def test_nothing_is_written_under_a_gate_whose_closing_has_returned(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(60))
        is_closed = anyio.Event()
        after: list[Result] = []

        async def work(handle: Store, mine: list[Job]) -> None:
            for job in mine:
                has_returned = is_closed.is_set()
                sent = to(job, next_of(job, state=JobState.SENDING), needs=(OpenGate(QUEUE),))
                result = await write(handle, sent)
                after.extend(result if has_returned else ())

        async with anyio.create_task_group() as group:
            group.start_soon(work, store, jobs[:30])
            group.start_soon(work, other, jobs[30:])
            await write(other, gated(GateState.HELD))
            is_closed.set()
        assert set(after) == {NOT_FREE}

    # 10. server and known

    async def test_for_another_server_nothing_is_written(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        server = (await store.write(Step(units=()), now=NOW)).server
        sent = to(job, next_of(job, state=JobState.SENDING), puts=(put("a"),))
        assert await write(store, sent, server=f"not {server}") == [Result.UNVETTED]
        assert await job_of(store, job) == job
        assert await held(store) == {}
        assert await write(store, sent, server=server) == [DONE]
        assert await write(store, sent, server=f"not {server}") == [DONE]

    async def test_without_what_the_store_certainly_had_nothing_is_written(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(4))
        sent = [next_of(job, state=JobState.SENDING) for job in jobs]

        def entry(place: int) -> Unit:
            return to(jobs[place], sent[place], puts=(put("posted", sent[place].revision),))

        first = Same("n", "posted", None)
        assert await write(store, entry(0), entry(1), known=first) == [DONE, DONE]
        assert await write(store, entry(0), entry(1), known=first) == [DONE, DONE]
        known = Same("n", "posted", sent[1].revision)
        forgotten = Same("n", "posted", "a token that the store has lost")
        assert await write(store, entry(2), known=forgotten) == [Result.UNVETTED]
        assert await job_of(store, jobs[2]) == jobs[2]
        assert await write(store, entry(2), known=known) == [DONE]
        assert await write(store, entry(3), known=known) == [Result.UNVETTED]

    # 11. Durability is tried by the crash tests of each backend; here, that both kinds are stored.

    async def test_a_step_that_is_not_durable_is_seen_by_all(self, store: Store, other: Store) -> None:
        assert await write(store, Unit(puts=(put("a"),)), durable=False) == [DONE]
        assert await held(other) == {"a": "v"}

    # 12. Events

    async def test_no_reader_is_passed_by_an_event(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(40))
        read: list[int] = []

        async def work(handle: Store, mine: list[Job]) -> None:
            for job in mine:
                ended = next_of(job, state=JobState.EXPIRED)
                await write(handle, to(job, ended, events=(told(ended), told(ended, EventKind.INCIDENT))))

        async def follow() -> None:
            while len(read) < 80:
                read.extend(event.sequence for event in await store.events(QUEUE, after=read[-1] if read else 0))
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                group.start_soon(work, store, jobs[:20])
                group.start_soon(work, other, jobs[20:])
        assert read == sorted(set(read))
        assert len(read) == 80

    # 13. Cancellation

    async def test_a_caller_that_gave_up_leaves_its_answer_to_nobody(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(30))
        for steps, job in enumerate(jobs):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    sent = to(job, next_of(job, state=JobState.SENDING))
                    group.start_soon(write, store, sent, sent)
                    for _ in range(steps % 10):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            unit = Unit(needs=(Absent("n", ("never",)),), puts=(put(job.id, f"v{steps}"),))
            assert await write(store, unit) == [DONE]
            assert list((await store.records({"n": [job.id]}, now=NOW))["n"]) == [Record(job.id, f"v{steps}", None)]

    async def test_a_change_needs_a_new_revision(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        with pytest.raises(ValueError, match="needs a new revision"):
            await write(store, to(job, replace(job, state=JobState.CANCELLED)))


class LeaseContract(Ground):
    """Leasing."""

    async def test_the_most_urgent_are_leased_first(self, store: Store) -> None:
        await stored(
            store,
            sample_job(1, due_at=NOW - MINUTE),
            sample_job(2, due_at=NOW),
            sample_job(3, priority=1),
            sample_job(4, due_at=NOW - MINUTE),
            sample_job(5, due_at=NOW + MINUTE),
            sample_job(6, queue="reminders"),
        )
        assert await leased(store, 2) == [3, 1]
        assert await leased(store) == [4, 2]
        assert await leased(store) == []
        assert await leased(store, now=NOW + MINUTE) == [5]

    async def test_a_leased_job_is_its_workers_until_the_lease_ends(self, store: Store, other: Store) -> None:
        job = (await stored(store, sample_job(batch_id="b")))[0]
        (mine,) = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + MINUTE, now=NOW)
        assert mine == replace(job, state=JobState.LEASED, worker_id="w", due_at=NOW + MINUTE, revision=mine.revision)
        assert mine.revision != job.revision
        assert await job_of(other, job) == mine
        assert await states(store) == await states(store, "b") == {"leased": 1}
        assert await write(store, to(job, next_of(job))) == [STALE]
        assert await write(store, to(mine, next_of(mine, state=JobState.QUEUED, due_at=NOW))) == [DONE]
        assert await leased(other) == [1]

    async def test_no_job_is_leased_twice(self, store: Store, other: Store) -> None:
        await stored(store, *sample_jobs(60))
        taken: list[int] = []

        async def take(handle: Store) -> None:
            while got := await leased(handle, 7):
                taken.extend(got)

        async with anyio.create_task_group() as group:
            for handle in (store, other, store, other):
                group.start_soon(take, handle)
        assert sorted(taken) == list(range(1, 61))

    async def test_a_closed_gate_keeps_its_jobs_back(self, store: Store) -> None:
        await stored(store, sample_job(1, batch_id="b"), sample_job(2, batch_id="c"), sample_job(3))
        await write(store, gated(GateState.HELD, until=NOW + MINUTE))
        assert await leased(store) == []
        await write(store, gated(GateState.OPEN), gated(GateState.HELD, batch="b"))
        await write(store, gated(GateState.CANCELLED, batch="c"))
        assert await leased(store, batch="b") == []
        assert await leased(store) == [3]
        await write(store, gated(GateState.OPEN, batch="b"))
        assert await leased(store) == [1]

    async def test_a_hold_ends_by_itself(self, store: Store) -> None:
        await stored(store, sample_job(1, batch_id="b"), sample_job(2))
        await write(store, gated(GateState.HELD, batch="b", until=NOW + MINUTE))
        assert await leased(store) == [2]
        assert await leased(store, now=NOW + MINUTE) == [1]

    async def test_many_held_calls_hide_nobody(self, store: Store) -> None:
        await stored(store, *sample_jobs(700, batch_id="b"), sample_job(701), sample_job(702, batch_id="c"))
        await write(store, gated(GateState.HELD, batch="b"))
        assert await leased(store) == [701, 702]
        await write(store, gated(GateState.OPEN, batch="b"))
        taken: list[int] = []
        while some := await leased(store, 400):
            taken += some
        assert taken == list(range(1, 701))

    async def test_a_batch_can_be_leased_alone(self, store: Store) -> None:
        await stored(store, sample_job(1, priority=5), sample_job(2, batch_id="b"), sample_job(3, batch_id="bb"))
        assert await leased(store, batch="b") == [2]

    async def test_what_is_no_longer_valid_is_left_to_the_sweep(self, store: Store) -> None:
        await stored(store, sample_job(1, valid_until=NOW), sample_job(2, valid_until=NOW + MINUTE))
        assert await leased(store) == [2]
        # A clock that was ahead is set back.
        await stored(store, sample_job(3, valid_until=NOW, due_at=NOW - 3 * MINUTE))
        assert await leased(store) == []
        assert await leased(store, now=NOW - 2 * MINUTE) == [3]

    async def test_no_more_calls_are_open_than_allowed(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(6))
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(max_active=3)),)))
        assert await leased(store) == [1, 2, 3]
        assert await leased(store) == []
        first = await job_of(store, jobs[0])
        assert first is not None
        sent = next_of(first, state=JobState.SENDING, active_until=NOW + MINUTE)
        await write(store, to(first, sent))
        assert await leased(store) == []
        assert await leased(store, now=NOW + MINUTE) == [4]
        await write(store, Unit(puts=(limits_put(QUEUE, Limits()),)))
        assert await leased(store) == [5, 6]

    async def test_a_limit_of_zero_leases_nothing(self, store: Store) -> None:
        await stored(store, sample_job())
        assert await leased(store, 0) == await leased(store, -1) == []


class TakeContract(Ground):
    """Departure times."""

    async def taken(self, store: Store, wanted: int, *, now: datetime = NOW, ahead: float = 1) -> list[float]:
        slots = await store.take(QUEUE, wanted=wanted, horizon=timedelta(seconds=ahead), now=now)
        return [round((time - NOW).total_seconds(), 3) for time in slots.times]

    async def test_without_a_rate_all_leave_now(self, store: Store) -> None:
        assert await self.taken(store, 3) == [0, 0, 0]
        assert await self.taken(store, 0) == []

    async def test_workers_share_the_rate(self, store: Store, other: Store) -> None:
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=2)),)))
        assert await self.taken(store, 2) == [0, 0.5]
        assert await self.taken(other, 5) == [1]
        slots = await store.take(QUEUE, wanted=1, horizon=timedelta(0), now=NOW)
        assert (slots.times, slots.next_at) == ((), NOW + timedelta(seconds=1.5))
        assert await self.taken(other, 1, now=NOW + MINUTE) == [60]

    async def test_a_burst_leaves_at_once(self, store: Store) -> None:
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=1, burst=3)),)))
        assert await self.taken(store, 5) == [0, 0, 0, 1]

    async def test_a_new_rate_counts_from_the_last_departure(self, store: Store) -> None:
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=1 / 3600)),)))
        assert await self.taken(store, 1) == [0]
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=10)),)))
        assert await self.taken(store, 3) == [0.1, 0.2, 0.3]
        # Other limits change no departure.
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=10, max_active=5)),)))
        assert await self.taken(store, 1) == [0.4]

    async def test_a_clock_that_was_set_back_stops_nobody_for_long(self, store: Store) -> None:
        await write(store, Unit(puts=(limits_put(QUEUE, Limits(rate=1)),)))
        await self.taken(store, 1, now=NOW + DAY)
        (first,) = (await store.take(QUEUE, wanted=1, horizon=timedelta(seconds=9), now=NOW)).times or (None,)
        later = await store.take(QUEUE, wanted=1, horizon=timedelta(seconds=9), now=NOW + timedelta(seconds=10))
        assert first is not None or later.times


class JobsContract(Ground):
    """Queries of jobs, and their end."""

    async def ids(self, store: Store, **query: Any) -> list[int]:
        found = await store.jobs(Query(queue=QUEUE, **query), now=NOW)
        return [int(job.id.rpartition(".")[2]) for job in found]

    async def test_jobs_are_found_by_each_field(self, store: Store) -> None:
        busy = Post(number=1, client_request_id="x", began_at=NOW, valid_until=NOW, verdict=VerdictKind.CREATED)
        await stored(
            store,
            sample_job(1, batch_id="b", unique_key="k1", due_at=NOW + MINUTE),
            sample_job(2, batch_id="b", state=JobState.SENDING, due_at=NOW, posts=(busy,), post_count=1),
            sample_job(3, unique_key="k3", valid_until=NOW, due_at=NOW - MINUTE),
            sample_job(4, destination="+6500000004", state=JobState.COMPLETED),
            sample_job(1, queue="reminders", batch_id="b", unique_key="k1"),
        )
        assert await self.ids(store) == [1, 2, 3, 4]
        assert await self.ids(store, order=Order.NEWEST) == [4, 3, 2, 1]
        assert await self.ids(store, order=Order.DUE) == [3, 2, 4, 1]
        assert sorted(await self.ids(store, order=Order.ANY)) == [1, 2, 3, 4]
        assert await self.ids(store, batch_id="b") == [1, 2]
        assert await self.ids(store, states=frozenset({JobState.SENDING, JobState.COMPLETED})) == [2, 4]
        assert await self.ids(store, destination="+6500000004") == [4]
        assert await self.ids(store, unique_keys=("k3", "k1", "unknown")) == [1, 3]
        assert await self.ids(store, ids=(sample_job(3).id, sample_job(9).id, sample_job(1).id)) == [1, 3]
        assert await self.ids(store, due_before=NOW) == [2, 3, 4]
        assert await self.ids(store, valid_before=NOW) == [3]
        assert await self.ids(store, states=frozenset({JobState.QUEUED}), batch_id="b") == [1]

    async def test_a_listing_goes_on_after_a_job(self, store: Store) -> None:
        await stored(store, *sample_jobs(5))
        assert await self.ids(store, after=sample_job(2).id, limit=2) == [3, 4]
        assert await self.ids(store, after=sample_job(3).id, order=Order.NEWEST) == [2, 1]
        assert await self.ids(store, limit=0) == []
        assert await self.ids(store, limit=None) == [1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match="needs an order by id"):
            await self.ids(store, after=sample_job(2).id, order=Order.DUE)

    async def test_a_deleted_job_leaves_its_key_and_nothing_about_the_person(self, store: Store) -> None:
        ended = sample_job(unique_key="k", state=JobState.COMPLETED, data={"name": "Tan"}, not_before=NOW)
        await stored(store, ended)
        gone = Unit(change=Delete(ended, NOW + DAY), tally=tally_change(ended, None))
        assert await write(store, gone) == [DONE]
        assert await job_of(store, ended) is None
        (grave,) = await store.jobs(Query(queue=QUEUE, unique_keys=("k",)), now=NOW)
        assert (grave.id, grave.state, grave.not_before) == (ended.id, ended.state, NOW)
        assert (grave.destination, grave.body, grave.source, grave.data) == ("", "", "", None)
        assert list(await store.jobs(Query(queue=QUEUE, unique_keys=("k",)), now=NOW + DAY)) == []

    async def test_a_job_that_has_changed_is_not_deleted(self, store: Store) -> None:
        job = (await stored(store, sample_job(state=JobState.COMPLETED)))[0]
        again = next_of(job, state=JobState.QUEUED)
        await write(store, to(job, again))
        assert await write(store, Unit(change=Delete(job, NOW), tally=tally_change(job, None))) == [STALE]
        assert await job_of(store, job) == again


class TotalsContract(Ground):
    """Counters."""

    async def test_counters_are_the_sums_of_what_units_carry(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(3, batch_id="b"), sample_job(4), sample_job(5, queue="reminders"))
        ended = next_of(jobs[0], state=JobState.COMPLETED)
        extra = {**tally_change(jobs[0], ended), "placed": 1, "outcome:BUSY": 2, "cost:EUR": -7}
        await write(other, to(jobs[0], ended, tally=extra))
        for batch, queued in (("b", 2), (None, 3)):
            totals = await store.totals(QUEUE, batch=batch)
            assert dict(totals.live) == {
                STATE + "queued": queued, STATE + "completed": 1, "placed": 1, "outcome:BUSY": 2, "cost:EUR": -7,
            }  # fmt: skip
            assert not totals.pruned
        assert not (await store.totals(QUEUE, batch="none")).live

    async def test_deleted_jobs_stay_in_the_totals_of_their_batch_while_it_has_jobs(self, store: Store) -> None:
        first, second = await stored(store, *sample_jobs(2, batch_id="b", state=JobState.COMPLETED))

        def delete(job: Job) -> Unit:
            return Unit(change=Delete(job, NOW), tally={**tally_change(job, None), "placed": -1})

        await write(store, Unit(change=None), to(first, next_of(first, revision="x"), tally={"placed": 1}))
        first = replace(first, revision="x")
        await write(store, delete(first))
        totals = await store.totals(QUEUE, batch="b")
        assert (dict(totals.live), dict(totals.pruned)) == (
            {STATE + "completed": 1}, {STATE + "completed": 1, "placed": 1},
        )  # fmt: skip
        assert dict((await store.totals(QUEUE)).live) == {STATE + "completed": 1}
        await write(store, Unit(change=Delete(second, NOW), tally=tally_change(second, None)))
        totals = await store.totals(QUEUE, batch="b")
        assert not totals.live
        assert not totals.pruned


class RecordsContract(Ground):
    """Reading records, and pruning them."""

    async def test_records_of_several_namespaces_are_read_at_once(self, store: Store) -> None:
        puts = (Put("a", "1", "x", None), Put("a", "2", "y", NOW + MINUTE), Put("b", "1", "z", None))
        await write(store, Unit(puts=puts))
        found = await store.records({"a": ["2", "none", "1"], "b": Page(), "c": ["1"]}, now=NOW)
        assert {name: list(records) for name, records in found.items()} == {
            "a": [Record("2", "y", NOW + MINUTE), Record("1", "x", None)], "b": [Record("1", "z", None)], "c": [],
        }  # fmt: skip
        assert list((await store.records({"a": ["1", "2"]}, now=NOW + MINUTE))["a"]) == [Record("1", "x", None)]

    async def test_a_page_goes_on_after_a_key(self, store: Store) -> None:
        await write(store, Unit(puts=(*(put(f"p{n}", str(n)) for n in range(5)), put("q"), put("o"))))

        async def page(prefix: str, after: str, limit: int) -> list[str]:
            found = await store.records({"n": Page(prefix, after, limit)}, now=NOW)
            return [record.key for record in found["n"]]

        assert await page("p", "", 2) == ["p0", "p1"]
        assert await page("p", "p1", 9) == ["p2", "p3", "p4"]
        assert await page("", "p4", 9) == ["q"]
        assert await page("p", "", 0) == []

    async def test_any_text_can_be_kept(self, store: Store) -> None:
        texts = ("", " ", "|", "\n\0", "é\U0001f600", '"', "x" * 5000)
        await write(store, Unit(puts=tuple(Put("any", f"k{text}", text, None) for text in texts)))
        found = await store.records({"any": [f"k{text}" for text in texts]}, now=NOW)
        assert [record.value for record in found["any"]] == list(texts)

    async def test_what_is_over_is_pruned_in_slices(self, store: Store) -> None:
        ended = sample_job(unique_key="k", state=JobState.COMPLETED)
        await stored(store, ended)
        gone = Unit(change=Delete(ended, NOW + MINUTE), tally=tally_change(ended, None), events=(told(ended),))
        await write(store, gone, Unit(puts=(put("a", ends_at=NOW + MINUTE), put("b", ends_at=NOW + DAY), put("c"))))
        assert await store.prune(QUEUE, now=NOW, events_before=NOW, limit=10) == 0
        assert await store.prune(QUEUE, now=NOW + MINUTE, events_before=NOW + MINUTE, limit=2) == 2
        assert await store.prune(QUEUE, now=NOW + MINUTE, events_before=NOW + MINUTE, limit=2) == 1
        assert await held(store) == {"b": "v", "c": "v"}
        assert list(await store.events(QUEUE)) == []
        assert await write(store, new(sample_job(2, unique_key="k"))) == [DONE]

    async def test_an_opened_gate_is_forgotten_after_a_while(self, store: Store) -> None:
        await write(store, gated(GateState.HELD), gated(GateState.OPEN))
        assert len(await held(store, namespace=GATES)) == 1
        assert await store.prune(QUEUE, now=NOW + OPEN_STAYS, events_before=NOW, limit=10) == 1
        assert list((await store.records({GATES: [gate_key(QUEUE, None)]}, now=NOW))[GATES]) == []


class EventsContract(Ground):
    """The outbox."""

    async def test_events_are_read_in_order_by_queue(self, store: Store) -> None:
        jobs = await stored(store, sample_job(1), sample_job(2), sample_job(3, queue="reminders"))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        await write(store, *(to(job, end, events=(told(end),)) for job, end in zip(jobs, ended, strict=True)))
        first, second = await store.events(QUEUE)
        assert (first.job_id, second.job_id) == (jobs[0].id, jobs[1].id)
        assert replace(first, sequence=0) == told(ended[0])
        assert 0 < first.sequence < second.sequence
        assert list(await store.events(QUEUE, after=first.sequence)) == [second]
        assert list(await store.events(QUEUE, limit=1)) == [first]

    async def test_no_sequence_is_given_twice_though_events_are_pruned(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        ended = next_of(job, state=JobState.EXPIRED)
        await write(store, to(job, ended, events=(told(ended),)))
        (first,) = await store.events(QUEUE)
        assert await store.prune(QUEUE, now=NOW, events_before=NOW + MINUTE, limit=10) == 1
        again = next_of(ended, state=JobState.QUEUED)
        await write(store, to(ended, again, events=(told(again),)))
        (second,) = await store.events(QUEUE)
        assert second.sequence > first.sequence


class WaitContract(Ground):
    """Waiting for changes."""

    async def count(self, store: Store) -> int:
        return await store.wait(QUEUE, seen=0, until=store.clock.now() + DAY)

    async def test_each_unit_that_wakes_the_queue_raises_its_count(self, store: Store, other: Store) -> None:
        with anyio.fail_after(30):
            seen = await self.count(store)
            assert seen > 0
            await stored(store, sample_job(1, queue="reminders"))
            await write(store, Unit(puts=(put("a"),)))
            assert await self.count(store) == seen
            for unit in (new(sample_job()), gated(GateState.OPEN)):
                await write(other, unit)
                after = await store.wait(QUEUE, seen=seen, until=store.clock.now() + DAY)
                assert after > seen
                seen = after

    async def test_a_waiting_task_is_woken(self, store: Store, other: Store) -> None:
        seen = await self.count(store)
        woken: list[int] = []

        async def wait() -> None:
            while not woken or woken[-1] == seen:
                woken.append(await store.wait(QUEUE, seen=seen, until=store.clock.now() + DAY))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await write(other, new(sample_job()))

    async def test_a_wait_without_a_change_ends(self, store: Store) -> None:
        seen = await self.count(store)
        until = store.clock.now() + timedelta(milliseconds=50)
        with anyio.fail_after(30):
            while store.clock.now() < until:
                assert await store.wait(QUEUE, seen=seen, until=until) == seen


class StoreContract(
    WriteContract,
    LeaseContract,
    TakeContract,
    JobsContract,
    TotalsContract,
    RecordsContract,
    EventsContract,
    WaitContract,
):
    """The whole contract."""
