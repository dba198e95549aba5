"""Escalations: start one; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, create_model

from voiceflow_worker.api.asked import Calls, answer, findings_in
from voiceflow_worker.api.batches import batch_document
from voiceflow_worker.api.models import Batch, Fields, Key, Notified
from voiceflow_worker.api.problems import RETRY, ProblemError
from voiceflow_worker.campaigns.fields import fields_of, schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.service.alerts import handle_notification
from voiceflow_worker.service.on_call import Escalation, start_escalation

routes: Final = APIRouter()
_log = structlog.get_logger("voiceflow.api")


class EscalationRequest(Fields, table=schema_of(Of.ESCALATION, required=("say",))):
    """What is left out comes from the settings of the server."""


class Alerts(Fields, table={"type": "object", "additionalProperties": True}):
    """The body of a webhook of Alertmanager (version 4) or of Grafana."""


_SAID = {"say": " By default the alert's summary."}
_IN_QUERY: dict[str, Any] = {
    name: (str | None, Field(default=None, description=f"As the field `{name}` of an escalation.{_SAID.get(name, '')}"))
    for name in fields_of(Of.ESCALATION)
}
if TYPE_CHECKING:
    AlertQuery = BaseModel
else:
    AlertQuery = create_model("AlertQuery", **_IN_QUERY)


@routes.post("/v1/escalations", status_code=201, response_model=Batch, responses={200: {"model": Batch}})
async def start(asked: Calls, body: EscalationRequest, key: Key) -> Any:
    """Call numbers one after the other, until somebody presses a key. 200 is the batch that was started before.

    The calls are a batch; to end it without a telephone, cancel it.
    """
    server, queue = asked.server, asked.queue()
    batch = f"oncall-{keyed_digest(queue.store.id, key)[:20]}"
    said = {name: value for name, value in body.root.items() if value is not None}
    digest = keyed_digest(queue.store.id, canonical_json(said))[:20]
    with findings_in(body.root, body.table):
        policies = await server.policies.current()
        escalation = Escalation.of(body.root, settings=server.settings, policies=policies)
        is_new = await start_escalation(queue, escalation, name=batch, request=digest, by=asked.actor(key))
    return asked.made(await batch_document(queue, batch), f"/v1/batches/{batch}", is_new=is_new)


@routes.post(
    "/v1/hooks/alertmanager", status_code=201, response_model=Notified,
    responses={200: {"model": Notified}},
)  # fmt: skip
async def alerts(asked: Calls, body: Alerts, query: Annotated[AlertQuery, Query()]) -> Any:
    """Take a webhook of Alertmanager or Grafana: the alerts that are news have one escalation. 200: nothing is new.

    What is resolved ends first. While nobody can be called for an alert that fires, the answer is 503, and the calls
    are stored all the same: the sender tries again, and its own alarm about a failing receiver fires.
    """
    given: dict[str, Any] = query.model_dump(exclude_unset=True)
    server = asked.server
    with findings_in(body.root, body.table, given):
        if isinstance(numbers := given.get("numbers"), str):  # + is a space in a query
            if "country" in given and re.search(r"(?:^|[,|]) \d", numbers):
                raise InvalidInputError("a number begins with a space").found(
                    Finding(column="numbers", message="a number begins with a space, which may be a +: write %2B for +")
                )
            given["numbers"] = re.sub(r"(?:(?<=[,|])|^) (?=\d)", "+", numbers)
        result = await handle_notification(
            asked.queue(), body.root, given, settings=server.settings, policies=await server.policies.current()
        )
    if result.not_taken:
        _log.warning("alerts of a notification cannot be read; nobody is called for them", alerts=result.not_taken)
    if result.blocked is not None:
        detail = "; not taken: ".join([f"nobody can be called: {result.blocked}", *result.not_taken])
        raise ProblemError(503, detail, headers=RETRY, code="nobody_called")
    message = "nobody is called: no alert fires" if not result.batches else "each alert that fires has its calls"
    document = {"message": message, "batches": [*result.batches], "not_taken": [*result.not_taken]}
    if not result.batches:
        return answer(document)
    return asked.made(document, f"/v1/batches/{result.batches[0]}", is_new=result.created)
