"""What the value of a field means: a text as it is typed, or what such a text means. Readers raise ValueError."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final, TypeVar, cast

from voiceflow_worker.campaigns.calls.options import BadRowLimit
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER
from voiceflow_worker.campaigns.files.rows import columns_text
from voiceflow_worker.campaigns.reading import text_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.jobs.policy import RedialWait, read_redial_after
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import read_duration, table_text
from voiceflow_worker.model.window import CallWindow

T = TypeVar("T")
MOST_ROUNDS: Final = 1000
UNTIL_ACKNOWLEDGED: Final = "until acknowledged"
"""The text for rounds without an end."""
ROUNDS: Final = f'give a number from 1 to {MOST_ROUNDS}, or "{UNTIL_ACKNOWLEDGED}"'


def words(value: object) -> str:
    """A text with commas, which may be a list, or a table of names: `busy=5m,no_answer=2h`."""
    value = table_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(text_of, cast("Iterable[object]", value)))
    return text_of(value)


def columns(value: object) -> str:
    """The names of columns as one text; they may be a list."""
    if isinstance(value, list | tuple):
        return columns_text(map(text_of, cast("Iterable[object]", value)))
    return text_of(value)


def window(value: object) -> CountryWindows:
    """The hours of a window."""
    if isinstance(value, CallWindow | CountryWindows):
        return CountryWindows.of(value)
    return CountryWindows.parse(words(value))


def duration(value: object) -> timedelta:
    """A duration, such as 2h."""
    return value if isinstance(value, timedelta) else _as_duration(read_duration, text_of(value))


def length(value: object) -> timedelta:
    """A duration above 0."""
    found = duration(value)
    if not found:
        raise ValueError(f"{value!s} is not above 0: give a duration such as 15m")
    return found


def redial_after(value: object) -> RedialWait:
    """The wait before a redial, or one for each outcome."""
    if isinstance(value, timedelta | Mapping):
        return read_redial_after(value)  # pyright: ignore[reportUnknownArgumentType]
    return _as_duration(read_redial_after, words(value))


def _as_duration(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a duration: {error}") from None


def whole(value: object) -> int:
    """A whole number from 0 on."""
    text = text_of(value)
    try:
        found = int(text)
    except ValueError:
        found = -1
    if found < 0:
        raise ValueError(f"{text[:40]!r} is not a whole number from 0 on")
    return found


def priority(value: object) -> int:
    """A priority."""
    text = text_of(value)
    try:
        found: object = int(text)
    except ValueError:
        found = text
    if problem := priority_problem(found):
        raise ValueError(problem)
    return cast("int", found)


def seconds(value: object) -> float:
    """The length of a call."""
    text = text_of(value)
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 36_000:
        raise ValueError(f"{text[:40]!r} is not a length of a call: give seconds, from above 0 to 36000")
    return found


def _yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = text_of(value).strip().lower()
    if text not in {"yes", "true", "no", "false"}:
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return text in {"yes", "true"}


def bad_row_limit(value: object) -> bool | BadRowLimit:
    """Whether bad rows are left out, and how many at most."""
    text = value if isinstance(value, bool) else text_of(value)
    if isinstance(text, bool) or text.strip().lower() in {"yes", "true", "no", "false"}:
        return _yes_or_no(text)
    return BadRowLimit.read(text)


def one_of(kind: Iterable[str], value: object) -> str:
    """One of these texts, in any case."""
    text = text_of(value).strip().lower()
    known = [str(each) for each in kind]
    if text not in known:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(known)}")
    return text


def country(value: object) -> str:
    """The country of national numbers."""
    text = text_of(value)
    read_number(PLACEHOLDER, text)
    return text


def batch(value: object) -> str:
    """The id of a batch."""
    text = text_of(value)
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"{text[:40]!r} is no batch id: it must have 1 to {MAX_ID_CHARACTERS} characters")
    return text


def rows(value: object) -> Iterable[Mapping[str, object]]:
    """The people of a program."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        kind = type(value).__name__  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidInputError(f"they are {kind}; give mappings, one for each row")
    given = cast("Iterable[Mapping[str, object]]", value)
    if isinstance(given, Iterator):
        raise InvalidInputError("they can be read only once, by the preview or by the start; give a list of them")
    return given


def data(value: object) -> Mapping[str, object]:
    """What is kept with each call."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"it is {type(value).__name__}; give names with their values")
    return cast("Mapping[str, object]", value)


def spoken(value: object, *, may_be_empty: bool = False) -> str:
    """A text that is spoken as it stands."""
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise ValueError("give a text")
    return value


def rounds(value: object) -> int | None:
    """The number of rounds; None for rounds until somebody acknowledges."""
    if isinstance(value, str):
        text = value.replace("_", " ").replace("-", " ").lower().split()
        if text in (UNTIL_ACKNOWLEDGED.split(), [*UNTIL_ACKNOWLEDGED.split(), "or", "resolved"]):
            return None
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 5 else 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ROUNDS:
        raise ValueError(ROUNDS)
    return value


def listed(numbers: object) -> list[str] | None:
    """The numbers in a list, or in a text with commas; None if there is none."""
    if isinstance(numbers, str):
        numbers = numbers.split(",")
    if not isinstance(numbers, list | tuple):
        return None
    texts = [str(number).strip() for number in cast("Iterable[object]", numbers)]
    return [text for text in texts if text] or None
