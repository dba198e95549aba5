"""Rows of the 8x8 log: every form that is read, and those that are refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import plain_jobs
from tests.support.plain_jobs import HOUR, MINUTE, NOW, POLICY, SECOND
from voiceflow_worker import CallPolicy, Job, JobState
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_log import (
    ExportRow,
    LoggedSession,
    LoggedSessions,
    may_own,
    window_of,
)
from voiceflow_worker.model.jobs.evidence import answered, found_placed, summarised
from voiceflow_worker.model.jobs.job import Post
from voiceflow_worker.model.jobs.lifecycle import resolve
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.numbers.phone import Likeness, likeness
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

SOURCE, ANA, BEN = "+6531234567", "+6587654321", "+6587654322"
SKEW = POLICY.clock_skew


def a_post(number: int = 1, *, began_at: datetime = NOW, verdict: VerdictKind | None = VerdictKind.UNKNOWN) -> Post:
    until = began_at + 2 * MINUTE
    return Post(number=number, client_request_id=f"d.{number}", began_at=began_at, valid_until=until, verdict=verdict)


def a_job(*posts: Post) -> Job:
    posts = posts or (a_post(),)
    return plain_jobs.a_job(JobState.IN_DOUBT, posts=posts, post_count=len(posts))


def a_row(
    session_id: str | None = "s-1",
    *,
    at: datetime | None = NOW + 5 * SECOND,
    lasts: timedelta = 30 * SECOND,
    **more: Any,
) -> ExportRow:
    status = more.get("status", SessionStatus.COMPLETED)
    given = {"direction": Direction.OUTBOUND, "source": SOURCE, "destination": ANA, "status": status, **more}
    text, ended = status.value if status else "IN PROGRESS", at + lasts if at else None
    return ExportRow(session_id=session_id, initiated_at=at, disconnected_at=ended, status_text=text, **given)


WINDOW = window_of(a_post(), skew=SKEW)


def fits(*rows: ExportRow) -> Likeness:
    """How like the call of `a_job` the session of these rows is."""
    return LoggedSession(rows[0].session_id, rows).likeness(SOURCE, ANA, WINDOW)


NUMBERS = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)


class TestNumbers:
    @pytest.mark.parametrize(
        ("expected", "written"),
        [
            (Likeness.SAME, ["+6587654321", "6587654321", "65 8765 4321", "+65-8765-4321", "(65) 87654321"]),
            # What hides a number may be any that it does not exclude; the fifth and sixth lack their country code.
            (Likeness.MAYBE, ["65876*****", "65*76***21", "xxxxxxxxxx", "*", "8765****", "87654321", "", None,
                              "anonymous", "6.58765E+09"]),
            (Likeness.OTHER, ["+6587654322", "6587654322", "65877*****", "*****4322", "9187654322", "87654322",
                              "+1***55"]),
        ],
        ids=["same", "maybe", "other"],
    )  # fmt: skip
    def test_a_number_is_known_by_its_digits(self, expected: Likeness, written: list[str | None]) -> None:
        for each in written:
            assert likeness(each, ANA) is expected, each

    @given(NUMBERS, st.integers(0, 15), st.integers(0, 15), st.sampled_from("*xX#"))
    def test_no_mask_of_a_number_excludes_it(self, number: str, start: int, length: int, mark: str) -> None:
        digits = number[1:]
        masked = digits[:start] + mark * len(digits[start : start + length]) + digits[start + length :]
        assert likeness(masked, number) is not Likeness.OTHER

    @given(NUMBERS, st.integers(0, 10))
    def test_no_number_that_lost_its_beginning_excludes_it(self, number: str, lost: int) -> None:
        assert likeness(number[1 + lost :], number) is not Likeness.OTHER

    def test_the_zero_that_is_dialled_within_a_country_makes_no_other_number(self) -> None:
        for number, written in product(
            ["+442079460958", "+4402079460958"], ["4402079460958", "+442079460958", "+44 (0)20 7946 0958"]
        ):
            assert likeness(written, number) is Likeness.SAME


LATER = NOW + 12 * SECOND


class TestSessions:
    @pytest.mark.parametrize("off", [-SKEW, 2 * MINUTE + SKEW])
    def test_the_window_is_as_wide_as_the_clocks_may_be_off(self, off: timedelta) -> None:
        assert fits(a_row(at=NOW + off)) is Likeness.SAME
        assert fits(a_row(at=NOW + off + (SECOND if off > SECOND else -SECOND))) is Likeness.OTHER

    @pytest.mark.parametrize(
        ("expected", "sessions"),
        [
            (Likeness.SAME, [(a_row(),)]),
            # A row that does not tell all; the second party of a call; legs whose order is not known.
            (Likeness.MAYBE, [
                *((row,) for row in (a_row(destination="65876*****"), a_row(source=None), a_row(at=None),
                                     a_row(session_id=None), ExportRow())),
                (a_row(destination=BEN), a_row(destination=ANA, at=LATER)), (a_row(), a_row(destination=BEN, at=None)),
            ]),
            # Another number, time or direction.
            (Likeness.OTHER, [
                (a_row(source=BEN),), (a_row(destination=BEN),), (a_row(destination="65877*****"),),
                (a_row(at=NOW + HOUR, destination="65876*****"),), (a_row(direction=Direction.INBOUND),),
            ]),
        ],
        ids=["same", "maybe", "other"],
    )  # fmt: skip
    def test_a_session_fits_by_its_numbers_its_time_and_its_direction(
        self, expected: Likeness, sessions: list[tuple[ExportRow, ...]]
    ) -> None:
        for rows in sessions:
            assert fits(*rows) is expected, rows

    def test_the_legs_of_one_session_are_one(self) -> None:
        first, second = a_row(), a_row(destination=BEN, at=LATER)
        found = LoggedSessions([second, first]).candidates(SOURCE, ANA, WINDOW)
        assert found == [(LoggedSession("s-1", (second, first)), Likeness.SAME)]

    def test_a_session_is_found_by_the_time_of_any_leg_and_without_one(self) -> None:
        early = a_row("early", destination=BEN, at=NOW - HOUR)
        rows = [early, a_row("early", destination=ANA), a_row("far", at=NOW + HOUR), a_row("timeless", at=None)]
        found = LoggedSessions(rows).candidates(SOURCE, ANA, WINDOW)
        assert [(session.session_id, fit) for session, fit in found] == [
            ("early", Likeness.MAYBE), ("timeless", Likeness.MAYBE),
        ]  # fmt: skip

    def test_a_session_is_found_by_its_id(self) -> None:
        book = LoggedSessions([a_row("s-1"), a_row("s-2"), a_row(None)])
        assert book.get("s-2") == LoggedSession("s-2", (a_row("s-2"),))
        assert book.get("s-3") is None


class TestHowItEnded:
    def test_an_outcome_spans_all_legs(self) -> None:
        outcome = LoggedSession("s-1", (a_row(at=NOW + MINUTE, destination=BEN), a_row())).outcome
        assert outcome is not None
        assert (outcome.started_at, outcome.seconds) == (NOW + 5 * SECOND, 85)

    @pytest.mark.parametrize("call_status", ["COMPLETED", None])
    def test_who_was_reached_is_reported_by_the_first_row_of_two(self, call_status: str | None) -> None:
        busy = SessionStatus.BUSY
        person = a_row(status=busy, call_status=call_status, connected_at=NOW + 15 * SECOND, seconds=20)
        other = a_row(at=NOW + MINUTE, destination=BEN, status=busy, call_status="BUSY")
        outcome = LoggedSession("s-1", (other, person)).outcome
        assert outcome is not None
        assert (outcome.status, outcome.status_of(ANA)) == (busy, SessionStatus.COMPLETED)
        assert [(leg.destination, leg.seconds) for leg in outcome.legs] == [(ANA, 20), (BEN, None)]

    def test_a_status_that_is_not_known_or_not_agreed_on_is_none(self) -> None:
        unknown = a_row(status=None)
        for legs in ((unknown,), (a_row(), a_row(status=SessionStatus.FAILED)), (a_row(), unknown)):
            assert LoggedSession("s-1", legs).outcome is None


class TestOwners:
    def test_a_post_of_that_time_may_own_a_row_unless_its_answer_or_its_session_says_otherwise(self) -> None:
        kind, span = VerdictKind, 2 * MINUTE + 2 * SKEW
        may = {None, kind.UNKNOWN, kind.CREATED, kind.PLACED, kind.NOT_PLACED}  # a person may be wrong
        for verdict in (None, *kind):
            assert may_own(a_post(verdict=verdict), WINDOW, skew=SKEW) is (verdict in may)
        assert not may_own(replace(a_post(), session_id="s-9"), WINDOW, skew=SKEW)
        for off, owns in ((span, True), (-span, True), (HOUR, False), (-HOUR, False)):
            assert may_own(a_post(began_at=NOW + off), WINDOW, skew=SKEW) is owns


COMPLETED = LoggedSession("s-1", (a_row(),)).outcome
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY", session_id="s-1")


def found(job: Job, outcome: Outcome | None = COMPLETED, *, session_id: str = "s-1", at: datetime = NOW) -> Job:
    return found_placed(job, job.posts[-1].number, session_id=session_id, outcome=outcome, at=at, policy=POLICY)


class TestFoundPlaced:
    def test_where_nobody_listens_for_summaries_that_is_the_end(self) -> None:
        policy = CallPolicy(outcomes=OutcomeSource.NONE)
        job = found_placed(a_job(), 1, session_id="s-1", outcome=None, at=NOW, policy=policy)
        assert job.state is JobState.ACCEPTED

    def test_after_a_summary_it_only_adds_the_session(self) -> None:
        unnamed = replace(BUSY, session_id=None)
        ended = summarised(a_job(), 1, unnamed, at=NOW, policy=POLICY)
        job = found(ended)
        assert (job.state, job.outcome, job.session_id) == (JobState.UNREACHED, unnamed, "s-1")

    @pytest.mark.parametrize(
        "said",
        [
            Verdict(kind=VerdictKind.REFUSED, message="no", code=-1014),
            Verdict(kind=VerdictKind.NOT_SENT, message="no"),
            Verdict(kind=VerdictKind.TURNED_AWAY, message="no"),
            Verdict(kind=VerdictKind.CREATED, message="created", code=1, session_id="s-true"),
        ],
        ids=lambda said: said.kind.value,
    )
    def test_an_answer_that_said_no_or_named_another_session_outweighs_it(self, said: Verdict) -> None:
        job = answered(a_job(), 1, said, at=NOW, policy=POLICY)
        assert found(job) is job

    def test_found_after_a_person_said_that_it_was_not_placed_it_is_not_sent_again(self) -> None:
        said = resolve(a_job(), placed=False, at=NOW, recorded_at=NOW + HOUR, note="not in the portal", policy=POLICY)
        assert said.state is JobState.QUEUED
        assert found(said, None).state is JobState.SUBMITTED
        assert found(said).state is JobState.COMPLETED
