"""The contract of a store (`core/ports/store.py`), as a test suite that every backend must pass.

It needs pytest and anyio's pytest plugin, which comes with anyio. The fixture `opener` is a function that opens a store
of the backend under test. Within a test, each call of the function opens the same storage, as if from another process.
The storage must be empty when a test begins.

    # tests/test_my_backend.py
    import pytest
    from voiceflow_worker.backends import open_store
    from voiceflow_worker.backends.contract import Opener, StoreContract

    class TestMyBackend(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path) -> Opener:
            return lambda: open_store(f"mystore://{tmp_path}/calls")

What a method reads may not grow with what the store holds. `CostContract` counts it; it needs one more fixture,
`read_so_far`, which tells what the storage has read until now.

Every test runs on the event loops of the `anyio_backend` fixture; that of anyio's plugin has asyncio and trio. To test
one part alone, derive from its class (`WriteContract`, `LeaseContract`, …) instead of `StoreContract`.

`ManualClock` and `sample_job` may be used in your own tests.
"""

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in iter_modules(__path__)))

from voiceflow_worker.backends.contract.breaking import BreakContract as BreakContract
from voiceflow_worker.backends.contract.costs import CostContract as CostContract
from voiceflow_worker.backends.contract.costs import ReadSoFar as ReadSoFar
from voiceflow_worker.backends.contract.find import JobsContract as JobsContract
from voiceflow_worker.backends.contract.records import EventsContract as EventsContract
from voiceflow_worker.backends.contract.records import RecordsContract as RecordsContract
from voiceflow_worker.backends.contract.records import ShareContract as ShareContract
from voiceflow_worker.backends.contract.samples import NOW as NOW
from voiceflow_worker.backends.contract.samples import QUEUE as QUEUE
from voiceflow_worker.backends.contract.samples import Ground as Ground
from voiceflow_worker.backends.contract.samples import ManualClock as ManualClock
from voiceflow_worker.backends.contract.samples import Opener as Opener
from voiceflow_worker.backends.contract.samples import add_jobs as add_jobs
from voiceflow_worker.backends.contract.samples import commit as commit
from voiceflow_worker.backends.contract.samples import delete as delete
from voiceflow_worker.backends.contract.samples import full_job as full_job
from voiceflow_worker.backends.contract.samples import moved as moved
from voiceflow_worker.backends.contract.samples import sample_job as sample_job
from voiceflow_worker.backends.contract.samples import sample_jobs as sample_jobs
from voiceflow_worker.backends.contract.totals import TotalsContract as TotalsContract
from voiceflow_worker.backends.contract.work import LeaseContract as LeaseContract
from voiceflow_worker.backends.contract.work import TakeContract as TakeContract
from voiceflow_worker.backends.contract.work import WaitContract as WaitContract
from voiceflow_worker.backends.contract.write import WriteContract as WriteContract


class StoreContract(
    WriteContract,
    BreakContract,
    LeaseContract,
    TakeContract,
    JobsContract,
    TotalsContract,
    RecordsContract,
    EventsContract,
    WaitContract,
    ShareContract,
):
    """The whole contract."""
