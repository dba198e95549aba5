"""The menus of a receiver: the answer to each event of a call, and the handlers that give it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias, cast

import anyio
import orjson
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller, CallPhase, Position, Text, bridge_result, literal, spoken
from voiceflow_worker.ivr.check import is_handler, manner_of, menu_of, onto, reachable
from voiceflow_worker.ivr.menu import END, AfterBridge, Again, Back, End, Go, Handler, Menu, Step, language_of
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.callflow import CallFlow, actions_in
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction


class MenuResult(StrEnum):
    """The result of an event, for metrics and logs."""

    STARTED = "started"
    """The first question of a call was asked."""
    LED_ON = "led_on"
    """The keys were valid, and the next step followed."""
    ASKED_AGAIN = "asked_again"
    """A try brought a wrong key or none, and tries were left: the question was asked again."""
    GAVE_UP = "gave_up"
    """The last try brought a wrong key or none: the fallback followed. Or too many questions ended the call."""
    FAILED = "failed"
    """A handler or a prompt failed, or gave something that cannot be sent: the fallback or a hang-up followed."""
    TOO_SLOW = "too_slow"
    """A handler took longer than its limit: the fallback or a hang-up followed."""
    NOT_BRIDGED = "not_bridged"
    """The bridge was refused, for example because the other party is in a call: the fallback or a hang-up followed."""
    WENT_ON = "went_on"
    """A text, a recording or a bridge was over: the next action followed."""
    ENDED = "ended"
    """The menus had come to an end: the call was hung up."""
    NO_MENU = "no_menu"
    """No menu takes this call: the fallback of the default menu or a hang-up followed."""
    REPEATED = "repeated"
    """The event was answered before: it got the same answer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuAnswer:
    """The answer to an event: a valid call flow, with the next position in its `clientActionId`.

    `menu` is the name of the menu that asked, and `press` the keys pressed there, which the receiver stores. `trouble`
    describes a failure, and `error` is its exception, if any.
    """

    flow: CallFlow
    result: MenuResult
    menu: str = ""
    press: KeyPress | None = None
    trouble: str | None = None
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        """The body of the HTTP answer to 8x8."""
        return orjson.dumps(self.flow.to_body())


THREADS = 100
"""The most sync handlers that run at one time. A handler that hangs is abandoned, together with its thread."""


class HandlerTooSlowError(Exception):
    """Raised inside this package when a handler took longer than its limit."""


async def handled(handler: Handler, caller: Caller, *, limit: timedelta) -> Step:
    """Run a handler and return its step. Raises HandlerTooSlowError, and the errors of the handler."""
    step: Step | None = None
    with anyio.move_on_after(limit.total_seconds()) as scope:
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            step = await cast("Awaitable[Step]", handler(caller))
        else:
            given = await to_thread.run_sync(handler, caller, abandon_on_cancel=True, limiter=_threads())
            step = await given if inspect.isawaitable(given) else given
    if scope.cancelled_caught:
        raise HandlerTooSlowError(f"the handler took longer than {limit.total_seconds():g} s")
    return cast("Step", step)


_limiter: RunVar[CapacityLimiter] = RunVar("voiceflow-handler-threads")


def _threads() -> CapacityLimiter:
    """The limiter for threads of handlers. In the default limiter, handlers that hang would block other threads."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter


HANDLER_LIMIT = timedelta(seconds=3)
"""The default time limit of a handler. It is short, because a person waits for the answer. The limit that 8x8 sets for
an answer is not documented."""
MOST_QUESTIONS = 100
"""The largest number of questions in one call, so that a phone that was left off the hook is not asked for ever."""
SECRET = "***"  # noqa: S105 - the text stored in place of a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision about an event, before any handler has run.

    `path` leads to the menu that asked; the path is empty if no menu asked. `action` is the step or handler that
    follows, and `do` what is done before.
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
        """The name of the menu that asked; empty if no menu asked."""
        return self.path[-1].name if self.path else ""

    @property
    def runs_code(self) -> bool:
        """True if a handler will run, so that the plan must be carried out only once."""
        return self.do is not None or is_handler(self.action)


class Menus:
    """The first menus of a receiver, and all menus that they lead to.

    The first of `roots` is the default: it takes calls whose job names no menu. `beside` are further first menus, for
    calls whose job names them. A handler may return only these menus, because the next key may go to any replica of
    the receiver, and each replica must know the menu. Raises InvalidInputError for two menus with the same name.
    """

    def __init__(self, *roots: Menu, beside: Sequence[Menu] = (), handler_limit: timedelta = HANDLER_LIMIT) -> None:
        self.roots = roots
        self.all: tuple[Menu, ...] = tuple(reachable([*roots, *beside]))
        self._limit = handler_limit
        self._named: dict[str, Menu] = {}
        for menu in self.all:
            if self._named.setdefault(menu.name, menu) is not menu:
                raise InvalidInputError(f"two menus have the name {menu.name}: rename one of them")
        self._manner = lru_cache(maxsize=1024)(manner_of)

    @property
    def default(self) -> Menu | None:
        """The menu for calls whose job names no menu: the first root menu, or None."""
        return self.roots[0] if self.roots else None

    def has(self, name: str) -> bool:
        """Whether a menu has this name."""
        return name in self._named

    def taking(self, number: str | None) -> Menu | None:
        """The menu for calls to one of the account's numbers: a menu that names it, else a menu for all numbers."""
        for menu in self.all:
            if isinstance(menu.inbound, frozenset) and number in menu.inbound:
                return menu
        return next((menu for menu in self.all if menu.inbound is True), None)

    # -- an event in -------------------------------------------------------------------------------------------------

    def plan(self, event: CallAction, caller: Caller) -> Plan:
        """The plan for an event: the menu that asked, and the action that follows. No handler runs; never raises."""
        position = None if event.client_action_id is None else Position.read(event.client_action_id)
        if position is not None and position.phase is CallPhase.ENDED:
            return Plan(path=(), caller=caller, action=END, result=MenuResult.ENDED)
        path = self._path(position)
        if position is not None and position.phase is CallPhase.BRIDGED:
            return self._after_bridge(path, position, event, caller)
        if position is not None and path:
            return self._judged(path, position, event, caller)
        start = self._start(position, caller)
        if isinstance(start, str):
            fallback = self._manner((self.default,)).fallback if self.default else None
            near = (self.default,) if self.default else ()
            return Plan(path=near, caller=caller, action=_last_word(fallback), result=MenuResult.NO_MENU, trouble=start)
        if event.client_action_id is None and _is_of_our_call(event, caller):
            return self._of_our_call(start, event, caller)
        return self.begun(start, caller)

    def begun(self, menu: Menu, caller: Caller) -> Plan:
        """The plan to begin a call with a menu: with the menu's opening, if any, else with the menu's question."""
        action = menu if menu.opening is None else menu.opening
        at_menu = _at(caller, (menu,))
        return Plan(path=(menu,), caller=at_menu, action=action, result=MenuResult.STARTED)

    async def answer(self, plan: Plan, *, limit: timedelta | None = None) -> MenuAnswer:
        """Carry out a plan: run its handler, within `limit` (or the default limit), and build a flow. Never raises."""
        result, trouble, error = plan.result, plan.trouble, None
        flow: CallFlow | None = None
        try:
            if plan.do is not None:
                await handled(plan.do, plan.caller, limit=limit or self._limit)
            flow = await self._followed(plan, plan.action, limit or self._limit)
        except HandlerTooSlowError as failure:
            result, trouble = MenuResult.TOO_SLOW, str(failure)
        except Exception as failure:  # noqa: BLE001 - the caller gets an answer whatever a handler or prompt raises
            result, trouble, error = MenuResult.FAILED, _words(failure, plan), failure
        if flow is None:
            flow = await self._fallen_back(plan)
        return MenuAnswer(flow=flow, result=result, menu=plan.menu, press=plan.press, trouble=trouble, error=error)

    async def not_bridged(self, plan: Plan, reason: str) -> MenuAnswer:
        """The answer to a refused bridge: the fallback, or a hang-up if the fallback is a handler or another bridge."""
        flow = await self._fallen_back(plan)
        return MenuAnswer(
            flow=_hung_up() if flow.destinations else flow,
            result=MenuResult.NOT_BRIDGED,
            menu=plan.menu,
            press=plan.press,
            trouble=reason,
        )

    def _path(self, position: Position | None) -> tuple[Menu, ...]:
        """The menus of a position; empty if the last menu no longer exists, for example after a deployment."""
        if position is None or position.path[-1] not in self._named:
            return ()
        return tuple(menu for name in position.path if (menu := self._named.get(name)) is not None)

    def _start(self, position: Position | None, caller: Caller) -> Menu | str:
        """The menu that a call begins with, or the reason why there is none."""
        if position is not None and (root := self._named.get(position.path[0])) is not None:
            return root
        if caller.job is None:
            taking = self.taking(caller.our_number)
            return taking or "no menu takes calls that this store did not make; set inbound=True in a menu"
        if caller.job.menu is not None:
            name = caller.job.menu
            return self._named.get(name) or (
                f"this receiver does not serve the call's menu {name}; start a receiver that serves this menu"
            )
        return self.default or "the call names no menu, and this receiver has no default menu"

    def _of_our_call(self, start: Menu, event: CallAction, caller: Caller) -> Plan:
        """The plan for the first event of a call that a job made. This event comes from the job's own call flow."""
        actions = [] if caller.job is None else actions_in(caller.job.body)
        if Action.SAY_AND_CAPTURE in actions:
            is_first = actions[1:2] == [Action.SAY_AND_CAPTURE]
            phase = CallPhase.ASKED if is_first else CallPhase.STEPPING
            return self._judged((start,), Position(path=(start.name,), phase=phase), event, caller)
        if actions.count(Action.MAKE_CALL) > 1:
            position = Position(path=(start.name,), phase=CallPhase.BRIDGED)
            return self._after_bridge((start,), position, event, caller)
        if Action.HANGUP in actions and (caller.job is None or caller.job.menu is None):
            return Plan(path=(), caller=caller, action=END, result=MenuResult.WENT_ON)
        return self.begun(start, caller)

    def _after_bridge(self, path: tuple[Menu, ...], position: Position, event: CallAction, caller: Caller) -> Plan:
        """The plan after a bridge, by the settings of the menu that made it."""
        result = bridge_result(event)
        caller = replace(caller, bridge=result)
        plan = Plan(path=path, caller=caller, action=END, result=MenuResult.WENT_ON, asked=position.asked)
        if not path:
            return plan
        if position.asked >= MOST_QUESTIONS:
            return replace(plan, result=MenuResult.GAVE_UP, trouble=f"{MOST_QUESTIONS} questions were asked")
        after = self._manner(path).after_bridge or AfterBridge()
        return replace(plan, caller=_at(caller, path), action=after.of(result))

    def _judged(self, path: tuple[Menu, ...], position: Position, event: CallAction, caller: Caller) -> Plan:
        """The plan after key presses, or after silence, at the menu that asked."""
        menu, manner = path[-1], self._manner(path)
        digits = (event.dtmf or "").strip()
        if menu.captured.complete_on_hash:
            digits = digits.removesuffix("#")
        caller = replace(_at(caller, path), digits=digits)
        press = None
        choice = menu.find(digits) if digits else None
        if digits:
            at = event.timestamp or caller.now
            stored = SECRET if menu.secret else digits
            answer = None if choice is None else menu.answer_of(choice, caller)
            press = KeyPress(
                at=at, menu=menu.name, digits=stored, event_id=caller.event_id, answer=answer,
                leads_on=choice is not None,
            )  # fmt: skip
        plan = Plan(
            path=path, caller=caller, action=Again(), result=MenuResult.LED_ON, tries=position.tries,
            asked=position.asked, press=press,
        )  # fmt: skip
        if not digits and position.phase is CallPhase.STEPPING:
            # The text or recording before the question is probably over: no try is counted.
            return replace(plan, action=menu, result=MenuResult.WENT_ON)
        if position.asked >= MOST_QUESTIONS:
            return replace(
                plan, action=END, result=MenuResult.GAVE_UP, trouble=f"{MOST_QUESTIONS} questions were asked"
            )
        if choice is not None:
            return replace(plan, action=choice.action, do=choice.do)
        if position.tries >= (manner.retries or 0):
            return replace(plan, action=_last_word(manner.fallback), result=MenuResult.GAVE_UP)
        return replace(plan, result=MenuResult.ASKED_AGAIN)

    # -- a flow out --------------------------------------------------------------------------------------------------

    async def _followed(self, plan: Plan, action: Step | Handler, limit: timedelta) -> CallFlow:
        step, is_made = await self._step(plan, action, limit)
        if is_made and isinstance(step, Again) and plan.tries >= (self._manner(plan.path).retries or 0):
            step, is_made = await self._step(plan, _last_word(self._manner(plan.path).fallback), limit)
            step = END if isinstance(step, Again) else step
        return self._flow(plan, step, say=literal if is_made else spoken).validated()

    async def _step(self, plan: Plan, action: Step | Handler, limit: timedelta) -> tuple[Step, bool]:
        """The step of an action, and whether a handler returned it. A text from a handler is spoken unchanged."""
        if is_handler(action):
            return await handled(action, plan.caller, limit=limit), True
        return cast("Step", action), False

    async def _fallen_back(self, plan: Plan) -> CallFlow:
        """The answer after a plan has failed: the fallback, if it is a step that can be sent, or a hang-up."""
        fallback = _last_word(self._manner(plan.path).fallback) if plan.path else END
        try:
            if fallback != plan.action and not is_handler(fallback):
                return self._flow(plan, cast("Step", fallback), say=spoken).validated()
        except Exception:  # noqa: BLE001 - the first failure is the one that is reported
            return _hung_up()
        return _hung_up()

    def _flow(self, plan: Plan, step: Step, *, say: _Saying) -> CallFlow:
        path, caller = plan.path, plan.caller
        match step:
            case Menu() | Go():
                menu = cast("Menu", menu_of(step))
                if self._named.get(menu.name) is not menu:
                    raise InvalidInputError(
                        f"menu {menu.name} is not served by this receiver: declare it in the handler's leads_to"
                    )
                before = say(step.text, caller, self._manner(onto(path, menu)).voice) if isinstance(step, Go) else ""
                if plan.result is MenuResult.WENT_ON and menu is path[-1]:
                    return self._asked(plan, path, before=before, tries=plan.tries, plays=False)
                return self._asked(plan, onto(path, menu), before=before)
            case Back():
                return self._asked(plan, path[:-1] or path)
            case Again():
                manner = self._manner(path)
                reason = step.text if step.text is not None else manner.retry_text
                before = "" if reason is None else say(reason, caller, manner.voice)
                return self._asked(plan, path, before=before, tries=plan.tries + 1)
            case str():
                return self._asked(plan, path, before=say(step, caller, self._manner(path).voice))
            case End():
                return self._ended(plan, step.text, say)
            case CallFlow():
                return self._carried_out(plan, step)
            case _:
                raise InvalidInputError(
                    f"a handler returned {type(step).__name__}: return a menu, a call flow, a text, End, Again or BACK"
                )

    def _asked(
        self,
        plan: Plan,
        path: tuple[Menu, ...],
        *,
        before: str = "",
        tries: int = 0,
        begun: CallFlow | None = None,
        plays: bool = True,
    ) -> CallFlow:
        if not path:
            return _hung_up()
        menu, manner = path[-1], self._manner(path)
        if not menu.asks:
            # A menu without a question: the call ends after its opening text.
            flow = begun or CallFlow.reply()
            return _hung_up(flow.say(before, voice_profile=manner.voice(plan.caller)) if before else flow)
        position = Position(path=tuple(each.name for each in path), tries=tries, asked=plan.asked + 1)
        caller = _at(plan.caller, path)
        flow = menu.question(manner, caller, begun=begun or CallFlow.reply(), before=before, plays=plays)
        return flow.replace(client_action_id=_with_phase(position, flow).write())

    def _ended(self, plan: Plan, text: Text | None, say: _Saying) -> CallFlow:
        if text is None or not plan.path:
            return _hung_up()
        manner = self._manner(plan.path)
        voice = manner.voice(plan.caller)
        said = say(text, plan.caller, manner.voice)
        return _hung_up(CallFlow.reply().say(said, voice_profile=voice, speed=manner.speed) if said else None)

    def _carried_out(self, plan: Plan, flow: CallFlow) -> CallFlow:
        if not flow.is_reply:
            raise InvalidInputError("a handler returned CallFlow.call(…): use CallFlow.bridge(…) to connect somebody")
        actions = [entry.get("action") for entry in flow.actions]
        position = Position(path=tuple(menu.name for menu in plan.path) or ("end",), asked=plan.asked + 1)
        if Action.SAY_AND_CAPTURE in actions:
            return flow.replace(client_action_id=_with_phase(position, flow).write())
        if Action.HANGUP in actions:
            return flow.replace(client_action_id=_ENDED)
        if Action.MAKE_CALL in actions:
            return flow.replace(client_action_id=replace(position, phase=CallPhase.BRIDGED).write())
        return self._asked(plan, plan.path, begun=flow)


_Saying: TypeAlias = Callable[[Text, Caller, Callable[[Caller], str]], str]
_ENDED = Position(path=("end",), phase=CallPhase.ENDED).write()


def _with_phase(position: Position, flow: CallFlow) -> Position:
    """The position that is sent with a question. It records whether the flow has other actions before the question."""
    is_first = next(iter(flow.actions)).get("action") == Action.SAY_AND_CAPTURE
    return position if is_first else replace(position, phase=CallPhase.STEPPING)


def _words(failure: Exception, plan: Plan) -> str:
    """The text of a failure for the log; at a secret menu only its type, because the message may hold typed digits."""
    kind = type(failure).__name__
    if plan.path and plan.path[-1].secret:
        return kind
    return str(failure) if isinstance(failure, InvalidInputError) else f"{kind}: {failure}"


def _at(caller: Caller, path: tuple[Menu, ...]) -> Caller:
    return replace(caller, menu=path[-1].name, language=language_of(path, caller.data))


def _is_of_our_call(event: CallAction, caller: Caller) -> bool:
    """True if this event is about the job's own call flow."""
    if event.call_status is ActionStatus.CALL_RECEIVED or caller.job is None:
        return False
    return event.direction is not Direction.INBOUND


def _last_word(fallback: Step | Handler | None) -> Step | Handler:
    """The fallback; if it is a text, it becomes the last sentence of the call."""
    if fallback is None:
        return END
    return End(fallback) if isinstance(fallback, str) else fallback


def _hung_up(flow: CallFlow | None = None) -> CallFlow:
    return (flow or CallFlow.reply()).hangup().replace(client_action_id=_ENDED)
