"""The texts that a call speaks and the files that it plays, read from the body that is sent to 8x8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from voiceflow_worker.model.flows.actions import Action, read_actions

_TEXTS = {
    (Action.SAY, "text"): "Says",
    (Action.PLAY_FILE, "fileUrl"): "Plays",
    (Action.SAY_AND_CAPTURE, "promptMessage"): "Asks",
    (Action.SAY_AND_CAPTURE, "successMessage"): "Says after valid keys",
    (Action.SAY_AND_CAPTURE, "failureMessage"): "Says after invalid keys",
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
    return [said for action, params in read_actions(read) for said in _texts(action, params)]


def _texts(action: Action | None, params: Mapping[str, object]) -> list[Said]:
    voice = params.get("voiceProfile")
    return [
        Said(kind=kind, text=text, voice=voice if isinstance(voice, str) else None)
        for (of, name), kind in _TEXTS.items()
        if of == action and isinstance(text := params.get(name), str) and text
    ]
