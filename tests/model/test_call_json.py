"""The result of a call: one word for each state that it can have; and the data that is stored with a call."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_json import LONGEST, CallResult, call_as_json, checked_data, result_of
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState, KeyPress, Post, ReasonKind
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

S = JobState
PERSON, DESK = "+6587654321", "+6531110000"
WRONG = KeyPress(at=NOW, menu="main", digits="7")
UNNAMED = replace(WRONG, leads_on=True)
NAMED = replace(WRONG, answer="confirmed", leads_on=True)
ASKS = '{"callflow":[{"action":"makeCall"},{"action":"sayAndCapture"}]}'


def post(number: int, status: SessionStatus | None, *presses: KeyPress, legs: tuple[CallLeg, ...] = ()) -> Post:
    text = "STRANGE" if status is None else status.value
    return Post(
        number=number,
        client_request_id=f"default.1.{number}",
        began_at=NOW,
        valid_until=NOW,
        redial=number - 1,
        verdict=VerdictKind.CREATED,
        outcome=Outcome(status=status, status_text=text, legs=legs),
        presses=presses,
    )


def job(state: JobState, *posts: Post, **more: Any) -> Job:
    plain = a_job(destination=PERSON, state=state, posts=posts, post_count=len(posts), redials=max(len(posts) - 1, 0))
    return replace(plain, **more)


OF_LOG = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", is_partial=True)
DONE, BUSY, SILENT = SessionStatus.COMPLETED, SessionStatus.BUSY, SessionStatus.NO_ANSWER
BRIDGED = (CallLeg(destination=PERSON, status="COMPLETED"), CallLeg(destination=DESK, status="BUSY"))
TOLD = {
    "open": [job(S.QUEUED), job(S.LEASED), job(S.SENDING, post(1, None)), job(S.SUBMITTED, post(1, None)),
             job(S.QUEUED, post(1, DONE, NAMED))],
    "confirmed": [job(S.COMPLETED, post(1, DONE, NAMED, WRONG)), job(S.SUBMITTED, post(1, SILENT, NAMED)),
                  job(S.ACCEPTED, post(1, None, NAMED)), job(S.COMPLETED, post(1, DONE, NAMED), post(2, DONE, WRONG))],
    "answered": [job(S.COMPLETED, post(1, DONE)), job(S.COMPLETED, post(1, DONE, WRONG, UNNAMED), menu="main"),
                 job(S.COMPLETED, post(1, SILENT), post(2, DONE)), job(S.UNREACHED, post(1, DONE)),
                 job(S.COMPLETED, replace(post(1, DONE), outcome=OF_LOG), menu="main")],
    "no_key": [job(S.COMPLETED, post(1, DONE), menu="main"), job(S.COMPLETED, post(1, DONE), body=ASKS),
               job(S.COMPLETED, post(1, DONE, WRONG), post(2, DONE), body=ASKS)],
    "wrong_key": [job(S.COMPLETED, post(1, DONE, WRONG), menu="main"),
                  job(S.COMPLETED, post(1, DONE, UNNAMED), post(2, DONE, WRONG))],
    "desk_busy": [job(S.COMPLETED, post(1, BUSY, legs=BRIDGED), menu="main"),
                  job(S.COMPLETED, post(1, SessionStatus.FAILED, UNNAMED, legs=BRIDGED))],
    "busy": [job(S.UNREACHED, post(1, BUSY)), job(S.UNREACHED, post(1, SILENT), post(2, BUSY), menu="main")],
    "no_answer": [job(S.UNREACHED, post(1, SILENT)), job(S.UNREACHED, post(1, SessionStatus.CANCELED))],
    "opted_out": [*(job(state, post(1, each)) for each in OPT_OUTS for state in (S.COMPLETED, S.UNREACHED)),
                  job(S.UNREACHED, post(1, SessionStatus.UNSUBSCRIBED_CONTACT), post(2, SILENT), redials=0)],
    "suppressed": [job(S.CANCELLED, reason_kind=ReasonKind.SUPPRESSED)],
    "cancelled": [job(S.CANCELLED), job(S.CANCELLED, reason="it has been on the suppression list since May, Li says")],
    "failed": [job(S.FAILED), job(S.FAILED, post(1, SessionStatus.ERROR)), job(S.UNREACHED, post(1, None))],
    "dead_number": [job(S.FAILED, post(1, SessionStatus.FAILED, legs=(CallLeg(destination=PERSON, sip_code=404),)))],
    "expired": [job(S.EXPIRED)],
    "in_doubt": [job(S.IN_DOUBT), job(S.IN_DOUBT, post(1, None))],
    "accepted": [job(S.ACCEPTED), job(S.ACCEPTED, post(1, None))],
}  # fmt: skip


@pytest.mark.parametrize("word", TOLD)
def test_a_call_has_the_result_that_the_front_desk_needs(word: str) -> None:
    for number, each in enumerate(TOLD[word]):
        assert (number, result_of(each)) == (number, word)


def test_every_state_with_every_outcome_and_key_has_exactly_one_result() -> None:
    words = {*CallResult, "confirmed"}
    seen = set[str]()
    statuses = [None, *SessionStatus]
    keys = [(), (WRONG,), (UNNAMED,), (NAMED,)]
    for state, status, presses, menu in product(JobState, statuses, keys, [None, "main"]):
        for posts in ([], [post(1, status, *presses)], [post(1, SILENT), post(2, status, *presses)]):
            call = job(state, *posts, menu=menu)
            word = result_of(call)
            assert word in words
            assert call_as_json(call)["result"] == word
            assert (word == "open") == (state not in FINAL_STATES | {S.IN_DOUBT} and word != "confirmed")
            seen.add(word)
    more = {"desk_busy", "dead_number", "suppressed"}
    assert seen == words - more, "these need legs, or a kind of reason"
    assert set(TOLD) == words


def test_flat_json_is_kept_as_it_is() -> None:
    data = {"name": "Ana", "table": 4, "share": 0.5, "vip": True, "note": None}
    assert checked_data(data) == data


def test_what_no_store_keeps_is_named() -> None:
    data: Any
    for data, told in [
        ({"items": ["a"]}, "data\\['items'\\] is an array"),
        ({1: "a"}, "use strings as names"),
        ({"share": float("nan")}, "data\\['share'\\] is nan"),
        ({"text": "x" * LONGEST}, "bytes as JSON"),
        ({"huge": 2**70}, "cannot be written as JSON"),
        ({"half": "\ud800"}, "has half a surrogate pair"),
        ({"nul": "a\0"}, "data\\['nul'\\] has a NUL character"),
    ]:
        with pytest.raises(InvalidInputError, match=told):
            checked_data(data)
