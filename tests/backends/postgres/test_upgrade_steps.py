"""What a store of the version before lacks, and gets by `voiceflow store upgrade`."""

from __future__ import annotations

import anyio
import psycopg
import pytest

from tests.contract.samples import QUEUE, add_jobs, sample_job
from tests.support.flows import flow
from tests.support.postgres import PostgresServer
from tests.support.stores import new_name
from tests.support.waiting import until
from voiceflow_worker import enqueue_in
from voiceflow_worker.backends.postgres.health import PostgresHealth
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.registry import backend_for
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import CLOSED, CLOSED_KEY, BulkWrite, Put, Write
from voiceflow_worker.errors import StoreClosedError

pytestmark = pytest.mark.anyio

_BEFORE = """
DROP FUNCTION voiceflow.require_open;
ALTER TABLE voiceflow.voiceflow_schema ALTER store_id DROP DEFAULT, ALTER store_id TYPE uuid USING store_id::uuid,
    ALTER store_id SET DEFAULT gen_random_uuid();
"""


async def test_a_store_of_the_version_before_can_be_closed_once_its_steps_were_taken(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.url(schema=new_name())  # one with an id of its own
    async with backend_for(url)(url) as store:
        assert isinstance(store, PostgresStore)
        await store.database.run(_BEFORE, within=60)
        (step,) = PostgresHealth.upgrade_steps
        assert not await step.is_done(store)
        for _ in range(2):  # after a kill, it is taken again
            await step.take(store)
        assert await step.is_done(store)
        await add_jobs(store, [sample_job()])
        assert len(await store.jobs(Listing(queue=QUEUE), now=store.clock.now())) == 1
        closing = Write(puts=(Put(CLOSED, CLOSED_KEY, "it moved", None),))
        await store.write(BulkWrite(writes=(closing,)), now=store.clock.now())
        with pytest.raises(StoreClosedError, match="it moved"):
            await add_jobs(store, [sample_job(2)])
        await store.adopt("the id of another", sequence=0)
        assert (await store.database.rows("SELECT store_id FROM voiceflow.voiceflow_schema")) == [
            ("the id of another",)
        ]


async def test_a_step_that_waits_for_a_transaction_of_a_caller_keeps_no_call_waiting(
    postgres_server: PostgresServer,
) -> None:
    schema = new_name()
    url = postgres_server.url(schema=schema)
    async with backend_for(url)(url) as store:
        assert isinstance(store, PostgresStore)
        (step,) = PostgresHealth.upgrade_steps

        async def taken() -> None:
            await step.take(store)

        with psycopg.connect(postgres_server.url()) as caller:
            enqueue_in(caller, flow(), schema=schema)
            async with anyio.create_task_group() as upgrade:
                upgrade.start_soon(taken)
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
                table = f"{schema}.voiceflow_schema"
                await until(lambda: postgres_server.ask(waits, table) == [(1,)])
                with anyio.fail_after(2):
                    await add_jobs(store, [sample_job()])
                caller.commit()
