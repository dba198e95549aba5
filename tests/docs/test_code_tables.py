from __future__ import annotations

from collections.abc import Iterable

from tests.docs.pages import DOCS, section
from tests.support.plain_jobs import NOW, POLICY, a_job
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.jobs.evidence import summarised
from voiceflow_worker.model.jobs.job import JobState, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import (
    SESSION_STATUSES,
    SessionStatus,
)
from voiceflow_worker.model.reports.verdict import VerdictKind

PAGE = DOCS / "calls.md"


def session_statuses() -> str:
    rows = (
        [status.value, entry.meaning, f"`{state_after(status)}`", entry.remedy]
        for status, entry in SESSION_STATUSES.items()
    )
    return table(["status", "meaning", "the call is", "what to do"], rows)


def state_after(status: SessionStatus) -> str:
    """What a submitted call becomes by a summary with this status."""
    post = Post(number=1, client_request_id="q.1.1", began_at=NOW, valid_until=NOW, verdict=VerdictKind.CREATED)
    job = a_job(JobState.SUBMITTED, post_count=1, posts=(post,))
    outcome = Outcome(status=status, status_text=status.value)
    return summarised(job, 1, outcome, at=NOW, policy=POLICY).state.value


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in lines)


def test_the_table_of_statuses_says_what_the_library_says() -> None:
    text, expected = section(PAGE.read_text(encoding="utf-8"), "How a session ends"), session_statuses()
    assert " ".join(expected.split()) in " ".join(text.split()), f"put this there:\n{expected}"


def test_the_address_of_the_api_is_that_of_the_library() -> None:
    assert f"`{BASE_URL}`" in section(PAGE.read_text(encoding="utf-8"), "One address")
