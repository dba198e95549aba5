"""The suppression list holds in every queue, for every telephone of a call, through crashes, whoever has the call."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine, ScriptedEngine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE, flow, number
from voiceflow_worker import CallFlow, CallPolicy, Job, JobState
from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.audit import Actor, entries_on
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writes import NUMBER, SECOND_PARTY
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError, SuppressedNumberError
from voiceflow_worker.model.jobs.job import ReasonKind, RedialPolicy
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus
from voiceflow_worker.queue import CallQueue

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
ANA, BEN = "+6587654321", number(1)
OPT_OUT = SessionStatus.COMPLETED_UNSUBSCRIBED


def bridge(first: str, second: str) -> CallFlow:
    words = CallFlow.call(first, source=SOURCE).say("You are connected.", voice_profile="en-IE-EmilyNeural")
    return words.then_call(second, source=SOURCE)


@pytest.fixture
def listed(any_store: Store) -> SuppressionList:
    return SuppressionList(any_store)


async def on_the_list(listed: SuppressionList) -> list[str]:
    return [entry.number for entry in await listed.scan()]


async def cancelled(engine: Engine, job: Job) -> str:
    """The reason of a call that was cancelled without a POST; nothing is locked for it any more."""
    ended = await engine.queue.get(job.id)
    found = await engine.store.records({NUMBER: Page(), SECOND_PARTY: Page()}, now=engine.store.clock.now())
    locks = [each for records in found.values() for each in records if each.value.startswith(job.id)]
    assert (ended.state, [post.verdict for post in ended.posts if post.may_have_rung], locks) == (
        JobState.CANCELLED, [], [],
    )  # fmt: skip
    return str(ended.reason)


class TestAnOptOut:
    @pytest.mark.parametrize("status", sorted(OPT_OUTS))
    async def test_puts_the_number_on_the_list_for_good(
        self, here: ScriptedEngine, listed: SuppressionList, status: SessionStatus
    ) -> None:
        at = here.clock.now()
        job = await here.called(ANA, status)
        assert job.state in {JobState.COMPLETED, JobState.UNREACHED}
        here.clock.advance(timedelta(days=3000))
        (entry,) = await listed.scan()
        assert (entry.number, entry.since, entry.job_id, entry.until) == (ANA, at, job.id, None)
        assert status.value in entry.reason

    async def test_ends_the_calls_of_all_known_queues_that_wait_for_this_number_at_once(
        self, here: ScriptedEngine, there: ScriptedEngine
    ) -> None:
        await QueueNames(here.store).remember("offers")
        job = await here.enqueue(ANA)
        (dispatch,) = await here.prepare()
        later = here.clock.now() + HOUR
        waiting = [await each.queue.enqueue(flow(ANA, "Later."), not_before=later) for each in (here, there)]
        others = [await each.queue.enqueue(flow(BEN), not_before=later) for each in (here, there)]
        await here.finish(dispatch)
        await here.summarise(job, OPT_OUT)
        for engine, ends, stays in zip((here, there), waiting, others, strict=True):
            reason = await cancelled(engine, ends)
            assert "suppression list" in reason
            assert job.id in reason
            assert await engine.state(stays) == "queued"

    async def test_ends_a_call_of_another_queue_that_a_worker_holds_already(
        self, here: ScriptedEngine, there: ScriptedEngine
    ) -> None:
        """Only the look at the list just before the journal can catch this one."""
        elsewhere = await there.enqueue(ANA)
        leased = await there.lease()
        await here.called(ANA, OPT_OUT)
        await there.finish(*await there.sender.prepare(leased, leased_at=there.clock.monotonic()))
        await cancelled(there, elsewhere)
        assert here.voice.rang == [ANA], "a person who asked to be left alone was called"

    async def test_leaves_asking_again_with_the_key_of_the_call_safe(self, here: ScriptedEngine) -> None:
        made = await here.called(ANA, OPT_OUT, unique_key="order-42")
        assert (await here.enqueue(ANA, unique_key="order-42")).id == made.id
        with pytest.raises(SuppressedNumberError):
            await here.enqueue(ANA, unique_key="order-43")

    async def test_that_is_repeated_after_a_person_took_the_number_off_changes_nothing(
        self, here: ScriptedEngine, listed: SuppressionList
    ) -> None:
        job = await here.called(ANA, OPT_OUT)
        assert await listed.remove("+65 8765 4321") == [ANA]
        asked_back = await here.enqueue(ANA, unique_key="asked to be called")
        assert await here.summarise(job, OPT_OUT) is SummaryResult.REPEATED
        assert (await on_the_list(listed), await here.state(asked_back)) == ([], "queued")

    async def test_that_was_parked_counts_too(self, here: ScriptedEngine, listed: SuppressionList) -> None:
        job = await here.enqueue(ANA)
        await here.journal()
        parked = await here.summarise(job, OPT_OUT, session_id="s-1", with_client_request_id=False)
        assert (parked, await on_the_list(listed)) == (SummaryResult.EARLY, [])
        await text_records(here.store, "session").put({"s-1": f"{job.id}.1"})
        await here.sweeper.sweep()
        assert (await here.state(job), await on_the_list(listed)) == ("completed", [ANA])

    async def test_is_of_the_number_that_was_called_and_is_not_taken_back_with_a_file(
        self, here: ScriptedEngine, listed: SuppressionList
    ) -> None:
        job = await here.called(BEN, SessionStatus.BUSY, further_numbers=[ANA])
        await here.send()
        await listed.add(ANA, reason="CRM", file="a")
        assert await here.summarise(job, OPT_OUT) is SummaryResult.SETTLED
        assert await listed.take_back([ANA], file="a") == []
        (entry,) = await listed.scan()
        assert (entry.number, entry.job_id) == (ANA, job.id)


TELEPHONES = {
    "its number": ("its number {} has been", flow(ANA), ()),
    "a further number": ("its number {} has been", flow(BEN), (number(2), ANA)),
    "its second party": ("its second party {} has been on the suppression list", bridge(BEN, ANA), ()),
}


@pytest.mark.parametrize("which", TELEPHONES)
async def test_nobody_is_called_with_a_telephone_on_the_list(
    here: ScriptedEngine, listed: SuppressionList, which: str
) -> None:
    said, words, further = TELEPHONES[which]
    job = await here.queue.enqueue(words, further_numbers=further)
    await listed.add(ANA, reason="asked by mail")
    assert (await here.send(), here.voice.placed) == ([], [])
    reason = await cancelled(here, job)
    assert which == "its number" or reason.startswith(said.format(ANA))
    assert "asked by mail" in reason
    with pytest.raises(SuppressedNumberError, match=r"\+6587654321 .*asked by mail") as refused:
        await here.queue.enqueue_many([CallRequest(flow(number(9))), CallRequest(words, further_numbers=further)])
    assert [(each.index, each.number) for each in refused.value.suppressed] == [(1, ANA)]
    assert (await here.queue.status()).total == 1


@pytest.mark.parametrize("shared", [frozenset[str](), frozenset({ANA.removeprefix("+")})])
@pytest.mark.parametrize("words", [flow(ANA), bridge(BEN, ANA)], ids=["its number", "its second party"])
async def test_who_is_put_on_the_list_while_the_call_waits_for_its_slot_is_not_called(
    any_store: Store, clock: ManualClock, words: CallFlow, shared: frozenset[str]
) -> None:
    here = ScriptedEngine(any_store, clock, policy=CallPolicy(shared_numbers=shared))
    job = await here.queue.enqueue(words)
    await here.suppress_before_slot(ANA, reason="asked us", clock=clock)
    assert here.voice.placed == []
    assert "asked us" in await cancelled(here, job)


class TestEnqueue:
    async def test_of_many_tells_every_one_and_stores_none(self, here: Engine, listed: SuppressionList) -> None:
        await listed.add(number(1), number(3))
        with pytest.raises(SuppressedNumberError) as refused:
            await here.queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(5)])
        assert [(each.index, each.number) for each in refused.value.suppressed] == [(1, number(1)), (3, number(3))]
        assert (await here.queue.status()).total == 0

    async def test_refuses_a_call_for_after_the_end_of_a_suppression_and_takes_it_then(
        self, here: ScriptedEngine, listed: SuppressionList
    ) -> None:
        await listed.add(ANA, until=here.clock.now() + HOUR)
        with pytest.raises(SuppressedNumberError):
            await here.enqueue(ANA, not_before=here.clock.now() + HOUR)
        here.clock.advance(HOUR)
        await here.enqueue(ANA)
        await here.send()
        assert here.voice.rang == [ANA]

    async def test_heeds_an_opt_out_that_comes_just_before_its_write(
        self, any_store: Store, listed: SuppressionList, clock: ManualClock
    ) -> None:
        async def before(call: StoreCall) -> None:
            if call.name == "write" and not await on_the_list(listed):
                await listed.add(ANA, reason="asked just now")

        queue = CallQueue(FaultyStore(any_store, before=before))
        with pytest.raises(SuppressedNumberError, match="asked just now"):
            await queue.enqueue(flow(ANA), not_before=clock.now() + HOUR, batch="spring")
        assert await queue.find() == []


class TestTheList:
    async def test_holds_numbers_in_the_form_of_destinations(self, listed: SuppressionList) -> None:
        added = await listed.add("8765 4321", "65 8765-4322", "+65 8765 4323", country="SG", reason="asked")
        assert sorted(added) == ["+6587654321", "+6587654322", "+6587654323"]
        assert await on_the_list(listed) == sorted(added)
        found = await listed.find("+(65) 87654321", number(9))
        assert [(entry.number, entry.reason) for entry in found.values()] == [(ANA, "asked")]
        assert await listed.remove("8765 4321", number(9), country="SG") == [ANA]
        assert ANA not in await on_the_list(listed)

    async def test_takes_a_number_as_it_stands_on_the_list_and_no_uncertain_text(self, listed: SuppressionList) -> None:
        assert list(await listed.add("+4412345")) == ["+4412345"], "a file may have it, and it can be taken off"
        assert await listed.remove("+4412345") == ["+4412345"]
        for text in ("001 60 4 262 1234", "87654321 / 22"):
            with pytest.raises(PhoneNumberError):
                await listed.add(text, country="SG")
        assert await on_the_list(listed) == []

    async def test_changes_nothing_for_a_text_that_is_not_a_number_or_an_end_that_has_passed(
        self, listed: SuppressionList, clock: ManualClock
    ) -> None:
        with pytest.raises(PhoneNumberError):
            await listed.add(ANA, "nobody")
        with pytest.raises(InvalidInputError, match="future time"):
            await listed.add(ANA, until=clock.now())
        assert await on_the_list(listed) == []

    async def test_is_never_shortened(self, listed: SuppressionList, clock: ManualClock) -> None:
        at = clock.now()
        for until, reason, stands in [
            (at + 2 * HOUR, "holiday", at + 2 * HOUR), (at + HOUR, "", at + 2 * HOUR),
            (at + 3 * HOUR, "", at + 3 * HOUR), (None, "asked", None), (at + 11 * HOUR, "holiday", None),
        ]:  # fmt: skip
            assert (await listed.add(ANA, until=until, reason=reason))[ANA].until == stands
        clock.advance(20 * HOUR)
        assert [(entry.until, entry.reason) for entry in await listed.scan()] == [(None, "asked")]

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
        # What two files have, only a person removes.
        for file, numbers, taken in (
            ("c", [mine, shared, added, before, shorter], set[str]()),
            ("a", [mine, shared, added, before, shorter], {mine}),
            ("b", [mine, shared], set[str]()),
        ):
            assert set(await listed.take_back(numbers, file=file)) == taken
        for _ in range(2):
            assert await on_the_list(listed) == sorted([ANA, shared, added, before, shorter])
            clock.advance(10 * HOUR)
        assert await listed.remove(ANA) == [ANA]
        until = clock.now() + HOUR
        await listed.add(ANA, until=until, file="a")
        assert (await listed.find(ANA))[ANA].until == until
        assert await listed.take_back([ANA], file="a") == [ANA]

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
        self, here: ScriptedEngine, listed: SuppressionList, written: str, usual: str
    ) -> None:
        for wanted, spelling in ((written, usual), (written, written), (usual, written)):
            for others in ((), map(number, range(1, 3))):  # with more numbers than calls, the calls are looked through
                job = await here.enqueue(wanted)
                await listed.add(spelling, *others)
                assert await here.state(job) == "cancelled", "it does not wait for its turn"
                await here.send()
                await listed.remove(spelling)
        assert here.voice.placed == []

    async def test_is_left_alone_in_both_by_one_opt_out(
        self, here: ScriptedEngine, there: ScriptedEngine, written: str, usual: str
    ) -> None:
        elsewhere = await there.enqueue(usual)
        await here.called(written, OPT_OUT)
        await there.send()
        assert (await there.state(elsewhere), len(here.voice.placed)) == ("cancelled", 1)

    async def test_is_left_alone_for_as_long_as_the_longer_of_its_entries_says(
        self, here: ScriptedEngine, listed: SuppressionList, written: str, usual: str
    ) -> None:
        await listed.add(usual)
        await listed.add(written, until=here.clock.now() + HOUR)
        for spelling in (written, usual):
            with pytest.raises(SuppressedNumberError):
                await here.queue.enqueue(flow(spelling), not_before=here.clock.now() + 2 * HOUR)


async def test_whoever_is_put_on_the_list_has_no_waiting_call_any_more(
    here: ScriptedEngine, there: ScriptedEngine
) -> None:
    plan = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=2 * HOUR)
    again = await here.called(ANA, SessionStatus.BUSY, batch="march", redial=plan)
    at = here.clock.now()
    later = await here.queue.enqueue(flow(ANA, "Later."), batch="march", not_before=at + HOUR)
    second = await there.queue.enqueue(flow(BEN), further_numbers=[ANA], batch="april")
    other = await there.enqueue(number(2))
    far = await there.queue.enqueue(flow(ANA, "Far."), not_before=at + 9 * HOUR)
    assert second.id in {each.id for each in await there.lease()}
    listed = SuppressionList(here.store, by=Actor(on="command", login="mary"))
    await listed.add(ANA, reason="asked by mail", until=at + 5 * HOUR)
    states = [await here.state(job) for job in (again, later)]
    states += [await there.state(job) for job in (second, other, far)]
    assert states == ["unreached", "cancelled", "cancelled", "leased", "queued"]
    for job, engine in ((again, here), (later, here), (second, there)):
        ended = await engine.queue.get(job.id)
        assert ended.reason_kind is ReasonKind.SUPPRESSED
        assert "(asked by mail), put there by mary" in str(ended.reason)
    (march,) = await entries_on(here.store, "default", batch="march")
    assert (march.action, march.who, march.on, set(march.numbers)) == ("suppress", "mary", "command", {ANA})
    assert march.result == "2 waiting calls ended"
    (april,) = await entries_on(here.store, "offers", batch="april")
    assert (april.result, april.numbers) == ("1 waiting call ended", (BEN,))
    await listed.add(ANA)
    assert await there.state(far) == "cancelled"
