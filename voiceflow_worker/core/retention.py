"""Retention for the whole store: what is over is deleted in every queue, also in those without a worker.

Each worker and each receiver runs it, and a lease lets one of them do it at a time. A queue without a live worker is
swept too: otherwise its calls would never end, and so never be deleted.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

from voiceflow_worker.core.base.background import BackgroundTasks, LeaderLease, Task
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS, LocalJournal, journal_of
from voiceflow_worker.core.rollback import FILES_KEPT
from voiceflow_worker.core.settling.reconcile import TIMEOUT
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.jobs.policy import CallPolicy

EVERY = timedelta(seconds=60)
FILES_EVERY = timedelta(hours=1)
_LEASE = timedelta(seconds=55)
"""Shorter than `EVERY`, so that a process that goes on finds its own lease ended, and others take turns with it."""


class Retention:
    """Deletes what is over in all queues of a store, by the retention of this process.

    A queue that has a live worker is only pruned here: its worker sweeps it each second. With a `local_journal`, the
    old journal files of this host are deleted too, those of all queues.
    """

    def __init__(self, store: Store, policy: CallPolicy, *, local_journal: LocalJournal | None = None) -> None:
        self._store = store
        self._policy = policy
        self._journal_files = local_journal
        self._files_looked_at = float("-inf")
        self._names = QueueNames(store)
        self._beats = Heartbeats(store)
        self._lease = LeaderLease(store, "retention", length=_LEASE)

    async def run(self) -> int:
        """Delete what is over; return the number of calls. What another process does at present is left to it.

        A queue whose calls cannot be deleted does not keep the others from it; the first error is raised at the end.
        """
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

    async def _prune_files(self) -> None:
        now = self._store.clock.monotonic()
        if self._journal_files is None or now - self._files_looked_at < FILES_EVERY.total_seconds():
            return
        self._files_looked_at = now
        before = self._store.clock.now() - FILES_KEPT
        for queue in (ORDERS, *await self._names.known()):
            await self._journal_files.prune(queue, before=before)


def retained(store: Store, policy: CallPolicy) -> AbstractAsyncContextManager[None]:
    """Run the retention of a store while a block runs, and of the journal in which it keeps its orders."""
    journal: LocalJournal | None = None
    with suppress(SettingsError):  # a receiver need not write any
        journal = journal_of(store)
    run = Retention(store, policy, local_journal=journal).run
    return BackgroundTasks(store.clock).repeated(Task.RETENTION, run, every=EVERY.total_seconds())
