"""The rules of evidence: the effect of answers, summaries and the 8x8 log on a job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, ClassVar

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
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, found_placed, mismatched, summarised, with_press
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, NoteKind, RedialPolicy
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import (
    API_CODES,
    OPT_OUTS,
    REACHED,
    SESSION_ERROR_CODES,
    SessionStatus,
    api_code,
    session_error,
)
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

S = JobState


def verdict(kind: VerdictKind, **fields: Any) -> Verdict:
    return Verdict(kind=kind, message=fields.pop("message", kind.value), **fields)


CREATED = verdict(VerdictKind.CREATED, code=1, session_id="s-1")
REFUSED = verdict(VerdictKind.REFUSED, code=-1014, message="source not allowed")
MISSED = verdict(VerdictKind.REFUSED, code=-1015, message="validity period has expired")
NOT_SENT = verdict(VerdictKind.NOT_SENT)
TURNED_AWAY = verdict(VerdictKind.TURNED_AWAY, http_status=429)
UNKNOWN = verdict(VerdictKind.UNKNOWN)
VERDICTS = [CREATED, REFUSED, MISSED, NOT_SENT, TURNED_AWAY, UNKNOWN]


def outcome(status: SessionStatus, *, code: int | None = None, message: str | None = None) -> Outcome:
    return Outcome(status=status, status_text=status.value, code=code, message=message)


COMPLETED, BUSY = outcome(SessionStatus.COMPLETED), outcome(SessionStatus.BUSY)
DROPPED = outcome(SessionStatus.FAILED, code=-2007)
FULL = outcome(SessionStatus.FAILED, code=-2010, message="trunk capacity exceeded")
UNSUBSCRIBED = SessionStatus.COMPLETED_UNSUBSCRIBED
OUTCOMES = [*map(outcome, SessionStatus), DROPPED, FULL]

ON_BUSY = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=10 * MINUTE)


def answer(job: Job, said: Verdict, number: int | None = None, *, at: datetime = NOW) -> Job:
    return answered(job, number or job.post_count, said, at=at, policy=POLICY)


def summary(job: Job, told: Outcome, number: int | None = None, *, at: datetime = NOW) -> Job:
    return summarised(job, number or job.post_count, told, at=at, policy=POLICY)


def second_post_out(**changes: Any) -> Job:
    """A person said "not placed" of the first POST, and was wrong; the second one is on its way."""
    return begun(not_placed(in_doubt(**changes)), at=NOW + HOUR)


EVERYWHERE: dict[str, Callable[[], Job]] = {
    "sending": sending,
    "submitted": lambda: answer(sending(), CREATED),
    "in doubt": in_doubt,
    "queued again": lambda: not_placed(in_doubt()),
    "leased again": lambda: leased(not_placed(in_doubt())),
    "sending again": second_post_out,
    "expired": lambda: lifecycle.expire(not_placed(in_doubt()), at=NOW + HOUR, policy=POLICY),
    "cancelled": lambda: lifecycle.cancel(not_placed(in_doubt()), at=NOW + HOUR, reason="", policy=POLICY),
    "accepted": lambda: placed(in_doubt()),
    "failed": lambda: answer(sending(), REFUSED),
    "completed": lambda: summary(sending(), COMPLETED),
    "redial granted": lambda: summary(sending(redial=ON_BUSY), BUSY),
}


OUT: dict[str, Callable[[Job], Job]] = {
    "sending": lambda job: job,
    "submitted": lambda job: answer(job, CREATED),
    "in doubt": lambda job: answer(job, UNKNOWN),
    "accepted": lambda job: lifecycle.give_up_waiting(answer(job, CREATED), at=NOW + 3 * HOUR, policy=POLICY),
}


class TestAnswers:
    @pytest.mark.parametrize("kind", [VerdictKind.PLACED, VerdictKind.NOT_PLACED])
    def test_a_kind_that_a_gateway_must_not_give_leaves_the_call_in_doubt(self, kind: VerdictKind) -> None:
        after = answer(sending(), verdict(kind))
        assert (after.state, after.posts[0].verdict) == (S.IN_DOUBT, VerdictKind.UNKNOWN)

    def test_the_answer_of_the_current_post_settles_it_also_out_of_doubt(self) -> None:
        for job in [sending(valid_until=NOW + HOUR), in_doubt(valid_until=NOW + HOUR)]:
            for said, state, attempt in [
                (CREATED, S.SUBMITTED, 1),
                (REFUSED, S.FAILED, 0),
                (MISSED, S.QUEUED, 0),
                (NOT_SENT, S.QUEUED, 0),
                (TURNED_AWAY, S.QUEUED, 0),
                (UNKNOWN, S.IN_DOUBT, 1),
            ]:
                after = answer(job, said, at=NOW + MINUTE)
                assert (after.state, after.attempt) == (state, attempt)
                post = after.posts[0]
                assert (post.verdict, post.answered_at, post.code) == (
                    VerdictKind(said.kind.value),
                    NOW + MINUTE,
                    said.code,
                )

    @pytest.mark.parametrize("name", ["queued again", "leased again"])
    def test_created_is_believed_wherever_its_post_has_no_outcome(self, name: str) -> None:
        after = answer(EVERYWHERE[name](), CREATED, 1)
        assert (after.state, after.session_id, after.attempt) == (S.SUBMITTED, "s-1", 1)
        assert after.active_until == after.due_at == NOW + POLICY.summary_deadline

    @pytest.mark.parametrize("name", ["completed", "redial granted"])
    def test_after_its_summary_created_only_adds_the_session(self, name: str) -> None:
        before = EVERYWHERE[name]()
        after = answer(before, CREATED, 1)
        assert (after.state, after.due_at, after.redials) == (before.state, before.due_at, before.redials)
        assert after.posts[0].session_id == "s-1"

    @pytest.mark.parametrize("said", [REFUSED, NOT_SENT, TURNED_AWAY, UNKNOWN])
    def test_a_summary_outweighs_an_answer_that_says_otherwise(self, said: Verdict) -> None:
        after = answer(summary(sending(), COMPLETED), said)
        assert (after.state, after.attempt) == (S.COMPLETED, 1)

    @pytest.mark.parametrize("said", [REFUSED, NOT_SENT, TURNED_AWAY, UNKNOWN])
    def test_created_is_not_taken_back_by_a_later_answer(self, said: Verdict) -> None:
        job = answer(sending(), CREATED)
        assert answer(job, said) is job

    @pytest.mark.parametrize("said", [REFUSED, NOT_SENT, TURNED_AWAY])
    def test_that_a_call_was_placed_outweighs_an_answer_that_it_was_not(self, said: Verdict) -> None:
        believed = answer(answer(sending(), said), replace(CREATED, message="a summary with an unknown status came"))
        state = S.ACCEPTED if said is REFUSED else S.SUBMITTED
        assert (believed.state, believed.attempt) == (state, 1)

    def test_a_session_that_is_named_later_is_kept(self) -> None:
        nameless = answer(sending(), replace(CREATED, session_id=None))
        named = answer(nameless, CREATED)
        assert (nameless.session_id, named.session_id, named.state) == (None, "s-1", S.SUBMITTED)

    def test_an_answer_of_an_older_post_does_not_touch_a_newer_one_that_is_out(self) -> None:
        for said in VERDICTS:
            job = second_post_out()
            after = answer(job, said, 1)
            assert (after.state, after.posts[1]) == (S.SENDING, job.posts[1])

    @pytest.mark.parametrize("said", [TURNED_AWAY, NOT_SENT])
    def test_a_hold_decides_when_a_call_comes_back(self, said: Verdict) -> None:
        opens = NOW + 5 * MINUTE
        assert answered(sending(), 1, said, at=NOW, policy=POLICY, held_until=opens).due_at == opens

    @pytest.mark.parametrize("waits", [lambda job: job, leased])
    def test_a_redial_waits_while_an_older_post_turns_out_to_be_under_way(self, waits: Callable[[Job], Job]) -> None:
        job = waits(summary(second_post_out(redial=ON_BUSY), BUSY, 2))
        created = answer(job, CREATED, 1)
        assert created.state is S.SUBMITTED
        assert summary(created, COMPLETED, 1).state is S.COMPLETED

    def test_a_call_that_was_not_sent_waits_longer_each_time(self) -> None:
        job = a_job()
        waits: list[timedelta] = []
        for _ in range(8):
            job = answer(begun(job), NOT_SENT)
            waits.append(job.due_at - NOW)
        assert waits[0] <= SECOND
        assert waits[4] > waits[2] > waits[0]
        assert max(waits) <= POLICY.longest_backoff
        assert answer(begun(job), TURNED_AWAY).failures == 0

    def test_a_call_that_was_placed_has_no_failures_to_its_name(self) -> None:
        job = answer(answer(begun(answer(sending(), NOT_SENT)), CREATED), CREATED)
        assert (job.state, job.failures) == (S.SUBMITTED, 0)

    def test_an_answer_that_says_nothing_clear_changes_no_doubt_that_stands(self) -> None:
        doubted = in_doubt()
        after = answer(doubted, UNKNOWN, at=NOW + HOUR)
        assert (after.state, after.due_at, after.reason) == (S.IN_DOUBT, doubted.due_at, "lost")

    def test_where_nobody_listens_created_ends_the_job(self) -> None:
        deaf = replace(POLICY, outcomes=OutcomeSource.NONE)
        for job in (sending(), in_doubt(), not_placed(in_doubt())):
            assert answered(job, 1, CREATED, at=NOW, policy=deaf).state is S.ACCEPTED

    def test_what_a_person_ended_as_placed_is_not_called_again_by_a_late_answer(self) -> None:
        for said in (NOT_SENT, TURNED_AWAY, REFUSED):
            after = answer(placed(in_doubt()), said)
            assert (after.state, after.attempt) == (S.ACCEPTED, 0)


class TestSummaries:
    def test_how_a_session_ended_is_the_jobs_end_wherever_it_is(self) -> None:
        for status, state in [
            (SessionStatus.COMPLETED, S.COMPLETED),
            (SessionStatus.COMPLETED_UNSUBSCRIBED, S.COMPLETED),
            (SessionStatus.COMPLETED_UNSUB_ERROR, S.COMPLETED),
            (SessionStatus.NO_ANSWER, S.UNREACHED),
            (SessionStatus.BUSY, S.UNREACHED),
            (SessionStatus.CANCELED, S.UNREACHED),
            (SessionStatus.UNSUBSCRIBED_CONTACT, S.UNREACHED),
            (SessionStatus.FAILED, S.FAILED),
            (SessionStatus.ERROR, S.FAILED),
        ]:
            for name in sorted(EVERYWHERE.keys() - {"sending again", "completed", "redial granted"}):
                after = summary(EVERYWHERE[name](), outcome(status), 1)
                assert after.state is state
                assert after.outcome == outcome(status)
                assert (after.attempt, after.worker_id, after.active_until) == (1, None, None)

    def test_the_first_summary_of_a_post_wins(self) -> None:
        for first in OUTCOMES:
            job = summary(sending(redial=ON_BUSY, valid_until=NOW + HOUR), first)
            for later in OUTCOMES:
                if later.status not in REACHED | OPT_OUTS and (first.was_placed or not later.was_placed):
                    assert summary(job, later, 1) is job

    @pytest.mark.parametrize(("told", "state"), [(COMPLETED, S.COMPLETED), (BUSY, S.UNREACHED)])
    def test_a_call_that_rang_counts_although_another_session_of_its_post_was_dropped(
        self, told: Outcome, state: JobState
    ) -> None:
        waits = summary(sending(valid_until=NOW + HOUR), DROPPED)
        for job in (waits, leased(waits), summary(sending(), DROPPED)):
            after = summary(job, told, 1)
            assert (after.state, after.outcome, after.attempt) == (state, told, 1)
            assert summary(after, DROPPED, 1) is after
        twice = summary(begun(waits), told, 1)
        assert twice.notes[-1].kind is NoteKind.RANG_TWICE

    @pytest.mark.parametrize("first", [outcome(SessionStatus.NO_ANSWER), COMPLETED, outcome(UNSUBSCRIBED)])
    def test_a_call_that_ended_does_not_end_again_as_answered(self, first: Outcome) -> None:
        job = summary(sending(), first)
        assert summary(job, COMPLETED, 1) is job

    @pytest.mark.parametrize("redialling", [lambda job: job, leased], ids=["queued", "leased"])
    def test_a_person_who_answered_another_session_of_the_post_is_not_called_again(
        self, redialling: Callable[[Job], Job]
    ) -> None:
        """A proxy on the way to 8x8 may repeat a request: the second call finds the line busy with the first."""
        waits = redialling(summary(sending(redial=ON_BUSY), replace(BUSY, session_id="second")))
        after = summary(waits, replace(COMPLETED, session_id="first"), 1)
        assert (after.state, after.outcome_status, after.worker_id) == (S.COMPLETED, SessionStatus.COMPLETED, None)
        assert summary(after, BUSY, 1) is after

    def test_an_opt_out_counts_although_the_post_has_an_outcome(self) -> None:
        for first, redial in product([BUSY, COMPLETED, outcome(SessionStatus.FAILED), DROPPED], [None, ON_BUSY]):
            job = summary(sending(redial=redial, valid_until=NOW + HOUR), first)
            after = summary(job, outcome(UNSUBSCRIBED), 1)
            assert (after.state, after.outcome_status) == (S.COMPLETED, UNSUBSCRIBED)
            assert summary(after, outcome(UNSUBSCRIBED), 1) is after

    def test_who_answered_or_opted_out_in_an_earlier_attempt_gets_no_further_redial(self) -> None:
        for told, name in product([COMPLETED, outcome(UNSUBSCRIBED), outcome(SessionStatus.UNSUBSCRIBED_CONTACT)], OUT):
            out = OUT[name](begun(summary(sending(redial=replace(ON_BUSY, limit=3)), BUSY)))
            after = summary(out, told, 1)
            assert (after.state, after.posts[0].outcome) == (out.state, told)
            assert summary(after, told, 1) is after
            ended = summary(after, BUSY, 2)
            assert (ended.state, ended.redials) == (S.COMPLETED if told.status in REACHED else S.UNREACHED, 1)

    def test_a_redial_by_a_person_is_redialled_although_the_person_answered_before(self) -> None:
        answers = summary(sending(redial=replace(ON_BUSY, limit=3)), COMPLETED)
        again = begun(lifecycle.redial(answers, at=NOW + HOUR, note="again", force=True), at=NOW + HOUR)
        for after in (summary(again, BUSY, 2), answer(again, TURNED_AWAY, 2)):
            assert after.state is S.QUEUED

    def test_who_answered_or_opted_out_before_a_person_redialled_gets_no_redial_after_it_if_that_was_not_known(
        self,
    ) -> None:
        for told, first in product(
            [COMPLETED, outcome(UNSUBSCRIBED), outcome(SessionStatus.UNSUBSCRIBED_CONTACT)], [None, BUSY, COMPLETED]
        ):
            known = answer(sending(redial=replace(ON_BUSY, on=frozenset({SessionStatus.NO_ANSWER}), limit=3)), CREATED)
            known = lifecycle.give_up_waiting(known, at=NOW, policy=POLICY) if first is None else summary(known, first)
            again = begun(lifecycle.redial(known, at=NOW + HOUR, note="again", force=True), at=NOW + HOUR)
            after = summary(again, told, 1, at=NOW + 2 * HOUR)
            if after is again:
                assert first is COMPLETED, "it was known before the redial"
                assert told.status not in OPT_OUTS & REACHED
                continue
            for end in (summary(after, outcome(SessionStatus.NO_ANSWER), 2), answer(after, TURNED_AWAY, 2)):
                assert end.state is (S.COMPLETED if told.status in REACHED else S.UNREACHED)
                ordered = begun(
                    lifecycle.redial(end, at=NOW + 3 * HOUR, note="and again", force=True), at=NOW + 3 * HOUR
                )
                assert answer(ordered, TURNED_AWAY).state is S.QUEUED, "a person asked for it since"

    @pytest.mark.parametrize("told", [outcome(UNSUBSCRIBED), outcome(SessionStatus.UNSUBSCRIBED_CONTACT)])
    def test_who_opted_out_in_an_earlier_attempt_is_left_alone_after_an_answered_redial(self, told: Outcome) -> None:
        both = RedialPolicy(on=frozenset({SessionStatus.BUSY, SessionStatus.COMPLETED}), limit=3, after=MINUTE)
        out = summary(begun(summary(sending(redial=both), BUSY)), told, 1)
        assert summary(out, COMPLETED, 2).state is S.COMPLETED

    def test_an_opt_out_of_an_earlier_attempt_ends_a_wait_whatever_came_between(self) -> None:
        second = begun(summary(sending(redial=replace(ON_BUSY, limit=3)), BUSY))
        waits = lifecycle.redial(placed(answer(second, UNKNOWN)), at=NOW, note="again", force=True)
        first_is_open = replace(waits, posts=(replace(waits.posts[0], outcome=None), waits.posts[1]))
        for job in (waits, first_is_open, leased(first_is_open)):
            assert summary(job, outcome(SessionStatus.UNSUBSCRIBED_CONTACT), 1).state is S.UNREACHED

    @pytest.mark.parametrize("second", [BUSY, outcome(SessionStatus.NO_ANSWER), outcome(SessionStatus.FAILED)])
    def test_an_answer_counts_beside_another_call_of_the_attempt_that_reached_nobody(self, second: Outcome) -> None:
        ended = summary(second_post_out(), second, 2)
        assert summary(ended, COMPLETED, 1).state is S.COMPLETED
        assert summary(summary(ended, BUSY, 1), outcome(UNSUBSCRIBED), 1).state is S.COMPLETED

    def test_a_policy_that_redials_answered_calls_goes_on_after_a_busy_one(self) -> None:
        both = RedialPolicy(on=frozenset({SessionStatus.BUSY, SessionStatus.COMPLETED}), limit=3, after=MINUTE)
        again = begun(summary(sending(redial=both), COMPLETED))
        for after in (summary(again, BUSY, 2), answer(again, TURNED_AWAY, 2)):
            assert after.state is S.QUEUED

    def test_a_repeated_busy_does_not_cancel_the_redial_that_it_granted(self) -> None:
        waits = summary(sending(redial=ON_BUSY), BUSY)
        assert (waits.state, waits.redials) == (S.QUEUED, 1)
        out = begun(waits)
        for job in (waits, leased(waits), out, answer(out, CREATED)):
            assert summary(job, BUSY, 1) is job

    def test_a_summary_adds_the_session_that_no_answer_named(self) -> None:
        told = summary(sending(), replace(BUSY, session_id="s-9"))
        assert told.session_id == "s-9"

    @pytest.mark.parametrize("told", [COMPLETED, BUSY])
    def test_a_summary_of_an_older_post_while_a_newer_one_is_out_is_an_incident(self, told: Outcome) -> None:
        for job in (second_post_out(), answer(second_post_out(), CREATED)):
            after = summary(job, told, 1)
            assert after.state is job.state
            (incident,) = [note for note in after.notes if note.kind.is_incident]
            assert "POSTs 1 and 2" in incident.text
            assert after.posts[0].outcome == told

    def test_a_redial_between_two_posts_is_not_an_incident(self) -> None:
        job = begun(lifecycle.redial(placed(in_doubt()), at=NOW, note="again", force=True))
        after = summary(answer(job, CREATED), COMPLETED, 1)
        assert not any(note.kind.is_incident for note in after.notes)
        assert after.state is S.SUBMITTED

    def test_a_call_that_nobody_placed_is_not_an_incident(self) -> None:
        after = summary(second_post_out(), DROPPED, 1)
        assert not any(note.kind.is_incident for note in after.notes)

    def test_an_incident_is_noted_once_for_each_pair_whatever_comes_and_in_which_order(self) -> None:
        job = answer(answer(second_post_out(), CREATED, 1), CREATED, 2)
        for number in (1, 2):
            job = summary(job, BUSY, number)
        assert [note.kind for note in job.notes].count(NoteKind.RANG_TWICE) == 1

    def test_each_further_pair_is_an_incident_of_its_own(self) -> None:
        again = lifecycle.doubt(second_post_out(), at=NOW + HOUR, reason="lost", policy=POLICY)
        job = begun(not_placed(again, at=NOW + 2 * HOUR), at=NOW + 2 * HOUR)
        for number in (2, 1, 2):
            job = answer(job, CREATED, number)
        texts = [note.text for note in job.notes if note.kind is NoteKind.RANG_TWICE]
        assert [text.partition(" may")[0] for text in texts] == ["POSTs 2 and 3", "POSTs 1 and 3"]

    def test_an_incident_is_seen_past_a_redial_that_came_after_it(self) -> None:
        job = answer(second_post_out(redial=ON_BUSY), CREATED, 2)
        redialled = begun(summary(job, BUSY, 2))
        assert [post.redial for post in redialled.posts] == [0, 0, 1]
        after = summary(redialled, BUSY, 1)
        assert [note.kind for note in after.notes].count(NoteKind.RANG_TWICE) == 1

    def test_who_answered_is_not_called_again_for_what_another_post_came_to(self) -> None:
        job = summary(second_post_out(redial=ON_BUSY), COMPLETED, 1)
        assert summary(job, BUSY, 2).state is S.COMPLETED
        waits = summary(second_post_out(redial=ON_BUSY), BUSY, 2)
        assert waits.state is S.QUEUED
        assert summary(waits, COMPLETED, 1).state is S.COMPLETED


class TestAnOlderPostThatRang:
    """A person said "not placed" and was wrong; then the second POST turns out not to have been placed."""

    NOT_PLACED_AFTER_ALL: ClassVar[dict[str, Callable[[Job], Job]]] = {
        "not sent": lambda job: answer(job, NOT_SENT, 2),
        "turned away": lambda job: answer(job, TURNED_AWAY, 2),
        "refused": lambda job: answer(job, REFUSED, 2),
        "missed its window": lambda job: answer(job, MISSED, 2),
        "dropped by 8x8": lambda job: summary(job, DROPPED, 2),
        "not placed, says a person": lambda job: not_placed(
            lifecycle.doubt(job, at=NOW + HOUR, reason="lost", policy=POLICY), at=NOW + 2 * HOUR
        ),
    }

    def test_it_is_not_sent_a_third_time_once_the_first_is_known_to_be_created(self) -> None:
        for how in self.NOT_PLACED_AFTER_ALL:
            job = answer(second_post_out(valid_until=NOW + 9 * HOUR), CREATED, 1)
            after = self.NOT_PLACED_AFTER_ALL[how](job)
            assert (after.state, after.attempt) == (S.SUBMITTED, 1)
            assert summary(after, BUSY, 1).state is S.UNREACHED

    def test_it_ends_as_the_first_one_did(self) -> None:
        for how in self.NOT_PLACED_AFTER_ALL:
            for told, state in [(COMPLETED, S.COMPLETED), (BUSY, S.UNREACHED)]:
                job = summary(second_post_out(valid_until=NOW + 9 * HOUR), told, 1)
                assert self.NOT_PLACED_AFTER_ALL[how](job).state is state

    def test_a_redial_that_was_not_placed_is_not_sent_again_once_the_person_has_answered(self) -> None:
        for how in self.NOT_PLACED_AFTER_ALL:
            out = begun(summary(sending(redial=ON_BUSY, valid_until=NOW + 9 * HOUR), BUSY))
            after = self.NOT_PLACED_AFTER_ALL[how](summary(out, COMPLETED, 1))
            assert (after.state, after.attempt) == (S.COMPLETED, 1)


AGAIN: dict[str, Any] = {
    "redial": RedialPolicy(on=frozenset(SessionStatus) - OPT_OUTS, limit=5, after=MINUTE),
    "further_numbers": ("+6591230002",),
    "valid_until": NOW + 240 * HOUR,
}
"""A call that goes on wherever it may: every outcome grants a further call, to a further number at first."""
ENDED: dict[str, Callable[[], Job]] = {
    "no summary": lambda: lifecycle.give_up_waiting(answer(sending(**AGAIN), CREATED), at=NOW + HOUR, policy=POLICY),
    "resolved as placed": lambda: placed(in_doubt(**AGAIN)),
    "no webhooks": lambda: answered(
        sending(**AGAIN), 1, CREATED, at=NOW, policy=replace(POLICY, outcomes=OutcomeSource.NONE)
    ),
    "two POSTs, one resolved as placed": lambda: placed(
        lifecycle.doubt(second_post_out(**AGAIN), at=NOW + HOUR, reason="", policy=POLICY)
    ),
    "refused": lambda: answer(sending(**AGAIN), REFUSED),
    "expired": lambda: lifecycle.expire(not_placed(in_doubt(**AGAIN)), at=NOW + HOUR, policy=POLICY),
    "cancelled": lambda: lifecycle.cancel(not_placed(in_doubt(**AGAIN)), at=NOW + HOUR, reason="", policy=POLICY),
    "cancelled redial": lambda: lifecycle.cancel(
        summary(sending(**AGAIN), BUSY), at=NOW + HOUR, reason="", policy=POLICY
    ),
    "reached": lambda: summary(sending(**AGAIN | {"redial": None}), COMPLETED),
    "reached, and a redial was not placed": lambda: lifecycle.cancel(
        not_placed(lifecycle.doubt(begun(summary(sending(**AGAIN), BUSY)), at=NOW, reason="", policy=POLICY)),
        at=NOW + HOUR,
        reason="",
        policy=POLICY,
    ),
}


def late(at: datetime) -> list[Callable[[Job, int], Job]]:
    """Each piece of evidence, as it comes at a time."""
    return [
        *(partial(lambda said, job, n: answer(job, said, n, at=at), said) for said in VERDICTS),
        *(partial(lambda told, job, n: summary(job, told, n, at=at), told) for told in OUTCOMES),
        *(
            partial(
                lambda told, job, n: found_placed(job, n, session_id="s-1", outcome=told, at=at, policy=POLICY), told
            )
            for told in (None, COMPLETED, BUSY)
        ),
        lambda job, n: mismatched(job, n, session_id="s-1", at=at, policy=POLICY),
    ]


class TestFinalIsFinal:
    """The end of a call was told, perhaps with its batch's. Late evidence is recorded, and rings nobody."""

    @pytest.mark.parametrize("end", ENDED)
    def test_no_evidence_moves_a_call_that_has_ended_to_where_it_may_ring(self, end: str) -> None:
        job = ENDED[end]()
        assert job.state.is_final
        numbers = range(1, job.post_count + 1)
        for first, second, number, other in product(late(NOW), late(NOW), numbers, numbers):
            after = first(job, number)
            assert after.state.is_final
            assert second(after, other).state.is_final

    @pytest.mark.parametrize("end", ["refused", "expired", "cancelled"])
    def test_a_call_that_was_placed_after_all_ends_as_accepted_and_then_as_its_summary_says(self, end: str) -> None:
        job = ENDED[end]()
        after = answer(job, CREATED, 1, at=NOW + HOUR)
        assert (after.state, after.attempt, after.session_id) == (S.ACCEPTED, 1, "s-1")
        assert f"its end as {job.state.value} was reported before" in (after.reason or "")
        for told, state in ((BUSY, S.UNREACHED), (COMPLETED, S.COMPLETED)):
            later = summary(after, told, 1, at=NOW + HOUR)
            assert (later.state, later.outcome) == (state, told)


class TestLateEvidenceAfterTheRedialEnded:
    @pytest.mark.parametrize(
        "end",
        [
            lambda job: lifecycle.expire(job, at=NOW + HOUR, policy=POLICY),
            lambda job: lifecycle.cancel(job, at=NOW + HOUR, reason="", policy=POLICY),
        ],
    )
    def test_a_redial_that_rang_after_all_settles_the_job(self, end: Callable[[Job], Job]) -> None:
        redialled = begun(summary(sending(redial=ON_BUSY), BUSY))
        doubted = lifecycle.doubt(redialled, at=NOW, reason="lost", policy=POLICY)
        unreached = end(not_placed(doubted))
        assert unreached.state is S.UNREACHED
        assert summary(unreached, COMPLETED, 2).state is S.COMPLETED
        assert answer(unreached, CREATED, 2).state is S.ACCEPTED
        assert summary(answer(unreached, CREATED, 2), COMPLETED, 2).state is S.COMPLETED

    @pytest.mark.parametrize("name", ["expired", "cancelled", "failed"])
    def test_what_has_ended_is_not_redialled_by_a_late_summary(self, name: str) -> None:
        job = replace(EVERYWHERE[name](), redial=ON_BUSY)
        assert summary(job, BUSY, 1).state is S.UNREACHED


class TestMissedWindows:
    MISSES: ClassVar[dict[str, Callable[[Job], Job]]] = {
        "-1015": lambda job: answer(job, MISSED),
        "-2007": lambda job: summary(answer(job, CREATED), DROPPED),
    }

    @pytest.mark.parametrize("how", MISSES)
    def test_while_the_job_is_valid_it_is_sent_again_three_times_at_most(self, how: str) -> None:
        job = a_job(valid_until=NOW + 24 * HOUR)
        for count in (1, 2, 3):
            job = self.MISSES[how](begun(job))
            assert (job.state, job.missed_windows, job.attempt) == (S.QUEUED, count, 0)
            assert NOW < job.due_at <= NOW + POLICY.longest_backoff
        job = self.MISSES[how](begun(job))
        assert (job.state, job.attempt) == (S.FAILED, 0)
        assert how in (job.reason or "")

    @pytest.mark.parametrize("how", MISSES)
    def test_without_a_validity_of_its_own_it_expires(self, how: str) -> None:
        job = self.MISSES[how](sending())
        assert job.reason == f"8x8 says that its validity had passed ({how})"
        assert (job.state, job.valid_until, job.attempt) == (S.EXPIRED, None, 0)

    def test_past_its_own_validity_it_expires(self) -> None:
        job = sending(valid_until=NOW + MINUTE)
        assert answer(job, MISSED, at=NOW + MINUTE).state is S.EXPIRED
        assert answer(job, MISSED, at=NOW + MINUTE - SECOND).state is S.QUEUED

    def test_a_missed_redial_gives_unreached(self) -> None:
        job = begun(summary(sending(redial=ON_BUSY), BUSY))
        after = answer(job, MISSED)
        assert (after.state, after.reason) == (S.UNREACHED, "its validity ended before the redial (-1015)")

    def test_created_that_comes_after_the_drop_does_not_wait_for_another_summary(self) -> None:
        dropped = summary(sending(valid_until=NOW + HOUR), DROPPED)
        assert answer(dropped, CREATED).state is S.QUEUED


class TestFullTrunks:
    def test_a_call_is_sent_again_while_it_is_valid_three_times_at_most(self) -> None:
        job = a_job(valid_until=NOW + 24 * HOUR)
        for count in (1, 2, 3):
            job = summary(answer(begun(job), CREATED), FULL)
            assert (job.state, job.missed_windows, job.attempt, job.redials) == (S.QUEUED, count, 0, 0)
            assert NOW + SECOND <= job.due_at <= NOW + MINUTE
            assert "-2010" in (job.reason or "")
            assert summary(job, FULL) == job, "a repeated one changes nothing"
        job = summary(answer(begun(job), CREATED), FULL)
        assert (job.state, job.reason) == (S.FAILED, "FAILED: trunk capacity exceeded")

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"valid_until": NOW + SECOND},
            {"valid_until": NOW + HOUR, "legs": [{"connected_at": NOW}]},
            {"valid_until": NOW + HOUR, "legs": [{"seconds": 3.0}]},
            {"valid_until": NOW + HOUR, "legs": [{"status": "BUSY"}]},
            {"valid_until": NOW + HOUR, "legs": [{"status": "NO ANSWER"}]},
            {"valid_until": NOW + HOUR, "legs": [{"status": "SOMETHING_NEW"}]},
            {"valid_until": NOW + HOUR, "legs": [{"status": "ERROR"}, {"connected_at": NOW}]},
            {"valid_until": NOW + HOUR, "rang": True},
        ],
    )
    def test_a_call_without_validity_or_with_a_phone_that_rang_fails(self, changes: dict[str, Any]) -> None:
        legs = tuple(CallLeg(destination="+6587654321", **each) for each in changes.pop("legs", ()))
        told = replace(FULL, legs=legs, rang=changes.pop("rang", False))
        assert summary(answer(sending(**changes), CREATED), told).state in {S.FAILED, S.UNREACHED, S.COMPLETED}

    def test_an_event_that_comes_later_ends_the_wait(self) -> None:
        rang = replace(FULL, rang=True)
        waiting = summary(answer(sending(valid_until=NOW + HOUR), CREATED), FULL)
        leased = lifecycle.lease(waiting, worker_id="w", until=NOW + MINUTE)
        for job in (waiting, leased):
            ended = summary(job, rang)
            assert (ended.state, ended.attempt) == (S.FAILED, 1)
            assert summary(ended, rang) is ended
        sent = begun(waiting)
        assert summary(sent, rang, 1).state is S.SENDING, "too late: it is on its way"
        assert summary(summary(sending(valid_until=NOW + HOUR), BUSY), rang).state is S.UNREACHED

    def test_a_call_that_was_cancelled_or_told_as_accepted_is_not_sent_again(self) -> None:
        accepted = lifecycle.give_up_waiting(answer(sending(valid_until=NOW + HOUR), CREATED), at=NOW, policy=POLICY)
        assert summary(accepted, FULL).state is S.FAILED

    def test_a_person_who_pressed_a_key_was_there(self) -> None:
        press = KeyPress(at=NOW, menu="ask", digits="1")
        job = with_press(answer(sending(valid_until=NOW + HOUR), CREATED), 1, press, at=NOW, policy=POLICY)
        assert (summary(job, FULL).state, summary(job, FULL).attempt) == (S.FAILED, 1)

    def test_it_is_no_redial_of_the_policy(self) -> None:
        plan = RedialPolicy(on=frozenset({SessionStatus.FAILED}), limit=1, after=HOUR)
        job = summary(answer(sending(valid_until=NOW + 9 * HOUR, redial=plan), CREATED), FULL)
        assert (job.redials, job.due_at <= NOW + MINUTE) == (0, True)


class TestBrokenBodies:
    @pytest.mark.parametrize("code", [-2003, -2005, -2006])
    @pytest.mark.parametrize("status", [SessionStatus.ERROR, SessionStatus.FAILED, SessionStatus.BUSY])
    def test_the_same_body_is_not_called_again(self, code: int, status: SessionStatus) -> None:
        plan = RedialPolicy(on=frozenset({status}), limit=3, after=MINUTE)
        job = sending(redial=plan, further_numbers=("+6587654322",), valid_until=NOW + HOUR)
        after = summary(answer(job, CREATED), outcome(status, code=code))
        assert after.state is (S.UNREACHED if status is SessionStatus.BUSY else S.FAILED)
        assert f"the same call would fail again ({code})" in (after.reason or "")


def test_every_code_of_an_answer_is_known_in_a_summary() -> None:
    for code in API_CODES:
        assert session_error(code) == (SESSION_ERROR_CODES.get(code) or api_code(code))


class TestRedials:
    @staticmethod
    def plan(**fields: Any) -> RedialPolicy:
        given: dict[str, Any] = {"on": frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), "limit": 3}
        return RedialPolicy(**(given | {"after": MINUTE} | fields))

    def test_only_what_the_policy_names_is_called_again(self) -> None:
        for status in SessionStatus:
            after = summary(sending(redial=self.plan()), outcome(status))
            assert (after.state is S.QUEUED) is (status in self.plan().on)

    def test_each_outcome_may_have_a_wait_of_its_own(self) -> None:
        waits = {SessionStatus.BUSY: MINUTE, SessionStatus.NO_ANSWER: HOUR}
        for status, wait in waits.items():
            job = sending(redial=self.plan(after=waits))
            assert summary(job, outcome(status)).due_at == NOW + wait

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
            self.plan(after=waits)

    def test_it_ends_with_the_last_redial(self) -> None:
        job = a_job(redial=self.plan())
        for count in (1, 2, 3):
            job = summary(begun(job), BUSY)
            assert (job.state, job.redials, job.attempt) == (S.QUEUED, count, count)
        job = summary(begun(job), BUSY)
        assert (job.state, job.redials, job.attempt) == (S.UNREACHED, 3, 4)

    def test_a_redial_that_would_come_after_the_validity_is_not_made(self) -> None:
        for seconds, state in ((60, S.UNREACHED), (61, S.QUEUED)):
            job = sending(redial=self.plan(), valid_until=NOW + seconds * SECOND)
            assert summary(job, BUSY).state is state

    def test_who_is_on_the_block_list_is_never_called_again(self) -> None:
        plan = self.plan(on=frozenset(SessionStatus))
        assert summary(sending(redial=plan), outcome(SessionStatus.UNSUBSCRIBED_CONTACT)).state is S.UNREACHED

    def test_a_redial_starts_with_a_clean_slate(self) -> None:
        job = summary(sending(redial=self.plan(), failures=5, missed_windows=2), BUSY)
        assert (job.failures, job.missed_windows) == (0, 0)


class TestEvidenceIsAFact:
    def test_it_is_taken_in_every_state_and_the_second_time_changes_nothing(self) -> None:
        for name, (first, again) in product(EVERYWHERE, zip(late(NOW), late(NOW + HOUR), strict=True)):
            job = EVERYWHERE[name]()
            for number in range(1, job.post_count + 1):
                after = first(job, number)
                assert again(after, number) is after

    @given(
        st.lists(st.sampled_from([*VERDICTS, *OUTCOMES]), max_size=6), st.sampled_from(sorted(EVERYWHERE)), st.data()
    )
    def test_whatever_comes_in_whatever_order_nothing_known_is_lost(
        self, pieces: list[Verdict | Outcome], name: str, data: st.DataObject
    ) -> None:
        job = replace(EVERYWHERE[name](), redial=ON_BUSY)
        for piece in pieces:
            before, copy = job, replace(job)
            number = data.draw(st.integers(1, job.post_count))
            job = answer(job, piece, number) if isinstance(piece, Verdict) else summary(job, piece, number)
            assert before == copy, "values in, values out"
            for post in before.posts:
                now, known = job.post(post.number), post.outcome
                assert now is not None
                told = known is None or known == now.outcome
                assert (
                    told
                    or (known and not known.was_placed)
                    or (now.outcome and now.outcome.status in REACHED | OPT_OUTS)
                )
                assert post.session_id is None or now.session_id == post.session_id
                assert post.verdict is not VerdictKind.CREATED or now.verdict is VerdictKind.CREATED
            assert job.notes[: len(before.notes)] == before.notes
            if job.state in {S.QUEUED, S.LEASED}:
                assert job.placed_post is None, "what is known to have been placed is not sent again"


class TestASessionThatWasMatchedByNumbers:
    """Another program may have called the same person from the same number at the same time."""

    def matched(self, job: Job) -> Job:
        return found_placed(job, 1, session_id="theirs", outcome=None, at=NOW, policy=POLICY)

    def test_yields_to_the_one_that_the_answer_names(self) -> None:
        after = answer(self.matched(sending()), CREATED)
        assert (after.state, after.posts[0].verdict, after.posts[0].session_id) == (
            S.SUBMITTED, VerdictKind.CREATED, "s-1",
        )  # fmt: skip

    def test_stands_when_the_answer_names_none(self) -> None:
        after = answer(self.matched(sending()), verdict(VerdictKind.CREATED))
        assert (after.posts[0].verdict, after.posts[0].session_id) == (VerdictKind.CREATED, "theirs")

    @pytest.mark.parametrize("said", [REFUSED, MISSED, NOT_SENT, TURNED_AWAY], ids=lambda said: said.message)
    def test_is_nobodys_once_the_answer_says_that_nothing_was_placed(self, said: Verdict) -> None:
        assert answer(self.matched(sending()), said).posts[0].session_id is None

    def test_yields_to_the_one_that_the_summary_names(self) -> None:
        after = summary(self.matched(in_doubt()), replace(COMPLETED, session_id="s-1"))
        assert (after.state, after.posts[0].session_id) == (S.COMPLETED, "s-1")

    def test_that_proves_to_be_of_another_call_leaves_the_job_in_doubt_again(self) -> None:
        before = self.matched(in_doubt())
        after = mismatched(before, 1, session_id="theirs", at=NOW + HOUR, policy=POLICY)
        assert (after.state, after.posts[0].verdict, after.posts[0].session_id) == (
            S.IN_DOUBT, VerdictKind.UNKNOWN, None,
        )  # fmt: skip
        assert after.open_post == after.posts[0]
        # Whatever its own answer says is still heard.
        assert answer(after, CREATED).state is S.SUBMITTED
        assert answer(after, NOT_SENT).state is S.QUEUED

    def test_is_left_alone_by_what_proves_something_of_another_session(self) -> None:
        for job in (self.matched(in_doubt()), answer(sending(), CREATED), a_job()):
            assert mismatched(job, 1, session_id="s-9", at=NOW, policy=POLICY) is job
        for said in (CREATED, replace(UNKNOWN, session_id="s-1")):
            answered_so = answer(sending(), said)
            assert mismatched(answered_so, 1, session_id="s-1", at=NOW, policy=POLICY) is answered_so
        told = summary(self.matched(in_doubt()), replace(COMPLETED, session_id="theirs"))
        assert mismatched(told, 1, session_id="theirs", at=NOW, policy=POLICY) is told


def test_a_redial_that_lies_beyond_all_calendars_is_none_and_the_summary_is_taken() -> None:
    on_busy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=9, after=timedelta(days=10**8))
    assert summary(sending(redial=on_busy), BUSY).state is S.UNREACHED


def test_a_late_summary_grants_no_redial_to_a_call_that_a_person_cancelled() -> None:
    accepted = lifecycle.give_up_waiting(
        answer(sending(redial=replace(ON_BUSY, limit=3)), CREATED), at=NOW, policy=POLICY
    )
    again = lifecycle.redial(accepted, at=NOW, note="once more", force=True)
    cancelled = lifecycle.cancel(again, at=NOW, reason="asked us to stop", policy=POLICY)
    assert summary(cancelled, outcome(SessionStatus.BUSY), 1).state is S.UNREACHED
