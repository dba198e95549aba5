"""Escalations: numbers that are called one after the other, as on a ladder, until somebody presses a key.

A ladder is a record of the store, and whoever finds it may carry on with it: every worker and receiver looks each
second, and so does who waits for it. Nobody has a claim, because each step is safe by itself:

- To go to the next place is a compare-and-swap of the record. Of two processes, one goes on, and the other looks again.
- The call of a place has a unique key, made of the ladder and the place, and is enqueued under the condition that the
  record is still the one that was read. So a place never rings twice, even if the store was set back. The same write
  replaces the record: who ends the ladder, or passes the place over, without having seen this call, must look again.
  So no call begins after somebody has acknowledged.
- A process that dies leaves a place with a call or without one. Whoever looks next enqueues what is missing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import structlog

from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.overview.story import closed_in_words
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision, queue_of
from voiceflow_worker.core.ports.parts import Parts
from voiceflow_worker.core.ports.reading import find_jobs, gates_at
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.record_set import json_codec, json_records, report_unreadable, text_records
from voiceflow_worker.core.ports.store import Drop, Key, Page, Put, Result, Same, Step, Unit
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.units import LONG_KEPT
from voiceflow_worker.errors import (
    CallFlowError,
    IntakeError,
    InvalidInputError,
    KeyConflict,
    KeyConflictError,
    LadderNotFoundError,
    StoreUnavailableError,
    StoreVersionError,
    SuppressedNumberError,
    TooLateError,
)
from voiceflow_worker.ivr.approval import approval
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.admission import end_of, key_findings, text_findings
from voiceflow_worker.model.jobs.call_json import CallResult
from voiceflow_worker.model.jobs.job import Job, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import in_words, write_duration
from voiceflow_worker.service.ladder import (
    HELD,
    UNSENT,
    Escalation,
    FoundLadder,
    Ladder,
    LadderRecord,
    LadderState,
    Place,
)

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

__all__ = ["Escalation", "Escalations", "Ladder", "StartedLadder", "climb_all", "climbing", "ended_here"]

OPEN, ENDED, CAUSES = "ladder", "ladder-ended", "ladder-cause"
"""Namespaces, in the group of the queue: ladders that are open, ladders that have ended, and what a ladder is about."""
RING = timedelta(seconds=90)
"""The time after `answer_within` in which a call that was placed at the last moment can still ring and be answered."""
LOOK_EVERY = 1.0
_ENDED: Counter[LadderState] = Counter()
_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())

_log = structlog.get_logger("voiceflow.escalation")


class StartedLadder(NamedTuple):
    """A ladder that was asked for. `created` is False if it was there before."""

    ladder: Ladder
    created: bool


class Escalations:
    """The ladders of one queue. Any number of processes may carry on with the same ladder."""

    def __init__(self, queue: CallQueue) -> None:
        self._queue = queue
        self._store = queue.store

    def id_of(self, key: str) -> str:
        """The id of the ladder that is started with this key."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
        return f"{self._queue.name}.ladder-{digest}"

    async def start(
        self, escalation: Escalation, *, key: str, asked: object = None, causes: Iterable[str] = ()
    ) -> StartedLadder:
        """Begin to call, or find the ladder that was started with this key before; nobody is then called again.

        `asked` is what was asked for, as JSON, by default the escalation: the same key with something else is refused.
        None of the `causes` must have a ladder yet; it is kept that they have this one. Raises `KeyConflictError`,
        `CallFlowError` for a key that cannot be kept, and StoreError, after which the same start is safe.
        """
        if problems := [*key_findings(key), *text_findings({"unique_key": key})]:
            raise CallFlowError(problems)
        ladder_id, now = self.id_of(key), self._store.clock.now()
        wanted = escalation.as_json()
        digest = _digest(wanted if asked is None else asked)
        record = LadderRecord(unique_key=key, asked=digest, escalation=wanted, created_at=now)
        causes = [_cause(cause) for cause in causes]
        free = [Same(space, self._queue.name, None, ladder_id) for space in (OPEN, ENDED)]
        free += [Same(CAUSES, self._queue.name, None, cause) for cause in causes]
        puts = [Put(OPEN, self._queue.name, record.text(), None, member=ladder_id)]
        value = f"{ladder_id} {record.token}"
        puts += [Put(CAUSES, self._queue.name, value, now + LONG_KEPT, member=cause) for cause in causes]
        (answer,) = await self._store.write(Step(units=(Unit(needs=tuple(free), puts=tuple(puts)),)), now=now)
        if answer.result is Result.DONE:
            return StartedLadder(await self.climb(ladder_id), created=True)
        if isinstance(answer.need, Same) and answer.need.namespace == CAUSES and answer.record is not None:
            return StartedLadder(await self.climb(answer.record.value.partition(" ")[0]), created=False)
        return await self._started(key, digest)

    async def order(self, fields: Mapping[str, object], *, key: str, settings: Settings) -> StartedLadder:
        """Start the escalation with these fields, completed by the settings, or find the ladder of this request.

        The same key with other fields is refused; the settings of that time make no difference. Raises the errors of
        `Escalation.of` and `start`.
        """
        with suppress(LadderNotFoundError):
            return await self._started(key, _digest(fields))
        return await self.start(Escalation.of(fields, settings=settings), key=key, asked=fields)

    async def _started(self, key: str, digest: str) -> StartedLadder:
        """The ladder with this key, continued. Raises KeyConflictError if something else was asked for."""
        found = await self._read(self.id_of(key))
        if found.record.asked != digest:
            raise KeyConflictError([KeyConflict(0, key, found.id)])
        return StartedLadder(await self.climb(found.id), created=False)

    async def with_causes(self, causes: Iterable[str]) -> Mapping[str, str]:
        """Which of these causes have a ladder, with its id. Raises StoreError."""
        digests = {_cause(cause): cause for cause in causes}
        found = await text_records(self._store, CAUSES).within(self._queue.name).get(digests)
        return {digests[each]: value.partition(" ")[0] for each, value in found.items() if value is not None}

    async def find(self, key: str) -> Ladder | None:
        """The ladder that was started with this key; None if there is none. Raises StoreError."""
        with suppress(LadderNotFoundError):
            return await self.get(self.id_of(key))
        return None

    async def get(self, ladder_id: str) -> Ladder:
        """The ladder as it is now. Raises `LadderNotFoundError` and StoreError."""
        return (await self._read(ladder_id)).shown()

    async def recent(self, *, since: datetime | None = None) -> list[Ladder]:
        """The open ladders, and those that have ended since a time, by their start. Raises StoreError.

        One that only a newer version can read is left out, and logged.
        """
        found: dict[str, LadderRecord] = {}
        for space in (OPEN,) if since is None else (OPEN, ENDED):
            stored = await json_records(self._store, space, LadderRecord).within(self._queue.name).all()
            found |= {
                ladder_id: each
                for ladder_id, each in stored
                if each is not None and (since is None or each.ended_at is None or each.ended_at >= since)
            }
        ladders: list[Ladder] = []
        for ladder_id, record in found.items():
            try:
                ladders.append((await self._with_calls(ladder_id, record)).shown())
            except StoreVersionError as error:
                report_unreadable(f"ladder {ladder_id}", error)
        return sorted(ladders, key=lambda ladder: ladder.created_at)

    async def wait(self, ladder_id: str, *, timeout: timedelta | None = None) -> Ladder:  # noqa: ASYNC109 - no error
        """Carry on with a ladder until it has ended, or until `timeout` has passed, and return it as it then is.

        The wait continues while the store is unavailable, but for the first look. Raises `LadderNotFoundError`.
        """
        clock = self._store.clock
        ends = None if timeout is None else clock.monotonic() + timeout.total_seconds()
        ladder = await self.climb(ladder_id)
        while ladder.is_open and (ends is None or clock.monotonic() < ends):
            await clock.sleep(LOOK_EVERY if ends is None else min(LOOK_EVERY, max(ends - clock.monotonic(), 0.001)))
            with suppress(StoreUnavailableError):
                ladder = await self.climb(ladder_id)
        return ladder

    async def stop(self, ladder_id: str, *, reason: str) -> Ladder:
        """End an open ladder: no further place is called, and a call that has not been sent is cancelled.

        A call that is under way may go on. Raises `LadderNotFoundError` and StoreError.
        """
        if findings := text_findings({"reason": reason}):
            raise CallFlowError(findings)
        while (found := await self._read(ladder_id)).record.state is LadderState.OPEN:
            await self._end(found, LadderState.STOPPED, reason=reason)
        return found.shown()

    async def climb(self, ladder_id: str) -> Ladder:
        """Carry on with a ladder as far as it goes now, and return it. Raises `LadderNotFoundError` and StoreError."""
        while True:
            found = await self._read(ladder_id)
            if found.record.state is not LadderState.OPEN or not await self._step(found):
                return found.shown()

    async def _step(self, found: FoundLadder) -> bool:
        """Take the next step of an open ladder. Returns False if there is nothing to do now."""
        if found.acknowledged is not None:
            await self._end(found, LadderState.ACKNOWLEDGED)
            return True
        if found.place > len(found.escalation.numbers):
            await self._end(found, LadderState.UNANSWERED)
            return True
        job = found.jobs.get(found.place)
        passed = await self._call(found) if job is None else await self._passed(found, job)
        if passed is None:
            return job is None
        _log.info(
            "a place of a ladder is over", ladder=found.id, place=passed.place, result=passed.result,
            message=passed.message,
        )  # fmt: skip
        await self._write(found, replace(found.record, passed=(*found.record.passed, passed)))
        return True

    async def _call(self, found: FoundLadder) -> Place | None:
        """Enqueue the call of the place whose turn it is; returns the place if it is passed over instead."""
        escalation, now = found.escalation, self._store.clock.now()
        try:
            until = end_of(escalation.answer_within, at=now)
            if (held := await self._held(found, until)) is not None:
                return _passed_over(found, HELD, held, at=now)
            number = read_number(escalation.numbers[found.place - 1], escalation.country).e164
            if escalation.window is not None:
                window = CountryWindows.of(escalation.window).to([number])
                opening = first_opening(window, numbers=[number], time_zone=None, at=now, valid_until=None)
                if opening.problem is None and opening.at > now:
                    opens = f"its calling window ({window}) opens at {in_words(opening.at)}"
                    return _passed_over(found, "outside_window", opens, at=now)
            request = CallRequest(
                flow=escalation.call(number),
                unique_key=_key_of(found.id, found.place),
                batch_id=found.batch_id,
                priority=escalation.priority,
                valid_until=until,
                redial=_ONCE,
                window=None if escalation.window is None else CountryWindows.of(escalation.window),
                data=escalation.data(),
                menu=approval.name,
            )
            await self._queue.admitter.admit_all([request], turn=[_standing(found)], puts=[_open(found, found.record)])
        except (IntakeError, KeyConflictError):
            return None  # somebody else has carried on with it
        except SuppressedNumberError as error:
            return _passed_over(found, CallResult.SUPPRESSED, error.suppressed[0].reason, at=now)
        except InvalidInputError as error:
            findings = error.findings if isinstance(error, CallFlowError) else [str(error)]
            return _passed_over(found, "refused", "; ".join(map(str, findings)), at=now)
        return None

    async def _passed(self, found: FoundLadder, job: Job) -> Place | None:
        """The place whose turn it is, if its step is over; None while it is not."""
        over = found.ending(job)
        now = self._store.clock.now()
        if over is None and job.state in UNSENT and (held := await self._held(found, job.valid_until or now)):
            over = held if await self._take_back(job, held) else None
            if over is not None:
                return replace(found.of_call(found.place, job), result=HELD, message=f"was not called: {held}")
        waited = found.escalation.answer_within + RING
        if over is None and now >= job.created_at + waited:
            over = f"its call has not ended within {write_duration(waited)}"
            if job.state in UNSENT:
                await self._take_back(job, over)
        return None if over is None else replace(found.of_call(found.place, job), message=over)

    async def _held(self, found: FoundLadder, until: datetime) -> str | None:
        """The hold of the queue or the batch that keeps a call back until this time, or a cancelled batch, in words."""
        for gate in (await gates_at(self._store, found.queue, [None, found.batch_id])).values():
            if gate.keeps_back(found.batch_id, at=until):
                return closed_in_words(gate)
        return None

    async def _take_back(self, job: Job, reason: str) -> bool:
        """Cancel a call, unless it may have left."""
        try:
            await self._queue.cancel(job.id, reason=reason)
        except TooLateError:
            return False
        return True

    async def _end(self, found: FoundLadder, state: LadderState, *, reason: str | None = None) -> None:
        """End a ladder, if its record is still the one that was read. Calls are taken back before that.

        Who dies between the two leaves an open ladder, which is ended by whoever looks next.
        """
        done = found.acknowledged
        why = reason or (f"{done.number} acknowledged" if done is not None else "its ladder has ended")
        for job in found.jobs.values():
            if job.state in UNSENT:
                await self._take_back(job, why)
        now = self._store.clock.now()
        ended = replace(found.record, state=state, ended_at=now, reason=reason, acknowledged=done)
        if (current := found.jobs.get(found.place)) is not None:
            last = found.of_call(found.place, current)
            if current.answer != "yes":
                was = "was not called" if current.state in UNSENT else "was being called"
                last = replace(last, message=f"{was} when {why}")
            ended = replace(ended, passed=(*ended.passed, last))
        if await self._write(found, ended):
            _ENDED[state] += 1
            _log.info("a ladder has ended", ladder=found.id, state=state.value, reason=why)

    async def _write(self, found: FoundLadder, new: LadderRecord) -> bool:
        """Replace the record of an open ladder, if it is still the one that was read."""
        now = self._store.clock.now()
        put = _open(found, new)
        if new.state is LadderState.OPEN:
            unit = Unit(needs=(_standing(found),), puts=(put,))
        else:
            unit = Unit(
                needs=(_standing(found),),
                puts=(replace(put, namespace=ENDED, ends_at=now + LONG_KEPT),),
                drops=(Drop(OPEN, found.queue, found.text, found.id),),
            )
        (answer,) = await self._store.write(Step(units=(unit,)), now=now)
        return answer.result is Result.DONE

    async def _read(self, ladder_id: str) -> FoundLadder:
        queue = queue_of(ladder_id)
        wanted = {space: [(queue, ladder_id)] for space in (OPEN, ENDED)}
        found = await self._store.records(wanted, now=self._store.clock.now())
        records = [*found[OPEN], *found[ENDED]]
        if queue != self._queue.name or not records:
            raise LadderNotFoundError(ladder_id)
        text = records[0].value
        try:
            record: LadderRecord = json_codec(LadderRecord).validate_json(text)
        except ValueError:
            raise _newer(ladder_id) from None
        return await self._with_calls(ladder_id, record, text)

    async def _with_calls(self, ladder_id: str, record: LadderRecord, text: str = "") -> FoundLadder:
        try:
            escalation = record.read()
        except (InvalidInputError, KeyError, TypeError, ValueError):
            raise _newer(ladder_id) from None
        keys = {_key_of(ladder_id, place): place for place in range(1, len(escalation.numbers) + 1)}
        jobs = await find_jobs(self._store, ByKey(self._queue.name, tuple(keys)))
        return FoundLadder(ladder_id, record, text, escalation, {keys[job.unique_key or ""]: job for job in jobs})


def _newer(ladder_id: str) -> StoreVersionError:
    return StoreVersionError(
        f"escalation {ladder_id} cannot be read, perhaps because a newer version of voiceflow-worker wrote it, which "
        "carries on with it"
    )


def _key_of(ladder_id: str, place: int) -> str:
    return f"{ladder_id}/{place}"


def _digest(asked: object) -> str:
    return hashlib.blake2b(canonical_json(asked).encode(), digest_size=16).hexdigest()


def _cause(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _standing(found: FoundLadder) -> Same:
    """That the ladder is open, and nobody has carried on with it since it was read."""
    return Same(OPEN, found.queue, found.text, found.id)


def _open(found: FoundLadder, record: LadderRecord) -> Put:
    """The next record of an open ladder, with a token of its own, as a compare-and-swap wants it."""
    return Put(OPEN, found.queue, replace(record, token=new_revision()).text(), None, member=found.id)


def _passed_over(found: FoundLadder, result: str, why: str, *, at: datetime) -> Place:
    number = found.escalation.numbers[found.place - 1]
    return Place(place=found.place, number=number, result=result, message=f"was not called: {why}", at=at)


def ended_here() -> Mapping[LadderState, int]:
    """How many ladders this process has ended since it began, by each state in which one can end."""
    return {state: _ENDED[state] for state in LadderState if state is not LadderState.OPEN}


async def climb_all(store: Store, *, queue: str | None = None, policy: CallPolicy | None = None) -> None:
    """Carry on with every open ladder of a queue, or of all queues. Raises StoreError.

    A ladder that fails, such as one that only a newer version can read, does not keep the others from being continued.
    """
    after: Key | None = None
    while True:
        wanted = Page(group=queue, after=after)
        page = (await store.records({OPEN: wanted}, now=store.clock.now()))[OPEN]
        for record in page:
            after = (record.group, record.member)
            try:
                await Escalations(CallQueue(store, record.group, policy=policy)).climb(record.member)
            except LadderNotFoundError:
                pass  # somebody else has ended it
            except StoreVersionError as error:
                report_unreadable(f"ladder {record.member}", error)
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - the others must go on
                _log.exception("a ladder could not be continued; trying again", ladder=record.member, error=str(error))
        if len(page) < wanted.limit:
            return


@asynccontextmanager
async def climbing(store: Store, *, queue: str | None = None, policy: CallPolicy | None = None) -> AsyncGenerator[None]:
    """Carry on with the open ladders of a queue, or of all queues, each second while the block lasts."""
    look = partial(climb_all, store, queue=queue, policy=policy)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(Parts(store.clock).repeat, "ladders were not continued", look, every=LOOK_EVERY))
        try:
            yield
        finally:
            group.cancel_scope.cancel()
