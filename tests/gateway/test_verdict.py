"""The verdict table as pure functions: every row, and what servers write where a row expects something else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.gateway.answer import HttpAnswer
from voiceflow_worker.gateway.verdict import LONGEST_WAIT, read_date, read_retry_after, verdict_on_answer
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

K = VerdictKind
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def judge(
    status: int,
    body: object = b"",
    *,
    headers: dict[str, str] | None = None,
    whole: bool = True,
    cut: bool = False,
    believes: bool = False,
) -> Verdict:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = HttpAnswer(
        status=status, raw_headers=httpx.Headers(headers).raw, body=raw, is_whole=whole, post_was_cut=cut
    )
    return verdict_on_answer(answer, now=NOW, retry_not_created_5xx=believes)


def without(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a body that are not left out."""
    return {key: value for key, value in body.items() if value is not ...}


def created(**changed: Any) -> dict[str, Any]:
    body = {"sessionId": "s-1", "sessionStatus": "CREATED", "statusCode": 1, "statusMessage": "Created"}
    return without(body | changed)


def not_created(code: object = -1007, **changed: Any) -> dict[str, Any]:
    return without({"sessionStatus": "NOT_CREATED", "statusCode": code, "statusMessage": "Invalid action"} | changed)


# -- each answer: what it says of the call -----------------------------------------------------------------------------


JUNK = [
    b"", b"OK", b"<html><body>200 OK</body></html>", b"null", b"[]", b'"CREATED"', b"{}", b"\xff\xfe\x00",
    b"[" * 10_000,
    b'{"sessionStatus":"CREATED","sessionId":"s-1"', b'{"sessionStatus":"NOT_CREATED","statusCode":-1007',
    b'{"sessionStatus":["NOT_CREATED"],"statusCode":-1007}', b'{"sessionStatus":null,"statusCode":-1007}',
    b'{"statusCode":-1007}',
]  # fmt: skip
ANSWERED = [200, 400, 422]
SPELLINGS = ["NOT_CREATED", "NOT CREATED", "not created", "Not-Created", " NOT_CREATED "]
OTHERS = [101, 201, 202, 204, 206, 300, 301, 302, 303, 304, 402, 405, 407, 409, 413, 418, 451]
PACE = [401, 403, 404, 422, 425, 429, 503]
NO_REASON: list[object] = [-9999, "-9999", 500, "503", None, ..., True, 1.5, {}]
ANSWERS: dict[str, tuple[list[int], list[object], VerdictKind]] = {
    "created with a session id": (
        [200], [created(statusCode=code) for code in (1, "1", 0, 200, None, ..., "ok")], K.CREATED,
    ),
    "created without a session id": (
        [200], [created(sessionId=each) for each in (..., None, "", "  ", "null", 17, ["s-1"])], K.UNKNOWN,
    ),
    "created with an error code": ([200], [created(statusCode=code) for code in (-9999, "-9999", -1)], K.UNKNOWN),
    "not created with a code, in every spelling": (
        ANSWERED,
        [not_created(code, sessionStatus=each) for each in SPELLINGS for code in (-1007, "-1007", " -1007 ")],
        K.REFUSED,
    ),
    "not created, and no code that explains it": (
        [200], [not_created(code) for code in NO_REASON], K.UNKNOWN,
    ),
    "a 4xx with not created, whatever its code": (
        [400, 422], [not_created(code) for code in (-9999, 400, None, ...)], K.REFUSED,
    ),
    "a refusal of the account or the pace": (
        ANSWERED, [not_created(code) for code in (401, 403, 404, 425, 429)], K.TURNED_AWAY,
    ),
    "nothing clear": (ANSWERED, [*JUNK], K.UNKNOWN),
    "a refusal that contradicts itself": (
        ANSWERED, [not_created(sessionId="s-1"), not_created(statusCode=1)], K.UNKNOWN,
    ),
    "a session id beside another status": ([201, 301, 307, 400, 408, 500, *PACE], [created()], K.UNKNOWN),
    "created or a session alone beside another status": (
        [301, 307, 400, *PACE], [created(sessionId=...), created(sessionStatus=...)], K.UNKNOWN,
    ),
    "every other status": (OTHERS, [b"", not_created()], K.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("said", ANSWERS)
def test_an_answer_says_what_became_of_the_call(said: str) -> None:
    statuses, bodies, kind = ANSWERS[said]
    for status, body, believes, headers in product(statuses, bodies, [False, True], [None, {"Retry-After": "5"}]):
        verdict = judge(status, body, headers=headers, believes=believes)
        assert verdict.kind is kind, (status, body)
        has_session = isinstance(body, dict) and body.get("sessionId") == "s-1"
        assert (verdict.session_id == "s-1") is has_session, "and a doubt keeps its session"
        if verdict.kind is K.REFUSED and verdict.code == -1007:
            assert ("Invalid action" in verdict.message, "-1007" in verdict.message) == (True, True)
        if headers is None and kind is not K.UNKNOWN:
            assert (verdict.hold is not None) is (kind is K.TURNED_AWAY)
            assert verdict.hold is None or verdict.hold.until_opened is (verdict.code not in {425, 429})


def test_a_session_id_is_read_as_that_of_the_summary() -> None:
    assert judge(200, created(sessionId="s\0")).session_id == "s\ufffd", "no store keeps NUL"


def test_a_cut_post_means_nothing_beside_other_statuses() -> None:
    assert judge(500, cut=True).kind is K.UNKNOWN
    assert judge(200, created(), cut=True).kind is K.CREATED


def test_a_503_with_a_retry_after_is_believed_on_request_and_no_other_5xx() -> None:
    headers = {"Retry-After": "30"}
    assert judge(503, headers=headers, believes=True).kind is K.TURNED_AWAY
    assert judge(503, believes=True).kind is K.UNKNOWN
    assert judge(500, headers=headers, believes=True).kind is K.UNKNOWN


@given(
    status=st.integers(100, 599),
    body=st.one_of(
        st.binary(max_size=60),
        st.fixed_dictionaries(
            {},
            optional={
                "sessionId": st.one_of(st.none(), st.text(max_size=5), st.integers(0, 9)),
                "sessionStatus": st.one_of(st.sampled_from(["CREATED", "NOT_CREATED", "NOT CREATED"]), st.text()),
                "statusCode": st.one_of(st.none(), st.integers(-9999, 600), st.text(max_size=5), st.booleans()),
                "statusMessage": st.one_of(st.none(), st.text(max_size=300)),
            },
        ).map(orjson.dumps),
    ),
    whole=st.booleans(),
    retry_after=st.one_of(st.none(), st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40)),
)
def test_no_answer_is_too_odd_for_a_verdict(status: int, body: bytes, whole: bool, retry_after: str | None) -> None:
    """And none of those that may be sent again has a word of a session in it."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    verdict = judge(status, body, whole=whole, headers=headers)
    assert verdict.http_status == status
    assert verdict.message.isprintable()
    assert len(verdict.message) < 600
    if verdict.kind is K.CREATED:
        assert status == 200
        assert verdict.session_id
    if verdict.kind in {K.REFUSED, K.TURNED_AWAY, K.NOT_SENT}:
        assert verdict.session_id is None
        assert status not in {201, 202, 301, 302, 303, 500, 502, 503, 504}


# -- errors of 8x8's platform, and other answers that every call would get ---------------------------------------------


def platform_error(**changed: Any) -> dict[str, Any]:
    body = {"code": 1304, "message": "Request could not be handled", "errorId": "4b0c-77", "timestamp": "2026-11-20"}
    return without(body | changed)


RESEMBLING: list[dict[str, Any]] = [
    {"code": ...}, {"code": None}, {"code": True}, {"code": ""}, {"message": ...}, {"message": ["no"]},
    {"sessionStatus": "PERHAPS"}, {"statusCode": 1}, {"callFlowRequestId": "f-1"}, {"sessionId": "s-1"},
]  # fmt: skip


def test_what_only_resembles_an_error_of_the_platform_is_in_doubt() -> None:
    bodies = [*(platform_error(**each) for each in RESEMBLING), b"", b"<html>", b'{"code":1304,"message":"cut',
              [platform_error()]]  # fmt: skip
    for status, body in product([400, 410, 426], bodies):
        assert judge(status, body).kind is K.UNKNOWN
    assert judge(400, platform_error(), whole=False).kind is K.UNKNOWN
    for status in (410, 426):
        assert judge(status, not_created()).kind is K.UNKNOWN, "a refusal of the API"
    for status in (200, 201, 405, 409, 418, 422, 500, 502, 503):
        assert judge(status, platform_error()).kind is K.UNKNOWN


# -- Retry-After and Date ----------------------------------------------------------------------------------------------


DATE = "Fri, 20 Nov 2026 09:00:00 GMT"  # an hour off `NOW`: one of the two clocks is wrong


def wait(*values: str, date: str | None = None) -> timedelta | None:
    headers = [("Retry-After", value) for value in values] + ([] if date is None else [("Date", date)])
    return read_retry_after(httpx.Headers(headers).raw, now=NOW)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("120", 120), (" 7 ", 7), ("1.5", 1.5), ("007", 7)])
def test_seconds(text: str, seconds: float) -> None:
    assert wait(text, date=DATE) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["Fri, 20 Nov 2026 09:00:30 GMT", "Friday, 20-Nov-26 09:00:30 GMT", "Fri Nov 20 09:00:30 2026"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)  # fmt: skip
def test_a_date_counts_from_the_answers_own(text: str) -> None:
    assert wait(text, date=DATE) == timedelta(seconds=30)


def test_a_date_counts_from_now_when_the_answer_has_none_that_can_be_read() -> None:
    assert wait("Fri, 20 Nov 2026 08:00:30 GMT") == timedelta(seconds=30)
    assert wait("Fri, 20 Nov 2026 08:00:30 GMT", date="yesterday") == timedelta(seconds=30)


@pytest.mark.parametrize("text", ["86400000", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "3601"])
def test_an_absurd_wait_is_an_hour(text: str) -> None:
    assert wait(text, date=DATE) == LONGEST_WAIT == timedelta(hours=1)


def test_what_names_no_time_ahead_means_no_wait() -> None:
    for text in [
        *("", "0", "0.0", "-5", "soon", "1e3", "inf", "nan", "١٢", "1 2"),
        *(DATE, "Fri, 99 Nov 2026 09:00:30 GMT", "Fri, 20 Nov 2026 08:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"),
    ]:
        headers = [(b"Retry-After", text.encode()), (b"Date", DATE.encode())]
        assert read_retry_after(headers, now=NOW) is None


@given(st.binary(max_size=60))
def test_no_header_is_too_odd(raw: bytes) -> None:
    headers = [(b"Retry-After", raw), (b"Date", raw)]
    found = read_retry_after(headers, now=NOW)
    assert found is None or timedelta(0) < found <= LONGEST_WAIT
    date = read_date(headers)
    assert date is None or date.tzinfo is UTC


@pytest.mark.parametrize("dates", [[], ["then"], [DATE, DATE]])
def test_a_date_that_is_missing_unreadable_or_double_is_none(dates: list[str]) -> None:
    assert read_date([(b"Date", date.encode()) for date in dates]) is None
