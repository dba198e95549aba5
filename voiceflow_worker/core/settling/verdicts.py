"""Verdicts of POSTs that are not stored yet, the holds that answers cause, and the counts of a worker's work."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.base.clock import ahead_of_8x8, clock_of_worker
from voiceflow_worker.core.gates import Holds
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.settling.settle import PostAnswer, Settler
from voiceflow_worker.errors import (
    IllegalMoveError,
    JobNotFoundError,
    StoreCorruptError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import MISSED_WINDOW_CODES
from voiceflow_worker.model.reports.verdict import NotSentCause, QueueHold, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.verdicts")

SHUTDOWN_TIMEOUT = 5.0
"""Seconds for which a stopping worker tries to store the last state of a call."""


def hold_of(verdict: Verdict, *, sent_at: datetime, answered_at: datetime, clock_skew: timedelta) -> QueueHold | None:
    """The hold that follows from an answer to a POST that was sent at `sent_at`.

    A missed submit window (-1015, -2007) means a slow network, or a clock that is wrong. The Date header of the answer
    shows which of the two it is: 8x8 wrote it after the POST was sent and before the answer arrived.
    """
    if verdict.hold is not None:
        return verdict.hold
    date = verdict.server_date
    if verdict.code not in MISSED_WINDOW_CODES or date is None:
        return None
    ahead = ahead_of_8x8(date, before=sent_at, after=answered_at)
    if abs(ahead) <= clock_skew:
        return None
    return QueueHold(reason=f"{clock_of_worker(ahead)}; set the clock (NTP)", until_opened=True)


BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds, in seconds, by which the durations of POSTs are counted."""


@dataclass(slots=True)
class WorkCounts:
    """What a worker has done since it began, for its metrics.

    `verdicts` counts calls with a journal entry, by the kind of the verdict, a blank and a detail: the HTTP status of
    the answer, or why nothing was sent. `posts` counts the POSTs that left by their duration, up to each of `BOUNDS`
    and above; `post_seconds` is the sum. `in_flight` and `verdicts_waiting` are numbers of now; `failing` counts the
    workers for which each background task, or 8x8, fails now.
    """

    verdicts: Counter[str] = field(default_factory=Counter[str])
    posts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    post_seconds: float = 0.0
    slots_missed: int = 0
    in_flight: int = 0
    verdicts_waiting: int = 0
    task_failures: Counter[str] = field(default_factory=Counter[str])
    failing: Counter[str] = field(default_factory=Counter[str])

    def count_verdict(self, verdict: Verdict) -> None:
        """Count a verdict that has just come."""
        detail = verdict.http_status or verdict.cause or (NotSentCause.UNREACHABLE if verdict.is_outage else "")
        self.verdicts[f"{verdict.kind} {detail}"] += 1

    def took(self, verdict: Verdict, seconds: float) -> None:
        """Count the duration of a POST, if it left."""
        if verdict.kind is not VerdictKind.NOT_SENT:
            self.posts[bisect_left(BOUNDS, seconds)] += 1
            self.post_seconds += seconds


class Verdicts:
    """Keeps the verdicts of answers until they are stored. One task stores them: together, as they came meanwhile.

    Nobody waits for the session of a call that 8x8 has created: its verdict waits for the next write of this worker
    (`store`), or for those of other calls, as many seconds as `batch_delay` gives at most. If the worker is killed
    before, the call is in doubt, unless its answer is kept. All other verdicts are stored at once: they may hold the
    queue, or are counted.

    `on_settled` is called when verdicts go to the store, and when they are stored; `on_fault` with the error because of
    which one was not, and `on_stored` when the last of those is. `counts` counts them. `restore_if_lost` restores what
    a store that was rolled back has lost of a job, and returns whether it had lost it.
    """

    def __init__(
        self,
        clock: Clock,
        settler: Settler,
        *,
        holds: Holds,
        batch_delay: Callable[[PostAnswer], float] = lambda _: 0.0,
        restore_if_lost: Callable[[Job], Awaitable[bool]] | None,
        on_settled: Callable[[], None],
        on_fault: Fault,
        on_stored: Callable[[], None] = lambda: None,
        counts: WorkCounts,
    ) -> None:
        self._counts = counts
        self._clock = clock
        self.settler = settler
        self._holds = holds
        self._batch_delay = batch_delay
        self._restore = restore_if_lost
        self._on_settled = on_settled
        self._on_fault = on_fault
        self._on_stored = on_stored
        self.late: set[str] = set()
        """The calls whose verdicts could not be stored yet: the store was away, or refused them."""
        self._pending: list[PostAnswer] = []
        self._came = anyio.Event()
        self._wait: anyio.CancelScope | None = None
        self._store_by = float("inf")
        self.waiting: int = 0
        """The number of POSTs that have ended, but whose verdict is not stored yet."""
        self.storing: int = 0
        """How many of them, of calls that 8x8 has created, are on their way to the store together."""

    def add(self, answer: PostAnswer) -> None:
        """Keep a verdict until it is stored."""
        self._counts.count_verdict(answer.verdict)
        self._pending.append(answer)
        self.waiting += 1
        wait = self._batch_delay(answer) if answer.may_wait else 0.0
        self.store(by=self._clock.monotonic() + wait if wait else float("-inf"))

    def store(self, *, by: float = float("-inf")) -> None:
        """Store what has waited by this time on the monotonic clock: now, if it is not given."""
        if self._pending and by < self._store_by:
            self._store_by = by
            self._came.set()
            if self._wait is not None:
                self._wait.cancel()

    async def run(self) -> None:
        """Store verdicts, until this is cancelled. What is not stored by then is tried for some seconds more."""
        async with anyio.create_task_group() as alone:
            try:
                while True:
                    await self._came.wait()
                    while (wait := self._store_by - self._clock.monotonic()) > 0:
                        with anyio.CancelScope() as self._wait:
                            await self._clock.sleep(wait)
                        self._wait = None
                    self._came, self._store_by = anyio.Event(), float("inf")
                    batch, self._pending = self._pending, []
                    self.storing = sum(each.verdict.kind is VerdictKind.CREATED for each in batch)
                    self._on_settled()
                    failed: list[PostAnswer] = []
                    with anyio.CancelScope(shield=True):
                        failed = await self._settle_together(batch)
                    self.storing = 0
                    self._settle_each(failed, alone)
                    self._has_settled(len(batch) - len(failed))
            finally:
                self._settle_each(self._pending, alone)

    def _settle_each(self, batch: Sequence[PostAnswer], group: TaskGroup) -> None:
        for answer in batch:
            group.start_soon(self._settle_alone, answer)

    def _has_settled(self, count: int) -> None:
        self.waiting -= count
        self._on_settled()

    async def _settle_together(self, batch: Sequence[PostAnswer]) -> list[PostAnswer]:
        """Store verdicts in one commit; returns the verdicts that must be stored one by one."""
        plain = [each for each in batch if each.gate is None]
        failed = [each for each in batch if each.gate is not None]
        try:
            settled = await self.settler.verdicts(plain)
        except Exception as error:  # noqa: BLE001 - a fault in one verdict must not keep the others from being stored
            _log.warning("verdicts of POSTs could not be stored together; each is stored alone", error=str(error))
            return list(batch)
        failed += [each for each, job in zip(plain, settled, strict=True) if isinstance(job, BaseException)]
        return failed

    async def _settle_alone(self, answer: PostAnswer) -> None:
        try:
            await self._settle_until_stored(answer)
        except cancellations():
            # The answer is known. Without one more try to store it, the call would be in doubt for nothing.
            with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True) as last:
                await self._settle_until_stored(answer)
            if last.cancelled_caught:
                then = "when the lease ends, the call is in doubt"
                if answer.kept_in is not None:
                    answer.kept_in.leave()
                    then = "the next worker of this machine stores it, or the call is in doubt"
                _log.error(
                    f"a worker stopped before the verdict of a POST could be stored; {then}", **_evidence_of(answer)
                )
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the worker, and cut its POSTs
            self._on_fault(Task.VERDICT, error)
            _log.exception(
                "an unexpected error kept the verdict of a POST from being stored; when the lease ends, the call is in "
                "doubt",
                **_evidence_of(answer),
            )
        else:
            if self.late <= {answer.job.id}:
                self._on_stored()
        finally:
            self.late.discard(answer.job.id)
            self._has_settled(1)

    async def _settle_until_stored(self, answer: PostAnswer) -> None:
        """Store one verdict. Tries again, whatever is raised: what this worker knows is kept until it is stored."""
        job, wait = answer.job, 0.05
        is_restored = False
        while True:
            try:
                if answer.gate is not None:
                    answer.held_until = await self._holds.order(answer.gate)
                    answer.gate = None
                (settled,) = await self.settler.verdicts([answer])
                if isinstance(settled, BaseException):
                    raise settled
            except (IllegalMoveError, JobNotFoundError) as error:
                # The store was rolled back and does not know this POST, or the job was deleted. A store that was rolled
                # back is restored from the worker's own file, once; then the verdict finds its POST.
                if is_restored or not await self._restore_lost(job):
                    _log.error(
                        "the verdict of a POST could not be stored: the call was deleted, or is unknown to the store",
                        **_evidence_of(answer),
                        error=str(error),
                    )
                    return
                is_restored = True
            except Exception as error:  # noqa: BLE001 - no error of a store, whatever it is, is evidence about a call
                if isinstance(error, StoreVersionError) and await self._has_newer_record(job):
                    # Moved since, for example after its summary. Trying again would not help.
                    _log.error(
                        "a verdict was not stored: a worker of a newer version has changed the call, and settles it",
                        **_evidence_of(answer),
                        error=str(error),
                    )
                    return
                self._is_late(job, error)
                await self._clock.sleep(wait)
                wait = min(wait * 2, 2.0)
            else:
                return

    async def _has_newer_record(self, job: Job) -> bool:
        """Whether the store answers, and has a record of this job that only a newer version can read."""
        try:
            return job.id not in await self.settler.known([job.id])
        except Exception:  # noqa: BLE001 - the store itself is of another version, or away: reported by the caller
            return False

    async def _restore_lost(self, job: Job) -> bool:
        """Restore the lost calls if the store has lost this job. Returns whether it had. Waits while the store is away.

        Without journal files, or with a corrupt store, nothing is restored, and this returns False.
        """
        if self._restore is None:
            return False
        while True:
            try:
                return await self._restore(job)
            except StoreCorruptError:
                return False
            except Exception as error:  # noqa: BLE001 - as above: the verdict waits
                self._is_late(job, error)
                await self._clock.sleep(1.0)

    def _is_late(self, job: Job, error: Exception) -> None:
        self.late.add(job.id)
        self._on_fault(Task.VERDICT, error)


def _evidence_of(answer: PostAnswer) -> dict[str, object]:
    """The evidence in a verdict that could not be stored, for the log, because it is recorded nowhere else."""
    verdict = answer.verdict
    return {
        "job": answer.job.id,
        "post": answer.number,
        "verdict": verdict.kind.value,
        "session": verdict.session_id,
        "message": verdict.message,
    }


def cancellations() -> tuple[type[BaseException], ...]:
    """The exceptions of a cancellation.

    On trio, a cancellation that also ends an inner nursery (a transport's, while it connects) is raised as a group. If
    the group were not caught, the job would stay in `sending`, and later be in doubt needlessly.
    """
    return (anyio.get_cancelled_exc_class(), BaseExceptionGroup)
