"""The five actions of a call flow and their parameters, as data (8x8 callflow actions guide)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import NamedTuple, cast

MAX_TEXT_CHARACTERS = 3000
MAX_ID_CHARACTERS = 50
"""The longest `clientRequestId` or `clientBatchId`."""
MAX_CALLS = 2
MAX_DIGITS = 25


class Action(StrEnum):
    """An action of a call, spelled as in the `action` key."""

    MAKE_CALL = "makeCall"
    SAY = "say"
    PLAY_FILE = "playFile"
    SAY_AND_CAPTURE = "sayAndCapture"
    HANGUP = "hangup"


_BY_NAME = {action.value: action for action in Action}
_HEARD: Mapping[Action | None, tuple[str, ...]] = {
    Action.SAY: ("text",),
    Action.PLAY_FILE: ("fileUrl",),
    Action.SAY_AND_CAPTURE: ("promptMessage", "successMessage", "failureMessage"),
}
"""The parameters that a person hears, the one of every call first."""


def read_action(entry: object) -> tuple[Action | None, Mapping[str, object]]:
    """Return the kind and the parameters of an action in a decoded body; None for an unknown kind."""
    given = _decoded(entry)
    name = given.get("action")
    return _BY_NAME.get(name) if isinstance(name, str) else None, _decoded(given.get("params"))


def read_actions(body: object) -> Iterable[tuple[Action | None, Mapping[str, object]]]:
    """Return the kind and the parameters of each action in a decoded body."""
    flow = _decoded(body).get("callflow")
    return map(read_action, cast("Sequence[object]", flow) if isinstance(flow, list | tuple) else ())


def _decoded(value: object) -> Mapping[str, object]:
    """Return the decoded JSON object; an empty one for any other value."""
    # The keys are not checked: this runs several times for every call, and keys of JSON are always strings.
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def wording(action: Action | None, params: Mapping[str, object]) -> str | None:
    """Return the text that an action speaks, or the address of the file that it plays; None for other actions."""
    heard = params.get(_HEARD.get(action, ("",))[0])
    return heard if isinstance(heard, str) else None


class Heard(NamedTuple):
    """A text that a call speaks, or the address of a file that it plays: a parameter `name` of an action."""

    action: Action
    name: str
    text: str
    voice: str | None
    times: int
    speed: float = 1.0

    @property
    def seconds(self) -> float:
        """Estimated time for which it is heard, with its repetitions; 0 for a file."""
        return 0.0 if self.action is Action.PLAY_FILE else speech_seconds(self.text) * self.times / self.speed


def heard_in(body: object) -> Iterator[Heard]:
    """Return what a call with this decoded body may speak or play, in order, also after key presses."""
    for action, params in read_actions(body):
        if action is None:
            continue
        voice, times, speed = params.get("voiceProfile"), params.get("repetition"), params.get("speed")
        for name in _HEARD.get(action, ()):
            if isinstance(text := params.get(name), str) and text:
                often = times if isinstance(times, int) and times > 0 else 1
                pace = float(speed) if isinstance(speed, int | float) and speed > 0 else 1.0
                yield Heard(action, name, text, voice if isinstance(voice, str) else None, often, pace)


CHARACTERS_A_SECOND = 15.0
"""The pace of a voice that reads an alphabet: 150 words a minute."""
SYLLABLES_A_SECOND = 4.5
"""The pace of a voice that reads Chinese, Japanese or Korean. Each character is a syllable or a word."""


def speech_seconds(text: str) -> float:
    """Return the seconds that a voice takes to speak a text, estimated from its length."""
    if text.isascii():
        return len(text) / CHARACTERS_A_SECOND
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (len(text) - wide) / CHARACTERS_A_SECOND + wide / SYLLABLES_A_SECOND


class ParamKind(Enum):
    """The kind of a parameter's value."""

    PHONE = auto()
    """A telephone number in E.164 form, with or without the leading +."""
    SPEECH = auto()
    """Text that is spoken."""
    NAME = auto()
    """A short string, such as the name of a voice."""
    URL = auto()
    """An http or https address."""
    INTEGER = auto()
    NUMBER = auto()
    BOOLEAN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of an action. `purpose` completes the remedies "add …" and "give …"."""

    kind: ParamKind
    purpose: str
    required: bool
