"""The texts that the actions of a call speak, and the time that this takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from voiceflow_worker.model.flows.actions import Action, read_action, wording

_CHARACTERS_PER_SECOND = 15.0
_SECONDS_OF_A_FILE = 12.0


def heard_of(actions: Sequence[object]) -> Iterator[str]:
    """Yield everything that a person hears in actions without questions."""
    for entry in actions:
        action, params = read_action(entry)
        said = wording(action, params)
        if said is not None:
            yield from (said,) * repetitions(params)


def is_interactive(actions: Sequence[object]) -> bool:
    """Return whether the course of the call depends on people: it asks a question, or calls a second party."""
    names = [read_action(entry)[0] for entry in actions]
    return Action.SAY_AND_CAPTURE in names or names.count(Action.MAKE_CALL) > 1


def repetitions(params: Mapping[str, object]) -> int:
    """Return how many times the action is played."""
    return max(1, int(number(params.get("repetition"), 1)))


def speech_seconds(said: str, params: Mapping[str, object]) -> float:
    """Return how long it takes to say this text once, at the speed that the action sets."""
    return len(said) / _CHARACTERS_PER_SECOND / (number(params.get("speed"), 1.0) or 1.0)


def seconds_of(action: Action | None, params: Mapping[str, object]) -> float:
    """Return the seconds for which the action speaks or plays once, without the wait for keys."""
    if action is Action.PLAY_FILE:
        return _SECONDS_OF_A_FILE
    return speech_seconds(wording(action, params) or "", params)


def number(value: object, otherwise: float) -> float:
    """Return the value as a number, or `otherwise` if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def text(params: Mapping[str, object], key: str) -> str | None:
    """Return a text parameter, or None if it is missing or not a text."""
    value = params.get(key)
    return value if isinstance(value, str) else None
