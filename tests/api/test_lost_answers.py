"""Twenty programs ask for the same calls, and lose half of the answers: each person rings once."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest

from tests.api.clients import SECRET, Client
from tests.support.flows import number
from tests.support.stage import stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROGRAMS, PEOPLE, LOST = 20, 500, 0


async def ask_for_all(client: Client, seed: int, told: Counter[int]) -> None:
    """Ask for every call, in an order of its own, and again until an answer comes through that settles it."""
    dice = random.Random(seed)
    for place in dice.sample(range(PEOPLE), PEOPLE):
        fields = {"to": number(place), "say": "Hello.", "valid_for": "2h"}
        status = LOST
        while status not in {200, 201}:
            body = json.dumps(dict(dice.sample(list(fields.items()), 3)), indent=dice.choice([None, 1]))
            is_lost, status = dice.random() < 0.5, LOST
            with suppress(httpx.TransportError), anyio.move_on_after(dice.random() * 0.05 if is_lost else 60):
                headers = {"Idempotency-Key": f"order-{place}", "Content-Type": "application/json"}
                answer = await client.post("/v1/calls", content=body, headers=headers)
                status = LOST if is_lost else answer.status_code
            told[status] += 1


def test_each_person_rings_once(tmp_path: Path) -> None:
    voice, told = "en-US-JennyNeural", Counter[int]()
    with stage(tmp_path, api_secret=SECRET, source="+6531234567", voice_profile=voice) as on:

        async def all_at_once() -> None:
            headers = {"Authorization": f"Bearer {SECRET}"}
            client = Client(base_url=on.receiver, headers=headers, trust_env=False)
            async with client, anyio.create_task_group() as group:
                for seed in range(PROGRAMS):
                    group.start_soon(ask_for_all, client, seed, told)

        with on.worker("--rate", "unlimited"):
            anyio.run(all_at_once)
        with on.worker("--rate", "unlimited", "--drain") as last:
            last.wait(seconds=300)
        rang = on.rang()
        states = on.states()
    assert told[LOST] > 0.5 * PROGRAMS * PEOPLE, "answers were lost"
    assert set(told) <= {LOST, 200, 201, 409, 429}, told  # 409: another request with this key is in progress
    assert sorted(rang) == sorted(number(place) for place in range(PEOPLE)), told
    assert sum(states.values()) == PEOPLE, (states, told)
