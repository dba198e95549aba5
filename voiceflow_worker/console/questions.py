"""The questions and keys in the form of a campaign: a menu of data, field by field, as the page shows and sends it.

A field is named after its place in the menu: `menu.questions.0.text.de`. The keys of a question are counted, and each
has a field `key`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.menu_data import BUILT_IN, MOST_QUESTIONS

PREFIX = "menu."
_IN_LANGUAGE = r"(\.[^.]+)?"
_FIELD = re.compile(
    rf"menu\.(languages|retries|(retry_text|goodbye|voice_profile){_IN_LANGUAGE}"
    rf"|questions\.\d\d?\."
    rf"(id|text{_IN_LANGUAGE}|keys\.\d\d?\.(key|answer|next|say{_IN_LANGUAGE})))"
)
_MOST_KEYS = 12
_FIRST_KEYS, _MORE_KEYS = 3, 2
"""How many keys a question shows at least, and how many more if they are asked for."""


_FIRST = f"{PREFIX}questions.0"
_ASKED = "Question, with its keys"


class ReadyQuestion(NamedTuple):
    """A question that is ready to be taken: its `words`, its fields with their labels and values, and what is `fixed`.

    A field with `*` in its name is that of each key. `more` is given with them, and may be changed.
    """

    words: str
    shown: tuple[tuple[str, str, str], ...]
    fixed: Mapping[str, str]
    more: Mapping[str, str] = {}


_SAID_AFTER = (f"{_FIRST}.keys.*.say", "Said after a key", "Thank you.")
_GOODBYE = (f"{PREFIX}goodbye", "Said when nobody has pressed a key", "Goodbye.")
READY = {
    "yes": ReadyQuestion(
        "Yes or no",
        (
            (f"{_FIRST}.text", _ASKED, "Press 1 for yes, 2 for no."),
            (f"{_FIRST}.keys.0.answer", "Answer of key 1", "yes"),
            (f"{_FIRST}.keys.1.answer", "Answer of key 2", "no"),
            _SAID_AFTER,
            _GOODBYE,
        ),
        {f"{_FIRST}.keys.{place}.key": str(place + 1) for place in range(2)},
    ),
    "scale": ReadyQuestion(
        "1 to 5",
        (
            (f"{_FIRST}.text", _ASKED, "Press a key from 1, very bad, to 5, very good."),
            _SAID_AFTER,
            (f"{PREFIX}retry_text", "Said after a wrong key or none", ""),
            _GOODBYE,
            (f"{PREFIX}retries", "Times to ask again", ""),
        ),
        {f"{_FIRST}.keys.{place}.{part}": str(place + 1) for place in range(5) for part in ("key", "answer")},
    ),
}
"""The questions that a person takes by one button."""


def every(name: str, fields: Mapping[str, str]) -> Sequence[str]:
    """The fields of a form that a control changes: those of each of its keys, if it is one for all."""
    above, star, below = name.partition("*")
    return [f"{above}{key}{below}" for key in range(_MOST_KEYS) if fields.get(f"{above}{key}.key")] if star else [name]


def taken(fields: Mapping[str, str], kind: str) -> dict[str, str]:
    """The fields of a form with a ready question of this kind in place of its questions; without any for another."""
    ready = READY.get(kind, ReadyQuestion("", (), {}))
    asked = {name: value for field, _, value in ready.shown for name in every(field, ready.fixed)}
    others = {name: value for name, value in fields.items() if not name.startswith(PREFIX)}
    return {**others, **asked, **ready.more, **ready.fixed}


def ready_in(fields: Mapping[str, str]) -> ReadyQuestion | None:
    """The ready question that a form has; None if it has none, or says more than its fields show."""
    given = {name: value for name, value in fields.items() if value and name.startswith(PREFIX)}
    for ready in READY.values():
        shown = {name for field, *_ in ready.shown for name in every(field, ready.fixed)}
        known = shown | ready.fixed.keys() | ready.more.keys() | {f"{_FIRST}.id"}
        if ready.fixed.items() <= given.items() and given.keys() <= known:
            return ready
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownQuestions:
    """The questions of a form: for each the beginning of its fields' names, and the numbers of its keys.

    `languages` are those of the texts, or one without a name. `follows` is what may follow a key: pairs of a value and
    its words. `is_given` is False if nothing is filled in.
    """

    languages: Sequence[str]
    questions: Mapping[str, range]
    follows: Sequence[tuple[str, str]]
    is_given: bool


def shown_questions(fields: Mapping[str, str], more: str = "") -> ShownQuestions:
    """The questions to show for the fields that a form has, and `more`: one `question`, or `keys`."""
    typed = _tree(fields).get("questions", {})
    places = range(min(max(_after(typed), 1) + (more == "question"), MOST_QUESTIONS))
    further = _MORE_KEYS if more == "keys" else 0
    keys = {place: _after(typed.get(str(place), {}).get("keys", {})) for place in places}
    ids = [typed.get(str(place), {}).get("id", _id(place)) for place in places]
    follows = {each: f"ask {each}" for each in ids}
    follows |= BUILT_IN
    named = {value for name, value in fields.items() if value and name.startswith(PREFIX) and name.endswith(".next")}
    follows |= {each: f"{each}, which is no question" for each in sorted(named - follows.keys())}
    return ShownQuestions(
        languages=_languages(fields) or [""],
        questions={
            f"{PREFIX}questions.{place}": range(min(max(count + further, _FIRST_KEYS), _MOST_KEYS))
            for place, count in keys.items()
        },
        follows=list(follows.items()),
        is_given=bool(typed),
    )


def menu_in(fields: Mapping[str, str]) -> Mapping[str, object] | None:
    """The menu of data in the fields of a form; None without a question. Raises InvalidInputError."""
    menu = _tree(fields)
    asked = menu.pop("questions", {})
    questions: list[Mapping[str, object]] = []
    for place in sorted(asked, key=int):
        question: dict[str, Any] = {"id": _id(int(place)), **asked[place]}
        keys: dict[str, object] = {}
        for row in question.get("keys", {}).values():
            if not (key := row.pop("key", "")):
                raise InvalidInputError(
                    f"question {question['id']}: an answer has no key; give it one, or empty its row"
                )
            if key in keys:
                raise InvalidInputError(f"question {question['id']}: the key {key} is there twice; keep one of them")
            keys[key] = row
        questions.append({**question, "keys": keys})
    return {**menu, "languages": _languages(fields), "questions": questions} if questions else None


def fields_of_menu(value: object, name: str = "menu") -> Iterator[tuple[str, str]]:
    """The fields of a form for a menu of data, each with its value."""
    if name == f"{PREFIX}languages" and isinstance(value, list):
        yield name, ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, Mapping | list):
        parts: Any = value.items() if isinstance(value, Mapping) else enumerate(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for place, (part, each) in enumerate(parts):
            if name.endswith(".keys"):
                yield f"{name}.{place}.key", str(part)
            yield from fields_of_menu(each, f"{name}.{place if name.endswith('.keys') else part}")
    else:
        yield name, str(value)


def _id(place: int) -> str:
    return f"question-{place + 1}"


def _after(places: Mapping[str, object]) -> int:
    """The place after the last of these."""
    return 1 + max(map(int, places), default=-1)


def _languages(fields: Mapping[str, str]) -> list[str]:
    """The languages that a form names, or else those of its texts: these would be lost with their fields."""
    named = [each.strip() for each in fields.get(f"{PREFIX}languages", "").split(",") if each.strip()]
    texts = [name.rpartition(".") for name, value in fields.items() if value and _FIELD.fullmatch(name)]
    return named or list(dict.fromkeys(language for text, _, language in texts if _FIELD.fullmatch(text)))


def _tree(fields: Mapping[str, str]) -> dict[str, Any]:
    """What is filled in, by the parts of its names. A text by language goes before one without."""
    found: dict[str, Any] = {}
    for name in sorted(name for name, value in fields.items() if value and _FIELD.fullmatch(name)):
        _, *above, last = name.split(".")
        at = found
        for part in above:
            if not isinstance(at.get(part), dict):
                at[part] = {}
            at = at[part]
        at[last] = fields[name]
    return found
