"""The two texts of a call's body: the stored body, which is sent, and the canonical body, for comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import orjson

from voiceflow_worker.model.flows.rules import read_valid_until
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.numbers.phone import usual_form

if TYPE_CHECKING:
    from voiceflow_worker.model.flows.callflow import CallFlow


_NUMBERS = frozenset({"source", "destination"})


@overload
def copy_of(value: Mapping[str, object]) -> dict[str, Any]: ...
@overload
def copy_of(value: object) -> Any: ...
def copy_of(value: object) -> Any:
    """A deep copy of a JSON value, as plain dicts and lists; 10 times faster than copy.deepcopy."""
    if is_object(value):
        return {key: copy_of(item) for key, item in value.items()}
    if is_list(value):
        return [copy_of(item) for item in value]
    return value


def meaning_of(value: object, *, key: str | None = None) -> Hashable:
    """A value by which bodies are compared: two bodies have equal values if, and only if, they mean the same.

    These pairs mean the same: a null and an absent value, empty and absent `params`, 1 and 1.0, +65… and 65…, and two
    spellings of one `validUntil`.
    """
    if is_object(value):
        return frozenset(
            (name, meaning_of(item, key=name))
            for name, item in value.items()
            if item is not None and not (name == "params" and item == {})
        )
    if is_list(value):
        return tuple(meaning_of(item) for item in value)
    if isinstance(value, bool):
        return ("boolean", value)  # Python's True equals 1; JSON's does not
    if isinstance(value, str):
        if key in _NUMBERS and phone.is_e164(value):
            return phone.normalise(value)
        if key == "validUntil":
            return read_valid_until(value) or value
    return value if value is None or isinstance(value, int | float) else repr(value)


_PER_POST = frozenset({"validUntil", "clientRequestId"})


class EncodedBody(NamedTuple):
    """A valid body as texts, with its two numbers. `destination` is in the usual form of its numbering plan.

    `stored` is the body that is stored and sent: compact JSON, every value as the user spelled it. `canonical` is the
    text by which two calls are compared. It is never sent: its phone numbers begin with a +, and the `clientBatchId`,
    which does not change the call, is left out. Neither has a `validUntil` or a `clientRequestId`: these differ from
    POST to POST, and are added when a POST is sent.
    """

    source: str
    destination: str
    stored: str
    canonical: str

    @classmethod
    def of(cls, flow: CallFlow) -> Self:
        """Encode a valid flow that calls a number."""
        body = {key: value for key, value in flow.fields.items() if key not in _PER_POST}
        canonical = {key: value for key, value in body.items() if key != "clientBatchId"}
        calls: list[Mapping[str, object]] = []
        if is_list(entries := body.get("callflow")):
            canonical["callflow"] = [_with_plain_numbers(entry, calls) for entry in entries]
        stored = _text(body)
        return cls(
            str(calls[0]["source"]),
            usual_form(str(calls[0]["destination"])),
            stored,
            stored if canonical == body else _text(canonical),  # most bodies are encoded once
        )


def body_digest(canonical: str) -> str:
    """The digest that distinguishes two bodies with the same unique key."""
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain_object(value: object) -> dict[str, object]:
    if is_object(value):
        return dict(value)
    raise TypeError(f"{describe(value)} is not JSON")


def _text(body: Mapping[str, object]) -> str:
    return orjson.dumps(body, default=_plain_object, option=orjson.OPT_SORT_KEYS).decode()


def _with_plain_numbers(entry: object, calls: list[Mapping[str, object]]) -> object:
    """The action as it is compared. The parameters of a call are also added to `calls`."""
    if not is_object(entry) or entry.get("action") != "makeCall" or not is_object(params := entry.get("params")):
        return entry
    plain = {key: _plain(value) if key in _NUMBERS else value for key, value in params.items()}
    calls.append(plain)
    return {**entry, "params": plain}


def _plain(number: object) -> object:
    return f"+{number}" if isinstance(number, str) and number.isdigit() else number
