"""What is stored together with a journal entry, a verdict, a bridge, a new job and an order to hold."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from tests.contract.suite import NOW, QUEUE, sample_job
from voiceflow_worker.backends.memory.store import Memory
from voiceflow_worker.core import writes
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Result, Same, Write, WriteResult
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.writes import NUMBER, PERSON, SECOND_PARTY
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
POLICY = CallPolicy(max_per_person=PersonLimit(2, DAY), shared_numbers=frozenset({"+6590000009"}))
DESK, SHARED = "+6590000002", "+6590000009"
CREATED = Verdict(kind=VerdictKind.CREATED, message="", session_id="s1")
NOT_SENT = Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.STOPPED, message="")
TURNED_AWAY = Verdict(kind=VerdictKind.TURNED_AWAY, message="", http_status=429)
REFUSED = Verdict(kind=VerdictKind.REFUSED, message="", code=-1009)
UNKNOWN = Verdict(kind=VerdictKind.UNKNOWN, message="")


class Desk:
    """A store with one worker's acts, each a write that is written."""

    def __init__(self, *jobs: Job) -> None:
        self.memory = Memory()
        for job in jobs:
            assert self.write(writes.enqueued(job, at=NOW, store_id="store")).result is Result.DONE

    def write(self, write: Write, at: datetime = NOW) -> WriteResult:
        return self.memory.write(BulkWrite(writes=(write,)), at)[0]

    def lease(self, at: datetime = NOW) -> Job:
        (job,) = self.memory.lease(QUEUE, worker_id="w", limit=1, until=at + MINUTE, now=at, batch=None)
        return job

    def entry(self, job: Job, at: datetime = NOW, policy: CallPolicy = POLICY) -> tuple[Job, Write]:
        return writes.journal_entry(job, at=at, lease_until=at + MINUTE, policy=policy, store_id="store")

    def begin(self, job: Job, at: datetime = NOW) -> Job:
        sent, write = self.entry(job, at)
        assert self.write(write, at).result is Result.DONE
        return sent

    def hear(self, job: Job, verdict: Verdict, at: datetime = NOW) -> Job:
        return self.settle(job, answered(job, job.post_count, verdict, at=at, policy=POLICY), at)

    def summary(self, job: Job, status: SessionStatus, at: datetime = NOW) -> Job:
        ended = Outcome(status=status, status_text=status.value)
        return self.settle(job, summarised(job, job.post_count, ended, at=at, policy=POLICY), at)

    def settle(self, old: Job, new: Job, at: datetime) -> Job:
        job, write = writes.settled(old, new, at=at, policy=POLICY, store_id="store")
        assert write.conditions == ()
        assert self.write(write, at).result is Result.DONE
        return job

    def keys(self, namespace: str, at: datetime = NOW) -> dict[str, str]:
        return {
            f"{each.group} {each.member}".rstrip(): each.value
            for each in self.memory.records({namespace: Page()}, at)[namespace]
        }


def call(number: int = 1, *bridged: str, **fields: object) -> Job:
    """A job that calls `+659000000<number>`, and bridges to these numbers."""
    destination = f"+659000000{number}"
    called = [{"action": "makeCall", "params": {"destination": each}} for each in (destination, *bridged)]
    job = sample_job(number, destination=destination, body=json.dumps({"callflow": called}))
    return replace(job, **fields)  # type: ignore[arg-type]


# --- journal entry ---


def test_a_journal_entry_takes_the_numbers_and_the_attempt() -> None:
    desk = Desk(call(1, DESK, SHARED))
    job = desk.lease()
    sent, write = desk.entry(job)
    assert desk.write(write).result is Result.DONE
    post = f"{job.id}.1"
    assert desk.keys(NUMBER) == {number_digest(job.destination, store_id="store"): post}
    assert desk.keys(SECOND_PARTY) == {number_digest(DESK, store_id="store"): post}
    assert list(desk.keys(PERSON).values()) == [post]
    assert desk.memory.jobs[job.id] == sent
    assert (sent.state, sent.posts[0].client_request_id) == (JobState.SENDING, post)


def test_an_argentine_number_is_locked_and_listed_in_every_spelling() -> None:
    long, short = "+5491123456789", "+541123456789"
    desk = Desk(call(1, destination=long), call(2, destination=short))
    first, second = desk.lease(), desk.lease()
    desk.begin(first)
    assert len(desk.keys(NUMBER)) == 1, "one for all spellings"
    assert desk.write(desk.entry(second)[1]).result is Result.NOT_FREE
    desk.hear(desk.memory.jobs[first.id], NOT_SENT)
    desk.write(Write(puts=(Put(SUPPRESSED, long, "", None),)))
    assert desk.write(desk.entry(second)[1]).result is Result.NOT_FREE


def test_one_person_is_called_by_one_job_at_a_time() -> None:
    same = "+6590000001"
    desk = Desk(call(1), call(2, destination=same), call(3, same), call(4, DESK), call(5, DESK))
    jobs = [desk.lease() for _ in range(5)]
    desk.begin(jobs[0])
    for waits in jobs[1:3]:
        answer = desk.write(desk.entry(waits)[1])
        assert answer.result is Result.NOT_FREE
        assert answer.record is not None
        assert answer.record.value == f"{jobs[0].id}.1"
    desk.begin(jobs[3])
    assert desk.write(desk.entry(jobs[4])[1]).result is Result.NOT_FREE


def test_a_lock_ends_when_its_post_can_ring_no_more() -> None:
    desk = Desk(call(1, DESK), call(2, destination="+6590000001"), call(3, destination=DESK))
    jobs = [desk.lease() for _ in range(3)]
    post = desk.begin(jobs[0]).posts[0]
    silent = post.valid_until + POLICY.ringing
    for job, free_at in ((jobs[1], silent), (jobs[2], silent + POLICY.longest_call + POLICY.ringing)):
        assert desk.write(desk.entry(job, free_at - SECOND)[1], free_at - SECOND).result is Result.NOT_FREE
        assert desk.write(desk.entry(job, free_at)[1], free_at).result is Result.DONE


# --- verdict ---


@pytest.mark.parametrize("verdict", [NOT_SENT, TURNED_AWAY, REFUSED], ids=lambda each: each.kind.value)
def test_a_post_that_reached_nobody_gives_back_its_numbers_and_its_attempt(verdict: Verdict) -> None:
    desk = Desk(call(1, DESK))
    job = desk.hear(desk.begin(desk.lease()), verdict)
    assert job.state is (JobState.FAILED if verdict is REFUSED else JobState.QUEUED)
    assert desk.keys(NUMBER) == desk.keys(SECOND_PARTY) == desk.keys(PERSON) == {}


def test_the_attempt_of_a_call_in_doubt_lasts_from_the_end_of_its_validity() -> None:
    for verdict, rang_by in ((UNKNOWN, POLICY.submit_window), (CREATED, SECOND)):
        desk = Desk(call(1))
        desk.hear(desk.begin(desk.lease()), verdict, NOW + SECOND)
        assert desk.keys(PERSON, NOW + rang_by + DAY - SECOND)
        assert not desk.keys(PERSON, NOW + rang_by + DAY)


def test_a_call_that_had_counted_as_not_placed_counts_once_it_rang_after_all() -> None:
    desk = Desk(call(1))
    job = desk.hear(desk.begin(desk.lease()), UNKNOWN)
    late = NOW + POLICY.submit_window + POLICY.clock_skew + SECOND
    back = lifecycle.resolve(job, placed=False, at=late, recorded_at=late, note="", policy=POLICY)
    job = desk.settle(job, back, late)
    assert desk.keys(PERSON, late) == desk.keys(NUMBER, late) == {}
    desk.summary(job, SessionStatus.COMPLETED, late)
    assert len(desk.keys(PERSON, late)) == 1


# --- bridge ---


def test_a_bridge_of_a_call_without_a_job_ends_by_itself() -> None:
    desk = Desk(call(2))
    assert (
        desk.write(writes.bridge_of_session("s9", [DESK], at=NOW, policy=POLICY, store_id="store")).result
        is Result.DONE
    )
    job = desk.lease()
    assert desk.write(desk.entry(job)[1]).result is Result.NOT_FREE
    later = NOW + POLICY.ringing
    assert desk.write(desk.entry(job, later)[1], later).result is Result.DONE


# --- hold ---


def test_an_order_that_finds_another_gate_is_made_again_from_that() -> None:
    desk = Desk()

    def order(state: GateState, until: datetime | None = None, reason: str = "") -> Write:
        (standing,) = desk.memory.records({GATES: [QUEUE]}, NOW)[GATES] or (None,)
        ordered = Gate.of(QUEUE, None, state, since=NOW, until=until, reason=reason)
        return write_of_order(standing, ordered, token=f"{state}-{len(reason)}")[1]

    by_429, by_person = order(GateState.HELD, NOW + SECOND, "429"), order(GateState.HELD, None, "a person")
    assert desk.write(by_person).result is Result.DONE
    answer = desk.write(by_429)
    assert answer.result is Result.NOT_FREE
    assert answer.record is not None
    gate, write = write_of_order(
        answer.record, Gate.of(QUEUE, None, GateState.HELD, since=NOW, until=NOW + SECOND, reason="429"), token="again"
    )
    assert (gate.until, gate.reason) == (None, "a person")
    assert desk.write(write).result is Result.DONE
    assert desk.write(order(GateState.OPEN)).result is Result.DONE
    assert desk.write(by_person).result is Result.NOT_FREE, "a late repeat must not hold the queue again"
    assert isinstance(by_person.conditions[0], Same)


def test_a_hold_that_is_repeated_after_a_person_resumed_changes_nothing() -> None:
    desk = Desk()
    held = Gate.of(QUEUE, None, GateState.HELD, since=NOW, reason="401")
    opened = Gate.of(QUEUE, None, GateState.OPEN, since=NOW + SECOND)
    states: list[GateState] = []
    for ordered in (held, opened, held):
        (standing,) = desk.memory.records({GATES: [QUEUE]}, NOW + SECOND)[GATES] or (None,)
        gate, write = write_of_order(standing, ordered, token=ordered.state)
        assert desk.write(write, NOW + SECOND).result is Result.DONE
        states.append(gate.state)
    assert states == [GateState.HELD, GateState.OPEN, GateState.OPEN]
