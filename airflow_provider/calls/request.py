"""The call that a task requests by its rendered parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from voiceflow_worker import CallFlow, CallFlowError, Finding, InvalidInputError, usual_form
from voiceflow_worker.model.flows.canonical import EncodedBody, body_digest

if TYPE_CHECKING:
    from voiceflow_worker import CallWindow, RedialPolicy

_NUMBER_AT = re.compile(r"\$\.callflow\[(\d+)\]\.params\.(source|destination)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A call to enqueue, with its parameters for the queue."""

    flow: CallFlow
    batch_id: str
    valid_for: timedelta | None = None
    not_before: datetime | None = None
    window: CallWindow | None = None
    time_zone: str | None = None
    priority: int = 0
    redial: RedialPolicy | None = None
    menu: str | None = None
    data: Mapping[str, object] = field(default_factory=dict[str, object])
    unique_key: str | None = None
    """The key that a mapped task identifies the call by, instead of its number."""

    @property
    def digest(self) -> str:
        """The digest of the body, which the job of the call has too."""
        return body_digest(EncodedBody.of(self.flow).canonical)

    @property
    def number(self) -> str:
        """The number to call, in the form that the job stores."""
        return usual_form(self.flow.destination or "")


def flow_of(
    *, destination: str | None, say: str | None, flow: object, voice_profile: str | None, source: str | None
) -> CallFlow:
    """Return the call flow for the parameters of an operator.

    The flow is built from `say`, or given as a CallFlow, an 8x8 body or its JSON text. Raises InvalidInputError for
    parameters that do not fit together, and CallFlowError for a flow that breaks a rule.
    """
    if (say is None) == (flow is None):
        raise InvalidInputError("give the operator either say=… or flow=…")
    if destination is not None and not isinstance(cast("object", destination), str):
        raise InvalidInputError(
            f"destination is a {type(destination).__name__}, but a task instance calls one number. For several "
            "numbers, use .partial(…).expand(destination=[…]), or VoiceCampaignOperator"
        )
    if say is not None:
        missing = [
            name
            for name, value in (("destination", destination), ("source", source), ("voice_profile", voice_profile))
            if not value
        ]
        if missing:
            raise InvalidInputError(
                f"{' and '.join(missing)} missing: give the operator {', '.join(f'{name}=…' for name in missing)}"
                + ("" if missing == ["destination"] else ", or set defaults in the connection")
            )
        said = CallFlow.call(str(destination).strip(), source=str(source).strip())
        return _validated(said.say(say, voice_profile=str(voice_profile)).hangup().to_body())
    return _given(flow, destination=destination, source=source)


def _given(flow: object, *, destination: str | None, source: str | None) -> CallFlow:
    if isinstance(flow, CallFlow):
        body: Any = flow.to_body()
    elif isinstance(flow, str):
        try:
            body = json.loads(flow)
        except ValueError as error:
            raise InvalidInputError(f"flow is not JSON: {error}") from None
    else:
        body = flow
    if isinstance(body, Mapping):
        body = _with_numbers(dict(cast("Mapping[str, Any]", body)), destination=destination, source=source)
    return _validated(body)


def _validated(body: Any) -> CallFlow:
    try:
        return CallFlow.parse(body).validated()
    except CallFlowError as error:
        raise CallFlowError(_naming_numbers(error.findings, body)) from None


def _naming_numbers(findings: Sequence[Finding], body: object) -> list[Finding]:
    """Return the findings. A message about a phone number names it, because a mapped task has many numbers."""
    named: list[Finding] = []
    for found in findings:
        place = _NUMBER_AT.fullmatch(found.path or "")
        number = None if place is None else _at(body, int(place[1]), place[2])
        named.append(found if number is None else replace(found, message=f"{number!r}: {found.message}"))
    return named


def _at(body: object, index: int, name: str) -> object:
    try:
        return cast("Any", body)["callflow"][index]["params"][name]
    except (LookupError, TypeError):
        return None


def _with_numbers(body: dict[str, Any], *, destination: str | None, source: str | None) -> dict[str, Any]:
    """Return the body with `destination` as the called number. If the body has no source, add `source`."""
    listed: object = body.get("callflow")
    if not isinstance(listed, list) or not listed:
        return body
    actions: list[Any] = [*listed]
    first, others = actions[0], actions[1:]
    if not isinstance(first, dict) or cast("dict[str, Any]", first).get("action") != "makeCall":
        return body
    action = cast("dict[str, Any]", first)
    params: dict[str, Any] = dict(action.get("params") or {})
    if destination:
        params["destination"] = destination.strip()
    if source and not params.get("source"):
        params["source"] = source.strip()
    return {**body, "callflow": [{**action, "params": params}, *others]}
