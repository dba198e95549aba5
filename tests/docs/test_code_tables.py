from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.docs.pages import DOCS, section
from tests.support.plain_jobs import NOW, POLICY, a_job
from voiceflow_worker.gateway.wire import BASE_URL
from voiceflow_worker.model.jobs.evidence import summarised
from voiceflow_worker.model.jobs.job import JobState, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import (
    API_CODES,
    SESSION_ERROR_CODES,
    SESSION_STATUSES,
    CodeEntry,
    SessionStatus,
)
from voiceflow_worker.model.reports.verdict import VerdictKind

PAGE = DOCS / "calls.md"


def api_codes() -> str:
    unforeseen = [each for each in API_CODES.values() if not each.found_before_sending]
    return listed(_of(unforeseen))


def session_errors() -> str:
    return listed(_of(SESSION_ERROR_CODES.values()))


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


def listed(rows: Iterable[list[str]]) -> str:
    """A line for each code: its meaning, and what to do."""
    return "\n".join(f"- {code}: {meaning}. {remedy}".rstrip() for code, meaning, remedy in rows)


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in lines)


def _of(entries: Iterable[CodeEntry]) -> Iterable[list[str]]:
    return ([str(each.code), each.meaning, each.remedy] for each in entries)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Codes of an answer", api_codes()),
        ("How a session ends", session_statuses()),
        ("Error codes of a session", session_errors()),
    ],
)
def test_a_table_of_codes_says_what_the_library_says(heading: str, expected: str) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), heading)
    assert " ".join(expected.split()) in " ".join(text.split()), f"put this under {heading!r}:\n{expected}"


def test_the_address_of_the_api_is_that_of_the_library() -> None:
    assert f"`{BASE_URL}`" in section(PAGE.read_text(encoding="utf-8"), "One address")
