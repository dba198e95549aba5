"""The plan of a list: what becomes of each row beside the stored call of its key, and of each call in no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from voiceflow_worker.campaigns.calls.options import CallAgain, is_of_pattern
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.people import ListedPeople
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.keys import newest_of
from voiceflow_worker.core.base.reading import count_states, find_jobs, find_pages
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.errors import SuppressedNumber
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.copying import replace as changed_to
from voiceflow_worker.model.flows.callflow import digests_to
from voiceflow_worker.model.jobs.differences import (
    can_still_ring,
    ended_without_ring,
    is_cancelled_for_good,
    is_changeable,
)
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState, person_in, split_key
from voiceflow_worker.model.text.wording import count_of, in_words
from voiceflow_worker.queue import CallQueue

PAGE = 1000
"""The number of calls that are read in one trip to the store."""
LOOKED_UP = 50
"""The new rows whose numbers are looked up in other batches. Each is a trip to the store for each queue."""
LATELY = timedelta(days=7)
"""How long a call of another batch counts, from its creation."""
TRIAL = "voiceflow-trial-"
"""The beginning of the unique key of a trial: a call to one's own telephone before a campaign is started."""
MOST_NAMED = 5
"""How many people or calls are named."""
_OPEN = frozenset(JobState) - FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """What is ordered of a list, as the options of the same names say it."""

    again: CallAgain = frozenset()
    replace: bool = False
    remove_missing: bool = False
    keep_changed: bool = False


def judge(job: Job | None, order: ImportOrder, *, differs: bool) -> End:
    """Return what becomes of a good row beside the newest call of its key, from which it `differs` or not."""
    if job is None:
        return End.NEW
    if is_cancelled_for_good(job):
        return End.BY_PERSON
    if ended_without_ring(job):
        return End.NEW if job.state in order.again else End.OVER
    if not differs:
        return End.SAME
    if is_changeable(job):
        return End.CHANGED
    return End.OVER if job.state.is_final else End.ON_THE_WAY


class Judged(NamedTuple):
    """A row, its word, and the call of its key; a bad row has no call."""

    row: ReadRow
    status: End
    job: Job | None = None
    differs: tuple[str, ...] = ()


class Missing(NamedTuple):
    """A call that can still ring and that no row calls: its `row` is left out, or row `shares` calls its number.

    `is_cut` if an interrupted import has stored it. It `is_removed` if it is to be cancelled.
    """

    id: str
    name: str
    row: int | None = None
    shares: int | None = None
    is_cut: bool = False
    is_removed: bool = False


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of the rows that are not simply new, by their numbers, and of calls in no row."""

    rows: dict[int, End] = field(default_factory=dict[int, End])
    """The words of the rows that are not new; and new ones whose call was made before."""
    counts: Counter[End] = field(default_factory=Counter[End])
    ended: Counter[JobState] = field(default_factory=Counter[JobState])
    """The rows that call nobody because their call has ended without a ring, by its state."""
    missing: list[Missing] = field(default_factory=list[Missing])
    findings: list[Finding] = field(default_factory=list[Finding])
    silent: dict[int, Judged] = field(default_factory=dict[int, Judged])
    """The rows that were to make calls, and are bad or suppressed."""
    changed_in: Counter[str] = field(default_factory=Counter[str])
    over_differ: int = 0
    called_elsewhere: int = 0
    removed: int = 0
    stays: int = 0

    def move(self, judged: Judged) -> None:
        """Give a row that was judged another word."""
        self.counts[self.rows.get(judged.row.raw.number, End.NEW)] -= 1
        self.add(judged)

    def add(self, judged: Judged) -> None:
        """Add a row."""
        number, status = judged.row.raw.number, judged.status
        self.counts[status] += 1
        if status is not End.NEW or judged.job is not None or number in self.rows:
            self.rows[number] = status
        if status in {End.BAD, End.SUPPRESSED}:
            self.silent[number] = judged
        if judged.job is not None and status in {End.OVER, End.BY_PERSON} and ended_without_ring(judged.job):
            self.ended[judged.job.state] += 1
        self.over_differ += status is End.OVER and bool(judged.differs)
        self.findings += judged.row.findings


@dataclass(slots=True, kw_only=True)
class Planner:
    """A comparison of the rows of a list with the stored calls. Without a queue, each row is new.

    Findings name the `file`, and the `column` of the numbers. Methods raise StoreError.
    """

    queue: CallQueue | None
    order: ImportOrder
    people: ListedPeople
    file: str | None
    column: str
    pattern: str | None

    async def judged(self, rows: Sequence[ReadRow]) -> list[Judged]:
        """Return what becomes of these rows, which make calls; findings about them are the last of each row."""
        if self.queue is None:
            return [Judged(row, End.NEW) for row in rows]
        jobs = await newest_of(self.queue.store, [row.key for row in rows if row.key is not None])
        return [self._beside(row, jobs.get(row.key or "")) for row in rows]

    def _beside(self, row: ReadRow, job: Job | None) -> Judged:
        if job is None or self.queue is None or row.call is None:
            return Judged(row, End.NEW)
        differs = self.queue.admitter.differences(row.call, job)
        is_elsewhere = job.queue != self.queue.name or (job.body and job.batch_id != row.call.batch_id)
        if is_elsewhere and differs:
            where = f"queue {job.queue}, batch {job.batch_id}"
            message = f"is the key of call {job.id} of {where}, which is another call. Give it another unique_key."
            return self.bad(row, Finding(kind="key_elsewhere", column="unique_key", message=message))
        order = ImportOrder() if is_elsewhere else self.order
        status, severity, what = judge(job, order, differs=bool(differs)), Severity.WARNING, " and ".join(differs)
        call = f"call {job.id} of batch {job.batch_id or '-'}"
        if status is End.CHANGED and order.replace:
            if problems := self.queue.admitter.problems_of_change(row.call, job):
                return self.bad(row, Finding(column="valid_until", message=problems[0].message))
            return Judged(row, status, job, differs)
        if status is End.CHANGED:
            message = f"{call} waits for this row with another {what}. Change it: `replace`."
            severity = Severity.WARNING if order.keep_changed else Severity.ERROR
        elif status is End.ON_THE_WAY:
            message = f"call {job.id} is {job.state.value}, and keeps its text. Nothing is done for this row."
        elif status is End.OVER and differs:
            message = (
                f"{call} is {job.state.value}, with another {what}: nothing is done for this row. To call it, give "
                "another `batch`, or the `again` of its state."
            )
        else:
            return Judged(row, status, job, differs)
        column = "unique_key" if row.has_own_key else self.column
        found = Finding(kind="differs", column=column, severity=severity, message=message)
        return Judged(row.without_call(self._placed(row, found)), status, job, differs)

    def bad(self, row: ReadRow, *why: Finding) -> Judged:
        """Return a row that cannot be called, with the reasons."""
        return Judged(row.without_call(*(self._placed(row, each) for each in why)), End.BAD)

    def suppressed(self, row: ReadRow, number: SuppressedNumber) -> Judged:
        """Return a row that calls nobody because one of its numbers is on the suppression list."""
        message = f"is not called: {number.reason}"
        found = Finding(kind="suppressed", column=self.column, severity=Severity.WARNING, message=message)
        return Judged(row.without_call(self._placed(row, found)), End.SUPPRESSED)

    def _placed(self, row: ReadRow, found: Finding) -> Finding:
        person = person_in((row.call and row.call.data) or {})
        return changed_to(found, file=self.file, row=row.raw.number, person=person)

    def ended(self, plan: Plan) -> list[Finding]:
        """Return the warning about rows whose calls have ended without a ring, so that nobody is called for them."""
        if not plan.ended:
            return []
        counts = ", ".join(f"{count} {state.value}" for state, count in sorted(plan.ended.items()))
        # A cancelled batch takes no calls, not even these.
        whole = (
            "If the batch was cancelled as a whole, take another `batch`. " if plan.ended[JobState.CANCELLED] else ""
        )
        message = (
            f"{count_of(plan.ended.total(), 'row')} had a call, which has ended, and nobody is called for them: "
            f"{counts}. {whole}To call these people, `again: cancelled,expired,failed`."
        )
        return [Finding(file=self.file, kind="ended", severity=Severity.WARNING, message=message)]

    async def find_missing(self, plan: Plan, batches: Iterable[str], *, cut: Collection[str]) -> bool:
        """Note the calls of these batches that can still ring and are in no row; return whether one had calls before.

        `cut` are the ids of interrupted imports, whose calls carry them.
        """
        if self.queue is None:
            return False
        had_calls = False
        for batch_id in sorted(batches):
            states = await count_states(self.queue.store, self.queue.name, batch_id=batch_id)
            had_calls |= any(states.values())
            if not any(states[state] for state in _OPEN):
                continue
            async with aclosing(_open_calls(self.queue, batch_id)) as jobs:
                async for job in jobs:
                    self._note_missing(plan, job, cut)
        plan.counts[End.IN_NO_ROW] = len(plan.missing)
        return had_calls

    def _note_missing(self, plan: Plan, job: Job, cut: Collection[str]) -> None:
        key = split_key(job.unique_key or "")[0]
        if key and self.people.has(key):
            return
        calling = self.people.calling(job.batch_id, job.numbers)
        shares = calling if calling is not None and plan.rows.get(calling, End.NEW) is End.NEW else None
        is_cut = job.worker_id in cut and job.state is JobState.QUEUED
        name = job.name or job.destination
        plan.missing.append(Missing(job.id, name, self.people.left_out(key), shares, is_cut=is_cut))

    def judge_missing(self, plan: Plan, *, is_whole: bool) -> None:
        """Say which calls in no row are cancelled, and what is wrong with those that are left to ring.

        While a row is bad, the list is not whole: a call may be that of the bad row.
        """
        stays = list[Missing]()
        for place, each in enumerate(plan.missing):
            is_named = each.row is not None or each.shares is not None
            is_removed = each.is_cut or (self.order.remove_missing and (is_whole or is_named))
            plan.missing[place] = each._replace(is_removed=is_removed)
            if is_removed:
                continue
            if self.order.remove_missing:
                stays.append(each)
            elif each.row is not None:
                message = (
                    f"is left out, and its call waits ({each.id}). Cancel such calls: `remove_missing`; or do not "
                    "leave the row out."
                )
                severity = Severity.WARNING if self.order.keep_changed else Severity.ERROR
                found = Finding(kind="left_out_waiting", severity=severity, message=message)
                plan.findings.append(changed_to(found, file=self.file, row=each.row))
            elif each.shares is not None:
                message = (
                    f"calls {each.name!r}, which call {each.id} calls too: it waits, and is in no row of the list. "
                    "Cancel such calls: `remove_missing`."
                )
                found = Finding(kind="shares_number", column=self.column, message=message)
                plan.findings.append(changed_to(found, file=self.file, row=each.shares))
        if stays:
            named = ", ".join(f"{each.name} ({each.id})" for each in stays[:MOST_NAMED])
            message = (
                f"{count_of(len(stays), 'call')} may be those of bad rows, and can still ring: {named}. Correct the "
                "rows, and import the list again."
            )
            plan.stays = len(stays)
            plan.findings.append(Finding(kind="in_no_row", file=self.file, severity=Severity.WARNING, message=message))

    async def find_elsewhere(self, plan: Plan, rows: Sequence[ReadRow], batches: Collection[str]) -> list[Finding]:
        """Return the findings about people of these new rows who have a call of another batch, in any queue.

        With the same words it is an error, unless the order allows it.
        """
        if self.queue is None or not rows:
            return []
        same, other = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        named, since = dict[tuple[str, str], Job](), self.queue.store.clock.now() - LATELY
        queues = {*await QueueNames(self.queue.store).known(), self.queue.name}
        for row in rows:
            if (found := await self._called_before(row, queues, batches)) is None or found[0].created_at < since:
                continue
            job, is_same = found
            place = job.queue, job.batch_id or ""
            (same if is_same else other)[place] += 1
            if is_same or place not in named:
                named[place] = job
        plan.called_elsewhere = same.total()
        findings = list[Finding]()
        for place, count in same.most_common(0 if "elsewhere" in self.order.again else 1):
            job = named[place]
            message = (
                f"{count} of {len(rows)} people looked up have a call with the same text in batch {place[1]}, started "
                f"{in_words(job.created_at)}, such as {job.destination} ({job.id}). If they are to be called again: "
                "`again: elsewhere`."
            )
            findings.append(Finding(kind="same_words_elsewhere", file=self.file, column=self.column, message=message))
        for place, count in other.most_common(1):
            message = (
                f"{count} of {len(rows)} people looked up have a call in batch {place[1]}, started "
                f"{in_words(named[place].created_at)}."
            )
            warns = Finding(kind="other_words_elsewhere", severity=Severity.WARNING, message=message)
            findings.append(changed_to(warns, file=self.file, column=self.column))
        return findings

    async def _called_before(
        self, row: ReadRow, queues: Iterable[str], batches: Collection[str]
    ) -> tuple[Job, bool] | None:
        """Return the newest call of another batch to a number of a row, and whether it says the same."""
        if self.queue is None or row.call is None:
            return None
        words, newest = set(_words(row.call.body, row.call.digest, row.call.numbers)), list[tuple[Job, bool]]()
        for number in row.call.numbers:
            for queue in queues:
                for job in await find_jobs(
                    self.queue.store, OfNumber(queue=queue, number=number, newest=True, limit=20)
                ):
                    is_own = queue == self.queue.name and job.batch_id in batches
                    if is_own or job.batch_id is None or is_of_pattern(job.batch_id, self.pattern) or not _counts(job):
                        continue
                    newest.append((job, not words.isdisjoint(_words(job.body, job.digest, job.numbers))))
        return max(newest, key=lambda found: (found[1], found[0].id), default=None)


def _counts(job: Job) -> bool:
    """Return whether a call may ring or have rung for a campaign, and not for a trial."""
    return job.may_call and not (job.unique_key or "").startswith(TRIAL)


def _words(body: str, digest: str, numbers: Sequence[str]) -> list[str]:
    """Return what a call says to each number of its person, alike for calls to one of them alone."""
    return [digest.partition(".")[0]] if len(numbers) == 1 else [*digests_to(body, numbers)]


async def _open_calls(queue: CallQueue, batch_id: str) -> AsyncGenerator[Job]:
    """Yield the calls of a batch that can still ring, but those of trials."""
    read = Listing(queue=queue.name, batch=batch_id, states=_OPEN, limit=PAGE)
    async with aclosing(find_pages(queue.store, read)) as pages:
        async for page in pages:
            for job in page:
                if can_still_ring(job) and _counts(job):
                    yield job
