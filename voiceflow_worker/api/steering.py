"""Queues and the suppression list: what operators change by commands and on the pages, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from voiceflow_worker.actions import OperatorAction, UnknownSubjectError
from voiceflow_worker.actions.queues import Hold, Rate, Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.api.answers import Answer, etag
from voiceflow_worker.api.exchange import Asked, Route, texts_in
from voiceflow_worker.api.openapi import IF_MATCH, NOTE, OBJECT, in_path, in_query, one_of, operation, ref
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import read_duration, read_rate
from voiceflow_worker.model.times import read_time
from voiceflow_worker.service.whole_queue import read_queue


async def done(act: OperatorAction, seen: str | None) -> Answer:
    """Carry out an action on what a program has `seen`, and answer with its document, which commands print too."""
    return Answer((await act.do(seen)).documents[0])


def of_gate(seen: str | None) -> str | None:
    """The part of an ETag that is about a hold."""
    return None if seen is None else seen.partition(_AND)[0]


_AND = "~"
"""What stands between the two parts of the ETag of a queue: those of its hold and of its rate."""


def duration_in(given: Mapping[str, str | None], name: str) -> timedelta | None:
    """The duration in a text of a body. Raises InvalidInputError."""
    text = given[name]
    try:
        return None if text is None else read_duration(text)
    except ValueError as error:
        raise InvalidInputError(f"{name} is {text!r}, which is not a duration: {error}") from None


async def show_queue(asked: Asked) -> Answer:
    """`GET /v1/queues/{name}`."""
    asked.known_query()
    operator, name = asked.operator, asked.parts["name"]
    queue = operator.queue(name)
    seen = _AND.join([await Hold(operator=operator, queue=name).gate_seen(), await queue.rate_state()])
    return Answer((await read_queue(queue)).as_json(), headers=etag(seen))


async def hold_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/hold`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note", "for")
    lasts = duration_in(given, "for")
    act = Hold(operator=asked.operator, queue=asked.parts["name"], note=given["note"], lasts=lasts)
    return await done(act, of_gate(asked.seen))


async def resume_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/resume`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note")
    act = Resume(operator=asked.operator, queue=asked.parts["name"], note=given["note"])
    return await done(act, of_gate(asked.seen))


async def set_rate(asked: Asked) -> Answer:
    """`PUT /v1/queues/{name}/rate`."""
    asked.known_query()
    body = dict(await asked.json())
    rate = _rate(body.pop("rate", None))
    given = texts_in(body, "note")
    act = Rate(operator=asked.operator, queue=asked.parts["name"], note=given["note"], rate=rate)
    return await done(act, None if asked.seen is None else asked.seen.partition(_AND)[2])


def _rate(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInputError('rate is missing: give calls per second, such as 5, or "unlimited"')
    try:
        return read_rate(str(value))
    except ValueError as error:
        raise InvalidInputError(f"rate is {str(value)[:40]!r}: {error}") from None


async def suppress(asked: Asked) -> Answer:
    """`PUT /v1/suppression/{number}`."""
    country = asked.known_query("country").get("country")
    given = texts_in(await asked.json(or_nothing=True), "note", "until", "for")
    act = Suppress(
        operator=asked.operator,
        numbers=[asked.parts["number"]],
        country=country,
        note=given["note"],
        until=_time(given["until"]),
        lasts=duration_in(given, "for"),
    )
    answer = await done(act, asked.seen)
    return replace(answer, headers=etag(await act.seen()))


async def show_suppressed(asked: Asked) -> Answer:
    """`GET /v1/suppression/{number}`."""
    country, number = asked.known_query("country").get("country"), asked.parts["number"]
    act = Suppress(operator=asked.operator, numbers=[number], country=country)
    seen = await act.seen()
    found = list((await act.listed.find(number, country=country)).values())
    if not found:
        raise UnknownSubjectError(f"{number[:40]} is not on the suppression list")
    return Answer(found[0].as_json(), headers=etag(seen))


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else read_time(text)
    except ValueError as error:
        raise InvalidInputError(f"until is not a time: {error}") from None


async def unsuppress(asked: Asked) -> Answer:
    """`DELETE /v1/suppression/{number}`."""
    country = asked.known_query("country").get("country")
    act = Unsuppress(operator=asked.operator, numbers=[asked.parts["number"]], country=country)
    return await done(act, asked.seen)


_NAME = in_path("name", "The queue's name.")
_NUMBER = in_path("number", "A phone number, such as +6587654321.")
_COUNTRY = in_query("country", "The country of a national number, such as SG.")
_GATE: Mapping[int, tuple[str, Mapping[str, object]]] = {200: ("The hold of the queue, as it is now.", ref("Gate"))}


def _of_queue(method: str, path: str, handle: Any, summary: str, **doc: Any) -> Route:
    more = [] if method == "GET" else [IF_MATCH]
    doc = operation(summary, parameters=[_NAME, *more], problems=[404, 409, *([412] if more else [])], **doc)
    return Route(method=method, path=f"/v1/queues/{{name}}{path}", handle=handle, doc=doc)


ROUTES: Final = (
    _of_queue("GET", "", show_queue, "A queue: its calls by state, rate, holds and doubts.", answers={
        200: ("The queue, as `voiceflow status --json` prints it.", ref("Queue")),
    }),
    _of_queue("POST", "/hold", hold_queue, "Send no more calls of a queue.", body=ref("HoldRequest"),
              body_required=False, answers=_GATE),
    _of_queue("POST", "/resume", resume_queue, "End the hold of a queue.", body=NOTE, body_required=False,
              answers=_GATE),
    _of_queue("PUT", "/rate", set_rate, "Change the rate of a queue, for all its workers.", body=ref("RateRequest"),
              answers={200: ("The rate that holds from now on.", ref("Rate"))}),
    Route(
        method="GET",
        path="/v1/suppression/{number}",
        handle=show_suppressed,
        doc=operation(
            "The entry of a number on the suppression list.",
            parameters=[_NUMBER, _COUNTRY],
            answers={200: ("The entry, with the ETag that If-Match takes.", ref("Suppressed"))},
            problems=[404],
        ),
    ),
    Route(
        method="PUT",
        path="/v1/suppression/{number}",
        handle=suppress,
        doc=operation(
            "Stop calling a number, in every queue.",
            parameters=[_NUMBER, _COUNTRY, IF_MATCH],
            problems=[412],
            body=ref("SuppressionRequest"),
            body_required=False,
            answers={200: ("The entry of the suppression list.", ref("Suppressed"))},
        ),
    ),
    Route(
        method="DELETE",
        path="/v1/suppression/{number}",
        handle=unsuppress,
        doc=operation(
            "Take a number off the suppression list.",
            parameters=[_NUMBER, _COUNTRY, IF_MATCH],
            problems=[412],
            answers={200: ("Whether it was on the list.", ref("Unsuppressed"))},
        ),
    ),
)  # fmt: skip

_TEXT: Mapping[str, object] = {"type": ["string", "null"], "maxLength": 1000}
_DURATION: Mapping[str, object] = {**_TEXT, "description": "A duration, such as 10m."}
SCHEMAS: Final[Mapping[str, object]] = {
    "HoldRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"note": _TEXT, "for": _DURATION},
    },
    "RateRequest": {
        "type": "object",
        "required": ["rate"],
        "additionalProperties": False,
        "properties": {
            "rate": {"type": ["number", "string"], "description": 'Calls per second, or "unlimited".'},
            "note": _TEXT,
        },
    },
    "SuppressionRequest": {
        "type": "object",
        "description": "Without `until` and `for`, for good. An earlier entry stays if it ends later.",
        "additionalProperties": False,
        "properties": {"note": _TEXT, "until": {**_TEXT, "description": "RFC 3339."}, "for": _DURATION},
    },
    "Gate": {
        "type": "object",
        "required": ["scope", "name", "until", "reason"],
        "properties": {
            "scope": one_of(["queue", "batch"]),
            "name": {"type": "string"},
            "until": {"type": ["string", "null"]},
            "reason": {"type": ["string", "null"]},
        },
    },
    "Queue": {
        "type": "object",
        "required": ["queue", "states", "due", "rate", "holds", "waiting", "doubts", "total"],
        "properties": {
            "queue": {"type": "string"},
            "states": {"type": "object", "additionalProperties": {"type": "integer"}},
            "due": {"type": "integer"},
            "oldest_due_seconds": {"type": ["number", "null"]},
            "rate": OBJECT,
            "holds": {"type": "array", "items": ref("Gate")},
            "waiting": OBJECT,
            "doubts": {"type": "integer"},
            "total": {"type": "integer"},
            "escalations": {"type": "array", "items": ref("Escalation"), "description": "Those that are open."},
            "schedules": {
                "type": "array",
                "items": OBJECT,
                "description": "The last run of each schedule, and when the next one is due.",
            },
        },
    },
    "Rate": {
        "type": "object",
        "required": ["queue", "rate", "is_set"],
        "properties": {
            "queue": {"type": "string"},
            "rate": {"type": ["number", "null"], "description": "null: unlimited."},
            "is_set": {"type": "boolean"},
        },
    },
    "Suppressed": {
        "type": "object",
        "required": ["number", "since", "until", "reason"],
        "properties": {
            "number": {"type": "string"},
            "since": {"type": "string", "format": "date-time"},
            "until": {"type": ["string", "null"], "format": "date-time"},
            "reason": {"type": ["string", "null"]},
        },
    },
    "Unsuppressed": {
        "type": "object",
        "required": ["number", "removed"],
        "properties": {"number": {"type": "string"}, "removed": {"type": "boolean"}},
    },
}
