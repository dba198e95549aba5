"""The mix: calls of all kinds, by a seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from datetime import datetime, timedelta

from tests.crash.asked import Asked, Kind
from tests.crash.menu import AGENTS, main
from tests.support.flows import SOURCE, number
from voiceflow_worker import CallFlow, CallRequest, RedialPolicy
from voiceflow_worker.model.jobs.policy import read_redial_on

SHARES: Mapping[Kind, int] = {
    Kind.PLAIN: 22,
    Kind.BRIDGE: 20,
    Kind.AGENT: 10,
    Kind.MENU: 12,
    Kind.REDIAL: 14,
    Kind.NUMBERS: 6,
    Kind.BRIEF: 12,
    Kind.SUPPRESSED: 4,
}
REDIAL = RedialPolicy(on=read_redial_on("busy,no_answer"), limit=2, after=timedelta(seconds=0.2))
BRIEF = (0.3, 6.0)
"""Seconds for which a brief call is valid: many wait for longer, although they go first."""
LATER = timedelta(seconds=3)
"""When a call to a number that is about to be suppressed is due."""
_VOICE = "en-IE-EmilyNeural"
_FIRST = 1_000_000
_OTHERS = 2_000_000
_FURTHER = (3_000_000, 4_000_000)


class Mix:
    """Makes calls. Each number is in one call of the run, but for the agents'."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._places = itertools.count()

    def calls(self, count: int, *, now: datetime) -> list[Asked]:
        """The next calls of all kinds but rows."""
        kinds = self._dice.choices(list(SHARES), list(SHARES.values()), k=count)
        return [self._call(kind, now) for kind in kinds]

    def rows(self, count: int, *, batch_id: str) -> list[Asked]:
        """The rows of one task."""
        asked: list[Asked] = []
        for _ in range(count):
            place = next(self._places)
            destination = number(_FIRST + place)
            request = CallRequest(flow=said(destination), unique_key=f"{batch_id}/{place}", batch=batch_id)
            asked.append(Asked(kind=Kind.ROW, request=request, destination=destination))
        return asked

    def _call(self, kind: Kind, now: datetime) -> Asked:
        place = next(self._places)
        destination, second = number(_FIRST + place), None
        flow = said(destination)
        redial, valid_until, not_before, menu = None, None, None, None
        further: list[str] = []
        match kind:
            case Kind.BRIDGE:
                second = self._dice.choice(AGENTS)
            case Kind.AGENT:
                destination = self._dice.choice(AGENTS)
                flow = said(destination)
            case Kind.MENU:
                menu = main.name
                flow = main.call(destination, source=SOURCE)
            case Kind.REDIAL:
                redial = REDIAL
            case Kind.NUMBERS:
                further = [number(first + place) for first in _FURTHER]
            case Kind.BRIEF:
                valid_until = now + timedelta(seconds=self._dice.uniform(*BRIEF))
            case Kind.SUPPRESSED:
                not_before = now + LATER
                second = number(_OTHERS + place) if self._dice.random() < 0.5 else None
            case _:
                pass
        if second is not None:
            flow = CallFlow.call(destination, source=SOURCE).then_call(second, source=SOURCE)
            flow = flow.say("You are connected.", voice_profile=_VOICE).hangup()
        request = CallRequest(
            flow=flow,
            unique_key=f"{kind.value}/{place}",
            priority=1 if kind is Kind.BRIEF else 0,
            redial=redial,
            valid_until=valid_until,
            not_before=not_before,
            menu=menu,
            further_numbers=further,
        )
        return Asked(kind=kind, request=request, destination=destination, second=second)


def is_never_reached(asked: Asked) -> bool:
    """Whether nobody ever answers this call, however often it is made: else few redials would come to their end."""
    return asked.kind in {Kind.REDIAL, Kind.NUMBERS} and int(asked.destination[-3:]) % 3 == 0


def suppressed_in(asked: Asked) -> str:
    """Which party of a call of that kind is put on the suppression list."""
    return asked.second or asked.destination


def said(destination: str) -> CallFlow:
    return CallFlow.call(destination, source=SOURCE).say("Your order is ready.", voice_profile=_VOICE).hangup()
