"""What several processes make of which some are killed: an import and each call of an escalation are once."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Any

import anyio
import pytest

from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.stores import DURABLE
from tests.webhooks.receiving import receiver_of
from voiceflow_worker import (
    CallQueue,
    Campaign,
    InvalidInputError,
    JobState,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    WorkerOptions,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.sandbox import Script
from voiceflow_worker.service import on_call
from voiceflow_worker.service.alerts import handle_notification
from voiceflow_worker.service.on_call import State, following, read_states
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks import PATH

KILLS = int(os.environ.get("TEST_KILLS", "12"))
"""The number of kills for each kind, store and number of makers."""
PEOPLE = [f"+65876540{place:02}" for place in range(12)]
STEPS = 30
"""A maker is killed at one of its first calls to the store, before or after it is carried out."""
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__, *(f"voiceflow_worker.backends.{each}" for each in DURABLE)])
Make = Callable[[Store, Any], Awaitable[None]]
SECRET = "Bearer of-the-escalation"
ANA, BEN, CHEN, DAN = "+6587654321", "+6587654322", "+6587654323", "+6587654324"
EVA = "+6587654325"
CALLED = [ANA, [BEN, DAN], CHEN, EVA]
"""Ben and Dan are called at once. Chen presses the key; Eva is not called, unless nobody knows whether Chen was."""
ALERT = {"status": "firing", "fingerprint": "1", "labels": {}, "startsAt": "2026-01-01T00:00:00Z"}
FIELDS = """say = "Hello NAME"
source = "+6531234567"
voice_profile = "en-US-JennyNeural"
valid-for = "2h"
window = "any"
"""


async def imported(store: Store, file: Path) -> None:
    while True:
        try:
            await Campaign.of({"campaign": file, "batch": file.stem, "file": file.parent / "people.csv"}).start(
                CallQueue(store)
            )
        except IntakeError:  # another one is at it, or a person has discarded it
            await anyio.sleep(0.2)
            continue
        except InvalidInputError as error:
            if f"batch {file.stem} was cancelled" not in str(error):
                raise
        return


async def hold_and_resume(queue: CallQueue, batch: str) -> None:
    await queue.hold(batch_id=batch)
    assert not await leased(queue.store, batch), "it is held"
    await queue.resume(batch_id=batch)


PERSONS: tuple[Callable[[CallQueue, str], Awaitable[object]], ...] = (
    hold_and_resume, CallQueue.cancel_batch
)  # fmt: skip
"""What a person does to a batch again and again while it is imported: a turn each. A batch is cancelled once."""


async def notified(store: Store, of: tuple[str, str]) -> None:
    """Handle the notification, and follow its escalation to its end beside a worker, which has the store for itself."""
    url, base_url = of
    fields = {"numbers": CALLED, "say": "Fire.", "every": "1h", "rounds": 1}
    settings = load_settings(source="+6531234567", voice_profile="en-IE-EmilyNeural")
    result = await handle_notification(
        CallQueue(store), {"groupKey": "g", "alerts": [ALERT]}, fields, settings=settings
    )
    options = WorkerOptions(lease=timedelta(seconds=1))
    async with open_store(url) as own, VoiceClient("any-key", "demo", base_url=base_url) as voice:
        worker = Worker(own, voice, rate=None, options=options)
        async with anyio.create_task_group() as group, following(CallQueue(own)):
            group.start_soon(worker.run)
            while State.OPEN in (await read_states(CallQueue(store), result.batches)).values():  # noqa: ASYNC110
                await anyio.sleep(0.02)
            worker.stop()


def make(what: Make, url: str, of: Any, step: int, fate: Sequence[bool]) -> None:
    """Make what is asked for, in a process of its own that dies before or after this call to the store, or stalls."""
    is_after, stalls = fate
    enqueueing.TAKEN_OVER_AFTER = timedelta(seconds=1)  # type: ignore[attr-defined]
    on_call.LOOK_EVERY = 0.02
    enqueueing.CHUNK, calls = 3, count(1)

    async def die(_: StoreCall) -> None:
        if next(calls) != step:
            return
        if not stalls:
            os.kill(os.getpid(), SIGKILL)
        time.sleep(1.5)  # noqa: ASYNC251 - the whole process stands still, beyond its locks

    async def work() -> None:
        async with open_store(url) as store:
            await what(FaultyStore(store, **{"after" if is_after else "before": die}), of)

    anyio.run(work)


def makers(random: Random, count: int, what: Make, url: str, of: object, *, stalls: float = 0.0) -> list[Any]:
    """So many processes that make it, of which the last one lives. Such a part of the others only `stalls`."""
    dies = [*(random.randint(1, STEPS) for _ in range(count - 1)), 0]
    return [
        _FORKED.Process(target=make, args=(what, url, of, step, (random.random() < 0.5, random.random() < stalls)))
        for step in dies
    ]


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.anyio
@pytest.mark.parametrize("store_url", DURABLE, indirect=True)
@pytest.mark.parametrize("count_of", [2, 3])
async def test_a_batch_is_imported_once_whoever_is_killed(store_url: str, tmp_path: Path, count_of: int) -> None:
    random, killed = Random(f"{store_url.partition(':')[0]} {count_of}"), 0
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["destination", *PEOPLE]))
    os.utime(people, (0, 0))
    async with open_store(store_url) as store:
        for turn in count():
            if killed >= KILLS:
                return
            file = tmp_path / f"run{turn}.toml"
            file.write_text(FIELDS.replace("NAME", file.stem))
            batch = file.stem
            started = makers(random, count_of, imported, store_url, file, stalls=0.25)
            for each in started:
                each.start()
            rang, is_cancelled = Counter[str](), False
            person = (*PERSONS, None)[turn % 3]
            ends = time.monotonic() + 120
            while any(each.is_alive() for each in started):
                assert time.monotonic() < ends, turn
                await ring(store, batch, rang)
                if person is not None and not is_cancelled and random.random() < 0.1:
                    with suppress(InvalidInputError):  # it has no calls yet
                        await person(CallQueue(store), batch)
                        is_cancelled = person is CallQueue.cancel_batch
                await anyio.sleep(0.05)
            await ring(store, batch, rang)
            assert {each.exitcode for each in started} <= {0, -SIGKILL}, turn
            assert started[-1].exitcode == 0, turn
            killed += sum(each.exitcode == -SIGKILL for each in started)
            assert rang in ([Counter(), Counter(PEOPLE)] if is_cancelled else [Counter(PEOPLE)]), turn


async def leased(store: Store, batch: str) -> list[str]:
    """Whom a worker would ring now."""
    now = store.clock.now()
    jobs = await store.lease("default", worker_id="w", limit=99, until=now + timedelta(hours=1), now=now, batch=batch)
    return [job.destination for job in jobs]


async def ring(store: Store, batch: str, rang: Counter[str]) -> None:
    """Ring whom a worker would, which is everybody or nobody."""
    if found := await leased(store, batch):
        states = await count_states(store, "default", batch_id=batch)
        assert sum(states.values()) - states[JobState.CANCELLED] == len(PEOPLE), "some are not stored"
    rang.update(found)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.anyio
@pytest.mark.parametrize("backend", DURABLE)
async def test_whoever_is_killed_each_call_of_an_escalation_rings_once(
    backend: str, fresh_url: Callable[[str], str]
) -> None:
    random, killed = Random(f"{backend} {KILLS}"), 0
    while killed < KILLS:
        async with (
            open_store(url := fresh_url(backend)) as store,
            serving(receiver_of(store, webhook_secret=SECRET).app) as address,
        ):
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=SECRET, speed=500)
            for number in (ANA, BEN, DAN):
                sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.NO_ANSWER))
            sandbox.scripts.add(Script(destination=CHEN, outcome=SessionStatus.COMPLETED, keys=["1"]))
            async with sandbox.running() as base_url:
                started = makers(random, random.choice([2, 3, 4]), notified, url, (url, base_url))
                for each in started[:-1]:
                    each.start()
                await anyio.to_thread.run_sync(lambda: [each.join(600) for each in started[:-1]])  # noqa: B023
                started[-1].start()
                await anyio.to_thread.run_sync(started[-1].join, 600)
            codes = [each.exitcode for each in started]
            assert set(codes) <= {0, -SIGKILL}
            assert codes[-1] == 0
            killed += codes.count(-SIGKILL)
            await judge_escalation(store, sandbox)


async def judge_escalation(store: Store, sandbox: Sandbox) -> None:
    jobs = {job.id: job for job in await CallQueue(store).find(limit=None)}
    (batch,) = {job.batch_id for job in jobs.values()}
    assert batch is not None
    rang = Counter(str(entry.client_request_id).rpartition(".")[0] for entry in sandbox.ledger if entry.rang)
    assert set(rang.values()) == {1}, "no call rings twice"
    assert [job.number for job in jobs.values()] == [ANA, BEN, DAN, CHEN, EVA], "one batch, however many handle it"
    state = {job.number: job.state for job in jobs.values()}
    called = {jobs[each].number for each in rang} | {to for to in state if state[to] is JobState.IN_DOUBT}
    assert called >= {ANA, BEN, DAN, CHEN}, "no step is left out"
    (found,) = (await read_states(CallQueue(store), [batch])).values()
    assert found is State.CANCELLED or state[CHEN] is JobState.IN_DOUBT, "Chen was heard, or nobody knows"
