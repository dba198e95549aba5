"""Group commit: waiting operations are written in one transaction, and return when it is on the disk.

The statements run on the thread of the event loop, a few microseconds each. Only the commit with its fsync, and waits
for another process, run in a second thread. With the statements there too, Python's lock would change hands at each of
them: beside a loop that always has 1 ms of work, a batch of 32 moves then took from 4 ms up to 3.4 s.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

import anyio
import apsw
import structlog
from anyio.lowlevel import checkpoint_if_cancelled

from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.backends.sqlite.file.faults import BUSY, newer_version, translated
from voiceflow_worker.backends.sqlite.file.opening import SCHEMA_VERSION
from voiceflow_worker.backends.sqlite.file.same_files import SameFiles
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError

T = TypeVar("T")

_SLICE = 0.003
"""Seconds of a long operation before other tasks of the loop may run."""
_MOST_TOGETHER = 512
_TELL_AFTER = 1.0
"""Seconds that the file stays locked before that is logged."""

_log = structlog.get_logger("voiceflow.sqlite")


@dataclass(slots=True)
class Transaction:
    """A transaction of operations: its connection, and the queues whose waiting tasks are to be woken."""

    db: Connection
    changed: set[str] = field(default_factory=set[str])


Operation = Callable[[Transaction], Generator[None, None, T]]
"""The statements of one caller. It yields where other tasks may run (the transaction stays open), raises a
`VoiceflowError` only before its first write, and may be restarted in a new transaction."""


@dataclass(eq=False, slots=True)
class _Ticket(Generic[T]):
    operation: Operation[T]
    since: float
    done: anyio.Event = field(default_factory=anyio.Event)
    result: T | None = None
    error: BaseException | None = None
    abandoned: bool = False


class GroupCommit:
    """The single writer of a store in this process.

    A caller may be cancelled while it waits. Its change may still be written; other callers and locks are not affected.
    `patience` is how long another process may hold the file before an operation fails.
    """

    def __init__(self, db: Connection, files: SameFiles, *, patience: timedelta, wake: Callable[[str], None]) -> None:
        self._db = db
        self._files = files
        self._path = files.path
        self._patience = patience.total_seconds()
        self._wake = wake
        self._note_change = statements("jobs")["note_change"]
        self._calls = LoopCalls.of_running_loop()
        self._thread = BlockingThread(self._calls, name="voiceflow-sqlite-commit")
        self._pending: deque[_Ticket[Any]] = deque()
        self._group: list[_Ticket[Any]] = []
        self._transaction = Transaction(db)
        self._steps: Generator[None] = self._carry_out()
        self._resting = anyio.Event()
        self._resting.set()
        self._closed = False
        self._locked_since: float | None = None
        self._told_locked = False
        self._pid = os.getpid()

    def require_usable(self) -> None:
        """Raise `StoreUnavailableError` if the store was closed, or opened before this process was forked."""
        if self._closed:
            raise StoreUnavailableError(f"the store {self._path} was closed; open it again")
        if os.getpid() != self._pid:
            raise StoreUnavailableError(
                f"the store {self._path} was opened before this process was forked off; SQLite's locks do not survive "
                "that. Open the store in the process that uses it."
            )

    async def carry_out(self, operation: Operation[T]) -> T:
        """Carry out an operation; its result is on the disk when this returns.

        Raises the error of the operation, or a `StoreError` if the transaction could not be written: nothing of the
        operation is on the disk then.
        """
        self.require_usable()  # first: in a forked child there is no loop to wait on
        await checkpoint_if_cancelled()
        self.require_usable()
        ticket = _Ticket(operation, time.monotonic())
        self._pending.append(ticket)
        if self._resting.is_set():
            self._resting = anyio.Event()
            self._calls.soon(self._begin)  # after the tasks that are ready now, so that their writes join the group
        try:
            await ticket.done.wait()
        finally:
            ticket.abandoned = True
        if ticket.error is not None:
            raise ticket.error
        return cast("T", ticket.result)

    async def close(self) -> None:
        """Carry out the waiting operations, then close the file; also when cancelled."""
        self._closed = True
        if os.getpid() != self._pid:
            return  # the thread and the locks are the parent's; so is the closing
        closed = anyio.Event()
        with anyio.CancelScope(shield=True):
            while not self._resting.is_set():
                await self._resting.wait()
            # The last connection to close moves the log into the file, which may take a while.
            self._thread.do(self._close, lambda _: closed.set())
            self._thread.end()
            await closed.wait()

    def _close(self) -> None:
        if self._files.has_other_log:
            self._db.keep_log()
        self._db.close()

    # What follows is called by the loop, never from a task: no cancellation can come between.

    def _begin(self) -> None:
        self._pending = deque(ticket for ticket in self._pending if not ticket.abandoned)
        if not self._pending:
            self._locked_since = None
            self._resting.set()
            return
        self._roll_back()
        try:
            self._db.run("BEGIN IMMEDIATE")
            self._files.require()
            version = self._db.pragma("user_version")
            if version != SCHEMA_VERSION:
                raise newer_version(self._path, found=version, known=SCHEMA_VERSION)
        except BUSY as error:
            self._wait_for_others(error)
            return
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._group, self._pending = list(self._pending), deque()
            self._finish(error)
            return
        self._locked_since, self._told_locked = None, False
        self._group = [self._pending.popleft() for _ in range(min(len(self._pending), _MOST_TOGETHER))]
        self._transaction = Transaction(self._db)
        self._steps = self._carry_out()
        self._go_on()

    def _wait_for_others(self, error: Exception) -> None:
        now = time.monotonic()
        self._locked_since = now if self._locked_since is None else self._locked_since
        if now - self._locked_since > _TELL_AFTER and not self._told_locked:
            self._told_locked = True
            _log.warning("another process has the store locked; waiting", store=str(self._path), up_to=self._patience)
        impatient = now - self._patience
        for ticket in [ticket for ticket in self._pending if ticket.since < impatient]:
            self._pending.remove(ticket)
            ticket.error = translated(error, self._path)
            ticket.done.set()
        # A short random sleep and a new try: 2 ms p99 with two processes that write. SQLite's busy_timeout sleeps ever
        # longer, and starved the loser for 0.5 to 1.3 s.
        pause = random.uniform(0.0002, 0.002)
        self._thread.do(lambda: time.sleep(pause), lambda _: self._begin())

    def _go_on(self) -> None:
        until = time.perf_counter() + _SLICE
        try:
            for _ in self._steps:
                if time.perf_counter() > until:
                    self._calls.soon(self._go_on)
                    return
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._finish(error)
            return
        if self._group:
            self._thread.do(self._commit, self._finish)
        else:
            self._finish(None)

    def _commit(self) -> None:
        self._db.run("COMMIT")
        # Others do not see a change in a file without a name, so its caller must not rely on it.
        self._files.require_file()

    def _carry_out(self) -> Generator[None]:
        """The operations of the group, step by step. One that fails is removed, and the others are repeated."""
        for ticket in self._group:
            try:
                ticket.result = yield from ticket.operation(self._transaction)
            except VoiceflowError as error:
                ticket.error = error
            except BaseException as error:
                self._take_out(ticket, error)
                if not isinstance(error, Exception):
                    raise
                return
            yield
        changed = [(queue,) for queue in sorted(self._transaction.changed)]
        self._db.run_each(self._note_change, changed)

    def _take_out(self, culprit: _Ticket[Any], error: BaseException) -> None:
        self._roll_back()
        self._pending.extendleft(ticket for ticket in reversed(self._group) if ticket is not culprit)
        self._group = []
        self._transaction = Transaction(self._db)
        culprit.error = translated(error, self._path) if isinstance(error, Exception) else error
        culprit.done.set()

    def _finish(self, error: Exception | None) -> None:
        """Answer the group. With an `error`, nothing of it was written."""
        if error is not None:
            self._roll_back()
        for ticket in self._group:
            if error is not None:
                ticket.error = translated(error, self._path)
            ticket.done.set()
        if error is None:
            for queue in self._transaction.changed:
                self._wake(queue)
        self._group = []
        self._calls.soon(self._begin)

    def _roll_back(self) -> None:
        # A failing ROLLBACK (the disk is gone) must not hide why it was needed; `_begin` tries it again.
        if self._db.in_transaction:
            with suppress(apsw.Error):
                self._db.run("ROLLBACK")


Work = Callable[[], object]
Then = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class LoopCalls:
    """Ways to call a function on the event loop that was running when this was made."""

    soon: Callable[[Callable[[], None]], object]
    """For callers on the loop: runs after the tasks that are ready now."""
    from_thread: Callable[[Callable[[], None]], object]
    """For other threads. Raises `RuntimeError` once the loop is gone."""

    @classmethod
    def of_running_loop(cls) -> LoopCalls:
        """The running loop's. anyio's own way (`from_thread.run_sync`) makes the thread wait for the loop each time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            token = trio.lowlevel.current_trio_token()
            return cls(soon=token.run_sync_soon, from_thread=token.run_sync_soon)
        return cls(soon=loop.call_soon, from_thread=loop.call_soon_threadsafe)


class BlockingThread:
    """One thread that does one task after the other, and calls back on the loop after each.

    It is a daemon: a program that does not close its store can still end, and SQLite recovers from that.
    """

    def __init__(self, calls: LoopCalls, *, name: str) -> None:
        self._calls = calls
        self._tasks: SimpleQueue[tuple[Work, Then] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Work, then: Then) -> None:
        """Do `work` in the thread, then call `then` on the loop with what it raised, or None."""
        self._tasks.put((work, then))

    def end(self) -> None:
        """Let the thread end once it has done what it was given."""
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, then = task
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - it is handed to whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop has ended, and with it all waiting tasks
                self._calls.from_thread(partial(then, error))
