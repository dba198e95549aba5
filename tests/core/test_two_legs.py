"""Sessions of two legs: who was reached is the person called, whatever became of the other party."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.plain_jobs import NOW, POLICY, sending
from voiceflow_worker.core.settling.settle import SummaryResult, outcome_of
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.evidence import summarised
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.reporting.story import story

pytestmark = pytest.mark.anyio

STATUSES = ("COMPLETED", "NO ANSWER", "BUSY", "CANCELED", "FAILED", "ERROR")
OTHER_PARTY = "+6587650000"
ANY = RedialPolicy(on=frozenset(set(SessionStatus) - REACHED - OPT_OUTS), limit=1, after=timedelta(0))


def ended(first: str, second: str, status: str) -> Job:
    """A call that may be redialled, after the summary of a session with these two legs."""

    def leg(to: str, status: str) -> dict[str, Any]:
        answered = {"connectedTimestamp": "2026-11-20T08:00:10.000Z"} if status == "COMPLETED" else {}
        told = {"callId": f"c-{to}", "destination": to.removeprefix("+"), "callStatus": status}
        return {**told, "callDuration": 37 if answered else 0, **answered}

    job = sending(redial=ANY)
    payload = {
        "sessionId": "s-1",
        "sessionStatus": status,
        "callCount": 2,
        "details": {"callA": leg(job.destination, first), "callB": leg(OTHER_PARTY, second)},
    }
    event = parse_event({"namespace": "VOICE", "eventType": "SESSION_SUMMARY", "payload": payload})
    assert isinstance(event, SessionSummary)
    return summarised(job, 1, outcome_of(event), at=NOW, policy=POLICY)


def test_who_answered_is_never_rung_again_whatever_became_of_the_other_party() -> None:
    """The status of the session is that of the second leg once the first was answered (number masking guide)."""
    for second, first in product(STATUSES, STATUSES):
        job = ended(first, second, second if first == "COMPLETED" else first)
        assert (job.state is JobState.COMPLETED) is (first == "COMPLETED")
        assert (job.state is JobState.QUEUED) is (first != "COMPLETED")


def test_the_outcome_keeps_the_status_of_the_session_and_tells_of_each_leg() -> None:
    job = ended("COMPLETED", "BUSY", "BUSY")
    shown: Any = call_as_json(job)["outcome"]
    assert shown["session_status"] == "BUSY"
    assert [(leg["destination"], leg["status"], leg["seconds"]) for leg in shown["legs"]] == [
        ("+6587654321", "COMPLETED", 37.0),
        (OTHER_PARTY, "BUSY", 0.0),
    ]
    lines = "\n".join(story(job, at=job.created_at).lines())
    assert "status COMPLETED" in lines
    assert "+6587650000 BUSY" in lines


async def test_a_session_status_that_nobody_knows_is_settled_by_the_persons_leg(engine: Engine) -> None:
    job = await engine.enqueue(redial=ANY)
    await engine.send()
    told = SessionSummary(
        status=None,
        status_text="SOMETHING_NEW",
        client_request_id=f"{job.id}.1",
        call_a=CallLeg(destination=job.destination, status="COMPLETED"),
        call_b=CallLeg(destination=OTHER_PARTY, status="BUSY"),
    )
    assert await engine.settler.summary(told) is SummaryResult.SETTLED
    assert await engine.state(job) == "completed"


def outcome(session: str, *legs: CallLeg) -> Outcome:
    """Of one leg: what may be half of the session, as a row of the log whose other one has not come yet."""
    return Outcome(status=SessionStatus(session), status_text=session, legs=legs, is_partial=len(legs) == 1)


S = SessionStatus
PERSON, OTHER = "6587654321", "15550100"


def leg(status: str, destination: str | None = None) -> CallLeg:
    return CallLeg(status=status, destination=destination)


def test_the_persons_leg_is_theirs_with_a_digit_that_is_dialled_within_the_country_only_too() -> None:
    told = outcome("BUSY", leg("BUSY", OTHER), leg("COMPLETED", "660812345678"))
    assert told.status_of("+66812345678") is S.COMPLETED


def test_the_status_of_the_call_to_the_person() -> None:
    for told, expected in [
        (outcome("BUSY"), S.BUSY),
        # One leg alone: as the session says, unless it shows that the person answered, or that the other was called.
        (outcome("BUSY", leg("BUSY", PERSON)), S.BUSY),
        (outcome("NO_ANSWER", leg("NO ANSWER")), S.NO_ANSWER),
        (outcome("ERROR", leg("COMPLETED", PERSON)), S.ERROR),
        (outcome("BUSY", leg("COMPLETED")), S.COMPLETED),
        (outcome("BUSY", leg("COMPLETED", PERSON)), S.COMPLETED),
        (outcome("NO_ANSWER", leg("NO ANSWER", OTHER)), S.COMPLETED),
        (outcome("FAILED", leg("FAILED", OTHER)), S.COMPLETED),
        (outcome("CANCELED", leg("CANCELED", OTHER)), S.CANCELED),  # who hung up first is not said
        (outcome("NO_ANSWER", leg("NO ANSWER", "87654321")), S.NO_ANSWER),
        (outcome("NO_ANSWER", leg("NO ANSWER", "6587****21")), S.NO_ANSWER),
        (outcome("BUSY", leg("COMPLETED", "+1"), leg("BUSY")), S.COMPLETED),
        # The second in the list may be the person's own.
        (outcome("BUSY", leg("BUSY", OTHER), leg("COMPLETED", PERSON)), S.COMPLETED),
        # A request to be left alone in this call counts, whatever became of the legs.
        (outcome("COMPLETED_UNSUBSCRIBED", leg("COMPLETED"), leg("BUSY")), S.COMPLETED_UNSUBSCRIBED),
        # The block list held the other party: the person was reached.
        (outcome("UNSUBSCRIBED_CONTACT", leg("COMPLETED"), leg("FAILED")), S.COMPLETED),
        (outcome("UNSUBSCRIBED_CONTACT", leg("FAILED"), leg("CANCELED")), S.UNSUBSCRIBED_CONTACT),
        (outcome("NO_ANSWER", leg("NO ANSWER"), leg("CANCELED")), S.NO_ANSWER),
        (outcome("BUSY", leg("SOMETHING_NEW"), leg("BUSY")), S.BUSY),
    ]:
        assert told.status_of("+6587654321") is expected


@pytest.mark.parametrize("session", ["NO_ANSWER", "BUSY", "FAILED"])
def test_of_a_session_that_had_one_leg_its_own_status_stands(session: str) -> None:
    told = Outcome(status=SessionStatus(session), status_text=session, legs=(leg("COMPLETED", PERSON),))
    assert told.status_of("+6587654321") is SessionStatus(session)


@pytest.mark.parametrize(("count", "partial"), [(None, False), (1, False), (2, True)])
def test_a_summary_is_partial_when_it_counts_more_calls_than_it_tells_of(count: int | None, *, partial: bool) -> None:
    told = SessionSummary(status=SessionStatus.BUSY, call_count=count, call_a=CallLeg(status="COMPLETED"))
    assert outcome_of(told).is_partial is partial


def test_a_summary_of_the_second_party_alone_is_partial() -> None:
    assert outcome_of(SessionSummary(status=SessionStatus.BUSY, call_b=CallLeg(status="BUSY"))).is_partial
