"""A hundred calls against each error of 8x8's platform: the queue is held, and all ring once when it is resumed."""

from __future__ import annotations

import threading
from collections import Counter

import anyio
import orjson
import pytest

from tests.gateway.misbehaving import Connection, MisbehavingServer, answer
from tests.support.flows import number
from tests.verdicts.conftest import Ground
from tests.verdicts.playing import OPTIONS, WITHIN, call, closed_gates, queue_of
from voiceflow_worker import CallRequest, JobState, Worker
from voiceflow_worker.gateway.client import VoiceClient

pytestmark = pytest.mark.anyio
CALLS = 100
IN_FLIGHT = 10


class Door:
    """An 8x8 whose platform turns everything away until it is mended; then each call rings and has its session."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.is_mended = False
        self.turned_away = 0
        self.rang: list[str] = []
        self._lock = threading.Lock()

    def behave(self, connection: Connection) -> None:
        while connection.read_request():
            with self._lock:
                asked = connection.server.bodies.pop()
                if self.is_mended:
                    self.rang.append(orjson.loads(asked)["callflow"][0]["params"]["destination"])
                    said: dict[str, object] = {"sessionId": f"s-{len(self.rang)}", "sessionStatus": "CREATED"}
                else:
                    self.turned_away += 1
                    said = {"code": 1000 + self.status, "message": "No", "errorId": f"e-{self.turned_away}"}
                status = 200 if self.is_mended else self.status
                connection.send(answer(status, orjson.dumps(said)))


@pytest.mark.parametrize("status", [400, 403, 404, 410, 426])
async def test_a_platform_error_holds_the_queue_and_all_ring_once_after_resume(ground: Ground, status: int) -> None:
    queue = queue_of(ground)
    await queue.enqueue_many([CallRequest(flow=call(number(place))) for place in range(CALLS)])
    door = Door(status)
    with MisbehavingServer(door.behave) as server:
        async with VoiceClient("a-key", "tests", base_url=server.url, concurrency=IN_FLIGHT) as client:

            async def drained() -> bool:
                worker = Worker(
                    ground.store,
                    client,
                    rate=None,
                    concurrency=IN_FLIGHT,
                    options=OPTIONS,
                    witness=ground.witness,
                )
                with anyio.fail_after(WITHIN):
                    return (await worker.drain()).stopped_by_hold

            assert await drained()
            assert Counter(job.state for job in await queue.find(limit=None)) == {JobState.QUEUED: CALLS}
            assert 1 <= door.turned_away <= IN_FLIGHT, "nothing leaves after the first has told"
            [gate] = await closed_gates(ground)
            assert gate.until is None
            assert "then resume" in gate.reason
            door.is_mended = True
            assert await drained(), "it stays held until somebody resumes it"
            assert door.rang == []
            await queue.resume()
            assert not await drained()
    jobs = await queue.find(limit=None)
    assert Counter(job.state for job in jobs) == {JobState.SUBMITTED: CALLS}
    assert {job.attempt for job in jobs} == {1}, "being turned away is no attempt"
    assert len(door.rang) == len(set(door.rang)) == CALLS
