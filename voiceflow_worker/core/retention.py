"""Retention for the whole store: what is over is deleted in every queue, also in those without a worker.

Each worker and each receiver runs it, and a lease lets one of them do it at a time. A queue without a live worker is
swept too: otherwise its calls would never end, and so never be deleted.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

from voiceflow_worker.core.base.background import BackgroundTasks, LeaderLease, Task
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS, LocalJournal, journal_of
from voiceflow_worker.core.rollback import LEAST_KEPT
from voiceflow_worker.core.settling.reconcile import TIMEOUT
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.core.writes import ERASED_CALLS
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.jobs.policy import CallPolicy

EVERY = timedelta(seconds=60)
FILES_EVERY = timedelta(hours=1)
_LEASE = timedelta(seconds=55)
"""Shorter than `EVERY`, so that a process that goes on finds its own lease ended, and others take turns with it."""


OVERLAP = timedelta(minutes=10)


class Erasures:
    """The calls that were erased since one last looked.

    A command that erases a person reaches the store and the files of its own host. The journal files of other hosts are
    erased by their workers and receivers, within a minute.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = text_records(store, ERASED_CALLS)
        self._looked_after = self._read_to = ""

    async def new(self) -> set[str]:
        """The ids of the calls that were erased since `looked` was returned; all of them for one who begins."""
        found: set[str] = set()
        self._read_to = self._looked_after
        while page := await self._records.page(after=self._read_to):
            # One that cannot be read names nobody: an empty text is in every line of a file.
            found |= {erased for key, _ in page if (erased := key.partition(" ")[2])}
            self._read_to = page[-1][0]
        return found

    def looked(self) -> None:
        """Record that the files of this host have none of the calls that `new` has returned."""
        # A clock that was behind may add records before the newest: the last minutes are read again.
        with suppress(ValueError):  # of one that cannot be read
            at = float(self._read_to.partition(" ")[0]) - OVERLAP.total_seconds() if self._read_to else 0.0
            self._looked_after = f"{max(at, 0.0):017.6f}"


class Retention:
    """Deletes what is over in all queues of a store, by the retention of this process.

    A queue that has a live worker is only pruned here: its worker sweeps it each second. With a `local_journal`, the
    journal files of this host are deleted too, those of all queues, and calls that were erased (`Erasures`) are
    erased from them.
    """

    def __init__(self, store: Store, policy: CallPolicy, *, local_journal: LocalJournal | None = None) -> None:
        self._store = store
        self._policy = policy
        self._journal_files = local_journal
        self._erasures = Erasures(store)
        self._files_looked_at = float("-inf")
        self._names = QueueNames(store)
        self._beats = Heartbeats(store)
        self._lease = LeaderLease(store, "retention", length=_LEASE)

    async def run(self) -> int:
        """Delete what is over; returns the number of calls. What another process does at present is left to it.

        A queue whose calls cannot be deleted does not keep the others from it; the first error is raised at the end.
        """
        await self._erase_from_files()
        await self._prune_files()
        if not await self._lease.take():
            return 0
        deleted = 0
        failed: Exception | None = None
        swept_by_workers = {beat.queue for beat in await self._beats.everywhere()}
        for queue in await self._names.known():
            # With the timeout of a worker: the log of 8x8 is left to those who can read it.
            sweeper = Sweeper(self._store, queue=queue, policy=self._policy, log_timeout=TIMEOUT)
            try:
                if queue not in swept_by_workers:
                    await sweeper.sweep()
                deleted += await sweeper.prune()
            except Exception as error:  # noqa: BLE001 - raised below
                failed = failed or error
        if failed is not None:
            raise failed
        return deleted

    async def _erase_from_files(self) -> None:
        if self._journal_files is None:
            return
        if erased := await self._erasures.new():
            await self._journal_files.erase(erased)
        self._erasures.looked()

    async def _prune_files(self) -> None:
        now = self._store.clock.monotonic()
        if self._journal_files is None or now - self._files_looked_at < FILES_EVERY.total_seconds():
            return
        self._files_looked_at = now
        before = self._store.clock.now() - max(self._policy.retention, LEAST_KEPT)
        for queue in (ORDERS, *await self._names.known()):
            await self._journal_files.prune(queue, before=before)


def retained(store: Store, policy: CallPolicy) -> AbstractAsyncContextManager[None]:
    """Run the retention of a store while a block runs, and of the journal in which it keeps its orders."""
    journal: LocalJournal | None = None
    with suppress(SettingsError):  # a receiver need not write any
        journal = journal_of(store)
    run = Retention(store, policy, local_journal=journal).run
    return BackgroundTasks(store.clock).repeated(Task.RETENTION, run, every=EVERY.total_seconds())
