"""The contract of a store, as a test suite that every backend must pass.

It needs pytest and anyio's pytest plugin, which comes with anyio. The fixture `opener` names the backend under test: a
function that opens the same storage at each call. The storage is empty when a test begins. A test opens it twice to
stand for two processes.

    # tests/test_my_backend.py
    import pytest
    from voiceflow_worker.backends import open_store
    from voiceflow_worker.backends.contract import Opener, StoreContract

    class TestMyBackend(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path) -> Opener:
            return lambda: open_store(f"mystore://{tmp_path}/calls")

Every test runs on the event loops of the `anyio_backend` fixture: asyncio and trio by default. To test one part alone,
derive from its class (`LeaseContract`, `RecordsContract`, …) instead of `StoreContract`.

`ManualClock`, `sample_job` and `moved` may be used in your own tests.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{theme}"
        for theme in ("commit", "control", "delete", "enqueue", "events", "find", "lease", "records", "share", "wait")
    )
)

from voiceflow_worker.backends.contract.clock import ManualClock  # noqa: E402
from voiceflow_worker.backends.contract.commit import CommitContract  # noqa: E402 - after the rewriting of asserts is set up
from voiceflow_worker.backends.contract.control import ControlContract  # noqa: E402
from voiceflow_worker.backends.contract.delete import DeleteContract  # noqa: E402
from voiceflow_worker.backends.contract.enqueue import EnqueueContract  # noqa: E402
from voiceflow_worker.backends.contract.events import EventsContract  # noqa: E402
from voiceflow_worker.backends.contract.find import FindContract  # noqa: E402
from voiceflow_worker.backends.contract.ground import Ground, Opener  # noqa: E402
from voiceflow_worker.backends.contract.lease import LeaseContract  # noqa: E402
from voiceflow_worker.backends.contract.records import RecordsContract  # noqa: E402
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, moved, sample_job, sample_jobs  # noqa: E402
from voiceflow_worker.backends.contract.share import ShareContract  # noqa: E402
from voiceflow_worker.backends.contract.wait import WaitContract  # noqa: E402

__all__ = [
    "NOW",
    "QUEUE",
    "CommitContract",
    "ControlContract",
    "DeleteContract",
    "EnqueueContract",
    "EventsContract",
    "FindContract",
    "Ground",
    "LeaseContract",
    "ManualClock",
    "Opener",
    "RecordsContract",
    "ShareContract",
    "StoreContract",
    "WaitContract",
    "moved",
    "sample_job",
    "sample_jobs",
]


class StoreContract(
    EnqueueContract,
    LeaseContract,
    CommitContract,
    EventsContract,
    FindContract,
    DeleteContract,
    WaitContract,
    ControlContract,
    RecordsContract,
    ShareContract,
):
    """The whole contract: jobs, control, records, and the store that has them."""
