"""What people, time, gates and lost records may do to a job, beside the grid of what becomes of a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plain_jobs import (
    HOUR,
    MINUTE,
    NOW,
    POLICY,
    SECOND,
    a_job,
    begun,
    in_doubt,
    not_placed,
    placed,
    sending,
)
from voiceflow_worker import CallPolicy, InvalidInputError
from voiceflow_worker.errors import IllegalMoveError, TooEarlyError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.gate import THEN, Gate, GateScope, GateState, merged
from voiceflow_worker.model.jobs.job import (
    Job,
    JobState,
    NoteKind,
    RedialPolicy,
)
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.jobs.rollback import is_forgotten, with_lost_posts
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import API_CODES, SESSION_ERROR_CODES, SessionStatus, api_code, session_error
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

S = JobState
CREATED = Verdict(kind=VerdictKind.CREATED, message="created", code=1, session_id="s-1")
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY", session_id="s-1")


def accepted(**changes: Any) -> Job:
    return placed(in_doubt(**changes))


@pytest.mark.parametrize(
    ("state", "move", "why"),
    [
        (S.SUBMITTED, lambda job: lifecycle.release(job, at=NOW), "is submitted: it cannot be put back"),
        (S.COMPLETED, lambda job: lifecycle.redial(job, at=NOW, note="again"), "force the redial"),
        (S.FAILED, lambda job: lifecycle.redial(job, at=NOW, note="again", force=True), "enqueue a new call"),
    ],
)
def test_a_move_that_is_refused_says_why(state: JobState, move: Callable[[Job], Job], why: str) -> None:
    """Which moves each state has is in the grid (`test_what_becomes_of_a_call.py`)."""
    with pytest.raises(IllegalMoveError, match=why):
        move(a_job(state, valid_until=NOW))


class TestTheJournal:
    def test_every_post_gets_the_next_number_and_a_client_request_id_made_of_it(self) -> None:
        first = sending()
        again = begun(_not_sent(first))
        assert [post.number for post in again.posts] == [1, 2]
        assert [post.client_request_id for post in again.posts] == ["q.01.1", "q.01.2"]

    @given(st.integers(1, 10**9))
    def test_a_post_never_outlives_its_job_nor_the_submit_window(self, microseconds: int) -> None:
        valid_until = NOW + timedelta(microseconds=microseconds)
        carried = sending(valid_until=valid_until).posts[0].valid_until
        assert carried <= min(valid_until, NOW + POLICY.submit_window)
        assert carried.microsecond % 1000 == 0, "the wire has milliseconds"
        assert min(valid_until, NOW + POLICY.submit_window) - carried < timedelta(milliseconds=1)


class TestDoubt:
    def test_a_doubt_is_looked_at_again_at_growing_intervals_and_at_least_hourly(self) -> None:
        job = in_doubt()
        waits = []
        for _ in range(20):
            looked = lifecycle.check_again(job, at=job.due_at, policy=POLICY)
            waits.append(looked.due_at - job.due_at)
            job = looked
        assert waits == sorted(waits)
        assert min(waits) >= POLICY.first_check
        assert waits[-1] == POLICY.longest_check

    def test_a_clock_that_was_rolled_back_does_not_look_without_end(self) -> None:
        looked = lifecycle.check_again(in_doubt(), at=NOW - HOUR, policy=POLICY)
        assert looked.due_at == NOW - HOUR + POLICY.first_check


class TestAPersonsWord:
    def test_not_placed_may_be_said_only_once_the_posts_own_validity_and_the_skew_have_passed(self) -> None:
        job = in_doubt()
        door = job.posts[0].valid_until + POLICY.clock_skew
        for early in (NOW, door - SECOND, door):
            with pytest.raises(TooEarlyError) as refused:
                lifecycle.resolve(job, placed=False, at=early, recorded_at=early, note="no row", policy=POLICY)
            assert refused.value.until == door, "one who asks earlier is told the time"
            assert f"{door:%H:%M:%S}" in str(refused.value)
        recorded_at = door + timedelta(microseconds=1)
        settled = lifecycle.resolve(job, placed=False, at=door, recorded_at=recorded_at, note="no row", policy=POLICY)
        assert (settled.state, settled.due_at, settled.attempt) == (S.QUEUED, door, 0)

    def test_an_answer_that_came_keeps_its_time_and_without_one_the_word_counts(self) -> None:
        assert accepted().posts[0].answered_at == NOW
        unclear = Verdict(kind=VerdictKind.UNKNOWN, message="502 Bad Gateway")
        answered_then = answered(sending(), 1, unclear, at=NOW + SECOND, policy=POLICY)
        later = NOW + HOUR
        told = lifecycle.resolve(answered_then, placed=True, at=later, recorded_at=later, note="heard", policy=POLICY)
        assert told.posts[0].answered_at == NOW + SECOND


class TestGoingOn:
    """Calls that go on for a while; each single thing that may come is in the grid."""

    @pytest.mark.parametrize("seconds", [60, 61])
    def test_a_redial_or_a_further_post_is_granted_within_the_validity_alone(self, seconds: int) -> None:
        job = sending(redial=a_plan(), valid_until=NOW + seconds * SECOND)
        assert summarised(job, 1, BUSY, at=NOW, policy=POLICY).state is (S.QUEUED if seconds > 60 else S.UNREACHED)
        late = Verdict(kind=VerdictKind.REFUSED, message="validity period has expired", code=-1015)
        ended = answered(job, 1, late, at=NOW + MINUTE, policy=POLICY)
        assert ended.state is (S.QUEUED if seconds > 60 else S.EXPIRED)

    def test_each_outcome_may_have_a_wait_of_its_own(self) -> None:
        waits = {SessionStatus.BUSY: MINUTE, SessionStatus.NO_ANSWER: HOUR}
        for status, wait in waits.items():
            told = Outcome(status=status, status_text=status.value)
            job = sending(redial=a_plan(after=waits))
            assert summarised(job, 1, told, at=NOW, policy=POLICY).due_at == NOW + wait

    @pytest.mark.parametrize(
        ("waits", "why"),
        [
            ({SessionStatus.BUSY: MINUTE}, "no_answer has no wait"),
            (dict.fromkeys([*SessionStatus], MINUTE), "error has a wait, but gets no redial"),
            ({SessionStatus.BUSY: MINUTE, SessionStatus.NO_ANSWER: -MINUTE}, "after >= 0"),
        ],
    )
    def test_waits_are_for_the_outcomes_that_are_redialled(
        self, waits: dict[SessionStatus, timedelta], why: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=why):
            a_plan(after=waits)

    def test_a_redial_that_lies_beyond_all_calendars_is_none_and_the_summary_is_taken(self) -> None:
        job = sending(redial=a_plan(after=timedelta(days=10**8)))
        assert summarised(job, 1, BUSY, at=NOW, policy=POLICY).state is S.UNREACHED

    def test_every_code_of_an_answer_is_known_in_a_summary(self) -> None:
        for code in API_CODES:
            assert session_error(code) == (SESSION_ERROR_CODES.get(code) or api_code(code))


def a_plan(**fields: Any) -> RedialPolicy:
    given: dict[str, Any] = {"on": frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), "limit": 3}
    return RedialPolicy(**(given | {"after": MINUTE} | fields))


class TestKeptPosts:
    def test_of_posts_that_sent_nothing_only_the_newest_ten_are_kept(self) -> None:
        job = a_job()
        for _ in range(25):
            job = _not_sent(begun(job))
        assert [post.number for post in job.posts] == list(range(16, 26))
        assert job.post_count == 25
        assert begun(job).posts[-1].client_request_id == "q.01.26"

    def test_no_post_that_may_have_rung_is_ever_dropped(self) -> None:
        job = not_placed(in_doubt())
        for _ in range(25):
            job = _not_sent(begun(job))
        assert job.posts[0].number == 1
        assert len(job.posts) == 11


def _not_sent(job: Job) -> Job:
    refused = Verdict(kind=VerdictKind.NOT_SENT, message="connection refused")
    return answered(job, job.post_count, refused, at=NOW, policy=POLICY)


@given(
    valid_until=st.none() | st.integers(-3, 3).map(lambda seconds: NOW + seconds * SECOND),
)
def test_a_validity_ends_at_its_very_moment(valid_until: datetime | None) -> None:
    assert a_job(valid_until=valid_until).is_expired(at=NOW) is (valid_until is not None and valid_until <= NOW)


DURATIONS = [field.name for field in fields(CallPolicy) if isinstance(field.default, timedelta)]


def test_a_duration_below_zero_or_above_100_years_is_refused() -> None:
    for name, duration in product(DURATIONS, [timedelta.max, timedelta(days=36_501), -timedelta(microseconds=1)]):
        with pytest.raises(InvalidInputError, match=rf"{name} is .*; give a duration from 0 to 36500 days"):
            CallPolicy(**{name: duration})  # type: ignore[arg-type]


FIRST, LONGEST = timedelta(milliseconds=500), timedelta(seconds=10)

seeds = st.text(max_size=20)


@pytest.mark.parametrize(
    ("failures", "whole"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (7, 10), (1000, 10)]
)
@given(seed=seeds)
def test_the_wait_doubles_up_to_the_longest_and_is_spread_over_its_upper_half(
    failures: int, whole: float, seed: str
) -> None:
    wait = backoff(failures, first=FIRST, longest=LONGEST, seed=seed).total_seconds()
    assert whole / 2 <= wait < whole


# -- gates: what closes a queue or a batch, and what may open it again -------------------------------------------------


def gate(state: GateState, until: datetime | None = None, reason: str = "") -> Gate:
    scope = GateScope.BATCH if state is GateState.CANCELLED else GateScope.QUEUE
    return Gate(queue="q", scope=scope, name="q", state=state, until=until, reason=reason, since=NOW)


def held(until: datetime | None = None, reason: str = "") -> Gate:
    return gate(GateState.HELD, until, reason)


OPEN, CANCELLED = gate(GateState.OPEN), gate(GateState.CANCELLED)

times = st.none() | st.integers(-5, 5).map(lambda minutes: NOW + minutes * MINUTE)
gates = st.one_of(st.just(OPEN), st.just(CANCELLED), times.map(held))


def test_a_gate_is_closed_while_it_is_held_or_cancelled() -> None:
    for one, closed in [
        (OPEN, False),
        (CANCELLED, True),
        (held(), True),
        (held(NOW + MINUTE), True),
        (held(NOW), False),
        (held(NOW - MINUTE), False),
    ]:
        assert one.is_closed(at=NOW) is closed


@pytest.mark.parametrize("state", [GateState.HELD, GateState.CANCELLED])
def test_a_closed_gate_keeps_back_the_calls_of_its_batch_or_of_the_whole_queue(state: GateState) -> None:
    of_queue = Gate.of("q", None, state, since=NOW)
    of_batch = Gate.of("q", "march", state, since=NOW)
    assert [of_queue.keeps_back(batch, at=NOW) for batch in (None, "march", "april")] == [True, True, True]
    assert [of_batch.keeps_back(batch, at=NOW) for batch in (None, "march", "april")] == [False, True, False]
    assert not Gate.of("q", "march", GateState.OPEN, since=NOW).keeps_back("march", at=NOW)


@pytest.mark.parametrize("standing", [None, OPEN, held(), held(NOW + MINUTE), CANCELLED])
def test_a_batch_can_always_be_cancelled(standing: Gate | None) -> None:
    assert merged(standing, CANCELLED, at=NOW) is CANCELLED


def test_the_reasons_of_holds_without_an_end_are_all_kept() -> None:
    both = merged(held(reason="wrong date"), held(reason="account is checked"), at=NOW)
    assert (both.until, both.reason) == (None, "wrong date; then: account is checked")
    for again in ("wrong date", "account is checked", both.reason, ""):
        assert merged(both, held(reason=again), at=NOW) is both
    three = merged(both, held(reason="a third"), at=NOW)
    assert merged(three, held(reason=both.reason), at=NOW) is three
    assert merged(held(), held(reason="wrong date"), at=NOW).reason == "wrong date"


def test_of_many_reasons_the_first_and_the_newest_are_kept() -> None:
    gate = held(reason="0")
    for number in range(1, 20):
        gate = merged(gate, held(reason=str(number)), at=NOW)
    assert gate.reason.split(THEN) == ["0", "13", "14", "15", "16", "17", "18", "19"]


@given(standing=st.none() | gates, order=gates)
def test_the_same_order_twice_changes_nothing_more(standing: Gate | None, order: Gate) -> None:
    once = merged(standing, order, at=NOW)
    assert merged(once, order, at=NOW) in {once, order}
    assert merged(once, order, at=NOW).is_closed(at=NOW) is once.is_closed(at=NOW)


@given(standing=gates, orders=st.lists(gates.filter(lambda order: order is not OPEN), max_size=4))
def test_no_hold_ever_lets_anything_through_that_another_keeps_back(standing: Gate, orders: list[Gate]) -> None:
    after = standing
    for order in orders:
        after = merged(after, order, at=NOW)
    for minutes in range(7):
        at = NOW + minutes * MINUTE
        if any(each.is_closed(at=at) for each in (standing, *orders)):
            assert after.is_closed(at=at)


@given(one=gates, other=gates)
def test_two_holds_come_to_the_same_in_any_order(one: Gate, other: Gate) -> None:
    if OPEN in {one, other}:
        return
    ways = [merged(merged(None, first, at=NOW), second, at=NOW) for first, second in ((one, other), (other, one))]
    for minutes in range(7):
        at = NOW + minutes * MINUTE
        assert ways[0].is_closed(at=at) is ways[1].is_closed(at=at)


# -- two records of one job: from a store that was rolled back, and from the journal files of workers ------------------

TURNED_AWAY = Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests")
REFUSED = Verdict(kind=VerdictKind.REFUSED, message="refused", code=-1002)
UNKNOWN = Verdict(kind=VerdictKind.UNKNOWN, message="no answer came")
COMPLETED = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", session_id="s-1")
REDIAL = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=30 * MINUTE)


def after(job: Job, verdict: Verdict, number: int = 1) -> Job:
    return answered(job, number, verdict, at=NOW, policy=POLICY)


def ended(job: Job, outcome: Outcome, number: int = 1) -> Job:
    return summarised(job, number, outcome, at=NOW, policy=POLICY)


def said_not_placed(job: Job) -> Job:
    doubted = job if job.state is S.IN_DOUBT else lifecycle.doubt(job, at=NOW, reason="lost", policy=POLICY)
    return lifecycle.resolve(
        doubted, placed=False, at=NOW, recorded_at=NOW + timedelta(days=1), note="not in the log", policy=POLICY
    )


def known(stored: Job, journalled: Job) -> Job:
    """The stored job with what the journal file knows."""
    return with_lost_posts(stored, journalled, at=NOW + 60 * MINUTE, policy=POLICY)


STEPS = st.lists(
    st.sampled_from(["send", "created", "turned away", "refused", "unknown", "busy", "completed", "not placed"]),
    max_size=6,
)


def lived(job: Job, steps: list[str], *, at: datetime) -> Job:
    verdicts = {"created": CREATED, "turned away": TURNED_AWAY, "refused": REFUSED, "unknown": UNKNOWN}
    for step in steps:
        if step == "send" and job.state is S.QUEUED:
            job = begun(job, at=at + job.post_count * MINUTE)
        elif step in verdicts and job.posts:
            job = after(job, verdicts[step], job.post_count)
        elif step in {"busy", "completed"} and job.posts:
            job = ended(job, BUSY if step == "busy" else COMPLETED, job.post_count)
        elif step == "not placed" and job.state is S.SENDING:
            job = said_not_placed(job)
    return job


@given(shared=STEPS, ours=STEPS, theirs=STEPS, apart=st.booleans())
def test_no_call_that_the_store_or_a_worker_may_have_made_is_made_again_without_a_person(
    shared: list[str], ours: list[str], theirs: list[str], apart: bool
) -> None:
    start = lived(a_job(redial=REDIAL), shared, at=NOW)
    stored = lived(start, ours, at=NOW)
    before = lived(start, theirs, at=NOW + MINUTE / 2 if apart else NOW)
    if before.state is not S.QUEUED:
        return
    journalled = begun(before, at=(NOW + MINUTE / 2 if apart else NOW) + before.post_count * MINUTE)
    job = known(stored, journalled)
    if not is_forgotten(journalled, stored):
        assert job is stored
        return
    assert job.post_count == max(stored.post_count, journalled.post_count)
    assert job.state not in {S.QUEUED, S.LEASED, S.SENDING, S.SUBMITTED}
    for record in (stored, journalled):
        for post in record.posts:
            stands = job.post(post.number)
            is_reported = any(post.began_at.isoformat() in note.text for note in job.notes)
            assert not post.was_placed or is_reported or (stands is not None and stands.may_have_rung)
        assert set(record.notes) <= set(job.notes)
    assert known(job, journalled) is job
    if any("lost it" in note.text for note in job.notes):
        granted = job.redials
        for post in job.posts:
            job = after(job, TURNED_AWAY, post.number)
        assert job.state not in {S.QUEUED, S.LEASED} or job.redials > granted


@pytest.mark.parametrize("end", ["reached", "waits"])
def test_a_call_that_the_store_sent_again_ends_or_is_in_doubt_and_says_that_it_may_have_rung_twice(end: str) -> None:
    journalled = begun(a_job(redial=REDIAL))
    again = after(begun(a_job(redial=REDIAL), at=NOW + MINUTE), CREATED)
    assert known(again, journalled).state is S.IN_DOUBT
    job = known(ended(again, COMPLETED if end == "reached" else BUSY), journalled)
    assert job.state is (S.COMPLETED if end == "reached" else S.UNREACHED)
    assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]


def test_a_call_that_the_store_has_cancelled_is_in_doubt_and_stays_cancelled() -> None:
    cancelled = lifecycle.cancel(a_job(), at=NOW, reason="no need", policy=POLICY)
    job = known(cancelled, begun(a_job()))
    assert (job.state, [note.kind for note in job.notes]) == (S.IN_DOUBT, [NoteKind.CANCELLED])
    assert said_not_placed(job).state is S.CANCELLED


def begun_after(seconds: int) -> Job:
    """The job as a worker's journal tells of it: its first POST began so many seconds after the hour."""
    return begun(a_job(), at=NOW + timedelta(seconds=seconds))


def test_two_posts_of_one_number_are_noted_once_whichever_journal_is_read_first() -> None:
    for stored, order in product([0, 30], list(permutations((0, 1, 2)))):
        journals = [begun_after(0), begun_after(30), begun_after(0)]
        job = begun_after(stored)
        for place in (*order, *order):
            job = with_lost_posts(job, journals[place], at=NOW, policy=POLICY)
        assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]
        assert not any(is_forgotten(told, job) for told in journals)
        third = begun_after(60)
        assert is_forgotten(third, job)
        assert not is_forgotten(third, with_lost_posts(job, third, at=NOW, policy=POLICY))


def test_a_forgotten_redial_is_in_doubt_with_the_earlier_outcome() -> None:
    first = after(begun(a_job(redial=REDIAL)), CREATED)
    journalled = begun(ended(first, BUSY), at=NOW + MINUTE)
    for stored in (a_job(redial=REDIAL), begun(a_job(redial=REDIAL)), first):
        job = with_lost_posts(stored, journalled, at=NOW, policy=POLICY)
        assert (job.state, job.redials, job.posts) == (S.IN_DOUBT, 1, journalled.posts)


def test_what_the_store_alone_knows_is_kept() -> None:
    journalled = begun(ended(after(begun(a_job(redial=REDIAL)), CREATED), BUSY), at=NOW + MINUTE)
    stored = lifecycle.redial(
        ended(begun(replace(a_job(), unique_key="order-1")), COMPLETED), at=NOW, note="again", force=True
    )
    job = with_lost_posts(stored, journalled, at=NOW, policy=POLICY)
    assert (job.state, job.unique_key, job.posts[0].outcome) == (S.IN_DOUBT, "order-1", COMPLETED)
    assert job.notes == stored.notes
