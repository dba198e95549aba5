"""The texts that a call speaks and the files that it plays, read from the body that is sent to 8x8."""

from __future__ import annotations

import json
from dataclasses import dataclass

from voiceflow_worker.model.flows.actions import heard_in

_KINDS = {
    "text": "Says",
    "fileUrl": "Plays",
    "promptMessage": "Asks",
    "successMessage": "Says after valid keys",
    "failureMessage": "Says after invalid keys",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One text of a call, with its purpose (`kind`) and the voice that speaks it."""

    kind: str
    text: str
    voice: str | None = None


def texts_of(body: str) -> list[Said]:
    """The texts of a body, in the order in which they are spoken; empty for a body that cannot be read."""
    try:
        read: object = json.loads(body)
    except ValueError:
        return []
    return [Said(kind=_KINDS[each.name], text=each.text, voice=each.voice) for each in heard_in(read)]
