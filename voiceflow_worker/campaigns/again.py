"""What a campaign calls again: people who have a call already, or calls that ended before a phone rang."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.jobs.job import ENDED_UNSENT, JobState
from voiceflow_worker.model.text.wording import count_of

CallAgain = bool | frozenset[JobState]
"""True: people who have a call already are called again. States: calls in these states, which rang nobody, are made
again as their rows now say."""
_WORDS = {JobState.CANCELLED: "cancelled", JobState.EXPIRED: "expired", JobState.FAILED: "failed"}
_YES, _NO = frozenset({"yes", "true"}), frozenset({"no", "false"})


def read_again(value: object) -> CallAgain:
    """The option `again`: yes or no, or the states of the calls to make again, as a text or a list.

    Raises ValueError.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        words = [word.strip().lower() for word in value.split(",")]
        if len(words) == 1 and words[0] in _YES | _NO:
            return words[0] in _YES
        if not value.strip():
            raise ValueError(f"it is empty: {_HOW}, or leave it out")
    elif isinstance(value, list | tuple | set | frozenset):
        words = [str(word).strip().lower() for word in cast("Iterable[object]", value)]
    else:
        raise InvalidInputError(f"{str(value)[:40]!r} is {type(value).__name__}; {_HOW}")
    states = {state for state, word in _WORDS.items() if word in words}
    if not states or len({*words}) > len(states):
        raise ValueError(f"{','.join(words)[:40]!r} is neither yes nor no, nor the name of a state; {_HOW}")
    return frozenset(states)


_HOW = f"give yes, or the states of the calls to make again, such as {','.join(_WORDS.values())}"


def states_of(again: CallAgain) -> frozenset[JobState]:
    """The states of the calls that are made again."""
    return frozenset() if isinstance(again, bool) else again


def ended_finding(ended: Mapping[JobState, int], *, file: str | None) -> Finding | None:
    """A warning about rows whose calls have ended before they were sent, so that nobody is called for them."""
    counts = [f"{ended[state]} {word}" for state, word in _WORDS.items() if ended.get(state)]
    if not counts:
        return None
    rows = count_of(sum(ended[state] for state in ENDED_UNSENT if state in ended), "row")
    # A cancelled batch takes no calls, not even these.
    whole = (
        f"If the batch was cancelled as a whole, {Remedy.OTHER_BATCH}; else " if ended.get(JobState.CANCELLED) else ""
    )
    told = f"{rows} have a call that has ended, and nobody is called for them: {', '.join(counts)}"
    what = f"{whole}{Remedy.CALL_ENDED}"
    message = f"{told}. {what[0].upper()}{what[1:]}"
    return Finding(file=file, severity=Severity.WARNING, message=message, remedy=Remedy.CALL_ENDED)
