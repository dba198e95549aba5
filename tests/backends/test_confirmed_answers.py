"""A yes is true when it is said: whoever asks again after a write that no replica has confirmed gets no yes either.

The write is there, where it was made, so the same again has nothing left to write; a failover would lose it.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest

from tests.backends.test_failovers import follows, redis_in
from tests.support.flows import flow, number
from tests.support.postgres import PostgresServer
from tests.support.waiting import once_available
from voiceflow_worker import CallQueue, CallRequest, Job, open_store
from voiceflow_worker.backends.postgres import connection
from voiceflow_worker.backends.redis import manager
from voiceflow_worker.core.edits import BatchEdit
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Note, NoteKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalations import Escalations
from voiceflow_worker.service.forget import forget

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

_NUMBERS = itertools.count()
ON_CALL = Escalation(numbers=[number(90)], say="Fire.", source="+6531234567", voice_profile="en-IE-EmilyNeural")


async def seen(store: Store, queue: CallQueue) -> Job:
    """What 8x8 has told is noted in a call, as a summary is that is sent again."""
    (job,) = await queue.find(batch_id="told")

    def noted(job: Job) -> Job:
        note = Note(at=job.created_at, kind=NoteKind.EDITED, text="told")
        return job if note in job.notes else replace(job, notes=(*job.notes, note))

    return (await Changes(store, CallPolicy()).change(job.id, noted)).new


async def acknowledged(store: Store, queue: CallQueue) -> object:
    escalations = Escalations(queue)
    return await escalations.acknowledge(escalations.id_of("fire"), by="Ann")


Order = Callable[[Store, CallQueue], Awaitable[object]]
ORDERS: dict[str, Order] = {
    "enqueue": lambda _, queue: queue.enqueue(flow(number(1)), unique_key="one"),
    "enqueue many": lambda _, queue: queue.enqueue_many(
        [CallRequest(flow=flow(number(place)), unique_key=f"many-{place}") for place in (1, 2)]
    ),
    "start an escalation": lambda _, queue: Escalations(queue).start(ON_CALL, key="new fire"),
    "acknowledge": acknowledged,
    "hold": lambda _, queue: queue.hold(reason="stop"),
    "resume": lambda _, queue: queue.resume(batch_id="held"),
    "cancel a batch": lambda _, queue: queue.cancel_batch("cancelled"),
    "edit": lambda _, queue: queue.edit_batch("edited", BatchEdit(names=frozenset({"priority"}), priority=7)),
    "set the rate": lambda _, queue: queue.set_rate(3.0),
    "reset the rate": lambda _, queue: queue.reset_rate(),
    "suppress": lambda store, _: SuppressionList(store).add(number(3), reason="asked"),
    "take off the list": lambda store, _: SuppressionList(store).remove(number(4)),
    "take back a file": lambda store, _: SuppressionList(store).take_back([number(5)], file="f"),
    "erase": lambda store, _: forget(store, number(6)),
    "a summary": seen,
}


async def prepared(store: Store) -> CallQueue:
    """What the orders are about, on the replica too."""
    queue = CallQueue(store)
    for place, batch in enumerate(("held", "cancelled", "edited", "told"), 10):
        await queue.enqueue(flow(number(place)), batch_id=batch)
    await queue.hold(batch_id="held")
    await Escalations(queue).start(ON_CALL, key="fire")
    await SuppressionList(store).add(number(4), reason="asked")
    await SuppressionList(store).add(number(5), reason="asked", file="f")
    (gone,) = [await queue.enqueue(flow(number(6)))]
    await queue.cancel(gone.id)
    return queue


async def is_refused_twice(store: Store, order: Order) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await order(store, CallQueue(store))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    monkeypatch.setattr(manager, "CONFIRM_WITHIN_MS", 200)
    primary, replica = redis_in(tmp_path / "a").start(), redis_in(tmp_path / "b").start()

    try:
        await follows(replica, primary)
        async with open_store(f"{primary.url}?replicas=1") as store:
            await prepared(store)
            replica.pause()
            await is_refused_twice(store, order)
            replica.go_on()
            await once_available(lambda: order(store, CallQueue(store)))
    finally:
        primary.kill()
        replica.kill()


@pytest.fixture(scope="module")
def waiting_server() -> Generator[PostgresServer]:
    """Commits of `strict` wait for a standby that does not answer."""
    server = PostgresServer("synchronous_standby_names=nobody", "synchronous_commit=local").start()
    server.ask("CREATE ROLE strict SUPERUSER LOGIN")
    server.ask("ALTER ROLE strict SET synchronous_commit = on")
    yield server
    server.close()


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_postgresql(waiting_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    schema = f"s{next(_NUMBERS)}"
    async with open_store(waiting_server.url(schema=schema), advises=False) as store:
        await prepared(store)
        async with open_store(waiting_server.url(schema=schema, user="strict"), advises=False) as strict:
            monkeypatch.setattr(connection, "ANSWER_WITHIN", 1.0)
            await is_refused_twice(strict, order)
        monkeypatch.undo()
        # What waits for the standby holds its locks.
        waiting_server.ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'strict'")
        await order(store, CallQueue(store))
