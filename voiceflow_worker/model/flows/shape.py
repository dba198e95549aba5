"""Shapes of bodies. In a body of a known shape, only the called numbers and spoken texts are checked and encoded."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, NamedTuple, Self, TypeGuard, cast

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, PARAMS, ParamKind
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.canonical import PER_POST, canonical_body, stored_body
from voiceflow_worker.model.flows.validity import read_valid_until
from voiceflow_worker.model.flows.values import unspeakable
from voiceflow_worker.model.numbers.phone import is_e164, usual_form

MOST_SHAPES = 256
"""The most shapes that are remembered."""

_MARK = f"x{secrets.token_hex(16)}"
_SLOT = re.compile(rf'"{_MARK}(\d+)"')
_CALLED = "destination"
_VARYING: Mapping[object, frozenset[str]] = {
    action.value: frozenset(name for name, param in params.items() if param.kind is ParamKind.SPEECH or name == _CALLED)
    for action, params in PARAMS.items()
}
_NONE: frozenset[str] = frozenset()
_VALUE, _ENTRY, _END = object(), object(), object()
"""Marks in the key of a shape: for a value that varies, the beginning of an action, and the end of the actions."""


class EncodedBody(NamedTuple):
    """A valid body: as a mapping in `fields`, and as the texts `stored` and `canonical`.

    `destination` is in the usual form of its numbering plan. `findings` do not name a file and a row yet.
    """

    fields: Mapping[str, object]
    source: str
    destination: str
    stored: str
    canonical: str
    findings: Sequence[Finding] = ()

    @classmethod
    def of(cls, body: Mapping[str, object]) -> Self:
        """Encode a valid body."""
        flow = CallFlow(body)
        return cls(body, flow.source or "", usual_form(flow.destination or ""), stored_body(flow), canonical_body(flow))


@dataclass(frozen=True, slots=True)
class BodyShape:
    """The encoded text that all bodies of one shape share, with places for the encoded values of one body."""

    stored: _Form
    canonical: _Form

    @classmethod
    def of(cls, body: Mapping[str, object]) -> Self:
        """The shape of a body in which `mark(n)` has replaced the n-th varying value, counted from 0."""
        flow = CallFlow(body)
        stored, canonical = stored_body(flow), canonical_body(flow)
        form = _Form.of(stored)
        return cls(form, form if canonical == stored else _Form.of(canonical))

    def filled(self, values: Sequence[str]) -> tuple[str, str]:
        """The stored and the canonical body with these encoded values."""
        stored = self.stored.filled(values)
        return stored, stored if self.canonical is self.stored else self.canonical.filled(values)


class _Form(NamedTuple):
    """The encoded form of a shape: a format text, and the `places` of the values that fill it, in order."""

    text: str
    places: Sequence[int]

    @classmethod
    def of(cls, encoded: str) -> Self:
        parts = _SLOT.split(encoded)
        text = "%s".join(part.replace("%", "%%") for part in parts[::2])
        return cls(text, tuple(map(int, parts[1::2])))

    def filled(self, values: Sequence[str]) -> str:
        return self.text % tuple([values[place] for place in self.places])


def mark(place: int) -> str:
    """The text that stands for a value in the body from which a shape is made."""
    return f"{_MARK}{place}"


def can_be_spoken(text: object) -> TypeGuard[str]:
    """Whether a spoken text breaks no rule, so that there is no finding about it."""
    return (
        isinstance(text, str)
        and len(text) <= MAX_TEXT_CHARACTERS
        and "{{" not in text
        and not text.isspace()
        and text != ""
        and unspeakable(text) is None
    )


def is_request_id(value: object) -> TypeGuard[str]:
    """Whether a value follows every rule for a `clientRequestId`."""
    return can_be_spoken(value) and len(value) <= MAX_ID_CHARACTERS


class FlowEncoder:
    """Checks and encodes call flows. From the second call flow of a shape on, it remembers the encoded shape."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[object, ...], tuple[str, BodyShape] | None] = {}

    def encoded(self, flow: CallFlow) -> EncodedBody:
        """Check and encode a flow.

        Raises CallFlowError with every finding, and InvalidInputError for an answer to a call action event.
        """
        found = None if flow.is_reply else _taken_apart(flow.fields)
        if found is None:
            return _whole(flow)
        key, values, called = found
        known = self._shapes.get(key)
        if known is None:
            encoded = _whole(flow)
            if key in self._shapes:
                self._shapes[key] = encoded.source, BodyShape.of(_marked(flow))
            else:
                # The shape of the first such flow is only noted, because there may be no second one.
                if len(self._shapes) >= MOST_SHAPES:
                    self._shapes.clear()
                self._shapes[key] = None
            return encoded
        source, shape = known
        encoded_values = [encode_basestring(value) for value in values]
        stored, canonical = shape.filled(encoded_values)
        if bare := [place for place in called if values[place][0] != "+"]:
            for place in bare:
                values[place] = f"+{values[place]}"
                encoded_values[place] = f'"{values[place]}"'
            canonical = shape.canonical.filled(encoded_values)
        return EncodedBody(flow.fields, source, usual_form(values[0]), stored, canonical)


def _whole(flow: CallFlow) -> EncodedBody:
    if flow.validated().destination is None:
        raise InvalidInputError("a call needs a source and a destination")
    return EncodedBody.of(flow.fields)


def _taken_apart(body: Mapping[str, object]) -> tuple[tuple[object, ...], list[str], list[int]] | None:
    """The parts of a body: the key of its shape, the values that vary, and which of these values are called numbers.

    None for a body that must be checked and encoded as a whole: it may be wrong, or its key may be equal to the key of
    a body that is encoded differently.
    """
    key: list[object] = []
    values: list[str] = []
    called: list[int] = []
    for name, value in body.items():
        if name in PER_POST and value is not None:
            if not _is_right(name, value):
                return None
        elif name != "callflow":
            if value is not None and type(value) is not str:
                return None
            key += (name, value)
        elif type(value) is list:
            entries = cast("list[object]", value)
            for entry in entries:
                if type(entry) is not dict or not _take(cast("dict[str, Any]", entry), key, values, called):
                    return None
            key.append(_END)
        else:
            return None
    return (tuple(key), values, called) if called and called[0] == 0 else None


def _take(entry: dict[str, Any], key: list[object], values: list[str], called: list[int]) -> bool:
    """Add an action to the key and the values; False if the body must be checked as a whole."""
    action, params = entry.get("action"), entry.get("params")
    if type(action) is not str or len(entry) > 2 or (len(entry) == 2) is (params is None):
        return False
    key += (_ENTRY, action, params is None)
    if params is None:
        return True
    if type(params) is not dict:
        return False
    varying = _VARYING.get(action, _NONE)
    given = cast("dict[str, Any]", params)
    for name, value in given.items():
        kind = cast("type[object]", type(value))
        if name in varying:
            if kind is not str:
                return False
            if name != _CALLED:
                if not can_be_spoken(value):
                    return False
            elif is_e164(value):
                called.append(len(values))
            else:
                return False
            values.append(value)
            key += (name, _VALUE)
        elif kind is str or value is None:
            key += (name, value)
        elif kind is int or kind is float or kind is bool:
            key += (name, kind, repr(value))  # 1, 1.0 and true are equal, and written differently
        else:
            return False
    return True


def _is_right(name: str, value: object) -> bool:
    if name == "validUntil":
        return read_valid_until(value) is not None
    return is_request_id(value)


def _marked(flow: CallFlow) -> dict[str, Any]:
    """The body with a mark for each value that varies, in the order of `_taken_apart`."""
    body = flow.to_body()
    place = 0
    for entry in body["callflow"]:
        params: dict[str, Any] = entry.get("params") or {}
        for name in params:
            if name in _VARYING.get(entry["action"], _NONE):
                params[name] = mark(place)
                place += 1
    return body
