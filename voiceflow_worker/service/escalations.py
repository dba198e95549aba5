"""Escalations in progress: each step calls the next person, until somebody acknowledges, whoever carries on with it.

An escalation is a record of the store, and whoever finds it may carry on with it: every worker and receiver looks each
second, and so does who waits for it. Nobody has a lease, because each write is safe by itself:

- To go to the next step is a compare-and-swap of the record. Of two processes, one goes on; the other reads it again.
- The call of a step has a unique key, made of the escalation and the step, and is enqueued under the condition that the
  record is still the one that was read. So a step never rings twice, even if the store was rolled back. The same write
  replaces the record: who ends the escalation, or skips the number, without having seen this call, must look
  again.
- That an escalation has ended is a condition of every POST of its calls. So nobody is called after somebody has
  acknowledged, or after it was stopped, not even by a call that went back to the queue.
- A process that dies leaves a step with a call or without one. Whoever looks next enqueues what is missing.

A step is over when its number was called, or cannot be called. While nothing can call, such as without a worker, its
call waits, and the escalation is blocked, which its status and the log say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import structlog

from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.audit import Actor, AuditedStore, AuditEntry, audited
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.record_set import report_unreadable
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.gates import until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Result
from voiceflow_worker.core.writes import ESCALATION, escalation_of
from voiceflow_worker.errors import (
    CallFlowError,
    EscalationNotFoundError,
    IntakeError,
    InvalidInputError,
    KeyConflict,
    KeyConflictError,
    StoreUnavailableError,
    StoreVersionError,
    SuppressedNumberError,
)
from voiceflow_worker.ivr.approval import ApprovalMenu, confirmed
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu import Again, End, Menu
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.admission import key_findings, text_findings
from voiceflow_worker.model.jobs.call_json import CallResult
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import in_words, write_duration
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    UNSENT,
    Acknowledgement,
    EscalationRecord,
    EscalationState,
    EscalationStatus,
    EscalationStep,
    FoundEscalation,
)
from voiceflow_worker.service.escalation_store import (
    HELD,
    NO_WORKER,
    NOT_SENT,
    EscalationStore,
    QueueSnapshot,
    key_of,
    open_texts,
)

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

RING = timedelta(seconds=90)
"""The time after `answer_within` in which a call that was placed at the last moment can still ring and be answered."""
LOOK_EVERY = 1.0
_FINISHED_STEPS_KEPT = timedelta(hours=1)
_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
_RESULT_BY_WAIT: Mapping[ReasonKind | None, str] = {
    ReasonKind.NUMBER_BUSY: "number_busy",
    ReasonKind.MAX_PER_PERSON: "number_busy",
    ReasonKind.WINDOW: "outside_window",
}
_ACTIONS = {EscalationState.ACKNOWLEDGED: "acknowledge", EscalationState.STOPPED: "stop"}
_MAY_END = frozenset({EscalationState.OPEN, EscalationState.UNANSWERED})
_ENDED: Counter[EscalationState] = Counter()
_BLOCKED: dict[tuple[str, str], int] = {}

_log = structlog.get_logger("voiceflow.escalation")


class StartedEscalation(NamedTuple):
    """An escalation that was asked for. `created` is False if it was there before."""

    status: EscalationStatus
    created: bool


@checked
class Escalations:
    """The escalations of one queue. Any number of processes may carry on with the same escalation."""

    def __init__(self, queue: CallQueue) -> None:
        self.queue: CallQueue = queue
        self._store = queue.store
        self._records = EscalationStore(queue)

    def id_of(self, key: str) -> str:
        """The id of the escalation that is started with this key."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
        return f"{self.queue.name}.escalation-{digest}"

    async def start(
        self, escalation: Escalation, *, key: str, request: object = None, by: str | Actor | None = None
    ) -> StartedEscalation:
        """Begin to call, or find the escalation that was started with this key before; nobody is then called again.

        The audit log has who ordered it, if that is known (`by`).
        `request` is what was requested, as JSON, by default the escalation: the same key with another is refused.
        Raises `KeyConflictError`, `CallFlowError` for a key that cannot be kept, and StoreError, after which the same
        start is safe.
        """
        if problems := [*key_findings(key), *text_findings({"unique_key": key})]:
            raise CallFlowError(problems)
        escalation_id, now = self.id_of(key), self._store.clock.now()
        digest = digest_of(escalation.as_json() if request is None else request)
        record = EscalationRecord.new(escalation, unique_key=key, request_digest=digest, at=now)
        batch = escalation.batch_id or escalation_id.partition(".")[2]
        entry = AuditEntry.of(
            Actor.of(by), "escalate", at=now, queue=self.queue.name, batch=batch, numbers=escalation.every_number,
            result=f"began escalation {escalation_id}",
        )  # fmt: skip
        puts = () if by is None else entry.puts()
        write = self._records.change(escalation_id, None, record, puts=puts)
        (answer,) = await self._store.write(BulkWrite(writes=(write,), entry=puts[0] if puts else None), now=now)
        if answer.result is Result.DONE:
            return StartedEscalation(await self.advance(escalation_id), created=True)
        return await self._started(key, digest)

    async def order(
        self,
        fields: Mapping[str, object],
        *,
        key: str,
        settings: Settings,
        policies: Mapping[str, Mapping[str, object]] | None = None,
        by: str | Actor | None = None,
    ) -> StartedEscalation:
        """Start the escalation with these fields, completed by their policy and the settings, or find that of this key.

        The same key with other fields is refused; the policy and the settings of that time make no difference. Raises
        the errors of `Escalation.of` and `start`.
        """
        with suppress(EscalationNotFoundError):
            return await self._started(key, digest_of(fields))
        escalation = Escalation.of(fields, settings=settings, policies=policies)
        return await self.start(escalation, key=key, request=fields, by=by)

    async def _started(self, key: str, digest: str) -> StartedEscalation:
        """The escalation with this key, continued. Raises KeyConflictError if something else was asked for."""
        found = await self._records.get(self.id_of(key))
        if found.record.request_digest != digest:
            raise KeyConflictError([KeyConflict(0, key, found.id)])
        await confirm(self._store)
        return StartedEscalation(await self.advance(found.id), created=False)

    async def find(self, key: str) -> EscalationStatus | None:
        """The escalation that was started with this key; None if there is none. Raises StoreError."""
        with suppress(EscalationNotFoundError):
            return await self.get(self.id_of(key))
        return None

    async def get(self, escalation_id: str) -> EscalationStatus:
        """The escalation as it is now. Raises `EscalationNotFoundError` and StoreError."""
        found = await self._records.get(escalation_id)
        if not found.record.is_open:
            return found.shown()
        return _shown(found, await self._records.snapshot([found.batch_id]))

    async def recent(self, *, since: datetime | None = None) -> list[EscalationStatus]:
        """The open escalations, and those that have ended since a time, by their start. Raises StoreError.

        One that only a newer version can read is left out, and logged.
        """
        found = await self._records.all_open()
        after: str | None = ""
        while since is not None and after is not None:
            page, after = await self._records.listed(after=after, limit=200, since=since)
            found |= {each.id: each for each in page}
        snapshot = await self._records.snapshot({each.batch_id for each in found.values()})
        shown = [_shown(each, snapshot) for each in found.values()]
        return sorted(shown, key=lambda each: (each.created_at, each.id))

    async def page(self, *, after: str = "", limit: int = 100) -> tuple[list[EscalationStatus], str | None]:
        """A page of all escalations, and where the next page begins; None at the end. Raises StoreError.

        The newest comes first, by the time at which it began, began again or ended.
        """
        found, following = await self._records.listed(after=after, limit=limit)
        return [each.shown() for each in found], following

    async def wait(self, escalation_id: str, *, timeout: timedelta | None = None) -> EscalationStatus:  # noqa: ASYNC109 - no error
        """Carry on with an escalation until it has ended, or until `timeout` has passed, and return it as it then is.

        The wait continues while the store is unavailable, but for the first look. Raises `EscalationNotFoundError`.
        """
        clock = self._store.clock
        ends = None if timeout is None else clock.monotonic() + timeout.total_seconds()
        status = await self.advance(escalation_id)
        while status.is_open and (ends is None or clock.monotonic() < ends):
            await clock.sleep(LOOK_EVERY if ends is None else min(LOOK_EVERY, max(ends - clock.monotonic(), 0.001)))
            with suppress(StoreUnavailableError):
                status = await self.advance(escalation_id)
        return status

    async def stop(self, escalation_id: str, *, reason: str, by: str | Actor | None = None) -> EscalationStatus:
        """End an escalation that nobody has acknowledged: no further number is called.

        When this returns, a call that had not left does not leave any more. One that had may go on. The audit log has
        who ordered it. Raises `EscalationNotFoundError` and StoreError.
        """
        if findings := text_findings({"reason": reason}):
            raise CallFlowError(findings)
        return await self._order(escalation_id, EscalationState.STOPPED, by=by, reason=reason)

    async def _order(
        self, escalation_id: str, state: EscalationState, *, by: str | Actor | None, **how: Any
    ) -> EscalationStatus:
        """End an escalation for a person; its first write keeps the entry of the audit log too."""
        found, now = await self._records.get(escalation_id), self._store.clock.now()
        actor = Actor.of(by)
        entry = AuditEntry.of(
            actor, _ACTIONS[state], at=now, note=how.get("reason"), queue=self.queue.name, batch=found.batch_id
        )  # fmt: skip
        async with audited(self._store, entry, actor.claim) as store:
            queue = CallQueue(store.store, self.queue.name, policy=self.queue.policy)
            status = await Escalations(queue)._ended(escalation_id, state, **how)  # noqa: SLF001 - the same class
            store.result = f"{state.value} escalation {escalation_id}"
        return status

    async def _ended(
        self,
        escalation_id: str,
        state: EscalationState,
        *,
        reason: str | None = None,
        name: str | None = None,
        call: Job | None = None,
    ) -> EscalationStatus:
        """End an escalation that is open or unanswered, for somebody with a name, or for who pressed the key."""
        if (found := await self._records.get(escalation_id)).record.state not in _MAY_END:
            await confirm(self._store, *self._records.ending(found))
        while (found := await self._records.get(escalation_id)).record.state in _MAY_END:
            done = None
            if isinstance(self._store, AuditedStore):  # without a person who was erased meanwhile
                self._store.entry = replace(self._store.entry, numbers=found.escalation.every_number)
            if state is EscalationState.ACKNOWLEDGED:
                done = Acknowledgement(at=self._store.clock.now(), by=name)
                if call is not None:
                    done = replace(done, step=found.step_of(call), number=call.number, call_id=call.id)
            await self.end(found, state, reason=reason, done=done)
        return await self.until_left(found, but=call)

    async def until_left(self, found: FoundEscalation, *, but: Job | None = None) -> EscalationStatus:
        """Wait until the calls of an escalation that were about to leave have left or gone back; returns it, ended.

        `but` is a call that has certainly left. Raises StoreError.
        """
        await confirm(self._store)
        left = 0
        if any(job.state is JobState.SENDING for job in found.jobs.values()):
            but_id = None if but is None else but.id
            left = await until_left(self._store, [self.queue.name], batch_id=found.batch_id, but=but_id)
        return found.shown(may_ring=left)

    async def acknowledge(
        self, escalation_id: str, *, by: str | Actor | None = None, call: Job | None = None
    ) -> EscalationStatus:
        """Acknowledge an escalation, for a person with a name, or for who has pressed the key in a call.

        When this returns, a call that had not left does not leave any more, as for `stop`. It changes nothing if
        somebody has acknowledged before, or if it was stopped. The audit log has who ordered it, unless a key did.
        Raises `EscalationNotFoundError` and StoreError.
        """
        name = by.called if isinstance(by, Actor) else by
        if findings := text_findings({"by": name}):
            raise CallFlowError(findings)
        if call is not None:
            return await self._ended(escalation_id, EscalationState.ACKNOWLEDGED, call=call)
        return await self._order(escalation_id, EscalationState.ACKNOWLEDGED, by=by, name=name)

    async def advance(self, escalation_id: str) -> EscalationStatus:
        """Carry on with an escalation as far as it goes now, and return it.

        Raises `EscalationNotFoundError` and StoreError.
        """
        while True:
            found = await self._records.get(escalation_id)
            if not found.record.is_open:
                return found.shown()
            snapshot = await self._records.snapshot([found.batch_id])
            if not await self._take_step(found, snapshot):
                return _shown(found, snapshot)

    async def look(self, texts: Mapping[str, str]) -> Counter[str]:
        """Carry on with open escalations, by their records. Returns how many are blocked, by the reason.

        One that fails does not keep the others from being continued. Raises StoreError.
        """
        found = await self._records.found(texts)
        snapshot = await self._records.snapshot({each.batch_id for each in found.values()})
        blocked: Counter[str] = Counter()
        for each in found.values():
            if (why := snapshot.blocked(each)) is not None:
                blocked[why[0]] += 1
            try:
                if await self._take_step(each, snapshot):
                    await self.advance(each.id)
            except EscalationNotFoundError:
                pass
            except StoreVersionError as error:
                report_unreadable(f"escalation {each.id}", error)
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - the others must go on
                _log.exception(
                    "an escalation could not be continued; trying again", escalation=each.id, error=str(error)
                )
        return blocked

    async def _take_step(self, found: FoundEscalation, snapshot: QueueSnapshot) -> bool:
        """Take the next step of an open escalation. Returns False if there is nothing to do now."""
        record, now = found.record, snapshot.at
        if (done := found.pressed) is not None:  # the menu could not say so at once
            await self.end(found, EscalationState.ACKNOWLEDGED, done=done)
            return True
        if (gate := snapshot.cancelled(found)) is not None:
            await self.end(found, EscalationState.STOPPED, reason=closed_in_words(gate))
            return True
        if found.is_over:
            await self.end(found, EscalationState.UNANSWERED)
            return True
        is_first_of_round = (record.step - 1) % found.size == 0 and not found.turn_has_begun
        for step in (waiting := found.waiting):
            job = found.jobs.get(step)
            if job is None:
                if now < max(record.not_before or now, record.round_starts_at if is_first_of_round else now):
                    return False
                if is_first_of_round:
                    record = replace(record, round_starts_at=now + found.escalation.answer_within)
                finished, unsent = await self._call(found, step, record), []
                if finished is None:
                    return True
            else:
                finished, unsent = self._finished_step(found, step, job, snapshot), [job] if job.state in UNSENT else []
                if finished is None:
                    continue
                if unsent and job.reason_kind is ReasonKind.NUMBER_BUSY:
                    record = found.owing(step).record
            following = record.step if len(waiting) > 1 else found.turn.stop
            new = replace(record, finished_steps=(*_kept_steps(found, now), finished), step=following)
            await self._records.write(found, new, takes_back=unsent, reason=finished.message)
            _log.info(
                "a step of an escalation is over", escalation=found.id, step=finished.step, result=finished.result,
                message=finished.message,
            )  # fmt: skip
            return True
        return False

    async def _call(self, found: FoundEscalation, step: int, record: EscalationRecord) -> EscalationStep | None:
        """Enqueue the call of a step whose turn it is; returns the step if its number is skipped instead."""
        escalation, now = found.spoken, self._store.clock.now()
        try:
            number = read_number(found.number(step), escalation.country).e164
            if escalation.window is not None:
                window = CountryWindows.of(escalation.window).to([number])
                opening = first_opening(window, numbers=[number], time_zone=None, at=now, valid_until=None)
                if opening.problem is None and opening.at > now:
                    opens = f"its calling window ({window}) opens at {in_words(opening.at)}"
                    return found.skipped(step, "outside_window", opens, at=now)
            request = CallRequest(
                flow=escalation.call(number),
                unique_key=key_of(found.id, step),
                batch_id=found.batch_id,
                priority=escalation.priority,
                redial=_ONCE,
                window=None if escalation.window is None else CountryWindows.of(escalation.window),
                data=found.data(),
                menu=ESCALATION,
            )
            unchanged, put = self._records.unchanged(found), self._records.put(found.id, record)
            await self.queue.admitter.admit_all([request], conditions=[unchanged], puts=[put])
        except (IntakeError, KeyConflictError):
            return None  # somebody else has carried on with it
        except SuppressedNumberError as error:
            return found.skipped(step, CallResult.SUPPRESSED, error.suppressed[0].reason, at=now)
        except InvalidInputError as error:
            findings = error.findings if isinstance(error, CallFlowError) else [str(error)]
            return found.skipped(step, "refused", "; ".join(map(str, findings)), at=now)
        return None

    def _finished_step(
        self, found: FoundEscalation, step: int, job: Job, snapshot: QueueSnapshot
    ) -> EscalationStep | None:
        """A step whose turn it is, if it is over; None while it is not."""
        within = found.escalation.answer_within
        if (over := found.ending(job)) is not None:
            return replace(found.of_call(step, job), message=over)
        if job.state in UNSENT:
            result = _RESULT_BY_WAIT.get(job.reason_kind)
            if result is None or snapshot.at < job.created_at + within or snapshot.kept_back(found, job) is not None:
                return None
            owing = found.owing(step)
            is_next_too = {owing.number(each) for each in owing.turn_at(owing.turn.stop)} == {found.number(step)}
            if job.reason_kind is ReasonKind.NUMBER_BUSY and is_next_too:
                return None  # nobody else is to be called meanwhile
            return replace(found.of_call(step, job), result=result, message=f"was not called: {job.reason}")
        post = job.last_post
        if snapshot.at < (job.created_at if post is None else post.began_at) + within + RING:
            return None
        waited = write_duration(within + RING)
        return replace(found.of_call(step, job), message=f"its call has not ended within {waited}")

    async def end(
        self,
        found: FoundEscalation,
        state: EscalationState,
        *,
        reason: str | None = None,
        done: Acknowledgement | None = None,
        conditions: Iterable[Condition] = (),
    ) -> bool:
        """End an escalation, if its record is still the one that was read. Its unsent calls are cancelled with it.

        Returns False if something has changed since it was read. Raises StoreError.
        """
        why = reason or (f"{done.who} acknowledged" if done is not None else "its escalation has ended")
        now, unsent = self._store.clock.now(), [job for job in found.jobs.values() if job.state in UNSENT]
        ended = replace(found.record, state=state, ended_at=now, reason=reason, acknowledged=done)
        if found.turn_has_begun:
            last = [_last_step(replace(found, record=ended), step, why) for step in found.waiting]
            ended = replace(ended, finished_steps=(*ended.finished_steps, *last), step=found.turn.stop)
        if not await self._records.write(found, ended, takes_back=unsent, reason=why, conditions=conditions):
            return False
        _ENDED[state] += 1
        _log.info("an escalation has ended", escalation=found.id, state=state.value, reason=why)
        return True


def _last_step(ended: FoundEscalation, step: int, why: str) -> EscalationStep:
    """A step during which the escalation has ended."""
    if (call := ended.jobs.get(step)) is None:
        return ended.not_called(step, why)
    told, done = ended.of_call(step, call), ended.record.acknowledged
    if done is not None and done.call_id == call.id:
        return told
    if call.state in UNSENT:
        return replace(told, result=CallResult.CANCELLED, message=f"was not called: {why}")
    return replace(told, message=f"was being called when {why}")


def _kept_steps(found: FoundEscalation, now: datetime) -> tuple[EscalationStep, ...]:
    """The steps to be kept: those of this round and the one before, and older ones that may still be answered."""
    oldest = found.round_of(found.record.step) - 1

    def is_kept(step: EscalationStep) -> bool:
        job = found.jobs.get(step.step)
        may_go_on = (
            job is not None and not job.state.is_final and step.at is not None and now < step.at + _FINISHED_STEPS_KEPT
        )
        return step.round >= oldest or may_go_on

    return tuple(filter(is_kept, found.record.finished_steps))


def _shown(found: FoundEscalation, snapshot: QueueSnapshot) -> EscalationStatus:
    why = snapshot.blocked(found)
    return found.shown(blocked=None if why is None else why[1])


def digest_of(value: object) -> str:
    """The digest of a request, or of what an alert is known by. Raises InvalidInputError if it is no JSON."""
    try:
        return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"request is no JSON: {error}; give what was requested as JSON values") from None


def ended_here() -> Mapping[EscalationState, int]:
    """How many escalations this process has ended since it began, by each state in which one can end."""
    return {state: _ENDED[state] for state in EscalationState if state is not EscalationState.OPEN}


def blocked_here() -> Mapping[tuple[str, str], int]:
    """How many open escalations cannot call anybody now, by queue and reason, as this process has seen them last."""
    return dict(_BLOCKED)


async def advance_all(store: Store, *, queue: str | None = None, policy: CallPolicy | None = None) -> None:
    """Carry on with every open escalation of a queue, or of all queues. Raises StoreError.

    One that fails, such as one that only a newer version can read, does not keep the others from being continued.
    """
    queues = await open_texts(store, queue)
    known = {name for name, _ in _BLOCKED if queue in {None, name}}
    for name in sorted(known | queues.keys() | ({queue} if queue is not None else set())):
        texts = queues.get(name, {})
        blocked = await Escalations(CallQueue(store, name, policy=policy)).look(texts) if texts else Counter[str]()
        for reason in (NO_WORKER, HELD, NOT_SENT):
            if blocked[reason] and not _BLOCKED.get((name, reason)):
                _log.error("nobody can be called for alarms", queue=name, reason=reason, escalations=blocked[reason])
            _BLOCKED[name, reason] = blocked[reason]


@asynccontextmanager
async def advancing(
    store: Store, *, queue: str | None = None, policy: CallPolicy | None = None
) -> AsyncGenerator[None]:
    """Carry on with the open escalations of a queue, or of all queues, each second while the block lasts."""
    look = partial(advance_all, store, queue=queue, policy=policy)
    async with anyio.create_task_group() as group:
        group.start_soon(
            partial(
                BackgroundTasks(store.clock).run_periodically, "escalations were not continued", look, every=LOOK_EVERY
            )
        )
        try:
            yield
        finally:
            group.cancel_scope.cancel()


OVER = "Thank you. This alarm is over already. There is nothing left to do."
TAKEN = "Thank you. Somebody has acknowledged this alarm already."

escalation_menu: Menu = ApprovalMenu(ESCALATION)
"""The menu of the calls of escalations, served by every receiver: who presses the key has acknowledged."""


@escalation_menu.capture(max_digits=1, complete_on_hash=False)
async def acknowledge(caller: Caller) -> End | Again:
    """Acknowledge the escalation of this call before the person hears so; say so if it has ended meanwhile.

    When the person hears the confirmation, nobody else is called any more.
    """
    confirmation = confirmed(caller)
    if confirmation is None:
        return Again()
    job, store = caller.job, caller.store
    escalation = None if job is None else escalation_of(job)
    if job is None or store is None or escalation is None:
        return confirmation
    try:
        status = await Escalations(CallQueue(store, job.queue)).acknowledge(escalation, call=job)
    except EscalationNotFoundError:
        return End(OVER)
    if status.state is EscalationState.STOPPED:
        return End(OVER)
    done = status.acknowledged
    return confirmation if done is not None and done.call_id == job.id else End(TAKEN)
