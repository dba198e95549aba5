"""Prices of ended calls, read from the log of 8x8. The states of the calls do not change.

A row is matched to a call by its session id alone. Rows come late, and the rows of a session come one by one. A session
whose summary has a leg without a row is left for later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from anyio import to_thread

from voiceflow_worker.core.ports import CallLog, Query, Store
from voiceflow_worker.core.ports.reading import find_pages
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.log_spans import PAGE, Look, range_of, spans
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.jobs.call_log import LoggedSession, SessionBook, Window, window_of
from voiceflow_worker.model.jobs.evidence import charged, session_of
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, Post
from voiceflow_worker.model.jobs.policy import CallPolicy


@dataclass(slots=True, kw_only=True)
class Priced:
    """Counts of sessions: `looked_at` had no price before, and `priced` of them have one now. `cost` is by currency."""

    looked_at: int = 0
    priced: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict[str, Decimal])

    @property
    def open(self) -> int:
        """The number of sessions that still have no price."""
        return self.looked_at - self.priced

    def as_json(self) -> dict[str, object]:
        """The counts as JSON, for scripts."""
        cost = {currency: float(price) for currency, price in sorted(self.cost.items())}
        return {"looked_at": self.looked_at, "priced": self.priced, "open": self.open, "cost": cost}


@dataclass(frozen=True, slots=True)
class _UnpricedPost:
    """One POST whose price is looked for; `legs` is the number of legs in its summary."""

    job_id: str
    number: int
    session_id: str
    legs: int
    window: Window


class Prices:
    """Reads the prices of the calls of one queue. Many processes may read at once: a repeated price changes nothing."""

    def __init__(self, store: Store, call_log: CallLog, *, queue: str, policy: CallPolicy) -> None:
        self._store = store
        self._call_log = call_log
        self._queue = queue
        self._policy = policy
        self._changes = Changes(store, policy)

    async def read(
        self,
        *,
        batch_id: str | None = None,
        since: datetime | None = None,
        tell: Callable[[Look], None] = lambda _: None,
    ) -> Priced:
        """Read the prices of ended calls that have none yet.

        With `batch_id`, only calls of this batch are read; with `since`, only POSTs begun at this time or later. `tell`
        is called before each log is requested. Raises `CallLogError`, keeping the prices of earlier logs, and
        `StoreError`.
        """
        total = Priced()
        groups = spans(await self._cases(batch_id, since))
        for number, group in enumerate(groups, 1):
            latest = self._store.clock.now() + timedelta(seconds=1)
            asked = range_of(group, longest_call=self._policy.longest_call, latest=latest)
            tell(Look(number, len(groups), len(group), asked))
            log = await self._call_log.logged_calls(since=asked.since, until=asked.until)
            book = await to_thread.run_sync(SessionBook, log.rows)
            for start in range(0, len(group), PAGE):
                await gather(
                    *(
                        partial(self._price, case, book.get(case.session_id), total)
                        for case in group[start : start + PAGE]
                    )
                )
        return total

    async def _price(self, case: _UnpricedPost, session: LoggedSession | None, total: Priced) -> None:
        total.looked_at += 1
        charge = session.charge if session is not None and len(session.legs) >= case.legs else None
        if charge is None:
            return
        apply = partial(charged, number=case.number, session_id=case.session_id, charge=charge)
        with contextlib.suppress(JobError):  # it has been deleted
            await self._changes.change(case.job_id, apply)
            total.priced += 1
            if charge.currency is not None:
                total.cost[charge.currency] = total.cost.get(charge.currency, Decimal(0)) + charge.price

    async def _cases(self, batch_id: str | None, since: datetime | None) -> list[_UnpricedPost]:
        query = Query(queue=self._queue, states=FINAL_STATES, batch_id=batch_id, limit=PAGE)
        return [
            case async for page in find_pages(self._store, query) for job in page for case in self._of_job(job, since)
        ]

    def _of_job(self, job: Job, since: datetime | None) -> list[_UnpricedPost]:
        skew = self._policy.clock_skew
        return [
            _UnpricedPost(job.id, post.number, session_id, _legs(post), window_of(post, skew=skew))
            for post in job.posts
            if post.charge is None
            and post.may_have_rung
            and (session_id := session_of(post)) is not None
            and (since is None or post.began_at >= since)
        ]


def _legs(post: Post) -> int:
    return len(post.outcome.legs) if post.outcome is not None else 0
