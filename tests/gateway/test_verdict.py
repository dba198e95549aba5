"""The verdict table as pure functions: every row, and what servers write where a row expects something else."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.gateway.answer import HttpAnswer
from voiceflow_worker.gateway.verdict import verdict_on_answer
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


def created(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "sessionId": "s-1",
        "sessionStatus": "CREATED",
        "statusCode": 1,
        "statusMessage": "Created",
    }
    return {key: value for key, value in (body | changed).items() if value is not ...}


def not_created(code: object = -1007, **changed: Any) -> dict[str, Any]:
    body = {"sessionStatus": "NOT_CREATED", "statusCode": code, "statusMessage": "Invalid action"}
    return {key: value for key, value in (body | changed).items() if value is not ...}


# -- 200 ---------------------------------------------------------------------------------------------------------------


def test_created_with_a_session_id_is_placed() -> None:
    for code in [1, "1", 0, 200, None, ..., "ok"]:
        verdict = judge(200, created(statusCode=code))
        assert (verdict.kind, verdict.session_id) == (K.CREATED, "s-1")
    assert judge(200, created(sessionId="s\0")).session_id == "s\ufffd", "as the summary's is read: no store keeps NUL"


def test_created_without_a_session_id_is_in_doubt() -> None:
    for session_id in [..., None, "", "  ", "null", 17, ["s-1"]]:
        assert judge(200, created(sessionId=session_id)).kind is K.UNKNOWN


@pytest.mark.parametrize("code", [-9999, "-9999", -1])
def test_created_with_an_error_code_is_in_doubt_and_keeps_its_session(code: object) -> None:
    verdict = judge(200, created(statusCode=code))
    assert (verdict.kind, verdict.session_id) == (K.UNKNOWN, "s-1")


def test_not_created_with_a_code_is_refused_in_every_spelling() -> None:
    for status, spelling, code in product(
        [200, 400, 422],
        ["NOT_CREATED", "NOT CREATED", "not created", "Not-Created", " NOT_CREATED "],
        [-1007, "-1007", " -1007 "],
    ):
        verdict = judge(status, not_created(code, sessionStatus=spelling))
        assert (verdict.kind, verdict.code, verdict.hold) == (K.REFUSED, -1007, None)
        assert "Invalid action" in verdict.message
        assert "-1007" in verdict.message


def test_a_200_with_not_created_and_no_code_that_explains_it_is_in_doubt() -> None:
    for code in [-9999, "-9999", 500, "503", None, ..., True, 1.5, {}]:
        assert judge(200, not_created(code)).kind is K.UNKNOWN


def test_a_4xx_with_not_created_is_refused_whatever_its_code() -> None:
    for code, status in product([-9999, 400, None, ...], [400, 422]):
        assert judge(status, not_created(code)).kind is K.REFUSED


def test_a_refusal_of_the_account_or_the_pace_is_about_the_queue_and_not_the_call() -> None:
    for status in [200, 400, 422]:
        for code, opened in [(401, True), (403, True), (404, True), (425, False), (429, False)]:
            verdict = judge(status, not_created(code))
            assert (verdict.kind, verdict.code) == (K.TURNED_AWAY, code)
            assert verdict.hold is not None
            assert verdict.hold.until_opened is opened


JUNK = [
    b"",
    b"OK",
    b"<html><body>200 OK</body></html>",
    b"null",
    b"[]",
    b'"CREATED"',
    b"{}",
    b'{"sessionStatus":"CREATED","sessionId":"s-1"',
    b'{"sessionStatus":"NOT_CREATED","statusCode":-1007',
    b"\xff\xfe\x00",
    b"[" * 10_000,
    b'{"sessionStatus":["NOT_CREATED"],"statusCode":-1007}',
    b'{"sessionStatus":null,"statusCode":-1007}',
    b'{"statusCode":-1007}',
]


def test_a_body_that_says_nothing_clear_is_in_doubt() -> None:
    for status, body in product([200, 400, 422], JUNK):
        assert judge(status, body).kind is K.UNKNOWN


def test_a_refusal_that_contradicts_itself_is_in_doubt() -> None:
    changed: Any
    for status, changed in product([200, 400, 422], [{"sessionId": "s-1"}, {"statusCode": 1}]):
        assert judge(status, not_created(**changed)).kind is K.UNKNOWN


def test_no_status_outweighs_a_session_id() -> None:
    for status, believes in product([201, 301, 307, 400, 401, 403, 404, 408, 422, 425, 429, 500, 503], [False, True]):
        verdict = judge(status, created(), headers={"Retry-After": "5"}, believes=believes)
        assert (verdict.kind, verdict.session_id) == (K.UNKNOWN, "s-1")


def test_created_or_a_session_alone_outweighs_the_status_too() -> None:
    for status, changed in product(
        [301, 307, 400, 401, 403, 404, 422, 425, 429, 503], [{"sessionId": ...}, {"sessionStatus": ...}]
    ):
        verdict = judge(status, created(**changed), headers={"Retry-After": "5"}, believes=True)
        assert verdict.kind is K.UNKNOWN


# -- other statuses ----------------------------------------------------------------------------------------------------


def test_a_cut_post_means_nothing_beside_other_statuses() -> None:
    assert judge(500, cut=True).kind is K.UNKNOWN
    assert judge(200, created(), cut=True).kind is K.CREATED


def test_a_503_with_a_retry_after_is_believed_on_request_and_no_other_5xx() -> None:
    headers = {"Retry-After": "30"}
    assert judge(503, headers=headers, believes=True).kind is K.TURNED_AWAY
    assert judge(503, believes=True).kind is K.UNKNOWN
    assert judge(500, headers=headers, believes=True).kind is K.UNKNOWN


def test_every_other_status_is_in_doubt() -> None:
    for status, believes in product(
        [101, 201, 202, 204, 206, 300, 301, 302, 303, 304, 402, 405, 407, 409, 413, 418, 451], [False, True]
    ):
        for body in (b"", not_created()):
            assert judge(status, body, believes=believes).kind is K.UNKNOWN


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
    body: dict[str, Any] = {
        "code": 1304,
        "message": "Request could not be handled",
        "errorId": "4b0c-77",
        "timestamp": "2026-11-20T08:00:00Z",
    }
    return {key: value for key, value in (body | changed).items() if value is not ...}


def test_what_only_resembles_an_error_of_the_platform_is_in_doubt() -> None:
    for status in [400, 410, 426]:
        for body in [
            platform_error(code=...),
            platform_error(code=None),
            platform_error(code=True),
            platform_error(code=""),
            platform_error(message=...),
            platform_error(message=["no"]),
            platform_error(sessionStatus="PERHAPS"),
            platform_error(statusCode=1),
            platform_error(callFlowRequestId="f-1"),
            platform_error(sessionId="s-1"),
            b"",
            b"<html>",
            b'{"code":1304,"message":"cut',
            [platform_error()],
        ]:
            assert judge(status, body).kind is K.UNKNOWN


def test_a_part_of_an_error_of_the_platform_is_in_doubt() -> None:
    assert judge(400, platform_error(), whole=False).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [410, 426])
def test_a_refusal_of_the_api_with_a_status_of_the_platform_is_not_an_error_of_the_platform(status: int) -> None:
    assert judge(status, not_created()).kind is K.UNKNOWN


def test_an_error_of_the_platform_with_another_status_is_in_doubt() -> None:
    for status in [200, 201, 405, 409, 418, 422, 500, 502, 503]:
        assert judge(status, platform_error()).kind is K.UNKNOWN
