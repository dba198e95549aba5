from __future__ import annotations

from datetime import UTC, datetime

from voiceflow_worker.cli.checks.diagnosis import Level
from voiceflow_worker.cli.checks.storage import judged_journals
from voiceflow_worker.core.guard import journal_check
from voiceflow_worker.model.jobs.job import Job, JobState


def job() -> Job:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    return Job(
        id="default.1", queue="default", state=JobState.SENDING, due_at=at, destination="+6587654321", body="{}",
        body_digest="", source="+6531234567", created_at=at,
    )  # fmt: skip


def test_a_store_that_has_forgotten_calls_is_a_failure() -> None:
    found = judged_journals(
        journal_check.JournalCheck(files=1, calls=7, forgotten=(job(),), set_back=True), queue="reminders"
    )
    assert found.level is Level.FAILURE
    assert "it has lost 1 call recorded in 1 journal file of this machine" in found.message
    assert (found.remedy or "").startswith("do not resume queue reminders")


def test_a_store_that_knows_what_was_sent_is_well() -> None:
    told = judged_journals(journal_check.JournalCheck(files=2, calls=7, forgotten=(), set_back=False), queue="default")
    assert (told.level, told.message) == (
        Level.OK,
        "2 journal files of this machine, with 7 calls: no sign that the store was set back",
    )
    none = judged_journals(journal_check.JournalCheck(files=0, calls=0, forgotten=(), set_back=False), queue="default")
    assert (none.level, none.message) == (Level.OK, "there are none")
