"""The check of this machine's journal files against the store."""

from __future__ import annotations

from voiceflow_worker.backends.journal_choice import journal_files
from voiceflow_worker.cli.checks.context import CheckContext
from voiceflow_worker.cli.checks.diagnosis import Diagnosis, failure, ok
from voiceflow_worker.core.guard.journal_check import JournalCheck, check_journals
from voiceflow_worker.model.text.counting import count_of


async def journals(context: CheckContext) -> Diagnosis | None:
    """The store knows every call that the workers of this machine sent."""
    settings = context.settings
    witness = journal_files(settings)
    if witness is None:
        return None
    return judged_journals(
        await check_journals(context.store, witness, queue=settings.queue, policy=settings.policy()),
        queue=settings.queue,
    )


def judged_journals(found: JournalCheck, *, queue: str) -> Diagnosis:
    """What the journal files mean."""
    files = f"{count_of(found.files, 'journal file')} of this machine"
    if not found.set_back:
        return ok(
            f"{files}; the store knows their {count_of(found.calls, 'call')}" if found.files else "there are none"
        )
    forgotten = count_of(len(found.forgotten), "call")
    return failure(
        f"the store was set back to an older state: it has lost {forgotten} recorded in {files}, "
        "and would make them again",
        remedy=f"do not resume queue {queue}. A worker that starts puts them in doubt; then `voiceflow reconcile`, "
        "settle what stays with `voiceflow calls resolve`, and `voiceflow resume`",
    )
