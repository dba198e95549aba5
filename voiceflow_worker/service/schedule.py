"""Campaigns that start by themselves: each run of a schedule is a batch, made once by whoever comes first.

The name of a run is computed (`campaigns/schedules.py`). If its batch has calls, it exists; else it is started, if it
is not too late, and again from its beginning if it was cut, because the same campaign again adds what is missing, and
no call twice. Whoever reads the file has a lease, which is a condition of each call and record that it stores; of the
calls, so is the end of the run's misfire, by the clock of the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from voiceflow_worker.campaigns.calls.options import BadRowLimit
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.options_file import ScheduleFields, schedule_in
from voiceflow_worker.campaigns.recurrence import Recurrence
from voiceflow_worker.campaigns.schedules import (
    LEASES,
    MANY,
    RunState,
    Schedule,
    ScheduledRun,
    read_schedule,
    run_records,
)
from voiceflow_worker.core.audit import Actor, Interface, login_name
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import count_states, find_pages, gates_at, starts_of
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import Before, BulkWrite, Result, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, StoreError, VoiceflowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.settings import Settings

LOOK = 5.0
"""The seconds between two looks at a schedule, if no run is due in between."""
LEASE = timedelta(seconds=15)
"""How long a lease lasts if it is not renewed. After a killed process, the next one waits until then."""
STANDS_STILL = 10.0
"""The seconds for which a file of people must not have changed: one that is being written is not read."""
_AGAIN = timedelta(seconds=30)
"""The longest pause before a run that is held is tried again."""
_WHILE_OTHERS_WORK = 0.5
_LONGEST_NAME = MAX_ID_CHARACTERS - len("-2026-11-20-0900-2")
_MISSED_AT_ONCE = 10
_FINDINGS_TOLD = 3
_LEFT_OUT_KEPT = 50
_FIRST_ROWS = 100
_RUNS_AT_ONCE = 100
_LONGEST_SAID = 600
_ANY_BATCH = "run"
_NOBODY = "no `voiceflow schedule` with this file could start it in time"
_NEXT_IS_DUE = "the next run was due"
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})

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
            "days": known and known.in_words(),
            "next": [
                {"at": rfc3339(at), "local": at.astimezone(known.zone if known else None).isoformat(timespec="minutes")}
                for at in self.next_at
            ],
            "last": self.last and self.last.as_json(),
            "problem": self.problem,
        }


@dataclass(slots=True)
class _File:
    """A TOML file, with what it said when it could last be read."""

    path: Path
    name: str = ""
    fields: ScheduleFields = field(default_factory=ScheduleFields)
    seen_at: datetime | None = None
    """Since when this process knows its times."""
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
                while not self._stopping and await self._others_work(one, results):
                    await self._pause(_WHILE_OTHERS_WORK)
        return results

    async def statuses(self, *, count: int = 5) -> list[ScheduleStatus]:
        """Each schedule, with its next runs; nothing is started. Raises StoreError."""
        found: list[ScheduleStatus] = []
        now = self._clock.now()
        for one in self._files:
            recurrence, known = await self._read(one, logs=False)
            if one.problem is None:
                try:
                    campaign = await self._campaign(one, now)
                    await to_thread.run_sync(_refuse_lacking, campaign, now)
                except (InvalidInputError, CampaignFileError) as error:
                    one.problem = str(error)
            skipped = () if known is None else known.skipped
            following = () if recurrence is None else recurrence.after(now)
            found.append(
                ScheduleStatus(
                    file=one.path, name=one.name or None, recurrence=recurrence,
                    next_at=tuple(islice((at for at in following if at not in skipped), count)),
                    last=None if known is None else known.last, problem=one.problem,
                )
            )  # fmt: skip
        return found

    async def _keep(self, one: _File) -> None:
        while not self._stopping:
            pause = LOOK
            try:
                if await self._others_work(one, []):
                    pause = _WHILE_OTHERS_WORK
            except Exception as error:  # noqa: BLE001 (no failure ends the other schedules)
                known = isinstance(error, VoiceflowError)
                _log.error("a schedule is tried again", file=str(one.path), error=str(error), exc_info=not known)
            now = self._clock.now()
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

    async def _read(self, one: _File, *, logs: bool = True) -> tuple[Recurrence | None, Schedule | None]:
        """When the campaign of a file starts, and what the store has of it. Raises StoreError.

        If it cannot be read, what it said before still counts. A new problem is logged, unless a status tells it.
        """
        before = one.problem
        try:
            fields = await to_thread.run_sync(schedule_in, one.path)
            one.problem = self._unusable(one, name := fields.batch or one.path.stem, fields.recurrence)
            if one.problem is None:
                was, new = one.fields.recurrence, fields.recurrence
                if was is None or new is None or (was.cron, was.zone) != (new.cron, new.zone) or name != one.name:
                    one.seen_at = self._clock.now()
                one.name, one.fields = name, fields
        except (InvalidInputError, CampaignFileError, OSError) as error:
            one.problem = str(error)
        recurrence = one.fields.recurrence
        known = await read_schedule(self._store, self._queue.name, one.name) if recurrence is not None else None
        if known is not None and (twin := await to_thread.run_sync(_twin, one, known.times.file)) is not None:
            one.problem, recurrence = twin, None
        if logs and one.problem is not None and one.problem != before:
            _log.error("a schedule cannot be used", file=str(one.path), error=one.problem)
        return recurrence, known

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
        run = one.fields
        return replace(campaign, skip_bad=run.skip_bad or False, again=run.again, replace=run.replace)

    def _times(self, one: _File, recurrence: Recurrence, known: Schedule | None) -> ScheduledRun:
        """The times of a file, and since when they are known.

        Not since before a process has seen them: a run that was due before that was ordered by nobody.
        """
        now, stands = self._clock.now(), None if known is None else known.times
        seen_at = now if stands is None else min(one.seen_at or now, now)
        file = str(one.path.absolute()) if stands is None or not stands.file else stands.file
        if stands is not None and (stands.cron, stands.time_zone) == (recurrence.cron, recurrence.zone.key):
            seen_at = min(stands.at, seen_at)  # a clock that was ahead may have seen them later
        return ScheduledRun(
            schedule=one.name, queue=self._queue.name, at=seen_at, cron=recurrence.cron, file=file,
            time_zone=recurrence.zone.key, misfire=recurrence.misfire.total_seconds(),
        )  # fmt: skip

    def _due(self, one: _File, times: ScheduledRun, known: Schedule | None) -> list[tuple[ScheduledRun, bool]]:
        """The runs to settle, each with whether it starts; else it is over, unless its import was begun.

        Of several that are due, the last one starts, and those that a person ordered. What was due by the times before
        a change as well is due still.
        """
        now, runs, was = self._clock.now(), known.runs if known else (), list[datetime]()
        since = times.at
        if known is not None:
            was = known.times.recurrence.last(now, since=known.since, count=_MISSED_AT_ONCE)
            since = max(known.settled_at, min(times.at, known.times.at))
        both = times.recurrence.last(now, since=since, count=_MISSED_AT_ONCE)
        unknown = [at for at in both if at > times.at or at in was]
        due = {at: times.run(at, runs) for at in unknown}
        due |= {each.at: replace(each, misfire=times.misfire) for each in runs if each.is_open and each.at <= now}
        latest = max((each.at for each in due.values() if not each.ordered_by), default=now)
        latest = max(latest, known.settled_at) if known else latest
        starts = {at for at, run in due.items() if now < run.until and (at == latest or run.ordered_by)}
        paused = self._clock.monotonic() < one.again_at
        return [
            (run, at in starts)
            for at, run in sorted(due.items())
            if not (paused and at in starts and run.state is RunState.HELD)
        ]

    async def _others_work(self, one: _File, results: list[ScheduledRun]) -> bool:
        """Settle what is due of a schedule. Returns whether another process is at work on it. Raises StoreError."""
        recurrence, known = await self._read(one)
        if recurrence is None:
            return False
        times = self._times(one, recurrence, known)
        if known is not None and times == known.times and not self._due(one, times, known):
            return False
        lease = LeaderLease(self._store, times.group, namespace=LEASES, length=LEASE)
        if not await lease.take():
            return True
        async with lease.kept():
            known = await read_schedule(self._store, times.queue, one.name)  # as the one before has left it
            times = self._times(one, recurrence, known)
            for run, starts in self._due(one, times, known):
                done = None if self._stopping else await self._settled(one, run, lease, starts=starts)
                if done is None or not await self._write(lease, done):
                    return not self._stopping
                if done.state is RunState.HELD:
                    pause = min(_AGAIN, recurrence.misfire / 4)
                    one.again_at = self._clock.monotonic() + pause.total_seconds()
                results.append(done)
                if (done.state, done.message) != (run.state, run.message):
                    self._tell(done)
            return not await self._write(lease, times)

    async def _settled(self, one: _File, run: ScheduledRun, lease: LeaderLease, *, starts: bool) -> ScheduledRun | None:
        """What became of a run, which is started if it is not late; None if that was stopped. Raises StoreError."""
        if (skipped := await self._skipped(run)) is not None:
            return skipped
        calls = await self._count(run)
        is_cut = bool(await starts_of(self._store, run.queue, batch_id=run.batch_id))
        is_late = self._clock.now() >= run.until
        if calls and not is_cut:
            return replace(run, state=RunState.STARTED, message=f"its batch has {count_of(calls, 'call')}")
        if not is_late and (starts or is_cut):
            return await self._started(one, run, lease)
        batch = f"--batch {run.batch_id} --staged"
        said = run.message or one.problem or _NOBODY
        if is_cut:
            said = (
                f"its import was interrupted, and the {count_of(calls, 'call')} that it stored are held: let them "
                f"ring (`voiceflow resume {batch}`), or end them (`voiceflow calls cancel {batch}`)"
            )
        elif run.repeats:
            return replace(run, state=RunState.STARTED)
        elif not is_late:
            said = f"a later run is due as well{f'; {run.message}' if run.message else ''}"
        return replace(run, state=RunState.MISSED, message=_stored(said))

    async def _count(self, run: ScheduledRun) -> int:
        """The number of calls in the batch of a run, without those that were discarded."""
        states = await count_states(self._store, run.queue, batch_id=run.batch_id)
        return sum(states.values()) - states[JobState.CANCELLED]

    async def _skipped(self, run: ScheduledRun) -> ScheduledRun | None:
        """The run, if its batch was cancelled."""
        gate = (await gates_at(self._store, run.queue, [run.batch_id])).get(run.batch_id)
        if gate is None or gate.state is not GateState.CANCELLED:
            return None
        return replace(run, state=RunState.SKIPPED, message=gate.reason)

    async def _started(self, one: _File, run: ScheduledRun, lease: LeaderLease) -> ScheduledRun | None:
        """Enqueue the calls of a run: what became of it. Raises StoreError."""
        ended = 0

        async def end_earlier() -> None:
            nonlocal ended
            ended += await self._end_earlier(run)

        try:
            campaign = await self._campaign(one, run.at)
            if isinstance(campaign.file, Path) and not await self._stands_still(campaign.file, until=run.until):
                return None if self._stopping else _held(run, f"{campaign.file} is being written")
            schedule = await read_schedule(self._store, run.queue, run.schedule, limit=MANY)
            known = () if schedule is None else schedule.runs
            before = _moved_from(run, known)
            options = replace(
                campaign.options, batch_id=run.batch_id, schedule_batches={each.batch_id for each in known},
                same_people_batch=None if before is None else before.batch_id,
            )  # fmt: skip
            try:
                report = await replace(campaign, options=options).start(
                    self._queue,
                    by=Actor(on=self._on, login=login_name(), name=f"schedule {run.schedule}"),
                    conditions=(lease.condition, Before(run.until)),
                    before_end=end_earlier,
                )
            except RowsRefusedError as error:
                report = error.report
        except StoreError:
            raise
        except VoiceflowError as error:
            return await self._skipped(run) or _held(run, str(error))
        except Exception as error:  # noqa: BLE001 (a menu is code of its users)
            _log.exception("a run failed", schedule=run.schedule, batch=run.batch_id)
            return _held(run, f"{type(error).__name__}: {error}")
        errors = [each for each in report.findings if each.is_error]
        run = replace(run, counts={name: getattr(report, name) for name in _COUNTS}, repeats=False)
        if before is not None and _only_repeats(report, before.batch_id):
            return replace(_held(run, _again_in_words(run, before, report, one.path)), repeats=True)
        if report.refused:
            return _held(run, _said(_refused(report, one.fields.skip_bad), errors))
        left_out = tuple(_stored(str(each)) for each in errors[:_LEFT_OUT_KEPT]) if report.rejected else ()
        nobody = "" if report.enqueued or await self._count(run) else "nobody is called: "
        said = f"{nobody}{report.in_words()}"
        if columns := report.columns_in_words():
            said = f"{said}; {columns}"
        if ended:
            said = f"{said}; {count_of(ended, 'call')} of earlier runs ended: {_NEXT_IS_DUE}"
        return replace(run, state=RunState.STARTED, message=_said(said, report.findings), left_out=left_out)

    async def _stands_still(self, path: Path, *, until: datetime) -> bool:
        """Wait until a file has not changed for some seconds; False if that was not so in time. Raises OSError."""
        seen, since = None, 0.0
        while not self._stopping and self._clock.now() < until:
            with suppress(OSError):  # the reading tells
                found = await anyio.Path(path).stat()
                if (found.st_mtime_ns, found.st_size) != seen:
                    seen, since = (found.st_mtime_ns, found.st_size), self._clock.monotonic()
                if max(time.time() - found.st_mtime, self._clock.monotonic() - since) < STANDS_STILL:
                    await self._pause(_WHILE_OTHERS_WORK)
                    continue
            return True
        return False

    async def _end_earlier(self, run: ScheduledRun) -> int:
        """End the waiting calls of earlier runs to people whom this one calls, but those with a validity of their own.

        Returns their number. It reads the batches of earlier runs, the newest first, until none of a page has a waiting
        call. Raises StoreError.
        """
        store, ended, numbers, after = self._store, 0, set[str](), ""
        changes, records = Changes(store, self._queue.policy), run_records(store).within(run.group)
        end = partial(lifecycle.expire, at=self._clock.now(), policy=self._queue.policy, reason=_NEXT_IS_DUE)
        while page := await records.page(after=after, limit=_RUNS_AT_ONCE):
            after = page[-1][0]
            names = [each.batch_id for _, each in page if each is not None and each.batch_id != run.batch_id]
            totals = await store.totals(run.queue, batches=names) if names else ()
            waiting = [name for name, each in zip(names, totals, strict=True) if any(map(each.states.get, _WAITING))]
            if not waiting:
                break
            for name in waiting if numbers else (run.batch_id, *waiting):
                states = None if name == run.batch_id else _WAITING
                read = Listing(queue=run.queue, batch=name, states=states, limit=MANY)
                async with aclosing(find_pages(store, read)) as pages:
                    async for jobs in pages:
                        if states is None:
                            numbers.update(telephone_of(number) for job in jobs for number in job.numbers)
                            continue
                        late = [
                            job
                            for job in jobs
                            if job.valid_until is None and not numbers.isdisjoint(map(telephone_of, job.numbers))
                        ]
                        ended += await changes.change_all(late, end) if late else 0
        return ended

    async def _write(self, lease: LeaderLease, run: ScheduledRun) -> bool:
        """Store a run, or times, under the lease; False if it was lost. Raises StoreError."""
        write = Write(conditions=(lease.condition,), puts=(run.put(self._store),))
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._clock.now())
        return answer.result is Result.DONE


def _refuse_lacking(campaign: Campaign, now: datetime) -> None:
    """Raise CampaignFileError if the people's file is here, and lacks a column that the campaign needs."""
    path = campaign.file
    if not isinstance(path, Path) or not path.is_file():
        return
    rows = CampaignRows(path, replace(campaign.options, batch_id=campaign.options.batch_id or _ANY_BATCH), now=now)
    if not rows.source.kind.is_table:
        first = [row for part in islice(rows.parts(_FIRST_ROWS), 1) for row in rows.read(part)]
        lacking = [{each.column for each in row.findings if each.told.kind == "value_missing"} for row in first]
        if lacking and (names := set[str | None].intersection(*lacking)):
            raise CampaignFileError(f"{path}: {min(map(str, names))} is needed by the call, and no row has it")


async def file_problem(schedule: ScheduledRun, settings: Settings, now: datetime) -> str | None:
    """What keeps the file of a schedule from being started, if it is on this machine; None if nothing is known."""
    path = Path(schedule.file)
    if not schedule.file or not await anyio.Path(path).is_file():
        return None
    try:
        given = {"campaign": path}
        campaign = await to_thread.run_sync(lambda: Campaign.of(given, settings=settings, now=now))
        await to_thread.run_sync(_refuse_lacking, campaign, now)
    except (InvalidInputError, CampaignFileError, OSError) as error:
        return str(error)
    return None


def _twin(one: _File, file: str) -> str | None:
    """What is wrong if another command has a schedule of this name from another file, which is on this machine."""
    other = Path(file)
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
    started = [each for each in known if each.at < run.at and each.state is RunState.STARTED]
    last = max(started, key=lambda each: each.at, default=None)
    if last is None or (last.cron, last.time_zone) == (run.cron, run.time_zone):
        return None
    day, next_at = last.at.astimezone(last.zone).date(), last.next_at
    is_last_of_day = next_at is None or next_at.astimezone(last.zone).date() != day
    return last if is_last_of_day and run.at.astimezone(run.zone).date() == day else None


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


def _said(what: str, findings: Sequence[Finding]) -> str:
    """A sentence, with the first findings."""
    more = len(findings) - _FINDINGS_TOLD
    told = [*map(str, findings[:_FINDINGS_TOLD]), *([f"and {more} more"] if more > 0 else [])]
    return _stored("; ".join([what, *told]))


def _logged(run: ScheduledRun) -> None:
    log = _log.error if run.is_undone else _log.info
    log("a run of a schedule", **run.as_json())
