"""The promises of a store as tests: what a backend of your own must pass, and what ours do.

Needs pytest, and anyio's plugin for it, which comes with anyio. A backend is put to the test with one fixture,
`opener`: it gives a function that opens the same storage at each call, empty when the test begins, so that a test can
look at it as several processes would.

    # tests/test_my_backend.py
    import pytest
    from voiceflow_worker.backends import open_store
    from voiceflow_worker.backends.contract import Opener, StoreContract

    class TestMyBackend(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path) -> Opener:
            return lambda: open_store(f"mystore://{tmp_path}/calls")

Every test runs on the event loops of the `anyio_backend` fixture: asyncio and trio unless you say otherwise. One theme
alone is tested by deriving from its class (`LeaseContract`, `RecordsContract`, …) instead of `StoreContract`.

`ManualClock`, `sample_job` and `moved` are there for tests of your own.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{theme}"
        for theme in ("commit", "control", "delete", "enqueue", "events", "find", "lease", "records", "share", "wait")
    )
)

from voiceflow_worker.backends.contract.clock import ManualClock  # noqa: E402
from voiceflow_worker.backends.contract.commit import CommitContract  # noqa: E402 - after asserts are set to tell more
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
    """Every promise of the three protocols and of the store around them."""
