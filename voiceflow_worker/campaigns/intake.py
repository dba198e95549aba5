"""The intake of a campaign's rows into a queue: which are new, known or bad, and what became of those enqueued."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys
from voiceflow_worker.campaigns.plan import MOST_NAMED, End, differs, may_change
from voiceflow_worker.core.admission import AdmissionResult, CheckedCall
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.idempotency import KeyMatch, Orders
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.core.settling.stops import refusal_limits
from voiceflow_worker.errors import OvertakenError
from voiceflow_worker.finding import Finding, Severity, ranges_text, tell
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.differences import is_cancelled_for_good
from voiceflow_worker.model.jobs.job import ENDED_UNSENT, ON_THE_WAY, Job, JobState, ReasonKind, person_in
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.wording import count_of, in_words
from voiceflow_worker.queue import CallQueue

_ROUNDS = 20
"""How often rows are stored anew whose calls somebody else changes at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedRows:
    """Rows divided into `new` calls, `known` calls (in the store or earlier in the file), and `bad` rows.

    Those that are left out are among `rows` alone. `ends` counts the rows whose calls differ, or were cancelled by a
    person; those that wait and are not replaced are an error, but not `bad`. `stand` has the keys of these calls, by
    the numbers of rows that do not replace them.
    """

    rows: Sequence[ReadRow]
    new: Sequence[ReadRow]
    known: Sequence[ReadRow]
    bad: Sequence[ReadRow]
    ends: Counter[End]
    named: Sequence[str]
    """The people of some of the calls that would change."""
    stand: Mapping[int, str]
    later: Collection[int]
    """The new rows whose calls are on their way."""
    ended: Counter[JobState]
    """The known calls that have ended before they were sent, by state: nobody is called for them."""


@dataclass(slots=True)
class EnqueuedRows:
    """The result of enqueuing rows. The last finding of each `suppressed`, `refused` or `moved` row has the reason.

    `ends` counts the rows whose call has moved since it was compared.
    """

    enqueued: int = 0
    replaced: int = 0
    duplicates: int = 0
    ends: Counter[End] = field(default_factory=Counter[End])
    changed: Counter[str] = field(default_factory=Counter[str])
    """What was changed of calls that wait: how many calls got another text, window and so on."""
    moved: list[ReadRow] = field(default_factory=list[ReadRow])
    suppressed: list[ReadRow] = field(default_factory=list[ReadRow])
    refused: list[ReadRow] = field(default_factory=list[ReadRow])


@dataclass(slots=True)
class OrderKeys:
    """The keys that orders make for rows: by what a row calls, and its place among the rows that call the same."""

    orders: Orders
    queue: CallQueue | None
    keys: SeenKeys
    """Gets the keys."""
    changed: list[ReadRow] = field(default_factory=list[ReadRow], init=False)
    """The rows that no call of the orders says as they do: they wait for `rest`."""
    _unclaimed: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]], init=False)
    """The calls that orders have made, and that no row is yet: their digests, by what they call and their place."""
    _places: Counter[str] = field(default_factory=Counter[str], init=False)
    """The first place without a call, by what is called."""

    def rest(self, size: int) -> Iterator[list[ReadRow]]:
        """The rows that waited, in lists of this size: each stands for the next call that is left."""
        while self.changed:
            rows, self.changed = self.changed[:size], self.changed[size:]
            yield [self._keyed(row, None) for row in rows]

    async def claimed(self, rows: Sequence[ReadRow]) -> list[ReadRow]:
        """The rows that have a call of their words, or that call whom the orders have not called, with their keys.

        The words of the others may have changed: they wait.
        """
        named = [name for row in rows if row.call is not None for name in _names(row, row.call)]
        looked_up = [each for each in dict.fromkeys(named) if each not in self._unclaimed]
        self._unclaimed |= {each: {} for each in looked_up}
        while looked_up and self.queue is not None:
            asked = {self.orders.key(each, self._places[each]): each for each in looked_up}
            owners = await owners_of(self.queue.store, self.queue.name, asked)
            looked_up = [asked[key] for key in owners]
            for each, owner in zip(looked_up, owners.values(), strict=True):
                self._unclaimed[each][self._places[each]] = owner.digest
                self._places[each] += 1
        claimed: list[ReadRow] = []
        for row in rows:
            left = self._unclaimed[self._called(row, row.call)] if row.call is not None else {}
            same = next((place for place, digest in left.items() if digest == row.digest), None)
            if left and same is None:
                self.changed.append(row)
            else:
                claimed.append(self._keyed(row, same))
        return claimed

    def _keyed(self, row: ReadRow, place: int | None) -> ReadRow:
        """The row with the key of this place; without one, of the first call that is left, or else of a new one."""
        if row.call is None:
            return row
        called = self._called(row, row.call)
        left = self._unclaimed[called]
        if place is None and (place := min(left, default=None)) is None:
            place = self._places[called]
            self._places[called] += 1
        left.pop(place, None)
        key = self.orders.key(called, place)
        self.keys.first(key, row=row.raw.number, digest=row.digest)
        return row._replace(call=row.call._replace(unique_key=key), has_made_key=True)

    def _called(self, row: ReadRow, call: CheckedCall) -> str:
        """What is called: the key of a row, but for the call of its words that had none; else its number."""
        name, *others = _names(row, call)
        said = (each for each in others if not self._unclaimed[name] and row.digest in self._unclaimed[each].values())
        return next(said, name)


@dataclass(slots=True)
class RowEnqueuer:
    """Enqueues rows. Without a queue, rows are only divided into new, known and bad ones."""

    queue: CallQueue | None
    file: str | None
    options: CampaignOptions
    number_column: str
    orders: OrderKeys | None
    """The keys of orders, if these make some."""
    again: frozenset[JobState] = frozenset()
    """The states of ended calls in whose place rows with their keys are enqueued."""
    replace: bool = False
    """Whether waiting calls that differ from their rows are replaced by these."""
    since: datetime | None = None
    """When the start began that goes on now: what was made after that is not replaced by what it asks for."""
    unfinished: frozenset[str | None] = frozenset()
    """The tokens of the imports that have not ended. A row whose call is staged by one of them is new: nobody can have
    been called for it."""
    keeps: bool = False
    """Whether waiting calls that differ from their rows are to stay as they are."""
    _limited: set[str] = field(default_factory=set[str], init=False)
    _has_owners: bool = field(default=False, init=False)
    """Whether the keys of new rows belong to calls, in whose place they are."""
    changes: set[int] = field(default_factory=set[int], init=False)
    """The rows whose calls wait, and are changed by them."""
    later: set[int] = field(default_factory=set[int], init=False)
    """The rows whose calls differ, and are on their way: they are looked at again at the end."""
    has_late: bool = field(default=False, init=False)
    """Whether rows wait behind the limit of the options: the calls that they have may be any of the batch."""
    _good: int = field(default=0, init=False)
    """How many rows were good so far, for the limit of the options."""

    async def classify(self, rows: Sequence[ReadRow]) -> ClassifiedRows:
        """Divide rows. If a row's key belongs to a stored call, the row is known if that stands for it.

        It is new if that call is to be made again, or replaced; else it is bad while a call that differs waits. New
        rows behind the limit of the options are left out. Rows that may be changed ones of orders wait for
        `classify_changed`. Raises OvertakenError.
        """
        changed, limit = [] if self.orders is None else self.orders.changed, self.options.limit
        waited = len(changed)
        if self.orders is not None:
            rows = await self.orders.claimed(rows)
        found = await self._classified(rows)
        if limit is None:
            return found
        waiting = changed[waited:]
        late = await self._beyond(limit, [*found.new, *waiting], found.known)
        self.has_late = self.has_late or bool(late)
        new, changed[waited:] = ([row for row in some if row.raw.number not in late] for some in (found.new, waiting))
        all_rows = (*found.rows, *(row for row in waiting if row.raw.number in late))
        return replace(found, rows=[late.get(row.raw.number, row) for row in all_rows], new=new)

    async def classify_changed(self, size: int) -> AsyncGenerator[ClassifiedRows]:
        """Divide the rows that no call of the orders says as they do."""
        for rows in () if self.orders is None else self.orders.rest(size):
            yield await self._classified(rows)

    async def _classified(self, rows: Sequence[ReadRow]) -> ClassifiedRows:
        keys = [row.call.unique_key for row in rows if row.call is not None and row.call.unique_key]
        owners: Mapping[str, Job] = {}
        if self.queue is not None and keys:
            owners = await owners_of(self.queue.store, self.queue.name, keys)
        classified: list[ReadRow] = []
        new: list[ReadRow] = []
        known: list[ReadRow] = []
        stand: dict[int, str] = {}
        ended: Counter[JobState] = Counter()
        ends: Counter[End] = Counter()
        undecided, differing = set[int](), list[tuple[End, Job]]()
        for row in rows:
            owner = owners.get(row.call.unique_key or "") if row.call is not None else None
            match = None if owner is None else self._match(owner, row)
            is_same = owner is not None and owner.digest == row.digest
            is_first = not row.is_bad and row.duplicate_of is None
            if is_first and owner is not None and (match is KeyMatch.AGAIN or (is_same and self._is_staged(owner))):
                new.append(row)
            elif not row.is_bad and (row.duplicate_of is not None or match is KeyMatch.SAME):
                known.append(row)
                if is_first and owner is not None and owner.state in ENDED_UNSENT:
                    ended[owner.state] += 1
                    ends[End.BY_PERSON] += is_cancelled_for_good(owner)
            elif is_first and owner is not None:
                end = End.of_differing(owner, row.call and row.call.batch_id)
                if (told := self._judged(row, owner)) is not None:
                    row = told  # noqa: PLW2901 (the same row, with a finding)
                    stand[row.raw.number] = owner.unique_key or ""
                    if self.options.orders is None and end is End.CHANGED and not self.replace:
                        undecided.add(row.raw.number)
                    elif row.is_bad:
                        end = End.BAD
                else:
                    new.append(row)
                    (self.changes if end is End.CHANGED else self.later).add(row.raw.number)
                differing.append((end, owner))
            elif not (row.is_bad or row.is_left_out):
                new.append(row)
            classified.append(row)
            if owner is not None and new and new[-1] is row:
                self._has_owners = True
        ends.update(end for end, _ in differing)
        named = [job.name or job.destination for end, job in differing if end is End.CHANGED][:MOST_NAMED]
        bad = [row for row in classified if row.is_bad and row.raw.number not in undecided]
        return ClassifiedRows(
            rows=classified,
            new=new,
            known=known,
            bad=bad,
            ends=ends,
            named=named,
            stand=stand,
            later=self.later,
            ended=ended,
        )

    async def _beyond(self, limit: int, new: Sequence[ReadRow], known: Sequence[ReadRow]) -> Mapping[int, ReadRow]:
        """The new rows after the last one that a limit of good rows has, which wait, by their numbers.

        Rows of stored calls are good. New ones are not while their number is on the suppression list.
        """
        silent = (await self.enqueue(new, staging=None)).suppressed if self._good < limit else ()
        uncounted = {row.raw.number for row in (*silent, *known) if row.call is None}
        late = dict[int, ReadRow]()
        is_new = {row.raw.number for row in new}
        for row in sorted((*new, *known), key=lambda each: each.raw.number):
            if row.raw.number in is_new and self._good >= limit:
                message = tell("beyond_limit", limit=count_of(limit, "good row"))
                waits = self._with(row, Finding(severity=Severity.WARNING, message=message))
                late[row.raw.number] = waits._replace(is_left_out=True)
            else:
                self._good += row.raw.number not in uncounted
        return late

    def _match(self, owner: Job, row: ReadRow) -> KeyMatch:
        # A redial that orders of a program have stopped goes on as the same call.
        is_removed = owner.reason_kind is ReasonKind.REMOVED and (self.options.orders is None or not owner.posts)
        if owner.state in self.again or is_removed:
            return KeyMatch.AGAIN
        if self.options.orders is None and owner.state in ENDED_UNSENT:
            return KeyMatch.SAME  # nobody is called for it, whatever the row says now
        other = owner.digest.partition(".")[0] != row.digest.partition(".")[0]
        if not other and self.queue is not None and row.call is not None:
            other = bool(self.queue.admitter.differences(row.call, owner))
        if self.options.orders is None:
            return KeyMatch.OTHER if other else KeyMatch.SAME
        match = self.options.orders.match(owner, row.digest)
        return (
            KeyMatch.OTHER
            if match is KeyMatch.SAME and other and self.replace and self._may_change(owner, row)
            else match
        )

    def _judged(self, row: ReadRow, owner: Job) -> ReadRow | None:
        """The row, whose stored call differs, with what is told of that; None if the row replaces it."""
        if self.replace and self.since is not None and owner.changed_at > self.since and self._may_change(owner, row):
            raise OvertakenError(
                f"the list was ordered at {in_words(self.since)}, and has been overtaken: call {owner.id} of batch "
                f"{owner.batch_id} was enqueued or changed for a row of it since, and stands. Nothing more was changed"
            )
        orders = self.options.orders
        if orders is not None and not (self.replace and self._may_change(owner, row)):
            return self._with(row, Finding(message=orders.other))
        told = None if self.queue is None else differs(self.queue, row, owner, replace=self.replace, keeps=self.keeps)
        return (
            None if told is None else self._with(row, Finding(column="unique_key", severity=told[1], message=told[0]))
        )

    @staticmethod
    def _may_change(owner: Job, row: ReadRow) -> bool:
        return may_change(owner, row.call and row.call.batch_id)

    def _is_staged(self, owner: Job) -> bool:
        return owner.state is JobState.QUEUED and owner.worker_id in self.unfinished

    async def enqueue(
        self, rows: Sequence[ReadRow], *, staging: Staging | None, pairs: Mapping[int, str] | None = None
    ) -> EnqueuedRows:
        """Enqueue new rows in one write, as staged calls of an import; `pairs` replace the calls with these ids.

        A call that has moved while it was to be replaced is looked at again. Without an import, this only finds rows
        that would be suppressed or refused.
        """
        done = EnqueuedRows()
        if self.queue is None:
            return done
        if staging is not None and (limit := self.options.stop_after_refused) is not None:
            await self._set_limit(self.queue, rows, limit)
        left = [row for row in rows if row.call is not None]
        for turn in range(_ROUNDS):
            over: Mapping[str, Sequence[Job]] = {}
            self._has_owners = self._has_owners or turn > 0
            if staging is not None and (pairs or self._has_owners):
                left, over = await self._looked_up(self.queue, left, pairs or {}, done)
            calls = [row.call for row in left if row.call is not None]
            admitted = await self.queue.admitter.admit(calls, staging=staging, over=over)
            others: list[ReadRow] = []
            for row, admission in zip(left, admitted, strict=True):
                if admission.has_moved or admission.owner_id is not None:  # somebody else was quicker
                    others.append(row)
                else:
                    self._add(row, admission, done, over.get((row.call and row.call.unique_key) or "", ()))
            if not (left := others):
                break
        done.refused += (self._with(row, Finding(message=tell("key_in_use"))) for row in left)
        return done

    async def _looked_up(
        self, queue: CallQueue, rows: Sequence[ReadRow], pairs: Mapping[int, str], done: EnqueuedRows
    ) -> tuple[list[ReadRow], dict[str, Sequence[Job]]]:
        """The rows that are to be stored, and the calls in whose place they are, by their keys; others are counted."""
        keys = {row.raw.number: (row.call and row.call.unique_key) or "" for row in rows}
        asked = filter(None, keys.values()) if self._has_owners else ()
        owners = await owners_of(queue.store, queue.name, asked)
        paired = await get_jobs(queue.store, [pairs[row.raw.number] for row in rows if row.raw.number in pairs])
        left, over = list[ReadRow](), dict[str, Sequence[Job]]()
        for row in rows:
            key = keys[row.raw.number]
            stand = [each for each in (owners.get(key), paired.get(pairs.get(row.raw.number, ""))) if each is not None]
            matches = [self._match(each, row) for each in stand]
            others = [each for each, match in zip(stand, matches, strict=True) if match is KeyMatch.OTHER]
            judged = ((told, each) for each in others if (told := self._judged(row, each)) is not None)
            if KeyMatch.SAME in matches:
                done.duplicates += 1
            elif (first := next(judged, None)) is not None:
                told, job = first
                (done.refused if told.is_bad else done.moved).append(told)
                done.ends[End.of_differing(job, row.call and row.call.batch_id)] += not told.is_bad
            else:
                left.append(row)
                over[key] = stand
        return left, over

    def _add(self, row: ReadRow, admission: AdmissionResult, done: EnqueuedRows, over: Sequence[Job]) -> None:
        """Count what became of a row."""
        if admission.suppressed is not None:
            message = tell("suppressed", reason=admission.suppressed.reason)
            if row.raw.others:
                rows = sorted(each.number for each in (row.raw, *row.raw.others))
                message = message.plus(f"; rows {ranges_text(rows, most=5)} are of this person")
            found = Finding(column=self.number_column, severity=Severity.WARNING, message=message)
            done.suppressed.append(self._with(row, found))
        elif admission.changed is not None and admission.changed.state in ON_THE_WAY:
            job = admission.changed
            may_ring = (
                f"call {job.id} is {job.state.value}, and may ring with the old text; its next attempt has the new"
            )
            done.moved.append(self._with(row, Finding(severity=Severity.WARNING, message=may_ring)))
            done.ends[End.ON_THE_WAY] += 1
        elif admission.changed is not None:
            done.replaced += 1
            done.changed.update(admission.changed.notes[-1].text.split(" and "))
        elif admission.findings:
            # The row was valid when it was read, but its validity may have passed since.
            late = [each for each in admission.findings if _is_late(each)]
            told = (replace(each, column="valid_until", path=None) for each in late)
            done.refused.append(self._with(row, *told, *(each for each in admission.findings if each not in late)))
        elif admission.is_new is not None:
            is_moved = admission.is_new and any(not each.state.is_final for each in over)
            done.replaced += is_moved
            done.enqueued += admission.is_new and not is_moved
            done.duplicates += not admission.is_new

    async def _set_limit(self, queue: CallQueue, rows: Sequence[ReadRow], limit: int) -> None:
        """Set the limit of each batch in these rows, once per file, before the batch's first call is enqueued."""
        batches = {row.call.batch_id for row in rows if row.call is not None and row.call.batch_id is not None}
        await refusal_limits(queue.store).within(queue.name).put(dict.fromkeys(batches - self._limited, limit))
        self._limited |= batches

    def _with(self, row: ReadRow, *findings: Finding) -> ReadRow:
        person = person_in((row.call and row.call.data) or {})
        placed = (replace(found, file=self.file, row=row.raw.number, person=person) for found in findings)
        return row.without_call(*placed)


def _names(row: ReadRow, call: CheckedCall) -> Sequence[str]:
    """The names under which orders may have the call of a row. One with a key may have had none before."""
    number = f"number {telephone_of(call.destination)}"
    return (f"key {row.own_key}", number) if row.own_key else (number,)


def _is_late(found: Finding) -> bool:
    return found.code == VALIDITY_EXPIRED and found.path == "$.validUntil"
