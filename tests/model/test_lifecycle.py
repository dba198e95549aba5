"""The moves table, and what people and time may do to a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import product
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
    leased,
    not_placed,
    placed,
    sending,
)
from voiceflow_worker import CallPolicy, InvalidInputError
from voiceflow_worker.errors import IllegalMoveError, TooEarlyError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.job import (
    FINAL_STATES,
    Job,
    JobState,
    NoteKind,
    Post,
    ReasonKind,
    RedialPolicy,
)
from voiceflow_worker.model.jobs.lifecycle import MOVES, MoveName
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

S = JobState
CREATED = Verdict(kind=VerdictKind.CREATED, message="created", code=1, session_id="s-1")
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY", session_id="s-1")


def accepted(**changes: Any) -> Job:
    return placed(in_doubt(**changes))


MOVED: dict[MoveName, Callable[[Job], Job]] = {
    MoveName.LEASE: leased,
    MoveName.RELEASE: lambda job: lifecycle.release(job, at=NOW),
    MoveName.BEGIN: lambda job: lifecycle.begin(job, at=NOW, lease_until=NOW + MINUTE, policy=POLICY),
    MoveName.DOUBT: lambda job: lifecycle.doubt(job, at=NOW, reason="lost", policy=POLICY),
    MoveName.GIVE_UP_WAITING: lambda job: lifecycle.give_up_waiting(job, at=NOW, policy=POLICY),
    MoveName.CHECK_AGAIN: lambda job: lifecycle.check_again(job, at=NOW, policy=POLICY),
    MoveName.EXPIRE: lambda job: lifecycle.expire(job, at=NOW, policy=POLICY),
    MoveName.CANCEL: lambda job: lifecycle.cancel(job, at=NOW, reason="no need", policy=POLICY),
    MoveName.RESOLVE: placed,
    MoveName.REDIAL: lambda job: lifecycle.redial(job, at=NOW, note="again", force=True),
}

OPEN_POST = Post(number=1, client_request_id="q.01.1", began_at=NOW, valid_until=NOW + MINUTE)


LEADS_TO = {
    MoveName.LEASE: S.LEASED,
    MoveName.RELEASE: S.QUEUED,
    MoveName.BEGIN: S.SENDING,
    MoveName.DOUBT: S.IN_DOUBT,
    MoveName.GIVE_UP_WAITING: S.ACCEPTED,
    MoveName.CHECK_AGAIN: S.IN_DOUBT,
    MoveName.EXPIRE: S.EXPIRED,
    MoveName.CANCEL: S.CANCELLED,
    MoveName.RESOLVE: S.ACCEPTED,
    MoveName.REDIAL: S.QUEUED,
}


class TestTheMovesTable:
    def test_a_move_starts_from_the_states_of_the_table_alone_and_leads_where_its_name_says(self) -> None:
        for state, name in product(JobState, MoveName):
            has_worker, may_have_been_sent = (
                state in {S.LEASED, S.SENDING},
                state in {S.SENDING, S.IN_DOUBT, S.SUBMITTED},
            )
            posts = {"post_count": 1, "posts": (OPEN_POST,)} if may_have_been_sent else {}
            why = {"reason": "its number is busy", "reason_kind": ReasonKind.NUMBER_BUSY}
            job = a_job(state, active_until=NOW + HOUR, worker_id="w" if has_worker else None, **why, **posts)
            before = replace(job)
            if state not in MOVES[name]:
                with pytest.raises(IllegalMoveError, match=f"is {state.value}.*: it cannot {name}"):
                    MOVED[name](job)
                continue
            after = MOVED[name](job)
            assert (job, after.state) == (before, LEADS_TO[name])
            assert after.reason == job.reason or after.reason_kind is None, "the kind is that of the reason"
            assert (after.worker_id is not None) == (after.state in {S.LEASED, S.SENDING})
            if after.state.is_final:
                assert (after.active_until, after.due_at) == (None, NOW + POLICY.retention)

    def test_nothing_but_evidence_and_a_person_moves_a_job_that_may_have_been_sent(self) -> None:
        for state in (S.SENDING, S.SUBMITTED, S.IN_DOUBT):
            by = {name for name, states in MOVES.items() if state in states}
            assert by <= {MoveName.DOUBT, MoveName.GIVE_UP_WAITING, MoveName.CHECK_AGAIN, MoveName.RESOLVE}

    def test_a_job_that_has_ended_is_moved_only_by_who_asks_to_call_again(self) -> None:
        for name, states in MOVES.items():
            assert not states & FINAL_STATES or name is MoveName.REDIAL


class TestTheJournal:
    def test_every_post_gets_the_next_number_and_a_client_request_id_made_of_it(self) -> None:
        first = sending()
        again = begun(_not_sent(first))
        assert [post.number for post in again.posts] == [1, 2]
        assert [post.client_request_id for post in again.posts] == ["q.01.1", "q.01.2"]

    def test_without_a_validity_of_its_own_a_post_lives_for_the_submit_window(self) -> None:
        job = sending()
        assert job.posts[0].valid_until == NOW + POLICY.submit_window
        assert job.valid_until is None, "no validity is made up"

    @given(st.integers(1, 10**9))
    def test_a_post_never_outlives_its_job_nor_the_submit_window(self, microseconds: int) -> None:
        valid_until = NOW + timedelta(microseconds=microseconds)
        carried = sending(valid_until=valid_until).posts[0].valid_until
        assert carried <= min(valid_until, NOW + POLICY.submit_window)
        assert carried.microsecond % 1000 == 0, "the wire has milliseconds"
        assert min(valid_until, NOW + POLICY.submit_window) - carried < timedelta(milliseconds=1)

    def test_a_call_counts_as_active_until_its_phone_can_ring_no_more(self) -> None:
        job = sending()
        assert job.due_at == NOW + MINUTE, "its lease ends"
        assert job.active_until == job.posts[0].valid_until + POLICY.ringing
        doubted = lifecycle.doubt(job, at=NOW + MINUTE, reason="lost", policy=POLICY)
        assert doubted.active_until == job.active_until


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

    def test_placed_may_be_said_at_once_and_is_an_end_that_a_summary_still_settles(self) -> None:
        job = accepted()
        assert (job.state, job.attempt, job.posts[0].verdict) == (S.ACCEPTED, 1, VerdictKind.PLACED)
        assert summarised(job, 1, BUSY, at=NOW, policy=POLICY).state is S.UNREACHED

    def test_an_answer_that_came_keeps_its_time_and_without_one_the_word_counts(self) -> None:
        assert accepted().posts[0].answered_at == NOW
        unclear = Verdict(kind=VerdictKind.UNKNOWN, message="502 Bad Gateway")
        answered_then = answered(sending(), 1, unclear, at=NOW + SECOND, policy=POLICY)
        later = NOW + HOUR
        told = lifecycle.resolve(answered_then, placed=True, at=later, recorded_at=later, note="heard", policy=POLICY)
        assert told.posts[0].answered_at == NOW + SECOND


class TestCancelling:
    @pytest.mark.parametrize("end", [MoveName.CANCEL, MoveName.EXPIRE])
    def test_a_job_that_has_an_outcome_never_becomes_cancelled_or_expired(self, end: MoveName) -> None:
        redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=MINUTE)
        waits = summarised(sending(redial=redial), 1, BUSY, at=NOW, policy=POLICY)
        assert waits.state is S.QUEUED
        assert MOVED[end](waits).state is S.UNREACHED

    @pytest.mark.parametrize("end", [MoveName.CANCEL, MoveName.EXPIRE])
    def test_a_call_that_was_placed_and_never_summarised_stays_accepted_when_its_redial_ends(
        self, end: MoveName
    ) -> None:
        again = lifecycle.redial(accepted(), at=NOW, note="again", force=True)
        assert MOVED[end](again).state is S.ACCEPTED

    @pytest.mark.parametrize("end", [MoveName.CANCEL, MoveName.EXPIRE])
    def test_a_missed_window_is_not_an_outcome(self, end: MoveName) -> None:
        dropped = Outcome(status=SessionStatus.FAILED, status_text="FAILED", code=-2007)
        waits = summarised(sending(valid_until=NOW + HOUR), 1, dropped, at=NOW, policy=POLICY)
        assert MOVED[end](waits).state in {S.CANCELLED, S.EXPIRED}


class TestRedialling:
    @pytest.mark.parametrize("state", [S.COMPLETED, S.ACCEPTED])
    def test_who_was_called_is_called_again_only_by_force(self, state: JobState) -> None:
        with pytest.raises(IllegalMoveError, match="force the redial"):
            lifecycle.redial(a_job(state), at=NOW, note="again")
        assert lifecycle.redial(a_job(state), at=NOW, note="again", force=True).state is S.QUEUED

    @pytest.mark.parametrize("state", [S.UNREACHED, S.FAILED, S.EXPIRED, S.CANCELLED])
    def test_who_was_not_reached_is_called_again_on_demand(self, state: JobState) -> None:
        again = lifecycle.redial(a_job(state, missed_windows=4, failures=7), at=NOW, note="again")
        assert (again.state, again.due_at, again.redials) == (S.QUEUED, NOW, 0), "nothing was sent before"
        assert (again.missed_windows, again.failures) == (0, 0), "it begins anew"
        assert [note.kind for note in again.notes] == [NoteKind.REDIALLED]

    def test_a_job_whose_validity_has_passed_is_not_redialled(self) -> None:
        with pytest.raises(IllegalMoveError, match="enqueue a new call"):
            lifecycle.redial(a_job(S.FAILED, valid_until=NOW), at=NOW, note="again", force=True)

    def test_a_redial_that_ended_without_a_post_counts_as_one_with_the_next(self) -> None:
        waits = lifecycle.redial(accepted(), at=NOW, note="again", force=True)
        never_sent = lifecycle.cancel(waits, at=NOW, reason="no need", policy=POLICY)
        once_more = lifecycle.redial(never_sent, at=NOW, note="once more", force=True)
        assert (once_more.redials, begun(once_more).posts[-1].redial) == (1, 1)


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
