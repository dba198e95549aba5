"""Sessions of two legs: who was reached is the person called, whatever became of the other party."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.voices import created
from voiceflow_worker import open_store
from voiceflow_worker.core.overview.story import story
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.settling.settle import outcome_of
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.records.call_json import call_as_json
from voiceflow_worker.model.reports.events import Leg, SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

pytestmark = pytest.mark.anyio

STATUSES = ("COMPLETED", "NO ANSWER", "BUSY", "CANCELED", "FAILED", "ERROR")
OTHER_PARTY = "+6587650000"
ANY = RedialPolicy(on=frozenset(set(SessionStatus) - REACHED - OPT_OUTS), limit=1, after=timedelta(0))


def session_status(first: str, second: str) -> str:
    """The status of a session by the statuses of its legs (8x8 number masking guide, "Session statuses")."""
    return second if first == "COMPLETED" else first


@dataclass(frozen=True, kw_only=True)
class Told:
    """How one session is told of."""

    first: str
    second: str
    status: str
    before_the_answer: bool = False
    with_request_id: bool = True
    times: int = 1
    connected: bool = True

    def summary(self, job_id: str, number: int, *, destination: str) -> SessionSummary:
        def leg(to: str, status: str) -> dict[str, Any]:
            answered = {"connectedTimestamp": "2026-11-20T08:00:10.000Z"} if status == "COMPLETED" else {}
            return {
                "callId": f"c-{to}",
                "destination": to.removeprefix("+"),
                "callStatus": status,
                "callDuration": 37 if answered else 0,
                **(answered if self.connected else {}),
            }

        payload: dict[str, Any] = {
            "sessionId": f"session-{job_id}.{number}",
            "sessionStatus": self.status,
            "callCount": 2,
            "details": {"callA": leg(destination, self.first), "callB": leg(OTHER_PARTY, self.second)},
        }
        if self.with_request_id:
            payload["clientRequestId"] = f"{job_id}.{number}"
        event = parse_event({"namespace": "VOICE", "eventType": "SESSION_SUMMARY", "payload": payload})
        assert isinstance(event, SessionSummary)
        return event


class TellingVoice:
    """Accepts each call; a session that is told of before the answer is told of while the POST is on its way."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.told: dict[str, Told] = {}
        self.rang: dict[str, int] = {}

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:  # noqa: ARG002 (the port's)
        progress.may_have_left = True
        job_id, _, number = placement.client_request_id.rpartition(".")
        self.rang[job_id] = self.rang.get(job_id, 0) + 1
        if self.told[job_id].before_the_answer:
            await self.tell(job_id, int(number))
        return created(f"session-{placement.client_request_id}")

    async def tell(self, job_id: str, number: int) -> None:
        assert self.engine is not None
        destination = (await self.engine.queue.get(job_id)).destination
        for _ in range(self.told[job_id].times):
            await self.engine.settler.summary(self.told[job_id].summary(job_id, number, destination=destination))


async def played(sessions: Sequence[Told]) -> dict[int, tuple[Job, int]]:
    """What became of a call with each of these sessions, and how often its phone rang. All may be redialled."""
    voice = TellingVoice()
    async with open_store("memory://") as store:
        engine = voice.engine = Engine(store, voice)
        jobs = [await engine.enqueue(f"+65{81000000 + place}", redial=ANY) for place in range(len(sessions))]
        voice.told = {job.id: told for job, told in zip(jobs, sessions, strict=True)}
        for _ in range(2):  # the call, and its redial
            while flights := await engine.prepare():
                for flight in flights:
                    await engine.submitter.fly(flight)
                    told, job = voice.told[flight.job.id], await engine.queue.get(flight.job.id)
                    if not told.before_the_answer:
                        await voice.tell(job.id, job.post_count)
            await engine.settler.apply_all_parked(limit=len(sessions) + 1)
        ended = [await engine.queue.get(job.id) for job in jobs]
    return {place: (job, voice.rang[job.id]) for place, job in enumerate(ended)}


def every_pair() -> Iterator[Told]:
    """Every pair of statuses of two legs, told in every way."""
    for first, second, before, named, times in product(STATUSES, STATUSES, (False, True), (False, True), (1, 2)):
        yield Told(
            first=first,
            second=second,
            status=session_status(first, second),
            before_the_answer=before,
            with_request_id=named,
            times=times,
        )


def check(sessions: Sequence[Told], ended: dict[int, tuple[Job, int]]) -> None:
    for place, told in enumerate(sessions):
        job, rang = ended[place]
        if told.first == "COMPLETED":
            assert (job.state, rang) == (JobState.COMPLETED, 1), told
        else:
            assert rang <= 2, told
            assert job.state.is_final, told
        assert job.notes == (), told


async def test_who_answered_is_never_rung_again_whatever_became_of_the_other_party() -> None:
    sessions = list(every_pair())
    check(sessions, await played(sessions))


async def test_the_outcome_keeps_the_status_of_the_session_and_tells_of_each_leg() -> None:
    told = Told(first="COMPLETED", second="BUSY", status="BUSY")
    [(job, _)] = (await played([told])).values()
    shown: Any = call_as_json(job)["outcome"]
    assert shown["session_status"] == "BUSY"
    assert [(leg["destination"], leg["status"], leg["seconds"]) for leg in shown["legs"]] == [
        ("+6581000000", "COMPLETED", 37.0),
        (OTHER_PARTY, "BUSY", 0.0),
    ]
    lines = "\n".join(story(job, at=job.created_at).lines())
    assert "COMPLETED, answered, and ended normally" in lines
    assert "+6587650000 BUSY" in lines


async def test_a_session_status_that_nobody_knows_is_settled_by_the_persons_leg() -> None:
    told = Told(first="COMPLETED", second="BUSY", status="SOMETHING_NEW")
    [(job, rang)] = (await played([told])).values()
    assert (job.state, rang) == (JobState.COMPLETED, 1)


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


@pytest.mark.parametrize(
    ("told", "expected"),
    [
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
    ],
)
def test_the_status_of_the_call_to_the_person(told: Outcome, expected: SessionStatus) -> None:
    assert told.status_of("+6587654321") is expected


@pytest.mark.parametrize("session", ["NO_ANSWER", "BUSY", "FAILED"])
def test_of_a_session_that_had_one_leg_its_own_status_stands(session: str) -> None:
    told = Outcome(status=SessionStatus(session), status_text=session, legs=(leg("COMPLETED", PERSON),))
    assert told.status_of("+6587654321") is SessionStatus(session)


@pytest.mark.parametrize(("count", "partial"), [(None, False), (1, False), (2, True)])
def test_a_summary_is_partial_when_it_counts_more_calls_than_it_tells_of(count: int | None, *, partial: bool) -> None:
    told = SessionSummary(status=SessionStatus.BUSY, call_count=count, call_a=Leg(status_text="COMPLETED"))
    assert outcome_of(told).is_partial is partial


def test_a_summary_of_the_second_party_alone_is_partial() -> None:
    assert outcome_of(SessionSummary(status=SessionStatus.BUSY, call_b=Leg(status_text="BUSY"))).is_partial
