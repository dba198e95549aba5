"""The exchange, which dials accepted calls, connects incoming calls, runs them, and reports their ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from functools import partial
from random import Random

from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.reports.events import ActionStatus, Direction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.account import SandboxAccount
from voiceflow_worker.sandbox.call import Call, FlowRequest, SessionLeg
from voiceflow_worker.sandbox.call_events import (
    Activity,
    InboundEntry,
    InboundOrder,
    session_seconds,
    sip_code_of,
)
from voiceflow_worker.sandbox.event_maker import EventMaker, Refusal, judged_reply
from voiceflow_worker.sandbox.exports import LogRows
from voiceflow_worker.sandbox.orders import EventKind, RecordingOrder, Recordings, Script, SimulatedCaller
from voiceflow_worker.sandbox.outcomes import (
    Outcomes,
    Question,
    heard_of,
    is_interactive,
    listen,
    read_question,
    repetitions,
    seconds_of,
    seconds_to_say,
    text,
    too_late,
)
from voiceflow_worker.sandbox.wire import LegStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The parts of the sandbox that every conversation uses, and the speed of the sandbox."""

    account: SandboxAccount
    events: EventMaker
    recordings: Recordings
    speed: float


class _End(Enum):
    """The reason why the actions of a call ended."""

    IN_ORDER = auto()
    HUNG_UP = auto()


class Conversation:
    """The course of one call, from the moment when the person answers to its end. Results are recorded in the call.

    Times are in simulated seconds since dialling.
    """

    def __init__(self, call: Call, stage: Stage) -> None:
        script = call.script
        self._call = call
        self._stage = stage
        self._now = call.plan.ring_seconds
        self._dice = Random(f"{call.plan.luck}/conversation")
        self._caller = SimulatedCaller(Random(f"{call.plan.luck}/keys"), None if script is None else script.keys)
        self._action_seconds = None if script is None else script.action_seconds
        self._heard: list[str] = []
        self._pressed: list[str | None] = []
        self._second: SessionLeg | None = None
        call.entry.heard, call.entry.pressed = self._heard, self._pressed

    async def play(self) -> None:
        """Run the conversation."""
        call, leg = self._call, self._call.first_leg
        leg.connected, leg.status = self._now, SessionStatus.COMPLETED
        self._stage.events.status(call, leg, LegStatus.CONNECTED, at=self._now)
        end = await self._course()
        if self._second is not None:
            await self._hang_up_second(self._second, talks=end is _End.IN_ORDER)
        self._hang_up(leg)
        call.plan = replace(call.plan, talk_seconds=leg.ended - leg.connected)
        if call.plan.status is SessionStatus.COMPLETED:
            # With two legs the session's status is that of the second (8x8 number masking guide, "Session statuses").
            call.plan = replace(call.plan, status=call.legs[-1].status)
        if isinstance(end, Refusal):
            call.plan = replace(call.plan, status=SessionStatus.ERROR, code=end.code, message=end.message)
        for recorded in call.legs:
            if recorded.is_recorded and recorded.connected is not None:
                self._record(recorded, recorded.ended - recorded.connected)

    async def _course(self) -> _End | Refusal:
        """Run the actions up to the hang-up, the end of the actions, or an error."""
        actions = list(self._call.request.actions[1:])
        if not self._call.request.actions:
            reply = await self._ask(ActionStatus.CALL_RECEIVED, None)
            if isinstance(reply, Refusal):
                return reply
            actions = reply
        while actions:
            entry = actions.pop(0)
            action, params = read_action(entry)
            if action is Action.MAKE_CALL and self._second is not None:
                break  # only two parties can talk; a third is not called
            self._call.last_action = action or self._call.last_action
            match action:
                case Action.HANGUP:
                    break
                case Action.SAY_AND_CAPTURE:
                    question = read_question(params)
                    digits, hung_up = await self._question(question, params)
                    if hung_up:
                        return _End.HUNG_UP
                    if self._stage.events.can_ask(self._call):
                        reply = await self._ask(ActionStatus.ACTION_COMPLETED, digits)
                        if isinstance(reply, Refusal):
                            return reply
                        actions = reply
                case _:
                    following = await self._step(action, params)
                    if isinstance(following, Refusal):
                        return following
                    actions = actions if following is None else following
        return _End.IN_ORDER

    async def _step(self, action: Action | None, params: Mapping[str, object]) -> list[object] | Refusal | None:
        """Carry out an action other than a question. Returns the next actions, or None if the receiver is not asked."""
        script = self._call.script
        asks = script is not None and script.steps and self._stage.events.can_ask(self._call)
        sip_code = 200
        if action is Action.MAKE_CALL:
            await self._call_second(params)
            sip_code = sip_code_of(self._call.legs[-1].status)
            if asks and self._second is not None:
                await self._hang_up_second(self._second, talks=True)
                self._second = None
        else:
            await self._play(action, params)
        return await self._ask(ActionStatus.ACTION_COMPLETED, None, sip_code=sip_code) if asks else None

    # -- actions -----------------------------------------------------------------------------------------------------

    async def _play(self, action: Action | None, params: Mapping[str, object]) -> None:
        said = wording(action, params)
        for _ in range(repetitions(params)):
            if said is not None:
                await self._say(said, seconds_of(action, params))

    async def _question(self, question: Question, params: Mapping[str, object]) -> tuple[str | None, bool]:
        """Return the digits that counted, and whether the person hung up. Too few digits are returned as None."""
        presses = self._caller.answer(fewest=question.min_digits)
        for attempt in range(question.tries):
            await self._play(Action.SAY_AND_CAPTURE, params)
            heard = listen(question, presses[min(attempt, len(presses) - 1)])
            await self._pass(heard.seconds)
            if heard.hung_up:
                return None, True
            message = text(params, "failureMessage" if heard.digits is None else "successMessage")
            if message:
                await self._say(message, seconds_to_say(message, params))
            if heard.digits is not None:
                self._pressed.append(heard.digits)
                return heard.digits, False
        self._pressed.append(None)
        return None, False

    async def _ask(self, status: ActionStatus, dtmf: str | None, *, sip_code: int = 200) -> list[object] | Refusal:
        """Return the next actions from the receiver."""
        asked = await self._stage.events.ask(self._call, status, dtmf=dtmf, at=self._now, sip_code=sip_code)
        self._now += asked.seconds
        reply = judged_reply(asked.answer, self._stage.account)
        if isinstance(reply, Refusal):
            return reply
        # The service sends the last id that a reply had (8x8 voice call action guide).
        self._call.client_action_id = reply.client_action_id or self._call.client_action_id
        return list(reply.actions)

    async def _call_second(self, params: Mapping[str, object]) -> None:
        script, events = self._call.script, self._stage.events
        wanted = None if script is None else script.bridge_outcome
        leg = SessionLeg(
            source=text(params, "source"),
            destination=text(params, "destination"),
            dialled=self._now,
            status=SessionStatus(wanted or "COMPLETED"),
            is_recorded=params.get("callRecording") is True,
        )
        self._call.legs.append(leg)
        leg.rings(self._call.entry)
        events.status(self._call, leg, LegStatus.INITIATED, at=self._now)
        await self._pass(self._dice.uniform(20, 40) if wanted == "NO_ANSWER" else self._dice.uniform(2, 10))
        if leg.status is SessionStatus.COMPLETED:
            leg.connected = self._now
            self._second = leg
            self._call.entry.bridged_to = leg.destination
            events.status(self._call, leg, LegStatus.CONNECTED, at=self._now)
        else:
            self._hang_up(leg)

    async def _hang_up_second(self, leg: SessionLeg, *, talks: bool) -> None:
        """End the leg of the second party. If `talks`, the two people talk first."""
        script, seconds = self._call.script, self._dice.uniform(20, 90)
        if script is not None and script.bridge_seconds is not None:
            seconds = script.bridge_seconds
        elif isinstance(script, Script) and script.talk_seconds is not None:
            seconds = script.talk_seconds
        if talks:
            await self._pass(seconds)
        self._hang_up(leg)

    def _hang_up(self, leg: SessionLeg) -> None:
        leg.ended = self._now
        leg.ends()
        self._stage.events.status(self._call, leg, LegStatus.DISCONNECTED, at=self._now)

    def _record(self, leg: SessionLeg, seconds: float) -> None:
        name = f"recordings/{self._call.session_id}/{leg.call_id}.mp3"
        recording = RecordingOrder(
            session_id=self._call.session_id,
            url=name,
            seconds=round(seconds, 3),
            started_at=self._call.moment(leg.connected or 0.0),
        )
        self._stage.recordings.add(recording)
        self._stage.events.recording(self._call, recording)

    # -- time --------------------------------------------------------------------------------------------------------

    async def _say(self, said: str, seconds: float) -> None:
        self._heard.append(said)
        await self._pass(seconds if self._action_seconds is None else self._action_seconds)

    async def _pass(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._now += seconds
        if seconds > 0:
            await asyncio.sleep(seconds / self._stage.speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The calls in progress. `now` returns the sandbox's time.

    A call with a fixed plan needs only timers. A call with questions or a second party runs in its own task.
    """

    activity: Activity
    stage: Stage
    log: LogRows
    now: Callable[[], datetime]

    def place(self, call: Call) -> None:
        """Dial an accepted call, now or at the time in its plan."""
        if call.plan.dial_seconds > 0:
            self._after(call.plan.dial_seconds, partial(self._dial, call))
        else:
            self._dial(call)

    def put_through(self, call: Call) -> None:
        """Connect an incoming call, whose actions come from the account's receiver."""
        call.dialled_at = self.now()
        leg = SessionLeg(source=call.request.source, destination=call.request.destination, direction=Direction.INBOUND)
        call.legs.append(leg)
        self.stage.events.status(call, leg, LegStatus.RECEIVED, at=0.0)
        self._converse(call)

    def _dial(self, call: Call) -> None:
        valid_until = call.request.valid_until
        now = self.now()
        if valid_until is not None and now >= valid_until:
            call.plan = too_late(call.plan)
        else:
            call.dialled_at = now
            call.entry.rang = call.plan.rings
        plan = call.plan
        if call.entry.rang:
            converses = plan.is_answered and is_interactive(call.request.actions)
            self._ring(call, converses=converses)
            if converses:
                self._after(plan.ring_seconds, partial(self._converse, call))
                return
        self._after(plan.ring_seconds + plan.talk_seconds + plan.lag_seconds, partial(self._end_as_planned, call))

    def _ring(self, call: Call, *, converses: bool) -> None:
        """Ring the phone, and report the state of the leg. Without a conversation, also schedule the later states."""
        plan, request, events = call.plan, call.request, self.stage.events
        ended = plan.ring_seconds + plan.talk_seconds
        leg = SessionLeg(
            source=request.source,
            destination=request.destination,
            connected=plan.ring_seconds if plan.is_answered else None,
            ended=ended,
            status=plan.status,
        )
        call.legs.append(leg)
        leg.rings(call.entry)
        if not events.tells_statuses(call):
            return
        events.status(call, leg, LegStatus.INITIATED, at=0.0)
        if not converses:
            if leg.connected is not None:
                self._after(leg.connected, partial(events.status, call, leg, LegStatus.CONNECTED, at=leg.connected))
            self._after(ended, partial(events.status, call, leg, LegStatus.DISCONNECTED, at=ended))

    def _converse(self, call: Call) -> None:
        self.activity.run(self._conversation(call))

    async def _conversation(self, call: Call) -> None:
        await Conversation(call, self.stage).play()
        self._after(call.plan.lag_seconds, partial(self._end, call))

    def _end_as_planned(self, call: Call) -> None:
        """End a call that had no conversation."""
        actions = call.request.actions
        for leg in call.legs:
            leg.ends(ago=call.plan.lag_seconds / self.stage.speed)
        if call.plan.is_answered:
            call.entry.heard = tuple(heard_of(actions))
            call.last_action = read_action(actions[-1])[0] or call.last_action
        self._end(call)

    def _end(self, call: Call) -> None:
        call.entry.outcome, call.entry.seconds = call.plan.status.value, session_seconds(call)
        self.log.add(call)
        self.stage.events.summary(call)

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self.activity.after(seconds / self.stage.speed, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchboard:
    """The switchboard, which makes and lists the incoming calls that orders ask for."""

    account: SandboxAccount
    outcomes: Outcomes
    exchange: Exchange
    entries: list[InboundEntry] = field(default_factory=list[InboundEntry])

    def call(self, order: InboundOrder) -> InboundEntry:
        """Start an incoming call now. Its entry is updated while the call goes on.

        Raises ValueError if the account does not own the number, or has no webhook for call actions.
        """
        sub_account = self.sub_account_of(order)
        entry = InboundEntry(
            at=time.time(), source=order.source, destination=order.destination, sub_account=sub_account
        )
        call = Call(
            request=FlowRequest(source=order.source, destination=order.destination),
            sub_account=sub_account,
            accepted_at=entry.at,
            plan=self.outcomes.inbound(order.source.lstrip("+")),
            entry=entry,
            script=order,
        )
        entry.session_id = call.session_id
        self.entries.append(entry)
        self.exchange.put_through(call)
        return entry

    def sub_account_of(self, order: InboundOrder) -> str:
        """Return the sub-account of the call. Raises ValueError if the account lacks the number or a VCA webhook."""
        if not self.account.owns(order.destination):
            raise ValueError(f"{order.destination} is not one of the account's numbers")
        sub_account = order.sub_account or self.account.first_with(EventKind.VCA)
        if sub_account is None or self.account.hook(sub_account, EventKind.VCA) is None:
            raise ValueError("no webhook answers the call: register a VCA webhook, or start the sandbox with --webhook")
        return sub_account
