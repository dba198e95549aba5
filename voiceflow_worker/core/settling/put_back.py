"""Queued calls of a store that was put back, which the log of 8x8 shows as sent since the copy was made.

Workers find such calls in their journal files. What is in no file that can be read is found here alone: a row of the
log, of the time between the copy and the hold, from the source of a queued call to one of its numbers, that belongs to
no known POST. The call gets the POST that it lacks, is in doubt, and waits for a person: the row is not matched to it
by itself, because that time has no journal.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from anyio import to_thread

from voiceflow_worker.core.base.reading import find_pages, gates_at
from voiceflow_worker.core.ports import CallLog, Store
from voiceflow_worker.core.ports.controls import BACKUP, MADE, PLACE, marked_at
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.changes import Changes, Sessions
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedSession, LoggedSessions, Window
from voiceflow_worker.model.jobs.gate import GateKind
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import seen_in_log
from voiceflow_worker.model.numbers.phone import Likeness
from voiceflow_worker.model.text.wording import in_words

SPAN = timedelta(hours=2)
"""The longest range of one export."""
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})
_LAST_DIGITS = 6
_PAGE = 500
_NO_SEQUENCE = 2**53


async def time_without_journal(store: Store, queue: str) -> Window | None:
    """Return the time between the copy of a store and the hold of this queue; None if it was not put back.

    It begins with the mark of a backup, or else with the last event that the copy has.
    """
    gate = (await gates_at(store, queue, [None])).get(None)
    if gate is None or GateKind.MAY_LACK not in gate.kinds:
        return None
    marks = (await store.records({BACKUP: Page()}, now=store.clock.now()))[BACKUP]
    made, placed = ([marked_at(each) for each in marks if each.group == group] for group in (MADE, PLACE))
    until = max([gate.since, *filter(None, placed)])
    since = made[0] if made else None
    return Window(min(since or await _last_event_before(store, queue, until), until), until)


async def _last_event_before(store: Store, queue: str, until: datetime) -> datetime:
    """Return the time of the last event before the hold, found by halves; of none, that of the oldest call."""
    first, behind, found = 0, _NO_SEQUENCE, None
    while first < behind:
        middle = (first + behind) // 2
        events = await store.events(queue, after=middle, limit=1)
        if events and events[0].at < until:
            first, found = events[0].sequence, events[0].at
        else:
            behind = middle
    if found is None:
        async for page in find_pages(store, Listing(queue=queue, limit=1)):
            return page[0].created_at
    return found or until


class PutBack:
    """Looks for the queued calls of one queue in the log of the time without a journal."""

    def __init__(self, store: Store, call_log: CallLog, *, queue: str, policy: CallPolicy, changes: Changes) -> None:
        self._store = store
        self._call_log = call_log
        self._queue = queue
        self._policy = policy
        self._changes = changes
        self._sessions = Sessions(store)

    async def look(self, on_request: Callable[[int, int, Window], None]) -> tuple[int, int]:
        """Put in doubt what the log shows; return how many calls that is, and how many stay queued.

        `on_request` is called before each log is requested, with its number, their count, and its range. Raises
        CallLogError before anything is changed, and StoreError.
        """
        lost = await time_without_journal(self._store, self._queue)
        if lost is None:
            return 0, 0
        wider = self._policy.clock_skew + self._policy.longest_call
        span = Window(lost.since - wider, min(lost.until + wider, self._store.clock.now()))
        starts = [span.since + number * SPAN for number in range((span.until - span.since) // SPAN + 1)]
        rows = dict[ExportRow, None]()
        for number, since in enumerate(starts, 1):
            asked = Window(since, min(since + SPAN, span.until))
            on_request(number, len(starts), asked)
            rows |= dict.fromkeys((await self._call_log.logged_calls(since=asked.since, until=asked.until)).rows)
        logged = await to_thread.run_sync(_Index, list(rows), span)
        owned = set(await self._sessions.find(logged.session_ids))
        found = left = 0
        waiting = Listing(queue=self._queue, states=_WAITING, limit=_PAGE)
        async for page in find_pages(self._store, waiting):
            for job in page:
                if job.created_at > lost.until:
                    continue
                own = {post.session_id for post in job.posts}
                rung = [(place, each) for place, each in logged.of(job) if each.session_id not in owned | own]
                if not rung:
                    left += 1
                    continue
                place, session = max(rung, key=lambda each: _began(each[1], span))
                await self._changes.change(job.id, partial(self._doubted, place=place, session=session, span=span))
                found += 1
        return found, left

    def _doubted(self, job: Job, *, place: int, session: LoggedSession, span: Window) -> Job:
        if job.state not in _WAITING:
            return job
        began, now = _began(session, span), self._store.clock.now()
        row = f"session {session.session_id or 'without an id'} at {in_words(began)} to {job.numbers[place]}"
        return seen_in_log(job, row=row, began_at=began, place=place, at=now, policy=self._policy)


def _began(session: LoggedSession, span: Window) -> datetime:
    return min((leg.initiated_at for leg in session.legs if leg.initiated_at is not None), default=span.since)


class _Index:
    """The sessions of a log by the last digits of the numbers that they show: a queue may have many calls."""

    def __init__(self, rows: Sequence[ExportRow], span: Window) -> None:
        self._span = span
        self._near: dict[str, dict[int, LoggedSession]] = defaultdict(dict)
        self._unclear: dict[int, LoggedSession] = {}
        logged = LoggedSessions(rows)
        self.session_ids = [row.session_id for row in rows if row.session_id is not None]
        for session in logged.sessions:
            for leg in session.legs:
                digits = re.sub(r"[^0-9]", "", leg.destination or "")
                is_plain = len(digits) >= _LAST_DIGITS and re.fullmatch(r"[+0-9 ()./-]+", leg.destination or "")
                near = self._near[digits[-_LAST_DIGITS:]] if is_plain else self._unclear
                if leg.destination:  # of a row without a number, any call could be meant
                    near[id(session)] = session

    def of(self, job: Job) -> list[tuple[int, LoggedSession]]:
        """Return the sessions that may be calls of this job, each with the place of the number that rang."""
        return [
            (place, session)
            for place, number in enumerate(job.numbers)
            for session in (*self._near.get(number[-_LAST_DIGITS:], {}).values(), *self._unclear.values())
            if session.likeness(job.source, number, self._span) is not Likeness.OTHER
        ]
