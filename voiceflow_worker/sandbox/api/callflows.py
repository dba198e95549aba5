"""The callflows endpoint, `POST /api/v1/subaccounts/{id}/callflows`, in plain ASGI because it gets most requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import orjson
from starlette.types import Receive, Scope, Send

from voiceflow_worker.sandbox.api.misbehaviour import Misbehaviour, faulty_answer, send_answer
from voiceflow_worker.sandbox.calls.call import Call, FlowRequest, read_request
from voiceflow_worker.sandbox.calls.ledger import Ledger, LedgerEntry
from voiceflow_worker.sandbox.calls.outcomes import Outcomes
from voiceflow_worker.sandbox.events.account import SandboxAccount
from voiceflow_worker.sandbox.events.answers import HttpAnswer, created, judged, not_created, unreadable
from voiceflow_worker.sandbox.exchange import Exchange
from voiceflow_worker.sandbox.orders import EventKind, Fault, FaultKind, OrderBook, Place, Script

_LONGEST_BODY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Callflows:
    """The endpoint for calls: it checks a request, records it in the ledger, starts the call, and answers."""

    account: SandboxAccount
    ledger: Ledger
    faults: OrderBook[Fault]
    misbehaviour: Misbehaviour
    scripts: OrderBook[Script]
    outcomes: Outcomes
    exchange: Exchange
    now: Callable[[], datetime]

    async def post(self, sub_account: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST."""
        await self.misbehaviour.send_surplus(scope)
        fault = self.faults.take(None, Place.ARRIVAL)
        if fault is not None and fault.fault is FaultKind.DELAY:
            await self.misbehaviour.pause(fault.longest)
            fault = None
        content = b"" if fault is not None else await _read(receive)
        if content is None:
            return
        asked = _asked(content, sub_account, scope)
        if fault is None:
            fault = self.faults.take(asked.request.destination)
        if fault is None or fault.fault is FaultKind.SURPLUS:
            if fault is not None:
                self.misbehaviour.order_surplus(fault, scope)
            await send_answer(self._decide(asked).answer, send, now=self.now())
        elif fault.fault is FaultKind.DELAY:
            await self._answer_late(fault, asked, send)
        else:
            await self._misbehave(fault, asked, scope, receive, send)

    async def _answer_late(self, fault: Fault, asked: _Asked, send: Send) -> None:
        if fault.happens is Place.BEFORE:
            await self.misbehaviour.pause(fault.longest)
        decided = self._decide(asked)
        if fault.until is not None and decided.call is not None:
            event = decided.call.awaits(EventKind(fault.until.value))
            await self.misbehaviour.pause_until(event, at_most=fault.longest)
        elif fault.happens is Place.AFTER and fault.until is None:
            await self.misbehaviour.pause(fault.longest)
        await send_answer(decided.answer, send, now=self.now())

    async def _misbehave(self, fault: Fault, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.happens is Place.AFTER:
            decided = self._decide(asked)
            answer, entry = decided.answer, decided.entry
        else:
            answer, entry = not_created(500, 500, "Internal server error"), _entry(asked)
            self.ledger.append(entry)
        instead = faulty_answer(fault)
        if instead is not None:
            entry.answered_with, entry.http_status, entry.code = instead.summary, instead.status, instead.code
            await send_answer(instead, send, now=self.now())
        else:
            entry.answered_with, entry.http_status, entry.code = fault.fault.value, None, None
            await self.misbehaviour.break_line(fault, answer, scope, receive)

    def _decide(self, asked: _Asked) -> _Decided:
        """Accept or refuse a call now, and record it in the ledger."""
        entry = _entry(asked)
        self.ledger.append(entry)
        call, answer = None, self._refusal(asked)
        if answer is None:
            call = self._accept(asked, entry)
            answer = created(call)
        entry.answered_with, entry.http_status, entry.code = answer.summary, answer.status, answer.code
        return _Decided(answer, entry, call)

    def _refusal(self, asked: _Asked) -> HttpAnswer | None:
        turned_away = self.account.refusal(asked.authorization, asked.sub_account)
        if turned_away is not None:
            status, message = turned_away
            return not_created(status, status, message)
        if asked.body is _UNREADABLE:
            return unreadable()
        return judged(asked.body, asked.request, self.account, now=self.now())

    def _accept(self, asked: _Asked, entry: LedgerEntry) -> Call:
        request = asked.request
        destination = request.destination or ""
        script = self.scripts.take(destination)
        call = Call(
            request=request,
            sub_account=asked.sub_account,
            accepted_at=entry.at,
            plan=self.outcomes.plan(destination.lstrip("+"), request.actions, script=script),
            entry=entry,
            script=script,
        )
        entry.session_id = call.session_id
        self.exchange.place(call)
        return call


_UNREADABLE = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A POST. `body` is `_UNREADABLE` if it was not read, or is not JSON."""

    sub_account: str
    authorization: bytes | None
    body: object
    request: FlowRequest
    received_at: float


@dataclass(frozen=True, slots=True)
class _Decided:
    """The decision on one POST. `call` is None if the POST was refused."""

    answer: HttpAnswer
    entry: LedgerEntry
    call: Call | None


def _asked(content: bytes, sub_account: str, scope: Scope) -> _Asked:
    received_at = time.time()
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = _UNREADABLE
    return _Asked(
        sub_account=sub_account,
        authorization=next((value for name, value in scope["headers"] if name == b"authorization"), None),
        body=body,
        request=read_request(body),
        received_at=received_at,
    )


def _entry(asked: _Asked) -> LedgerEntry:
    request = asked.request
    return LedgerEntry(
        at=time.time(),
        received_at=asked.received_at,
        source=request.source,
        destination=request.destination,
        client_request_id=request.client_request_id,
        client_batch_id=request.client_batch_id,
        valid_until=request.valid_until_text,
        sub_account=asked.sub_account,
    )


async def _read(receive: Receive) -> bytes | None:
    """Return the body, or None if the client disconnected. Bytes beyond the longest accepted body are dropped."""
    content = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(content) <= _LONGEST_BODY:
            content += message.get("body", b"")
        if not message.get("more_body", False):
            return content
