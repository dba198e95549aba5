"""Group commit: all waiting operations are written in one transaction, and return when it is on the disk.

The statements run on the thread of the event loop, a few microseconds each. Commits with an fsync are in a second
thread, and so are waits for other processes. If the statements ran there too, the second thread would wait for Python's
lock (GIL) at each of them. Beside a busy event loop, a batch of 32 moves then took from 4 ms to 3.4 s.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import anyio
import apsw
import structlog
from anyio.lowlevel import checkpoint_if_cancelled

from voiceflow_worker.backends.running import BlockingThread, Home, LoopCalls
from voiceflow_worker.backends.sqlite.connection import (
    BUSY,
    SQL,
    Connection,
    is_failed_flush,
    passes,
    translated,
)
from voiceflow_worker.backends.sqlite.opening import SameFiles, check_version, pause_after
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.totals import STATE

T = TypeVar("T")

_SLICE = 0.003
"""Seconds that a long operation may run before other tasks get their turn."""
_MOST_TOGETHER = 512
_LOG_AFTER = 1.0
"""Seconds after which a wait for a locked file is logged."""

_log = structlog.get_logger("voiceflow.sqlite")


Counters = defaultdict[tuple[str, str | None, str], int]
"""Amounts by queue, batch and field."""


def totals_name(batch: str | None) -> str:
    return "" if batch is None else f"={batch}"


@dataclass(slots=True)
class Transaction:
    """A transaction: its connection, and what is written at its end.

    Tasks that wait for the queues in `changed` are woken. `live` is added to the counters (`totals` of the schema):
    once for the whole transaction, and not for each job. `lessened` are batches of which jobs were deleted.
    """

    db: Connection
    changed: set[str] = field(default_factory=set[str])
    live: Counters = field(default_factory=lambda: Counters(int))
    lessened: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def end(self) -> None:
        """Write what is written at the end. The counters of a batch are deleted with its last job."""
        self.db.run_each(SQL["note_change"], [(queue,) for queue in sorted(self.changed)])
        live = dict(self.live)
        for (queue, batch, name), amount in self.live.items():
            if batch is not None:
                live[queue, None, name] = live.get((queue, None, name), 0) + amount
        changes = [(queue, totals_name(batch), name, added) for (queue, batch, name), added in live.items() if added]
        self.db.run_each(SQL["count"], changes)
        # The names of states are few. Those of other fields are not, so no empty counter of theirs is kept.
        less = [change[:3] for change in changes if change[3] < 0 and not change[2].startswith(STATE)]
        self.db.run_each(SQL["forget_empty"], less)
        self.db.run_each(SQL["forget_batch"], self.lessened)


Operation = Callable[[Transaction], Generator[None, None, T]]
"""A function that runs the statements of one caller, as a generator. It yields where other tasks may run, while the
transaction stays open. It can be restarted in a new transaction. If it raises an error, nothing of it is written."""


@dataclass(eq=False, slots=True)
class _Ticket(Generic[T]):
    operation: Operation[T]
    since: float
    durably: bool
    done: anyio.Event = field(default_factory=anyio.Event)
    result: T | None = None
    error: BaseException | None = None
    abandoned: bool = False


class GroupCommit:
    """The only writer of a store in this process.

    A task may be cancelled while it waits. Its change may still be written, and other tasks are not affected. An
    operation fails if other processes keep the file locked for longer than `lock_timeout`. Before the first one in a
    file with the mark of a backup, `hold` holds what must be held in it, and returns the queues.
    """

    def __init__(
        self,
        db: Connection,
        files: SameFiles,
        *,
        lock_timeout: timedelta,
        wake: Callable[[Collection[str]], None],
        hold: Callable[[Connection, Path], Collection[str]],
    ) -> None:
        self._db = db
        self._db.leave_log()
        self._files = files
        self._path = files.path
        self._lock_timeout = lock_timeout.total_seconds()
        self._wake = wake
        self._hold = hold
        self._calls = LoopCalls.of_running_loop()
        self._thread = BlockingThread(self._calls, name="voiceflow-sqlite-commit")
        self._pending: deque[_Ticket[Any]] = deque()
        self._group: list[_Ticket[Any]] = []
        self._transaction = Transaction(db)
        self._durably = True
        self._flush_failed = False
        self._steps: Generator[None] = self._carry_out()
        self._resting = anyio.Event()
        self._resting.set()
        self._closed = False
        self._is_placed = False
        self._locked_since: float | None = None
        self._logged_locked = False
        self._home = Home(str(self._path))

    def require_usable(self) -> None:
        """Raise StoreUnavailableError if the store was closed, or belongs to another process or event loop (`Home`)."""
        if self._closed:
            raise StoreUnavailableError(f"the store {self._path} was closed; open it again")
        self._home.require()

    async def carry_out(self, operation: Operation[T], *, durably: bool = True) -> T:
        """Carry out an operation, and return its result when the change is on the disk.

        Without `durably`, the change survives the end of this process. But a power cut may undo this change and those
        after it, until a later commit is on the disk. A group in which no operation is durable is committed without an
        fsync, on the event loop, unless the WAL is long.

        Raises the error of the operation, or a StoreError if the transaction could not be written. After an error, the
        store has no part of the operation. There is one exception: if the flush of the WAL failed, and the process is
        killed before the WAL was moved into the file, the operation may be found in the WAL.
        """
        self.require_usable()  # before any await, because a forked child has no event loop
        await checkpoint_if_cancelled()
        ticket = _Ticket(operation, time.monotonic(), durably)
        self._pending.append(ticket)
        if self._resting.is_set():
            self._resting = anyio.Event()
            self._calls.soon(self._begin)  # after the tasks that are ready now: their writes join the group
        try:
            await ticket.done.wait()
        finally:
            ticket.abandoned = True
        if ticket.error is not None:
            raise ticket.error
        return cast("T", ticket.result)

    async def close(self) -> None:
        """Carry out the waiting operations, then close the file. Both are finished even if the caller is cancelled."""
        self._closed = True
        if not self._home.is_here:
            return  # the thread and the locks belong to the parent process, which closes the file
        closed = anyio.Event()
        with anyio.CancelScope(shield=True):
            while not self._resting.is_set():
                await self._resting.wait()
            # The last connection to close moves the WAL into the file, which may take a while.
            self._thread.do(self._close, lambda _: closed.set())
            self._thread.end()
            await closed.wait()

    def _close(self) -> None:
        if self._files.has_other_log:
            self._db.keep_log()
        elif self._flush_failed:
            with suppress(apsw.Error):
                self._empty_log()
        self._db.close()

    # The following methods are called by the event loop and not by tasks, so they are never cancelled.

    def _begin(self) -> None:
        self._pending = deque(ticket for ticket in self._pending if not ticket.abandoned)
        if not self._pending and not self._flush_failed:
            self._rest()
            return
        self._roll_back()
        if self._flush_failed:  # at once, because another process does not know of it
            self._thread.do(self._empty_log, self._go_on_after)
            return
        durably = any(ticket.durably for ticket in islice(self._pending, _MOST_TOGETHER))
        try:
            if durably != self._durably:
                self._durably = False  # until it is known
                self._db.sync_commits(wanted=durably)
                self._durably = durably
            if not self._is_placed and self._db.rows(SQL["backup_mark"]):
                self._is_placed = True
                self._thread.do(self._hold_if_put_back, self._go_on_after)
                return
            self._is_placed = True
            self._db.run("BEGIN IMMEDIATE")
            self._files.require()
            check_version(self._db, self._path)
        except Exception as error:  # noqa: BLE001 - passed to the waiting callers
            if passes(error):
                self._wait_for_others(error)
            else:
                self._fail_all(error)
            return
        self._locked_since, self._logged_locked = None, False
        self._group = [self._pending.popleft() for _ in range(min(len(self._pending), _MOST_TOGETHER))]
        self._transaction = Transaction(self._db)
        self._steps = self._carry_out()
        self._go_on()

    def _hold_if_put_back(self) -> None:
        try:
            self._files.require()
            held = self._hold(self._db, self._path)
        except BaseException:
            self._is_placed = False
            raise
        if held:
            _log.warning("this store was put back from a backup: its queues are held", store=str(self._path))

    def _empty_log(self) -> None:
        """Move the whole WAL into the file, after a flush of the WAL has failed.

        If Linux fails to write a page, it still marks the page as written. Earlier commits that were not flushed may
        therefore be missing on the disk. A power cut would then lose them, and everything after them in the WAL.
        """
        self._db.empty_log()
        self._flush_failed = False

    def _go_on_after(self, error: Exception | None) -> None:
        if error is not None and not self._pending:
            self._rest()  # the next operation tries again, and so does `close`
        elif error is not None and passes(error):
            self._wait_for_others(error)
        elif error is not None:
            self._fail_all(error)
        else:
            self._begin()

    def _rest(self) -> None:
        self._locked_since = None
        self._resting.set()

    def _fail_all(self, error: Exception) -> None:
        self._group, self._pending = list(self._pending), deque()
        self._finish(error)

    def _wait_for_others(self, error: BaseException) -> None:
        now = time.monotonic()
        self._locked_since = now if self._locked_since is None else self._locked_since
        if now - self._locked_since > _LOG_AFTER and not self._logged_locked:
            self._logged_locked = True
            why = "is locked by another process" if isinstance(error, BUSY) else "cannot be read or written"
            _log.warning(f"the store {why}; waiting", store=str(self._path), up_to=self._lock_timeout, error=str(error))
        impatient = now - self._lock_timeout
        for ticket in [ticket for ticket in self._pending if ticket.since < impatient]:
            self._pending.remove(ticket)
            ticket.error = translated(error, self._path) if isinstance(error, Exception) else error
            ticket.done.set()
        pause = pause_after(error)
        self._thread.do(lambda: time.sleep(pause), lambda _: self._begin())

    def _go_on(self) -> None:
        until = time.perf_counter() + _SLICE
        try:
            for _ in self._steps:
                if time.perf_counter() > until:
                    self._calls.soon(self._go_on)
                    return
        except Exception as error:  # noqa: BLE001 - passed to the waiting callers
            self._finish(error)
            return
        # A long WAL is moved into the file there. Without durable commits too: it would fill the disk.
        if self._group and (self._durably or self._db.is_log_long):
            self._thread.do(self._commit_in_thread, self._finish)
            return
        try:
            if self._group:
                self._commit()
        except Exception as error:  # noqa: BLE001 - passed to the waiting callers
            self._finish(error)
        else:
            self._finish(None)

    def _commit_in_thread(self) -> None:
        self._commit()
        if self._db.is_log_long:
            self._db.move_log()

    def _commit(self) -> None:
        try:
            self._db.run("COMMIT")
        except apsw.IOError as error:
            self._flush_failed = is_failed_flush(error)
            raise
        # If the file was replaced meanwhile, other processes do not see the change, so the caller gets an error.
        self._files.require_file()

    def _carry_out(self) -> Generator[None]:
        """Run the operations of the group, step by step. If one fails, it is removed, and the rest are repeated."""
        for ticket in self._group:
            try:
                ticket.result = yield from ticket.operation(self._transaction)
            except BaseException as error:
                self._take_out(ticket, error)
                if not isinstance(error, Exception):
                    raise
                return
            yield
        self._transaction.end()

    def _take_out(self, culprit: _Ticket[Any], error: BaseException) -> None:
        self._roll_back()
        self._pending.extendleft(ticket for ticket in reversed(self._group) if ticket is not culprit)
        self._group = []
        self._transaction = Transaction(self._db)
        culprit.error = translated(error, self._path) if isinstance(error, Exception) else error
        culprit.done.set()

    def _finish(self, error: Exception | None) -> None:
        """Give the waiting callers of the group their results. With an `error`, nothing was written."""
        if error is not None:
            self._roll_back()
        for ticket in self._group:
            if error is not None:
                ticket.error = translated(error, self._path)
            ticket.done.set()
        if error is None and self._transaction.changed:
            self._wake(self._transaction.changed)
        self._group = []
        if error is not None and self._db.is_log_long:
            # The disk may be full of a WAL that a reader has kept. Once it is in the file, its space is used again.
            self._thread.do(self._db.move_log, lambda _: self._begin())
        elif self._pending or self._flush_failed:
            self._calls.soon(self._begin)
        else:
            self._rest()

    def _roll_back(self) -> None:
        # A failed ROLLBACK (for example of a lost disk) must not hide the first error. `_begin` tries it again.
        if self._db.in_transaction:
            with suppress(apsw.Error):
                self._db.run("ROLLBACK")
