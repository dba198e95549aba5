"""A menu: a question to the caller, and the step that follows each answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar, overload

from typing_extensions import TypeIs

from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.writes import ACKNOWLEDGED, ESCALATION
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import NAME, Caller, Text, join_sentences, render
from voiceflow_worker.model.flows.actions import MAX_TEXT_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import language_in
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.text.arguments import checked_duration


@dataclass(frozen=True, slots=True)
class End:
    """The end of the call: a hang-up, after a last text if there is one."""

    text: Text | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Another try after invalid input: `text` is spoken, then the question; after the last try, the fallback."""

    text: Text | None = None


class Back(Enum):
    """The step back to the menu that the caller came from."""

    BACK = "back"


END = End()
BACK = Back.BACK
"""The step back to the menu that led here. At the first menu, it asks that menu's question again."""


H = TypeVar("H", bound="Handler")

ANSWER: Final = re.compile(r"[^\W_][\w -]{0,49}(?<! )")
"""The name of an answer."""


@dataclass(slots=True, kw_only=True, eq=False)
class MenuSettings:
    """The settings of a menu. One that is None is that of the first menu of the call, else the default."""

    voice_profile: Text | None = None
    language: str | None = None
    retry_text: Text | None = None
    retries: int | None = None
    fallback: Step | Handler | None = None
    overall_timeout: timedelta | None = None

    def voice(self, caller: Caller) -> str:
        """Return the speech profile to speak with. Raises InvalidInputError when there is none."""
        if self.voice_profile is None:
            raise InvalidInputError(
                f"menu {caller.menu} has no voice: set voice_profile in this menu, or in the first menu of the call"
            )
        return render(self.voice_profile, caller)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The typed input that a menu takes. With `complete_on_hash`, # ends the input."""

    min_digits: int
    max_digits: int
    complete_on_hash: bool

    def takes(self, digits: str) -> bool:
        """Return True if this input has the right number of characters, and all of them are digits."""
        return self.min_digits <= len(digits) <= self.max_digits and digits.isascii() and digits.isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of a menu: the `keys`, or the typed input `captured`, and the step or handler that follows.

    `result` is the name of the person's answer, and `do` what is done before the step.
    """

    keys: tuple[str, ...] = ()
    captured: Captured | None = None
    action: Step | Handler
    leads_to: Sequence[Step] | None = None
    result: str | None = None
    do: Callable[[Caller], Any] | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class Menu(MenuSettings):
    """A question, and the step that follows each answer.

    `prompt` is spoken: a template of the job's data (`{{name}}`), or one for each language. After a wrong key, or none,
    `retry_text` and the prompt are spoken, `retries` times at most. Then, or when a handler fails, comes the
    `fallback`: a menu, a call flow, a text to end with, `END`, or a handler. `opening`, a step or a handler, begins a
    call to one of the account's numbers. `leads_to` declares the steps that handlers of the opening and the fallback
    may return.

    `overall_timeout` limits the whole answer. The keys pressed at a `secret` menu are never stored. With `inbound`, the
    menu answers calls to all numbers of the account, or to those listed. A missing setting is that of the first menu of
    the call, else 2 retries, 10 s and a hang-up. Raises InvalidInputError.
    """

    name: str = field(kw_only=False)
    prompt: Text = ""
    opening: Step | Handler | None = None
    secret: bool = False
    inbound: bool | Collection[str] = False
    leads_to: Sequence[Step] | None = None
    _choices: list[Choice] = field(default_factory=list["Choice"], init=False)
    definition: str = field(default="", init=False)
    """The JSON of a menu that is written as data; empty for one in code."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InvalidInputError(
                f"{self.name!r} cannot be the name of a menu: use 1 to 32 lower-case letters, digits, - and _, "
                "beginning with a letter or digit"
            )
        if self.overall_timeout is not None:
            checked_duration("overall_timeout", self.overall_timeout, positive=True)
        if self.retries is not None and not 0 <= self.retries <= 20:
            raise InvalidInputError(f"menu {self.name}: retries should be a number from 0 to 20")
        self.inbound = _numbers(self.name, self.inbound)

    @property
    def title(self) -> str:
        """Name for people: that of a menu of data is without its digest."""
        return self.name.rpartition("-")[0] if self.definition else self.name

    @property
    def choices(self) -> Sequence[Choice]:
        """Every choice, in the order of declaration."""
        return tuple(self._choices)

    @property
    def asks(self) -> bool:
        """True if the menu asks a question: it has a prompt or a choice."""
        return bool(self._choices or self.prompt)

    @property
    def captured(self) -> Captured:
        """Typed input that this menu takes, for all its choices together."""
        captures = [choice.captured for choice in self._choices if choice.captured is not None]
        keys = [key for choice in self._choices for key in choice.keys]
        lengths = [len(key) for key in keys]
        most = max([each.max_digits for each in captures] + lengths, default=1)
        return Captured(
            min_digits=min([each.min_digits for each in captures] + lengths, default=1),
            max_digits=most,
            complete_on_hash=all(each.complete_on_hash for each in captures)
            and not any("#" in key for key in keys)
            and most > 1,
        )

    @overload
    def on(
        self, *keys: str, goto: Step, result: str | None = None, do: Callable[[Caller], Any] | None = None
    ) -> None: ...

    @overload
    def on(self, *keys: str, leads_to: Sequence[Step] | None = None, result: str | None = None) -> Callable[[H], H]: ...

    def on(
        self,
        *keys: str,
        goto: Step | None = None,
        leads_to: Sequence[Step] | None = None,
        result: str | None = None,
        do: Callable[[Caller], Any] | None = None,
    ) -> Callable[[H], H] | None:
        """Declare the step that follows any of these keys: `goto`, or the result of the decorated handler.

        A key is one of `0-9`, `*`, `#`, or several of them (`"42"`). A handler gets the `Caller` and returns a menu, a
        call flow, a text to say before this menu asks again, `End`, `Retry` or `BACK`; `leads_to` names every menu that
        it may return. `do`, a function of the caller, is run before `goto`, such as `do_not_call_again`; if it fails,
        the fallback follows. `result` is the name of the person's answer, such as `confirmed`; that of the last keys
        counts.
        """
        if not keys:
            raise InvalidInputError(f"menu {self.name}: on() needs a key, such as on('1')")
        if goto is None and do is not None:
            raise InvalidInputError(f"menu {self.name}: do= needs goto=, the step that follows, such as goto=END")
        self._check_result(result)
        if goto is not None:
            self._choices.append(Choice(keys=keys, action=goto, result=result, do=do))
            return None

        def register(handler: H) -> H:
            self._choices.append(Choice(keys=keys, action=handler, leads_to=leads_to, result=result))
            return handler

        return register

    def capture(
        self,
        *,
        max_digits: int,
        min_digits: int = 1,
        complete_on_hash: bool = True,
        leads_to: Sequence[Step] | None = None,
        result: str | None = None,
    ) -> Callable[[H], H]:
        """Declare the decorated handler for `min_digits` to `max_digits` typed digits, which are in `caller.digits`.

        Keys of `on` are matched first. With `complete_on_hash` the # key ends the input early.
        """
        self._check_result(result)
        captured = Captured(min_digits=min_digits, max_digits=max_digits, complete_on_hash=complete_on_hash)

        def register(handler: H) -> H:
            self._choices.append(Choice(captured=captured, action=handler, leads_to=leads_to, result=result))
            return handler

        return register

    def with_text(self, text: Text) -> GoTo:
        """Return the step to this menu with a text before its prompt: `main.with_text("Your table is booked.")`."""
        return GoTo(self, text)

    def call(
        self,
        destination: str,
        *,
        source: str,
        country: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> CallFlow:
        """Return a call that begins with this menu's question. Raises InvalidInputError for a missing voice or value.

        For example: `queue.enqueue(menu.call(…, data=data), menu=menu.name, data=data)`.
        """
        call = CallFlow.call(destination, source=source, country=country)
        caller = Caller(
            now=SystemClock().now(),
            menu=self.name,
            number=call.destination or destination,
            our_number=call.source or source,
            data=data or {},
        )
        caller = replace(caller, language=language_of(self, self, caller.data))
        settings = settings_of(self, self)
        voice = settings.voice(caller)
        return self.question(call, render(self.prompt, caller, voice), settings, voice_profile=voice)

    def question(
        self, flow: CallFlow, prompt: str, settings: MenuSettings, *, voice_profile: str, before: str = ""
    ) -> CallFlow:
        """Return this call flow, continued with this menu's question. The text `before` is spoken before the prompt."""
        # The text before is part of the prompt: keys that are pressed during a separate text may be lost.
        if before and len(join_sentences(before, prompt)) > MAX_TEXT_CHARACTERS:
            flow, before = flow.say(before, voice_profile=voice_profile), ""
        captured = self.captured
        return flow.capture(
            join_sentences(before, prompt),
            voice_profile=voice_profile,
            min_digits=captured.min_digits,
            max_digits=captured.max_digits,
            complete_on_hash=captured.complete_on_hash,
            overall_timeout=settings.overall_timeout,
            tries=1,  # always sent: 8x8's documents disagree about the default
        )

    def find(self, digits: str) -> Choice | None:
        """Return the choice for these digits; None for a wrong key."""
        captures = (each for each in self._choices if each.captured is not None and each.captured.takes(digits))
        return next((choice for choice in self._choices if digits in choice.keys), next(captures, None))

    def _check_result(self, result: str | None) -> None:
        if result is not None and not ANSWER.fullmatch(result):
            raise InvalidInputError(
                f"menu {self.name}: {result!r} cannot be the name of an answer: use 1 to 50 letters, digits, spaces, - "
                "and _, beginning with a letter or digit"
            )
        if result == ACKNOWLEDGED and self.name != ESCALATION:
            raise InvalidInputError(
                f"menu {self.name}: {ACKNOWLEDGED} is the answer of escalations alone; give another name"
            )

    def __repr__(self) -> str:
        return f"<Menu {self.name}>"


def settings_of(menu: Menu, first: Menu) -> MenuSettings:
    """Return the settings of a menu in a call that began with the menu `first`."""
    own = (menu, first, _DEFAULTS)
    return MenuSettings(
        **{
            each.name: next((value for one in own if (value := getattr(one, each.name)) is not None), None)
            for each in fields(MenuSettings)
        }
    )


def language_of(menu: Menu, first: Menu, data: Mapping[str, object]) -> str | None:
    """Return the language of a menu, for a call with this data that began with the menu `first`.

    That of a later menu goes before `language` of the data, which goes before that of the first menu.
    """
    own = None if menu is first else menu.language
    return own or language_in(data) or first.language


@dataclass(frozen=True, slots=True)
class GoTo:
    """A step to a menu, with a text before its prompt; made by `Menu.with_text`."""

    menu: Menu
    text: Text


Step: TypeAlias = Menu | CallFlow | str | End | Retry | GoTo | Back
"""The target of a key, or the result of a handler.

A menu asks its question. After a text, or a call flow that only speaks or plays, the same menu asks again.
"""

Handler: TypeAlias = Callable[[Caller], Step | Awaitable[Step]]
"""A function of the caller, sync (run in a thread) or async, that returns the next step."""


def menu_of(step: Step) -> Menu | None:
    """Return the menu that a step goes to, if it goes to one."""
    return step if isinstance(step, Menu) else step.menu if isinstance(step, GoTo) else None


def is_step(action: Step | Handler) -> TypeIs[Step]:
    """Return True for a step, False for a handler, which is a function that gets the caller."""
    return isinstance(action, Menu | CallFlow | End | Retry | GoTo | Back | str)


_DEFAULTS = MenuSettings(retries=2, fallback=END, overall_timeout=timedelta(seconds=10))


def _numbers(name: str, inbound: bool | Collection[str]) -> bool | frozenset[str]:  # noqa: FBT001 - the parameter's own form
    if isinstance(inbound, bool):
        return inbound
    numbers = (inbound,) if isinstance(inbound, str) else tuple(inbound)
    for number in numbers:
        if not phone.is_e164(number):
            raise InvalidInputError(f"menu {name}: inbound {number!r} is not in E.164 form, such as +6531234567")
    return frozenset(phone.normalise(number) for number in numbers)
