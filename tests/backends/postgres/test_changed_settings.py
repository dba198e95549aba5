"""A role whose defaults are changed under a running worker: its verdicts wait, orders to stop pass, nothing ends."""

from __future__ import annotations

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.postgres import PostgresServer
from tests.support.voices import ScriptedVoice, created
from tests.support.waiting import until
from tests.support.workers import enqueued, in_state, worker_for
from voiceflow_worker import CallQueue, JobState, open_store
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND client_port IS NOT NULL"
)


@pytest.mark.parametrize("default", ["synchronous_commit = off", "default_transaction_isolation = 'serializable'"])
async def test_a_default_that_changes_under_a_worker_drops_no_verdict(own_server: PostgresServer, default: str) -> None:
    def changed(placement: Placement) -> Verdict:
        own_server.ask(f"ALTER ROLE CURRENT_USER SET {default}")
        own_server.ask(_CUT)
        return created(placement.client_request_id)

    voice = ScriptedVoice(answer=changed)
    async with open_store(own_server.url(), advises=False) as store, anyio.create_task_group() as group:
        await enqueued(store, 1)
        worker = worker_for(store, voice)
        group.start_soon(worker.run)
        await until(lambda: worker.counts.verdicts_waiting == 1)
        await until(lambda: worker.counts.task_failures["the verdict of a POST was not stored"] >= 3)
        with pytest.raises(StoreError):
            await CallQueue(store).status()
        async with open_store(own_server.url(), advises=False, allow_degraded=True) as in_a_hurry:
            await CallQueue(in_a_hurry).hold()
            await SuppressionList(in_a_hurry).add(number(5), reason="asked for it")
        await to_thread.run_sync(own_server.ask, f"ALTER ROLE CURRENT_USER RESET {default.partition(' ')[0]}")
        await in_state(store, JobState.ACCEPTED, 1)
        worker.stop()
    assert len(voice.placed) == 1
