"""Stores of the version before and of the next one: what may be done on each, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import pytest

from tests.support.next_version import BROKEN, DIGESTS, STEPS
from tests.support.stores import DURABLE, renumber
from tests.support.voices import ScriptedVoice, created
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import CallPolicy, CallQueue, JobState, Store, open_store
from voiceflow_worker.actions import ActionRefusedError, Operator
from voiceflow_worker.backends.health import Health, UpgradeStep
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.registry import health_of
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict
from voiceflow_worker.service.upgrade import UpgradeStore

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", DURABLE)]

Fresh = Callable[[str], str]
NEWER = r"takes no more calls.*Install the newer version"


def upgrade_of(url: str, store: Store, steps: tuple[UpgradeStep, ...] = ()) -> UpgradeStore:
    health: Health = health_of(url, store)
    health.upgrade_steps = steps  # type: ignore[misc]
    return UpgradeStore(operator=Operator(store, CallPolicy(), "Mary"), health=health)


async def call(store: Store, voice: ScriptedVoice) -> None:
    await worker_for(store, voice).drain()


async def test_a_store_of_the_version_before_is_used_and_then_upgraded(backend: str, fresh_url: Fresh) -> None:
    url, voice = fresh_url(backend), ScriptedVoice(lambda _: created())
    async with open_store(url) as store:
        await renumber(store, -1)
    async with open_store(url) as store:
        await enqueued(store, 2)
        await call(store, voice)
        assert len(voice.placed) == 2
        await Heartbeats(store).worker(WorkerBeat(worker_id="of before", queue="default", rate=0, in_flight=0))
        act = upgrade_of(url, store)
        asked = await act.question()
        assert any("1 worker of the version before runs" in fact for fact in asked.facts)
        done = await act.do(asked.version)
        assert done.not_done
        assert "1 worker of the version before runs" in done.message
        assert await act.schema() is not None, "a worker that runs would be refused by the number"
        await Heartbeats(store).worker_left(WorkerBeat(worker_id="of before", queue="default", rate=0, in_flight=0))
        assert not (await act.do((await act.question()).version)).not_done
        assert await act.schema() is None
        with pytest.raises(ActionRefusedError, match="already"):
            await act.do()
        (entry,) = await entries_on(store)  # given again, it is one order
        assert (entry.action, entry.who) == ("store upgrade", "Mary")
        assert f"the store {store.url} has schema" in (entry.result or "")
        await enqueued(store, 1, first=7)
        await call(store, voice)
        assert len(voice.placed) == 3
    async with open_store(url) as store:
        assert await states(CallQueue(store)) == {"accepted": 3}


@pytest.mark.parametrize(("change", "remedy"), [(2, "Upgrade this installation"), (-2, "Use that version")])
async def test_a_store_of_another_version_is_left_alone(
    backend: str, fresh_url: Fresh, change: int, remedy: str
) -> None:
    url = fresh_url(backend)
    async with open_store(url) as store:
        await renumber(store, change)
    with pytest.raises(StoreVersionError, match=remedy):
        async with open_store(url):
            pass


@dataclass
class UpgradingVoice(ScriptedVoice):
    """The next version upgrades the store while the first call is placed."""

    store: Store | None = None

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        assert self.store is not None
        await renumber(self.store, +1)
        return await super().place(placement, progress=progress, now=now)


async def test_a_process_that_meets_a_newer_store_takes_no_calls_and_stores_what_becomes_of_them(
    backend: str, fresh_url: Fresh
) -> None:
    url = fresh_url(backend)
    async with open_store(url) as store:
        voice = UpgradingVoice(lambda _: created(), store=store)
        queue = await enqueued(store, 3)
        with pytest.RaisesGroup(pytest.RaisesExc(StoreVersionError, match=NEWER), flatten_subgroups=True):
            await worker_for(store, voice, concurrency=1).run()
        assert await states(queue) == {"accepted": 1, "queued": 2}, "the verdict was stored"
    async with open_store(url) as store:  # a process that is started again
        queue = CallQueue(store)
        (waiting, _) = await queue.find(states=[JobState.QUEUED])
        await queue.cancel(waiting.id, reason="as an event would be stored")
        with pytest.RaisesGroup(pytest.RaisesExc(StoreVersionError, match=NEWER), flatten_subgroups=True):
            await call(store, voice)
        assert (len(voice.placed), await states(queue)) == (1, {"accepted": 1, "queued": 1, "cancelled": 1})
        await renumber(store, +2)
    with pytest.raises(StoreVersionError, match="another version"):
        async with open_store(url):
            pass


async def test_steps_are_taken_once_by_parts_and_go_on_after_a_kill(backend: str, fresh_url: Fresh) -> None:
    url, taken = fresh_url(backend), list[str]()

    class KilledError(Exception):
        pass

    def killed_after(parts: int) -> tuple[UpgradeStep, ...]:
        def killed(step: UpgradeStep) -> UpgradeStep:
            async def take(store: Store) -> None:
                await step.take(store)
                taken.append(step.meaning)
                if len(taken) == parts:
                    raise KilledError

            return replace(step, take=take)

        return tuple(map(killed, STEPS))

    async with open_store(url) as store:
        await enqueued(store, 220)
        await renumber(store, -1)
        for parts in (1, 2, 3):
            with pytest.raises(KilledError):
                await upgrade_of(url, store, killed_after(parts)).do()
            assert await upgrade_of(url, store).schema() is not None
        asked = await upgrade_of(url, store, STEPS).question()
        assert "Step: a record of the digest of each call." in asked.facts
        assert not any("index" in fact for fact in asked.facts)
        await upgrade_of(url, store, killed_after(99)).do()
        assert taken == [STEPS[0].meaning, *[STEPS[1].meaning] * 5]
        assert await upgrade_of(url, store).schema() is None
        (found,) = (await store.records({DIGESTS: Page(limit=500)}, now=store.clock.now())).values()
        assert len(found) == 220
        inner = getattr(store, "inner", store)
        if isinstance(inner, PostgresStore):
            await inner.database.rows(BROKEN)  # another test gets the schema


async def test_people_who_upgrade_a_store_at_once_do_it_together(backend: str, fresh_url: Fresh) -> None:
    url = fresh_url(backend)
    async with open_store(url) as first, open_store(url) as second, open_store(url) as third:
        stores = (first, second, third)
        for _ in range(5):
            for step in health_of(url, first).upgrade_steps:
                await gather(*(partial(step.take, getattr(store, "inner", store)) for store in stores))
