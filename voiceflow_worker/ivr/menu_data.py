"""Menus that are written as data, such as in TOML: read, checked, and kept in the store for the calls in them.

The name of such a menu has a digest of all that it says, so calls that wait or ring keep theirs when the data changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, ClassVar, Final, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.record_set import RecordSet
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writes import ACKNOWLEDGED, ESCALATION, MENUS
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import NAME, Caller
from voiceflow_worker.ivr.check import check_menus, reachable
from voiceflow_worker.ivr.menu import ANSWER, End, Menu, Step
from voiceflow_worker.model.flows.values import canonical_json, is_object

DO_NOT_CALL_AGAIN = "do_not_call_again"
BUILT_IN: Final = {DO_NOT_CALL_AGAIN: "the person's numbers go on the suppression list"}
"""The steps that may follow a key beside a question, and their effect. Without `answer`, the answer has their words."""
MOST_QUESTIONS = 20
LONGEST = 50_000
"""The most characters of a whole menu, as JSON."""
_DIGEST = 11
_LONGEST_ID = 32 - _DIGEST - 1


async def do_not_call_again(caller: Caller) -> None:
    """Put all numbers of the person on the suppression list, before the caller hears what follows.

    It is for `Menu.on(…, do=do_not_call_again)`. A simulated call without a store does nothing.
    """
    numbers = (caller.number,) if caller.job is None else caller.job.numbers
    if caller.store is not None:
        reason = f"opted out: pressed {caller.digits} in the menu {caller.menu}"
        suppressed = SuppressionList(caller.store, policy=caller.policy, by=Actor(on="menu", name="the person called"))
        await suppressed.add(*filter(None, numbers), reason=reason)


# -- the data ---------------------------------------------------------------------------------------------------------


def _text(value: object) -> object:
    texts = list(value.values()) if is_object(value) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("is no text: give a text, or a table with a text for each language")
    return value


def _keys(value: object) -> object:
    if not isinstance(value, Mapping) or not value:
        raise ValueError('has no key: give a table of keys, such as 1 = {answer = "confirmed", say = "Thank you."}')
    # A program's keys may be numbers.
    keys = [(str(key).strip(), each) for key, each in cast("Mapping[object, object]", value).items()]
    if len(dict(keys)) < len(keys):
        raise ValueError("has a key twice: keep one of them")
    return dict(keys)


_Text = Annotated[str | dict[str, str], BeforeValidator(_text)]


class _Data(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class _Key(_Data):
    """The effect of a key: the name of the `answer`, the text to `say`, and what is `next`, by default the end."""

    answer: str | None = None
    say: _Text | None = None
    next: str | None = None


class _Question(_Data):
    id: str
    text: _Text
    keys: Annotated[dict[str, _Key], BeforeValidator(_keys)]


class MenuData(_Data):
    """A menu as data. Its call begins with the first of the `questions`.

    A text is one, or a table by `languages`, of which the first is that of calls that name none. `retry_text` is spoken
    after a wrong key, and `goodbye` after the last of `retries` more tries.
    """

    questions: Annotated[list[_Question], Field(min_length=1, max_length=MOST_QUESTIONS)]
    languages: list[str] = Field(default_factory=list[str])
    voice_profile: _Text | None = None
    retry_text: _Text | None = None
    goodbye: _Text | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 2

    def texts(self) -> Iterator[tuple[str, str | dict[str, str] | None]]:
        """Yield each text with its place."""
        for name in ("voice_profile", "retry_text", "goodbye"):
            yield name, getattr(self, name)
        for question in self.questions:
            yield f"question {question.id}, text", question.text
            yield from ((f"question {question.id}, key {key}, say", each.say) for key, each in question.keys.items())

    def spoken(self) -> list[str]:
        """Return the languages of the menu, in their order; none if no text names one."""
        named = (language for _, text in self.texts() if isinstance(text, dict) for language in text)
        return self.languages or list(dict.fromkeys(named))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong beside the forms of the values: each with its place and a remedy."""
        ids = [question.id for question in self.questions]
        reserved = (*BUILT_IN, ESCALATION)
        for place, question in enumerate(self.questions):
            where = f"question {question.id}"
            if not NAME.fullmatch(question.id) or len(question.id) > _LONGEST_ID or question.id in reserved:
                own = f"1 to {_LONGEST_ID} lower-case letters, digits, - and _"
                yield f"{where}: an id has {own}, and is not {' or '.join(reserved)}; give it another one"
            if question.id in ids[:place]:
                yield f"{where}: two questions have this id; rename one of them"
            for key, each in question.keys.items():
                at = f"{where}, key {key}"
                if key not in set("0123456789*#"):
                    yield f"{at}: is not one key of a phone; use one of 0-9, * and #"
                if each.answer is not None and not ANSWER.fullmatch(each.answer):
                    yield f"{at}, answer: {each.answer[:60]!r} must have 1 to 50 letters, digits, spaces, - and _"
                if ACKNOWLEDGED in (each.answer, each.next):
                    yield f"{at}: {ACKNOWLEDGED} is the answer of escalations alone; give another name"
                elif each.next is not None and each.next not in {*ids, *BUILT_IN}:
                    known = ", ".join([*ids, *BUILT_IN])
                    yield f"{at}, next: {each.next[:40]!r} is none of {known}; leave it out to end the call"
        yield from self._language_problems()

    def _language_problems(self) -> Iterator[str]:
        spoken = self.spoken()
        for place, text in self.texts():
            if isinstance(text, dict):
                if set(text) != set(spoken):
                    yield f"{place}: has {', '.join(text)}, but the menu speaks {', '.join(spoken)}; give each of them"
            elif text is not None and len(spoken) > 1 and place != "voice_profile":
                yield f"{place}: is one text, but the menu speaks {', '.join(spoken)}; give one for each language"

    def menu(self) -> Menu:
        """Return the menu of the first question, which has the settings of all and leads to the others."""
        menus = {each.id: Menu(each.id, prompt=each.text) for each in self.questions}
        first = menus[self.questions[0].id]
        first.voice_profile, first.retry_text, first.retries = self.voice_profile, self.retry_text, self.retries
        first.language = next(iter(self.spoken()), None)
        first.fallback = None if self.goodbye is None else End(self.goodbye)
        for question in self.questions:
            for key, each in question.keys.items():
                follows = menus.get(each.next or "")
                step: Step = End(each.say) if follows is None else follows
                if follows is not None and each.say is not None:
                    step = follows.with_text(each.say)
                do = do_not_call_again if each.next == DO_NOT_CALL_AGAIN else None
                answer = each.answer or (DO_NOT_CALL_AGAIN.replace("_", " ") if do else None)
                menus[question.id].on(key, goto=step, result=answer, do=do)
        return first


def read_menu(fields: object, *, voice_profile: str | None = None) -> Menu:
    """Return the menu that is written as data (`MenuData`); `voice_profile` is its voice if it names none.

    Raises InvalidInputError for all that is wrong, each with its place.
    """
    try:
        data = MenuData.model_validate(fields)
    except ValidationError as error:
        raise InvalidInputError("; ".join(dict.fromkeys(_problems(error)))) from None
    own = {"voice_profile": data.voice_profile or voice_profile, "languages": data.spoken()}
    data = data.model_copy(update=own)
    if wrong := list(data.problems()):
        raise InvalidInputError("; ".join(wrong))
    menu = data.menu()
    reached = {each.name for each in reachable([menu])}
    if lost := [each.id for each in data.questions if each.id not in reached]:
        raise InvalidInputError(f"question {lost[0]}: no key leads to it; let one, by its next, or remove the question")
    if errors := [found for found in check_menus([menu]) if found.is_error]:
        raise InvalidInputError("; ".join(map(str, errors)))
    _define(menu, data)
    if len(menu.definition) > LONGEST:
        raise InvalidInputError(
            f"the menu has {len(menu.definition)} characters, but at most {LONGEST} are allowed; shorten it"
        )
    return menu


def _define(menu: Menu, data: MenuData) -> None:
    """Give a menu its definition, and a name with the digest of that."""
    menu.definition = canonical_json(data.model_dump(exclude_defaults=True))
    menu.name = f"{menu.name}-{hashlib.sha256(menu.definition.encode()).hexdigest()[:_DIGEST]}"


def acknowledgement(key: str, *, voice_profile: str) -> Menu:
    """Return the menu of an escalation's calls: it speaks the `question` of a call's data, and asks for the key.

    The key press ends the escalation, in the write that stores it. No other menu has its answer, `acknowledged`.
    """
    pressed = _Key(answer=ACKNOWLEDGED, say="Thank you. You have acknowledged.")
    question = _Question(id=ESCALATION, text=f"{{{{question}}}} Press {key} to acknowledge.", keys={key: pressed})
    data = MenuData(questions=[question], voice_profile=voice_profile)
    menu = data.menu()
    _define(menu, data)
    return menu


def ask(question: str, keys: Mapping[str, str], *, voice_profile: str | None = None) -> Menu:
    """Return the menu of one question. `keys` are answers by their keys, which the person hears after the question.

    `ask("Send them?", {"1": "approved", "2": "rejected"})` asks "Send them? Press 1 for approved, 2 for rejected.", and
    repeats the answer. Raises InvalidInputError.
    """
    named = ", ".join(f"{key} for {answer}" for key, answer in keys.items())
    pressed = {key: {"answer": answer, "say": f"Thank you. Your answer: {answer}."} for key, answer in keys.items()}
    text = f"{question.strip()} Press {named}."
    return read_menu({"questions": [{"id": "ask", "text": text, "keys": pressed}]}, voice_profile=voice_profile)


_MESSAGES = {
    "missing": "is missing; give it", "string_type": "is no text; write it in quotes",
    "list_type": "is no list; write it in [ ]", "model_type": "is no table; give one",
    "extra_forbidden": "is unknown; correct its name, or remove it",
}  # fmt: skip


def _problems(error: ValidationError) -> Iterator[str]:
    """Yield each error in the form of a menu with its place, such as `question 1, key 1, next`."""
    for found in error.errors():
        place, parts = found["loc"] or ("menu",), list[str]()
        for before, part in zip(("", *place), place, strict=False):
            if isinstance(part, int):
                parts.append(f"question {part + 1}")
            elif part not in {"questions", "keys"} or part == place[-1]:
                parts.append(f"key {part}" if before == "keys" else part)
        message = _MESSAGES.get(found["type"], found["msg"].removeprefix("Value error, "))
        yield f"{', '.join(parts)}: {message}"


# -- in the store -----------------------------------------------------------------------------------------------------


def written_menus(store: Store) -> RecordSet[Menu]:
    """Return the menus of data that calls of this store begin with, by their names."""

    def read(name: str, text: str) -> Menu:
        menu = MenuData.model_validate_json(text).menu()
        menu.name, menu.definition = name, text
        return menu

    return RecordSet(store, MENUS, write=lambda menu: menu.definition, read=read)


async def unserved_menus(store: Store, names: Collection[str]) -> list[str]:
    """Return those of these menus that no running receiver serves. Raises StoreError."""
    if not names:
        return []
    heartbeats = Heartbeats(store)
    served = set(await heartbeats.menus())
    if await heartbeats.has_receiver():
        served |= {*await written_menus(store).get(set(names) - served)}
    return [name for name in names if name not in served]


def unserved_in_words(names: Collection[str]) -> str:
    """Return the effect of menus that nobody serves, as a clause."""
    return (
        f"waiting calls begin with menus, but no running receiver serves {', '.join(names)}: each person hears the "
        "question, no key is answered, and the call ends"
    )
