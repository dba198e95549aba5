"""Calls: ask for one, look at it, wait for its outcome, list calls, cancel one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from voiceflow_worker.actions.calls import CancelCall, seen_of
from voiceflow_worker.api.answers import Answer, etag
from voiceflow_worker.api.exchange import LONGEST_WAIT, Asked, Route, texts_in
from voiceflow_worker.api.openapi import (
    IF_MATCH,
    KEY,
    NOTE,
    OBJECT,
    OBJECT_OR_NULL,
    in_path,
    in_query,
    one_of,
    operation,
    ref,
)
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import IllegalMoveError, InvalidInputError
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.service.call_filter import STATES
from voiceflow_worker.service.named_call import NamedCall


async def ask(asked: Asked) -> Answer:
    """`POST /v1/calls`."""
    asked.known_query()
    key, desk = asked.key, asked.desk
    call = await asked.aside(NamedCall, await asked.json(), key=key)
    with asked.alone(key):
        job, is_new = await call.enqueue(desk.queue, settings=desk.settings, menus=desk.menus, threads=asked.threads)
    return Answer(call_as_json(job), 201 if is_new else 200, {"Location": f"/v1/calls/{job.id}"})


async def show(asked: Asked) -> Answer:
    """`GET /v1/calls/{id}`, which may wait for the outcome."""
    asked.known_query("wait")
    wait = asked.number("wait", most=LONGEST_WAIT, default=0)
    _, job = await asked.operator.call(asked.parts["id"])
    job = await asked.ended(job, within=wait)
    return Answer(call_as_json(job), headers=etag(seen_of(job)))


MOST_LISTED = 200


async def find(asked: Asked) -> Answer:
    """`GET /v1/calls`, page by page."""
    query = asked.known_query("batch", "state", "number", "after", "limit")
    limit = asked.number("limit", least=1, most=MOST_LISTED, default=100)
    state, number = query.get("state"), query.get("number")
    if state is not None and state not in STATES:
        raise InvalidInputError(f"state is {state[:40]!r}; the states are {', '.join(STATES)}")
    found = await asked.desk.queue.find(
        states=None if state is None else STATES[state],
        batch_id=query.get("batch"),
        destination=None if number is None else read_number(with_plus(number.strip())).e164,  # + is a space in a query
        after=query.get("after"),
        limit=limit,
    )
    after = found[-1].id if len(found) == limit else None
    return Answer({"calls": [call_as_json(job) for job in found], "after": after})


async def cancel(asked: Asked) -> Answer:
    """`POST /v1/calls/{id}/cancel`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note")
    operator, call = asked.operator, asked.parts["id"]
    try:
        return Answer((await CancelCall(operator=operator, call=call, note=given["note"]).do(asked.seen)).documents[0])
    except IllegalMoveError:
        _, job = await operator.call(call)
        if job.state is not JobState.CANCELLED:
            raise
        return Answer(call_as_json(job))  # asked again, because the answer was lost


_TEXT = {"type": "string"}
_NULL_TEXT = {"type": ["string", "null"]}
_ID = in_path("id", "The call's id.")
_CALL = ref("Call")

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/calls",
        handle=ask,
        doc=operation(
            "Call a number.",
            parameters=[KEY],
            body=ref("CallRequest"),
            answers={
                200: ("The call already created with this key, in its present state.", _CALL),
                201: ("The new call.", _CALL),
            },
            problems=[409],
        ),
    ),
    Route(
        method="GET",
        path="/v1/calls",
        handle=find,
        doc=operation(
            "Calls of the queue, the oldest first.",
            parameters=[
                in_query("batch", "Only calls of this batch."),
                in_query("state", "Only calls in this state.", one_of(STATES)),
                in_query("number", "Only calls to this number, with its country code."),
                in_query("after", "Continue behind the call with this id: the `after` of the last page."),
                in_query(
                    "limit",
                    "The most calls of a page.",
                    {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 100},
                ),
            ],
            answers={200: ("A page of calls.", ref("Calls"))},
        ),
    ),
    Route(
        method="GET",
        path="/v1/calls/{id}",
        handle=show,
        doc=operation(
            "One call, and its outcome if it has ended.",
            parameters=[
                _ID,
                in_query(
                    "wait",
                    "The most seconds to wait for the outcome. The call may not have ended then: look at its state.",
                    {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
                ),
            ],
            answers={200: ("The call.", _CALL)},
            problems=[404],
        ),
    ),
    Route(
        method="POST",
        path="/v1/calls/{id}/cancel",
        handle=cancel,
        doc=operation(
            "Cancel a call that was not sent.",
            parameters=[_ID, IF_MATCH],
            body=NOTE,
            body_required=False,
            answers={200: ("The call, which is cancelled now, or was before.", _CALL)},
            problems=[404, 409, 412],
        ),
    ),
)

_NULL_TIME = {"type": ["string", "null"], "format": "date-time"}
_NULL_INTEGER = {"type": ["integer", "null"]}
_OUTCOME_OR_NULL = {"oneOf": [ref("Outcome"), {"type": "null"}]}
SCHEMAS: Final[Mapping[str, object]] = {
    "CallRequest": {
        **schema_of(Of.CALL, required=("to",)),
        "description": "Give one of say, flow and ivr. What is left out comes from the settings of the server.",
    },
    "Call": {
        "type": "object",
        "description": "A call, as `voiceflow calls show --json` prints it. Further fields may be added.",
        "required": ["id", "queue", "state", "result", "unique_key", "batch_id", "destination", "outcome", "attempts"],
        "properties": {
            "id": _TEXT,
            "queue": _TEXT,
            "state": one_of(state.value for state in JobState),
            "result": {**_TEXT, "description": "The outcome in one word; `open` until there is one."},
            "unique_key": _NULL_TEXT,
            "batch_id": _NULL_TEXT,
            "source": _TEXT,
            "destination": _TEXT,
            "priority": {"type": "integer"},
            "created_at": {"type": "string", "format": "date-time"},
            "due_at": {"type": "string", "format": "date-time"},
            "valid_until": _NULL_TIME,
            "attempt": {"type": "integer"},
            "session_id": _NULL_TEXT,
            "client_request_id": _NULL_TEXT,
            "outcome": _OUTCOME_OR_NULL,
            "answer": _NULL_TEXT,
            "data": OBJECT_OR_NULL,
            "reason": _NULL_TEXT,
            "attempts": {"type": "array", "items": ref("Attempt")},
        },
    },
    "Outcome": {
        "type": "object",
        "description": "How a call, or an attempt of it, ended. Further fields may be added.",
        "required": ["session_status", "code", "message", "started_at", "ended_at", "seconds", "digits", "answer"],
        "properties": {
            "session_status": _NULL_TEXT,
            "code": _NULL_INTEGER,
            "message": _NULL_TEXT,
            "started_at": _NULL_TIME,
            "ended_at": _NULL_TIME,
            "seconds": {"type": ["number", "null"]},
            "digits": {**_NULL_TEXT, "description": "The keys that were pressed."},
            "answer": {**_NULL_TEXT, "description": "What the menu calls them."},
            "price": {"type": ["number", "null"]},
            "currency": _NULL_TEXT,
            "legs": {"type": "array", "items": OBJECT},
        },
    },
    "Attempt": {
        "type": "object",
        "description": "One POST to 8x8. Further fields may be added.",
        "required": ["number", "client_request_id", "began_at", "answered_at", "session_id", "verdict", "code"],
        "properties": {
            "number": {"type": "integer"},
            "destination": _TEXT,
            "client_request_id": _TEXT,
            "began_at": _NULL_TIME,
            "answered_at": _NULL_TIME,
            "session_id": _NULL_TEXT,
            "verdict": _NULL_TEXT,
            "code": _NULL_INTEGER,
            "message": _NULL_TEXT,
            "valid_until": _NULL_TIME,
            "outcome": _OUTCOME_OR_NULL,
        },
    },
    "Calls": {
        "type": "object",
        "required": ["calls", "after"],
        "properties": {
            "calls": {"type": "array", "items": ref("Call")},
            "after": {**_NULL_TEXT, "description": "What continues the list; null at its end."},
        },
    },
}
