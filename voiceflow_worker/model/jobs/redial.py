"""Redial policies as people write them: `busy,no_answer`, a limit and a delay."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus

_S = SessionStatus
_GROUPS = {"UNREACHED": frozenset({_S.NO_ANSWER, _S.BUSY, _S.CANCELED}), "FAILED": frozenset({_S.FAILED, _S.ERROR})}
_ALONE = {status.value: status for status in (_S.NO_ANSWER, _S.BUSY, _S.CANCELED, _S.ERROR)}
_ALONE["CANCELLED"] = _S.CANCELED
_WORDS = "busy, no_answer, canceled, unreached (these three together), error, or failed (error included)"


def read_redial_on(text: str | Iterable[str]) -> frozenset[SessionStatus]:
    """The statuses that a text such as `busy,no-answer` names.

    `unreached` is NO_ANSWER, BUSY and CANCELED together, and `failed` is FAILED and ERROR. Raises InvalidInputError for
    an unknown word, for an opt-out, and for COMPLETED (the person was reached).
    """
    words = text.split(",") if isinstance(text, str) else list(text)
    found: set[SessionStatus] = set()
    for word in words:
        name = _name(word)
        if name in _GROUPS:
            found |= _GROUPS[name]
        elif name in _ALONE:
            found.add(_ALONE[name])
        elif name in OPT_OUTS:
            raise InvalidInputError(f"{word.strip()} cannot be redialled: the person asked not to be called")
        elif name == SessionStatus.COMPLETED:
            raise InvalidInputError("COMPLETED cannot be redialled: the person was reached")
        else:
            raise InvalidInputError(f"{word.strip()[:40]!r} is not an outcome that can be redialled; give {_WORDS}")
    return frozenset(found)


def read_outcomes(words: Iterable[str], *, others: Iterable[str] = ()) -> frozenset[str]:
    """The outcomes that words such as `busy` or `busy,no-answer` mean, named as in totals.

    `others` are valid names besides the known statuses, such as new statuses of 8x8. Raises InvalidInputError.
    """
    known = {_name(each): {each} for each in (*others, *SessionStatus)} | {"CANCELLED": {_S.CANCELED.value}}
    known |= {"REACHED": {each.value for each in REACHED}, "UNREACHED": {each.value for each in _GROUPS["UNREACHED"]}}
    found: set[str] = set()
    for word in ",".join(words).split(","):
        if _name(word) not in known:
            raise InvalidInputError(
                f"{word.strip()[:40]!r} is not an outcome; give one or more of: {', '.join(sorted(known)).lower()}"
            )
        found |= known[_name(word)]
    return frozenset(found)


def _name(word: str) -> str:
    return word.strip().upper().replace("-", "_").replace(" ", "_")


def redial_words(value: object) -> tuple[str, ...]:
    """The names of the statuses that a setting such as `busy,no-answer` means. Raises ValueError."""
    try:
        found = read_redial_on(value if isinstance(value, str) else [str(each) for each in _listed(value)])
    except InvalidInputError as error:
        raise ValueError(str(error)) from None
    return tuple(sorted(status.value for status in found))


def _listed(value: object) -> Iterable[object]:
    if isinstance(value, tuple | list | frozenset | set):
        return value  # pyright: ignore[reportUnknownVariableType] - a TOML array: each is read as text
    raise ValueError("name outcomes, separated by commas, such as busy,no_answer")


def redial_policy(on: str | Iterable[str], *, limit: int, after: timedelta) -> RedialPolicy:
    """A redial policy. Raises InvalidInputError for a limit above 0 without outcomes after which to call again."""
    statuses = read_redial_on(on)
    if limit > 0 and not statuses:
        raise InvalidInputError(
            f"a redial policy needs the outcomes after which to call again: {Remedy.NAME_OUTCOMES}"
        ).remedied(Remedy.NAME_OUTCOMES)
    return RedialPolicy(on=statuses, limit=limit, after=after)
