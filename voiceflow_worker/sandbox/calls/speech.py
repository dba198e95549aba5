"""The speech of actions: its text and its length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from voiceflow_worker.model.flows.actions import Action, read_action, wording

_CHARACTERS_PER_SECOND = 15.0
_SECONDS_OF_A_FILE = 12.0


def heard_of(actions: Sequence[object]) -> Iterator[str]:
    """Everything that a person hears who listens to actions without a question."""
    for entry in actions:
        action, params = read_action(entry)
        said = wording(action, params)
        if said is not None:
            yield from (said,) * repetitions(params)


def is_interactive(actions: Sequence[object]) -> bool:
    """Whether the course of the call depends on people: it asks a question, or calls a second party."""
    names = [read_action(entry)[0] for entry in actions]
    return Action.SAY_AND_CAPTURE in names or names.count(Action.MAKE_CALL) > 1


def repetitions(params: Mapping[str, object]) -> int:
    """How many times the action is played."""
    return max(1, int(number(params.get("repetition"), 1)))


def speech_seconds(said: str, params: Mapping[str, object]) -> float:
    """How long it takes to say this once, at the speed that the action asks for."""
    return len(said) / _CHARACTERS_PER_SECOND / (number(params.get("speed"), 1.0) or 1.0)


def seconds_of(action: Action | None, params: Mapping[str, object]) -> float:
    """How long the action plays once, the caller's keys not counted."""
    if action is Action.PLAY_FILE:
        return _SECONDS_OF_A_FILE
    return speech_seconds(wording(action, params) or "", params)


def number(value: object, otherwise: float) -> float:
    """The value as a number; `otherwise` if it is not one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def text(params: Mapping[str, object], key: str) -> str | None:
    """A parameter that is text; None if it is missing or not a text."""
    value = params.get(key)
    return value if isinstance(value, str) else None
