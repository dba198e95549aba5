"""Escalations: start one, look at it, wait for its end; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import structlog
from pydantic import Field, StringConstraints, create_model

from voiceflow_worker.api.answers import RETRY, Answer, ProblemError
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import Body, Fields, Note, PageOf, Query, Routes, Text, TimeTold, Told, Wait
from voiceflow_worker.asgi.openapi import Answers
from voiceflow_worker.campaigns.fields import fields_of, schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.numbers.phone import is_valid
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.alarms import REMEMBERED, Alarms
from voiceflow_worker.service.alarms import Alerts as AlertsHeard
from voiceflow_worker.service.escalation_actions import AcknowledgeEscalation, StopEscalation
from voiceflow_worker.service.escalation_state import EscalationState, EscalationStatus
from voiceflow_worker.service.escalations import Escalations

routes: Final = Routes()
_log = structlog.get_logger("voiceflow.api")


class EscalationRequest(Fields, table=schema_of(Of.ESCALATION, required=("say",))):
    """What is left out comes from the settings of the server."""


_ALERT = {
    "type": "object",
    "required": ["startsAt"],
    "properties": {
        "status": {"type": "string", "enum": ["firing", "resolved"]},
        "fingerprint": {"type": ["string", "null"]},
        "startsAt": {"type": "string", "format": "date-time"},
        "labels": {"type": ["object", "null"], "additionalProperties": True},
        "annotations": {"type": ["object", "null"], "additionalProperties": True},
    },
}


_ALERTS = {
    "type": "object",
    "required": ["alerts"],
    "properties": {
        "groupKey": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": ["firing", "resolved"]},
        "alerts": {"type": "array", "minItems": 1, "items": _ALERT},
    },
}


class Alerts(Fields, table=_ALERTS):
    """The body of a webhook of Alertmanager (version 4) or of Grafana."""


_IN_QUERY: dict[str, Any] = {
    name: (
        str | None,
        Field(
            None,
            description=f"As the field `{name}` of an escalation."
            + (" By default the alert's summary." if name == "say" else ""),
        ),
    )
    for name in fields_of(Of.ESCALATION)
}
AlertQuery: type[Query] = create_model("AlertQuery", __base__=Query, **_IN_QUERY)


EscalationPlace: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9]{18} [!-~]{1,100}$")]


class AcknowledgeRequest(Body):
    """An acknowledgement."""

    by: Text | None = Field(None, description="Who acknowledges.")


class EscalationStep(Told):
    """A call of an escalation."""

    step: int = Field(description="The same for numbers that are called at once.")
    round: int
    number: str
    result: str = Field(description="The result in one word.")
    message: str
    call_id: str | None
    at: TimeTold | None


class Acknowledged(Told):
    """Who has acknowledged an escalation."""

    step: int | None
    number: str | None
    call_id: str | None
    by: str | None = Field(description="Who acknowledged without a call.")
    at: TimeTold


class Alarm(Told):
    """An alert that an escalation tells of."""

    text: str
    ended: bool


class Escalation(Told):
    """An escalation. Further fields may be added."""

    id: str
    queue: str
    state: EscalationState
    unique_key: str
    batch_id: str
    created_at: TimeTold
    ended_at: TimeTold | None = None
    reason: str | None = None
    message: str = Field(description="Its state, in a sentence.")
    acknowledged: Acknowledged | None
    resting_until: TimeTold | None = Field(None, description="Until then nobody is called: it was acknowledged before.")
    blocked: str | None = Field(None, description="Why nobody can be called now.")
    may_ring: int = Field(0, description="Calls that had been sent before this order to end it, and may still ring.")
    alarms: list[Alarm] | None = None
    not_taken: list[str] | None = Field(None, description="Alerts of this notification that cannot be read.")
    steps: list[EscalationStep]


class EscalationsTold(Told):
    """A page of escalations."""

    escalations: list[Escalation]
    after: str | None


_ORDERED = {
    200: ("The escalation that was already created with this key, as it is now.", [Escalation]),
    201: ("The new escalation.", [Escalation]),
}
_HEARD: Answers = {
    200: ("Nothing new: the escalations of these alerts, or a message that they are resolved.", []),
    201: ("The new escalation, or one that begins another round.", [Escalation]),
}


@routes.on("POST", "/v1/escalations", _ORDERED, keyed=True)
async def ask(asked: Asked, body: EscalationRequest) -> Answer:
    """Call numbers one after the other, until somebody presses a key."""
    context, policies = asked.context, await asked.context.policies.current()
    with asked.alone():
        started = await Escalations(context.queue).order(
            body.root, key=asked.key, settings=context.settings, policies=policies, by=asked.operator.actor
        )
    status = started.status
    return Answer(status.as_json(), 201 if started.created else 200, location=_place(status))


@routes.on("GET", "/v1/escalations/{id}", Escalation)
async def show(asked: Asked, query: Wait) -> Answer:
    """One escalation: what happened at each step, and who has acknowledged.

    It may wait for the end.
    """
    escalations, escalation_id = Escalations(asked.context.queue), asked.parts["id"]
    status = await escalations.get(escalation_id)
    if status.is_open and query.wait:
        wait = partial(escalations.wait, escalation_id, timeout=timedelta(seconds=query.wait))
        status = await asked.until(wait, within=query.wait) or await escalations.get(escalation_id)
    return Answer(status.as_json())


@routes.on("GET", "/v1/escalations", EscalationsTold)
async def find(asked: Asked, query: PageOf[EscalationPlace]) -> Answer:
    """Escalations of the queue, the newest first."""
    found, after = await Escalations(asked.context.queue).page(after=query.after or "", limit=query.limit)
    return Answer({"escalations": [each.as_json() for each in found], "after": after})


@routes.on("POST", "/v1/escalations/{id}/acknowledge", Escalation)
async def acknowledge(asked: Asked, body: AcknowledgeRequest) -> Answer:
    """Acknowledge an escalation, as its key does: nobody further is called."""
    act = AcknowledgeEscalation(
        operator=asked.operator, queue=asked.context.queue.name, escalation=asked.parts["id"],
        who=body.by or "a program",
    )  # fmt: skip
    return await asked.done(act)


@routes.on("POST", "/v1/escalations/{id}/stop", Escalation)
async def stop(asked: Asked, body: Note) -> Answer:
    """Stop an escalation that nobody has acknowledged: nobody further is called."""
    act = StopEscalation(
        operator=asked.operator, queue=asked.context.queue.name, escalation=asked.parts["id"],
        note=body.note or "a program has stopped it",
    )  # fmt: skip
    return await asked.done(act)


@routes.on("POST", "/v1/hooks/alertmanager", _HEARD, query=AlertQuery)
async def alerts(asked: Asked, query: Query, body: Alerts) -> Answer:
    """The webhook of Alertmanager, and of Grafana: alerts that fire have an escalation.

    Whatever is resolved ends first. While nobody can be called for an alert that fires, the answer is one after which
    the sender asks again, and tells its own people that it has to: the alert is stored all the same. So is the answer
    for an alert that began before the end that was just told: if it is no delayed notification, it is told on and on.
    """
    given: dict[str, object] = query.model_dump(exclude_unset=True)
    if isinstance(numbers := given.get("numbers"), str):
        given["numbers"] = re.sub(r"[^,|]+", lambda each: _with_plus(each[0], given.get("country")), numbers)
    context = asked.context
    told, alarms = AlertsHeard.of(body.root), Alarms(Escalations(context.queue))
    more: dict[str, object] = {"not_taken": list(told.not_taken)} if told.not_taken else {}
    if told.not_taken:
        _log.warning("alerts of a notification cannot be read; nobody is called for them", alerts=told.not_taken)
    await alarms.resolve(told.resolved)
    if not told.firing:
        return Answer({"message": "the alerts are resolved; nobody is called", **more})
    escalation, wording = told.escalation(given, settings=context.settings, policies=await context.policies.current())
    heard = await alarms.fire(told, escalation, wording=wording)
    first = next(iter(heard.statuses), None)
    if heard.blocked is not None or first is None or heard.late:
        detail = (
            f"the alerts are stored, and nobody can be called: {heard.blocked}"
            if heard.blocked is not None
            else f"nobody is called yet for {count_of(heard.late, 'alert')}: each began before its end, reported "
            f"in the last {REMEMBERED // timedelta(minutes=1)} minutes; send the notification again while it fires"
        )
        detail = "; not taken: ".join([detail, *told.not_taken])
        where = {} if first is None else {"Location": asked.prefix + _place(first)}
        raise ProblemError(503, detail, headers={**RETRY, **where}, code="nobody_called")
    document = {**first.as_json(), "escalations": [each.id for each in heard.statuses], **more}
    return Answer(document, 201 if heard.begun else 200, location=_place(first))


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
    if foreign is None or not is_valid(foreign):  # no number of its numbering plan
        return as_national
    why = f"{as_foreign} may also be {as_national} in {country}; write %2B for +"
    raise InvalidInputError(f"numbers: {why}").found(Finding(column="numbers", message=why))


def _read(text: str, country: str | None) -> str | None:
    try:
        return read_number(text, country)
    except InvalidInputError:
        return None


def _place(status: EscalationStatus) -> str:
    return f"/v1/escalations/{status.id}"
