"""The contract of `Jobs.enqueue`, `get` and `owners`."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, at_once, enqueued, moved, sample_job, sample_jobs
from voiceflow_worker.core.ports import KeyOwner, Query, Store
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Note, NoteKind, Post, RedialPolicy
from voiceflow_worker.model.reports.charge import Charge
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)

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


class EnqueueContract(Ground):
    """Tests of storing new jobs."""

    async def test_every_field_of_a_job_is_stored(self, store: Store) -> None:
        job = full_job()
        await store.jobs.enqueue([job], now=NOW)
        found = (await store.jobs.get([job.id]))[job.id]
        for field in fields(Job):
            assert getattr(found, field.name) == getattr(job, field.name), field.name
        assert found == job

    @pytest.mark.parametrize("state", list(JobState))
    async def test_a_job_may_be_stored_in_any_state(self, store: Store, state: JobState) -> None:
        """After a set-back of the store, a worker stores jobs again from its journal file. They may be in any state."""
        job = replace(full_job(), state=state)
        await store.jobs.enqueue([job], now=NOW)
        assert (await store.jobs.get([job.id]))[job.id] == job
        assert {each: count for each, count in (await store.jobs.count(job.queue)).items() if count} == {state: 1}
        assert list(await store.jobs.find(Query(queue=job.queue, states=frozenset({state})))) == [job]
        leased = await store.jobs.lease(job.queue, worker_id="w", limit=9, lease_for=HOUR, now=job.due_at)
        assert [each.id for each in leased] == ([job.id] if state is JobState.QUEUED else [])
        if not leased:
            assert await store.jobs.commit([moved(job, state=JobState.IN_DOUBT)]) == [True]

    async def test_optional_fields_stay_unset(self, store: Store) -> None:
        await store.jobs.enqueue([sample_job(revision="")], now=NOW)
        assert list((await store.jobs.get([sample_job().id])).values()) == [sample_job(revision="")]

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    async def test_a_body_is_stored_unchanged(self, store: Store, body: str) -> None:
        await store.jobs.enqueue([sample_job(body=body)], now=NOW)
        leased = await store.jobs.lease(QUEUE, worker_id="w", limit=1, lease_for=HOUR, now=NOW)
        assert leased[0].body == body
        assert (await store.jobs.get([leased[0].id]))[leased[0].id].body == body

    async def test_texts_are_stored_unchanged(self, store: Store) -> None:
        text = 'O\'Brien; "x" \\ %s ? 你好 👋 \n\t'
        job = await enqueued(store, unique_key=text, batch_id=text, reason=text, time_zone="Asia/Ho_Chi_Minh")
        assert list(await store.jobs.find(Query(queue=QUEUE, unique_key=text, batch_id=text))) == [job]

    async def test_answers_with_odd_contents_are_stored(self, store: Store) -> None:
        """8x8 may send half a surrogate pair or a huge number in an answer or a summary. The job is stored anyway."""
        job = await enqueued(store)
        post = Post(number=1, client_request_id=f"{job.id}.1", began_at=NOW, valid_until=NOW + HOUR)
        odd = Post(
            number=2, client_request_id="x", began_at=NOW, valid_until=NOW, code=10**30, message="half a pair: \ud83d"
        )
        move = moved(job, posts=(post, odd), reason="\ud83d and \x00")
        assert await store.jobs.commit([move]) == [True]
        assert (await store.jobs.get([job.id]))[job.id] == move.new

    async def test_the_results_have_the_order_of_the_jobs(self, store: Store) -> None:
        jobs = list(reversed(sample_jobs(200)))
        answers = await store.jobs.enqueue(jobs, now=NOW)
        assert [answer.job for answer in answers] == jobs
        assert all(answer.created for answer in answers)

    async def test_an_enqueue_without_jobs_is_allowed(self, store: Store) -> None:
        assert list(await store.jobs.enqueue([], now=NOW)) == []

    async def test_one_enqueue_takes_ten_thousand_jobs(self, store: Store) -> None:
        jobs = [sample_job(number, unique_key=f"row-{number}", batch_id="campaign") for number in range(10_000)]
        answers = await store.jobs.enqueue(jobs, now=NOW)
        assert sum(answer.created for answer in answers) == 10_000
        assert (await store.jobs.count(QUEUE, batch_id="campaign"))[JobState.QUEUED] == 10_000
        again = await store.jobs.enqueue(jobs[:9_000:1_000], now=NOW)
        assert [answer.job for answer in again] == jobs[:9_000:1_000]

    async def test_thousands_of_keys_that_are_taken_give_their_owners(self, store: Store) -> None:
        owners = [sample_job(number, unique_key=f"row-{number}") for number in range(2_500)]
        await store.jobs.enqueue(owners, now=NOW)
        others = [sample_job(5_000 + number, unique_key=f"row-{number}") for number in range(2_500)]
        answers = await store.jobs.enqueue([*others, sample_job(9_000)], now=NOW)
        assert [answer.created for answer in answers] == [*[False] * 2_500, True]
        assert [answer.job for answer in answers[:-1]] == owners

    async def test_unknown_ids_are_absent(self, store: Store) -> None:
        await store.jobs.enqueue([sample_job()], now=NOW)
        assert set(await store.jobs.get([sample_job(2).id, sample_job().id, "nonsense"])) == {sample_job().id}
        assert dict(await store.jobs.get([])) == {}

    async def test_a_key_that_is_taken_gives_its_owner_and_stores_nothing(self, store: Store) -> None:
        first, second = sample_job(1, unique_key="order-42"), sample_job(2, unique_key="order-42")
        await store.jobs.enqueue([first], now=NOW)
        [answer] = await store.jobs.enqueue([second], now=NOW)
        assert (answer.job, answer.created) == (first, False)
        assert dict(await store.jobs.get([second.id])) == {}

    async def test_the_owner_is_given_in_its_current_state(self, store: Store) -> None:
        first, second = sample_job(1, unique_key="order-42"), sample_job(2, unique_key="order-42")
        await store.jobs.enqueue([first], now=NOW)
        move = moved(first, state=JobState.COMPLETED)
        await store.jobs.commit([move])
        [answer] = await store.jobs.enqueue([second], now=NOW)
        assert answer.job == move.new

    async def test_a_key_is_unique_within_one_call(self, store: Store) -> None:
        first, second = sample_job(1, unique_key="order-42"), sample_job(2, unique_key="order-42")
        answers = await store.jobs.enqueue([first, second], now=NOW)
        assert [(answer.job, answer.created) for answer in answers] == [(first, True), (first, False)]
        assert dict(await store.jobs.get([second.id])) == {}

    async def test_a_key_is_unique_within_its_queue_only(self, store: Store) -> None:
        here, there = sample_job(unique_key="order-42"), sample_job(unique_key="order-42", queue="reminders")
        answers = await store.jobs.enqueue([here], now=NOW), await store.jobs.enqueue([there], now=NOW)
        assert [answer[0].created for answer in answers] == [True, True]

    async def test_jobs_without_a_key_are_never_duplicates(self, store: Store) -> None:
        answers = await store.jobs.enqueue(sample_jobs(3), now=NOW)
        assert [answer.created for answer in answers] == [True, True, True]

    async def test_a_key_with_another_body_stores_no_job_of_the_call(self, store: Store) -> None:
        owner = await enqueued(store, 1, unique_key="order-42")
        good, bad = sample_job(2, unique_key="order-43"), sample_job(3, unique_key="order-42", body_digest="another")
        with pytest.raises(KeyConflictError) as caught:
            await store.jobs.enqueue([good, bad, sample_job(4)], now=NOW)
        assert [(c.index, c.unique_key, c.owner_id) for c in caught.value.conflicts] == [(1, "order-42", owner.id)]
        assert list(await store.jobs.find(Query(queue=QUEUE))) == [owner]
        assert dict(await store.jobs.owners(QUEUE, ["order-43"], now=NOW)) == {}

    async def test_the_error_names_every_conflict(self, store: Store) -> None:
        await store.jobs.enqueue([sample_job(1, unique_key="a"), sample_job(2, unique_key="b")], now=NOW)
        others = [sample_job(number, unique_key=key, body_digest="x") for number, key in enumerate("acb", 3)]
        with pytest.raises(KeyConflictError) as caught:
            await store.jobs.enqueue(others, now=NOW)
        assert [(c.index, c.unique_key) for c in caught.value.conflicts] == [(0, "a"), (2, "b")]

    async def test_two_bodies_for_one_key_in_one_call_store_no_job(self, store: Store) -> None:
        first, second = sample_job(1, unique_key="k"), sample_job(2, unique_key="k", body_digest="another")
        with pytest.raises(KeyConflictError):
            await store.jobs.enqueue([first, second], now=NOW)
        assert sum((await store.jobs.count(QUEUE)).values()) == 0

    async def test_a_repeated_enqueue_gives_the_same_answer(self, store: Store) -> None:
        """If the answer to an enqueue is lost, the same enqueue again returns the same answer."""
        jobs = [sample_job(1, unique_key="k"), sample_job(2)]
        await store.jobs.enqueue(jobs, now=NOW)
        answers = await store.jobs.enqueue(jobs, now=NOW)
        assert [(answer.job, answer.created) for answer in answers] == [(jobs[0], True), (jobs[1], True)]
        assert sum((await store.jobs.count(QUEUE)).values()) == 2

    async def test_a_repeated_enqueue_does_not_undo_moves(self, store: Store) -> None:
        job = await enqueued(store)
        move = moved(job, state=JobState.COMPLETED)
        await store.jobs.commit([move])
        [answer] = await store.jobs.enqueue([job], now=NOW)
        assert answer.job == move.new
        assert (await store.jobs.get([job.id]))[job.id] == move.new

    async def test_one_of_several_concurrent_enqueues_gets_the_key(self, store: Store, other: Store) -> None:
        created: list[Job] = []

        async def claim(handle: Store, number: int) -> None:
            [answer] = await handle.jobs.enqueue([sample_job(number, unique_key="order-42")], now=NOW)
            if answer.created:
                created.append(answer.job)

        await at_once(20, claim, store, other)
        assert list(await store.jobs.find(Query(queue=QUEUE))) == created
        assert len(created) == 1

    async def test_owners_gives_the_jobs_that_own_keys(self, store: Store) -> None:
        job = await enqueued(store, unique_key="taken", body_digest="its digest")
        await store.jobs.commit([moved(job, state=JobState.SUBMITTED)])
        owners = await store.jobs.owners(QUEUE, ["taken", "free"], now=NOW)
        assert dict(owners) == {"taken": KeyOwner(job.id, "its digest", JobState.SUBMITTED)}
        assert dict(await store.jobs.owners("reminders", ["taken"], now=NOW)) == {}


def full_job() -> Job:
    """A job in which every field differs from its default."""
    outcome = Outcome(
        status=SessionStatus.NO_ANSWER,
        status_text="No Answer",
        code=-2001,
        message="ni hao 你好",
        session_id="session-1",
        started_at=NOW + MICROSECOND,
        ended_at=NOW + HOUR,
        seconds=12.5,
        last_action="sayAndCapture",
        legs=(CallLeg(call_id="call-1", initiated_at=NOW, seconds=1.5, mos=4.1, jitter_ms=2.0), CallLeg()),
    )
    unknown = Outcome(status=None, status_text="SOMETHING_NEW")
    posts = tuple(
        Post(
            number=number,
            client_request_id=f"default.1.{number}",
            began_at=NOW + number * MICROSECOND,
            valid_until=NOW + HOUR,
            redial=1,
            answered_at=NOW + HOUR,
            verdict=verdict,
            code=-1015,
            message="Created",
            session_id="session-1",
            outcome=(outcome, unknown, None)[number % 3],
            outcome_known_at=NOW + HOUR,
            presses=(KeyPress(at=NOW, menu="main", digits="12#", event_id="event-1"),) * (number % 2),
            charge=Charge(price=Decimal("0.0400"), currency="USD", billed_seconds=60.0),
        )
        for number, verdict in enumerate([*VerdictKind, None], 1)
    )
    return sample_job(
        state=JobState.SUBMITTED,
        due_at=NOW + 7 * MICROSECOND,
        revision="a revision",
        worker_id="worker-1",
        priority=-5,
        batch_id="batch",
        unique_key="key",
        valid_until=NOW + HOUR + MICROSECOND,
        active_until=NOW + 2 * HOUR,
        not_before=NOW - HOUR,
        time_zone="Asia/Singapore",
        reason="redial after BUSY",
        data={"name": "Ana", "table": 4, "vip": True, "note": None},
        menu="main",
        failures=3,
        missed_windows=2,
        post_count=17,
        redials=1,
        redial=RedialPolicy(
            on=frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), limit=2, after=30 * MICROSECOND
        ),
        window=CallWindow.parse("09:00-12:00,14:00-20:00", days="mon-fri,sun", holidays="SG,DE-BY"),
        posts=posts,
        notes=tuple(Note(at=NOW, kind=kind, text=f"a note: {kind.value}") for kind in NoteKind),
    )  # fmt: skip
