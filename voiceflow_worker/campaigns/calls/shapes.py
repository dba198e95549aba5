"""Bodies of rows. Rows that differ only in the number called and in spoken texts are checked and encoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from json.encoder import encode_basestring
from typing import Any

from voiceflow_worker.campaigns.calls.completion import FIRST_CALL, complete
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.shape import MOST_SHAPES, BodyShape, EncodedBody, can_be_spoken, is_request_id, mark
from voiceflow_worker.model.flows.template_text import LEFT_OUT

_REQUEST_ID = "$.clientRequestId"


@dataclass(frozen=True, slots=True)
class _Known:
    """The parts that the rows of one shape share."""

    fields: Mapping[str, object]
    source: str
    findings: Sequence[Finding]
    shape: BodyShape


class Shapes:
    """The shapes of a template.

    A shape is everything in a body but the number called, the `clientRequestId` and the spoken texts. A spoken text
    breaks a rule only if it is blank or too long, or has control characters or `{{`. If no spoken text of a row breaks
    a rule, the findings of the row are the findings of the shape.
    """

    def __init__(self, template: FlowTemplate) -> None:
        self._template = template
        self._called = template.called
        self._shapes: dict[tuple[object, ...], _Known] = {}

    def encoded(
        self,
        values: Mapping[str, object],
        *,
        destination: str,
        source: str | None,
        voice_profile: str | None,
        source_wins: bool,
    ) -> EncodedBody | None:
        """The body of a row, if its shape is known to be valid; None if the whole row must be checked."""
        slots = [encode_basestring(destination)]
        key: list[object] = [source, source_wins, voice_profile]
        request_id: dict[str, str] = {}
        for text in self._template.texts:
            try:
                value = text.filled(values)
            except ValueError:
                return None
            if text is self._called:
                continue  # `destination` replaces it
            if text.path == _REQUEST_ID:
                if not is_request_id(value):
                    return None
                request_id = {"clientRequestId": value}
                continue  # no encoded form has it
            if text.is_spoken and value is not LEFT_OUT:
                if not can_be_spoken(value):
                    return None
                slots.append(encode_basestring(value))
                key.append(None)
            else:
                key.append((type(value), str(value)))  # 0.0 and -0.0 are equal, and written differently
        known = self._shapes.get(tuple(key))
        if known is None:
            if len(self._shapes) == MOST_SHAPES:
                return None
            known = self._made(
                values, destination=destination, source=source, voice_profile=voice_profile, source_wins=source_wins
            )
            if known is None:
                return None
            self._shapes[tuple(key)] = known
        stored, canonical = known.shape.filled(slots)
        fields = {**known.fields, **request_id} if request_id else known.fields
        return EncodedBody(fields, known.source, destination, stored, canonical, known.findings)

    def _made(self, values: Mapping[str, object], *, destination: str, **given: Any) -> _Known | None:
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
        places = count(1)
        marked = self._template.fill(values, spoken=lambda: mark(next(places))).body
        complete(marked, destination=mark(0), **given)
        return _Known(body, source, findings, BodyShape.of(marked))


def column_of(path: str | None, template: FlowTemplate | None, reserved: Mapping[str, str]) -> str | None:
    """The column that causes a finding at this path of the body; None if no column does, or several do."""
    if path is None:
        return None
    varying = template.column_of(path) if template is not None else None
    if varying is not None:
        return varying
    last = path.rpartition(".")[2]
    if path in {f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}:
        return last if template is not None or last in reserved else None
    return "voice_profile" if last == "voiceProfile" and template is not None else None
