"""Escalations: start one; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from typing import Any, Final

import structlog
from pydantic import Field, create_model

from voiceflow_worker.api.answers import RETRY, Answer, ProblemError
from voiceflow_worker.api.batches import Batch, batch_document
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import Fields, Query, Routes, Told
from voiceflow_worker.asgi.openapi import Answers
from voiceflow_worker.campaigns.fields import fields_of, schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.numbers.phone import is_valid
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.service.alerts import handle_notification
from voiceflow_worker.service.on_call import Escalation, start_escalation

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


class NotificationAnswer(Told):
    """The escalations of a notification."""

    message: str
    batches: list[str] = Field(description="The batches of the alerts that fire, new ones first.")
    not_taken: list[str] = Field([], description="Alerts of this notification that cannot be read.")


_STARTED: Answers = {
    200: ("The batch that was started with this key before, as it is now.", [Batch]),
    201: ("The batch of the new escalation.", [Batch]),
}
_HANDLED: Answers = {
    200: ("Nothing is new.", [NotificationAnswer]),
    201: ("There is a new batch.", [NotificationAnswer]),
}


@routes.on("POST", "/v1/escalations", _STARTED, keyed=True)
async def start(asked: Asked, body: EscalationRequest) -> Answer:
    """Call numbers one after the other, until somebody presses a key.

    The calls are a batch; to end it without a telephone, cancel it.
    """
    context, queue, request = asked.context, asked.context.queue, body.root
    batch = f"oncall-{keyed_digest(queue.store.id, asked.key)[:20]}"
    with asked.alone():
        escalation = Escalation.of(request, settings=context.settings, policies=await context.policies.current())
        digest = keyed_digest(queue.store.id, canonical_json(request))[:20]
        is_new = await start_escalation(
            queue, escalation, name=batch, request=digest, by=asked.actor
        )  # fmt: skip
    document = await batch_document(queue, batch)
    return Answer(document, 201 if is_new else 200, location=f"/v1/batches/{batch}")


@routes.on("POST", "/v1/hooks/alertmanager", _HANDLED, query=AlertQuery)
async def alerts(asked: Asked, query: Query, body: Alerts) -> Answer:
    """The webhook of Alertmanager, and of Grafana: the alerts that are news have one escalation.

    What is resolved ends first. While nobody can be called for an alert that fires, the answer is 503, and the calls
    are stored all the same: the sender tries again, and its own alarm about a failing receiver fires.
    """
    given: dict[str, object] = query.model_dump(exclude_unset=True)
    if isinstance(numbers := given.get("numbers"), str):
        given["numbers"] = re.sub(r"[^,|]+", lambda each: _with_plus(each[0], given.get("country")), numbers)
    context = asked.context
    result = await handle_notification(
        context.queue, body.root, given, settings=context.settings, policies=await context.policies.current()
    )
    if result.not_taken:
        _log.warning("alerts of a notification cannot be read; nobody is called for them", alerts=result.not_taken)
    location = f"/v1/batches/{result.batches[0]}" if result.batches else None
    if result.blocked is not None:
        detail = "; not taken: ".join([f"nobody can be called: {result.blocked}", *result.not_taken])
        where = {} if location is None else {"Location": asked.prefix + location}
        raise ProblemError(503, detail, headers={**RETRY, **where}, code="nobody_called")
    message = "nobody is called: no alert fires" if not result.batches else "each alert that fires has its calls"
    document = {"message": message, "batches": [*result.batches], "not_taken": [*result.not_taken]}
    return Answer(document, 201 if result.created else 200, location=location)


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
