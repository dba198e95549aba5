"""A call that is changed stays the same call: one thing of it is another, and all else is as it was."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest
from msgspec import structs

from tests.contract.samples import ManualClock
from tests.support.engine import ScriptedEngine
from tests.support.flows import SOURCE, flow, number
from tests.support.voices import unknown
from voiceflow_worker import CallFlow, CallQueue, Job, JobState
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import CallFlowError, KeyConflictError, SuppressedNumberError
from voiceflow_worker.model.jobs.differences import can_still_ring
from voiceflow_worker.model.jobs.edits import removed, with_next_attempt
from voiceflow_worker.model.jobs.job import ON_THE_WAY, NoteKind, RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.service.forget import forget

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
ANA, BEN, CHO = "+6587654321", number(1), number(2)
KEY: dict[str, Any] = {"unique_key": "visit-7"}
AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=HOUR)
BUSY, ANSWERED = SessionStatus.BUSY, SessionStatus.COMPLETED
ALWAYS = {"revision", "notes", "edits"}


def saying(text: str = "Your order is ready.", to: str = ANA, source: str = SOURCE) -> CallFlow:
    return CallFlow.call(to, source=source).say(text, voice_profile="en-IE-EmilyNeural").hangup()


def differing(one: Job, other: Job) -> set[str]:
    """The names of the fields of a job that are not as they were."""
    return {name.name for name in structs.fields(Job) if getattr(one, name.name) != getattr(other, name.name)}


@pytest.mark.parametrize("attempts", [0, 1])
async def test_of_a_call_that_is_changed_in_one_thing_all_else_is_as_it_was(
    here: ScriptedEngine, clock: ManualClock, attempts: int
) -> None:
    begin = clock.now()
    usual: dict[str, Any] = {
        "priority": 1, "valid_until": begin + 30 * HOUR, "redial": AGAIN, "window": CallWindow.parse("00:00-23:00"),
        "data": {"name": "Ana"}, "menu": "visits", "not_before": begin, "batch": "march",
        "further_numbers": (CHO,),
    }  # fmt: skip
    hours = CallWindow.parse("00:00-22:00")
    cases: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
        ({"text": "Good day."}, {}, {"body"}),
        ({}, {"priority": 5}, {"priority"}),
        ({}, {"valid_until": begin + 20 * HOUR}, {"valid_until"}),
        ({}, {"redial": None}, {"redial"}),
        ({}, {"menu": "others"}, {"menu"}),
        ({}, {"window": hours}, {"window"}),
        ({}, {"not_before": begin + 5 * HOUR}, {"not_before", "due_at", "first_due_at"}),
        ({"text": "Good day."}, {"data": {"name": "Anna"}}, {"body", "data"}),
        ({"to": BEN}, {}, {"body", "destination"}),
        ({"source": "+6531234568"}, {}, {"body", "source"}),
        ({}, {"further_numbers": ()}, {"further_numbers"}),
    ]
    for place, (said, options, changes) in enumerate(cases):
        key = f"visit-{place}"
        await here.queue.enqueue(saying(), **usual, unique_key=key)
        job = (await here.queue.find(unique_key=key))[0]
        if attempts:
            if said.keys() & {"to", "source"} or "further_numbers" in options:
                await here.queue.cancel(job.id)
                continue
            await here.ends(job, BUSY)
            job = (await here.queue.find(unique_key=key))[0]
            assert (job.state, job.number, job.post_count) == (JobState.QUEUED, CHO, 1)
        new = await here.queue.enqueue(saying(**said), **{**usual, **options}, unique_key=key, replace=True)
        assert differing(job, new) - ALWAYS == changes, changes
        assert await here.queue.get(job.id) == new
        assert (new.id, new.body_digest, new.notes[-1].kind) == (job.id, job.body_digest, NoteKind.CHANGED)
        back = await here.queue.enqueue(saying(), **usual, unique_key=key, replace=True)
        later = {"first_due_at"} | ({"due_at"} if attempts else set[str]())  # a redial is never due earlier than before
        assert differing(job, back) - ALWAYS <= later, "and it is changed back"
        assert (await here.queue.enqueue(saying(), **usual, unique_key=key)).revision == back.revision
        await here.queue.cancel(job.id)
    totals = (await here.queue.report()).as_json()
    assert totals["total"] == len(cases), "figures count things, not versions"


async def test_of_a_leased_call_the_worker_that_had_it_sends_nothing(here: ScriptedEngine) -> None:
    job = await here.enqueue(ANA, **KEY)
    (dispatch,) = await here.prepare()
    new = await here.queue.enqueue(saying("Good day.", BEN), **KEY, replace=True)
    assert (new.id, new.state, new.worker_id, new.due_at) == (job.id, JobState.QUEUED, None, job.due_at)
    assert await here.finish(dispatch) == []
    await here.send()
    assert [here.voice.rang, (await here.queue.get(job.id)).state] == [[BEN], JobState.SUBMITTED]


async def test_a_call_with_a_post_keeps_its_numbers_and_a_late_opt_out_finds_the_one_that_rang(
    here: ScriptedEngine,
) -> None:
    job = await here.called(ANA, BUSY, **KEY, redial=AGAIN, batch="march")
    assert job.state is JobState.QUEUED
    changed = await here.queue.enqueue(saying("Good day."), **KEY, redial=AGAIN, batch="march", replace=True)
    assert (changed.id, changed.due_at, changed.posts) == (job.id, job.due_at, job.posts)
    other = await here.queue.enqueue(saying(to=BEN), **KEY, redial=AGAIN, batch="march", replace=True)
    ended = await here.queue.get(job.id)
    assert (ended.state, ended.destination, ended.successor) == (JobState.UNREACHED, ANA, other.id)
    assert (other.state, other.destination, other.unique_key) == (JobState.QUEUED, BEN, "visit-7")
    report = await here.queue.report("march")
    assert report.as_json()["total"] == 1, "the old call is no person of the figures"
    await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED, number=1)
    assert [entry.number for entry in await SuppressionList(here.store).scan()] == [ANA]
    assert (await here.queue.get(other.id)).state is JobState.QUEUED


async def test_an_edit_to_another_number_is_found_by_it_and_refused_if_that_is_suppressed(
    here: ScriptedEngine, clock: ManualClock
) -> None:
    async def found(number: str) -> list[str]:
        read = OfNumber(queue="default", number=number)
        return [job.id for job in await here.store.jobs(read, now=clock.now())]

    await SuppressionList(here.store).add(CHO, reason="said no")
    job = await here.enqueue(ANA, **KEY)
    with pytest.raises(SuppressedNumberError):
        await here.queue.enqueue(flow(CHO), **KEY, replace=True)
    assert (await found(ANA), await found(CHO)) == ([job.id], [])
    await here.queue.enqueue(flow(BEN), **KEY, replace=True)
    assert (await found(ANA), await found(BEN)) == ([], [job.id])
    await forget(here.store, BEN)
    assert (await found(ANA), await found(BEN)) == ([], [])
    assert await owners_of(here.store, "default", ["visit-7"]) == {}
    new = await here.queue.enqueue(flow(BEN), **KEY)
    assert new.id == job.id, "the key of an erased call stays taken"
    assert not (await here.store.records({SUPPRESSED: [BEN]}, now=clock.now()))[SUPPRESSED]


async def test_a_retry_of_the_first_request_is_answered_as_before(here: ScriptedEngine) -> None:
    job = await here.enqueue(ANA, **KEY, priority=2)
    await here.queue.enqueue(saying("Good day."), **KEY, priority=3, replace=True)
    assert (await here.enqueue(ANA, **KEY, priority=2)).id == job.id
    assert (await here.queue.enqueue(saying("Good day."), **KEY, priority=3)).id == job.id
    with pytest.raises(KeyConflictError, match="priority"):
        await here.queue.enqueue(saying("Good day."), **KEY, priority=4)


async def test_a_change_that_leaves_no_time_is_an_error_with_both_times(
    here: ScriptedEngine, clock: ManualClock
) -> None:
    job = await here.enqueue(ANA, **KEY, valid_for=2 * HOUR)
    with pytest.raises(CallFlowError, match=r"its validity ends at .*14:00.* called at .*15:00"):
        await here.enqueue(ANA, **KEY, not_before=clock.now() + 3 * HOUR, replace=True)
    assert await here.queue.get(job.id) == job
    clock.advance(HOUR)
    assert (await here.enqueue(ANA, **KEY, valid_for=2 * HOUR, replace=True)).valid_until == job.valid_until


async def test_what_is_ordered_of_a_call_on_its_way_is_followed_when_that_has_ended(here: ScriptedEngine) -> None:
    changes = Changes(here.store, here.policy)
    for place, (end, is_removed, state) in enumerate(
        product((BUSY, ANSWERED, SessionStatus.NO_ANSWER), (False, True), sorted(ON_THE_WAY))
    ):
        options: dict[str, Any] = {"unique_key": f"v-{place}", "redial": AGAIN}
        to = number(10 + place)
        if state is JobState.IN_DOUBT:
            here.voice.answers.append(unknown())
        await here.queue.enqueue(saying(to=to), **options)
        (job,) = await here.journal() if state is JobState.SENDING else await here.send()
        assert job.state is state
        asked = await CallQueue(MemoryStore(clock=here.clock)).enqueue(saying("Good day.", to), **options)
        order = partial(removed, reason="not in the list", policy=here.policy) if is_removed else partial(
            with_next_attempt, asked=asked
        )  # fmt: skip
        was = (await changes.change(job.id, lambda job: order(job, at=here.clock.now()))).new  # noqa: B023
        assert (was.state, was.body, was.posts, can_still_ring(was)) == (state, job.body, job.posts, not is_removed)
        await here.summarise(job, end, number=1)
        after = await here.queue.get(job.id)
        redialled = end is BUSY and not is_removed
        expected = JobState.COMPLETED if end is ANSWERED else JobState.QUEUED if redialled else JobState.UNREACHED
        assert (after.state, after.next_attempt) == (expected, None)
        assert ("Good day." in after.body) == redialled
        assert after.due_at > here.clock.now()
