"""The contract of a store (`core/ports/store.py`), as a test suite that every backend must pass.

It needs pytest and anyio's pytest plugin, which comes with anyio. The fixture `opener` is a function that opens a store
of the backend under test. Within a test, each call of the function opens the same storage, as if from another process.
The storage must be empty when a test begins.

    # tests/test_my_backend.py
    import pytest
    from voiceflow_worker.backends import open_store
    from voiceflow_contract.suite import Opener, StoreContract

    class TestMyBackend(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path) -> Opener:
            return lambda: open_store(f"mystore://{tmp_path}/calls")

What a method reads may not grow with what the store holds. `CostContract` counts it; it needs one more fixture,
`read_so_far`, which tells what the storage has read until now.

Without a file of tests: `pytest --pyargs voiceflow_contract.at_url --store-url 'mystore://{name}'`. Whether the suite
finds defects that you seed into your store: `voiceflow_contract.defects`.

Every test runs on the event loops of the `anyio_backend` fixture; that of anyio's plugin has asyncio and trio. To test
one part alone, derive from its class (`WriteContract`, `LeaseContract`, …) instead of `StoreContract`.

`ManualClock` and `sample_job` may be used in your own tests.
"""

from .breaking import BreakContract as BreakContract
from .costs import CostContract as CostContract
from .costs import ReadSoFar as ReadSoFar
from .find import JobsContract as JobsContract
from .processes import ProcessContract as ProcessContract
from .records import EventsContract as EventsContract
from .records import RecordsContract as RecordsContract
from .records import ShareContract as ShareContract
from .samples import NOW as NOW
from .samples import QUEUE as QUEUE
from .samples import Ground as Ground
from .samples import ManualClock as ManualClock
from .samples import Opener as Opener
from .samples import add_jobs as add_jobs
from .samples import commit as commit
from .samples import delete as delete
from .samples import full_job as full_job
from .samples import moved as moved
from .samples import sample_job as sample_job
from .samples import sample_jobs as sample_jobs
from .totals import TotalsContract as TotalsContract
from .work import LeaseContract as LeaseContract
from .work import SlotContract as SlotContract
from .work import WaitContract as WaitContract
from .write import WriteContract as WriteContract


class StoreContract(
    WriteContract,
    BreakContract,
    LeaseContract,
    SlotContract,
    JobsContract,
    TotalsContract,
    RecordsContract,
    EventsContract,
    WaitContract,
    ShareContract,
    ProcessContract,
):
    """The whole contract."""
