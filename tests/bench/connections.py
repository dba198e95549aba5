"""The worth of kept connections: POSTs per CPU second and per second over TLS, with them and with one for each POST.

Run as `.venv/bin/python tests/bench/connections.py`. The server runs in a process of its own, and only the client's
processor time counts. The certificate is the tests' own, which is good for loopback alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import ssl
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from voiceflow_worker.core.ports import Placement
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.reports.verdict import PostProgress, VerdictKind

CERTIFICATE = Path(__file__).resolve().parents[1] / "gateway" / "localhost.pem"
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Your order is ready.","voiceProfile":"en-IE-EmilyNeural"}}]}'
)


_answered = itertools.count(1)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or b"0"))
            body = b'{"sessionId":"s-%d","sessionStatus":"CREATED","statusCode":1}' % next(_answered)
            end = b"connection: close" in head
            closing = b"Connection: close\r\n" if end else b""
            writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (closing, len(body), body))
            if end:
                break
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


def _serve(told: Connection) -> None:
    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=context, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _run(url: str, *, calls: int, at_once: int, keep: bool) -> tuple[float, float]:
    """POSTs per second of this process's own time, and per second by the clock."""
    now = datetime.now(UTC)
    asked = Placement(body=BODY, client_request_id="default.1.1", valid_until=now + timedelta(hours=1))
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    async with VoiceClient("a-key", "bench", base_url=url, ssl_context=trust, concurrency=at_once) as client:
        assert client._carrier is not None
        client._carrier = replace(client._carrier, keeps_connections=keep)
        left = iter(range(calls))

        async def caller() -> None:
            for _ in left:
                verdict = await client.place(asked, progress=PostProgress(), now=now)
                assert verdict.kind is VerdictKind.CREATED, verdict

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return calls / (time.process_time() - cpu), calls / (time.perf_counter() - began)


def main() -> None:
    """Print medians of several runs, in turn with and without reuse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    server.start()
    url = f"https://127.0.0.1:{here.recv()}"
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(given.runs):
        for keep, runs in found.items():
            runs.append(asyncio.run(_run(url, calls=given.calls, at_once=given.at_once, keep=keep)))
    server.terminate()

    def median(keep: bool, place: int) -> float:
        return statistics.median(run[place] for run in found[keep])

    for keep, name in ((True, "kept"), (False, "one each")):
        print(f"{name:>9}: {median(keep, 0):6.0f} POSTs per CPU second, {median(keep, 1):6.0f} per second")  # noqa: T201
    for place, per in ((0, "CPU second"), (1, "second")):
        print(f"    ratio: {median(True, place) / median(False, place):.1f} per {per}")  # noqa: T201


if __name__ == "__main__":
    main()
