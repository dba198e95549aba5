"""Queues and the suppression list: what operators change by commands and on the pages, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from voiceflow_worker.acts import Act
from voiceflow_worker.acts.queues import Hold, Rate, Resume
from voiceflow_worker.acts.suppression import Suppress, Unsuppress
from voiceflow_worker.api.answers import Answer
from voiceflow_worker.api.exchange import Asked, Route, texts_in
from voiceflow_worker.api.openapi import NOTE, OBJECT, in_path, in_query, one_of, operation, ref
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import read_duration, read_rate
from voiceflow_worker.model.times import read_time
from voiceflow_worker.service.whole_queue import read_queue


async def done(act: Act) -> Answer:
    """Carry out an act, and answer with its document, which commands print too."""
    return Answer((await act.do()).documents[0])


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
    return Answer((await read_queue(asked.desk.operator.queue(asked.parts["name"]))).as_json())


async def hold_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/hold`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note", "for")
    lasts = duration_in(given, "for")
    return await done(Hold(operator=asked.desk.operator, queue=asked.parts["name"], note=given["note"], lasts=lasts))


async def resume_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/resume`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note")
    return await done(Resume(operator=asked.desk.operator, queue=asked.parts["name"], note=given["note"]))


async def set_rate(asked: Asked) -> Answer:
    """`PUT /v1/queues/{name}/rate`."""
    asked.known_query()
    body = dict(await asked.json())
    rate = _rate(body.pop("rate", None))
    given = texts_in(body, "note")
    return await done(Rate(operator=asked.desk.operator, queue=asked.parts["name"], note=given["note"], rate=rate))


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
    return await done(
        Suppress(
            operator=asked.desk.operator,
            numbers=[asked.parts["number"]],
            country=country,
            note=given["note"],
            until=_time(given["until"]),
            lasts=duration_in(given, "for"),
        )
    )


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else read_time(text)
    except ValueError as error:
        raise InvalidInputError(f"until is not a time: {error}") from None


async def unsuppress(asked: Asked) -> Answer:
    """`DELETE /v1/suppression/{number}`."""
    country = asked.known_query("country").get("country")
    return await done(Unsuppress(operator=asked.desk.operator, numbers=[asked.parts["number"]], country=country))


_NAME = in_path("name", "The queue's name.")
_NUMBER = in_path("number", "A phone number, such as +6587654321.")
_COUNTRY = in_query("country", "The country of a national number, such as SG.")
_GATE: Mapping[int, tuple[str, Mapping[str, object]]] = {200: ("The gate of the queue, as it is now.", ref("Gate"))}


def _of_queue(method: str, path: str, handle: Any, summary: str, **doc: Any) -> Route:
    doc = operation(summary, parameters=[_NAME], problems=[404, 409], **doc)
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
        method="PUT",
        path="/v1/suppression/{number}",
        handle=suppress,
        doc=operation(
            "Stop calling a number, in every queue.",
            parameters=[_NUMBER, _COUNTRY],
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
            parameters=[_NUMBER, _COUNTRY],
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
