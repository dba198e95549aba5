"""One spelling for one call: the canonical JSON that is stored, digested and sent."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from voiceflow_worker.model.values import is_object

if TYPE_CHECKING:
    from voiceflow_worker.model.callflow import CallFlow

_NUMBERS = frozenset({"source", "destination"})
_PER_POST = frozenset({"validUntil", "clientRequestId", "clientBatchId"})


def canonical_body(flow: CallFlow) -> str:
    """The flow's body with sorted keys, no spaces, and numbers of phones in E.164 with their plus.

    `validUntil`, `clientRequestId` and `clientBatchId` are left out: they belong to a POST, not to the call, and are
    added to the stored text on the wire.
    """
    body = {key: value for key, value in flow.to_body().items() if key not in _PER_POST}
    body["callflow"] = [_with_plain_numbers(entry) for entry in body.get("callflow") or ()]
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def body_digest(canonical: str) -> str:
    """The digest by which two bodies are told apart under one unique key."""
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _with_plain_numbers(entry: dict[str, object]) -> dict[str, object]:
    params = entry.get("params")
    if entry.get("action") != "makeCall" or not is_object(params):
        return entry
    return {**entry, "params": {key: _plain(value) if key in _NUMBERS else value for key, value in params.items()}}


def _plain(number: object) -> object:
    return f"+{number}" if isinstance(number, str) and number.isdigit() else number
