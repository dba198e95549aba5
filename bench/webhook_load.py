"""Sends session summaries to a receiver, as a process of its own, as cheaply as Python can: raw sockets, keep-alive.

It reads one line of orders (JSON) on stdin for each load, and answers with one line: how long it took, the statuses and
the latencies. Without a rate the load is closed: each connection sends the next summary when it has its answer, and the
receiver is never idle. With a rate it is open: summaries leave on a schedule whatever the receiver does, and each
latency is measured from the scheduled time, so that a stall counts for everybody who came during it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

BODY = (
    '{"namespace":"VOICE","eventType":"SESSION_SUMMARY","description":"Summary of a completed session","payload":{'
    '"sessionId":"%(session)s","subAccountId":"acme","sessionStatus":"COMPLETED",'
    '"startTime":"2026-07-01T09:00:00.000Z","endTime":"2026-07-01T09:00:25.000Z","lastAction":"HANGUP","callCount":1,'
    '"clientRequestId":"%(request)s","clientBatchId":"july","details":{"callA":{'
    '"callId":"c-%(session)s","callDirection":"OUTBOUND","callType":"PSTN",'
    '"initiatedTimestamp":"2026-07-01T09:00:00.000Z","connectedTimestamp":"2026-07-01T09:00:05.000Z",'
    '"disconnectedTimestamp":"2026-07-01T09:00:25.000Z","source":"6531234567","destination":"6587654321",'
    '"sourceFormat":"MSISDN","destinationFormat":"MSISDN","sourceCountryCode":"SG","destinationCountryCode":"SG",'
    '"sourceRefId":"null","callStatus":"COMPLETED","callDuration":20,'
    '"callQuality":{"mos":4.2,"packetLossRate":0.01,"jitter":1.5}}}}}'
)


@dataclass
class Load:
    """What is sent, and what came of it."""

    requests: deque[bytes]
    rate: float | None
    statuses: Counter[str] = field(default_factory=Counter[str])
    latencies: list[float] = field(default_factory=list[float])
    left: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    free: deque[Connection] = field(default_factory=deque["Connection"])
    due: deque[float] = field(default_factory=deque[float])
    """Scheduled times of summaries that found no free connection."""

    def answered(self, connection: Connection, status: str, since: float) -> None:
        self.statuses[status] += 1
        self.latencies.append(time.perf_counter() - since)
        self.left -= 1
        if self.left == 0:
            self.done.set()
        elif self.rate is None:
            if self.requests:
                connection.send(self.requests.popleft(), time.perf_counter())
        elif self.due:
            connection.send(self.requests.popleft(), self.due.popleft())
        else:
            self.free.append(connection)


class Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self.buffer = b""
        self.load.answered(self, head[9:12].decode(), self.since)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.load.left:
            raise SystemExit(f"the receiver closed a connection: {exc}")


def request(body: str, *, path: str, secret: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: receiver\r\nAuthorization: {secret}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def send(orders: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    requests: deque[bytes] = deque()
    for client_request_id, session_id in orders["posts"]:
        body = BODY % {"session": session_id, "request": client_request_id}
        requests.append(request(body, path=orders["path"], secret=orders["secret"]))
    load = Load(requests, orders["rate"], left=len(requests))
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(load), "127.0.0.1", orders["port"]))[1]
        for _ in range(orders["connections"])
    ]
    began = time.perf_counter()
    if load.rate is None:
        for connection in connections[: len(requests)]:
            connection.send(requests.popleft(), time.perf_counter())
    else:
        load.free.extend(connections)
        await _on_schedule(load, began)
    await load.done.wait()
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.transport.close()
    return {"seconds": seconds, "statuses": load.statuses, "latencies": sorted(load.latencies)}


async def _on_schedule(load: Load, began: float) -> None:
    assert load.rate is not None
    count = load.left
    sent = 0
    while sent < count:
        due = min(count, int((time.perf_counter() - began) * load.rate) + 1)
        for place in range(sent, due):
            scheduled = began + place / load.rate
            if load.free:
                load.free.popleft().send(load.requests.popleft(), scheduled)
            else:
                load.due.append(scheduled)
        sent = due
        await asyncio.sleep(max(0.0, began + sent / load.rate - time.perf_counter()))  # the rate is measured


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(send(json.loads(line)))), flush=True)  # noqa: T201 - its parent reads this


if __name__ == "__main__":
    main()
