"""Twenty programs ask for the same calls, and lose half of the answers: each person rings once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api.clients import SECRET
from tests.support.flows import number
from tests.support.stage import stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROGRAMS, PEOPLE = 20, 500


class Program:
    """A program that asks for every call, in an order of its own, and asks again until it gets an answer."""

    def __init__(self, url: str, seed: int) -> None:
        address = urlsplit(url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._dice = random.Random(seed)
        self.posts = 0
        self.told: Counter[int] = Counter()

    async def run(self) -> None:
        places = list(range(PEOPLE))
        self._dice.shuffle(places)
        for place in places:
            for _ in count():
                if await self._ask(place):
                    break
                await asyncio.sleep(self._dice.random() / 10)

    async def _ask(self, place: int) -> bool:
        """Ask for one call, and return whether an answer came through that settles it."""
        fields = {"to": number(place), "say": "Hello.", "valid_for": "2h"}
        body = json.dumps(
            dict(self._dice.sample(list(fields.items()), 3)), indent=self._dice.choice([None, 1])
        ).encode()
        head = (
            f"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
            f"Idempotency-Key: order-{place}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        request = head.encode() + body
        self.posts += 1
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            fate = self._dice.random()
            writer.write(request if fate > 0.1 else request[: self._dice.randrange(len(request))])
            await writer.drain()
            if fate < 0.5:
                await asyncio.sleep(self._dice.random() * 0.05)
                writer.transport.abort()
                return False
            status = int((await reader.readline()).split()[1])
        except (OSError, IndexError, asyncio.IncompleteReadError):
            return False
        finally:
            writer.close()
        self.told[status] += 1
        return status in {200, 201}


def test_each_person_rings_once(tmp_path: Path) -> None:
    voice = "en-US-JennyNeural"
    with stage(tmp_path, api_secret=SECRET, source="+6531234567", voice_profile=voice) as on:
        programs = [Program(on.receiver, seed) for seed in range(PROGRAMS)]

        async def all_at_once() -> None:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    group.create_task(program.run())

        with on.worker("--rate", "unlimited"):
            asyncio.run(all_at_once())
        with on.worker("--rate", "unlimited", "--drain") as last:
            last.wait(seconds=300)
        rang = on.rang()
        states = on.states()
    told = sum((program.told for program in programs), Counter[int]())
    posts = sum(program.posts for program in programs)
    assert posts > 1.5 * PROGRAMS * PEOPLE, "answers were lost"
    assert set(told) <= {200, 201, 409, 429}, told  # 409: another request with this key is in progress
    assert sorted(rang) == sorted(number(place) for place in range(PEOPLE)), (posts, told)
    assert sum(states.values()) == PEOPLE, (states, told)
