"""Escalations: start one, look at it, wait for its end; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, create_model

from voiceflow_worker.api.answers import RETRY, Answer, ProblemError
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import (
    AFTER,
    Body,
    Note,
    Operation,
    PageOf,
    Query,
    Schema,
    Text,
    TimeTold,
    Told,
    Wait,
)
from voiceflow_worker.campaigns.fields import fields_of, schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.numbers.phone import warnings_for
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.alarms import REMEMBERED, Alarms, Alerts
from voiceflow_worker.service.escalation_state import EscalationState, EscalationStatus
from voiceflow_worker.service.escalations import Escalations

ESCALATION_REQUEST: Final = Schema(
    "EscalationRequest",
    {
        **schema_of(Of.ESCALATION, required=("say",)),
        "description": "What is left out comes from the settings of the server.",
    },
)
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
ALERTS: Final = Schema(
    "Alerts",
    {
        "type": "object",
        "description": "The body of a webhook of Alertmanager (version 4) or of Grafana.",
        "required": ["alerts"],
        "properties": {
            "groupKey": {"type": ["string", "null"]},
            "status": {"type": "string", "enum": ["firing", "resolved"]},
            "alerts": {"type": "array", "minItems": 1, "items": _ALERT},
        },
    },
)
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


class EscalationPage(PageOf):
    """A page of escalations."""

    after: Annotated[str, StringConstraints(pattern=r"^[0-9]{18} [!-~]{1,100}$")] | None = Field(
        None, description=AFTER
    )


class AcknowledgeRequest(Body):
    """An acknowledgement."""

    by: Text | None = Field(None, description="Who acknowledges.")


class EscalationStep(Told):
    """A call of an escalation."""

    step: int
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
    steps: list[EscalationStep]


class EscalationsTold(Told):
    """A page of escalations."""

    escalations: list[Escalation]
    after: str | None


async def ask(asked: Asked) -> Answer:
    """`POST /v1/escalations`."""
    desk, policies = asked.desk, await asked.desk.policies.current()
    with asked.alone():
        started = await Escalations(desk.queue).order(
            asked.document, key=asked.key, settings=desk.settings, policies=policies, by=asked.operator.actor
        )
    status = started.status
    return Answer(status.as_json(), 201 if started.created else 200, location=_place(status))


async def show(asked: Asked) -> Answer:
    """`GET /v1/escalations/{id}`, which may wait for the end."""
    within, escalations, escalation_id = asked.query(Wait).wait, Escalations(asked.desk.queue), asked.parts["id"]
    status = await escalations.get(escalation_id)
    if status.is_open and within:
        wait = partial(escalations.wait, escalation_id, timeout=timedelta(seconds=within))
        status = await asked.until(wait, within=within) or await escalations.get(escalation_id)
    return Answer(status.as_json())


async def find(asked: Asked) -> Answer:
    """`GET /v1/escalations`, page by page."""
    query = asked.query(EscalationPage)
    found, after = await Escalations(asked.desk.queue).page(after=query.after or "", limit=query.limit)
    return Answer({"escalations": [each.as_json() for each in found], "after": after})


async def acknowledge(asked: Asked) -> Answer:
    """`POST /v1/escalations/{id}/acknowledge`."""
    escalations, name = Escalations(asked.desk.queue), asked.body(AcknowledgeRequest).by or "a program"

    async def order(by: Actor, _: object = None) -> Mapping[str, Any]:
        return (await escalations.acknowledge(asked.parts["id"], by=replace(by, name=name))).as_json()

    return await asked.once(order, order)


async def stop(asked: Asked) -> Answer:
    """`POST /v1/escalations/{id}/stop`."""
    escalations, reason = Escalations(asked.desk.queue), asked.body(Note).note or "a program has stopped it"

    async def order(by: Actor, _: object = None) -> Mapping[str, Any]:
        return (await escalations.stop(asked.parts["id"], reason=reason, by=by)).as_json()

    return await asked.once(order, order)


async def alerts(asked: Asked) -> Answer:
    """`POST /v1/hooks/alertmanager`.

    Whatever is resolved ends first. While nobody can be called for an alert that fires, the answer is one after which
    the sender asks again, and tells its own people that it has to: the alert is stored all the same. So is the answer
    for an alert that began before the end that was just told: if it is no delayed notification, it is told on and on.
    """
    given: dict[str, object] = asked.query(AlertQuery).model_dump(exclude_unset=True)
    if isinstance(numbers := given.get("numbers"), str):
        given["numbers"] = ",".join(_with_plus(each, given.get("country")) for each in numbers.split(","))
    desk = asked.desk
    told, alarms = Alerts.of(asked.document), Alarms(Escalations(desk.queue))
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
        where = {} if first is None else {"Location": asked.prefix + _place(first)}
        raise ProblemError(503, detail, headers={**RETRY, **where}, code="nobody_called")
    document = {**first.as_json(), "escalations": [each.id for each in heard.statuses]}
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
    if foreign is None or warnings_for(foreign):  # no number of its numbering plan
        return as_national
    why = f"{as_foreign} may also be {as_national} in {country}; write %2B for +"
    raise InvalidInputError(f"numbers: {why}").found(Finding(column="numbers", message=why))


def _read(text: str, country: str | None) -> str | None:
    try:
        return read_number(text, country).e164
    except InvalidInputError:
        return None


def _place(status: EscalationStatus) -> str:
    return f"/v1/escalations/{status.id}"


OPERATIONS: Final = (
    Operation(
        method="POST", path="/v1/escalations", handle=ask, keyed=True, body=ESCALATION_REQUEST, problems=[409],
        summary="Call numbers one after the other, until somebody presses a key.",
        answers={
            200: ("The escalation that was already created with this key, as it is now.", [Escalation]),
            201: ("The new escalation.", [Escalation]),
        },
    ),
    Operation(
        method="GET", path="/v1/escalations/{id}", handle=show, query=Wait, answers={200: ("It.", [Escalation])},
        summary="One escalation: what happened at each step, and who has acknowledged.",
    ),
    Operation(
        method="GET", path="/v1/escalations", handle=find, query=EscalationPage,
        summary="Escalations of the queue, the newest first.",
        answers={200: ("A page of escalations.", [EscalationsTold])},
    ),
    Operation(
        method="POST", path="/v1/escalations/{id}/acknowledge", handle=acknowledge, body=AcknowledgeRequest,
        body_required=False, summary="Acknowledge an escalation, as its key does: nobody further is called.",
        answers={200: ("The escalation; unchanged if it had been acknowledged or stopped before.", [Escalation])},
    ),
    Operation(
        method="POST", path="/v1/escalations/{id}/stop", handle=stop, body=Note, body_required=False,
        summary="Stop an escalation that nobody has acknowledged: nobody further is called.",
        answers={200: ("The escalation; unchanged if it had ended before.", [Escalation])},
    ),
    Operation(
        method="POST", path="/v1/hooks/alertmanager", handle=alerts, query=AlertQuery, body=ALERTS,
        told_as_503=frozenset({404, 408, 409, 429}),  # Alertmanager gives a notification up after a 4xx
        summary="The webhook of Alertmanager, and of Grafana: alerts that fire have an escalation.",
        answers={
            200: ("Nothing new: the escalations of these alerts, or a message that they are resolved.", []),
            201: ("The new escalation, or one that begins another round.", [Escalation]),
        },
    ),
)  # fmt: skip
