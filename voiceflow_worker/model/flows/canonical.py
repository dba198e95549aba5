"""The two texts of a call's body: the stored body, which is sent, and the canonical body, for comparison."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from voiceflow_worker.model.flows.values import describe, is_list, is_object

if TYPE_CHECKING:
    from voiceflow_worker.model.flows.callflow import CallFlow

_NUMBERS = frozenset({"source", "destination"})
PER_POST = frozenset({"validUntil", "clientRequestId"})
"""The keys that differ from POST to POST."""


def stored_body(flow: CallFlow) -> str:
    """The body that is stored and sent: compact JSON, every value as the user spelled it.

    `validUntil` and `clientRequestId` differ from POST to POST, and are added when a POST is sent.
    """
    return _text({key: value for key, value in flow.fields.items() if key not in PER_POST})


def canonical_body(flow: CallFlow) -> str:
    """The text by which two calls are compared. It is never sent.

    Phone numbers begin with a +. The `clientBatchId` is left out, because it does not change the call.
    """
    body = {key: value for key, value in flow.fields.items() if key not in PER_POST and key != "clientBatchId"}
    entries = body.get("callflow")
    body["callflow"] = [_with_plain_numbers(entry) for entry in entries] if is_list(entries) else []
    return _text(body)


def body_digest(canonical: str) -> str:
    """The digest that distinguishes two bodies with the same unique key."""
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain_object(value: object) -> dict[str, object]:
    if is_object(value):
        return dict(value)
    raise TypeError(f"{describe(value)} is not JSON")


_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain_object).encode


def _with_plain_numbers(entry: object) -> object:
    if not is_object(entry) or entry.get("action") != "makeCall" or not is_object(params := entry.get("params")):
        return entry
    return {**entry, "params": {key: _plain(value) if key in _NUMBERS else value for key, value in params.items()}}


def _plain(number: object) -> object:
    return f"+{number}" if isinstance(number, str) and number.isdigit() else number
