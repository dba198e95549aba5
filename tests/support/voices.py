"""Voices that stand in for 8x8 where the network is not what a test is about."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio

from voiceflow_worker.core.ports import Placement
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, QueueHold, Verdict, VerdictKind

Answer = Verdict | Exception


def created(session_id: str = "session-1") -> Verdict:
    return Verdict(kind=VerdictKind.CREATED, message="Created", code=1, session_id=session_id, http_status=200)


def refused(code: int, message: str = "refused") -> Verdict:
    return Verdict(kind=VerdictKind.REFUSED, message=message, code=code, http_status=400)


def unknown(message: str = "the answer did not come") -> Verdict:
    return Verdict(kind=VerdictKind.UNKNOWN, message=message)


def not_sent(message: str = "connection refused") -> Verdict:
    return Verdict(kind=VerdictKind.NOT_SENT, message=message)


def turned_away(status: int, reason: str | None = None, **hold: Any) -> Verdict:
    """An answer that frees the call; with a `hold`, which the fields describe, of its queue."""
    held = QueueHold(reason=reason or str(status), **hold) if hold else None
    return Verdict(kind=VerdictKind.TURNED_AWAY, message=str(status), http_status=status, hold=held)


@dataclass
class ScriptedVoice:
    """Answers each POST by a function of the placement, and keeps a ledger of what it was asked to place."""

    answer: Callable[[Placement], Answer] | None = None
    answers: list[Answer] = field(default_factory=list)
    placed: list[tuple[datetime, Placement]] = field(default_factory=list)

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        departure = await before_first_byte()
        self.placed.append((departure.at, placement))
        await anyio.lowlevel.checkpoint()
        answer = self._next(placement)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def rang(self) -> Sequence[str]:
        """The numbers that were called, in order."""
        return [json.loads(placement.body)["callflow"][0]["params"]["destination"] for _, placement in self.placed]

    @property
    def client_request_ids(self) -> Sequence[str]:
        return [placement.client_request_id for _, placement in self.placed]

    def _next(self, placement: Placement) -> Answer:
        if self.answers:
            return self.answers.pop(0)
        if self.answer is not None:
            return self.answer(placement)
        return created(f"session-{placement.client_request_id}")


class GatedVoice:
    """Lets a test hold POSTs in mid-air: each waits, before or after its bytes left, until `open` is set."""

    def __init__(self, *, bytes_left: bool) -> None:
        self.bytes_left = bytes_left
        self.arrived = anyio.Event()
        self.open = anyio.Event()
        self.placed: list[Placement] = []
        self.in_the_air = 0

    async def reached(self, count: int) -> None:
        """Wait until this many POSTs are in the air."""
        while self.in_the_air < count:
            self.arrived = anyio.Event()
            await self.arrived.wait()

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        if self.bytes_left:
            await before_first_byte()
        self.in_the_air += 1
        self.arrived.set()
        try:
            await self.open.wait()
        finally:
            self.in_the_air -= 1
        if not self.bytes_left:
            await before_first_byte()
        self.placed.append(placement)
        return created(f"session-{placement.client_request_id}")
