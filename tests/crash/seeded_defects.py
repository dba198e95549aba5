"""The product, broken on purpose in one place: the soak must find each of these, by the word of a promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.seeded import defective
from tests.support.stores import SERVERS
from voiceflow_worker.core import writes
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import JournalWriter
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.webhooks.menu_calls import MenuCalls

ANSWERS = "self._answers(numbered)"
DELETES_LEASED = """
    from tests.contract.samples import delete
    now = self._store.clock.now()
    await delete(self._store, await self._overdue(JobState.LEASED, now), keep_keys_until=now)
    self._failed = {}
"""
READS_FIRST = """
    from voiceflow_worker.core.writes import NUMBER, SECOND_PARTY
    from voiceflow_worker.model.copying import replace
    names = (NUMBER, SECOND_PARTY)
    locks = [[one for one in write.conditions if getattr(one, "namespace", "") in names] for _, write in entries]
    wanted = {at: [of for own in locks for one in own if one.namespace == at for of in one.groups] for at in names}
    found = await self._store.records(wanted, now=self._store.clock.now())
    taken = {each.group for records in found.values() for each in records}
    await self._store.clock.sleep(0.4)  # the others do the same
    entries = [
        (new, write if any(taken.intersection(one.groups) for one in own) else
         replace(write, conditions=tuple(one for one in write.conditions if one not in own)))
        for (new, write), own in zip(entries, locks)
    ]
    guard, bulk ="""


class Defect(NamedTuple):
    """The word by which it is found, functions with a text and what replaces it, and how much it needs to show."""

    word: str
    changes: tuple[tuple[Callable[..., Any], str, str], ...]
    times: int = 1
    stores: tuple[str, ...] = ("sqlite",)


DEFECTS = {
    # Most summaries come before the sweep has anything to send again, and on a busy machine most brief calls expire
    # before they are leased: of these two, runs of thirty kills found nothing.
    "requeue-sending": Defect("INCIDENT", (
        (lifecycle.doubt, "return into_doubt(job, at=at, reason=reason, policy=policy)",
         "return requeued(job, due_at=at, reason=reason)"),
    ), times=2),
    "no-expiry": Defect("LATE", (
        (lifecycle.valid_until_of_post, "at + policy.submit_window, job.valid_until,", "at + policy.submit_window,"),
    ), times=2),
    "no-number-lock": Defect("TWO CALLS", (
        (writes.journal_entry, "locked_groups((job.number, *second), store_id=store_id)", "('nobody',)"),
    )),
    "no-suppression": Defect("SUPPRESSED", (
        (writes.orders_against, "AtMost(SUPPRESSED, listed_groups(job.parties, store_id=store_id), 0),", ""),
    )),
    "endless-redials": Defect("TWICE", ((lifecycle.redial_at, " or job.rounds >= plan.limit", ""),)),
    "no-redials": Defect("REDIAL LOST", ((lifecycle.redial_at, "plan = job.redial", "plan = None"),)),
    "lost-keys": Defect("KEYS LOST", (
        (MenuCalls.pressed, "    if call.job is None:", "    if call:\n        return\n    if call.job is None:"),
    )),
    "lost-jobs": Defect("LOST", (
        (Sweeper.sweep, "\n    self._failed = {}\n", DELETES_LEASED),
    )),
    "no-guard": Defect("SENT TWICE", (
        (RollbackGuard.verify, "    is_recent =", "    return True\n    is_recent ="),
        (RollbackGuard._compare, "    async with", "    return False\n    async with"),
        (RollbackGuard.numbered, "self._verified != self.restarts or ", ""),
        (JournalWriter._write, ANSWERS, "self._answers(__import__('msgspec').structs.replace(numbered, guard=None))"),
    ), stores=SERVERS),
    "guard-reads-first": Defect("TWO CALLS", (
        (JournalWriter._write, "\n    guard, bulk =", READS_FIRST),
    )),
}  # fmt: skip
"""A person alone rolls the file of a store back; a server does that to its data too."""


def with_seeded_defect(name: str | None) -> None:
    """Break this process's product, if a name is given."""
    for function, was, now in DEFECTS[name].changes if name is not None else ():
        bare, code = defective(function, was, now)
        bare.__code__ = code
