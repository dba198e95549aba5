"""Bodies that differ only in the number called and in spoken texts: checked and encoded once for all such rows."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json.encoder import encode_basestring
from typing import Any, NamedTuple, Self, TypeGuard

from voiceflow_worker.campaigns.calls.completion import FIRST_CALL, complete
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.template_text import LEFT_OUT
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_TEXT_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.canonical import canonical_body, stored_body
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import unspeakable
from voiceflow_worker.model.numbers.phone import usual_form

MOST_SHAPES = 256
"""The most shapes of one file. Rows of further shapes are validated one by one."""

_MARK = secrets.token_hex(16)
_SLOT = re.compile(rf'"{_MARK}(\d+)"')
_DESTINATION = f"{_MARK}0"


class EncodedBody(NamedTuple):
    """The body of a row, encoded; `fields` are its top-level keys.

    `destination` is in the usual form of its plan. `findings` have no file and row yet.
    """

    fields: Mapping[str, object]
    source: str
    destination: str
    stored: str
    canonical: str
    findings: Sequence[Finding] = ()

    @classmethod
    def of(cls, body: Mapping[str, object]) -> Self:
        """A valid body, encoded."""
        flow = CallFlow(body)
        return cls(body, flow.source or "", usual_form(flow.destination or ""), stored_body(flow), canonical_body(flow))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What bodies of one shape have in common; every second item of the encoded forms is the number of a slot."""

    fields: Mapping[str, object]
    source: str
    findings: Sequence[Finding]
    stored: Sequence[str]
    canonical: Sequence[str]


class Shapes:
    """The shapes of a template.

    A shape is everything but the number called and the spoken texts. Of spoken texts only these rules depend on the
    text: it is not empty, not too long, and has no control characters and no curly brackets. So a row whose texts keep
    them has the findings of its shape.
    """

    def __init__(self, template: FlowTemplate) -> None:
        self._template = template
        self._shapes: dict[tuple[object, ...], _Shape] = {}

    def encoded(
        self,
        values: Mapping[str, object],
        *,
        destination: str,
        source: str | None,
        voice_profile: str | None,
        source_wins: bool,
    ) -> EncodedBody | None:
        """The body of a row, if it has the shape of a valid one; None if it has to be validated as a whole."""
        slots = [encode_basestring(destination)]
        key: list[object] = [source, source_wins, voice_profile]
        for text in self._template.texts:
            try:
                value = text.filled(values)
            except ValueError:
                return None
            if text.is_spoken and value is not LEFT_OUT:
                if not _can_be_spoken(value):
                    return None
                slots.append(encode_basestring(value))
                key.append(None)
            else:
                key.append((type(value), str(value)))  # 0.0 and -0.0 are equal, and written differently
        shape = self._shapes.get(tuple(key))
        if shape is None:
            if len(self._shapes) == MOST_SHAPES:
                return None
            shape = self._made(
                values, destination=destination, source=source, voice_profile=voice_profile, source_wins=source_wins
            )
            if shape is None:
                return None
            self._shapes[tuple(key)] = shape
        stored = _joined(shape.stored, slots)
        canonical = stored if shape.canonical is shape.stored else _joined(shape.canonical, slots)
        return EncodedBody(shape.fields, shape.source, destination, stored, canonical, shape.findings)

    def _made(self, values: Mapping[str, object], *, destination: str, **given: Any) -> _Shape | None:
        body = self._template.fill(values).body
        complete(body, destination=destination, **given)
        findings = [
            replace(found, column=column_of(found.path, self._template, {}))
            for found in find_problems(body)
            if found.path != f"{FIRST_CALL}.destination"  # checked when it was read
        ]
        source = CallFlow(body).source
        if source is None or any(found.is_error for found in findings):
            return None
        slots = iter(range(1, len(self._template.texts) + 1))
        marked = self._template.fill(values, spoken=lambda: f"{_MARK}{next(slots)}").body
        complete(marked, destination=_DESTINATION, **given)
        stored = _SLOT.split(stored_body(CallFlow(marked)))
        canonical = _SLOT.split(canonical_body(CallFlow(marked)))
        return _Shape(body, source, findings, stored, stored if canonical == stored else canonical)


def column_of(path: str | None, template: FlowTemplate | None, reserved: Mapping[str, str]) -> str | None:
    """The column that a finding at this path of the body is about; None if it is about none, or several."""
    if path is None:
        return None
    varying = template.column_of(path) if template is not None else None
    if varying is not None:
        return varying
    last = path.rpartition(".")[2]
    if path in {f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}:
        return last if template is not None or last in reserved else None
    return "voice_profile" if last == "voiceProfile" and template is not None else None


def _can_be_spoken(text: object) -> TypeGuard[str]:
    return (
        isinstance(text, str)
        and len(text) <= MAX_TEXT_CHARACTERS
        and "{{" not in text
        and not text.isspace()
        and text != ""
        and unspeakable(text) is None
    )


def _joined(parts: Sequence[str], slots: Sequence[str]) -> str:
    joined = list(parts)
    joined[1::2] = [slots[int(slot)] for slot in parts[1::2]]
    return "".join(joined)
