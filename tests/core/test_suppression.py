"""The suppression list holds in every queue, through crashes, and whichever process has the call."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, JobState
from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.audit import Actor, entries_on
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError, SuppressedNumberError
from voiceflow_worker.model.jobs.job import ReasonKind, RedialPolicy
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus
from voiceflow_worker.queue import CallQueue

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANA = "+6587654321"


@pytest.fixture
def here(any_store: Store, voice: ScriptedVoice) -> Engine:
    return Engine(any_store, voice)


@pytest.fixture
def there(any_store: Store, voice: ScriptedVoice) -> Engine:
    """Another queue of the same store."""
    return Engine(any_store, voice, queue="offers")


@pytest.fixture
def listed(any_store: Store) -> SuppressionList:
    return SuppressionList(any_store)


async def on_the_list(listed: SuppressionList) -> list[str]:
    return [entry.number for entry in await listed.scan()]


async def asked_to_be_left_alone(engine: Engine, status: SessionStatus = SessionStatus.COMPLETED_UNSUBSCRIBED) -> Job:
    """A call to Ana in which she says so."""
    job = await engine.enqueue(ANA)
    (submitted,) = await engine.send()
    assert submitted.id == job.id
    assert await engine.summarise(job, status) is SummaryResult.SETTLED
    return await engine.queue.get(job.id)


class TestAnOptOut:
    @pytest.mark.parametrize("status", sorted(OPT_OUTS))
    async def test_puts_the_number_on_the_list_for_good(
        self, here: Engine, listed: SuppressionList, clock: ManualClock, status: SessionStatus
    ) -> None:
        at = clock.now()
        job = await asked_to_be_left_alone(here, status)
        assert job.state in {JobState.COMPLETED, JobState.UNREACHED}
        clock.advance(timedelta(days=3000))
        (entry,) = await listed.scan()
        assert (entry.number, entry.since, entry.job_id, entry.until) == (ANA, at, job.id, None)
        assert status.value in entry.reason

    async def test_ends_the_calls_of_its_queue_that_wait_for_this_number_at_once(
        self, here: Engine, clock: ManualClock
    ) -> None:
        job = await here.enqueue(ANA)
        (dispatch,) = await here.prepare()
        later = await here.queue.enqueue(flow(ANA, "Later."), not_before=clock.now() + HOUR)
        other = await here.queue.enqueue(flow(number(1)), not_before=clock.now() + HOUR)
        await here.finish(dispatch)
        await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED)
        ended = await here.queue.get(later.id)
        assert ended.state is JobState.CANCELLED
        assert ended.reason is not None
        assert "suppression list" in ended.reason
        assert job.id in ended.reason
        assert await here.state(other) == "queued"

    async def test_ends_a_call_that_waits_for_its_slot(
        self, here: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        job = await here.enqueue(ANA)
        await here.suppress_before_slot(ANA, reason="asked us", clock=clock)
        assert voice.placed == []
        ended = await here.queue.get(job.id)
        assert ended.state is JobState.CANCELLED
        assert "asked us" in str(ended.reason)

    async def test_leaves_asking_again_with_the_key_of_the_call_safe(self, here: Engine) -> None:
        made = await here.enqueue(ANA, unique_key="order-42")
        await here.send()
        await here.summarise(made, SessionStatus.COMPLETED_UNSUBSCRIBED)
        assert (await here.enqueue(ANA, unique_key="order-42")).id == made.id
        with pytest.raises(SuppressedNumberError):
            await here.enqueue(ANA, unique_key="order-43")

    async def test_ends_the_calls_of_other_queues_at_once_where_a_worker_ever_was(
        self, here: Engine, there: Engine, any_store: Store
    ) -> None:
        await QueueNames(any_store).remember("offers")
        waiting = await there.enqueue(ANA)
        other = await there.enqueue(number(1))
        job = await asked_to_be_left_alone(here)
        ended = await there.queue.get(waiting.id)
        assert (ended.state, ended.posts) == (JobState.CANCELLED, ())
        assert job.id in str(ended.reason)
        assert await there.state(other) == "queued"

    async def test_ends_a_call_of_another_queue_that_a_worker_holds_already(
        self, here: Engine, there: Engine, voice: ScriptedVoice
    ) -> None:
        """Only the look at the list just before the journal can catch this one."""
        elsewhere = await there.enqueue(ANA)
        leased = await there.lease()
        await asked_to_be_left_alone(here)
        dispatches = await there.submitter.prepare(leased, leased_at=there.store.clock.monotonic())
        for dispatch in dispatches:
            await there.finish(dispatch)
        ended = await there.queue.get(elsewhere.id)
        assert (ended.state, ended.posts) == (JobState.CANCELLED, ())
        assert len(voice.placed) == 1, "a person who asked to be left alone was called"

    async def test_that_is_repeated_after_a_person_took_the_number_off_changes_nothing(
        self, here: Engine, listed: SuppressionList
    ) -> None:
        job = await asked_to_be_left_alone(here)
        assert await listed.remove("+65 8765 4321") == [ANA]
        asked_back = await here.enqueue(ANA, unique_key="asked to be called")
        assert await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED) is SummaryResult.REPEATED
        assert await on_the_list(listed) == []
        assert await here.state(asked_back) == "queued"

    async def test_that_was_parked_counts_too(self, here: Engine, listed: SuppressionList) -> None:
        job = await here.enqueue(ANA)
        await here.journal()
        parked = await here.summarise(
            job, SessionStatus.COMPLETED_UNSUBSCRIBED, session_id="s-1", with_client_request_id=False
        )
        assert parked is SummaryResult.EARLY
        assert await on_the_list(listed) == []
        await text_records(here.store, "session").put({"s-1": f"{job.id}.1"})
        await here.sweeper.sweep()
        assert await here.state(job) == "completed"
        assert await on_the_list(listed) == [ANA]


class TestEnqueue:
    async def test_refuses_a_number_on_the_list_and_says_why(self, here: Engine, listed: SuppressionList) -> None:
        await listed.add(ANA, reason="asked by mail")
        with pytest.raises(SuppressedNumberError, match=r"\+6587654321 is not called: .*asked by mail") as refused:
            await here.enqueue(ANA)
        assert [each.index for each in refused.value.suppressed] == [0]
        assert (await here.queue.status()).total == 0

    async def test_of_many_tells_every_one_and_stores_none(self, here: Engine, listed: SuppressionList) -> None:
        await listed.add(number(1), number(3))
        with pytest.raises(SuppressedNumberError) as refused:
            await here.queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(5)])
        assert [(each.index, each.number) for each in refused.value.suppressed] == [(1, number(1)), (3, number(3))]
        assert (await here.queue.status()).total == 0

    async def test_takes_a_call_for_after_the_end_of_a_suppression(
        self, here: Engine, listed: SuppressionList, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        await listed.add(ANA, until=clock.now() + HOUR)
        with pytest.raises(SuppressedNumberError):
            await here.enqueue(ANA)
        await here.queue.enqueue(flow(ANA), not_before=clock.now() + HOUR)
        clock.advance(HOUR)
        assert len(await here.send()) == 1
        assert len(voice.placed) == 1

    @pytest.mark.parametrize("ends_before", [False, True], ids=["a new one", "one that would end before the call"])
    async def test_heeds_an_opt_out_that_comes_between_two_bulk_writes(
        self, any_store: Store, listed: SuppressionList, clock: ManualClock, ends_before: bool
    ) -> None:
        writes = 0

        async def before(call: StoreCall) -> None:
            nonlocal writes
            writes += call.name == "write"
            if call.name == "write" and writes == 1 + ends_before:
                await listed.add(ANA, reason="asked just now")

        if ends_before:
            await listed.add(ANA, until=clock.now() + HOUR, reason="on holiday")
        queue = CallQueue(FaultyStore(any_store, before=before))
        with pytest.raises(SuppressedNumberError, match="asked just now"):
            await queue.enqueue(flow(ANA), not_before=clock.now() + 2 * HOUR, batch_id="spring")
        assert await queue.find() == []


class TestTheList:
    async def test_holds_numbers_in_the_form_of_destinations(self, listed: SuppressionList) -> None:
        added = await listed.add("8765 4321", "0065 8765-4322", "+65 8765 4323", country="SG", reason="asked")
        assert sorted(added) == ["+6587654321", "+6587654322", "+6587654323"]
        assert await on_the_list(listed) == sorted(added)
        found = await listed.find("+(65) 87654321", number(9))
        assert [(entry.number, entry.reason) for entry in found.values()] == [(ANA, "asked")]
        assert await listed.remove("8765 4321", number(9), country="SG") == [ANA]
        assert ANA not in await on_the_list(listed)

    async def test_takes_every_reading_of_an_uncertain_text_and_asks_before_it_takes_one_off(
        self, listed: SuppressionList
    ) -> None:
        added = await listed.add("001 60 4 262 1234", "87654321 / 22", country="SG")
        assert set(added) == {"+16042621234", "+6042621234", "+6587654321", "+6587654322"}
        with pytest.raises(PhoneNumberError, match=r"\+16042621234 .*\+6042621234"):
            await listed.remove("001 60 4 262 1234", country="SG")
        assert set(await on_the_list(listed)) == set(added)

    async def test_changes_nothing_for_a_text_that_is_not_a_number(self, listed: SuppressionList) -> None:
        with pytest.raises(PhoneNumberError):
            await listed.add(ANA, "nobody")
        assert await on_the_list(listed) == []

    async def test_is_never_shortened(self, listed: SuppressionList, clock: ManualClock) -> None:
        soon, late = clock.now() + HOUR, clock.now() + 2 * HOUR
        await listed.add(ANA, until=late, reason="holiday")
        assert (await listed.add(ANA, until=soon))[ANA].until == late
        later = clock.now() + 3 * HOUR
        assert (await listed.add(ANA, until=later))[ANA].until == later
        assert (await listed.add(ANA, reason="asked"))[ANA].until is None
        clock.advance(10 * HOUR)
        standing = await listed.add(ANA, until=clock.now() + HOUR, reason="holiday")
        assert (standing[ANA].until, standing[ANA].reason) == (None, "asked")

    async def test_is_taken_back_as_far_as_a_file_alone_made_it(
        self, listed: SuppressionList, clock: ManualClock
    ) -> None:
        mine, shared, added, before, shorter = map(number, range(5))
        await listed.add(before, reason="asked", until=clock.now() + HOUR)
        await listed.add(mine, shared, added, before, shorter, ANA, reason="CRM", file="a")
        await listed.add(mine, reason="CRM", file="a")
        await listed.add(shared, file="b")
        await listed.add(added, reason="asked")
        await listed.add(shorter, until=clock.now() + HOUR)
        assert set(await listed.take_back([mine, shared, added, before, shorter], file="c")) == set()
        assert set(await listed.take_back([mine, shared, added, before, shorter], file="a")) == {mine}
        assert set(await listed.take_back([mine, shared], file="b")) == set(), (
            "two files have it: only a person removes it"
        )
        assert await on_the_list(listed) == sorted([ANA, shared, added, before, shorter])
        clock.advance(10 * HOUR)
        assert await on_the_list(listed) == sorted([ANA, shared, added, before, shorter])
        assert await listed.remove(ANA) == [ANA]
        until = clock.now() + HOUR
        await listed.add(ANA, until=until, file="a")
        assert (await listed.find(ANA))[ANA].until == until
        assert await listed.take_back([ANA], file="a") == [ANA]

    async def test_a_person_who_opts_out_is_not_taken_back_with_a_file(
        self, here: Engine, listed: SuppressionList
    ) -> None:
        job = await here.enqueue(ANA)
        await here.send()
        await listed.add(ANA, reason="CRM", file="a")
        assert await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED) is SummaryResult.SETTLED
        assert await listed.take_back([ANA], file="a") == []
        (entry,) = await listed.scan()
        assert (entry.number, entry.job_id) == (ANA, job.id)

    async def test_refuses_an_end_that_has_passed(self, listed: SuppressionList, clock: ManualClock) -> None:
        with pytest.raises(InvalidInputError, match="future time"):
            await listed.add(ANA, until=clock.now())

    async def test_is_read_in_pages(self, listed: SuppressionList) -> None:
        await listed.add(*map(number, range(25)))
        first = await listed.scan(limit=20)
        rest = await listed.scan(after=first[-1].number, limit=20)
        assert [entry.number for entry in (*first, *rest)] == [number(place) for place in range(25)]


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("+4402079460958", "+442079460958"),
        ("+5215512345678", "+525512345678"),
        ("+541143211234", "+5491143211234"),
        ("+553187654321", "+5531987654321"),
        ("+22507123456", "+2250707123456"),
        ("+22997123456", "+2290197123456"),
        ("+841681234567", "+84381234567"),
        ("+24107123456", "+24177123456"),
        ("+5712281260", "+576012281260"),
        ("+3534890212345", "+442890212345"),
    ],
)
class TestOnePhoneOfTwoSpellings:
    """A 0 dialled within the country only, a mobile digit, a number of an old plan or another code is one phone."""

    async def test_is_not_called_when_either_is_on_the_list(
        self, here: Engine, listed: SuppressionList, voice: ScriptedVoice, written: str, usual: str
    ) -> None:
        for wanted, spelling in ((written, usual), (written, written), (usual, written)):
            for others in ((), map(number, range(1, 3))):  # with more numbers than calls, the calls are looked through
                job = await here.enqueue(wanted)
                await listed.add(spelling, *others)
                assert await here.state(job) == "cancelled", "it does not wait for its turn"
                await here.send()
                await listed.remove(spelling)
        assert voice.placed == []

    async def test_is_left_alone_in_both_by_one_opt_out(
        self, here: Engine, there: Engine, voice: ScriptedVoice, written: str, usual: str
    ) -> None:
        job = await here.enqueue(written)
        elsewhere = await there.enqueue(usual)
        await here.send()
        await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED)
        await there.send()
        assert await there.state(elsewhere) == "cancelled"
        assert len(voice.placed) == 1

    async def test_is_left_alone_for_as_long_as_the_longer_of_its_entries_says(
        self, here: Engine, listed: SuppressionList, clock: ManualClock, written: str, usual: str
    ) -> None:
        await listed.add(usual)
        await listed.add(written, until=clock.now() + HOUR)
        for spelling in (written, usual):
            with pytest.raises(SuppressedNumberError):
                await here.queue.enqueue(flow(spelling), not_before=clock.now() + 2 * HOUR)


async def test_whoever_is_put_on_the_list_has_no_waiting_call_any_more(
    here: Engine, there: Engine, any_store: Store, clock: ManualClock
) -> None:
    plan = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=2 * HOUR)
    again = await here.enqueue(ANA, batch_id="march", redial=plan)
    await here.send()
    await here.summarise(again, SessionStatus.BUSY)
    later = await here.queue.enqueue(flow(ANA, "Later."), batch_id="march", not_before=clock.now() + HOUR)
    second = await there.queue.enqueue(flow(number(1)), further_numbers=[ANA], batch_id="april")
    other = await there.enqueue(number(2))
    far = await there.queue.enqueue(flow(ANA, "Far."), not_before=clock.now() + 9 * HOUR)
    (held,) = [each for each in await there.lease() if each.id == second.id]
    listed = SuppressionList(any_store, by=Actor(on="command", login="mary"))
    await listed.add(ANA, reason="asked by mail", until=clock.now() + 5 * HOUR)
    states = [await here.state(job) for job in (again, later)] + [await there.state(job) for job in (held, other, far)]
    assert states == ["unreached", "cancelled", "cancelled", "leased", "queued"]
    for job, engine in ((again, here), (later, here), (second, there)):
        ended = await engine.queue.get(job.id)
        assert (ended.reason_kind, "(asked by mail), put there by mary" in str(ended.reason)) == (
            ReasonKind.SUPPRESSED,
            True,
        )
    (march,) = await entries_on(any_store, "default", batch="march")
    assert (march.action, march.who, march.on, set(march.numbers)) == ("suppress", "mary", "command", {ANA})
    assert march.result == "2 waiting calls ended"
    (april,) = await entries_on(any_store, "offers", batch="april")
    assert (april.result, april.numbers) == ("1 waiting call ended", (number(1),))
    await listed.add(ANA)
    assert await there.state(far) == "cancelled"


async def test_a_call_is_found_by_its_number_with_and_without_the_0_that_is_dialled_within_the_country(
    here: Engine,
) -> None:
    job = await here.enqueue("+4402079460958")
    for written in ("+4402079460958", "+442079460958"):
        assert [each.id for each in await here.queue.find(destination=written)] == [job.id]
