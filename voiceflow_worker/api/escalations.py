"""Escalations: start one, look at it, wait for its end; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from voiceflow_worker.api.answers import RETRY, Answer, ProblemError
from voiceflow_worker.api.exchange import LONGEST_WAIT, Asked, Route, texts_in
from voiceflow_worker.api.openapi import (
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
from voiceflow_worker.campaigns.fields import fields_of, schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.numbers.phone import warnings_for
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.alarms import REMEMBERED, Alarms, Alerts
from voiceflow_worker.service.escalation_state import EscalationState, EscalationStatus
from voiceflow_worker.service.escalations import Escalations

_FIELDS: Final = tuple(fields_of(Of.ESCALATION))


async def ask(asked: Asked) -> Answer:
    """`POST /v1/escalations`."""
    asked.known_query()
    key, desk = asked.key, asked.desk
    given = await asked.json()
    policies = await desk.policies.current()
    with asked.alone(key):
        started = await Escalations(desk.queue).order(given, key=key, settings=desk.settings, policies=policies)
    return _told(started.status, created=started.created)


async def show(asked: Asked) -> Answer:
    """`GET /v1/escalations/{id}`, which may wait for the end."""
    asked.known_query("wait")
    within = asked.number("wait", most=LONGEST_WAIT, default=0)
    escalations, escalation_id = Escalations(asked.desk.queue), asked.parts["id"]
    status = await escalations.get(escalation_id)
    if status.is_open and within:
        wait = partial(escalations.wait, escalation_id, timeout=timedelta(seconds=within))
        status = await asked.until(wait, within=within) or await escalations.get(escalation_id)
    return Answer(status.as_json())


MOST_LISTED = 200


async def find(asked: Asked) -> Answer:
    """`GET /v1/escalations`, page by page."""
    query = asked.known_query("after", "limit")
    limit = asked.number("limit", least=1, most=MOST_LISTED, default=100)
    found, after = await Escalations(asked.desk.queue).page(after=query.get("after", ""), limit=limit)
    return Answer({"escalations": [each.as_json() for each in found], "after": after})


async def acknowledge(asked: Asked) -> Answer:
    """`POST /v1/escalations/{id}/acknowledge`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "by")
    by = replace(asked.operator.actor, name=given["by"] or "a program")
    status = await Escalations(asked.desk.queue).acknowledge(asked.parts["id"], by=by)
    return Answer(status.as_json())


async def stop(asked: Asked) -> Answer:
    """`POST /v1/escalations/{id}/stop`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note")
    reason = given["note"] or "a program has stopped it"
    escalations, by = Escalations(asked.desk.queue), asked.operator.actor
    return Answer((await escalations.stop(asked.parts["id"], reason=reason, by=by)).as_json())


async def alerts(asked: Asked) -> Answer:
    """`POST /v1/hooks/alertmanager`.

    Whatever is resolved ends first. While nobody can be called for an alert that fires, the answer is one after which
    the sender asks again, and tells its own people that it has to: the alert is stored all the same. So is the answer
    for an alert that began before the end that was just told: if it is no delayed notification, it is told on and on.
    """
    given: dict[str, object] = dict(asked.known_query(*_FIELDS))
    if isinstance(numbers := given.get("numbers"), str):
        given["numbers"] = ",".join(_with_plus(each, given.get("country")) for each in numbers.split(","))
    desk = asked.desk
    told, alarms = Alerts.of(await asked.json()), Alarms(Escalations(desk.queue))
    await alarms.resolve(told.resolved)
    if not told.firing:
        return Answer({"message": "the alerts are resolved; nobody is called"})
    escalation, wording = told.escalation(given, settings=desk.settings, policies=await desk.policies.current())
    heard = await alarms.fire(told, escalation, wording=wording)
    first = next(iter(heard.statuses), None)
    if heard.blocked is not None or first is None or heard.late:
        detail = (
            f"the alerts are stored, and nobody can be called: {heard.blocked}"
            if heard.blocked is not None
            else f"nobody is called yet for {count_of(heard.late, 'alert')}: each began before its end, reported "
            f"in the last {REMEMBERED // timedelta(minutes=1)} minutes; send the notification again while it fires"
        )
        where = {} if first is None else _location(first)
        raise ProblemError(503, detail, findings=[Finding(message=detail)], headers={**RETRY, **where})
    document = {**first.as_json(), "escalations": [each.id for each in heard.statuses]}
    return Answer(document, 201 if heard.begun else 200, _location(first))


def _with_plus(number: str, country: object) -> str:
    """A number of a query, in which + stands for a space: with the + that it can only have had, if it began with one.

    With a country, it may be a national number behind a space. Raises InvalidInputError if it may be both.
    """
    if not re.match(r" \d", number):
        return number
    as_foreign, as_national = f"+{number[1:]}", number[1:]
    national = _read(as_national, country) if isinstance(country, str) else None
    foreign = _read(as_foreign, None)
    if national is None or foreign == national:
        return as_foreign
    if foreign is None or warnings_for(foreign):  # no number of its numbering plan
        return as_national
    why = f"{as_foreign} may also be {as_national} in {country}; write %2B for +"
    raise InvalidInputError(f"numbers: {why}").found(Finding(column="numbers", message=why))


def _read(text: str, country: str | None) -> str | None:
    try:
        return read_number(text, country).e164
    except InvalidInputError:
        return None


def _told(status: EscalationStatus, *, created: bool) -> Answer:
    return Answer(status.as_json(), 201 if created else 200, _location(status))


def _location(status: EscalationStatus) -> dict[str, str]:
    return {"Location": f"/v1/escalations/{status.id}"}


_TEXT = {"type": "string"}
_NULL_TEXT = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_NULL_TIME = {"type": ["string", "null"], "format": "date-time"}
_ESCALATION = ref("Escalation")

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/escalations",
        handle=ask,
        doc=operation(
            "Call numbers one after the other, until somebody presses a key.",
            parameters=[KEY],
            body=ref("EscalationRequest"),
            answers={
                200: ("The escalation already created with this key, in its present state.", _ESCALATION),
                201: ("The new escalation.", _ESCALATION),
            },
            problems=[409],
        ),
    ),
    Route(
        method="GET",
        path="/v1/escalations/{id}",
        handle=show,
        doc=operation(
            "One escalation: what happened at each step, and who has acknowledged.",
            parameters=[
                in_path("id", "The escalation's id."),
                in_query(
                    "wait",
                    "The most seconds to wait for its end. It may not have ended then: look at its state.",
                    {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
                ),
            ],
            answers={200: ("The escalation.", _ESCALATION)},
            problems=[404],
        ),
    ),
    Route(
        method="GET",
        path="/v1/escalations",
        handle=find,
        doc=operation(
            "Escalations of the queue, the newest first.",
            parameters=[
                in_query("after", "Continue after the last page: its `after`."),
                in_query(
                    "limit",
                    "The most escalations of a page.",
                    {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 100},
                ),
            ],
            answers={200: ("A page of escalations.", ref("Escalations"))},
        ),
    ),
    Route(
        method="POST",
        path="/v1/escalations/{id}/acknowledge",
        handle=acknowledge,
        doc=operation(
            "Acknowledge an escalation, as its key does: nobody further is called.",
            parameters=[in_path("id", "The escalation's id.")],
            body=ref("AcknowledgeRequest"),
            body_required=False,
            answers={200: ("The escalation. It is as it was if it had been acknowledged or stopped.", _ESCALATION)},
            problems=[404],
        ),
    ),
    Route(
        method="POST",
        path="/v1/escalations/{id}/stop",
        handle=stop,
        doc=operation(
            "Stop an escalation that nobody has acknowledged: nobody further is called.",
            parameters=[in_path("id", "The escalation's id.")],
            body=NOTE,
            body_required=False,
            answers={200: ("The escalation. It is as it was if it had ended.", _ESCALATION)},
            problems=[404],
        ),
    ),
    Route(
        method="POST",
        path="/v1/hooks/alertmanager",
        handle=alerts,
        told_as_503=frozenset({404, 408, 409, 429}),  # Alertmanager gives a notification up after a 4xx
        doc=operation(
            "The webhook of Alertmanager, and of Grafana: alerts that fire have an escalation.",
            parameters=[
                in_query(name, f"As the field `{name}` of an escalation.{more}")
                for name, more in (
                    (name, " By default the alert's summary." if name == "say" else "") for name in _FIELDS
                )
            ],
            body=ref("Alerts"),
            answers={
                200: (
                    "Nothing new: the escalations of these alerts, or a message that they are resolved.",
                    OBJECT,
                ),
                201: ("The new escalation, or one that begins another round.", _ESCALATION),
            },
        ),
    ),
)

SCHEMAS: Final[Mapping[str, object]] = {
    "EscalationRequest": {
        **schema_of(Of.ESCALATION, required=("say",)),
        "description": "What is left out comes from the settings of the server.",
    },
    "AcknowledgeRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"by": {**_NULL_TEXT, "description": "Who acknowledges."}},
    },
    "Escalations": {
        "type": "object",
        "required": ["escalations", "after"],
        "properties": {
            "escalations": {"type": "array", "items": ref("Escalation")},
            "after": {**_NULL_TEXT, "description": "The `after` of the next page; null at the end."},
        },
    },
    "Escalation": {
        "type": "object",
        "description": "An escalation. Further fields may be added.",
        "required": ["id", "queue", "state", "unique_key", "batch_id", "message", "acknowledged", "steps"],
        "properties": {
            "id": _TEXT,
            "queue": _TEXT,
            "state": one_of(state.value for state in EscalationState),
            "unique_key": _TEXT,
            "batch_id": _TEXT,
            "created_at": _TIME,
            "ended_at": _NULL_TIME,
            "reason": _NULL_TEXT,
            "message": {**_TEXT, "description": "How it stands, in a sentence."},
            "acknowledged": {
                "type": ["object", "null"],
                "required": ["step", "number", "call_id", "by", "at"],
                "properties": {
                    "step": {"type": ["integer", "null"]},
                    "number": _NULL_TEXT,
                    "call_id": _NULL_TEXT,
                    "by": {**_NULL_TEXT, "description": "Who acknowledged without a call."},
                    "at": _TIME,
                },
            },
            "resting_until": {**_NULL_TIME, "description": "Until then nobody is called: it was acknowledged before."},
            "blocked": {**_NULL_TEXT, "description": "Why nobody can be called now."},
            "alarms": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["text", "ended"],
                    "properties": {"text": _TEXT, "ended": {"type": "boolean"}},
                },
            },
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["step", "round", "number", "result", "message", "call_id", "at"],
                    "properties": {
                        "step": {"type": "integer"},
                        "round": {"type": "integer"},
                        "number": _TEXT,
                        "result": {**_TEXT, "description": "What came of it in one word."},
                        "message": _TEXT,
                        "call_id": _NULL_TEXT,
                        "at": _NULL_TIME,
                    },
                },
            },
        },
    },
    "Alerts": {
        "type": "object",
        "description": "The body of a webhook of Alertmanager (version 4) or of Grafana.",
        "required": ["alerts"],
        "properties": {
            "groupKey": _NULL_TEXT,
            "status": one_of(["firing", "resolved"]),
            "alerts": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["startsAt"],
                    "properties": {
                        "status": one_of(["firing", "resolved"]),
                        "fingerprint": _NULL_TEXT,
                        "startsAt": _TEXT,
                        "labels": OBJECT_OR_NULL,
                        "annotations": OBJECT_OR_NULL,
                    },
                },
            },
        },
    },
}
