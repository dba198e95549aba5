"""The contract of counters."""

from __future__ import annotations

from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.reads import AnyOf, Due, Expired, Waiting
from voiceflow_worker.core.ports.store import Delete, Store, Write, tally_change
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Post
from voiceflow_worker.model.jobs.totals import STATE
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

from .samples import NOW, QUEUE, Ground, sample_job, sample_jobs
from .writing import DAY, MICROSECOND, leased, next_of, results_of, stored, to

ODD_TEXTS = ('say "no"', "back\\slash", "nul\0", "half \ud800 pair", "Ünïcode ☎", "x" * 300, "{}[]:,|=")


def post(
    number: int = 1,
    *,
    status: SessionStatus | None = None,
    text: str = "",
    seconds: float | None = None,
    digits: str = "",
    answer: str | None = None,
) -> Post:
    """A POST that 8x8 accepted. With `status` or `text`, it has an outcome."""
    known = status is not None or text
    return Post(
        number=number,
        client_request_id=f"r.{number}",
        began_at=NOW,
        valid_until=NOW + DAY,
        verdict=VerdictKind.CREATED,
        outcome=Outcome(status=status, status_text=text, seconds=seconds) if known else None,
        presses=(KeyPress(at=NOW, menu="m", digits=digits, answer=answer),) if digits else (),
    )


class TotalsContract(Ground):
    """Counters."""

    async def test_counters_are_the_sums_of_what_writes_carry(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(3, batch_id="b"), sample_job(4), sample_job(5, queue="reminders"))
        ended = next_of(jobs[0], state=JobState.COMPLETED)
        extra = {**tally_change(jobs[0], ended), "placed": 1, "outcome:BUSY": 2, "answer:yes": -7}
        await results_of(other, to(jobs[0], ended, tally=extra))
        for batch, queued in (("b", 2), (None, 3)):
            totals = await totals_of(store, QUEUE, batch)
            assert dict(totals.live) == {
                STATE + "queued": queued, STATE + "completed": 1, "placed": 1, "outcome:BUSY": 2, "answer:yes": -7,
            }  # fmt: skip
        assert not (await totals_of(store, QUEUE, "none")).live

    async def test_a_deleted_job_leaves_the_totals_of_its_batch(self, store: Store) -> None:
        first, second = await stored(store, *sample_jobs(2, batch_id="b", state=JobState.COMPLETED))

        def delete(job: Job) -> Write:
            return Write(changes=(Delete(job, NOW, {**tally_change(job, None), "placed": -1}),))

        await results_of(store, Write(), to(first, next_of(first, revision="x"), tally={"placed": 1}))
        first = replace(first, revision="x")
        await results_of(store, delete(first))
        for batch in ("b", None):
            assert dict((await totals_of(store, QUEUE, batch)).live) == {STATE + "completed": 1}
        await results_of(store, Write(changes=(Delete(second, NOW, tally_change(second, None)),)))
        assert not (await totals_of(store, QUEUE, "b")).live

    async def test_a_deleted_job_without_a_batch_is_in_no_totals(self, store: Store) -> None:
        (job,) = await stored(store, sample_job(state=JobState.COMPLETED))
        await results_of(store, Write(changes=(Delete(job, NOW, tally_change(job, None)),)))
        assert not (await totals_of(store, QUEUE)).live

    async def test_all_that_8x8_may_tell_can_be_counted(self, store: Store) -> None:
        odd = [post(text=text, digits="1", answer=text) for text in ODD_TEXTS]
        odd += [post(text="x", seconds=seconds) for seconds in (1e300, float("inf"), -1.0, 0.0)]
        jobs = await stored(store, *(sample_job(at, batch_id="b", posts=(each,)) for at, each in enumerate(odd)))
        totals = await totals_of(store, QUEUE, "b")
        assert len(totals.answers) == len(ODD_TEXTS)
        assert sum(totals.outcomes.values()) == len(odd)
        await results_of(store, *(to(job, next_of(job, posts=())) for job in jobs))
        assert dict((await totals_of(store, QUEUE)).live) == {STATE + "queued": len(odd)}

    async def test_the_totals_of_several_batches_are_in_the_order_that_was_asked_for(self, store: Store) -> None:
        await stored(store, *sample_jobs(2, batch_id="b"), sample_job(3, batch_id="a"), sample_job(4))
        found = await store.totals(QUEUE, batches=["none", "b", None, "a"])
        assert [each.states[JobState.QUEUED] for each in found] == [0, 2, 4, 1]
        assert list(await store.totals(QUEUE, batches=[])) == []

    async def test_the_jobs_in_a_state_that_are_due_are_counted(self, store: Store) -> None:
        await stored(
            store,
            sample_job(1, batch_id="b", due_at=NOW - MICROSECOND),
            sample_job(2, batch_id="b", state=JobState.SENDING),
            sample_job(3, due_at=NOW + MICROSECOND, posts=(post(status=SessionStatus.BUSY),)),
            sample_job(4, due_at=NOW + DAY, state=JobState.COMPLETED),
            sample_job(5, queue="reminders"),
        )
        for by, wanted in (
            (NOW - DAY, {}), (NOW - MICROSECOND, {"queued": 1}), (NOW, {"queued": 1, "sending": 1}),
            (NOW + MICROSECOND, {"queued": 2, "sending": 1}), (NOW + DAY, {"queued": 2, "sending": 1, "completed": 1}),
        ):  # fmt: skip
            counted = {state.value: await store.count(Due(queue=QUEUE, state=state, by=by)) for state in JobState}
            assert {state: amount for state, amount in counted.items() if amount} == wanted, by
        for latest, batch, amount in (
            (NOW - DAY, "b", 0),
            (NOW, "b", 1),
            (None, "b", 1),
            (None, "no", 0),
            (None, "", 0),
        ):
            assert await store.count(Waiting(queue=QUEUE, batch=batch, by=latest, limit=0)) == amount, latest
        queued, sending = (Due(queue=QUEUE, state=state, by=NOW) for state in (JobState.QUEUED, JobState.SENDING))
        await stored(
            store, sample_job(6, due_at=NOW + DAY, valid_until=NOW), sample_job(7, due_at=NOW + DAY, valid_until=NOW)
        )
        for reads, amount in (
            ((replace(queued, limit=0), sending, replace(queued, state=JobState.LEASED)), 2),
            ((Expired(queue=QUEUE, at=NOW), replace(sending, by=NOW - MICROSECOND)), 1),
            ((Expired(queue=QUEUE, at=NOW - MICROSECOND), replace(queued, by=NOW - DAY)), 0),
        ):
            assert await store.count(AnyOf(reads)) == amount, reads
        assert await leased(store) == [1]
        for state in (JobState.QUEUED, JobState.LEASED):
            assert await store.count(Due(queue=QUEUE, state=state, by=NOW)) == 0, "it is due when its lease ends"
