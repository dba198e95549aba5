"""Verdicts on the answers to POSTs and on failed POSTs, as pure functions; and how long to wait before another.

Once a byte of a POST was sent, only a clear answer of 8x8 proves that nobody was called. If an answer contradicts
itself, is incomplete or was not foreseen, the verdict is `UNKNOWN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from socket import gaierror
from ssl import SSLCertVerificationError
from typing import NamedTuple

from voiceflow_worker.gateway.answer import HttpAnswer, RawHeaders
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.reports.status import UNKNOWN_ERROR
from voiceflow_worker.model.reports.verdict import NotSentCause, QueueHold, Verdict, VerdictKind

LONGEST_WAIT = timedelta(hours=1)
"""The longest wait that a Retry-After can cause: a wrong value ("86400000") must not stop a queue for years. If 8x8 is
out of service for longer, it gets one request an hour."""

# RFC 9110 §10.2.3 allows whole seconds only. A decimal fraction is accepted too.
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


def read_retry_after(headers: RawHeaders, *, now: datetime) -> timedelta | None:
    """Return the wait that an answer asks for (RFC 9110 §10.2.3), at most `LONGEST_WAIT`; None for none.

    A date is compared with the Date of the answer, so that a wrong clock of this machine does not matter. If the answer
    has no Date, it is compared with `now`. If there are several Retry-After headers, the longest wait counts.
    """
    texts = _values(headers, b"retry-after")
    if not texts:
        return None
    since = read_date(headers) or now
    waits = [_wait(text.strip(), since=since) for text in texts]
    longest = max((wait for wait in waits if wait is not None), default=None)
    return longest if longest is not None and longest > timedelta(0) else None


def read_date(headers: RawHeaders) -> datetime | None:
    """Return the Date of an answer (RFC 9110 §6.6.1), in UTC; None unless it has one that can be read."""
    dates = _values(headers, b"date")
    return _http_date(dates[0]) if len(dates) == 1 else None


def _values(headers: RawHeaders, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in headers if each.lower() == name]


def _wait(text: str, *, since: datetime) -> timedelta | None:
    if _SECONDS.fullmatch(text):
        # float() reads thousands of digits as infinity; int() would raise an error.
        return timedelta(seconds=min(float(text), LONGEST_WAIT.total_seconds()))
    until = _http_date(text)
    return None if until is None else min(until - since, LONGEST_WAIT)


@lru_cache(maxsize=16)  # saves 3 µs an answer: under load, thousands have the same Date
def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        # The asctime form (RFC 9110 §5.6.7) has no zone; all HTTP dates are in UTC.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


_CODE = re.compile(r"-?\d{1,9}", re.ASCII)
_LONGEST_QUOTE = 200

# The statusCode of a NOT_CREATED may be an HTTP status (8x8 callflows reference). These statuses concern the account or
# the pace, and so the whole queue, even if the answer itself has HTTP status 200 or 400.
_ABOUT_THE_QUEUE = frozenset({401, 403, 404, 425, 429})

# HTTP statuses that every further call would get too. Nobody was called.
_ABOUT_US = frozenset({401, 403, 404, 307, 308})

_REMEDIES = {
    401: "8x8 does not accept the API key (401): check the API key (VOICEFLOW_API_KEY), and restart the"
    " workers with the right one",
    403: "8x8 does not allow this call (403): check that the API key belongs to the sub-account, and that the"
    " sub-account may place calls and allows this machine's address",
    404: "8x8 does not know this sub-account at this address (404): check the sub-account id"
    " (VOICEFLOW_SUB_ACCOUNT) and the base URL (VOICEFLOW_BASE_URL), and restart the workers",
    400: "the platform of 8x8 rejected the request before it reached the API (400): ask 8x8, and quote the error"
    " id that is shown with the call; cancel the call if only this call is rejected",
    410: "the API is no longer at this address (410): check the base URL (VOICEFLOW_BASE_URL), or ask 8x8",
    426: "8x8 requires a newer version of TLS than this machine or its proxy supports (426): update Python and OpenSSL",
}
_OF_THE_PLATFORM = frozenset({400, 401, 403, 404, 410, 426})
"""The HTTP statuses of platform errors. With any other status, the body of a platform error proves nothing."""

_OF_A_CALL = frozenset({"sessionId", "sessionStatus", "callFlowRequestId", "statusCode", "statusMessage"})


class _ParsedAnswer(NamedTuple):
    """The JSON of an answer. `status` is the sessionStatus in its usual spelling, or empty.

    `by_the_platform` means that the answer is a platform error, so the API never saw the request.
    """

    status: str
    code: int | None
    session_id: str | None
    message: str
    by_the_platform: bool = False

    @property
    def was_created(self) -> bool:
        return self.status == "CREATED"

    @property
    def was_clearly_created(self) -> bool:
        """True if the answer says CREATED with a session, and no negative code contradicts that."""
        return self.was_created and self.session_id is not None and (self.code is None or self.code >= 0)

    @property
    def was_not_created(self) -> bool:
        """True if the answer says NOT_CREATED, and nothing else in the answer contradicts that."""
        return self.status == "NOT_CREATED" and self.session_id is None and self.code != 1

    @property
    def speaks_of_a_session(self) -> bool:
        return self.was_created or self.session_id is not None


def verdict_on_answer(answer: HttpAnswer, *, now: datetime, retry_not_created_5xx: bool = False) -> Verdict:
    """Return the verdict on an answer that came at `now`.

    With `retry_not_created_5xx`, a NOT_CREATED with a 5xx counts as proof that nobody was called, and so does a 503
    with a Retry-After. A Retry-After causes a hold with any status (RFC 9110 §10.2.3), not only with 429 (8x8 SMS API).
    """
    parsed = _read(answer)
    wait = read_retry_after(answer.raw_headers, now=now)
    verdict = _classify(answer, parsed, wait, retries_5xx=retry_not_created_5xx)
    hold = verdict.hold
    if hold is None and wait is not None:
        hold = QueueHold(reason=f"8x8 asks for a wait of {_in_words(wait)} (HTTP {answer.status})", retry_after=wait)
    return replace(
        verdict,
        hold=hold,
        code=parsed.code if parsed else None,
        session_id=parsed.session_id if parsed else None,
        http_status=answer.status,
        server_date=read_date(answer.raw_headers),
    )


def verdict_on_failure(error: Exception, *, nothing_sent: bool, host: str, why: str = "", advice: str = "") -> Verdict:
    """Return the verdict on a POST that failed without an answer. `nothing_sent` means that certainly no byte was sent.

    `why` is a better description of the error, if there is one, and `advice` says what to set.
    """
    why = why or describe(error)
    advised = f"; {advice}" if advice else ""
    problem = certificate_problem(error)
    hold = None
    if problem is not None:
        hold = QueueHold(
            reason=f"the certificate of {host} is not trusted ({problem}): check the base URL"
            f" (VOICEFLOW_BASE_URL), and check the clock of this machine{advised}",
            until_opened=True,
        )
    if nothing_sent:
        message = f"no connection to {host} ({why}): nothing was sent{'' if hold else advised}"
        return _not_sent(NotSentCause.UNREACHABLE, message, hold=hold)
    return _unknown(f"the connection to {host} failed before an answer came ({why})", hold=hold)


def verdict_on_lateness(*, valid_until: datetime, now: datetime) -> Verdict:
    """Return the verdict on a placement whose validity ended before it was sent."""
    late = _in_words(max(now - valid_until, timedelta(0)))
    return _not_sent(NotSentCause.TOO_LATE, f"not sent: its validUntil had passed {late} earlier")


def verdict_on_unmatched(verdict: Verdict) -> Verdict:
    """Return the verdict on an answer that may belong to another request.

    The hold that the answer asks for remains, because it is about the account or the rate and not about one request.
    """
    return replace(
        verdict,
        kind=VerdictKind.UNKNOWN,
        message=f"{verdict.message}; but other answers came, or may come, on the same connection, and this answer may"
        " belong to another request: the call may have been placed",
        session_id=None,
    )


def describe(error: Exception) -> str:
    """Return the name and the text of an error's cause.

    Transports wrap errors in other errors with misleading names.
    """
    origin = error.__cause__ or error
    if isinstance(origin, ConnectionError) and origin.strerror:
        return quote(origin.strerror)  # says by itself what happened: "Connection reset by peer"
    text = quote(str(origin)) or quote(str(error))
    name = type(origin).__name__
    return f"{name}: {text}" if text else name


@lru_cache(maxsize=16)  # the answers to most calls have the same message
def quote(text: str) -> str:
    """Return a text of another system for use in a message: on one line, without control characters, and shortened."""
    text = text[: 4 * _LONGEST_QUOTE]
    shown = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(shown.split())
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"


def _classify(
    answer: HttpAnswer, parsed: _ParsedAnswer | None, wait: timedelta | None, *, retries_5xx: bool
) -> Verdict:
    if parsed is not None and answer.status == 200 and parsed.was_clearly_created:
        return Verdict(kind=VerdictKind.CREATED, message=parsed.message or "Created")
    described = f"{_named(answer.status)}{_quoted(answer, parsed)}"
    if parsed is not None and parsed.speaks_of_a_session and answer.status != 200:
        return _unknown(f"8x8 answered {described}, but the answer mentions a session")
    refusal = parsed if parsed is not None and parsed.was_not_created else None
    by_the_platform = parsed is not None and parsed.by_the_platform
    status = answer.status
    if refusal is not None and status in (200, 400, 422) and refusal.code in _ABOUT_THE_QUEUE:
        status = refusal.code
    match status:
        case 200:
            return _classify_200(parsed, described)
        case 400 | 422 if refusal is not None:
            return _refused(refusal)
        case _ if status in _ABOUT_US or (by_the_platform and status in _OF_THE_PLATFORM):
            return _turned_away(described, QueueHold(reason=_remedy(answer, status), until_opened=True))
        case 408 if answer.post_was_cut:
            return _turned_away(
                described, QueueHold(reason="8x8 did not get the request in time (408)", retry_after=wait)
            )
        case 425 | 429:
            asked = f"for a wait of {_in_words(wait)}" if wait else "for a lower rate"
            return _turned_away(described, QueueHold(reason=f"8x8 asks {asked} ({status})", retry_after=wait))
        case 503 if retries_5xx and wait is not None:
            return _turned_away(described, QueueHold(reason=f"8x8 is not available ({status})", retry_after=wait))
        case _ if retries_5xx and 500 <= status <= 599 and refusal is not None:
            return _turned_away(described, QueueHold(reason=f"8x8 has an internal error ({status})", retry_after=wait))
        case 301 | 302 | 303 | 410 | 426:  # in doubt; the queue is held, because every further call would get it too
            return _unknown(
                f"8x8 answered {described}", hold=QueueHold(reason=_remedy(answer, status), until_opened=True)
            )
        case _:
            return _unknown(f"8x8 answered {described}")


def _classify_200(parsed: _ParsedAnswer | None, described: str) -> Verdict:
    match parsed:
        case _ParsedAnswer(was_not_created=True, code=int(code)) if code != UNKNOWN_ERROR and code < 500:
            return _refused(parsed)
        case _ParsedAnswer(was_created=True, session_id=None):
            return _unknown("8x8 answered CREATED without a session id")
        case _:
            return _unknown(f"8x8 answered {described}")


def _refused(parsed: _ParsedAnswer) -> Verdict:
    code = "" if parsed.code is None else f" ({parsed.code})"
    return Verdict(
        kind=VerdictKind.REFUSED, message=f"8x8 refused the call{code}: {parsed.message or 'it gave no reason'}"
    )


def _turned_away(described: str, hold: QueueHold) -> Verdict:
    return Verdict(kind=VerdictKind.TURNED_AWAY, message=f"8x8 answered {described}: nobody was called", hold=hold)


def _not_sent(cause: NotSentCause, message: str, *, hold: QueueHold | None = None) -> Verdict:
    return Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message, hold=hold)


def _unknown(what: str, *, hold: QueueHold | None = None) -> Verdict:
    return Verdict(kind=VerdictKind.UNKNOWN, message=f"{what}: the call may have been placed", hold=hold)


def _remedy(answer: HttpAnswer, status: int) -> str:
    if status in _REMEDIES:
        return _REMEDIES[status]
    there = quote(answer.headers.get("location", ""))
    return (
        f"the API has moved ({answer.status}{f' to {there}' if there else ''}), and a call does not follow a redirect:"
        f" check the base URL (VOICEFLOW_BASE_URL)"
    )


def _read(answer: HttpAnswer) -> _ParsedAnswer | None:
    """Return the JSON object in the body; None if the body is not one complete JSON object with fields."""
    fields: Mapping[str, object] = answer.fields if answer.is_whole else {}
    if not fields:
        return None
    if (error := platform_error(fields)) is not None:
        return _ParsedAnswer(status="", code=None, session_id=None, message=quote(error), by_the_platform=True)
    status = fields.get("sessionStatus")
    message = fields.get("statusMessage")
    return _ParsedAnswer(
        status=_folded(status) if isinstance(status, str) else "",
        code=_code(fields.get("statusCode")),
        session_id=_session(fields.get("sessionId")),
        message=quote(message) if isinstance(message, str) else "",
    )


def _session(value: object) -> str | None:
    """Return the session id, in the form in which stores keep it and summaries name it (`webhooks.reading.decoded`)."""
    if not isinstance(value, str) or value.strip() in ("", "null"):
        return None
    return value.replace("\0", "\ufffd")


@lru_cache(maxsize=16)
def _folded(status: str) -> str:
    """Return the session status in its usual spelling: 8x8 writes both NOT_CREATED and NOT CREATED."""
    return re.sub(r"[\s_-]+", "_", status.strip().upper())


def _code(value: object) -> int | None:
    """Return the status code, which 8x8 writes as a number or as a string."""
    match value:
        case bool():
            return None
        case int():
            return value
        case str() if _CODE.fullmatch(value.strip()):
            return int(value)
        case _:
            return None


@lru_cache(maxsize=16)
def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _quoted(answer: HttpAnswer, parsed: _ParsedAnswer | None) -> str:
    if parsed is None:
        body = quote(answer.body[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace"))
        return f" with {'' if answer.is_whole else 'a part of '}{body!r}" if body else " with no body"
    code = "" if parsed.code is None or parsed.code == answer.status else f" ({parsed.code})"
    return f" with {parsed.message!r}{code}" if parsed.message or code else ""


def certificate_problem(error: BaseException) -> str | None:
    """Return the reason why a certificate was not trusted; None for other errors."""
    problem = None
    for found in _errors_in(error):
        if isinstance(found, SSLCertVerificationError):
            problem = quote(getattr(found, "verify_message", "")) or problem or "the check failed"
    return problem


def is_unresolved(error: BaseException) -> bool:
    """Return whether the system found no address for the name of a host."""
    return any(isinstance(found, gaierror) for found in _errors_in(error))


def _errors_in(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what may be its cause: a cause, context or argument (httpcore drops the cause)."""
    open_errors: list[BaseException] = [error]
    seen: set[int] = set()
    while open_errors:
        found = open_errors.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        nested = (found.__cause__, found.__context__, *found.args)
        open_errors.extend(one for one in nested if isinstance(one, BaseException))


def _in_words(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def platform_error(fields: Mapping[str, object]) -> str | None:
    """Return a platform error of 8x8 as a clause, with the id that 8x8's support needs; None for other JSON."""
    if not _OF_A_CALL.isdisjoint(fields):
        return None
    code, message, error_id = fields.get("code"), fields.get("message"), fields.get("errorId")
    if isinstance(code, bool) or not isinstance(code, int | str) or not str(code).strip():
        return None
    if not isinstance(message, str):
        return None
    named = f", error id {error_id}" if isinstance(error_id, str) and error_id else ""
    return f"platform error {str(code).strip()}{named}: {message or 'it gave no reason'}"
