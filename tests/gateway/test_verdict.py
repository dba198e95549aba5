"""The verdict table as pure functions: every row, and what servers write where a row expects something else."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.gateway.answers.verdict import judge_answer, judge_failure, judge_lateness
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

K = VerdictKind
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
QUEUE_STATUSES = (401, 403, 404, 307, 308)


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
    answer = Answer(status=status, raw_headers=httpx.Headers(headers).raw, body=raw, is_whole=whole, post_was_cut=cut)
    return judge_answer(answer, now=NOW, retry_not_created_5xx=believes)


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


@pytest.mark.parametrize("code", [1, "1", 0, 200, None, ..., "ok"])
def test_created_with_a_session_id_is_placed(code: object) -> None:
    verdict = judge(200, created(statusCode=code))
    assert (verdict.kind, verdict.session_id) == (K.CREATED, "s-1")


@pytest.mark.parametrize("session_id", [..., None, "", "  ", "null", 17, ["s-1"]])
def test_created_without_a_session_id_is_in_doubt(session_id: object) -> None:
    assert judge(200, created(sessionId=session_id)).kind is K.UNKNOWN


@pytest.mark.parametrize("code", [-9999, "-9999", -1])
def test_created_with_an_error_code_is_in_doubt_and_keeps_its_session(code: object) -> None:
    verdict = judge(200, created(statusCode=code))
    assert (verdict.kind, verdict.session_id) == (K.UNKNOWN, "s-1")


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("spelling", ["NOT_CREATED", "NOT CREATED", "not created", "Not-Created", " NOT_CREATED "])
@pytest.mark.parametrize("code", [-1007, "-1007", " -1007 "])
def test_not_created_with_a_code_is_refused_in_every_spelling(status: int, spelling: str, code: object) -> None:
    verdict = judge(status, not_created(code, sessionStatus=spelling))
    assert (verdict.kind, verdict.code, verdict.hold) == (K.REFUSED, -1007, None)
    assert "Invalid action" in verdict.message
    assert "-1007" in verdict.message


@pytest.mark.parametrize("code", [-9999, "-9999", 500, "503", None, ..., True, 1.5, {}])
def test_a_200_with_not_created_and_no_code_that_explains_it_is_in_doubt(code: object) -> None:
    assert judge(200, not_created(code)).kind is K.UNKNOWN


@pytest.mark.parametrize("code", [-9999, 400, None, ...])
@pytest.mark.parametrize("status", [400, 422])
def test_a_4xx_with_not_created_is_refused_whatever_its_code(status: int, code: object) -> None:
    assert judge(status, not_created(code)).kind is K.REFUSED


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize(("code", "opened"), [(401, True), (403, True), (404, True), (425, False), (429, False)])
def test_a_refusal_of_the_account_or_the_pace_is_about_the_queue_and_not_the_call(
    status: int, code: int, opened: bool
) -> None:
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


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("body", JUNK)
def test_a_body_that_says_nothing_clear_is_in_doubt(status: int, body: bytes) -> None:
    assert judge(status, body).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("body", [created(), not_created()])
def test_a_body_that_did_not_come_to_its_end_says_nothing(status: int, body: object) -> None:
    assert judge(status, body, whole=False).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("changed", [{"sessionId": "s-1"}, {"statusCode": 1}])
def test_a_refusal_that_contradicts_itself_is_in_doubt(status: int, changed: dict[str, Any]) -> None:
    assert judge(status, not_created(**changed)).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [201, 301, 307, 400, 401, 403, 404, 408, 422, 425, 429, 500, 503])
@pytest.mark.parametrize("believes", [False, True])
def test_no_status_outweighs_a_session_id(status: int, believes: bool) -> None:
    verdict = judge(status, created(), headers={"Retry-After": "5"}, believes=believes)
    assert (verdict.kind, verdict.session_id) == (K.UNKNOWN, "s-1")


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 422, 425, 429, 503])
@pytest.mark.parametrize("changed", [{"sessionId": ...}, {"sessionStatus": ...}])
def test_created_or_a_session_alone_outweighs_the_status_too(status: int, changed: dict[str, Any]) -> None:
    verdict = judge(status, created(**changed), headers={"Retry-After": "5"}, believes=True)
    assert verdict.kind is K.UNKNOWN


# -- other statuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", QUEUE_STATUSES)
@pytest.mark.parametrize("body", [b"", b"<html>", not_created(401)])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_wrong_with_the_account_holds_the_queue_until_opened(status: int, body: object, whole: bool) -> None:
    verdict = judge(status, body, whole=whole)
    assert verdict.kind is K.TURNED_AWAY
    assert verdict.hold is not None
    assert verdict.hold.until_opened


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check the API key"),
        (403, "API key"),
        (404, "check the sub-account id"),
        (307, "check the base URL"),
        (308, "https://voice.8x8.uk/api"),
        (410, "the API is no longer at this address"),
        (426, "a newer version of TLS"),
    ],
)
def test_a_hold_says_what_to_do(status: int, remedy: str) -> None:
    hold = judge(status, headers={"Location": "https://voice.8x8.uk/api"}).hold
    assert hold is not None
    assert remedy in hold.reason


@pytest.mark.parametrize("status", [425, 429])
@pytest.mark.parametrize(
    ("retry_after", "wait"), [("5", timedelta(seconds=5)), (None, None), ("soon", None), ("0", None)]
)
def test_too_fast_waits_as_long_as_was_asked(status: int, retry_after: str | None, wait: timedelta | None) -> None:
    verdict = judge(status, headers={} if retry_after is None else {"Retry-After": retry_after})
    assert verdict.kind is K.TURNED_AWAY
    assert verdict.hold is not None
    assert (verdict.hold.until_opened, verdict.hold.retry_after) == (False, wait)


def test_a_408_is_in_doubt_unless_the_post_was_cut() -> None:
    assert judge(408).kind is K.UNKNOWN
    cut = judge(408, cut=True)
    assert cut.kind is K.TURNED_AWAY
    assert cut.hold is not None
    assert not cut.hold.until_opened


def test_a_cut_post_means_nothing_beside_other_statuses() -> None:
    assert judge(500, cut=True).kind is K.UNKNOWN
    assert judge(200, created(), cut=True).kind is K.CREATED


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"", not_created(500), not_created(-9999)])
def test_a_5xx_is_in_doubt(status: int, body: object) -> None:
    verdict = judge(status, body)
    assert (verdict.kind, verdict.hold) == (K.UNKNOWN, None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_retry_after_gates_the_queue_while_the_call_stays_in_doubt(status: int) -> None:
    verdict = judge(status, headers={"Retry-After": "30"})
    assert verdict.kind is K.UNKNOWN
    assert verdict.hold is not None
    assert (verdict.hold.until_opened, verdict.hold.retry_after) == (False, timedelta(seconds=30))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_5xx_with_not_created_is_believed_on_request(status: int) -> None:
    verdict = judge(status, not_created(500), believes=True)
    assert verdict.kind is K.TURNED_AWAY
    assert verdict.hold is not None
    assert not verdict.hold.until_opened


def test_a_503_with_a_retry_after_is_believed_on_request_and_no_other_5xx() -> None:
    headers = {"Retry-After": "30"}
    assert judge(503, headers=headers, believes=True).kind is K.TURNED_AWAY
    assert judge(503, believes=True).kind is K.UNKNOWN
    assert judge(500, headers=headers, believes=True).kind is K.UNKNOWN


@pytest.mark.parametrize(
    "status", [101, 201, 202, 204, 206, 300, 301, 302, 303, 304, 402, 405, 407, 409, 413, 418, 451]
)
@pytest.mark.parametrize("believes", [False, True])
def test_every_other_status_is_in_doubt(status: int, believes: bool) -> None:
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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 426])
@pytest.mark.parametrize("changed", [{}, {"code": "1304"}, {"errorId": ...}, {"timestamp": ..., "message": ""}])
def test_an_error_of_the_platform_is_about_the_queue_and_not_the_call(status: int, changed: dict[str, Any]) -> None:
    verdict = judge(status, platform_error(**changed))
    assert (verdict.kind, verdict.code, verdict.session_id) == (K.TURNED_AWAY, None, None)
    assert verdict.hold is not None
    assert verdict.hold.until_opened
    assert "then resume" in verdict.hold.reason
    assert "1304" in verdict.message
    assert (changed.get("message", "Request could not be handled") or "it gave no reason") in verdict.message
    if "errorId" not in changed:
        assert "4b0c-77" in verdict.message


@pytest.mark.parametrize("status", [400, 410, 426])
@pytest.mark.parametrize(
    "body",
    [
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
    ],
    ids=repr,
)
def test_what_only_resembles_an_error_of_the_platform_is_in_doubt(status: int, body: object) -> None:
    assert judge(status, body).kind is K.UNKNOWN


def test_a_part_of_an_error_of_the_platform_is_in_doubt() -> None:
    assert judge(400, platform_error(), whole=False).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [410, 426])
def test_a_refusal_of_the_api_with_a_status_of_the_platform_is_not_an_error_of_the_platform(status: int) -> None:
    assert judge(status, not_created()).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [200, 201, 405, 409, 418, 422, 500, 502, 503])
def test_an_error_of_the_platform_with_another_status_is_in_doubt(status: int) -> None:
    assert judge(status, platform_error()).kind is K.UNKNOWN


@pytest.mark.parametrize("status", [301, 302, 303, 410, 426])
@pytest.mark.parametrize("body", [b"", b"<html>", not_created()])
def test_a_doubt_that_every_call_would_share_holds_the_queue(status: int, body: object) -> None:
    verdict = judge(status, body, headers={"Location": "/elsewhere", "Retry-After": "3"})
    assert verdict.kind is K.UNKNOWN
    assert verdict.hold is not None
    assert verdict.hold.until_opened
    assert "then resume" in verdict.hold.reason


# -- no answer ---------------------------------------------------------------------------------------------------------


def test_a_failure_with_proof_sent_nothing() -> None:
    verdict = judge_failure(httpx.ConnectError("refused"), nothing_left=True, host="voice.8x8.com")
    assert (verdict.kind, verdict.hold) == (K.NOT_SENT, None)
    assert verdict.message == "no connection to voice.8x8.com (ConnectError: refused): nothing was sent"


def test_a_failure_without_proof_is_in_doubt() -> None:
    verdict = judge_failure(httpx.ConnectError("refused"), nothing_left=False, host="voice.8x8.com")
    assert verdict.kind is K.UNKNOWN


def test_a_failure_is_reported_under_the_name_of_its_cause() -> None:
    error = httpx.ConnectTimeout("reset")
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    message = judge_failure(error, nothing_left=False, host="voice.8x8.com").message
    assert "ConnectionResetError" in message
    assert "Timeout" not in message


@pytest.mark.parametrize("nothing_left", [True, False])
@pytest.mark.parametrize("where", ["cause", "context", "argument"])
def test_a_certificate_error_holds_the_queue_wherever_it_lies(nothing_left: bool, where: str) -> None:
    problem = ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED")
    problem.verify_message = "certificate has expired"
    error = httpx.ConnectError("tls")
    match where:
        case "cause":
            error.__cause__ = problem
        case "context":
            error.__context__ = problem
        case _:
            error.__cause__ = OSError(problem)
    verdict = judge_failure(error, nothing_left=nothing_left, host="voice.8x8.com")
    assert verdict.kind is (K.NOT_SENT if nothing_left else K.UNKNOWN)
    assert verdict.hold is not None
    assert verdict.hold.until_opened
    assert "certificate has expired" in verdict.hold.reason


def test_a_certificate_error_without_a_word_about_the_certificate_holds_the_queue_too() -> None:
    hold = judge_failure(ssl.SSLCertVerificationError(), nothing_left=True, host="voice.8x8.com").hold
    assert hold is not None
    assert "the check failed" in hold.reason


def test_another_tls_error_holds_nothing() -> None:
    error = httpx.ConnectError("tls")
    error.__cause__ = ssl.SSLError(1, "WRONG_VERSION_NUMBER")
    assert judge_failure(error, nothing_left=True, host="voice.8x8.com").hold is None


def test_lateness_tells_how_late() -> None:
    verdict = judge_lateness(valid_until=NOW - timedelta(seconds=3), now=NOW)
    assert (verdict.kind, verdict.cause) == (K.NOT_SENT, NotSentCause.TOO_LATE)
    assert "3 s" in verdict.message


def test_a_servers_words_become_one_printable_line() -> None:
    verdict = judge(400, not_created(statusMessage="no\r\n\x1b[31mgood\x00" + "x" * 5000))
    assert "no [31mgood" in verdict.message
    assert verdict.message.isprintable()
    assert len(verdict.message) < 300


@pytest.mark.parametrize(("length", "told"), [(200, "x" * 200), (201, "x" * 199 + "…")])
def test_of_a_servers_words_two_hundred_characters_are_reported(length: int, told: str) -> None:
    assert judge(400, not_created(statusMessage="x" * length)).message == f"8x8 refused the call (-1007): {told}"


def test_an_answer_that_is_not_json_is_reported_as_it_came() -> None:
    assert "with '<h1>Bad gateway</h1>'" in judge(502, b"<h1>Bad gateway</h1>").message
    assert "with a part of '<h1>Bad'" in judge(502, b"<h1>Bad", whole=False).message


def test_a_page_that_is_indented_is_reported_without_its_indentation() -> None:
    page = "<html>\n" + " " * 300 + "<h1>Bad gateway</h1>"
    assert "'<html> <h1>Bad gateway</h1>'" in judge(502, page.encode()).message
    assert judge(400, not_created(statusMessage=page)).message.endswith("<html> <h1>Bad gateway</h1>")


def test_a_code_that_only_repeats_the_status_is_not_told_twice() -> None:
    assert judge(500, {"statusCode": 500, "statusMessage": "oops"}).message.count("500") == 1
    assert "(-9999)" in judge(500, {"statusCode": -9999, "statusMessage": "oops"}).message
