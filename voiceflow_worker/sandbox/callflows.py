"""The callflows endpoint, `POST /api/v1/subaccounts/{id}/callflows`, in plain ASGI because it gets most requests."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from voiceflow_worker.sandbox.account import NO_KEY, SandboxAccount
from voiceflow_worker.sandbox.call import Call, FlowRequest, Ledger, LedgerEntry, read_request
from voiceflow_worker.sandbox.exchange import Exchange
from voiceflow_worker.sandbox.orders import Fault, FaultKind, OrderBook, Script
from voiceflow_worker.sandbox.outcomes import Outcomes
from voiceflow_worker.sandbox.wire import HttpAnswer, created, judged, not_created, unreadable

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
    usual: Script | None
    """The script of calls for which there is none."""
    exchange: Exchange
    now: Callable[[], datetime]

    async def place_call(self, sub_account: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Place a call.

        It cannot be undone, and the API has no idempotency key: a repeated request places another call.
        """
        content = await _read(receive)
        if content is None:
            return
        asked = _asked(content, sub_account, scope)
        fault = self.faults.take(asked.request.destination)
        if fault is None:
            await self._send(self._decide(asked)[0], send)
        elif fault.fault is FaultKind.DELAY:
            if fault.is_before:
                await self.misbehaviour.pause(fault.seconds or 0.0)
            answer, _ = self._decide(asked)
            if not fault.is_before:
                await self.misbehaviour.pause(fault.seconds or 0.0)
            await self._send(answer, send)
        else:
            await self._misbehave(fault, asked, scope, receive, send)

    async def _send(self, answer: HttpAnswer, send: Send, *, half: bool = False) -> None:
        headers, body = answer.header_list(), answer.body[: len(answer.body) // 2] if half else answer.body
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": half})

    async def _misbehave(self, fault: Fault, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.is_before:
            answer, entry = not_created(500, 500, "Internal server error"), _entry(asked)
            self.ledger.append(entry)
        else:
            answer, entry = self._decide(asked)
        instead = faulty_answer(fault)
        if instead is not None:
            entry.answered_with, entry.http_status = instead.summary, instead.status
            await self._send(instead, send)
        else:
            entry.answered_with, entry.http_status = fault.fault.value, None
            connection = scope.get("voiceflow.transport")
            if fault.fault is FaultKind.CUT:
                await self._send(answer, send, half=True)
            if connection is not None:
                await self.misbehaviour.end(connection, receive, is_reset=fault.fault is FaultKind.RESET)

    def _decide(self, asked: _Asked) -> tuple[HttpAnswer, LedgerEntry]:
        """Accept or refuse a call now, and record it in the ledger."""
        entry = _entry(asked)
        self.ledger.append(entry)
        answer = self._refusal(asked) or created(self._accept(asked, entry))
        entry.answered_with, entry.http_status = answer.summary, answer.status
        return answer, entry

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
        script = self.scripts.take(destination) or self.usual
        call = Call(
            request=request,
            sub_account=asked.sub_account,
            accepted_at=entry.at,
            dialled_at=self.now(),
            plan=self.outcomes.plan(destination.lstrip("+"), request.actions, script=script),
            entry=entry,
            script=script,
        )
        entry.session_id = call.session_id
        self.exchange.place(call)
        return call


_UNREADABLE = object()


class _Asked(NamedTuple):
    """A POST. `body` is `_UNREADABLE` if it was not read, or is not JSON."""

    sub_account: str
    authorization: bytes | None
    body: object
    request: FlowRequest


def _asked(content: bytes, sub_account: str, scope: Scope) -> _Asked:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = _UNREADABLE
    authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    return _Asked(sub_account, authorization, body, read_request(body))


def _entry(asked: _Asked) -> LedgerEntry:
    request = asked.request
    return LedgerEntry(
        at=time.time(),
        source=request.source,
        destination=request.destination,
        client_request_id=request.client_request_id,
        client_batch_id=request.client_batch_id,
        valid_until=request.valid_until,
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


# --- faults ---------------------------------------------------------------------------------------------------------

_LINGER_NOT = struct.pack("ii", 1, 0)


_GATEWAY_ERRORS = frozenset({502, 503, 504})
_NO_JSON = b"<html><body><h1>It works!</h1></body></html>"


def faulty_answer(fault: Fault) -> HttpAnswer | None:
    """Return the answer that replaces the true answer, or None for a fault of the connection."""
    match fault.fault:
        case FaultKind.STATUS:
            return _other_status(fault.status or 500, retry_after=fault.retry_after)
        case FaultKind.JUNK:
            return HttpAnswer(status=200, body=_NO_JSON, summary="junk", content_type="text/html")
        case _:
            return None


class Misbehaviour:
    """The faults that delay an answer or break the connection."""

    def __init__(self) -> None:
        self._called_off = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until all waits are cancelled."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._called_off.wait(), seconds)

    async def end(self, connection: asyncio.Transport, receive: Receive, *, is_reset: bool) -> None:
        """End a connection: what was written is sent first, unless it is reset (TCP RST)."""
        if not is_reset:
            connection.close()
        elif not connection.is_closing():  # the client has not hung up first
            # With SO_LINGER at 0, close() discards unsent bytes and sends RST instead of FIN (socket(7)).
            connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            connection.abort()
        # If the app returned while the connection is open, uvicorn would send an answer.
        while (await receive())["type"] != "http.disconnect":
            pass

    def call_off(self) -> None:
        """Cancel all waits, so that a server can stop."""
        self._called_off.set()


def _other_status(status: int, *, retry_after: float | None) -> HttpAnswer:
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "An unknown error has occurred"
    if status in _GATEWAY_ERRORS:
        page = f"<html><body><h1>{status} {phrase}</h1></body></html>".encode()
        return HttpAnswer(status=status, body=page, summary=str(status), content_type="text/html", headers=headers)
    message = {401: NO_KEY, 500: "Internal server error"}.get(status, phrase)
    return not_created(status, status, message, headers=headers)
