"""What `write` promises. The numbers in comments are those of the sentences in `core/ports/store.py`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import anyio
import pytest
from msgspec import structs

from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.controls import gate_from, gates_open
from voiceflow_worker.core.ports.reads import ByKey, Expired, Listing, OfNumber
from voiceflow_worker.core.ports.store import (
    MOST_CHANGES,
    AtMost,
    Condition,
    Delete,
    Drop,
    Edit,
    EventKind,
    Guard,
    Insert,
    Mode,
    Owner,
    Record,
    Result,
    Same,
    Store,
    Write,
    WriteResult,
    tally_change,
)
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, Post

from .samples import NOW, QUEUE, Ground, full_job, sample_job, sample_jobs
from .writing import (
    DAY,
    DONE,
    EXISTS,
    MINUTE,
    NOT_FREE,
    STALE,
    answers,
    gated,
    held,
    job_of,
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


class WriteContract(Ground):
    """What `write` promises."""

    # 1. In order

    async def test_a_write_sees_what_the_earlier_ones_of_its_bulk_write_wrote(self, store: Store) -> None:
        job = sample_job(unique_key="k")
        again = sample_job(2, unique_key="k")
        sent = next_of(job, state=JobState.SENDING)
        writes = (
            new(job, puts=(put("lock", "one"),)),
            new(again),
            to(job, sent),
            Write(conditions=(AtMost("n", ("lock",), 0),), puts=(put("other"),)),
            Write(drops=(Drop("n", "lock", "one"),)),
            Write(conditions=(AtMost("n", ("lock",), 0),), puts=(put("late"),)),
        )
        assert await results_of(store, *writes) == [DONE, EXISTS, DONE, NOT_FREE, DONE, DONE]
        assert await held(store) == {"late": "v"}
        assert await job_of(store, job) == sent

    async def test_a_condition_that_several_writes_share_holds_for_each_as_the_records_are_then(
        self, store: Store
    ) -> None:
        is_free, is_taken = Same("n", "lock", None), Same("n", "lock", "one")
        writes = (
            new(sample_job(1), conditions=(is_free,)),
            new(sample_job(2), conditions=(is_free,)),
            Write(puts=(put("lock", "one"),)),
            new(sample_job(3), conditions=(is_free,)),
            new(sample_job(4), conditions=(is_taken,)),
            new(sample_job(5), conditions=(is_taken,)),
            Write(drops=(Drop("n", "lock", "one"),)),
            new(sample_job(6), conditions=(is_taken,)),
            new(sample_job(7), conditions=(is_free,)),
        )
        expected = [DONE, DONE, DONE, NOT_FREE, DONE, DONE, DONE, NOT_FREE, DONE]
        assert await results_of(store, *writes) == expected

    async def test_a_key_belongs_to_one_call_over_all_queues(self, store: Store) -> None:
        (owner,) = await stored(store, sample_job(1, unique_key="k"))
        other = sample_job(2, unique_key="k", queue="reminders")
        (refused,) = await answers(store, new(other))
        assert (refused.result, refused.owners) == (EXISTS, {other.id: Owner(owner.id, owner.body_digest, "queued")})
        ended = next_of(owner, state=JobState.CANCELLED)
        assert await results_of(store, to(owner, ended)) == [DONE]
        both = Write(changes=(Delete(ended, NOW + DAY, tally_change(ended, None)), Insert(other)))
        assert await results_of(store, both) == [EXISTS], "also while its owner is deleted"
        assert await results_of(store, Write(changes=(Delete(ended, NOW + DAY, tally_change(ended, None)),))) == [DONE]
        (refused,) = await answers(store, new(other))
        assert (refused.result, refused.owners[other.id].job_id) == (EXISTS, owner.id), "its tombstone has it"
        assert await results_of(store, new(other), now=NOW + DAY) == [DONE]

    async def test_an_edit_changes_priority_validity_and_body_and_not_the_key(self, store: Store) -> None:
        first, second, third = await stored(store, *(replace(sample_job(n), unique_key=f"k{n}") for n in (1, 2, 3)))
        edited = next_of(second, priority=7, valid_until=NOW + MINUTE, body='{"edited":true}', source="+6539999999")
        late = next_of(third, valid_until=NOW + DAY, priority=9, due_at=NOW + MINUTE)
        writes = [
            Write(changes=(Edit(old.revision, job),), wakes=QUEUE) for old, job in ((second, edited), (third, late))
        ]
        assert await results_of(store, *writes, *writes) == [DONE] * 4
        assert await job_of(store, second) == edited
        assert await leased(store, 1) == [2]
        assert await leased(store, now=NOW + MINUTE) == [3, 1]
        assert [job.id for job in await store.jobs(ByKey(("k2",)), now=NOW)] == [second.id]
        ends = next_of(first, valid_until=NOW)
        assert await results_of(store, Write(changes=(Edit("another", ends),))) == [STALE]

    async def test_an_edit_of_the_validity_decides_when_a_call_expires(self, store: Store) -> None:
        (job,) = await stored(store, sample_job(1, valid_until=NOW + DAY, batch_id="b"))
        sooner = next_of(job, valid_until=NOW + MINUTE)
        assert await results_of(store, Write(changes=(Edit(job.revision, sooner),))) == [DONE]
        assert await leased(store, now=NOW + MINUTE) == []
        expired = Expired(queue=QUEUE, at=NOW + MINUTE)
        assert await store.jobs(expired, now=NOW + MINUTE) == [sooner]
        for_ever = next_of(sooner, valid_until=None)
        assert await results_of(store, Write(changes=(Edit(sooner.revision, for_ever),))) == [DONE]
        assert await store.jobs(expired, now=NOW + MINUTE) == []
        assert await leased(store, now=NOW + DAY) == [1]

    async def test_an_edit_of_numbers_decides_by_which_of_them_a_call_is_found(self, store: Store) -> None:
        first, second, third = "+6587654321", "+6587654322", "+6587654323"

        async def found() -> dict[str, list[str]]:
            reads = {number: OfNumber(queue=QUEUE, number=number) for number in (first, second, third)}
            return {number: [job.id for job in await store.jobs(read, now=NOW)] for number, read in reads.items()}

        (job,) = await stored(store, sample_job(1, destination=first, further_numbers=(second,)))
        edited = next_of(job, destination=third, further_numbers=(second,))
        back = next_of(edited, destination=second, further_numbers=())
        writes = [
            Write(changes=(Edit(old.revision, new, {}, old.numbers),)) for old, new in ((job, edited), (edited, back))
        ]
        assert await results_of(store, writes[0], writes[0]) == [DONE, DONE]
        assert await found() == {first: [], second: [job.id], third: [job.id]}
        assert await job_of(store, job) == edited
        stale = next_of(job, destination=first)
        assert await results_of(store, Write(changes=(Edit(job.revision, stale, {}, job.numbers),))) == [STALE]
        again = next_of(back, destination=first)
        both = Write(changes=(Edit(back.revision, again, {}, back.numbers),))
        assert await results_of(store, writes[1], both) == [DONE, DONE], "twice in one bulk write"
        assert await found() == {first: [job.id], second: [], third: []}
        gone = Delete(again, NOW + DAY, tally_change(again, None))
        assert await results_of(store, Write(changes=(gone,))) == [DONE]
        assert await found() == {first: [], second: [], third: []}
        (later,) = await stored(store, sample_job(2, destination=third))
        assert await found() == {first: [], second: [], third: [later.id]}, "the next one has its place in a file"

    # 2. All or nothing

    async def test_of_a_refused_write_nothing_is_written(self, store: Store) -> None:
        job = (await stored(store, sample_job(batch_id="b")))[0]
        await results_of(store, Write(puts=(put("taken", "theirs"), put("kept"))))
        seen = await store.wait(QUEUE, seen=0, until=store.clock.now())
        whole: dict[str, Any] = {
            "puts": (put("more"),),
            "drops": (Drop("n", "kept", None),),
            "events": (told(job),),
            "conditions": (AtMost("n", ("free", "taken"), 0),),
            "wakes": QUEUE,
        }
        gone = next_of(job, revision="unknown")
        refused = [
            to(job, next_of(job, state=JobState.CANCELLED), **whole),
            replace(to(gone, next_of(gone)), **{**whole, "conditions": ()}),
            new(sample_job(2), **whole),
            Write(**whole),
            Write(changes=(Delete(job, NOW + DAY, tally_change(job, None)),), **whole),
        ]
        assert await results_of(store, *refused) == [NOT_FREE, STALE, NOT_FREE, NOT_FREE, NOT_FREE]
        assert await held(store) == {"taken": "theirs", "kept": "v"}
        assert list(await store.jobs(Listing(queue=QUEUE), now=NOW)) == [job]
        assert list(await store.events(QUEUE)) == []
        assert await states(store) == await states(store, "b") == {"queued": 1}
        assert await store.wait(QUEUE, seen=0, until=store.clock.now()) == seen

    async def test_a_condition_is_checked_before_the_writes_own_records_are_written(self, store: Store) -> None:
        write = Write(conditions=(AtMost("n", ("a", "b"), 0),), puts=(put("a"), put("a", member="1")))
        assert await results_of(store, write) == [DONE]
        assert await held(store) == {"a": "v", "a 1": "v"}

    async def test_a_move_stores_all_of_the_job(self, store: Store, other: Store) -> None:
        job = (await stored(store, sample_job(unique_key="k", batch_id="b", data={"name": "Tan", "list": 0})))[0]
        post = Post(number=1, client_request_id=f"{job.id}.1", began_at=NOW, valid_until=NOW, bridged=("+6590000001",))
        sent = next_of(job, state=JobState.SENDING, worker_id="w", active_until=NOW + DAY, posts=(post,), post_count=1)
        assert await results_of(store, to(job, sent)) == [DONE]
        assert await job_of(other, job) == sent

    @pytest.mark.parametrize("state", list(JobState))
    async def test_a_job_may_be_stored_in_any_state(self, store: Store, other: Store, state: JobState) -> None:
        """After a rollback of the store, a worker stores jobs again from its journal file. They may be in any state."""
        job = replace(full_job(), state=state)
        await stored(store, job)
        found = await job_of(other, job)
        assert found is not None
        for field in structs.fields(Job):
            assert getattr(found, field.name) == getattr(job, field.name), field.name
        assert await states(store) == {state.value: 1}
        assert bool(await leased(store, now=job.due_at)) == (state is JobState.QUEUED)
        if state is not JobState.QUEUED:
            assert await results_of(store, to(job, next_of(job, state=JobState.IN_DOUBT))) == [DONE]

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
        assert list(await store.jobs(ByKey((text,)), now=NOW)) == [job]
        assert list(await store.jobs(Listing(queue=QUEUE, batch=text), now=NOW)) == [job]

    @pytest.mark.parametrize("text", ["a\0", "\ud83d"], ids=["NUL", "half a pair"])
    async def test_a_text_that_no_store_keeps_is_refused_before_anything_is_written(
        self, store: Store, text: str
    ) -> None:
        for write in (
            new(sample_job(2, unique_key=text)), new(sample_job(2, batch_id=text)), Write(puts=(put(text),)),
            Write(puts=(put("a", text),)),
        ):  # fmt: skip
            with pytest.raises(InvalidInputError, match="which no store can keep"):
                await results_of(store, new(sample_job(1)), write)
        assert await held(store) == {}
        assert await states(store) == {}

    async def test_answers_with_odd_contents_are_stored(self, store: Store) -> None:
        """8x8 may send half a surrogate pair or a huge number in an answer or a summary. The job is stored anyway."""
        job = (await stored(store, sample_job()))[0]
        post = Post(number=1, client_request_id="x", began_at=NOW, valid_until=NOW, code=10**30, message="half: \ud83d")
        odd = next_of(job, posts=(post,), reason="\ud83d and \x00")
        assert await results_of(store, to(job, odd)) == [DONE]
        assert await job_of(store, job) == odd

    # 3. Answered alone

    async def test_a_refused_write_keeps_no_other_from_being_written(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(3))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        await results_of(store, to(jobs[1], next_of(jobs[1], state=JobState.CANCELLED)))
        assert await results_of(store, *map(to, jobs, ended)) == [DONE, STALE, DONE]
        assert await states(store) == {"expired": 2, "cancelled": 1}

    async def test_a_bulk_write_may_have_a_thousand_writes(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(1000))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        assert await results_of(store, *map(to, jobs, ended)) == [DONE] * 1000
        assert await states(store) == {"expired": 1000}

    # 4. Several changes

    async def test_of_several_changes_one_refusal_refuses_all(self, store: Store) -> None:
        job, other = await stored(store, sample_job(), sample_job(9, unique_key="k"))
        fine = new(sample_job(2, batch_id="b"), puts=(put("a"),), events=(told(job),))
        moved = to(job, next_of(job, state=JobState.CANCELLED))
        gone = next_of(other, revision="unknown")
        for refused, result in (
            (Write(conditions=(Same("n", "a", "v"),)), NOT_FREE),
            (to(gone, next_of(gone)), STALE),
            (new(sample_job(3, unique_key="k")), EXISTS),
        ):
            assert await results_of(store, all_or_none((fine, moved, refused))) == [result]
            assert await held(store) == {}
            assert {each.id: each for each in await store.jobs(Listing(queue=QUEUE), now=NOW)} == {
                job.id: job, other.id: other,
            }  # fmt: skip
            assert list(await store.events(QUEUE)) == []
            assert (await states(store), await states(store, "b")) == ({"queued": 2}, {})
        whole = all_or_none((fine, moved, Write(changes=(Delete(other, None, tally_change(other, None)),))))
        assert await results_of(store, whole, whole, all_or_none((moved, new(sample_job(4))))) == [DONE, DONE, DONE]
        assert (await held(store), await states(store)) == ({"a": "v"}, {"queued": 1, "cancelled": 1})
        assert [event.job_id for event in await store.events(QUEUE)] == [job.id]

    async def test_the_owners_of_all_keys_that_are_taken_are_told(self, store: Store) -> None:
        owners = await stored(store, *(sample_job(n, unique_key=f"k{n}") for n in (1, 2)))
        jobs = [sample_job(n, unique_key=f"k{n - 10}") for n in (11, 12, 13)]
        (answer,) = await answers(store, all_or_none([new(job) for job in jobs]))
        assert {new: owner.job_id for new, owner in answer.owners.items()} == {
            job.id: owner.id for job, owner in zip(jobs[:2], owners, strict=True)
        }

    async def test_a_write_has_a_thousand_changes_and_no_more_and_each_job_and_key_once(self, store: Store) -> None:
        writes = [new(job) for job in sample_jobs(MOST_CHANGES + 1)]
        job = sample_job(1, unique_key="k")
        for wrong, said in (
            (writes, "too long"),
            ([new(job), to(job, next_of(job))], "each job once"),
            ([new(job), new(sample_job(2, unique_key="k"))], "each unique key once"),
        ):
            with pytest.raises(ValueError, match=said):
                await results_of(store, all_or_none(wrong))
        assert await results_of(store, all_or_none(writes[:-1])) == [DONE]
        assert await states(store) == {"queued": MOST_CHANGES}

    # 5. Why it is not free

    async def test_a_failed_condition_tells_its_key_its_value_and_its_end(self, store: Store) -> None:
        hold = gated(GateState.HELD, batch="b", until=NOW + DAY)
        await results_of(store, hold, Write(puts=(put("a", "q.j.1 more", NOW + MINUTE), put("b", "x"))))
        taken = AtMost("n", ("c", "a"), 0)
        wrong = Same("n", "b", "y")
        gone = Same("n", "a", "q.j.1 more", "y")
        shut = gates_open(QUEUE, "b")[1]
        found = await answers(store, *(Write(conditions=(condition,)) for condition in (taken, wrong, gone, shut)))
        assert [each.result for each in found] == [NOT_FREE] * 4
        assert [each.condition for each in found] == [taken, wrong, gone, shut]
        assert found[0].record == Record("a", "q.j.1 more", NOW + MINUTE)
        assert found[1].record == Record("b", "x", None)
        assert found[2].record is None
        assert found[3].record is not None
        assert gate_from(found[3].record) == Gate.of(
            QUEUE, "b", GateState.HELD, since=NOW, until=NOW + DAY, reason="a reason"
        )

    async def test_the_first_failed_condition_is_told(self, store: Store) -> None:
        await results_of(store, Write(puts=(put("a"), put("b"))))
        conditions = (AtMost("n", ("c",), 0), AtMost("n", ("b",), 0), AtMost("n", ("a",), 0))
        (answer,) = await answers(store, Write(conditions=conditions))
        assert answer.condition == conditions[1]

    async def test_a_limit_tells_the_record_with_whose_end_it_holds_again(self, store: Store) -> None:
        ends = (NOW + 3 * MINUTE, NOW + MINUTE, None, NOW + 2 * MINUTE)
        await results_of(store, Write(puts=tuple(put("p", "v", end, member=f"{n}") for n, end in enumerate(ends))))
        for most, end in ((3, NOW + MINUTE), (2, NOW + 2 * MINUTE), (1, NOW + 3 * MINUTE), (0, None)):
            write = Write(conditions=(AtMost("n", ("p",), most),))
            (answer,) = await answers(store, write)
            assert answer.record is not None
            assert answer.record.ends_at == end
            if end is not None:
                assert await results_of(store, write, now=end) == [DONE]
        assert await results_of(store, Write(conditions=(AtMost("n", ("p",), 4),))) == [DONE]

    async def test_conditions_pass_over_the_records_of_their_owner_and_of_the_past(self, store: Store) -> None:
        records = (put("a", "q.j.1"), put("b", "q.j"), put("c", "q.jj.1"), put("d", "q.k.1", NOW + MINUTE, member="x"))
        await results_of(store, Write(puts=records))
        for key, owner, now, wanted in (
            ("a", "q.j", NOW, DONE), ("b", "q.j", NOW, DONE), ("c", "q.j", NOW, NOT_FREE), ("a", "q.j.1", NOW, DONE),
            ("d", "q.j", NOW, NOT_FREE), ("d", "q.k", NOW, DONE), ("d", None, NOW + MINUTE, DONE),
            ("a", None, NOW, NOT_FREE),
        ):  # fmt: skip
            write = Write(conditions=(AtMost("n", (key,), 0, owner),))
            assert await results_of(store, write, now=now) == [wanted], (key, owner)

    async def test_conditions_concern_whole_groups_and_no_others(self, store: Store) -> None:
        members = (put("a", member="x"), put("a", member="y"), put("a"), put("ab", member="x"), put("b y"), put("%"))
        await results_of(store, Write(puts=members))
        for group, most in (("a", 3), ("ab", 1), ("b", 0), ("_", 0), ("", 0), ("%", 1)):
            limits = [AtMost("n", (group,), most), *([AtMost("n", (group,), most - 1)] if most else [])]
            conditions: tuple[Condition, ...] = (*limits, AtMost("n", ("none", group), 0))
            found = await results_of(store, *(Write(conditions=(condition,)) for condition in conditions))
            assert found == ([DONE, NOT_FREE, NOT_FREE] if most else [DONE, DONE]), group
        drop = Drop("n", "a", "v", "y")
        swap = Write(conditions=(Same("n", "a", "v", "x"),), puts=(put("a", "w", member="x"),), drops=(drop,))
        assert await results_of(store, swap) == [DONE]
        assert await held(store) == {"a": "v", "a x": "w", "ab x": "v", "b y": "v", "%": "v"}

    async def test_a_closed_gate_refuses_and_an_open_one_does_not(self, store: Store) -> None:
        whole, batch = (Write(conditions=gates_open(QUEUE, each)) for each in (None, "b"))
        assert await results_of(store, whole, batch) == [DONE, DONE]
        await results_of(store, gated(GateState.HELD, until=NOW + MINUTE))
        assert await results_of(store, whole, batch) == [NOT_FREE, NOT_FREE]
        assert await results_of(store, whole, batch, now=NOW + MINUTE) == [DONE, DONE]
        await results_of(store, gated(GateState.OPEN))
        await results_of(store, gated(GateState.CANCELLED, batch="b"))
        assert await results_of(store, whole, batch) == [DONE, NOT_FREE]
        assert await results_of(store, whole, batch, now=NOW + 1000 * DAY) == [DONE, NOT_FREE]

    # 6. Who owns the key

    async def test_a_taken_key_tells_its_owner(self, store: Store) -> None:
        job = (await stored(store, sample_job(unique_key="k", body_digest="one")))[0]
        again = sample_job(2, unique_key="k", body_digest="two")
        ended = next_of(job, state=JobState.COMPLETED)
        before, _, after = await answers(store, new(again), to(job, ended), new(again))
        assert before == WriteResult(result=EXISTS, owners={again.id: Owner(job.id, "one", JobState.QUEUED)})
        assert after == WriteResult(result=EXISTS, owners={again.id: Owner(job.id, "one", JobState.COMPLETED)})
        await results_of(store, Write(changes=(Delete(ended, NOW + DAY, tally_change(ended, None)),)))
        (answer,) = await answers(store, new(sample_job(2, unique_key="k")))
        assert answer == WriteResult(result=EXISTS, owners={again.id: Owner(job.id, "one", JobState.COMPLETED)})
        assert await results_of(store, new(sample_job(2, unique_key="k")), now=NOW + DAY) == [DONE]

    async def test_of_many_who_store_a_call_under_one_key_one_does(self, store: Store, other: Store) -> None:
        results: list[Result] = []

        async def claim(handle: Store, number: int) -> None:
            results.extend(await results_of(handle, new(sample_job(number, unique_key="k"))))

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
            await results_of(store, Write(puts=(put(key, "old", was),)), Write(puts=(put(key, "new", now_ends, mode),)))
            found = await store.records({"n": [key]}, now=NOW)
            assert list(found["n"]) == [Record(key, value, ends)], (mode, was, now_ends)

    async def test_an_ended_record_stands_in_no_puts_way(self, store: Store) -> None:
        for mode in Mode:
            await results_of(store, Write(puts=(put(mode.value, "old", NOW + MINUTE),)))
            await results_of(store, Write(puts=(put(mode.value, "new", NOW + DAY, mode),)), now=NOW + MINUTE)
        assert await held(store, now=NOW + 2 * MINUTE) == {mode.value: "new" for mode in Mode}

    async def test_a_drop_deletes_a_record_that_has_its_value(self, store: Store) -> None:
        await results_of(store, Write(puts=(put("a", "mine"), put("b", "theirs"), put("c", "x"))))
        drops = (Drop("n", "a", "mine"), Drop("n", "b", "mine"), Drop("n", "c", None), Drop("n", "d", None))
        assert await results_of(store, Write(drops=drops)) == [DONE]
        assert await held(store) == {"b": "theirs"}

    # 8. Written again

    async def test_a_bulk_write_that_is_written_again_changes_counts_and_tells_nothing(self, store: Store) -> None:
        job, other_job = await stored(store, sample_job(1, batch_id="b"), sample_job(2, batch_id="b", unique_key="k"))
        sent = next_of(job, state=JobState.SENDING)
        ended = next_of(other_job, state=JobState.COMPLETED)
        await results_of(store, to(other_job, ended))
        writes = (
            new(sample_job(3, batch_id="b", unique_key="z"), conditions=(AtMost("n", ("lock",), 0),)),
            to(job, sent, puts=(put("lock", "q.j.1"),), events=(told(sent),), conditions=(AtMost("n", ("lock",), 0),)),
            Write(changes=(Delete(ended, NOW + DAY, tally_change(ended, None)),)),
            Write(conditions=(Same("n", "cas", None),), puts=(put("cas", "token 1"),)),
        )
        assert await results_of(store, *writes) == [DONE] * 4
        await results_of(store, Write(drops=(Drop("n", "lock", None),)))
        counted = await totals_of(store, QUEUE, "b")
        assert await results_of(store, *writes) == [DONE] * 4
        assert await totals_of(store, QUEUE, "b") == counted
        assert await held(store) == {"cas": "token 1"}
        assert len(await store.events(QUEUE)) == 1

    async def test_a_repeat_that_comes_after_a_later_write_changes_nothing(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        sent = next_of(job, state=JobState.SENDING)
        back = next_of(sent, state=JobState.QUEUED)
        first = (
            to(job, sent, puts=(put("lock", "one"),)),
            Write(conditions=(Same("n", "cas", None),), puts=(put("cas", "1"),)),
        )
        await results_of(store, *first)
        swap = Write(conditions=(Same("n", "cas", "1"),), puts=(put("cas", "2"),))
        await results_of(store, to(sent, back, drops=(Drop("n", "lock", "one"),)), swap)
        assert await results_of(store, *first) == [STALE, NOT_FREE]
        assert await job_of(store, job) == back
        assert await held(store) == {"cas": "2"}

    async def test_a_repeat_after_the_end_of_what_was_written_finds_nothing(self, store: Store) -> None:
        await results_of(store, Write(puts=(put("cas", "1"),)))
        write = Write(conditions=(Same("n", "cas", "1"),), puts=(put("cas", "2", NOW + MINUTE),))
        assert await results_of(store, write) == [DONE]
        assert await results_of(store, write) == [DONE]
        assert await results_of(store, write, now=NOW + 2 * MINUTE) == [NOT_FREE]

    async def test_of_many_who_compare_and_swap_one_wins_each_round(self, store: Store, other: Store) -> None:
        won: list[str] = []

        async def swap(handle: Store, name: str) -> None:
            write = Write(conditions=(Same("n", "turn", None),), puts=(put("turn", name),))
            if await results_of(handle, write) == [DONE]:
                won.append(name)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(swap, (store, other)[number % 2], f"w{number}")
        assert list((await held(store)).values()) == won

    # 9. Conditions hold at the commit

    async def test_two_writes_that_contradict_each_other_are_never_both_written(
        self, store: Store, other: Store
    ) -> None:
        """A bridge and a journal entry; two attempts for one place: whichever is second is refused."""
        for number in range(20):
            journal = Write(conditions=(AtMost("n", (f"beside {number}",), 0),), puts=(put(f"number {number}"),))
            bridge = Write(
                conditions=(AtMost("n", (f"number {number}",), 0),), puts=(put(f"beside {number}", member="x"),)
            )
            places = [
                Write(conditions=(AtMost("n", (f"p {number}",), 0),), puts=(put(f"p {number}", member=n),))
                for n in "ab"
            ]
            results: list[Result] = []

            async def one(handle: Store, *writes: Write, results: list[Result] = results) -> None:
                results += await results_of(handle, *writes)

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
                sent = to(job, next_of(job, state=JobState.SENDING), conditions=gates_open(QUEUE))
                result = await results_of(handle, sent)
                after.extend(result if has_returned else ())

        async with anyio.create_task_group() as group:
            group.start_soon(work, store, jobs[:30])
            group.start_soon(work, other, jobs[30:])
            await results_of(other, gated(GateState.HELD))
            is_closed.set()
        assert set(after) == {NOT_FREE}

    # 10. A guard

    async def test_for_another_server_nothing_is_written(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        sent = to(job, next_of(job, state=JobState.SENDING), puts=(put("a"),))
        known = Same("n", "posted", None)
        here, elsewhere = Guard(store.server, known), Guard(f"not {store.server}", known)
        assert await results_of(store, sent, guard=elsewhere) == [Result.NOT_VERIFIED]
        assert await job_of(store, job) == job
        assert await held(store) == {}
        assert await results_of(store, sent, guard=here) == [DONE]
        assert await results_of(store, sent, guard=elsewhere) == [DONE]

    async def test_without_what_the_store_certainly_had_nothing_is_written(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(4))
        sent = [next_of(job, state=JobState.SENDING) for job in jobs]

        def entry(place: int) -> Write:
            return to(jobs[place], sent[place], puts=(put("posted", sent[place].revision),))

        def guard(token: str | None) -> Guard:
            return Guard(store.server, Same("n", "posted", token))

        assert await results_of(store, entry(0), entry(1), guard=guard(None)) == [DONE, DONE]
        assert await results_of(store, entry(0), entry(1), guard=guard(None)) == [DONE, DONE]
        known = guard(sent[1].revision)
        assert await results_of(store, entry(2), guard=guard("a token that the store has lost")) == [
            Result.NOT_VERIFIED
        ]
        assert await job_of(store, jobs[2]) == jobs[2]
        assert await results_of(store, entry(2), guard=known) == [DONE]
        assert await results_of(store, entry(3), guard=known) == [Result.NOT_VERIFIED]

    # 11. Durability is tried by the crash tests of each backend; here, that both kinds are stored.

    @pytest.mark.parametrize("durable", [False, True])
    async def test_an_empty_bulk_write_is_answered(self, store: Store, *, durable: bool) -> None:
        assert await results_of(store, durable=durable) == []

    async def test_a_bulk_write_that_is_not_durable_is_seen_by_all(self, store: Store, other: Store) -> None:
        assert await results_of(store, Write(puts=(put("a"),)), durable=False) == [DONE]
        assert await held(other) == {"a": "v"}

    # 12. Events

    async def test_no_reader_is_passed_by_an_event(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(40))
        read: list[int] = []

        async def work(handle: Store, mine: list[Job]) -> None:
            for job in mine:
                ended = next_of(job, state=JobState.EXPIRED)
                await results_of(handle, to(job, ended, events=(told(ended), told(ended, EventKind.INCIDENT))))

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
                    group.start_soon(results_of, store, sent, sent)
                    for _ in range(steps % 10):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            write = Write(conditions=(AtMost("n", ("never",), 0),), puts=(put(job.id, f"v{steps}"),))
            assert await results_of(store, write) == [DONE]
            assert list((await store.records({"n": [job.id]}, now=NOW))["n"]) == [Record(job.id, f"v{steps}", None)]

    async def test_a_change_needs_a_new_revision(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        with pytest.raises(ValueError, match="needs a new revision"):
            await results_of(store, to(job, replace(job, state=JobState.CANCELLED)))
