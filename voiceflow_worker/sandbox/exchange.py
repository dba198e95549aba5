"""The exchange, which dials accepted calls, runs them, and reports their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.call import Call, SessionLeg
from voiceflow_worker.sandbox.call_events import Activity, session_seconds
from voiceflow_worker.sandbox.delivery import Delivery, Refusal
from voiceflow_worker.sandbox.exports import Exports
from voiceflow_worker.sandbox.orders import SimulatedCaller
from voiceflow_worker.sandbox.outcomes import (
    Question,
    heard_of,
    is_interactive,
    listen,
    read_question,
    repetitions,
    seconds_of,
    seconds_to_say,
    text,
)


class Conversation:
    """The course of one call, from the moment when the person answers to its end. Results are recorded in the call.

    Times are in simulated seconds since dialling.
    """

    def __init__(self, call: Call, *, events: Delivery, speed: float) -> None:
        script = call.script
        self._call = call
        self._events = events
        self._speed = speed
        self._now = call.plan.ring_seconds
        self._dice = Random(f"{call.plan.luck}/conversation")
        self._caller = SimulatedCaller(Random(f"{call.plan.luck}/keys"), None if script is None else script.keys)
        self._heard: list[str] = []
        self._pressed: list[str | None] = []
        self._second: SessionLeg | None = None
        call.entry.heard, call.entry.pressed = self._heard, self._pressed

    async def play(self) -> None:
        """Run the conversation."""
        call, leg = self._call, self._call.first_leg
        leg.connected, leg.status = self._now, SessionStatus.COMPLETED
        end = await self._course()
        if self._second is not None:
            await self._hang_up_second(self._second, talks=end is None)
        self._hang_up(leg)
        call.plan = replace(call.plan, talk_seconds=leg.ended - leg.connected)
        if call.plan.status is SessionStatus.COMPLETED:
            # With two legs the session's status is that of the second (8x8 number masking guide, "Session statuses").
            call.plan = replace(call.plan, status=call.legs[-1].status)
        if isinstance(end, Refusal):
            call.plan = replace(call.plan, status=SessionStatus.ERROR, code=end.code, message=end.message)

    async def _course(self) -> Refusal | bool | None:
        """Run the actions. Returns an error that has ended them, or True if the person hung up."""
        actions = list(self._call.request.actions[1:])
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
                        return True
                    if self._events.can_ask(self._call):
                        reply = await self._ask(digits)
                        if isinstance(reply, Refusal):
                            return reply
                        actions = reply
                case Action.MAKE_CALL:
                    await self._call_second(params)
                case _:
                    await self._play(action, params)
        return None

    # -- actions -----------------------------------------------------------------------------------------------------

    async def _play(self, action: Action | None, params: Mapping[str, object]) -> None:
        said = wording(action, params)
        for _ in range(repetitions(params)):
            if said is not None:
                await self._say(said, seconds_of(action, params))

    async def _question(self, question: Question, params: Mapping[str, object]) -> tuple[str | None, bool]:
        """Return the digits that counted, and whether the person hung up. Too few digits are returned as None."""
        press = self._caller.answer(fewest=question.min_digits)
        for _ in range(question.tries):
            await self._play(Action.SAY_AND_CAPTURE, params)
            heard = listen(question, press)
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

    async def _ask(self, dtmf: str | None) -> list[object] | Refusal:
        """Return the next actions from the receiver."""
        reply, seconds = await self._events.ask(self._call, dtmf=dtmf, at=self._now)
        self._now += seconds
        if isinstance(reply, Refusal):
            return reply
        # The service sends the last id that a reply had (8x8 voice call action guide).
        self._call.client_action_id = reply.client_action_id or self._call.client_action_id
        return list(reply.actions)

    async def _call_second(self, params: Mapping[str, object]) -> None:
        script = self._call.script
        wanted = None if script is None else script.bridge_outcome
        leg = SessionLeg(
            source=text(params, "source"),
            destination=text(params, "destination"),
            dialled=self._now,
            status=SessionStatus(wanted or "COMPLETED"),
        )
        self._call.legs.append(leg)
        leg.rings(self._call.entry)
        await self._pass(self._dice.uniform(20, 40) if wanted == "NO_ANSWER" else self._dice.uniform(2, 10))
        if leg.status is SessionStatus.COMPLETED:
            leg.connected = self._now
            self._second = leg
            self._call.entry.bridged_to = leg.destination
        else:
            self._hang_up(leg)

    async def _hang_up_second(self, leg: SessionLeg, *, talks: bool) -> None:
        """End the leg of the second party. If `talks`, the two people talk first."""
        if talks:
            await self._pass(self._dice.uniform(20, 90))
        self._hang_up(leg)

    def _hang_up(self, leg: SessionLeg) -> None:
        leg.ended = self._now
        leg.ends()

    # -- time --------------------------------------------------------------------------------------------------------

    async def _say(self, said: str, seconds: float) -> None:
        self._heard.append(said)
        await self._pass(seconds)

    async def _pass(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._now += seconds
        if seconds > 0:
            await asyncio.sleep(seconds / self._speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The calls in progress, each in a task of its own."""

    activity: Activity
    events: Delivery
    speed: float
    log: Exports

    def place(self, call: Call) -> None:
        """Dial an accepted call."""
        request, plan = call.request, call.plan
        call.entry.rang = plan.rings
        if plan.rings:
            leg = SessionLeg(
                source=request.source,
                destination=request.destination,
                connected=plan.ring_seconds if plan.is_answered else None,
                ended=plan.ring_seconds + plan.talk_seconds,
                status=plan.status,
            )
            call.legs.append(leg)
            leg.rings(call.entry)
        self.activity.run(self._course(call))

    async def _course(self, call: Call) -> None:
        """Run a call to its summary."""
        plan, actions = call.plan, call.request.actions
        await self._pass(plan.ring_seconds)
        if call.entry.rang and plan.is_answered and is_interactive(actions):
            await Conversation(call, events=self.events, speed=self.speed).play()
        else:
            await self._pass(plan.talk_seconds)
            for leg in call.legs:
                leg.ends()
            if plan.is_answered:
                call.entry.heard = tuple(heard_of(actions))
                call.last_action = read_action(actions[-1])[0] or call.last_action
        await self._pass(call.plan.lag_seconds)
        call.entry.outcome, call.entry.seconds = call.plan.status.value, session_seconds(call)
        self.log.add(call)
        self.events.summary(call)

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)
