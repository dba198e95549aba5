"""Checks of the store and of its queue: journal files, workers, limits, holds, doubts, menus."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from voiceflow_worker.backends.local_journal import journal_files
from voiceflow_worker.core.base.reading import count_states, find_jobs, gates_of, limits_of
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.own_numbers import OwnNumbers
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.outside import LocalJournal
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.rollback import lost_of
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.writer import compared
from voiceflow_worker.finding import Diagnosis, failure, ok, warning
from voiceflow_worker.model.flows.callflow import body_problem
from voiceflow_worker.model.jobs.gate import GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words, rate_in_words
from voiceflow_worker.model.text.wording import in_words as at_time
from voiceflow_worker.reporting.gates import closed_in_words, resume_of
from voiceflow_worker.reporting.status import read_status, unreadable_calls
from voiceflow_worker.service.doctor.context import CheckContext


async def opens(context: CheckContext) -> Diagnosis:
    """Check that the store can be opened."""
    return context.opening


async def schema(context: CheckContext) -> Diagnosis | None:
    """Check that the store has the schema of this version; one that cannot be used is not opened."""
    found = await context.health.schema()
    if found is None:
        return None
    if found.number == found.known:
        return ok(f"{found.number}, that of this version")
    if found.number > found.known:
        return failure(
            f"{found.number}, of a newer version: workers of this one, which knows {found.known}, take no calls",
            remedy="install the newer version here (pip install -U voiceflow-worker)",
        )
    return warning(
        f"{found.number}, of the version before, whose processes may still use the store",
        remedy="once every process that uses it has this version, run `voiceflow store upgrade`",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCheck:
    """The result of a comparison of journal files with the store.

    `files` and `calls` are the numbers of files and calls that were read. `forgotten` are the sent calls that the store
    has lost. `rolled_back` is True if the store certainly had one of these calls before.
    """

    files: int
    calls: int
    forgotten: tuple[Job, ...]
    rolled_back: bool


async def check_journals(store: Store, local_journal: LocalJournal, *, queue: str) -> JournalCheck:
    """Compare all journal files of this host with the store, changing nothing."""
    found = await compared(store, await local_journal.files(queue))
    lost = any(each.is_lost for each in found)
    calls: set[str] = set()
    forgotten: dict[str, Job] = {}
    for each in found:
        entries = await local_journal.entries(each.file.name)
        calls |= {job.id for _, job in entries}
        forgotten |= {job.id: job for job in lost_of(each, entries) if lost}
    return JournalCheck(files=len(found), calls=len(calls), forgotten=tuple(forgotten.values()), rolled_back=lost)


async def journals(context: CheckContext) -> Diagnosis | None:
    """Check that the store knows every call that the workers of this machine sent."""
    settings = context.settings
    local_journal = journal_files(settings, context.store)
    if local_journal is None:
        return None
    return judged_journals(
        await check_journals(context.store, local_journal, queue=settings.queue),
        queue=settings.queue,
        folder=local_journal.folder,
    )


def judged_journals(found: JournalCheck, *, queue: str, folder: Path) -> Diagnosis:
    """The diagnosis for the journal files of this machine, of which new ones are made in `folder`."""
    files = f"{count_of(found.files, 'journal file')} of this machine"
    if not found.rolled_back:
        return ok(
            f"{files} in {folder}, with {count_of(found.calls, 'call')}: no sign that the store was rolled back"
            if found.files
            else f"there are none of this store; workers make them in {folder}"
        )
    forgotten = count_of(len(found.forgotten), "call")
    return failure(
        f"the store was rolled back to an older state: it has lost {forgotten} recorded in {files}, "
        "and would make them again",
        remedy=f"do not resume queue {queue} yet: first start a worker, which puts these calls in doubt, run "
        "`voiceflow reconcile`, and resolve the rest with `voiceflow calls resolve`; then run `voiceflow resume`",
    )


MOST_DOUBTS = 1000


async def workers(context: CheckContext) -> Diagnosis:
    """Check that a worker runs if calls are due."""
    chosen = context.settings
    found = await read_status(
        context.store, chosen.queue, clock_skew=chosen.clock_skew, summary_deadline=chosen.summary_deadline
    )
    if found.failing:
        failing = "; ".join(f"{task} ({error})" for task, error in found.failing.items())
        return warning(failing, remedy="it is tried again; if it lasts, the logs of workers and receivers have more")
    if found.workers:
        return ok(f"{count_of(found.workers, 'worker')} of queue {found.queue}, {found.rate_now:g} calls/s now")
    if not found.due:
        return ok(f"no worker runs for queue {found.queue}, and nothing is due")
    waited = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
    are = "is due," if found.due == 1 else "are due, the oldest"
    return warning(
        f"no worker runs for queue {found.queue}, but {count_of(found.due, 'call')} {are} for {waited}",
        remedy="run `voiceflow worker`",
    )


async def holds(context: CheckContext) -> Diagnosis:
    """Check that neither the queue nor one of its batches is held."""
    store, queue = context.store, context.settings.queue
    now = store.clock.now()
    closed = [gate for gate in await gates_of(store, queue) if gate.is_closed(at=now)]
    held = [gate for gate in closed if gate.state is GateState.HELD]
    if not held:
        cancelled = ", ".join(gate.name for gate in closed)
        return ok(f"none; batches cancelled for good: {cancelled}" if closed else "none")
    closed_gates = "; ".join(map(closed_in_words, held))
    if any(GateKind.MAY_LACK in gate.kinds for gate in held):
        return failure(
            closed_gates,
            remedy="do not resume yet: add opt-outs that are missing (`voiceflow suppress add`), run `voiceflow "
            "reconcile`, resolve the calls that stay in doubt (`voiceflow calls resolve`), then "
            f"{' and '.join(map(resume_of, held))}",
        )
    lasting = [gate for gate in held if gate.until is None]
    remedies = [f"correct the cause, then {' and '.join(map(resume_of, lasting))}"] if lasting else []
    if lasting != held:
        remedies.append("wait: a hold with a time ends by itself; if 8x8 asks for pauses often, lower the rate")
    return warning(closed_gates, remedy="; ".join(remedies))


async def numbers(context: CheckContext) -> Diagnosis | None:
    """Tell which numbers of the account 8x8 has reported as not active."""
    found = await OwnNumbers(context.store).not_active()
    if not found:
        return None
    told = failure if any(each.is_inactive for each in found) else warning
    said = "; ".join(each.in_words() for each in found)
    return told(said, remedy="; ".join(f"{each.number}: {each.what_to_do}" for each in found))


async def doubts(context: CheckContext) -> Diagnosis:
    """Check that no call is in doubt."""
    store, queue = context.store, context.settings.queue
    count = (await count_states(store, queue))[JobState.IN_DOUBT]
    if not count:
        return ok("none")
    found = await find_jobs(store, Due(queue=queue, state=JobState.IN_DOUBT, limit=MOST_DOUBTS))
    began = min((post.began_at for job in found if (post := job.open_post) is not None), default=None)
    age = f"; the oldest POST began {duration_in_words(store.clock.now() - began)} ago" if began is not None else ""
    return warning(
        f"{count_of(count, 'call')} may have been placed and will not be sent again without evidence{age}",
        remedy="look for them in the log of 8x8 with `voiceflow reconcile`; resolve the rest (`voiceflow calls list "
        "--state in_doubt`) by hand with `voiceflow calls resolve`",
    )


async def records(context: CheckContext) -> Diagnosis:
    """Check that the calls that have not ended can be read, and that the bodies of the next ones are whole."""
    store, queue = context.store, context.settings.queue
    found = await unreadable_calls(store, queue)
    if found.count:
        return failure(
            f"{found.in_words()}, and nothing happens to them: {found.example}",
            remedy="if a newer version of voiceflow-worker uses this store, upgrade this installation. Otherwise they "
            "are damaged: keep a copy of the store, restore it from a backup (`voiceflow restore` for SQLite), or look "
            "for them in the log of 8x8 and enqueue those that were not called under another unique key; `voiceflow "
            "calls cancel ID` ends one of them",
        )
    broken = [
        job.id
        for job in await find_jobs(store, Due(queue=queue, state=JobState.QUEUED, limit=MOST_CALLS))
        if body_problem(job.body) is not None
    ]
    if broken:
        return failure(
            f"the stored body of {count_of(len(broken), 'waiting call')} is broken, such as of {broken[0]}: each ends "
            "as failed when it is due, and nobody is called",
            remedy="cancel them with `voiceflow calls cancel`, and enqueue them again under another unique key",
        )
    return ok("the calls that wait or are in progress can be read")


async def schedules(context: CheckContext) -> Diagnosis | None:
    """Check that the last run of each schedule was started, and that no run is overdue."""
    from voiceflow_worker.service.scheduled_run import RunState, read_schedules  # a worker uses other checks

    store, queue = context.store, context.settings.queue
    found = await read_schedules(store, queue)
    late = [(each.last.schedule, at) for each in found if (at := each.overdue_since) is not None]
    undone = [each.last for each in found if each.last.is_undone or each.last.state is RunState.REPEATED]
    if not found:
        return None
    if late:
        due = ", ".join(f"{name} at {at_time(at)}" for name, at in late)
        return failure(
            f"no `voiceflow schedule` has started these runs, or reported why it could not: {due}",
            remedy="run `voiceflow schedule` with these files. If a schedule is no longer used, this failure "
            "disappears after some days",
        )
    if undone:
        judged = failure if any(each.is_undone for each in undone) else warning
        return judged(
            "; ".join(each.in_words() for each in undone),
            remedy="correct the cause. To call the people of a missed run now, enqueue their file with --campaign "
            "and the --batch of the run",
        )
    return ok(f"the last runs of {count_of(len(found), 'schedule')} were started")


async def limits(context: CheckContext) -> Diagnosis:
    """Check that the limits in the store are those of the settings."""
    chosen = context.settings
    wanted = Limits(rate=chosen.rate, burst=chosen.burst, max_active=chosen.max_active, reserve=chosen.reserve)
    stored = await limits_of(context.store, chosen.queue)
    if stored is None:
        return ok(f"{in_words(wanted)} once a worker starts")
    if stored == wanted:
        return ok(in_words(stored))
    held = await SetRate(context.store, chosen.queue).over(wanted)
    remedies: list[str] = []
    if held.rate != wanted.rate:
        remedies.append(
            "the rate was set by `voiceflow rate`: to use the rate of the settings, run `voiceflow rate --reset` and "
            "start the workers again"
        )
    if held != stored:
        remedies.append(
            "the limits of the worker that started last apply: set the same VOICEFLOW_RATE, VOICEFLOW_BURST, "
            "VOICEFLOW_MAX_ACTIVE and VOICEFLOW_RESERVE for all workers and here"
        )
    return warning(
        f"the queue has {in_words(stored)}, but the settings here say {in_words(wanted)}", remedy="; ".join(remedies)
    )


def in_words(limits: Limits) -> str:
    """The limits in words, such as `rate 10 calls/s, burst 1, max active unlimited`."""
    active = "unlimited" if limits.max_active is None else limits.max_active
    reserve = f", {limits.reserve} of them for urgent calls" if limits.reserve else ""
    return f"rate {rate_in_words(limits.rate)}, burst {limits.burst}, max active {active}{reserve}"


MOST_CALLS = 500
"""The largest number of waiting calls whose menus are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMenus:
    """The menus with which the next calls of a queue begin. `unserved` are those that no running receiver serves."""

    named: tuple[str, ...]
    unserved: tuple[str, ...]

    @property
    def trouble(self) -> str | None:
        """What happens in calls whose menus are not served; None if all are served."""
        if not self.unserved:
            return None
        return (
            f"waiting calls begin with menus, but no running receiver serves {', '.join(self.unserved)}: each person "
            "hears the question, no key is answered, and the call ends"
        )


async def menus_waiting(store: Store, queue: str) -> tuple[str, ...]:
    """The names of the menus of the next waiting calls, in alphabetical order. At most `MOST_CALLS` calls are read."""
    # By due time: in a queue of 100,000 calls this takes 7 ms, because no other calls are read. By id it takes 30 ms.
    first = await find_jobs(store, Due(queue=queue, state=JobState.QUEUED, limit=MOST_CALLS))
    return tuple(sorted({job.menu for job in first if job.menu is not None}))


async def waiting_menus(store: Store, queue: str) -> WaitingMenus:
    """The menus of the next waiting calls, compared with the heartbeats of receivers."""
    named = await menus_waiting(store, queue)
    if not named:
        return WaitingMenus(named=(), unserved=())
    # Imported here, because most workers send calls without menus.
    from voiceflow_worker.ivr.approval import BUILT_IN
    from voiceflow_worker.ivr.menu_data import written_menus

    heartbeats = Heartbeats(store)
    served = set(await heartbeats.menus())
    if await heartbeats.has_receiver():
        served |= {*BUILT_IN, *await written_menus(store).get(set(named) - served)}
    return WaitingMenus(named=named, unserved=tuple(name for name in named if name not in served))
