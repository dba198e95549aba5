"""An answer that may be left over of an earlier POST: the hold that it asks for does not wait for proof."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from tests.gateway.misbehaving import Connection, MisbehavingServer, answer, created
from tests.support.flows import number
from tests.verdicts.conftest import Ground
from tests.verdicts.playing import OPTIONS, WITHIN, call, queue_of
from voiceflow_worker import CallRequest, JobState, Worker
from voiceflow_worker.gateway.client import VoiceClient

pytestmark = pytest.mark.anyio


def refuses_the_second(connection: Connection) -> None:
    """Place the first call of each connection, and turn away all that follow."""
    connection.read_request()
    connection.send(answer(200, created(f"s-{len(connection.server.bodies)}")))
    while connection.read_request():
        connection.send(answer(401))


async def test_the_queue_is_held_while_it_is_found_out_whose_the_answer_is(ground: Ground) -> None:
    """The rate would send forty more in the second that this takes."""
    queue = queue_of(ground)
    await queue.enqueue_many([CallRequest(flow=call(number(place))) for place in range(60)])
    with MisbehavingServer(refuses_the_second) as server:
        async with VoiceClient("a-key", "tests", base_url=server.url, concurrency=40) as client:
            worker = Worker(
                ground.store,
                client,
                rate=40,
                concurrency=40,
                options=OPTIONS,
                call_log=None,
                local_journal=ground.local_journal,
            )
            with anyio.fail_after(WITHIN):
                result = await worker.drain()
        posts = len(server.posts)
    states = Counter(job.state for job in await queue.find(limit=None))
    assert result.stopped_by_hold
    assert posts - states[JobState.SUBMITTED] <= 10
    assert set(states) == {JobState.SUBMITTED, JobState.QUEUED}
