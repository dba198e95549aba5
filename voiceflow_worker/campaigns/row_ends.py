"""The ends of the rows of a list: one word for each row, what is told of it, and what the list of rows has of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from voiceflow_worker.campaigns.called_before import RepeatedCalls
from voiceflow_worker.campaigns.calls.options import ended_finding
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.enqueue_report import End, EnqueueReport
from voiceflow_worker.campaigns.list_order import ListOrder
from voiceflow_worker.campaigns.preview import Preview, PreviewMaker
from voiceflow_worker.campaigns.rejects import Reject, reason_of
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of

MOST_NAMED = 5
"""How many people or calls are named."""
MOST = {Severity.ERROR: 100_000, Severity.WARNING: 10_000}
"""The largest number of listed findings of each severity. At about 500 bytes each, they take 55 MB at most."""
_ONCE = frozenset({"differs", "on_its_way", "of_other_batch", "other_batch", "repeated_number", "unknown_range"})
"""The kinds of findings that many rows have alike."""


class Findings:
    """A list of findings, with a limit for each severity. Findings beyond the limit are only counted.

    Those that many rows have alike are listed once, with their count.
    """

    def __init__(self) -> None:
        self._listed: list[Finding] = []
        self._counts: Counter[Severity] = Counter()
        self._alike: dict[tuple[str | None, str], tuple[int, int]] = {}
        """The places in the list of findings that many rows have, with their counts."""

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings. They are listed in the order in which they are added."""
        for found in findings:
            alike = found.cause if found.kind in _ONCE else None
            if alike in self._alike:
                place, count = self._alike[alike]
                self._alike[alike] = place, count + 1
                continue
            self._counts[found.severity] += 1
            if self._counts[found.severity] <= MOST[found.severity]:
                self._alike |= {} if alike is None else {alike: (len(self._listed), 1)}
                self._listed.append(found)

    def all(self, *, file: str | None) -> tuple[Finding, ...]:
        """Return the listed findings. If some are not listed, one more finding says how many."""
        for place, count in self._alike.values():
            if count > 1:
                found = self._listed[place]
                more = f". {count_of(count - 1, 'more row')} like it."
                self._listed[place] = replace(found, message=f"{found.message.rstrip('.')}{more}")
        self._alike.clear()
        left_out = self._counts.total() - len(self._listed)
        if not left_out:
            return tuple(self._listed)
        more = f"{count_of(left_out, 'more finding')} {'is' if left_out == 1 else 'are'} not listed"
        last = Finding(file=file, severity=Severity.WARNING, message=more)
        return (*self._listed, last)


class RowEnd(NamedTuple):
    """How a row ends, by its number. `key` is that of the stored call that stands for it.

    `ended` is the state in which that call ended before it was sent, and `call` the id of the one that it changes. The
    `row` has the findings about it, and no call if it makes none; it is left out where the word alone is known.
    """

    number: int
    kind: End
    key: str | None = None
    call: str | None = None
    ended: JobState | None = None
    row: ReadRow | None = None
    why: str = ""

    @classmethod
    def of(cls, row: ReadRow, kind: End, *, key: str | None = None, ended: JobState | None = None) -> RowEnd:
        """The end of this row."""
        return cls(row.raw.number, kind, key, None, ended, row)

    @property
    def makes_call(self) -> bool:
        """Whether the row makes a new call, or changes one."""
        kind = self.kind
        if kind is End.NEW or kind is End.SAME:
            return kind is End.NEW
        is_called = self.row is None or self.row.call is not None
        return (kind is End.CHANGED or kind is End.ON_THE_WAY) and is_called and not self.why


def digest_of(rows: Iterable[object]) -> str:
    """A digest of these rows, in any order."""
    return hashlib.blake2b("\n".join(sorted(map(str, rows))).encode(), digest_size=8).hexdigest()


@dataclass(slots=True, kw_only=True)
class RowEnds:
    """The ends of the rows of one list so far. A later word of a row takes the place of the one before.

    Rows that make new calls are only counted, and so are those that are known, bad or left out when they are read; all
    others are kept by their numbers.
    """

    file: str | None
    batch_id: str
    dry_run: bool
    batches: Collection[str] = ()
    """The batches of the rows; `batch_id` is that of rows that name none."""
    replaces: bool = False
    maker: PreviewMaker | None = None
    reject: Reject | None = None
    """Gets the rows that are bad or suppressed."""
    rows: int = 0
    counts: Counter[End] = field(default_factory=Counter[End])
    ended: Counter[JobState] = field(default_factory=Counter[JobState])
    found: Findings = field(default_factory=Findings)
    again: int = 0
    called_before: int = 0
    """Rows counted in `again`, also if they are to be called again."""
    repeated: Sequence[RepeatedCalls] = ()
    changes: Counter[str] = field(default_factory=Counter[str])
    """How many calls were changed in what."""
    removed: int = 0
    stays: int = 0
    waiting: int = 0
    names: dict[str, None] = field(default_factory=dict[str, None])
    _kept: dict[int, RowEnd] = field(default_factory=dict[int, RowEnd])

    def add(self, end: RowEnd) -> None:
        """Add a row that was read."""
        if (row := end.row) is not None:
            self.rows += 1
            if row.findings:
                self.found.add(row.findings)
        if end.kind is not End.NEW and end.makes_call:
            self._kept[end.number] = end._replace(row=None)
        self._count(end)

    def move(self, end: RowEnd) -> None:
        """Give a row that was to make a call, or to change one, its next word."""
        if end.kind is End.NEW and end.number not in self._kept:
            return  # as it was read
        self.counts[self._kept[end.number].kind if end.number in self._kept else End.NEW] -= 1
        if end.row is not None and end.row.call is None:
            self.found.add(end.row.findings[-1:])  # the others were told when the row was read
        self._count(end)
        why = "" if end.row is None or end.row.call is not None else reason_of(end.row.findings)
        self._kept[end.number] = end._replace(row=None, why=why)

    def _count(self, end: RowEnd) -> None:
        row, kind = end.row, end.kind
        self.counts[kind] += 1
        if end.ended is not None:
            self.ended[end.ended] += 1
        if row is not None and self.reject is not None and kind in {End.BAD, End.SUPPRESSED}:
            self.reject(row.raw, row.findings)

    def of(self, number: int) -> RowEnd | None:
        """The end of a row that is neither simply new nor as it was read."""
        return self._kept.get(number)

    def makes_call(self, row: ReadRow) -> bool:
        """Whether a row that was to make a call still makes one, or changes one."""
        end = self._kept.get(row.raw.number)
        return end is None or end.makes_call

    def to_call(self, kind: End) -> set[int]:
        """The rows of this end whose calls are changed by them, at once or for their next attempt."""
        return {number for number, end in self._kept.items() if end.kind is kind and end.makes_call}

    def keys(self) -> Iterator[str]:
        """The keys of the stored calls that rows stand for, or change."""
        return (end.key for end in self._kept.values() if end.key)

    @property
    def batch(self) -> str:
        """The batch of the rows, or one of them."""
        return self.batch_id if not self.batches or self.batch_id in self.batches else min(self.batches)

    @property
    def left_out(self) -> int:
        """How many rows are left out, or wait behind the limit."""
        return self.counts[End.LEFT_OUT] + self.counts[End.LATE]

    @property
    def silenced(self) -> int:
        """How many rows call nobody."""
        return self.counts[End.BAD] + self.counts[End.SUPPRESSED] + self.left_out

    def name(self, *people: str) -> None:
        """Name people whose calls change or end, if few are named so far."""
        self.names |= dict.fromkeys(filter(None, people[: max(MOST_NAMED - len(self.names), 0)]))

    # -- the calls that are made -----------------------------------------------------------------------------------

    def add_repeated(self, repeated: Sequence[RepeatedCalls], *, column: str, again: bool) -> None:
        """Count the rows that call people again: an error, in a dry run a warning; if `again`, it is what is meant."""
        self.called_before = sum(each.count for each in repeated)
        self.again = 0 if again and not self.dry_run else self.called_before
        if not again:
            self.repeated = repeated
            severity = Severity.WARNING if self.dry_run else Severity.ERROR
            self.found.add(each.finding(file=self.file, column=column, severity=severity) for each in repeated)

    # -- what is wrong with the list as a whole ----------------------------------------------------------------------

    def problem_of_size(self, most: int | None, *, removes: bool) -> bool:
        """Whether more rows than these are called, or none though missing ones are removed; if so, it is an error."""
        rows = self.rows - self.left_out
        if most is not None and rows > most:
            message = f"{count_of(rows, 'row')} would be called, and most allows {most}: check the file, or allow more"
        elif removes and not self.rows:
            message = (
                "the list has no rows, and with remove_missing each waiting call of its batch would be cancelled: "
                "give a list with rows, or cancel the batch"
            )
        else:
            return False
        self.found.add([Finding(file=self.file, message=message)])
        return True

    def is_undecided(self, order: ListOrder) -> bool:
        """Whether rows differ or are left out while their calls wait, and nobody has ordered what becomes of these."""
        changed, left_out = self.counts[End.CHANGED], self.counts[End.LEFT_OUT_WAITING]
        return not order.keeps and bool((changed and not order.replace) or (left_out and not order.remove_missing))

    def unreadable(self, error: CampaignFileError) -> None:
        """Report a file that cannot be read as findings."""
        # The file has a field of its own in the finding, so its name is left out of the message.
        message = str(error).removeprefix(self.file or "").lstrip(" :,")
        self.found.add(error.findings or (Finding(file=self.file, message=message),))

    def shown(self) -> str:
        """What a preview shows of the rows before they are stored, whether people are to be called again or not."""
        ended = sorted(f"{state.value}-{count}" for state, count in self.ended.items())
        counts = (self.rows, self.called_before, *(self.counts[end] for end in End), *ended)
        return ".".join(map(str, (*counts, digest_of(f"{row} {end.kind}" for row, end in self._kept.items()))))

    def suppressed(self) -> set[int]:
        """The rows that call nobody because their numbers are on the suppression list."""
        return {number for number, end in self._kept.items() if end.kind is End.SUPPRESSED}

    def report(self, *, refused: bool, preview: Preview | None = None, **more: Any) -> EnqueueReport:
        """The report of these ends, with `more` fields of it."""
        if (found := ended_finding(self.ended, file=self.file)) is not None:
            self.found.add([found])
        counts, is_stored = self.counts, not (self.dry_run or refused)
        changes = counts[End.CHANGED] * self.replaces
        duplicates, suppressed = counts[End.SAME] + counts[End.BY_PERSON], counts[End.SUPPRESSED]
        preview = preview if self.maker is None else self.maker.preview(
            duplicates=duplicates, suppressed=suppressed, left_out=self.left_out, bad=counts[End.BAD]
        )  # fmt: skip
        return EnqueueReport(
            batch_id=self.batch, batches=sorted(self.batches) if len(self.batches) > 1 else (),
            dry_run=self.dry_run, refused=refused, replaces=self.replaces, rows=self.rows,
            enqueued=counts[End.NEW] * is_stored, valid=counts[End.NEW] + changes, duplicates=duplicates,
            replaced=changes * is_stored, removed=self.removed, changed=counts[End.CHANGED],
            on_the_way=counts[End.ON_THE_WAY], over=counts[End.OVER], cancelled_by_person=counts[End.BY_PERSON],
            left_out_waiting=counts[End.LEFT_OUT_WAITING], missing=counts[End.IN_NO_ROW], stays=self.stays,
            waiting=self.waiting, named=(*self.names,), suppressed=suppressed, left_out=self.left_out,
            rejected=counts[End.BAD], again=self.again, ended=self.ended, repeated_calls=self.repeated,
            preview=preview, findings=self.found.all(file=self.file), **more,
        )  # fmt: skip
