"""The reader of requests. It parses each request into an event, or refuses it with an answer."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, RefusalReason, RefusedSenders
from voiceflow_worker.asgi.limits import DEFLATE, GZIP, READABLE, decompressed
from voiceflow_worker.errors import WebhookEventError
from voiceflow_worker.model.reports.events import (
    CallAction,
    CallStatus,
    WebhookEvent,
    parse_event,
)
from voiceflow_worker.service import metrics as named

OtherEvent: TypeAlias = CallAction | CallStatus
"""A known event other than a summary."""

EventAnswer: TypeAlias = bytes | None
"""The JSON body of the answer to an event. None means the usual answer."""

AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[EventAnswer]]
"""A handler of events other than summaries. If it raises a StoreError, the event is answered with 503."""


class Metrics:
    """The metrics of the receiver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.answers: Counter = named.WEBHOOK_ANSWERS.on(registry)
        self.events: Counter = named.WEBHOOK_EVENTS.on(registry)
        self.summaries: Counter = named.WEBHOOK_SUMMARIES.on(registry)
        self.refusals: Counter = named.WEBHOOK_REFUSALS.on(registry)
        self.odd: Counter = named.WEBHOOK_UNPARSED.on(registry)
        self.store_failures: Counter = named.WEBHOOK_STORE_FAILURES.on(registry)
        self.in_store: Gauge = named.WEBHOOK_IN_PROGRESS.on(registry)
        self.seconds: Histogram = named.WEBHOOK_SECONDS.on(registry)


LONGEST_BODY = 1_000_000
_REFUSALS = {
    RefusalReason.NETWORK: (403, "events from this network are not accepted"),
    RefusalReason.SECRET: (401, "the Authorization header is missing or wrong"),
}


class OddReason(StrEnum):
    """The reason why an event could not be understood.

    ENCODING: the body is not JSON, but compressed in an unknown way, or damaged. NOT_AN_EVENT: the JSON is not an
    object, or has no payload. UNKNOWN_EVENT: this version does not know the type or the product of the event.
    UNKNOWN_STATUS: a session summary has an unknown status or none. NO_SESSION: the event is about a call, but names no
    session. FAILURE: the receiver failed and answered 500.
    """

    NOT_JSON = "not_json"
    ENCODING = "encoding"
    NOT_AN_EVENT = "not_an_event"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_STATUS = "unknown_status"
    NO_SESSION = "no_session"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """An answer to a request. `odd` is the reason for keeping the event, if it could not be understood.

    `refusal` is the label under which the metrics count a refusal. `closes` is True if the connection is closed after
    the answer, because the body was not read to its end.
    """

    status: int
    body: bytes
    odd: OddReason | None = None
    refusal: str | None = None
    closes: bool = False

    @classmethod
    def refused(cls, status: int, refusal: str, sentence: str, *, odd: OddReason | None = None) -> WebhookAnswer:
        """An answer that refuses a request, with the reason in a sentence."""
        return cls(status, orjson.dumps({"error": sentence}), odd, refusal)


class RequestReader:
    """The reader of bodies from admitted senders. Each body must arrive within the `read_limit`."""

    def __init__(self, gatekeeper: Gatekeeper, *, read_limit: timedelta = limits.BODY) -> None:
        self._gatekeeper = gatekeeper
        self._read_limit = read_limit.total_seconds()
        self.refused: RefusedSenders = RefusedSenders()

    def sender(self, scope: Scope) -> str | None:
        """The address of the sender, as the gatekeeper sees it."""
        address = self._gatekeeper.sender(scope)
        return None if address is None else str(address)

    async def content(self, scope: Scope, receive: Receive) -> bytes | WebhookAnswer:
        """The body, or the answer that refuses the request. Raises ClientDisconnect if the sender disconnects.

        What is left of the body of a refused request, the server reads and drops.
        """
        refusal = self._gatekeeper.refusal(scope)
        if refusal is not None:
            status, sentence = _REFUSALS[refusal]
            self.refused.note(self._gatekeeper.sender(scope), refusal.value)
            return WebhookAnswer.refused(status, refusal.value, sentence)
        self.refused.taken()
        too_large = WebhookAnswer.refused(413, "too_large", f"the body is longer than {LONGEST_BODY} bytes")
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length[:18]) > LONGEST_BODY:
            return too_large
        content = bytearray()
        try:
            async with asyncio.timeout(self._read_limit):
                async for chunk in Request(scope, receive).stream():
                    content += chunk
                    if len(content) > LONGEST_BODY:
                        return too_large
        except TimeoutError:
            return replace(WebhookAnswer.refused(408, "too_slow", "the body did not arrive in time"), closes=True)
        whole = decompressed(bytes(content), longest=LONGEST_BODY)
        return whole if len(whole) <= LONGEST_BODY else too_large


def understood(content: bytes, scope: Scope) -> WebhookEvent | WebhookAnswer:
    """The event in the body of a request, or the answer that refuses it."""
    try:
        return parse_event(decoded(content))
    except WebhookEventError as error:  # comes first, because it is a ValueError too
        return WebhookAnswer.refused(400, "not_an_event", str(error), odd=OddReason.NOT_AN_EVENT)
    except ValueError as error:
        why = unread_encoding(content, ",".join(Headers(scope=scope).getlist("content-encoding")))
        if why is None:
            return WebhookAnswer.refused(400, "not_json", f"the body is not JSON: {error}", odd=OddReason.NOT_JSON)
        return WebhookAnswer.refused(415, "encoding", f"{why}: send it as it is, or in gzip", odd=OddReason.ENCODING)


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ACCEPTED_ENCODING = b"gzip"
"""The value of Accept-Encoding in an answer to a body of another encoding (RFC 9110 §15.5.16)."""

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL in a JSON text that Python has written, after the escaped backslashes before it."""
_DIGITS = len(str(2**64))


def unread_encoding(content: bytes, encodings: str) -> str | None:
    """Why a body that is no JSON may be compressed, as a clause; None if nothing says so.

    `encodings` is the value of its Content-Encoding.
    """
    if content.startswith((GZIP, *DEFLATE)):
        return "the body is compressed, and damaged"
    names = (each.strip().lower() for each in encodings.split(","))
    found = next((name for name in names if name not in READABLE), None)
    return None if found is None else f"the body has the encoding {found}, which is not read here"


def decoded(content: bytes) -> object:
    r"""The JSON value of a body. Raises ValueError if it is not JSON (RFC 8259).

    UTF-16 and UTF-32 are read too. What no store can keep becomes U+FFFD: a byte that is not UTF-8, NUL, and half a
    surrogate pair (`"\ud800"`). NaN, infinity and numbers that no float can hold become null. Line breaks and tabs may
    stand in texts as they are. Of a name that an object has twice, the last value counts.
    """
    content = content.removeprefix(_BYTE_ORDER_MARK)  # RFC 8259 §8.1 allows readers to ignore it
    problem: ValueError
    try:
        value: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        problem = error
    else:
        if b"\\u0000" not in content:
            return value
        problem = ValueError("it has a NUL character at a depth that cannot be read")
    try:
        return _mended(content)
    except (ValueError, RecursionError):
        raise problem from None


def _mended(content: bytes) -> object:
    text = content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff").rstrip("\0")
    value: object = json.loads(text, strict=False, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    # Each NUL, and each surrogate without a pair, becomes U+FFFD.
    text = _NUL.sub(r"\1\\ufffd", json.dumps(value, ensure_ascii=False))
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return orjson.loads(text)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> float | int | None:
    """A whole number as orjson reads it: exactly if it has 64 bits, else as a float."""
    if len(digits) <= _DIGITS and -(2**63) <= int(digits) < 2**64:
        return int(digits)
    return _finite(digits)
