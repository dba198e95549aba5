"""A campaign of a task: its rows into the queue, each once per task instance, sent and waited for as a batch."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_provider.calls.batch import BatchStanding, batch_standing, take_back_batch
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.handing_in import STOPPED_BY_AIRFLOW
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.sending import worker_for
from airflow_provider.calls.standing import Terms
from airflow_provider.calls.sweeping import sweep
from airflow_provider.calls.waiting import (
    FIRST_PAUSE,
    StopFlag,
    WaitedTooLongError,
    at_work,
    require_open,
    rest,
)
from voiceflow_worker import (
    CallQueue,
    IllegalMoveError,
    InvalidInputError,
    Job,
    JobState,
    Report,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import CampaignOptions

log = logging.getLogger(__name__)

SENT_WITHIN = timedelta(hours=1)
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """What became of the rows: new jobs, rows whose call was there before, bad rows that were left out."""

    batch_id: str
    enqueued: int
    duplicates: int
    rejected: int


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file (with a header) or of JSON lines. Raises InvalidInputError for a file that is neither."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from None
    if file.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        try:
            whole = (
                json.loads(text)
                if text.lstrip()[:1] == "["
                else [json.loads(line) for line in text.splitlines() if line.strip()]
            )
        except ValueError as error:
            raise InvalidInputError(f"{file} is no JSON: {error}") from None
        return checked_rows(whole)
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    return [
        {name: value for name, value in row.items() if name and value is not None}
        for row in csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)
    ]


def checked_rows(rows: object) -> list[dict[str, Any]]:
    """The rows, if each is a mapping. Raises InvalidInputError telling what was given instead."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise InvalidInputError(
            f"rows are a list of mappings, such as [{{'destination': '+65…'}}], not {type(rows).__name__}"
        )
    checked: list[dict[str, Any]] = []
    for place, row in enumerate(cast("Sequence[object]", rows), 1):
        if not isinstance(row, Mapping):
            raise InvalidInputError(f"row {place} is {type(row).__name__}: give a mapping, with a destination")
        checked.append(dict(cast("Mapping[str, Any]", row)))
    return checked


def keyed(rows: Sequence[Mapping[str, Any]], identity: TaskIdentity) -> dict[str, dict[str, Any]]:
    """The rows by their unique keys: digests of the task instance and of the row's own `unique_key`, or of the row.

    Not of what is said: a text that differs from try to try must not make another call. Equal rows are one.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = row.get("unique_key")
        told = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
        item = str(own) if own else hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        key = identity.key(item)
        found.setdefault(key, {**row, "unique_key": key})
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignErrand:
    """The campaign of one task instance. The hook's settings were asked for before."""

    hook: VoiceFlowHook
    batch_id: str
    terms: Terms
    every: float
    limit: timedelta | None
    stop: StopFlag

    async def known(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys the store knows already."""
        async with self.hook.opened_queue() as queue:
            return await _owned(queue, keys)

    async def hand_in(
        self, rows: Mapping[str, Mapping[str, Any]], options: CampaignOptions, *, skip_bad: bool
    ) -> HandedIn:
        """Put the rows that are not there yet into the queue, all or, with `skip_bad`, the good ones.

        Raises CampaignFileError naming every bad row.
        """
        from voiceflow_worker import CampaignFileError, enqueue_file

        async with self.hook.opened_queue() as queue:
            there = await _owned(queue, list(rows))
            if there:
                await _arm_again(queue, self.batch_id)
            new = [row for key, row in rows.items() if key not in there]
            if not new:
                return HandedIn(batch_id=self.batch_id, enqueued=0, duplicates=len(there), rejected=0)
            with tempfile.TemporaryDirectory(prefix="voiceflow-") as folder:
                file = Path(folder) / "rows.jsonl"
                file.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in new), encoding="utf-8")
                report = await enqueue_file(queue, file, options, now=queue.store.clock.now(), skip_bad=skip_bad)
            errors = [found for found in report.findings if found.severity.value == "error"]
            for found in errors:
                log.error("row %s: %s %s", found.row, found.column or "", found.message)
            if report.refused or (errors and not report.enqueued):
                lines = "; ".join(f"row {found.row}: {found.column or ''} {found.message}" for found in errors[:20])
                more = f" (and {len(errors) - 20} more)" if len(errors) > 20 else ""
                raise CampaignFileError(
                    f"{report.rejected} of {report.rows} rows are bad, and nothing was enqueued: {lines}{more}. "
                    "Correct them, or give skip_bad=True to call the others",
                    errors,
                )
            return HandedIn(
                batch_id=self.batch_id,
                enqueued=report.enqueued,
                duplicates=len(there) + report.duplicates,
                rejected=report.rejected,
            )

    async def send(self) -> BatchStanding:
        """Send what is to be sent now, if it is this task that sends; then say where the batch stands."""
        async with self.hook.opened_queue() as queue:
            standing = await self._standing(queue)
            if not self.terms.sends or not standing.unsent:
                return standing
            with contextlib.suppress(WaitedTooLongError):
                async with self._sending(queue):
                    await self._until(queue, lambda standing: not standing.unsent, limit=SENT_WITHIN, every=1.0)
            return await self._standing(queue)

    async def send_and_wait(self) -> BatchStanding:
        """Send, if it is this task that sends, and wait inside the task until all calls are over."""
        async with self.hook.opened_queue() as queue, self._sending(queue):
            return await self._until(
                queue, lambda standing: standing.ended >= standing.total, limit=self.limit, every=self.every
            )

    async def look(self) -> BatchStanding:
        """Where the batch stands; what is overdue is moved on first."""
        async with self.hook.opened_queue() as queue:
            standing = await self._standing(queue)
            if standing.overdue:
                await sweep(queue, policy=self.hook.settings().policy())
                standing = await self._standing(queue)
            return standing

    async def report(self) -> tuple[Report, list[Job]]:
        """The numbers of the batch, and its calls in doubt."""
        from voiceflow_worker import build_report

        async with self.hook.opened_queue() as queue:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=self.batch_id, limit=None)
            return await build_report(queue.store, queue.name, self.batch_id), list(doubts)

    async def take_back(self) -> int:
        """Cancel what has not been sent; says how many calls."""
        async with self.hook.opened_queue() as queue:
            return await take_back_batch(queue, self.batch_id)

    @asynccontextmanager
    async def _sending(self, queue: CallQueue) -> AsyncGenerator[None]:
        if not self.terms.sends:
            yield
            return
        async with self.hook.get_client() as voice:
            worker = await worker_for(queue, voice, self.hook.settings(), batch_id=self.batch_id)
            async with at_work(worker, stop=self.stop):
                yield

    async def _standing(self, queue: CallQueue) -> BatchStanding:
        return await batch_standing(queue, self.batch_id, goal=self.terms.goal, patience=self.terms.patience)

    async def _until(
        self,
        queue: CallQueue,
        is_reached: Callable[[BatchStanding], bool],
        *,
        limit: timedelta | None,
        every: float,
    ) -> BatchStanding:
        clock = queue.store.clock
        began, pause = clock.monotonic(), FIRST_PAUSE
        while True:
            self.stop.check()
            with contextlib.suppress(StoreUnavailableError):
                standing = await self._standing(queue)
                if is_reached(standing):
                    return standing
                if self.terms.sends and standing.unsent:
                    await require_open(queue, batches={self.batch_id})
                if not self.terms.sends and standing.overdue:
                    await sweep(queue, policy=self.hook.settings().policy())
            if limit is not None and clock.monotonic() - began > limit.total_seconds():
                raise WaitedTooLongError(
                    f"batch {self.batch_id} has not come to its end within {limit}; its calls go on without this task, "
                    "and clearing it waits for them again"
                )
            await rest(min(pause, every), self.stop)
            pause *= 1.5


async def _owned(queue: CallQueue, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(keys), 500):
        now = queue.store.clock.now()
        found |= set(await queue.store.jobs.owners(queue.name, keys[start : start + 500], now=now))
    return found


async def _arm_again(queue: CallQueue, batch_id: str) -> None:
    """Queue those calls again that `on_kill` of an earlier try took back: nothing of them was ever sent."""
    for job in await queue.find(states=[JobState.CANCELLED], batch_id=batch_id, limit=None):
        if job.reason == STOPPED_BY_AIRFLOW and never_rang(job):
            with contextlib.suppress(IllegalMoveError):  # its validity has passed, or somebody was quicker
                await queue.redial(job.id, note="its Airflow task runs again; it had not been sent")
