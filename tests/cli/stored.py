"""Stores for tests of the command line, filled without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallRequest, Job, open_store
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.model.reports.status import SessionStatus

Result = TypeVar("Result")


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'calls.db'}"


def within(folder: Path, work: Callable[[Engine], Awaitable[Result]], *, voice: ScriptedVoice | None = None) -> Result:
    """Do something with the store that commands in `folder` are pointed to by `url_of`."""

    async def opened() -> Result:
        async with open_store(url_of(folder)) as store:
            return await work(Engine(store, voice or ScriptedVoice()))

    return asyncio.run(opened())


def states(folder: Path) -> dict[str, int]:
    """The states that hold any calls."""

    async def work(engine: Engine) -> dict[str, int]:
        return {state.value: n for state, n in (await count_states(engine.store, engine.name)).items() if n}

    return within(folder, work)


def empty(folder: Path) -> str:
    """The URL of a store without calls: commands that only look at one make none."""

    async def work(engine: Engine) -> str:
        return engine.store.url

    return within(folder, work)


def enqueued(folder: Path, count: int = 1, *, batch: str | None = None) -> list[Job]:
    """Calls that wait, in the order of their ids."""

    async def work(engine: Engine) -> list[Job]:
        requests = [
            CallRequest(flow=flow(number(place)), batch=batch, unique_key=f"{batch}-{place}") for place in range(count)
        ]
        return [made.job for made in await engine.queue.enqueue_many(requests)]

    return within(folder, work)


def completed(folder: Path, *, batch_id: str | None = None) -> Job:
    """A call that was sent, and answered."""

    async def work(engine: Engine) -> Job:
        job = await sent(engine, batch_id=batch_id)
        await engine.summarise(job)
        return await engine.queue.get(job.id)

    return within(folder, work)


def unreached(folder: Path, status: SessionStatus, *, batch_id: str | None = None) -> Job:
    """A call that was sent, and not answered."""

    async def work(engine: Engine) -> Job:
        job = await sent(engine, batch_id=batch_id)
        await engine.summarise(job, status=status)
        return await engine.queue.get(job.id)

    return within(folder, work)


def in_doubt(folder: Path, destination: str = "+6587654321") -> Job:
    """A call of which nobody knows whether it was placed."""

    async def work(engine: Engine) -> Job:
        return await sent(engine, destination=destination)

    return within(folder, work, voice=ScriptedVoice(answer=lambda _: unknown()))


async def sent(engine: Engine, *, batch_id: str | None = None, destination: str = "+6587654321") -> Job:
    """One more call, sent before all that wait."""
    await engine.queue.enqueue(flow(destination), batch=batch_id, priority=1)
    leased_at = engine.store.clock.monotonic()
    (dispatch,) = await engine.sender.prepare(await engine.lease(1), leased_at=leased_at)
    await engine.finish(dispatch)
    return await engine.queue.get(dispatch.job.id)
