"""Checks of the store: that it opens, and the journal files of this machine."""

from __future__ import annotations

from typing import cast

from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS, journal_of
from voiceflow_worker.core.writer import compared
from voiceflow_worker.finding import Diagnosis, failure, ok
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.doctor.context import CheckContext


async def opens(context: CheckContext) -> Diagnosis:
    """Check that the store can be opened."""
    return context.opening


async def journals(context: CheckContext) -> Diagnosis | None:
    """Check that the store knows every call that the workers of this machine sent."""
    files = cast("JournalFiles | None", journal_of(context.store))
    return None if files is None else await check_journals(context.store, files, queue=context.settings.queue)


async def check_journals(store: Store, journal: JournalFiles, *, queue: str) -> Diagnosis:
    """Compare all journal files of this machine with the store, changing nothing."""
    states = await journal.files(queue)
    problems = [each.problem for each in (*states, *await journal.files(ORDERS)) if each.problem]
    found = await compared(store, states)
    is_rolled_back = any(each.is_lost for each in found)
    calls, forgotten = set[str](), set[str]()
    for each in found:
        entries = (await journal.entries(each.file.name)).jobs
        calls |= {job.id for _, job in entries}
        forgotten |= {job.id for job in each.lost(entries) if is_rolled_back}
    files = f"{count_of(len(found), 'journal file')} of this machine"
    if is_rolled_back:
        return failure(
            f"the store was rolled back to an older state: it has lost {count_of(len(forgotten), 'call')} recorded in "
            f"{files}, and would make them again",
            remedy=f"do not resume queue {queue} yet: first start a worker, which puts these calls in doubt, run "
            "`voiceflow reconcile`, and resolve the rest with `voiceflow calls resolve`; then run `voiceflow resume`",
        )
    if problems:
        return failure(
            "; ".join(problems),
            remedy="nobody would see what a store that was rolled back has lost of it: use the version that wrote it, "
            "or move the file elsewhere once it is certain that nothing is missing",
        )
    if not found:
        return ok(f"there are none of this store; workers make them in {journal.folder}")
    held = f"{files} in {journal.folder}, with {count_of(len(calls), 'call')}"
    return ok(f"{held}: no sign that the store was rolled back")
