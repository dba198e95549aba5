"""Campaigns that start by themselves: each firing of their cron expressions is a batch, started once, by any process.

The firings of a schedule are records in the store, and a process settles a firing only while it has the claim to it: a
lease, which is a condition of every call and record that it stores. A firing that began and was cut is completed by the
next process, because the same campaign again adds what is missing, and no call twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from voiceflow_worker.campaigns.campaign import Campaign, recurrence_in
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.core.audit import Actor, Interface, login_name
from voiceflow_worker.core.ports.parts import LeaderLease
from voiceflow_worker.core.ports.reading import count_states, starts_of
from voiceflow_worker.core.ports.store import Put, Result, Step, Unit
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, StoreError, VoiceflowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.recurrence import Recurrence
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of, rfc3339
from voiceflow_worker.service.firing import FIRINGS, Firing, FiringState, firing_records
from voiceflow_worker.settings import Settings

CLAIMS = "firing-claim"
"""Namespace of the claims to firings, by `<queue>/<batch>`."""
CLAIM = timedelta(seconds=15)
"""How long a claim lasts if it is not renewed. After a killed process, the next one waits until then."""
KEPT = timedelta(days=10)
"""How long a firing is kept after the next one. It is longer than rows are compared with other batches."""
LOOK = 5.0
"""The seconds between two looks at a schedule, if nothing fires in between."""
_RENEW = 5.0
_AGAIN = timedelta(seconds=30)
"""The longest pause before a firing that is held is tried again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHILE_OTHERS_WORK = 0.5
_GIVING_BACK = 2.0
_LONGEST_NAME = MAX_ID_CHARACTERS - len("-2026-11-20-0900")
_MISSED_AT_ONCE = 10
_FINDINGS_TOLD = 3
_LONGEST_SAID = 600
_NOBODY = "no `voiceflow schedule` with this file could start it in time"

_log = structlog.get_logger("voiceflow.schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A schedule: when it fires next, what became of its last firing, and what is wrong with its file."""

    file: Path
    name: str | None
    recurrence: Recurrence | None
    next_at: tuple[datetime, ...]
    last: Firing | None
    problem: str | None

    def as_json(self) -> dict[str, object]:
        """The schedule as JSON, for scripts."""
        known = self.recurrence
        local = None if known is None else known.local
        return {
            "schedule": self.name,
            "file": str(self.file),
            "cron": known and known.cron,
            "time_zone": known and known.zone.key,
            "misfire_seconds": known and known.misfire.total_seconds(),
            "next": [
                {"at": rfc3339(at), "local": local(at).isoformat(timespec="minutes")}
                for at in self.next_at
                if local is not None
            ],
            "last": self.last and self.last.as_json(),
            "problem": self.problem,
        }


@dataclass(slots=True)
class _File:
    """A TOML file, with what it said when it could last be read."""

    path: Path
    name: str = ""
    recurrence: Recurrence | None = None
    written_at: datetime = _EPOCH
    changed_at: datetime = _EPOCH
    """When it was written, or was seen to be, if the clock of the files is ahead of that of the store."""
    problem: str | None = None
    again_at: float = 0.0
    """When a firing that is held is tried again, on the monotonic clock."""


class Scheduler:
    """Starts the campaigns of TOML files at their times, in one queue, whatever other processes do the same.

    A file has the options of a campaign with its `file` of people, and `cron`, `time_zone` and perhaps `misfire`. It is
    read anew for each firing. The name of a schedule is the `batch` of its file, else the file's name. `tell` gets each
    firing that was settled, or is held for a new reason; by default it is logged. `on` is the interface, for the
    audit log.
    """

    def __init__(
        self,
        queue: CallQueue,
        files: Sequence[Path],
        *,
        settings: Settings | None = None,
        on: str = Interface.PYTHON,
        tell: Callable[[Firing], None] | None = None,
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
        """Begin no further firing, and end `run`. A firing that is being started has `grace` seconds to be completed.

        After that it is cut, as by a crash: none of its calls rings until another process completes it.
        """
        self._stopping = True
        for pause in self._pauses:
            pause.cancel()
        self._scope.deadline = anyio.current_time() + grace

    async def once(self) -> list[Firing]:
        """Start what is due now, and return each firing that was settled or is held. Raises StoreError.

        A firing that another process is starting is waited for, and completed if that process dies.
        """
        settled: list[Firing] = []
        with self._scope:
            for one in self._files:
                while not self._stopping and await self._settle(one, settled):
                    await self._pause(_WHILE_OTHERS_WORK)
        return settled

    async def outlook(self, *, count: int = 5) -> list[Outlook]:
        """Each schedule, with its next firings; nothing is started. Raises StoreError."""
        found: list[Outlook] = []
        now = self._clock.now()
        for one in self._files:
            await self._read(one)
            if one.problem is None:
                try:
                    await self._campaign(one, now)
                except (InvalidInputError, CampaignFileError) as error:
                    one.problem = str(error)
            known = await self._firings(one) if one.name else ()
            last = max(known, key=lambda each: each.at, default=None)
            fires = () if one.recurrence is None else islice(one.recurrence.after(now), count)
            found.append(
                Outlook(
                    file=one.path, name=one.name or None, recurrence=one.recurrence, next_at=tuple(fires), last=last,
                    problem=one.problem,
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
            fires = None if one.recurrence is None else next(one.recurrence.after(now), None)
            if fires is not None:
                pause = min(pause, (fires - now).total_seconds())
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
        """Read when a file fires. If it cannot be read, what it said before still counts."""
        try:
            batch, recurrence = await to_thread.run_sync(recurrence_in, one.path)
            written_at = datetime.fromtimestamp((await anyio.Path(one.path).stat()).st_mtime, UTC)
            one.problem = self._unusable(one, name := batch or one.path.stem, recurrence)
            if one.problem is None:
                one.name, one.recurrence = name, recurrence
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
        if same := next((other.path for other in self._files if other is not one and other.name == name), None):
            return f"{one.path} and {same} are both named {name}: rename one of them, or give it a batch"
        return None

    async def _campaign(self, one: _File, at: datetime) -> Campaign:
        """The campaign in a file. Days such as `tomorrow` are counted from the firing."""
        campaign = await to_thread.run_sync(
            lambda: Campaign.of({"campaign": one.path}, settings=self._settings, now=at)
        )
        if campaign.file is None:
            raise InvalidInputError(f"{one.path} has no file, which names the people to call")
        return campaign

    async def _firings(self, one: _File) -> list[Firing]:
        return await firing_records(self._store).within(f"{self._queue.name}/{one.name}").values()

    async def _settle(self, one: _File, settled: list[Firing]) -> bool:
        """Settle what is due of a schedule. Returns whether another process is at work on it. Raises StoreError."""
        before = one.problem
        await self._read(one)
        if one.problem is not None and one.problem != before:
            _log.error("a schedule cannot be read", file=str(one.path), error=one.problem)
        if (recurrence := one.recurrence) is None:
            return False
        known = {each.at: each for each in await self._firings(one)}
        to_start, over = _due(recurrence, known, self._clock.now(), changed_at=one.changed_at)
        others_work = False
        for at in sorted({*to_start, *over}):
            firing = known.get(at) or self._firing(one, recurrence, at)
            waits = firing.state is FiringState.HELD and self._clock.monotonic() < one.again_at
            if self._stopping or (at in to_start and waits):
                continue
            done = await self._claimed(one, firing, self._start if at in to_start else self._give_up)
            if done is None:
                others_work = True
                continue
            settled.append(done)
            if (done.state, done.said) != (firing.state, firing.said):
                self._tell(done)
        return others_work

    def _firing(self, one: _File, recurrence: Recurrence, at: datetime) -> Firing:
        following = next(recurrence.after(at), None)
        return Firing(
            schedule=one.name, queue=self._queue.name, at=at, cron=recurrence.cron, time_zone=recurrence.zone.key,
            state=FiringState.STARTING, next_at=following, late_at=following and following + recurrence.misfire,
        )  # fmt: skip

    async def _claimed(
        self, one: _File, firing: Firing, deed: Callable[[_File, Firing, LeaderLease], Awaitable[Firing | None]]
    ) -> Firing | None:
        """Carry out a deed under the claim to a firing; None if another process has it. Raises StoreError."""
        claim = LeaderLease(self._store, f"{firing.queue}/{firing.batch_id}", namespace=CLAIMS, length=CLAIM)
        if not await claim.take():
            return None
        try:
            records, member = firing_records(self._store).within(_group(firing)), _member(firing)
            standing = (await records.get([member])).get(member) or firing
            return await deed(one, standing, claim) if standing.is_open else standing
        finally:
            # If the store fails now, the claim ends by time.
            with anyio.move_on_after(_GIVING_BACK, shield=True), suppress(StoreError):
                await claim.give_back()

    async def _start(self, one: _File, firing: Firing, claim: LeaderLease) -> Firing | None:
        """Start the campaign of a firing; None if the claim was lost. Raises StoreError."""
        if one.recurrence is not None and self._clock.now() - firing.at >= one.recurrence.misfire:
            return await self._give_up(one, firing, claim)  # what came before it took long
        firing = replace(firing, state=FiringState.STARTING)
        if not await self._write(firing, claim):
            return None
        done: Firing | StoreError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew, claim, group.cancel_scope)
            done = await self._enqueued(one, firing, claim)
            group.cancel_scope.cancel()
        if isinstance(done, StoreError):
            raise done
        if done is None or not await self._write(done, claim):
            return None
        if done.state is FiringState.HELD and one.recurrence is not None:
            one.again_at = self._clock.monotonic() + min(_AGAIN, one.recurrence.misfire / 4).total_seconds()
        return done

    async def _renew(self, claim: LeaderLease, scope: anyio.CancelScope) -> None:
        """Keep a claim, and cancel what is done under it if it is lost."""
        has_it = True
        while has_it:
            await self._clock.sleep(_RENEW)
            try:
                # After a standstill, it may be too late for the rest: whoever looks next decides.
                has_it = not claim.is_over and await claim.take()
            except StoreError:
                has_it = not claim.is_over
        scope.cancel()

    async def _enqueued(self, one: _File, firing: Firing, claim: LeaderLease) -> Firing | StoreError:
        """Enqueue the calls of a firing: what became of it, or the failure of the store."""
        try:
            campaign = await self._campaign(one, firing.at)
            series = {each.batch_id for each in await self._firings(one)}
            options = replace(campaign.options, batch_id=firing.batch_id, series=series)
            report = await replace(campaign, options=options).start(
                self._queue,
                by=Actor(on=self._on, login=login_name(), name=f"schedule {firing.schedule}"),
                lease=claim.condition,
            )
        except StoreError as error:
            return error
        except CampaignFileError as error:
            return _held(firing, _said(str(error), [each for each in error.findings if each.message not in str(error)]))
        except VoiceflowError as error:
            return _held(firing, str(error))
        except Exception as error:  # noqa: BLE001 (a menu is code of its users)
            _log.exception("a firing failed", schedule=firing.schedule, batch=firing.batch_id)
            return _held(firing, f"{type(error).__name__}: {error}")
        if report.refused:
            return _held(firing, _said("nothing is enqueued", [each for each in report.findings if each.is_error]))
        return replace(firing, state=FiringState.STARTED, said=_said(_counts(report), report.findings))

    async def _give_up(self, one: _File, firing: Firing, claim: LeaderLease) -> Firing | None:
        """Settle a firing that is not started any more, by what the store has of it; None if the claim was lost."""
        store, batch = self._store, firing.batch_id
        calls = sum((await count_states(store, firing.queue, batch_id=batch)).values())
        if await starts_of(store, firing.queue, batch_id=batch):
            state = FiringState.CUT
            said = (
                f"its start was cut, and the {count_of(calls, 'call')} that it stored are held: let them ring with "
                f"`voiceflow resume --batch {batch}`, or end them with `voiceflow calls cancel --batch {batch}`"
            )
        elif calls:
            state, said = FiringState.STARTED, f"its batch has {count_of(calls, 'call')}"
        else:
            state, said = FiringState.MISSED, firing.said or one.problem or _NOBODY
            if one.recurrence is not None and self._clock.now() - firing.at < one.recurrence.misfire:
                said = f"a later firing is due as well{f'; {firing.said}' if firing.said else ''}"
        done = replace(firing, state=state, said=_stored(said))
        return done if await self._write(done, claim) else None

    async def _write(self, firing: Firing, claim: LeaderLease) -> bool:
        """Store a firing under the claim to it; False if it was lost. Raises StoreError."""
        now = self._clock.now()
        ends_at = max(now, firing.next_at or now) + KEPT
        put = Put(FIRINGS, _group(firing), firing_records(self._store).text(firing), ends_at, member=_member(firing))
        (answer,) = await self._store.write(Step(units=(Unit(needs=(claim.condition,), puts=(put,)),)), now=now)
        return answer.result is Result.DONE


def _due(
    recurrence: Recurrence, known: Mapping[datetime, Firing], now: datetime, *, changed_at: datetime
) -> tuple[set[datetime], Collection[datetime]]:
    """The firings to start, and those that are over; `known` are those that the store knows.

    Of several that are due, the last one is started, and those that were begun are completed. The times of a new
    definition count from its change on.
    """
    since = newest = max((at for at in known if at <= now), default=None)  # a clock that was ahead may have fired later
    if newest is not None and (known[newest].cron, known[newest].time_zone) != (recurrence.cron, recurrence.zone.key):
        since = max(newest, changed_at)
    latest = max(recurrence.within(now - recurrence.misfire, now), default=None)
    to_start = {
        at for at, each in known.items() if each.state is FiringState.STARTING and now - at < recurrence.misfire
    }
    if latest is not None and (known[latest].is_open if latest in known else since is None or latest > since):
        to_start.add(latest)
    over = [at for at, each in known.items() if each.is_open and at not in to_start]
    if since is not None:
        unknown = [at for at in recurrence.within(since, now) if at not in to_start]
        if more := len(unknown[:-_MISSED_AT_ONCE]):
            _log.error("firings were missed, and only the last of them are recorded one by one", more=more)
        over += unknown[-_MISSED_AT_ONCE:]
    return to_start, over


def _group(firing: Firing) -> str:
    return f"{firing.queue}/{firing.schedule}"


def _member(firing: Firing) -> str:
    return firing.at.isoformat()


def _held(firing: Firing, why: str) -> Firing:
    return replace(firing, state=FiringState.HELD, said=_stored(why))


def _stored(said: str) -> str:
    return as_stored(printable_line(said)[:_LONGEST_SAID])


def _counts(report: EnqueueReport) -> str:
    counted = f"{report.enqueued} of {count_of(report.rows, 'row')} enqueued"
    counted += f", {count_of(report.duplicates, 'duplicate')}" if report.duplicates else ""
    return counted + (f", {report.suppressed} suppressed" if report.suppressed else "")


def _said(what: str, findings: Sequence[Finding]) -> str:
    """A sentence, with the first findings."""
    more = len(findings) - _FINDINGS_TOLD
    told = [*map(str, findings[:_FINDINGS_TOLD]), *([f"and {more} more"] if more > 0 else [])]
    return _stored("; ".join([what, *told]))


def _logged(firing: Firing) -> None:
    log = _log.info if firing.state is FiringState.STARTED else _log.error
    log("a firing of a schedule", **firing.as_json())
