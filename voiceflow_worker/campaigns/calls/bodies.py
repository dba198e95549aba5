"""The bodies of rows' calls. What rows have in common is checked and encoded once, and only their texts differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.values import complete
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_TEXT_CHARACTERS, heard_in
from voiceflow_worker.model.flows.callflow import CallFlow, EncodedBody
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import unspeakable
from voiceflow_worker.model.numbers.phone import canonical_number


class CallBody:
    """A body of a call, and what is wrong with it. `voices` are in the order of its actions."""

    is_form = False
    """Whether it has marks in the places of texts and of the number to call, as the bodies of many rows have."""

    def __init__(self, fields: Mapping[str, object], problems: Sequence[Finding] | None = None) -> None:
        spoken = list(heard_in(fields))
        self.fields: Mapping[str, object] = fields
        self.problems: Sequence[Finding] = find_problems(fields) if problems is None else problems
        self.voices: Sequence[str] = [each for each in dict.fromkeys(one.voice for one in spoken) if each is not None]
        self._heard = [each.text for each in spoken]

    def heard(self, texts: Sequence[object]) -> Sequence[str]:
        """What is heard of it, in the order of its actions; of a form with these texts."""
        _ = texts
        return self._heard

    def encoded(self, texts: Sequence[object], destination: str) -> tuple[str, str, str, str]:
        """What `EncodedBody` has of it; of a form, with these texts and this number. It must have no errors."""
        _ = texts, destination
        return EncodedBody.of(CallFlow(self.fields))


_MARK = "\ue000"
_MARKED = re.compile(f'"{_MARK}(\\d+){_MARK}"')
_MOST_FORMS = 200


class _Form(CallBody):
    """A `marked` body. Bodies that differ in their texts and numbers alone have it in common, and its `problems`."""

    is_form = True

    def __init__(self, marked: Mapping[str, object], problems: Sequence[Finding], *, marks: int) -> None:
        super().__init__(marked, problems)
        self._places = list(map(_place, self._heard))
        self._stored: list[str] = []
        self._canonical: list[str] = []
        if not any(found.is_error for found in problems):
            encoded = EncodedBody.of(CallFlow(marked))
            self._source = encoded.source
            self._stored = _MARKED.split(encoded.stored)
            self._canonical = _MARKED.split(encoded.canonical)
        self.is_sound: bool = len(self._stored) == len(self._canonical) == 2 * marks + 1
        """Whether each mark is there once, and no such body has an error."""

    def heard(self, texts: Sequence[object]) -> Sequence[str]:
        return [each if isinstance(each, str) else str(texts[each]) for each in self._places]

    def encoded(self, texts: Sequence[object], destination: str) -> tuple[str, str, str, str]:
        written = [*texts, destination]
        stored = _joined(self._stored, written)
        canonical = stored if self._canonical == self._stored else _joined(self._canonical, written)
        return self._source, canonical_number(destination), stored, canonical


def _mark(place: int) -> str:
    return f"{_MARK}{place}{_MARK}"


def _place(text: str) -> str | int:
    """The place that a text marks, else the text."""
    return int(text[1:-1]) if text.startswith(_MARK) and text.endswith(_MARK) else text


def _joined(pieces: Sequence[str], written: Sequence[object]) -> str:
    """The pieces of a JSON text, of which every second one is a place, with the texts that belong there."""
    parts = list(pieces)
    parts[1::2] = [orjson.dumps(written[int(place)]).decode() for place in pieces[1::2]]
    return "".join(parts)


class Bodies:
    """Makes the bodies of the rows of a campaign."""

    def __init__(self) -> None:
        self._forms: dict[tuple[object, ...], _Form] = {}

    def made(
        self,
        template: FlowTemplate,
        values: Sequence[object],
        *,
        destination: str | None,
        source: str | None,
        voice_profile: str | None,
        source_wins: bool,
    ) -> CallBody:
        """The body of a template that was filled with these values, completed with the numbers and the voice."""
        is_open = [spoken and _is_plain(value) for spoken, value in zip(template.speaks, values, strict=True)]
        own: Sequence[object] = ()
        if not all(is_open):
            own = [None if each else (type(value), value) for each, value in zip(is_open, values, strict=True)]
        key = (template, source, voice_profile, source_wins, *own)
        form = self._forms.get(key)
        if form is not None and form.is_sound and destination is not None:
            return form

        def completed(texts: Sequence[object], number: str | None) -> dict[str, Any]:
            body = template.body_of(texts)
            complete(body, destination=number, source=source, voice_profile=voice_profile, source_wins=source_wins)
            return body

        if form is None and len(self._forms) < _MOST_FORMS:
            marks = [_mark(n) if each else values[n] for n, each in enumerate(is_open)]
            problems = find_problems(completed(marks, PLACEHOLDER))
            form = _Form(completed(marks, _mark(len(values))), problems, marks=sum(is_open) + 1)
            self._forms[key] = form
        if form is None or not form.is_sound or destination is None:
            return CallBody(completed(values, destination))
        return form


def _is_plain(value: object) -> bool:
    """Whether a text can be spoken, whatever it is, so that nothing is wrong with it."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_CHARACTERS or value.isspace():
        return False
    return "{{" not in value and unspeakable(value) is None
