"""The menus of a receiver: the answer to each event of a call, and the handlers that give it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias, cast

import anyio
import orjson
from anyio import CapacityLimiter, to_thread

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller, CallPhase, Position, Text, as_returned, render
from voiceflow_worker.ivr.check import reachable
from voiceflow_worker.ivr.menu import (
    END,
    Back,
    End,
    GoTo,
    Handler,
    Menu,
    MenuSettings,
    Retry,
    Step,
    is_step,
    language_of,
    menu_of,
    settings_of,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.callflow import CallFlow, actions_in
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction


class MenuResult(StrEnum):
    """The result of an event, for metrics and logs."""

    STARTED = "started"
    LED_ON = "led_on"
    ASKED_AGAIN = "asked_again"
    GAVE_UP = "gave_up"
    FAILED = "failed"
    TOO_SLOW = "too_slow"
    NOT_BRIDGED = "not_bridged"
    WENT_ON = "went_on"
    ENDED = "ended"
    NO_MENU = "no_menu"
    REPEATED = "repeated"


THREADS = 100
"""The most sync handlers that run at one time. A handler that hangs is abandoned, together with its thread."""


class HandlerTooSlowError(Exception):
    """Raised inside this package when a handler took longer than its limit."""


HANDLER_LIMIT = timedelta(seconds=3)
"""The default time limit of a handler. It is short, because a person waits for the answer. The limit that 8x8 sets for
an answer is not documented."""
MOST_QUESTIONS = 100
"""The largest number of questions in one call, so that a phone that was left off the hook is not asked for ever."""
SECRET = "***"  # noqa: S105 - the text stored in place of a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The consequence of an event, before any handler has run.

    `path` leads to the menu that asked. `action` is the step or handler that follows, and `do` is run before it.
    """

    path: tuple[Menu, ...]
    caller: Caller
    action: Step | Handler
    result: MenuResult
    tries: int = 0
    asked: int = 0
    press: KeyPress | None = None
    trouble: str | None = None
    do: Callable[[Caller], Any] | None = None

    @property
    def menu(self) -> str:
        """Name of the menu that asked; empty if no menu asked."""
        return self.path[-1].name if self.path else ""

    @property
    def runs_code(self) -> bool:
        """True if a handler will run, so that the decision must be carried out only once."""
        return self.do is not None or not is_step(self.action)

    @property
    def settings(self) -> MenuSettings:
        """Settings of the menu that asked; the defaults if no menu asked."""
        return settings_of(self.path[-1], self.path[0]) if self.path else MenuSettings()

    @property
    def fallback(self) -> Step | Handler:
        """Fallback of the menu that asked; a text becomes the last sentence of the call."""
        fallback = self.settings.fallback
        if fallback is None:
            return END
        return End(fallback) if isinstance(fallback, str) else fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuReply:
    """The answer to an event: a valid call flow, with the next position in its `clientActionId`.

    `trouble` describes a failure, and `error` is its exception, if any.
    """

    decision: Decision
    flow: CallFlow
    result: MenuResult
    trouble: str | None = None
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        """Body of the HTTP answer to 8x8."""
        return orjson.dumps(self.flow.to_body())


class Menus:
    """The first menus of a receiver, and all menus that they lead to. The first of `roots` is the default.

    A handler may return only these menus, because the next key may go to another replica of the receiver. Raises
    InvalidInputError for two menus with the same name.
    """

    def __init__(self, *roots: Menu, handler_limit: timedelta = HANDLER_LIMIT) -> None:
        self._roots = roots
        self.all: tuple[Menu, ...] = tuple(reachable(roots))
        self._limit = handler_limit
        self._threads = CapacityLimiter(THREADS)
        """The threads of handlers. In the default ones, handlers that hang would block other work."""
        self._named: dict[str, Menu] = {}
        for menu in self.all:
            if self._named.setdefault(menu.name, menu) is not menu:
                raise InvalidInputError(f"two menus have the name {menu.name}: rename one of them")

    def has(self, name: str) -> bool:
        """Return whether a menu has this name."""
        return name in self._named

    # -- an event in -------------------------------------------------------------------------------------------------

    def decide(self, event: CallAction, caller: Caller) -> Decision:
        """Return the consequence of an event: the menu that asked, and its action. No handler runs; never raises."""
        position = None if event.client_action_id is None else Position.read(event.client_action_id)
        if position is not None and position.phase is CallPhase.ENDED:
            return Decision(path=(), caller=caller, action=END, result=MenuResult.ENDED)
        path = self._path(position)
        if position is not None and path:
            return self._by_keys(path, position, event, caller)
        first = self._first(position, caller)
        if isinstance(first, str):
            decision = Decision(
                path=self._roots[:1], caller=caller, action=END, result=MenuResult.NO_MENU, trouble=first
            )
            return replace(decision, action=decision.fallback)
        if event.client_action_id is None and _is_of_our_call(event, caller):
            return self._of_our_call(first, event, caller)
        return self.first_question(first, caller)

    def first_question(self, menu: Menu, caller: Caller) -> Decision:
        """Return the beginning of a call in a menu: the menu's opening, if any, else the menu's question."""
        action = menu if menu.opening is None else menu.opening
        return Decision(path=(menu,), caller=_at(caller, (menu,)), action=action, result=MenuResult.STARTED)

    async def answer(self, decision: Decision, *, limit: timedelta | None = None) -> MenuReply:
        """Carry out a decision: run its handler, within `limit` or the default, and build a flow. Never raises."""
        result, trouble, error = decision.result, decision.trouble, None
        flow: CallFlow | None = None
        try:
            if decision.do is not None:
                await self._run(decision.do, decision.caller, limit=limit or self._limit)
            flow = await self._followed(decision, limit or self._limit)
        except HandlerTooSlowError as failure:
            result, trouble = MenuResult.TOO_SLOW, str(failure)
        except Exception as failure:  # noqa: BLE001 - the caller gets an answer whatever a handler or prompt raises
            result, trouble, error = MenuResult.FAILED, _failure_text(failure, decision), failure
        if flow is None:
            flow = self._fallen_back(decision)
        return MenuReply(decision=decision, flow=flow, result=result, trouble=trouble, error=error)

    def not_bridged(self, decision: Decision, reason: str) -> MenuReply:
        """Return the answer to a refused bridge: the fallback, or a hang-up if that is a handler or another bridge."""
        flow = self._fallen_back(decision)
        flow = _hung_up() if flow.destinations else flow
        return MenuReply(decision=decision, flow=flow, result=MenuResult.NOT_BRIDGED, trouble=reason)

    def _path(self, position: Position | None) -> tuple[Menu, ...]:
        """Return the menus of a position; none if the last one no longer exists, for example after a deployment."""
        if position is None or position.path[-1] not in self._named:
            return ()
        return tuple(menu for name in position.path if (menu := self._named.get(name)) is not None)

    def _first(self, position: Position | None, caller: Caller) -> Menu | str:
        """Return the menu that a call begins with, or the reason why there is none."""
        if position is not None and (first := self._named.get(position.path[0])) is not None:
            return first
        if caller.job is None:
            of_number = (menu for menu in self.all if _takes(menu, caller.our_number))
            of_all = (menu for menu in self.all if menu.inbound is True)
            inbound = next(of_number, next(of_all, None))
            return inbound or "no menu takes calls that this store did not make; set inbound=True in a menu"
        if (name := caller.job.menu) is not None:
            return self._named.get(name) or (
                f"this receiver does not serve the call's menu {name}; start a receiver that serves this menu"
            )
        return next(iter(self._roots), None) or "the call names no menu, and this receiver has no default menu"

    def _of_our_call(self, first: Menu, event: CallAction, caller: Caller) -> Decision:
        """Return what follows the first event of a call that a job made. It comes from the job's own call flow."""
        actions = [] if caller.job is None else actions_in(caller.job.body)
        if Action.SAY_AND_CAPTURE in actions:
            is_first = actions[1:2] == [Action.SAY_AND_CAPTURE]
            phase = CallPhase.ASKED if is_first else CallPhase.STEPPING
            return self._by_keys((first,), Position(path=(first.name,), phase=phase), event, caller)
        is_over = Action.HANGUP in actions and (caller.job is None or caller.job.menu is None)
        if is_over or actions.count(Action.MAKE_CALL) > 1:
            return Decision(path=(), caller=caller, action=END, result=MenuResult.WENT_ON)
        return self.first_question(first, caller)

    def _by_keys(self, path: tuple[Menu, ...], position: Position, event: CallAction, caller: Caller) -> Decision:
        """Return what follows key presses, or silence, at the menu that asked."""
        menu = path[-1]
        digits = (event.dtmf or "").strip()
        if menu.captured.complete_on_hash:
            digits = digits.removesuffix("#")
        caller = replace(_at(caller, path), digits=digits)
        press = None
        choice = menu.find(digits) if digits else None
        if digits:
            press = KeyPress(
                at=event.timestamp or caller.now,
                menu=menu.name,
                digits=SECRET if menu.secret else digits,
                event_id=caller.event_id,
                answer=None if choice is None else choice.result,
                leads_on=choice is not None,
            )
        decision = Decision(
            path=path, caller=caller, action=Retry(), result=MenuResult.LED_ON, tries=position.tries,
            asked=position.asked, press=press,
        )  # fmt: skip
        if not digits and position.phase is CallPhase.STEPPING:
            # The text or recording before the question is probably over: no try is counted.
            return replace(decision, action=menu, result=MenuResult.WENT_ON)
        if position.asked >= MOST_QUESTIONS:
            why = f"{MOST_QUESTIONS} questions were asked"
            return replace(decision, action=END, result=MenuResult.GAVE_UP, trouble=why)
        if choice is not None:
            return replace(decision, action=choice.action, do=choice.do)
        if position.tries >= (decision.settings.retries or 0):
            return replace(decision, action=decision.fallback, result=MenuResult.GAVE_UP)
        return replace(decision, result=MenuResult.ASKED_AGAIN)

    # -- a flow out --------------------------------------------------------------------------------------------------

    async def _run(self, handler: Handler, caller: Caller, *, limit: timedelta) -> Step:
        """Run a handler and return its step. Raises HandlerTooSlowError, and the errors of the handler."""
        step: Step | None = None
        with anyio.move_on_after(limit.total_seconds()) as scope:
            if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
                step = await cast("Awaitable[Step]", handler(caller))
            else:
                returned = await to_thread.run_sync(handler, caller, abandon_on_cancel=True, limiter=self._threads)
                step = await returned if inspect.isawaitable(returned) else returned
        if scope.cancelled_caught:
            raise HandlerTooSlowError(f"the handler took longer than {limit.total_seconds():g} s")
        return cast("Step", step)

    async def _followed(self, decision: Decision, limit: timedelta) -> CallFlow:
        action, caller = decision.action, decision.caller
        step = action if is_step(action) else await self._run(action, caller, limit=limit)
        if action is not step and isinstance(step, Retry) and decision.tries >= (decision.settings.retries or 0):
            action = decision.fallback
            step = action if is_step(action) else await self._run(action, caller, limit=limit)
            step = END if isinstance(step, Retry) else step
        return self._flow(decision, step, say=render if is_step(action) else as_returned).validated()

    def _fallen_back(self, decision: Decision) -> CallFlow:
        """Return the answer after a failure: the fallback, if it is a step that can be sent, or a hang-up."""
        fallback = decision.fallback if decision.path else END
        try:
            if fallback != decision.action and is_step(fallback):
                return self._flow(decision, fallback, say=render).validated()
        except Exception:  # noqa: BLE001 - the first failure is the one that is reported
            return _hung_up()
        return _hung_up()

    def _flow(self, decision: Decision, step: Step, *, say: _Say) -> CallFlow:
        path, caller, settings = decision.path, decision.caller, decision.settings
        match step:
            case Menu() | GoTo():
                menu = cast("Menu", menu_of(step))
                if self._named.get(menu.name) is not menu:
                    raise InvalidInputError(
                        f"menu {menu.name} is not served by this receiver: declare it in the handler's leads_to"
                    )
                longer = path[: path.index(menu) + 1] if menu in path else (*path, menu)
                voice = settings_of(menu, longer[0]).voice(caller) if isinstance(step, GoTo) else None
                before = say(step.text, caller, voice) if isinstance(step, GoTo) else ""
                if decision.result is MenuResult.WENT_ON and menu is path[-1]:
                    return self._asked(decision, path, before=before, tries=decision.tries)
                return self._asked(decision, longer, before=before)
            case Back():
                return self._asked(decision, path[:-1] or path)
            case Retry():
                reason = step.text if step.text is not None else settings.retry_text
                before = "" if reason is None else say(reason, caller, settings.voice(caller))
                return self._asked(decision, path, before=before, tries=decision.tries + 1)
            case str():
                return self._asked(decision, path, before=say(step, caller, settings.voice(caller)))
            case End():
                if step.text is None or not path:
                    return _hung_up()
                voice = settings.voice(caller)
                text = say(step.text, caller, voice)
                last = CallFlow.reply().say(text, voice_profile=voice) if text else None
                return _hung_up(last)
            case CallFlow():
                return self._carried_out(decision, step)
            case _:
                raise InvalidInputError(
                    f"a handler returned {type(step).__name__}: return a menu, a call flow, a text, End, Retry or BACK"
                )

    def _asked(
        self,
        decision: Decision,
        path: tuple[Menu, ...],
        *,
        before: str = "",
        tries: int = 0,
        flow: CallFlow | None = None,
    ) -> CallFlow:
        if not path:
            return _hung_up()
        menu, settings = path[-1], settings_of(path[-1], path[0])
        flow = flow or CallFlow.reply()
        if not menu.asks:
            # A menu without a question: the call ends after its opening text.
            return _hung_up(flow.say(before, voice_profile=settings.voice(decision.caller)) if before else flow)
        position = Position(path=tuple(each.name for each in path), tries=tries, asked=decision.asked + 1)
        caller = _at(decision.caller, path)
        voice = settings.voice(caller)
        prompt = render(menu.prompt, caller, voice)
        flow = menu.question(flow, prompt, settings, voice_profile=voice, before=before)
        return flow.replace(client_action_id=_with_phase(position, flow).write())

    def _carried_out(self, decision: Decision, flow: CallFlow) -> CallFlow:
        if not flow.is_reply:
            raise InvalidInputError("a handler returned CallFlow.call(…): use CallFlow.bridge(…) to connect somebody")
        actions = [entry.get("action") for entry in flow.actions]
        position = Position(path=tuple(menu.name for menu in decision.path) or ("end",), asked=decision.asked + 1)
        if Action.SAY_AND_CAPTURE in actions:
            return flow.replace(client_action_id=_with_phase(position, flow).write())
        if Action.HANGUP in actions or Action.MAKE_CALL in actions:
            return flow.replace(client_action_id=_ENDED)
        return self._asked(decision, decision.path, flow=flow)


_Say: TypeAlias = Callable[[Text, Caller, str | None], str]
_ENDED = Position(path=("end",), phase=CallPhase.ENDED).write()


def _takes(menu: Menu, number: str | None) -> bool:
    """Return True if the menu names this number of the account."""
    return isinstance(menu.inbound, frozenset) and number in menu.inbound


def _with_phase(position: Position, flow: CallFlow) -> Position:
    """Return the position that is sent with a question. It records whether the flow has actions before the question."""
    is_first = next(iter(flow.actions)).get("action") == Action.SAY_AND_CAPTURE
    return position if is_first else replace(position, phase=CallPhase.STEPPING)


def _failure_text(failure: Exception, decision: Decision) -> str:
    """Return a failure for the log; at a secret menu only its type, because the message may hold typed digits."""
    kind = type(failure).__name__
    if decision.path and decision.path[-1].secret:
        return kind
    return str(failure) if isinstance(failure, InvalidInputError) else f"{kind}: {failure}"


def _at(caller: Caller, path: tuple[Menu, ...]) -> Caller:
    return replace(caller, menu=path[-1].name, language=language_of(path[-1], path[0], caller.data))


def _is_of_our_call(event: CallAction, caller: Caller) -> bool:
    """Return True if this event is about the job's own call flow."""
    if event.call_status is ActionStatus.CALL_RECEIVED or caller.job is None:
        return False
    return event.direction is not Direction.INBOUND


def _hung_up(flow: CallFlow | None = None) -> CallFlow:
    return (flow or CallFlow.reply()).hangup().replace(client_action_id=_ENDED)
