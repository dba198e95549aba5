"""A menu: a question to the person on the phone, and what each answer leads to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, overload

from voiceflow_worker.core.ports.clock import SystemClock
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.bridging import AfterBridge
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.position import NAME
from voiceflow_worker.ivr.question import Captured, Manner, question
from voiceflow_worker.ivr.steps import Go, Handler, Step, Text
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers import phone

H = TypeVar("H", bound="Handler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way on from a menu: the `keys` that lead there, or for a capture what may be typed, and what follows.

    `action` is a step, or a handler that gives one; `leads_to` is what the handler is said to give.
    """

    keys: tuple[str, ...] = ()
    captured: Captured | None = None
    action: Step | Handler
    is_handler: bool
    leads_to: tuple[Step, ...] | None = None


class Menu:
    """A question, and what follows each answer to it.

    `prompt` is spoken: a text with `{name}` from the job's data, a text for each language, or a function of the caller.
    `play` is the address of a recording that is played before it. `again` is said before the prompt when what was
    pressed would not do, or nothing was; after `retries` such tries comes the `fallback`: a menu, a call flow, a text
    to end with, `END`, or a handler. It comes too when a handler fails.

    `opening` is what a call begins with where it does not begin with a question, as a call to one of the account's
    numbers: a step, or a handler. Without it such a call begins with the prompt. `after_bridge` says what follows once
    somebody else was called.

    `success_message`, `failure_message`, `tries` and `repetition` are 8x8's own parameters of a question: what it says
    after keys that will do and after none, how often it asks before it reports, how often it speaks the prompt.

    `overall_timeout` is how long the person may take, `digit_timeout` how long between two keys. The keys pressed at a
    `secret` menu are never stored. `inbound`: this menu answers calls to the account's numbers, to all of them or to
    those named.

    What is not given here is taken over from the menu that led here, and in the first one is: 2 retries, 10 s, hang up.
    Raises InvalidInputError for a name that is not made of 1 to 32 small letters, digits, - and _, no sign first.
    """

    def __init__(
        self,
        name: str,
        *,
        prompt: Text = "",
        opening: Step | Handler | None = None,
        voice_profile: Text | None = None,
        language: str | None = None,
        play: str | None = None,
        again: Text | None = None,
        retries: int | None = None,
        fallback: Step | Handler | None = None,
        after_bridge: AfterBridge | None = None,
        success_message: Text | None = None,
        failure_message: Text | None = None,
        tries: int | None = None,
        repetition: int | None = None,
        overall_timeout: timedelta | None = None,
        digit_timeout: timedelta | None = None,
        speed: float | None = None,
        secret: bool = False,
        inbound: bool | Collection[str] = False,
    ) -> None:
        if not NAME.fullmatch(name):
            raise InvalidInputError(
                f"{name!r} is no name for a menu: use 1 to 32 small letters, digits, - and _, a letter or digit first"
            )
        if retries is not None and not 0 <= retries <= 20:
            raise InvalidInputError(f"menu {name}: retries should be 0 to 20, not {retries}")
        if tries is not None and not 1 <= tries <= 20:
            raise InvalidInputError(f"menu {name}: tries should be 1 to 20, not {tries}")
        self.name = name
        self.prompt = prompt
        self.opening = opening
        self.play = play
        self.secret = secret
        self.inbound = _numbers(name, inbound)
        self.own = Manner(
            voice_profile=voice_profile,
            language=language,
            again=again,
            retries=retries,
            fallback=fallback,
            overall_timeout=overall_timeout,
            digit_timeout=digit_timeout,
            speed=speed,
            success_message=success_message,
            failure_message=failure_message,
            tries=tries,
            repetition=repetition,
            after_bridge=after_bridge,
        )
        self._choices: list[Choice] = []

    @property
    def choices(self) -> Sequence[Choice]:
        """Every way on, in the order in which they were declared."""
        return tuple(self._choices)

    @property
    def asks(self) -> bool:
        """Whether it has a question: a menu that only opens calls has none."""
        return bool(self._choices or self.prompt)

    @property
    def captured(self) -> Captured:
        """What may be typed at this menu, over all its choices."""
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
    def on(self, *keys: str, goto: Step) -> None: ...

    @overload
    def on(self, *keys: str, leads_to: Sequence[Step] | None = None) -> Callable[[H], H]: ...

    def on(
        self, *keys: str, goto: Step | None = None, leads_to: Sequence[Step] | None = None
    ) -> Callable[[H], H] | None:
        """What pressing any of these keys leads to: `goto`, or else what the decorated handler returns.

        A key is one of 0-9, *, #, or several of them (`"42"`). A handler is told the `Caller` and returns a menu, a
        call flow, a text to say before this menu is asked again, `End`, `Again` or `BACK`. `leads_to` tells which
        menus, where they cannot be seen in the handler's own names: pictures and the other replicas need to know.
        """
        if not keys:
            raise InvalidInputError(f"menu {self.name}: on() needs a key, such as on('1')")
        if goto is not None:
            self._choices.append(Choice(keys=keys, action=goto, is_handler=False))
            return None

        def register(handler: H) -> H:
            self._choices.append(_handled(handler, keys=keys, leads_to=leads_to))
            return handler

        return register

    def capture(
        self,
        *,
        max_digits: int,
        min_digits: int = 1,
        complete_on_hash: bool = True,
        leads_to: Sequence[Step] | None = None,
    ) -> Callable[[H], H]:
        """The decorated handler takes what is typed, as `caller.digits`: from `min_digits` to `max_digits` of them.

        It returns what `on` handlers do; `Again("…")` asks once more. Keys of `on` come first, if they are typed
        alone. With `complete_on_hash` the # key ends the input early, and is no part of it. What holds a * or another #
        is a wrong key: the handler gets nothing but digits.
        """
        captured = Captured(min_digits=min_digits, max_digits=max_digits, complete_on_hash=complete_on_hash)

        def register(handler: H) -> H:
            self._choices.append(_handled(handler, captured=captured, leads_to=leads_to))
            return handler

        return register

    def saying(self, text: Text) -> Go:
        """This menu, with a text before its prompt: `return main.saying("Your table is booked.")`."""
        return Go(self, text)

    def call(
        self, destination: str, *, source: str, data: Mapping[str, object] | None = None, at: datetime | None = None
    ) -> CallFlow:
        """A call that begins with this menu's question; hand it in with the menu's name and the same data.

        `queue.enqueue(menu.call(…, data=data), menu=menu.name, data=data)`. `at` is the time that a prompt which is a
        function of the caller is told; now, unless given. Raises InvalidInputError when the menu names no voice, or a
        value of its prompt is missing.
        """
        caller = Caller(
            now=at or SystemClock().now(),
            menu=self.name,
            number=phone.normalise(destination) if phone.is_e164(destination) else destination,
            our_number=source,
            data=data or {},
        )
        return question(self, self.own.completed(), caller, begun=CallFlow.call(destination, source=source))

    def find(self, digits: str) -> Choice | None:
        """The choice that these digits mean; None for a wrong key."""
        for choice in self._choices:
            if digits in choice.keys:
                return choice
        for choice in self._choices:
            if choice.captured is not None and choice.captured.takes(digits):
                return choice
        return None

    def __repr__(self) -> str:
        return f"<Menu {self.name}>"


def _handled(
    handler: Handler,
    *,
    keys: tuple[str, ...] = (),
    captured: Captured | None = None,
    leads_to: Sequence[Step] | None,
) -> Choice:
    return Choice(
        keys=keys,
        captured=captured,
        action=handler,
        is_handler=True,
        leads_to=None if leads_to is None else tuple(leads_to),
    )


def _numbers(name: str, inbound: bool | Collection[str]) -> bool | frozenset[str]:  # noqa: FBT001 - the parameter's own form
    if isinstance(inbound, bool):
        return inbound
    given = (inbound,) if isinstance(inbound, str) else tuple(inbound)
    for number in given:
        if not phone.is_e164(number):
            raise InvalidInputError(f"menu {name}: inbound {number!r} is no phone number in E.164 form")
    return frozenset(phone.normalise(number) for number in given)
