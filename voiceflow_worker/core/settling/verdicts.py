"""Verdicts of POSTs that are not stored yet, the holds that answers cause, and the counts of a worker's work."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import structlog

from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.base.clock import ahead_of_8x8, clock_of_worker
from voiceflow_worker.core.base.round_trips import Batcher
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
    """Return the hold that follows from an answer to a POST that was sent at `sent_at`.

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


class VerdictWriter:
    """Stores the verdicts of POSTs at once; those that come in the same moment share a commit.

    A verdict is tried until it is stored, or refused for good. `on_fault` is called with the error because of which one
    was not stored, and `on_stored` when the last of those is. `counts` counts them. `restore_if_lost` restores what a
    store that was rolled back has lost of a job, and returns whether it had lost it.
    """

    def __init__(
        self,
        clock: Clock,
        settler: Settler,
        *,
        holds: Holds,
        restore_if_lost: Callable[[Job], Awaitable[bool]] | None,
        on_fault: Fault,
        on_stored: Callable[[], None] = lambda: None,
        counts: WorkCounts,
    ) -> None:
        self._counts = counts
        self._clock = clock
        self.settler = settler
        self._together: Batcher[PostAnswer, Job] = Batcher(settler.verdicts, only_scopes=True)
        self._holds = holds
        self._restore = restore_if_lost
        self._on_fault = on_fault
        self._on_stored = on_stored
        self.late: set[str] = set()
        """The calls whose verdicts could not be stored yet: the store was away, or refused them."""
        self.waiting: int = 0
        """The number of POSTs that have ended, but whose verdict is not stored yet."""
        self.deciding: int = 0
        """How many of them are not of calls that 8x8 has created, and are stored for the first time: these may hold."""

    async def store(self, answer: PostAnswer) -> None:
        """Store one verdict. If this is cancelled, it is tried for some seconds more."""
        self._counts.count_verdict(answer.verdict)
        self.waiting += 1
        try:
            await self._store_until_done(answer)
        except cancellations():
            # The answer is known. Without one more try to store it, the call would be in doubt for nothing.
            with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True) as last:
                await self._store_until_done(answer)
            if last.cancelled_caught:
                _log.error(
                    "a worker stopped before the verdict of a POST could be stored; when the lease ends, the call is "
                    "in doubt",
                    **_evidence_of(answer),
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
            self.waiting -= 1

    async def _store_until_done(self, answer: PostAnswer) -> None:
        """Store one verdict. Tries again, whatever is raised: what this worker knows is kept until it is stored."""
        job, wait = answer.job, 0.05
        is_restored, is_first = False, True
        while True:
            try:
                if answer.gate is not None:
                    # An answer is about the account; a clock or a certificate that is wrong, about this machine.
                    verdict = answer.verdict
                    is_of_account = verdict.hold is not None and verdict.http_status is not None
                    answer.held_until = await self._holds.order(answer.gate, of_account=is_of_account)
                    answer.gate = None
                if is_first:
                    is_first = False
                    await self._store_first(answer)
                else:  # a fault in one verdict must not keep the others from being stored
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

    async def _store_first(self, answer: PostAnswer) -> None:
        """Store a verdict together with those of the same moment."""
        decides = answer.verdict.kind is not VerdictKind.CREATED
        self.deciding += decides
        try:
            await self._together.submit(answer)
        finally:
            self.deciding -= decides

    async def _has_newer_record(self, job: Job) -> bool:
        """Return whether the store answers, and has a record of this job that only a newer version can read."""
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
    """Return the evidence in a verdict that could not be stored, for the log, because it is recorded nowhere else."""
    verdict = answer.verdict
    return {
        "job": answer.job.id,
        "post": answer.number,
        "verdict": verdict.kind.value,
        "session": verdict.session_id,
        "message": verdict.message,
    }


def cancellations() -> tuple[type[BaseException], ...]:
    """Return the exceptions of a cancellation.

    On trio, a cancellation that also ends an inner nursery (a transport's, while it connects) is raised as a group. If
    the group were not caught, the job would stay in `sending`, and later be in doubt needlessly.
    """
    return (anyio.get_cancelled_exc_class(), BaseExceptionGroup)
