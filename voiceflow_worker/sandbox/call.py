"""One call that was accepted, as the sandbox knows it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from voiceflow_worker.model.actions import Action
from voiceflow_worker.model.validity import read_valid_until
from voiceflow_worker.model.values import is_list, is_object
from voiceflow_worker.sandbox.ledger import LedgerEntry
from voiceflow_worker.sandbox.outcomes import CallPlan
from voiceflow_worker.sandbox.script import Script


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a body asks for, read without judging it: what is missing or of the wrong kind is None or empty."""

    source: str | None = None
    destination: str | None = None
    actions: Sequence[object] = ()
    valid_until_text: str | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None

    @property
    def valid_until(self) -> datetime | None:
        """When the call must not be placed any more."""
        return read_valid_until(self.valid_until_text)


@dataclass(slots=True, kw_only=True)
class Call:
    """An accepted call: `accepted_at` in seconds since the epoch, `plan` what becomes of it.

    `dialled_at` is by the sandbox's own clock; None before, and for a call whose validity passed first.
    """

    request: CallRequest
    sub_account: str
    accepted_at: float
    plan: CallPlan
    entry: LedgerEntry
    script: Script | None = None
    dialled_at: datetime | None = None
    session_id: str = field(default_factory=_new_id)
    call_flow_request_id: str = field(default_factory=_new_id)


def read_request(body: object) -> CallRequest:
    """What a decoded body asks for. Never raises."""
    if not is_object(body):
        return CallRequest()
    flow = body.get("callflow")
    actions = flow if is_list(flow) else ()
    params = _first_call(actions)
    return CallRequest(
        source=_text(params, "source"),
        destination=_text(params, "destination"),
        actions=actions,
        valid_until_text=_text(body, "validUntil"),
        client_request_id=_text(body, "clientRequestId"),
        client_batch_id=_text(body, "clientBatchId"),
    )


def _first_call(actions: Sequence[object]) -> Mapping[str, object]:
    for entry in actions:
        if is_object(entry) and entry.get("action") == Action.MAKE_CALL:
            params = entry.get("params")
            return params if is_object(params) else {}
    return {}


def _text(given: Mapping[str, object], key: str) -> str | None:
    value = given.get(key)
    return value if isinstance(value, str) else None
