"""A menu: a question to the caller, and the step that follows each answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar, overload

from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.writes import ACKNOWLEDGED, ESCALATION
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import NAME, BridgeResult, Caller, Text, filled, joined, spoken
from voiceflow_worker.ivr.speech_filters import ZONE
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
class Again:
    """Another try after invalid input: `text` is spoken, then the question. The fallback comes after the last try."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterBridge:
    """The step or handler that follows each result of a bridge; the default is a hang-up.

    If `failed` is None, `no_answer` is used instead. A handler finds the result in `caller.bridge`.
    """

    done: Step | Handler = END
    busy: Step | Handler = END
    no_answer: Step | Handler = END
    failed: Step | Handler | None = None

    def of(self, result: BridgeResult) -> Step | Handler:
        """The step or handler for this result."""
        action: Step | Handler | None = getattr(self, result)
        return self.no_answer if action is None else action


@dataclass(slots=True, kw_only=True, eq=False)
class Manner:
    """The settings that a menu passes on to the menus that follow. A setting that is None is inherited."""

    voice_profile: Text | None = None
    language: str | None = None
    retry_text: Text | None = None
    retries: int | None = None
    fallback: Step | Handler | None = None
    overall_timeout: timedelta | None = None
    digit_timeout: timedelta | None = None
    speed: float | None = None
    success_message: Text | None = None
    failure_message: Text | None = None
    tries: int | None = None
    repetition: int | None = None
    after_bridge: AfterBridge | None = None

    @staticmethod
    def inherited(manners: Iterable[Manner]) -> Manner:
        """The settings of a menu. Each comes from the first of `manners` that has it, or is the default."""
        given = [*manners, _DEFAULTS]
        return Manner(
            **{
                each.name: next((value for one in given if (value := getattr(one, each.name)) is not None), None)
                for each in fields(Manner)
            }
        )

    def voice(self, caller: Caller) -> str:
        """The speech profile to speak with. Raises InvalidInputError when no menu on the path names one."""
        if self.voice_profile is None:
            raise InvalidInputError(
                f"menu {caller.menu} has no voice: set voice_profile in this menu, or in a menu that leads to it"
            )
        return spoken(self.voice_profile, caller)


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
class Menu(Manner):
    """A question, and the step that follows each answer.

    `prompt` is spoken: a template of the job's data (`{{name}}`), one for each language, or a function of the caller.
    `play` is the address of a recording that is played before the prompt. After a wrong key, or none, `retry_text` and
    the prompt are spoken, `retries` times at most. Then comes the `fallback`: a menu, a call flow, a text to end with,
    `END`, or a handler. The fallback also comes when a handler fails.

    `opening`, a step or a handler, begins a call to one of the account's numbers; without an opening, the call begins
    with the prompt. `after_bridge` has the steps that follow a bridge. `leads_to` declares the steps that handlers of
    the opening, the fallback and `after_bridge` may return.

    8x8 speaks `success_message` after valid keys, and `failure_message` after a wrong key or none. It asks `tries`
    times before it sends the event, and speaks the prompt `repetition` times.

    `overall_timeout` limits the whole answer, `digit_timeout` the time between two keys. The keys pressed at a `secret`
    menu are never stored. With `inbound`, this menu answers calls to all numbers of the account, or to those listed.

    A setting that is missing is inherited from the menu that led here. The defaults of the first menu are 2 retries, 10
    s for the whole answer, and a hang-up as the fallback. Raises InvalidInputError for a wrong name: a name has 1 to 32
    lower-case letters, digits, - and _, and begins with a letter or digit. Raises it too for a timeout that is not a
    timedelta above 0, `retries` or `tries` above 20, and a malformed number in `inbound`.
    """

    name: str = field(kw_only=False)
    prompt: Text = ""
    opening: Step | Handler | None = None
    play: str | None = None
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
        for timeout in ("overall_timeout", "digit_timeout"):
            if (given := getattr(self, timeout)) is not None:
                checked_duration(timeout, given, positive=True)
        for setting, value, fewest in (("retries", self.retries, 0), ("tries", self.tries, 1)):
            if value is not None and not fewest <= value <= 20:
                raise InvalidInputError(f"menu {self.name}: {setting} should be a number from {fewest} to 20")
        self.inbound = _numbers(self.name, self.inbound)

    @property
    def title(self) -> str:
        """The name for people: that of a menu of data is without its digest."""
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
        """The typed input that this menu takes, for all its choices together."""
        captures = [choice.captured for choice in self._choices if choice.captured is not None]
        keys = [key for choice in self._choices for key in choice.keys]
        lengths = [len(key) for key in keys]
        return Captured(
            min_digits=min([each.min_digits for each in captures] + lengths, default=1),
            max_digits=max([each.max_digits for each in captures] + lengths, default=1),
            complete_on_hash=all(each.complete_on_hash for each in captures)
            and not any("#" in key for key in keys)
            and max([0, *lengths, *(each.max_digits for each in captures)]) > 1,
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
        call flow, a text to say before this menu asks again, `End`, `Again` or `BACK`. `leads_to` declares the steps
        that the handler may return, and must name every menu that the handler may return. A menu that is not declared
        is not served.

        `do`, a function of the caller (async, or sync in a thread), is run before `goto`, such as `do_not_call_again`;
        if it fails, the fallback follows.

        `result` names what these keys mean, such as `confirmed`: the answer of the person, which is stored with the
        call. The last keys with a name count. A name has 1 to 50 letters, digits, spaces, - and _.
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
        """Declare the decorated handler for `min_digits` to `max_digits` typed digits. They are in `caller.digits`.

        The handler returns the same steps as handlers of `on`; `Again("…")` asks once more. Keys of `on` are matched
        first. With `complete_on_hash` the # key ends the input early, and is not part of it. Input with a * or another
        # counts as a wrong key, so the handler gets digits only. `result` names the answer, as in `on`.
        """
        self._check_result(result)
        captured = Captured(min_digits=min_digits, max_digits=max_digits, complete_on_hash=complete_on_hash)

        def register(handler: H) -> H:
            self._choices.append(Choice(captured=captured, action=handler, leads_to=leads_to, result=result))
            return handler

        return register

    def saying(self, text: Text) -> Go:
        """This menu, with a text before its prompt: `return main.saying("Your table is booked.")`."""
        return Go(self, text)

    def call(
        self,
        destination: str,
        *,
        source: str,
        country: str | None = None,
        data: Mapping[str, object] | None = None,
        at: datetime | None = None,
        before: Text = "",
    ) -> CallFlow:
        """A call that begins with this menu's question; enqueue it with the menu's name and the same data.

        For example: `queue.enqueue(menu.call(…, data=data), menu=menu.name, data=data)`. A prompt that is a function
        finds `at` in `caller.now`; the default is the current time. The text `before` is spoken before the question,
        once. Numbers are read as by `CallFlow.call`. Raises InvalidInputError if the menu names no voice, or a value of
        its prompt is missing.
        """
        begun = CallFlow.call(destination, source=source, country=country)
        caller = Caller(
            now=at or SystemClock().now(),
            menu=self.name,
            number=begun.destination or destination,
            our_number=begun.source or source,
            data=data or {},
        )
        caller = replace(caller, language=language_of([self], caller.data))
        manner = Manner.inherited([self])
        return self.question(manner, caller, begun=begun, before=spoken(before, caller, manner.voice))

    def question(
        self, manner: Manner, caller: Caller, *, begun: CallFlow, before: str = "", plays: bool = True
    ) -> CallFlow:
        """The call flow `begun`, continued with this menu's question. The text `before` is spoken before the prompt.

        If `plays` is False, the menu's recording is left out. Raises InvalidInputError for a prompt that cannot be
        spoken, and the errors of a prompt that is a function.
        """
        voice = manner.voice(caller)
        success, failure = (
            None if text is None else spoken(text, caller, manner.voice)
            for text in (manner.success_message, manner.failure_message)
        )
        plays = plays and self.play is not None
        asked = spoken(self.prompt, caller, manner.voice)
        # The text before is part of the prompt: keys that are pressed during a separate text may be lost.
        if before and (plays or len(joined(before, asked)) > MAX_TEXT_CHARACTERS):
            begun = begun.say(before, voice_profile=voice, speed=manner.speed)
        else:
            asked = joined(before, asked)
        if plays and self.play is not None:
            begun = begun.play(filled(self.play, {**caller.data, ZONE: caller.person}))
        captured = self.captured
        return begun.capture(
            asked,
            voice_profile=voice,
            speed=manner.speed,
            min_digits=captured.min_digits,
            max_digits=captured.max_digits,
            complete_on_hash=captured.complete_on_hash,
            digit_timeout=manner.digit_timeout if captured.max_digits > 1 else None,
            overall_timeout=manner.overall_timeout,
            success_message=success,
            failure_message=failure,
            # Always sent: 8x8's documents disagree about the default.
            tries=manner.tries,
            repetition=manner.repetition,
        )

    def find(self, digits: str) -> Choice | None:
        """The choice for these digits; None for a wrong key."""
        for choice in self._choices:
            if digits in choice.keys:
                return choice
        for choice in self._choices:
            if choice.captured is not None and choice.captured.takes(digits):
                return choice
        return None

    def answer_of(self, choice: Choice, caller: Caller) -> str | None:  # noqa: ARG002 - approvals ask the caller's data
        """The name of the answer that a choice is; None if the choice has no name. Never raises."""
        return choice.result

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


def language_of(path: Sequence[Menu], data: Mapping[str, object]) -> str | None:
    """The language of the last menu of a path, for a call with this data; None if nothing says it.

    It is that of the nearest menu which changes the language. Before that, `language` of the data goes before the
    language of the first menu.
    """
    changed = next((menu.language for menu in reversed(path[1:]) if menu.language is not None), None)
    return changed or language_in(data) or (path[0].language if path else None)


@dataclass(frozen=True, slots=True)
class Go:
    """A step to a menu, with a text before its prompt; made by `Menu.saying`."""

    menu: Menu
    text: Text


Step: TypeAlias = Menu | CallFlow | str | End | Again | Go | Back
"""A step: the target of a key, or the result of a handler.

A menu asks its question. A text is spoken, and then the same menu asks again. A call flow is carried out. If the flow
only speaks or plays, the same menu asks again afterwards.
"""

Handler: TypeAlias = Callable[[Caller], Step | Awaitable[Step]]
"""A function of the caller, sync (run in a thread) or async, that returns the next step."""

_DEFAULTS = Manner(retries=2, fallback=END, overall_timeout=timedelta(seconds=10), tries=1, after_bridge=AfterBridge())


def _numbers(name: str, inbound: bool | Collection[str]) -> bool | frozenset[str]:  # noqa: FBT001 - the parameter's own form
    if isinstance(inbound, bool):
        return inbound
    given = (inbound,) if isinstance(inbound, str) else tuple(inbound)
    for number in given:
        if not phone.is_e164(number):
            raise InvalidInputError(f"menu {name}: inbound {number!r} is not in E.164 form, such as +6531234567")
    return frozenset(phone.normalise(number) for number in given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The typed input that a menu takes. With `complete_on_hash`, # ends the input."""

    min_digits: int
    max_digits: int
    complete_on_hash: bool

    def takes(self, digits: str) -> bool:
        """True if this input has the right number of characters, and all of them are digits."""
        return self.min_digits <= len(digits) <= self.max_digits and digits.isascii() and digits.isdigit()
