"""The report of an enqueue: each row, and each call that can still ring, by the one word that it ends as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from voiceflow_worker.campaigns.called_before import RepeatedCalls
from voiceflow_worker.campaigns.calls.options import ended_finding
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.column_values import MomentSpan, PartlyFilled, UnreadColumn
from voiceflow_worker.campaigns.course import TimesOfCalls, simulated
from voiceflow_worker.campaigns.files.rows import Findings, Reject
from voiceflow_worker.campaigns.intake import ClassifiedRows, EnqueuedRows
from voiceflow_worker.campaigns.plan import END_WORDS, MOST_NAMED, End, Plan
from voiceflow_worker.campaigns.preview import Preview, PreviewMaker
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, message_of
from voiceflow_worker.model.jobs.job import JobState, person_in
from voiceflow_worker.model.text.wording import count_of

SHOWN_OF_COLUMNS = ("unread", "partly_filled", "moments")
"""What a report shows of columns, and not of rows."""
_NOT_SHOWN = ("refused", "preview", "repeated_calls", "version", "replaces", "night", "stays", "waiting", "named")


@dataclass(slots=True, kw_only=True)
class EnqueueReport:
    """The result of enqueuing a file.

    `batch_id` is the batch of rows that name no batch. `enqueued` counts new jobs. `duplicates` counts rows whose call
    existed before, in the store or earlier in the file. `suppressed` counts rows whose number is on the suppression
    list, `left_out` those that a column leaves out, `rejected` bad rows, and `rows` all rows. `valid` counts rows that
    made new jobs; if nothing was stored, it counts rows that could have made them. Of the rows whose stored call
    differs, `changed` counts those whose call waits: they are `replaced`, or nothing is enqueued; `on_the_way` and
    `over` those for which nothing is done, together `in_progress`. `left_out_waiting` counts rows that are left out
    and whose call can still ring, and `missing` the calls of the batch that can and are in no row; `removed` those of
    both that were cancelled, and `stays` those in no row that were not because they may be those of bad rows. Some of
    the people whose calls differ, are left out or in no row are `named`. In all, so many calls of the batch are
    `waiting`. `again` counts rows whose number has the same call in another batch. `ended` counts the duplicates whose
    calls have ended before they were sent, by state, `cancelled_by_person` those that a person has cancelled: nobody is
    called for them, unless `again` names these states. `refused` is True if nothing was enqueued.
    """

    batch_id: str
    enqueued: int = 0
    duplicates: int = 0
    replaced: int = 0
    removed: int = 0
    changed: int = 0
    on_the_way: int = 0
    over: int = 0
    cancelled_by_person: int = 0
    left_out_waiting: int = 0
    missing: int = 0
    stays: int = 0
    waiting: int = 0
    named: Sequence[str] = ()
    suppressed: int = 0
    left_out: int = 0
    rejected: int = 0
    findings: tuple[Finding, ...] = ()
    rows: int = 0
    valid: int = 0
    again: int = 0
    ended: Mapping[JobState, int] = field(default_factory=dict[JobState, int])
    dry_run: bool
    refused: bool = False
    preview: Preview | None = None
    """The preview of a dry run, if it was asked for."""
    repeated_calls: Sequence[RepeatedCalls] = ()
    """What was found of the rows counted in `again`."""
    replaces: bool = False
    """Whether the waiting calls that differ are replaced."""
    unread: Sequence[UnreadColumn] = ()
    """The columns that nobody reads, by whose few values rows may be left out; of filtered ones, what is called."""
    partly_filled: Sequence[PartlyFilled] = ()
    """The columns that nobody reads and that some rows have filled: by them too, rows may be left out."""
    moments: Sequence[MomentSpan] = ()
    """The columns that texts read as days or times, from the first to the last."""
    night: Finding | None = None
    """What is told of calls that begin at night at the number, if nobody has given hours."""
    version: str = ""
    """All counts that a preview shows, for the `expected_version` of a start: of rows that are new, known, bad or
    suppressed, and of people who were called before."""

    @property
    def in_progress(self) -> int:
        """The rows whose call differs, and is on the way or over."""
        return self.on_the_way + self.over

    @property
    def plan(self) -> dict[str, int]:
        """What becomes of each row, and of each call in no row, by one word for each."""
        is_stored = not (self.dry_run or self.refused)
        new = self.enqueued if is_stored else self.valid - self.changed * self.replaces
        # A call that left after it was compared is counted where it is now.
        changed = self.replaced if is_stored and self.replaces else self.changed
        counts = {
            End.NEW: new, End.SAME: self.duplicates - self.cancelled_by_person, End.CHANGED: changed,
            End.LEFT_OUT_WAITING: self.left_out_waiting, End.IN_NO_ROW: self.missing, End.ON_THE_WAY: self.on_the_way,
            End.OVER: self.over, End.BY_PERSON: self.cancelled_by_person, End.BAD: self.rejected,
        }  # fmt: skip
        return {end.value: count for end, count in counts.items()}

    @property
    def calls_nobody(self) -> bool:
        """Whether each call of these rows has ended before it was sent, so that nobody was called, or is now."""
        done = self.enqueued or self.replaced or self.refused or self.dry_run
        return not done and 0 < self.duplicates + self.in_progress + self.changed == sum(self.ended.values())

    @property
    def is_valid(self) -> bool:
        """True if no finding is an error."""
        return not any(found.is_error for found in self.findings)

    def in_words(self) -> str:
        """The rows by what became of them, such as `2 enqueued, 1 duplicate, 0 bad`, or could: `3 rows: 2 good, …`."""
        ended = ", ".join(f"{count} {state}" for state, count in self.ended.items())
        good = f"{count_of(self.rows, 'row')}: {self.valid} good"
        return ", ".join(
            (
                good if self.refused or self.dry_run else f"{self.enqueued} enqueued",
                count_of(self.duplicates, "duplicate") + (f" ({ended})" if ended else ""),
                *([f"{self.replaced} replaced"] if self.replaced else []),
                *([f"{self.removed} removed"] if self.removed else []),
                f"{self.rejected} bad",
                *([f"{self.suppressed} suppressed"] if self.suppressed else []),
                *([f"{self.left_out} left out"] if self.left_out else []),
                *([f"{self.again} to people who would be called again"] if self.again else []),
            )
        )

    def plan_in_words(self) -> str:
        """What becomes of a list that is imported again: `35 the same, 3 new, 1 changed, …`; empty if it is new."""
        plan = self.plan
        if not any(count for end, count in plan.items() if end not in {End.NEW, End.BAD}):
            return ""
        shown = ((plan[end], words) for end, words in END_WORDS.items())
        return ", ".join(f"{count} {words}" for place, (count, words) in enumerate(shown) if count or place < 2)

    def columns_in_words(self) -> str:
        """The values that are called of columns that are not spoken, and of partly filled ones; what is over."""
        values = [f"{each.column}: {each.in_words()}" for each in self.unread]
        partly = [f"{each.column} {each.filled:,} of {each.filled + each.empty:,}" for each in self.partly_filled]
        values += [f"{each.column}: {each.over_in_words()}" for each in self.moments if each.over and not each.ahead]
        return "; ".join([*values, *([f"partly filled: {', '.join(partly)}"] if partly else [])])

    def as_json(self) -> dict[str, object]:
        """The report as a JSON object, for scripts."""
        shown = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in {*_NOT_SHOWN, *self.plan}
        }
        shown |= {"changed": self.changed, "in_progress": self.in_progress, "plan": self.plan}
        shown |= {name: [each.as_json() for each in getattr(self, name)] for name in SHOWN_OF_COLUMNS}
        preview = {} if self.preview is None else {"preview": self.preview.as_json()}
        ended = {state.value: count for state, count in self.ended.items()}
        return {**shown, "ended": ended, "findings": [found.as_json() for found in self.findings], **preview}


class RowsRefusedError(CampaignFileError):
    """Raised when nothing was enqueued because of the rows. `findings` says why, and `report` has the counts."""

    def __init__(self, message: str, findings: Sequence[Finding], *, report: EnqueueReport) -> None:
        super().__init__(message, findings)
        self.report: EnqueueReport = report

    @classmethod
    def of(cls, report: EnqueueReport) -> Self:
        """The error of a report, whose message has its first findings."""
        wrong = [found for found in report.findings if found.is_error]
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        counts = (
            f"{count_of(report.rejected, 'row')} of {report.rows} cannot be called" if report.rejected else "",
            f"{count_of(report.again, 'row')} would call people who were called before" if report.again else "",
        )
        why = ": ".join(filter(None, (" and ".join(filter(None, counts)), "; ".join(map(str, wrong[:_NAMED])))))
        return cls(f"nothing was enqueued: {why}{more}", report.findings, report=report)


_NAMED = 3
"""The findings in the message of an error."""


@dataclass(slots=True, kw_only=True)
class RowCounts(EnqueueReport):
    """The report while rows are read and enqueued: its running counts, its findings and its preview so far."""

    # What is counted is declared once more, so that every type checker reads its types alike.
    enqueued: int = 0
    duplicates: int = 0
    replaced: int = 0
    changed: int = 0
    on_the_way: int = 0
    over: int = 0
    cancelled_by_person: int = 0
    left_out_waiting: int = 0
    missing: int = 0
    waiting: int = 0
    named: Sequence[str] = ()
    suppressed: int = 0
    left_out: int = 0
    rejected: int = 0
    rows: int = 0
    valid: int = 0
    again: int = 0
    ended: Mapping[JobState, int] = field(default_factory=dict[JobState, int])
    repeated_calls: Sequence[RepeatedCalls] = ()
    night: Finding | None = None
    file: str | None
    found: Findings = field(default_factory=Findings)
    maker: PreviewMaker | None = None
    reject: Reject | None = None
    """Gets the rows that are bad or left out."""
    call_times: TimesOfCalls = field(default_factory=TimesOfCalls)
    times: Counter[int] = field(default_factory=Counter[int])
    """The calls for which nobody has given hours, by the places of their times."""
    called_before: int = 0
    """Rows counted in `again`, also if they are to be called again."""
    changes: Counter[str] = field(default_factory=Counter[str])
    """How many calls were changed in what."""

    def add_repeated(self, found: Iterable[RepeatedCalls], *, column: str) -> None:
        """Count the rows that would call people again, and add errors about them. In a dry run, add warnings."""
        severity = Severity.WARNING if self.dry_run else Severity.ERROR
        for each in found:
            self.again += each.count
            self.repeated_calls = (*self.repeated_calls, each)
            self.found.add([each.finding(file=self.file, column=column, severity=severity)])

    def shown(self) -> str:
        """What a preview shows of the rows before they are stored, whether people are to be called again or not."""
        ended = sorted(f"{state.value}-{count}" for state, count in self.ended.items())
        counts = (
            self.rows, self.valid - self.changed * self.replaces, self.duplicates, self.left_out, self.rejected,
            self.called_before, self.changed, self.on_the_way, self.over, self.cancelled_by_person,
            self.left_out_waiting, self.missing, *ended,
        )  # fmt: skip
        return ".".join(map(str, counts))

    def has_more_than(self, most: int | None) -> bool:
        """Whether more rows than these are called; if so, this is an error."""
        if most is None or (rows := self.rows - self.left_out) <= most:
            return False
        message = f"{count_of(rows, 'row')} would be called, and most allows {most}: check the file, or allow more"
        self.found.add([Finding(file=self.file, message=message)])
        return True

    def would_empty(self) -> bool:
        """Whether there are no rows, though calls in no row are to be cancelled; if so, this is an error."""
        if self.rows:
            return False
        told = "the list has no rows, and with remove_missing each waiting call of its batch would be cancelled: give a"
        self.found.add([Finding(file=self.file, message=f"{told} list with rows, or cancel the batch")])
        return True

    def unreadable(self, error: CampaignFileError) -> None:
        """Report a file that cannot be read as findings."""
        # The file has a field of its own in the finding, so its name is left out of the message.
        told = message_of(error)
        short = told.removeprefix(self.file or "").lstrip(" :,")
        message = Message(short, told, kind=told.kind, values=told.values)
        self.found.add(error.findings or (Finding(file=self.file, message=message),))

    def add_classified(self, classified: ClassifiedRows) -> None:
        """Count rows that were read."""
        self.rows += sum(row.raw.counts for row in classified.rows)
        self.valid += sum(row.raw.number not in classified.later for row in classified.new)
        self.duplicates += len(classified.known)
        self.left_out += sum(row.raw.counts for row in classified.rows if row.is_left_out)
        self.rejected += sum(row.raw.counts for row in classified.bad)
        self.ended = Counter(self.ended) + classified.ended
        self._add_ends(classified.ends)
        self.named = (*self.named, *classified.named)[:MOST_NAMED]
        for row in classified.rows:
            self.found.add(row.findings)
        self._reject(classified.bad)

    def add_enqueued(self, rows: Sequence[ReadRow], enqueued_rows: EnqueuedRows) -> None:
        """Count what became of `rows`, so far counted as valid."""
        without = (*enqueued_rows.suppressed, *enqueued_rows.refused, *enqueued_rows.moved)
        without_call = {row.raw.number for row in without}
        called = [row for row in rows if row.raw.number not in without_call]
        if self.maker is not None:
            self.maker.add(called)
        self.add_times(called)
        self.enqueued += enqueued_rows.enqueued
        self.replaced += enqueued_rows.replaced
        self.duplicates += enqueued_rows.duplicates
        self._add_ends(enqueued_rows.ends)
        self.changes += enqueued_rows.changed
        self.suppressed += len(enqueued_rows.suppressed)
        self.valid -= enqueued_rows.duplicates + len(without)
        self.rejected += len(enqueued_rows.refused)
        for row in without:
            self.found.add(row.findings[-1:])  # the others were added when the row was read
        self._reject((*enqueued_rows.suppressed, *enqueued_rows.refused))

    def add_times(self, rows: Iterable[ReadRow]) -> None:
        """Count rows that are called, if nobody has given hours."""
        if not self.call_times.has_hours:
            self.times.update(row.times for row in rows if row.call is not None)

    def find_night(self, now: datetime, rate: float | None, *, needs_hours: bool) -> bool:
        """Add a finding if counted calls would begin at night. Returns whether it is an error."""
        course = simulated(self.call_times.counted(self.times), now, rate=rate)
        if said := course.night_in_words(course.undecided):
            told = Message(f"{said}: {Remedy.GIVE_HOURS}", Remedy.GIVE_HOURS)
            severity = Severity.ERROR if needs_hours else Severity.WARNING
            self.night = Finding(file=self.file, severity=severity, message=told)
            self.found.add([self.night])
        return needs_hours and self.night is not None

    def add_planned(self, plan: Plan) -> None:
        """Count what the plan says of rows that were counted as valid."""
        told = [row for row, *_ in plan.told.values()]
        for row in told:
            self.found.add(row.findings[-1:])
        self._reject(bad := [row for row, _, end in plan.told.values() if end is End.BAD])
        self.valid -= len(plan.same) + len(told) + len(plan.later)
        self.on_the_way += len(plan.later)
        self.duplicates += len(plan.same)
        self.rejected += len(bad)
        self._add_ends(Counter(end for *_, end in plan.told.values() if end is not End.CHANGED))
        self.changed += plan.changed
        self.cancelled_by_person += plan.by_person
        if plan.by_person:
            self.ended = Counter(self.ended) + Counter({JobState.CANCELLED: plan.by_person})
        self.missing, self.left_out_waiting = plan.in_no_row, len(plan.left_out)
        self.waiting = plan.waiting
        self.named = (*self.named, *(person_in((row.call and row.call.data) or {}) for row in told), *plan.people)
        self.named = tuple(dict.fromkeys(filter(None, self.named)))[:MOST_NAMED]

    def _add_ends(self, ends: Counter[End]) -> None:
        self.changed += ends[End.CHANGED]
        self.on_the_way += ends[End.ON_THE_WAY]
        self.over += ends[End.OVER]
        self.cancelled_by_person += ends[End.BY_PERSON]

    def is_undecided(self, *, removes: bool, keeps: bool) -> bool:
        """Whether rows differ or are left out while their calls wait, and nobody has ordered what becomes of these."""
        return not keeps and (bool(self.changed and not self.replaces) or bool(self.left_out_waiting and not removes))

    def _reject(self, rows: Sequence[ReadRow]) -> None:
        if self.reject is not None:
            for row in rows:
                for raw in (row.raw, *row.raw.others):
                    self.reject(raw, row.findings)

    def report(self, *, refused: bool) -> EnqueueReport:
        """The report of these counts."""
        if (found := ended_finding(self.ended, file=self.file)) is not None:
            self.found.add([found])
        counts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(EnqueueReport)}
        if self.maker is not None:
            counts["preview"] = self.maker.preview(
                duplicates=self.duplicates,
                suppressed=self.suppressed,
                left_out=self.left_out,
                bad=self.rejected,
            )
        counts |= {"findings": self.found.all(file=self.file), "refused": refused}
        return EnqueueReport(**counts)
