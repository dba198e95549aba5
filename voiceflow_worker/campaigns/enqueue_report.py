"""The report of an enqueue: each row, and each call that can still ring, by the one word that it ends as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from voiceflow_worker.campaigns.column_values import PartlyFilled, UnreadColumn
from voiceflow_worker.campaigns.preview import Preview
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.wording import count_of


class End(StrEnum):
    """What becomes of a row of a list, or of a call that can still ring and that no row calls: one word for each."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"
    ON_THE_WAY = "on_the_way"
    OVER = "over"
    BY_PERSON = "cancelled_by_person"
    IN_NO_ROW = "in_no_row"
    BAD = "bad"
    LEFT_OUT = "left_out"
    SUPPRESSED = "suppressed"


END_WORDS = {
    End.SAME: "the same", End.NEW: "new", End.CHANGED: "changed", End.IN_NO_ROW: "in no row",
    End.ON_THE_WAY: "on the way", End.OVER: "over",
    End.BY_PERSON: "cancelled by a person", End.BAD: "bad",
}  # fmt: skip
"""The words of people for each end in a plan, in the order in which they are shown."""

SHOWN_OF_COLUMNS = ("unread", "partly_filled")
"""What a report shows of columns, and not of rows."""
_MOST_BATCHES = 10
_COUNTS = ("enqueued", "duplicates", "replaced", "removed", "rejected", "suppressed", "left_out", "valid")


@dataclass(slots=True, kw_only=True)
class EnqueueReport:
    """The result of enqueuing a file.

    `batch_id` is the batch of the rows, or one of them if there are several `batches`. `plan` counts the rows, and the
    calls in no row, by their words; new calls are stored, and changed ones if the list `replaces` them, unless nothing
    is enqueued (`refused`) or it is a `dry_run`. `removed` counts the calls that were cancelled, and `stays` those in
    no row that may be those of bad rows. Of the rows that are over, `over_differ` have other words. `again` counts
    people of the rows looked up who have the same call in another batch.
    """

    batch_id: str
    batches: Sequence[str] = ()
    counts: Mapping[End, int] = field(default_factory=Counter[End])
    rows: int = 0
    replaces: bool = False
    removed: int = 0
    over_differ: int = 0
    stays: int = 0
    again: int = 0
    findings: tuple[Finding, ...] = ()
    dry_run: bool
    refused: bool = False
    preview: Preview | None = None
    """The preview of a dry run, if it was asked for."""
    unread: Sequence[UnreadColumn] = ()
    """The columns that nobody reads, by whose few values rows may be left out; of filtered ones, what is called."""
    partly_filled: Sequence[PartlyFilled] = ()
    """The columns that nobody reads and that some rows have filled: by them too, rows may be left out."""
    version: str = ""
    """What a preview shows, for the `expected_version` of a start: a digest of the rows, and how many calls it changes
    and cancels at most."""

    def _count(self, *ends: End) -> int:
        return sum(self.counts.get(each, 0) for each in ends)

    @property
    def _is_stored(self) -> bool:
        return not (self.dry_run or self.refused)

    @property
    def enqueued(self) -> int:
        """Number of new calls."""
        return self._count(End.NEW) * self._is_stored

    @property
    def replaced(self) -> int:
        """Number of calls that were changed."""
        return self._count(End.CHANGED) * (self.replaces and self._is_stored)

    @property
    def valid(self) -> int:
        """Number of rows that made new or changed calls; if nothing was stored, of those that could have."""
        return self._count(End.NEW) + self._count(End.CHANGED) * self.replaces

    @property
    def duplicates(self) -> int:
        """Number of rows whose call existed before, in the store or earlier in the file."""
        return self._count(End.SAME, End.BY_PERSON)

    @property
    def rejected(self) -> int:
        """Number of bad rows."""
        return self._count(End.BAD)

    @property
    def suppressed(self) -> int:
        """Number of rows with a number on the suppression list."""
        return self._count(End.SUPPRESSED)

    @property
    def left_out(self) -> int:
        """Number of rows that the list, a filter or the limit leaves out."""
        return self._count(End.LEFT_OUT)

    @property
    def not_called(self) -> int:
        """Number of good rows for which nobody is called now."""
        return self._count(End.LEFT_OUT, End.SUPPRESSED, End.SAME, End.BY_PERSON, End.ON_THE_WAY, End.OVER)

    @property
    def batch_in_words(self) -> str:
        """Batch of the rows, such as `batch visits`, or the first of several."""
        if not (names := self.batches):
            return f"batch {self.batch_id}"
        more = f" and {len(names) - _MOST_BATCHES} more" if len(names) > _MOST_BATCHES else ""
        return f"batches {', '.join(names[:_MOST_BATCHES])}{more}"

    @property
    def plan(self) -> dict[str, int]:
        """Counts of the rows, and of the calls in no row, by one word for each."""
        return {end.value: self._count(end) for end in END_WORDS}

    @property
    def is_valid(self) -> bool:
        """True if no finding is an error."""
        return not any(found.is_error for found in self.findings)

    def in_words(self) -> str:
        """Return the rows by what became of them: `2 enqueued, 1 duplicate, 0 bad`, or could: `3 rows: 2 good, …`."""
        good = f"{count_of(self.rows, 'row')}: {self.valid} good"
        return ", ".join(
            (
                f"{self.enqueued} enqueued" if self._is_stored else good,
                count_of(self.duplicates, "duplicate"),
                *([f"{self.replaced} replaced"] if self.replaced else []),
                *([f"{self.removed} removed"] if self.removed else []),
                f"{self.rejected} bad",
                *([f"{self.suppressed} suppressed"] if self.suppressed else []),
                *([f"{self.left_out} left out"] if self.left_out else []),
                *([f"{self.again} to people who would be called again"] if self.again else []),
            )
        )

    def plan_in_words(self) -> str:
        """Return what becomes of a list that is imported again, `35 the same, 3 new, …`; empty if it is new."""
        if not any(self._count(end) for end in END_WORDS if end not in {End.NEW, End.BAD}):
            return ""
        shown = ((self._count(end), words) for end, words in END_WORDS.items())
        return ", ".join(f"{count} {words}" for place, (count, words) in enumerate(shown) if count or place < 2)

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object, for scripts."""
        return {
            "batch_id": None if self.batches else self.batch_id,
            "rows": self.rows,
            **{name: getattr(self, name) for name in _COUNTS},
            "plan": self.plan,
            "again": self.again,
            "dry_run": self.dry_run,
            **{name: [each.as_json() for each in getattr(self, name)] for name in SHOWN_OF_COLUMNS},
            "findings": [found.as_json() for found in self.findings],
            **({} if self.preview is None else {"preview": self.preview.as_json()}),
        }


MOST = {Severity.ERROR: 100_000, Severity.WARNING: 10_000}
"""The largest number of listed findings of each severity. At about 500 bytes each, they take 55 MB at most."""
_ONCE = frozenset({"differs", "unknown_range"})
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


class RowsRefusedError(CampaignFileError):
    """Raised when nothing was enqueued because of the rows. `findings` says why, and `report` has the counts."""

    def __init__(self, message: str, findings: Sequence[Finding], *, report: EnqueueReport) -> None:
        super().__init__(message, findings)
        self.report: EnqueueReport = report

    @classmethod
    def of(cls, report: EnqueueReport) -> Self:
        """Return the error of a report, whose message has its first findings."""
        wrong = [found for found in report.findings if found.is_error]
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        counts = (
            f"{count_of(report.rejected, 'row')} of {report.rows} cannot be called" if report.rejected else "",
            f"{count_of(report.again, 'call')} would go to people who were called before" if report.again else "",
        )
        why = ": ".join(filter(None, (" and ".join(filter(None, counts)), "; ".join(map(str, wrong[:_NAMED])))))
        return cls(f"nothing was enqueued: {why}{more}", report.findings, report=report)


_NAMED = 3
"""The findings in the message of an error."""
