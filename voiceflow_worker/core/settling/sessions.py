"""Sessions of 8x8: the POST that each session belongs to, and summaries that arrived before their session was known."""

from __future__ import annotations

import json
from collections.abc import Iterable

from voiceflow_worker.core import units
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.record_set import RecordSet, text_records
from voiceflow_worker.model.records.outcome_record import outcome_from, outcome_record
from voiceflow_worker.model.reports.outcome import Outcome

SESSIONS = units.SESSION
_OF_NOBODY_HERE = "elsewhere.unknown.0"
"""The value for a session that belongs to no call of this store. It has the form of a POST of a job that does not
exist."""
PARKED = "parked-summary"


class Sessions:
    """The POST of each session, and the parked summaries of sessions without a known POST; kept for seven days.

    Every method raises StoreError.
    """

    def __init__(self, store: Store) -> None:
        self._posts = text_records(store, SESSIONS, keep_for=units.SESSION_KEPT)
        self.parked: RecordSet[Outcome] = RecordSet(
            store,
            PARKED,
            write=lambda outcome: json.dumps(outcome_record(outcome)),
            read=lambda _, text: outcome_from(json.loads(text)),
            keep_for=units.SESSION_KEPT,
        )
        """Parked summaries by session. The first summary of a session counts. A summary that cannot be read is None."""

    async def disown(self, session_id: str) -> None:
        """Store that a session belongs to no call of this store, so that it is not matched by its numbers again."""
        await self._posts.put({session_id: _OF_NOBODY_HERE})

    async def find(self, session_ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """The job id and POST number of each session that is known."""
        found = await self._posts.get(session_ids)
        known = {session: job_of(request_id) for session, request_id in found.items() if request_id is not None}
        return {session: post for session, post in known.items() if post is not None}
