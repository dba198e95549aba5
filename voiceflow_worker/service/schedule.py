"""Campaigns that start by themselves: each run of a schedule is a batch, started once, by any process.

What happened is in the store (`service/scheduled_run.py`), and a process settles a run only while it has the lease to
it: a lease, which is a condition of every call and record that it stores; of the calls, so is the end of the run's
misfire, by the clock of the store. A run that began and was cut is completed by the next process, because the same
campaign again adds what is missing, and no call twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from voiceflow_worker.campaigns.calls.options import BadRowLimit
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.campaigns.options_file import ScheduleFields, schedule_in
from voiceflow_worker.campaigns.recurrence import Recurrence
from voiceflow_worker.core.audit import Actor, Interface, login_name
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import count_states, starts_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Before, BulkWrite, Condition, Result, Same, Write
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, StoreError, VoiceflowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.scheduled_run import (
    KEPT,
    LEASES,
    RUNS,
    RunState,
    Schedule,
    ScheduledRun,
    read_schedule,
    run_at,
    run_put,
    run_records,
)
from voiceflow_worker.settings import Settings

LOOK = 5.0
"""The seconds between two looks at a schedule, if no run is due in between."""
LEASE = timedelta(seconds=15)
"""How long a lease lasts if it is not renewed. After a killed process, the next one waits until then."""
_AGAIN = timedelta(seconds=30)
"""The longest pause before a run that is held is tried again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHILE_OTHERS_WORK = 0.5
_LONGEST_NAME = MAX_ID_CHARACTERS - len("-2026-11-20-0900-2")
_MISSED_AT_ONCE = 10
_FINDINGS_TOLD = 3
_LEFT_OUT_KEPT = 50
_LONGEST_SAID = 600
_NOBODY = "no `voiceflow schedule` with this file could start it in time"

_log = structlog.get_logger("voiceflow.schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus:
    """A schedule: when it runs next, what became of its last run, and what is wrong with its file."""

    file: Path
    name: str | None
    recurrence: Recurrence | None
    next_at: tuple[datetime, ...]
    last: ScheduledRun | None
    problem: str | None

    def as_json(self) -> dict[str, object]:
        """The schedule as JSON, for scripts."""
        known = self.recurrence
        return {
            "schedule": self.name,
            "file": str(self.file),
            "cron": known and known.cron,
            "time_zone": known and known.zone.key,
            "misfire_seconds": known and known.misfire.total_seconds(),
            "days": known and known.days_in_words,
            "next": [{"at": rfc3339(at), "local": _local(at, known)} for at in self.next_at],
            "last": self.last and self.last.as_json(),
            "problem": self.problem,
        }


def _local(at: datetime, known: Recurrence | None) -> str:
    return (at if known is None else known.local(at)).isoformat(timespec="minutes")


@dataclass(slots=True)
class _File:
    """A TOML file, with what it said when it could last be read."""

    path: Path
    name: str = ""
    fields: ScheduleFields = field(default_factory=ScheduleFields)
    written_at: datetime = _EPOCH
    changed_at: datetime = _EPOCH
    """When it was written, or was seen to be, if the clock of the files is ahead of that of the store."""
    problem: str | None = None
    again_at: float = 0.0
    """When a run that is held is tried again, on the monotonic clock."""


class Scheduler:
    """Starts the campaigns of TOML files at their times, in one queue, whatever other processes do the same.

    A file has the options of a campaign with its `file` of people, and `cron`, `time_zone` and perhaps `misfire`,
    `skip_bad` and `again`. It is read anew for each run. The name of a schedule is the `batch` of its file, else the
    file's name. Its first run is the first one after it was first seen. `tell` gets each run that was settled, or is
    held for a new reason; by default it is logged. `on` is the interface, for the audit log.
    """

    def __init__(
        self,
        queue: CallQueue,
        files: Sequence[Path],
        *,
        settings: Settings | None = None,
        on: str = Interface.PYTHON,
        tell: Callable[[ScheduledRun], None] | None = None,
    ) -> None:
        self._queue = queue
        self._store = queue.store
        self._clock = queue.store.clock
        self._settings = settings
        self._on = on
        self._tell = tell or _logged
        self._files = [_File(path) for path in dict.fromkeys(files)]
        self._scope = anyio.CancelScope()
        self._pauses: set[anyio.CancelScope] = set()
        self._stopping = False

    @property
    def problems(self) -> Mapping[Path, str]:
        """The files that cannot be read, each with the reason."""
        return {one.path: one.problem for one in self._files if one.problem is not None}

    async def run(self) -> None:
        """Start campaigns until `stop` is called. Failures of the store or of one file are logged, and end nothing."""
        with self._scope:
            async with anyio.create_task_group() as group:
                for one in self._files:
                    group.start_soon(self._keep, one)

    def stop(self, *, grace: float = 0.0) -> None:
        """Begin no further run, and end `run`. A run that is being started has `grace` seconds to be completed.

        After that it is cut, as by a crash: none of its calls rings until another process completes it.
        """
        self._stopping = True
        for pause in self._pauses:
            pause.cancel()
        self._scope.deadline = anyio.current_time() + grace

    async def once(self) -> list[ScheduledRun]:
        """Start what is due now, and return each run that was settled or is held. Raises StoreError.

        A run that another process is starting is waited for, and completed if that process dies.
        """
        results: list[ScheduledRun] = []
        with self._scope:
            for one in self._files:
                while not self._stopping and await self._settle(one, results):
                    await self._pause(_WHILE_OTHERS_WORK)
        return results

    async def statuses(self, *, count: int = 5) -> list[ScheduleStatus]:
        """Each schedule, with its next runs; nothing is started. Raises StoreError."""
        found: list[ScheduleStatus] = []
        now = self._clock.now()
        for one in self._files:
            await self._read(one)
            if one.problem is None:
                try:
                    await self._campaign(one, now)
                except (InvalidInputError, CampaignFileError) as error:
                    one.problem = str(error)
            known = await read_schedule(self._store, self._queue.name, one.name) if one.name else None
            one.problem = await to_thread.run_sync(_twin, one, known) or one.problem
            skipped = None if known is None or known.skip is None else known.skip.at
            following = () if one.fields.recurrence is None else one.fields.recurrence.after(now)
            runs_at = islice((at for at in following if at != skipped), count)
            found.append(
                ScheduleStatus(
                    file=one.path, name=one.name or None, recurrence=one.fields.recurrence, next_at=tuple(runs_at),
                    last=None if known is None else known.last, problem=one.problem,
                )
            )  # fmt: skip
        return found

    async def _keep(self, one: _File) -> None:
        while not self._stopping:
            try:
                await self._settle(one, [])
            except Exception as error:  # noqa: BLE001 (no failure ends the other schedules)
                known = isinstance(error, VoiceflowError)
                _log.error("a schedule is tried again", file=str(one.path), error=str(error), exc_info=not known)
            now, pause = self._clock.now(), LOOK
            run_at = None if one.fields.recurrence is None else next(one.fields.recurrence.after(now), None)
            if run_at is not None:
                pause = min(pause, (run_at - now).total_seconds())
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with anyio.CancelScope() as scope:
            self._pauses.add(scope)
            try:
                if not self._stopping:
                    await self._clock.sleep(seconds)
            finally:
                self._pauses.discard(scope)

    async def _read(self, one: _File) -> None:
        """Read when the campaign of a file starts. If it cannot be read, what it said before still counts."""
        try:
            fields = await to_thread.run_sync(schedule_in, one.path)
            written_at = datetime.fromtimestamp((await anyio.Path(one.path).stat()).st_mtime, UTC)
            one.problem = self._unusable(one, name := fields.batch or one.path.stem, fields.recurrence)
            if one.problem is None:
                new = fields.recurrence if one.fields.recurrence not in {None, fields.recurrence} else None
                if new is not None and new.days_in_words is not None:
                    _log.info("the days of a schedule", schedule=name, days=new.days_in_words)
                one.name, one.fields = name, fields
                if written_at != one.written_at:
                    one.written_at, one.changed_at = written_at, min(written_at, self._clock.now())
        except (InvalidInputError, CampaignFileError, OSError) as error:
            one.problem = str(error)

    def _unusable(self, one: _File, name: str, recurrence: Recurrence | None) -> str | None:
        if recurrence is None:
            return f"{one.path} has no cron, which says when the campaign starts, such as 0 9 * * mon-fri"
        if len(name) > _LONGEST_NAME:
            return (
                f"{one.path}: the name of a schedule begins those of its batches, and may have {_LONGEST_NAME} "
                f"characters, but {name!r} has {len(name)}: rename the file, or give it a batch"
            )
        same = next((other.path for other in self._files if other is not one and other.name == name), None)
        return None if same is None else _both_named(one.path, same, name)

    async def _campaign(self, one: _File, at: datetime) -> Campaign:
        """The campaign in a file. Days such as `tomorrow` are counted from the run."""
        campaign = await to_thread.run_sync(
            lambda: Campaign.of({"campaign": one.path}, settings=self._settings, now=at)
        )
        if campaign.file is None:
            raise InvalidInputError(f"{one.path} has no file, which names the people to call")
        return replace(campaign, skip_bad=one.fields.skip_bad or False, again=one.fields.again)

    async def _seen(self, one: _File, recurrence: Recurrence) -> Schedule:
        """The schedule, with the times of its file, and since when they count. Raises StoreError.

        Whichever process sees a file first, or sees it changed, notes that: no run before that starts, but for the last
        one that was due by the times before the change as well.
        """
        while True:
            known = await read_schedule(self._store, self._queue.name, one.name)
            now, due = self._clock.now(), list[ScheduledRun]()
            times = replace(
                self._run(one, recurrence, now, ()), state=RunState.SEEN, batch_id="", file=str(one.path.absolute())
            )
            runs, stored = (known.runs, known.stored) if known is not None else ((), None)
            if known is not None:
                since = min(known.times.at, now)  # a clock that was ahead may have seen it later
                if (known.times.cron, known.times.time_zone) != (times.cron, times.time_zone):
                    since = max(since, one.changed_at)
                    was_due = {*known.times.recurrence.within(known.since, one.changed_at)} - {each.at for each in runs}
                    both = was_due.intersection(recurrence.within(known.since, now))
                    due = [self._run(one, recurrence, at, runs) for at in sorted(both)[-1:]]
                times = replace(times, at=since, token=known.times.token, file=known.times.file or times.file)
                if stored and stored.ends_at and stored.ends_at > now + KEPT / 2 and times == known.times:
                    return known
            times = replace(times, token=new_revision())
            same = [Same(RUNS, times.key[0], stored and stored.value, times.key[1])]
            if await self._write([*same, *(Same(RUNS, each.key[0], None, each.key[1]) for each in due)], times, *due):
                return Schedule(times=times, runs=(*due, *runs), now=now, stored=stored)

    async def _settle(self, one: _File, results: list[ScheduledRun]) -> bool:
        """Settle what is due of a schedule. Returns whether another process is at work on it. Raises StoreError."""
        before, others_work = one.problem, False
        await self._read(one)
        recurrence = one.fields.recurrence
        schedule = None if recurrence is None else await self._seen(one, recurrence)
        twin = await to_thread.run_sync(_twin, one, schedule)
        one.problem = twin or one.problem
        if one.problem is not None and one.problem != before:
            _log.error("a schedule cannot be used", file=str(one.path), error=one.problem)
        if recurrence is None or schedule is None or twin is not None:
            return False
        known = {each.at: each for each in schedule.runs}
        for at, starts in _due(recurrence, known, self._clock.now(), since=schedule.since):
            run = known.get(at) or self._run(one, recurrence, at, known.values())
            waits = run.state is RunState.HELD and self._clock.monotonic() < one.again_at
            if self._stopping or (starts and waits):
                continue
            done = await self._leased(one, run, recurrence, starts=starts)
            if done is None:
                others_work = True
                continue
            known[at] = done
            results.append(done)
            if (done.state, done.message) != (run.state, run.message):
                self._tell(done)
        return others_work

    def _run(self, one: _File, recurrence: Recurrence, at: datetime, known: Collection[ScheduledRun]) -> ScheduledRun:
        return run_at(at, recurrence, schedule=one.name, queue=self._queue.name, known=known)

    async def _leased(
        self, one: _File, run: ScheduledRun, recurrence: Recurrence, *, starts: bool
    ) -> ScheduledRun | None:
        """Start a run under the lease to it, or give it up; None if another process has that. Raises StoreError."""
        group, member = run.key
        lease = LeaderLease(self._store, f"{group}/{member}", namespace=LEASES, length=LEASE)
        if not await lease.take():
            return None
        async with lease.kept():
            run = (await run_records(self._store).within(group).get([member])).get(member) or run
            if not run.is_open:
                return run
            late = self._clock.now() - run.at
            if not starts or late >= recurrence.misfire:  # what came before it took long
                done = await self._given_up(one, run, is_late=late >= recurrence.misfire)
            else:
                run = replace(run, state=RunState.STARTING, is_begun=True)
                if not await self._write([lease.condition], run):
                    return None
                done = await self._enqueued(one, run, lease.condition, Before(run.at + recurrence.misfire))
            if done.state is RunState.HELD:
                one.again_at = self._clock.monotonic() + min(_AGAIN, recurrence.misfire / 4).total_seconds()
            return done if await self._write([lease.condition], done) else None

    async def _enqueued(self, one: _File, run: ScheduledRun, *conditions: Condition) -> ScheduledRun:
        """Enqueue the calls of a run under conditions: what became of it. Raises StoreError."""
        try:
            campaign = await self._campaign(one, run.at)
            schedule = await read_schedule(self._store, run.queue, run.schedule)
            known = () if schedule is None else schedule.runs
            before = _moved_from(run, known)
            options = replace(
                campaign.options, batch_id=run.batch_id, schedule_batches={each.batch_id for each in known},
                same_people_batch=None if before is None else before.batch_id,
            )  # fmt: skip
            report = await replace(campaign, options=options).start(
                self._queue,
                by=Actor(on=self._on, login=login_name(), name=f"schedule {run.schedule}"),
                conditions=conditions,
            )
        except StoreError:
            raise
        except VoiceflowError as error:
            return _held(run, str(error))
        except Exception as error:  # noqa: BLE001 (a menu is code of its users)
            _log.exception("a run failed", schedule=run.schedule, batch=run.batch_id)
            return _held(run, f"{type(error).__name__}: {error}")
        errors = [each for each in report.findings if each.is_error]
        run = replace(run, counts={name: getattr(report, name) for name in _COUNTS}, repeats=None)
        if before is not None and _only_repeats(report, before.batch_id):
            return replace(_held(run, _again_in_words(run, before, report, one.path)), repeats=before.batch_id)
        if report.refused:
            return _held(run, _said(_refused(report, one.fields.skip_bad), errors))
        left_out = tuple(_stored(str(each)) for each in errors[:_LEFT_OUT_KEPT]) if report.rejected else ()
        nobody = not report.enqueued and not await _calls_of(self._store, run)
        said = _said(f"nobody is called: {report.in_words()}" if nobody else report.in_words(), report.findings)
        return replace(run, state=RunState.STARTED, message=said, left_out=left_out)

    async def _given_up(self, one: _File, run: ScheduledRun, *, is_late: bool) -> ScheduledRun:
        """What became of a run that is not started any more, by what the store has of it. Raises StoreError."""
        store, batch = self._store, run.batch_id
        calls = await _calls_of(store, run)
        if await starts_of(store, run.queue, batch_id=batch):
            state = RunState.CUT
            said = (
                f"its import was interrupted, and the {count_of(calls, 'call')} that it stored are staged: let them "
                f"ring (`voiceflow resume --batch {batch} --staged`), or end them (`voiceflow calls cancel --batch "
                f"{batch}`)"
            )
        elif calls:
            state, said = RunState.STARTED, f"its batch has {count_of(calls, 'call')}"
        elif run.repeats is not None:
            state, said = RunState.REPEATED, run.message
        else:
            state, said = RunState.MISSED, run.message or one.problem or _NOBODY
            if not is_late:
                said = f"a later run is due as well{f'; {run.message}' if run.message else ''}"
        return replace(run, state=state, message=_stored(said))

    async def _write(self, conditions: Sequence[Condition], *runs: ScheduledRun) -> bool:
        """Store runs under conditions; False if one does not hold. Raises StoreError."""
        now = self._clock.now()
        write = Write(conditions=tuple(conditions), puts=tuple(run_put(self._store, each, now) for each in runs))
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=now)
        return answer.result is Result.DONE


def _twin(one: _File, known: Schedule | None) -> str | None:
    """What is wrong if another command has a schedule of this name from another file, which is on this machine."""
    other = Path(known.times.file) if known is not None and known.times.file else one.path
    try:
        if other.samefile(one.path):
            return None
        fields = schedule_in(other)
    except (InvalidInputError, CampaignFileError, OSError):
        return None
    is_named = fields.recurrence is not None and (fields.batch or other.stem) == one.name
    return _both_named(one.path.absolute(), other, one.name) if is_named else None


def _both_named(path: Path, other: Path, name: str) -> str:
    return f"{path} and {other} are both named {name}: rename one of them, give it a batch, or remove it"


def _due(
    recurrence: Recurrence, known: Mapping[datetime, ScheduledRun], now: datetime, *, since: datetime
) -> list[tuple[datetime, bool]]:
    """The runs to settle, each with whether it starts, or is over. `known` are those that the store knows.

    Of several that are due, the last one is started, and those that were begun, or that a person ordered, are
    completed. What is not known counts `since` a time.
    """
    latest = max(recurrence.within(now - recurrence.misfire, now), default=None)
    unknown = [at for at in recurrence.within(since, now) if at not in known]
    if more := len(unknown[:-_MISSED_AT_ONCE]):
        _log.error("runs were missed, and only the last of them are recorded one by one", more=more)
    begun = {at for at, each in known.items() if each.state is RunState.STARTING or (each.is_open and each.ordered_by)}
    due = {*unknown[-_MISSED_AT_ONCE:], *(at for at, each in known.items() if each.is_open)}
    return [(at, at == latest or at in begun) for at in sorted(due)]


def _held(run: ScheduledRun, why: str) -> ScheduledRun:
    return replace(run, state=RunState.HELD, message=_stored(why))


def _stored(said: str) -> str:
    return as_stored(printable_line(said)[:_LONGEST_SAID])


_COUNTS = ("rows", "enqueued", "duplicates", "suppressed", "left_out", "rejected")


def _refused(report: EnqueueReport, limit: BadRowLimit | None) -> str:
    """Why nothing was enqueued, before the findings."""
    if not report.rejected:
        return "nothing is enqueued"
    allowed = "" if limit is None else f", and skip_bad leaves out {limit.in_words()}"
    return f"nothing is enqueued: {report.rejected} of {count_of(report.rows, 'row')} cannot be called{allowed}"


def _moved_from(run: ScheduledRun, known: Collection[ScheduledRun]) -> ScheduledRun | None:
    """The last run of the same local day that was started at times which were changed since, instead of this one.

    None if more runs were due on that day: a schedule that runs several times a day calls the same people again.
    """
    started = [each for each in known if each.at < run.at and each.state not in {RunState.HELD, *_NOT_STARTED}]
    last = max(started, key=lambda each: each.at, default=None)
    if last is None or (last.cron, last.time_zone) == (run.cron, run.time_zone):
        return None
    day, next_at = last.at.astimezone(last.zone).date(), last.next_at
    is_last_of_day = next_at is None or next_at.astimezone(last.zone).date() != day
    return last if is_last_of_day and run.at.astimezone(run.zone).date() == day else None


_NOT_STARTED = frozenset({RunState.MISSED, RunState.REPEATED, RunState.SKIPPED})


def _only_repeats(report: EnqueueReport, batch: str) -> bool:
    """Whether a start was refused because all of its people were called in a batch, and for nothing else."""
    of_it = sum(each.count for each in report.repeated_calls if each.job.batch_id == batch)
    return report.refused and not report.enqueued and of_it == report.again and of_it >= report.valid > 0


def _again_in_words(run: ScheduledRun, before: ScheduledRun, report: EnqueueReport, file: Path) -> str:
    changed = "cron" if before.cron != run.cron else "time zone"
    return (
        f"nobody is called: it would call the {count_of(report.again, 'row')} of its file again as the run of "
        f"{in_words(before.at, before.zone)} (batch {before.batch_id}), after which the {changed} was changed. If they "
        f"should be called again, write again = true into {file.name} for this run"
    )


async def _calls_of(store: Store, run: ScheduledRun) -> int:
    """The number of calls in the batch of a run."""
    return sum((await count_states(store, run.queue, batch_id=run.batch_id)).values())


def _said(what: str, findings: Sequence[Finding]) -> str:
    """A sentence, with the first findings."""
    more = len(findings) - _FINDINGS_TOLD
    told = [*map(str, findings[:_FINDINGS_TOLD]), *([f"and {more} more"] if more > 0 else [])]
    return _stored("; ".join([what, *told]))


def _logged(run: ScheduledRun) -> None:
    log = _log.error if run.is_undone else _log.info
    log("a run of a schedule", **run.as_json())
