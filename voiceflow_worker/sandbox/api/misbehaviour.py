"""Faulty answers that tests ordered, on the connections of the sandbox."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import TypeAlias

import orjson
from starlette.types import Receive, Scope, Send

from voiceflow_worker.sandbox.events.account import NO_KEY
from voiceflow_worker.sandbox.events.answers import HttpAnswer, not_created, platform_error
from voiceflow_worker.sandbox.orders import Fault, FaultKind, Within

_LINGER_NOT = struct.pack("ii", 1, 0)
TransportOf: TypeAlias = Callable[[Scope], asyncio.Transport | None]


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a TCP reset, so that the client's next read fails."""
    if transport.is_closing():  # the client has hung up first
        return
    # With SO_LINGER at 0, close() discards unsent bytes and sends RST instead of FIN (socket(7)).
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


_GATEWAY_ERRORS = frozenset({502, 503, 504})
_LATE = 0.5
_NO_JSON = "<html><body><h1>It works!</h1></body></html>"
_NO_HTTP = "\x15\x03\x03\x00\x02\x02\x16 this is not HTTP\r\n\r\n"


def faulty_answer(fault: Fault) -> HttpAnswer | None:
    """Return the answer that replaces the true answer, or None for a fault of the connection."""
    match fault.fault:
        case FaultKind.STATUS | FaultKind.THROTTLE | FaultKind.SURPLUS:
            return _other_status(fault, fault.status or (500 if fault.fault is FaultKind.STATUS else 429))
        case FaultKind.PLATFORM:
            return platform_error(
                fault.status or 403, code=fault.code, message=fault.message or "", headers=fault.headers
            )
        case FaultKind.JUNK if not fault.raw:
            body = _NO_JSON if fault.body is None else fault.body
            return HttpAnswer(
                status=fault.status or 200,
                body=_bytes(body),
                summary="junk",
                content_type="text/html" if fault.body is None else "application/json",
                headers=fault.headers,
            )
        case _:
            return None


async def send_answer(answer: HttpAnswer, send: Send, *, now: datetime) -> None:
    """Send a whole answer, without a fault of the connection."""
    headers = answer.header_list(now=now)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


class Misbehaviour:
    """The faults that delay an answer or break the connection. `now` returns the sandbox's time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._called_off = asyncio.Event()
        self.transport_of: TransportOf | None = None
        """The connection of a request, or None if it has ended; None for a server that hides its connections."""
        self._surplus: dict[asyncio.Transport, Fault] = {}

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until all waits are cancelled."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._called_off.wait(), seconds)

    async def pause_until(self, event: asyncio.Event, *, at_most: float) -> None:
        """Wait until the event happens, `at_most` seconds have passed, or all waits are cancelled."""
        waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._called_off.wait())}
        await asyncio.wait(waits, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def send_surplus(self, scope: Scope) -> None:
        """If this connection has a surplus answer, send it, and then delay the true answer as the order says."""
        connection = self._connection(scope) if self._surplus else None
        fault = None if connection is None else self._surplus.pop(connection, None)
        if connection is None or fault is None:
            return
        if (answer := faulty_answer(fault)) is not None:
            connection.write(b"".join(answer.on_the_wire(now=self._now())))
            await self.pause(_LATE if fault.seconds is None else fault.seconds)

    def order_surplus(self, fault: Fault, scope: Scope) -> None:
        """Order a surplus answer, which is sent before the answer to the next request of this connection."""
        if (connection := self._connection(scope)) is not None:
            self._surplus[connection] = fault

    def _connection(self, scope: Scope) -> asyncio.Transport | None:
        """The connection of a request; None if it has ended. Raises ConnectionResetError if the server hides it."""
        if self.transport_of is None:
            raise ConnectionResetError(
                "this fault acts on the connection of the request, which this server hides; use Sandbox.running()"
            )
        return self.transport_of(scope)

    async def break_line(self, fault: Fault, true_answer: HttpAnswer, scope: Scope, receive: Receive) -> None:
        """Send a part of the true answer, other bytes or nothing, and then break the connection."""
        if (connection := self._connection(scope)) is None:
            return
        head, body = true_answer.on_the_wire(now=self._now())
        if fault.fault is FaultKind.JUNK:
            connection.write(_bytes(_NO_HTTP if fault.body is None else fault.body))
        elif fault.cut_within is Within.HEADERS:
            connection.write(head[: len(head) // 2])
        elif fault.cut_within is Within.BODY:
            connection.write(head + body[: len(body) // 2])
        gone = asyncio.ensure_future(until_disconnected(receive))
        if fault.fault is FaultKind.STALL:
            off = asyncio.ensure_future(self._called_off.wait())
            await asyncio.wait({gone, off}, timeout=fault.seconds, return_when=asyncio.FIRST_COMPLETED)
            off.cancel()
        if fault.fault in {FaultKind.STALL, FaultKind.RESET}:
            reset(connection)
        else:
            connection.close()
        # If the app returned while the connection is open, uvicorn would send an answer.
        await gone

    def call_off(self) -> None:
        """Cancel all waits, and reset stalled connections, so that a server can stop."""
        self._called_off.set()


def _other_status(fault: Fault, status: int) -> HttpAnswer:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["retry-after"] = _seconds(fault.retry_after)
    if fault.location is not None:
        headers["location"] = fault.location
    elif 300 <= status < 400:
        headers.setdefault("location", "http://127.0.0.1:9/moved")
    if fault.body is not None:
        return HttpAnswer(status=status, body=_bytes(fault.body), summary=str(status), headers=headers)
    if fault.code is not None or status not in _GATEWAY_ERRORS:
        code = status if fault.code is None else fault.code
        return not_created(status, code, fault.message or _usual_message(status), headers=headers)
    page = f"<html><body><h1>{status} {HTTPStatus(status).phrase}</h1></body></html>"
    return HttpAnswer(status=status, body=page.encode(), summary=str(status), content_type="text/html", headers=headers)


def _usual_message(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "An unknown error has occurred"
    return {401: NO_KEY, 500: "Internal server error"}.get(status, phrase)


def _seconds(retry_after: float | str) -> str:
    if isinstance(retry_after, str):
        return retry_after
    return str(int(retry_after)) if retry_after == int(retry_after) else str(retry_after)


def _bytes(body: object) -> bytes:
    return body.encode("utf-8", "surrogateescape") if isinstance(body, str) else orjson.dumps(body)
