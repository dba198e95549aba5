"""Bytes left over on kept connections, end to end: nobody rings twice, and a hold does not wait for proof."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import anyio
import orjson
import pytest

from tests.gateway.misbehaving import Connection, MisbehavingServer, answer
from tests.support.flows import number
from tests.verdicts.conftest import BACKENDS, Ground
from tests.verdicts.playing import OPTIONS, WITHIN, call, queue_of
from voiceflow_worker import CallRequest, JobState, Worker
from voiceflow_worker.core.overview.drain import DrainResult
from voiceflow_worker.gateway.client import VoiceClient

pytestmark = pytest.mark.anyio


class Careless:
    """An 8x8 that places every call, and on each connection answers the second POST as `second` does."""

    def __init__(self, second: Callable[[Connection, bytes], None]) -> None:
        self.second = second
        self.rang: list[str] = []
        self.seconds = 0
        self._lock = threading.Lock()

    def behave(self, connection: Connection) -> None:
        asked = 0
        while head := connection.read_request():
            asked += 1
            with self._lock:
                body = connection.server.bodies.pop()
                self.rang.append(orjson.loads(body)["callflow"][0]["params"]["destination"])
                said = {"sessionId": f"s-{len(self.rang)}", "sessionStatus": "CREATED", "statusCode": 1}
                self.seconds += asked == 2
            true = answer(200, orjson.dumps(said))
            if asked == 2:
                self.second(connection, true)
                return
            connection.send(true)
            if connection.wants_to_end(head):
                return


async def drained(ground: Ground, url: str, *, rate: float | None, concurrency: int) -> DrainResult:
    async with VoiceClient("a-key", "tests", base_url=url, concurrency=concurrency) as client:
        worker = Worker(
            ground.store, client, rate=rate, concurrency=concurrency, options=OPTIONS, witness=ground.witness
        )
        with anyio.fail_after(WITHIN):
            return await worker.drain()


@pytest.mark.parametrize("surplus", [429, 400])
async def test_nobody_rings_twice_or_fails_for_an_answer_that_was_left_over(ground: Ground, surplus: int) -> None:
    def second(connection: Connection, true: bytes) -> None:
        refusal = b'{"sessionStatus":"NOT_CREATED","statusCode":-1014,"statusMessage":"No"}'
        connection.send(answer(429, b"", "Retry-After: 1") if surplus == 429 else answer(400, refusal))
        time.sleep(0.4)  # the true answer comes while the client listens
        with suppress(OSError):
            connection.send(true)

    calls = 8
    queue = queue_of(ground)
    await queue.enqueue_many([CallRequest(flow=call(number(place))) for place in range(calls)])
    server_of = Careless(second)
    with MisbehavingServer(server_of.behave) as server:
        await drained(ground, server.url, rate=None, concurrency=3)
    states = Counter(job.state for job in await queue.find(limit=None))
    assert set(Counter(server_of.rang).values()) == {1}, "nobody rings twice"
    assert len(server_of.rang) == calls, "nobody is lost"
    assert states[JobState.IN_DOUBT] == server_of.seconds
    assert states[JobState.SUBMITTED] == calls - server_of.seconds


@pytest.mark.parametrize("backend", [each for each in BACKENDS if each.endswith("asyncio")], indirect=True)
async def test_the_queue_is_held_while_it_is_found_out_whose_the_answer_is(ground: Ground) -> None:
    """The rate would send forty more in the second that this takes."""

    def second(connection: Connection, true: bytes) -> None:
        del true
        connection.send(answer(401))
        while connection.read_request():
            connection.send(answer(401))

    queue = queue_of(ground)
    await queue.enqueue_many([CallRequest(flow=call(number(place))) for place in range(60)])
    server_of = Careless(second)
    with MisbehavingServer(server_of.behave) as server:
        result = await drained(ground, server.url, rate=40, concurrency=40)
        posts = len(server.posts)
    states = Counter(job.state for job in await queue.find(limit=None))
    assert result.stopped_by_hold
    assert posts <= 10
    assert set(states) == {JobState.SUBMITTED, JobState.QUEUED}
