"""Asking sentinels for the primary: nothing is left open, whatever becomes of the question."""

from __future__ import annotations

import gc
import socket

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.support.redis_server import WatchedPair, free_port
from voiceflow_worker.backends.redis.faults import NoPrimaryError
from voiceflow_worker.backends.redis.manager import primary
from voiceflow_worker.backends.redis.url import RedisURL, parse_url
from voiceflow_worker.model.copying import replace

pytestmark = pytest.mark.anyio
CHECKPOINTS = 60
"""More than a question has before it waits for the answer: each is one place where it may be cancelled."""


def sentinels_at(*ports: int) -> RedisURL:
    return parse_url(f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/mymaster")


async def test_a_refused_question_leaves_nothing_open() -> None:
    """A stream that is left open is a warning when it is collected, and so fails this test."""
    with pytest.raises(NoPrimaryError, match="'mymaster'"):
        await primary(sentinels_at(free_port(), free_port()))
    gc.collect()


async def test_a_question_that_is_cancelled_at_any_point_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CHECKPOINTS) as silent:
        url = sentinels_at(silent.getsockname()[1])
        for checkpoints in range(CHECKPOINTS):
            async with anyio.create_task_group() as group:
                group.start_soon(primary, url)
                for _ in range(checkpoints):
                    await checkpoint()
                group.cancel_scope.cancel()
    gc.collect()


@pytest.mark.alone
async def test_the_next_sentinel_is_asked_after_one_that_is_away_and_one_that_is_silent(
    lasting_pair: WatchedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.redis.connection.CONNECT_TIMEOUT", 0.2)
    named = lasting_pair.named_port()
    known = parse_url(lasting_pair.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = (("127.0.0.1", free_port()), silent.getsockname())
        found = await primary(replace(known, nodes=(*away, *known.nodes)))
    assert found == ("127.0.0.1", named)
