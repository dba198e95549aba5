"""Sessions: which POST a session of 8x8 belongs to, and summaries that came before anybody knew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Records
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.versions import tell_left_out
from voiceflow_worker.model.records.outcome_record import outcome_from, outcome_record
from voiceflow_worker.model.reports.outcome import Outcome

KEPT = timedelta(days=7)
SESSIONS = "session"
_OF_NOBODY_HERE = "elsewhere.unknown.0"  # reads as a POST, of a job that there is not
PARKED = "parked-summary"


class Sessions:
    """Session id to POST, and the parked summaries of sessions that no POST has named yet; both for seven days."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def remember(self, posts: Mapping[str, str], *, now: datetime) -> None:
        """Remember `{session id: client request id}`."""
        if posts:
            await self._records.put(SESSIONS, posts, expires_at=now + KEPT, now=now)

    async def disown(self, session_id: str, *, now: datetime) -> None:
        """Remember that a session is of no call of this store, so that it is not taken for one by its numbers again."""
        await self._records.put(SESSIONS, {session_id: _OF_NOBODY_HERE}, expires_at=now + KEPT, now=now)

    async def forget(self, posts: Mapping[str, str]) -> None:
        """Forget `{session id: client request id}` where that is what is remembered."""
        if posts:
            await self._records.delete(SESSIONS, posts)

    async def find(self, session_ids: Sequence[str], *, now: datetime) -> dict[str, tuple[str, int]]:
        """The job id and POST number of each session that is known."""
        found = await self._records.get(SESSIONS, session_ids, now=now)
        known = {session: job_of(client_request_id) for session, client_request_id in found.items()}
        return {session: post for session, post in known.items() if post is not None}

    async def park(self, session_id: str, outcome: Outcome, *, now: datetime) -> None:
        """Keep a summary until its session is named. The first one wins."""
        await self._records.put_if_absent(PARKED, {session_id: _written(outcome)}, expires_at=now + KEPT, now=now)

    async def parked(self, session_ids: Sequence[str], *, now: datetime) -> dict[str, Outcome | None]:
        """The summaries that wait for these sessions; None for one that a newer version has written."""
        if not session_ids:
            return {}
        found = await self._records.get(PARKED, session_ids, now=now)
        return {session: _read(session, text) for session, text in found.items()}

    async def all_parked(self, *, after: str, limit: int, now: datetime) -> list[tuple[str, Outcome | None]]:
        """Sessions with a parked summary behind `after`, in order; None for one that a newer version has written."""
        found = await self._records.scan(PARKED, now=now, after=after, limit=limit)
        return [(session_id, _read(session_id, text)) for session_id, text in found]

    async def unpark(self, session_ids: Sequence[str]) -> None:
        """Drop summaries that were applied."""
        if session_ids:
            await self._records.delete(PARKED, dict.fromkeys(session_ids))


def _written(outcome: Outcome) -> str:
    return json.dumps(outcome_record(outcome))


def _read(session_id: str, text: str) -> Outcome | None:
    try:
        return outcome_from(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        tell_left_out(f"the parked summary of session {session_id}", error)
        return None
