"""The texts that a call speaks, and the time that they take."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import orjson

from voiceflow_worker.model.flows.actions import PARAMS, ParamKind, read_actions

CHARACTERS_A_SECOND = 15.0
"""The pace of a voice that reads an alphabet: 150 words a minute."""
SYLLABLES_A_SECOND = 4.5
"""The pace of a voice that reads Chinese, Japanese or Korean. Each character is a syllable or a word."""

_ASKED = {"successMessage", "failureMessage"}
"""Parameters whose texts are spoken only after key presses."""
_TEXTS = {
    action: [name for name, param in params.items() if param.kind is ParamKind.SPEECH and name not in _ASKED]
    for action, params in PARAMS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """All texts that a call speaks to the person who answers, in order, and the voice of the first text."""

    text: str = ""
    voice_profile: str | None = None
    seconds: float = 0.0


def speech_of(body: str) -> Speech:
    """The speech of a stored body. Audio files are left out."""
    texts: list[str] = []
    voice: str | None = None
    seconds = 0.0
    for action, params in read_actions(orjson.loads(body)):
        names = [] if action is None else _TEXTS[action]
        times = params.get("repetition")
        for name in names:
            if isinstance(text := params.get(name), str):
                texts.append(text)
                seconds += seconds_of(text) * (times if isinstance(times, int) and times > 0 else 1)
        if names and voice is None and isinstance(named := params.get("voiceProfile"), str):
            voice = named
    return Speech(text=" ".join(texts), voice_profile=voice, seconds=seconds)


def seconds_of(text: str) -> float:
    """The seconds that a voice takes to speak a text, estimated from its length."""
    if text.isascii():
        return len(text) / CHARACTERS_A_SECOND
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (len(text) - wide) / CHARACTERS_A_SECOND + wide / SYLLABLES_A_SECOND
