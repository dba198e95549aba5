"""Escalations in progress: each step calls the next person, until somebody acknowledges, whoever carries on with it.

Every worker and receiver looks each second at the escalations that are open, and so does who waits for one. From the
definition of an escalation and the calls that there are, each computes which calls come next, and makes those that are
missing. Nobody has a lease, and nothing tells how far a round has come, because each write is safe by itself:

- A call has a unique key, made of the escalation, the round, the step and the place in that: of two processes that make
  it, one does. It is made only while the definition is the one that was read.
- That an escalation has not ended is a condition of every call that is made for it, and of every POST of these. So
  nobody is called after somebody has acknowledged, or after it was stopped, not even by a call that went back to the
  queue. The key press that is stored with its call ends it in the same write.
- A process that dies leaves a call that is missing. Whoever looks next makes it.

A step is over when each number was called, or cannot be called. While nothing can call, such as without a worker, its
call waits, and the escalation is blocked, which its status and the log say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from voiceflow_worker.core.audit import Actor, AuditedStore, AuditEntry, audited
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.record_set import report_unreadable
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.gates import until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Order, Result, Same, Write
from voiceflow_worker.core.writes import ENDED_ESCALATION, ESCALATION, EscalationEnd, escalation_of
from voiceflow_worker.errors import (
    CallFlowError,
    EscalationNotFoundError,
    InvalidInputError,
    KeyConflict,
    KeyConflictError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.ivr.approval import ApprovalMenu, confirmed
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu import Again, End, Menu
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.admission import key_findings, text_findings
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    PASSED_OVER,
    RESOLVED,
    UNSENT,
    EscalationRecord,
    EscalationState,
    EscalationStatus,
    Turn,
)
from voiceflow_worker.service.escalation_store import (
    HELD,
    NO_WORKER,
    NOT_SENT,
    EscalationStore,
    QueueSnapshot,
    open_ids,
    opening_of,
    unchanged,
)

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

LOOK_EVERY = 1.0
FORGOTTEN = "no notification has named it for the time that its policy gives"
"""Why the rounds of an alert have ended of which nobody has said that it is over."""
_ENDED: Counter[str] = Counter()
_BLOCKED: dict[tuple[str, str], int] = {}

_log = structlog.get_logger("voiceflow.escalation")


class StartedEscalation(NamedTuple):
    """An escalation that was asked for. `created` is False if it was there before."""

    status: EscalationStatus
    created: bool


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
        return await self._records.listed(after=after, limit=limit)

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
        return await self._order("stop", escalation_id, by=by, reason=reason)

    async def _order(
        self, action: str, escalation_id: str, *, by: str | Actor | None, reason: str | None = None
    ) -> EscalationStatus:
        """End an escalation for a person; its first write keeps the entry of the audit log too."""
        found, now, actor = await self._records.get(escalation_id), self._store.clock.now(), Actor.of(by)
        entry = AuditEntry.of(actor, action, at=now, note=reason, queue=self.queue.name, batch=found.batch_id)
        name = None if reason is not None else by.called if isinstance(by, Actor) else by
        async with audited(self._store, entry, actor.claim) as store:
            queue = CallQueue(store.store, self.queue.name, policy=self.queue.policy)
            status = await Escalations(queue).end(escalation_id, EscalationEnd(at=now, by=name, reason=reason))
            store.result = f"{status.state.value} escalation {escalation_id}"
        return status

    async def end(
        self,
        escalation_id: str,
        end: EscalationEnd,
        *,
        call: Job | None = None,
        conditions: Sequence[Condition] = (),
    ) -> EscalationStatus:
        """End an escalation, unless it has ended; returns when no further call of it can leave. Raises StoreError.

        `call` is one that has certainly left. Without an error, but if one of the `conditions` fails, it goes on.
        """
        while (found := await self._records.get(escalation_id)).end is None:
            if isinstance(self._store, AuditedStore):  # without a person who was erased meanwhile
                self._store.entry = replace(self._store.entry, numbers=found.ordered.every_number)
            first, orders = Same(ENDED_ESCALATION, escalation_id, None), self._orders(escalation_id, end)
            guards = (first, unchanged(found), *conditions)
            write = Write(conditions=guards, puts=(end.put(escalation_id),), orders=orders)
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
            if answer.condition is not None and answer.condition in conditions:
                break
            if answer.result is Result.DONE:
                state = EscalationState.ACKNOWLEDGED if end.reason is None else EscalationState.STOPPED
                _ENDED[state] += 1
                _log.info("an escalation has ended", escalation=found.id, state=state.value, reason=end.reason)
                while not await self._records.close(found := await self._records.get(escalation_id)):
                    pass
                break
        else:
            await confirm(self._store, *self._orders(escalation_id, found.end))
        return await self.until_left(found, but=call)

    def _orders(self, escalation_id: str, end: EscalationEnd) -> tuple[Order, ...]:
        return (Order(alone=True, about=(escalation_id,), queue=self.queue.name, puts=(end.put(escalation_id),)),)

    async def until_left(self, found: EscalationStatus, *, but: Job | None = None) -> EscalationStatus:
        """Wait until the calls of an escalation that were about to leave have left or gone back; returns it, ended.

        `but` is a call that has certainly left. Raises StoreError.
        """
        left = 0
        if any(job.state is JobState.SENDING for job in found.jobs.values()):
            but_id = None if but is None else but.id
            left = await until_left(self._store, [self.queue.name], batch_id=found.batch_id, but=but_id)
        return replace(found, may_ring=left)

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
            end = EscalationEnd.by_key(call, at=self._store.clock.now())
            return await self.end(escalation_id, end, call=call)
        return await self._order("acknowledge", escalation_id, by=by)

    async def advance(self, escalation_id: str) -> EscalationStatus:
        """Carry on with an escalation as far as it goes now, and return it.

        Raises `EscalationNotFoundError` and StoreError.
        """
        while True:
            found = await self._records.get(escalation_id)
            snapshot = await self._records.snapshot([found.batch_id])
            if not await self._carry_on(found, snapshot):
                return _shown(found, snapshot)

    async def look(self, ids: Sequence[str]) -> Counter[str]:
        """Carry on with open escalations, by their ids. Returns how many are blocked, by the reason.

        One that fails does not keep the others from being continued. Raises StoreError.
        """
        found = await self._records.read(ids)
        snapshot = await self._records.snapshot({each.batch_id for each in found.values()})
        blocked: Counter[str] = Counter()
        for each in found.values():
            if (why := snapshot.blocked(each)) is not None:
                blocked[why[0]] += 1
            try:
                if await self._carry_on(each, snapshot):
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

    async def _carry_on(self, found: EscalationStatus, snapshot: QueueSnapshot) -> bool:
        """Do what comes next for an escalation. Returns False if there is nothing to do now."""
        if found.record.is_closed:
            return False
        now, turn, why = snapshot.at, found.turn(snapshot.at), None
        if found.record.until is not None and found.record.until <= now:
            turn, why = [], FORGOTTEN
        gate = snapshot.gates.get(found.batch_id)
        over = RESOLVED if found.is_resolved else None
        if gate is not None and gate.state is GateState.CANCELLED:
            over = closed_in_words(gate)
        if found.is_open and over is not None:
            await self.end(found.id, EscalationEnd(at=now, reason=over), conditions=[unchanged(found)])
        elif not found.is_open or not turn:
            if await self._records.close(found, reason=why) and found.is_open:
                _ENDED[EscalationState.UNANSWERED if why is None else "forgotten"] += 1
                _log.warning("nobody has acknowledged an escalation", escalation=found.id, reason=why)
        elif missing := [each for each in turn if found.job(each) is None]:
            if now < found.begins_at(turn[0]) or self._waits_for_windows(found, turn[0], now):
                return False
            if (number := turn[0].round) != found.record.round:
                write = self._records.change(found.id, found, replace(found.record, round=number))
                await self._store.write(BulkWrite(writes=(write,)), now=now)
                return True
            for each in missing:
                await self._records.call(found, each)
        else:
            jobs = [job for each in turn if (job := self._passed_over(found, each, snapshot)) is not None]
            for job in jobs:
                await self._records.take_back([job], reason=job.reason or "", kind=job.reason_kind)
            return bool(jobs)
        return True

    def _passed_over(self, found: EscalationStatus, turn: Turn, snapshot: QueueSnapshot) -> Job | None:
        """The call of a turn, if it has waited long enough for its phone, or its window, and others can be called."""
        job, within = found.job(turn), found.ordered.answer_within
        if job is None or job.state not in UNSENT or job.reason_kind not in PASSED_OVER:
            return None
        if snapshot.at < job.created_at + within or snapshot.kept_back(found, job) is not None:
            return None
        return job if job.reason_kind is not ReasonKind.NUMBER_BUSY or found.has_others(turn) else None

    @staticmethod
    def _waits_for_windows(found: EscalationStatus, turn: Turn, now: datetime) -> bool:
        """Whether a further round waits, because it may go on for ever, and nobody can be called now."""
        if found.record.last is not None or turn.round == 1:
            return False
        return all(
            opening_of(found.escalation, read_number(each.number, found.ordered.country), at=now)
            for step in found.round(turn.round)
            for each in step
        )


def _shown(found: EscalationStatus, snapshot: QueueSnapshot) -> EscalationStatus:
    why = snapshot.blocked(found)
    return replace(found, at=snapshot.at, blocked=None if why is None else why[1])


def digest_of(value: object) -> str:
    """The digest of a request, or of what an alert is known by. Raises InvalidInputError if it is no JSON."""
    try:
        return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"request is no JSON: {error}; give what was requested as JSON values") from None


def ended_here() -> Mapping[str, int]:
    """How many escalations this process has ended since it began, by each result that one can have."""
    results = (EscalationState.ACKNOWLEDGED, EscalationState.STOPPED, EscalationState.UNANSWERED, "forgotten")
    return {str(each): _ENDED[each] for each in results}


def blocked_here() -> Mapping[tuple[str, str], int]:
    """How many open escalations cannot call anybody now, by queue and reason, as this process has seen them last."""
    return dict(_BLOCKED)


async def advance_all(store: Store, *, queue: str | None = None, policy: CallPolicy | None = None) -> None:
    """Carry on with every open escalation of a queue, or of all queues. Raises StoreError.

    One that fails, such as one that only a newer version can read, does not keep the others from being continued.
    """
    queues = await open_ids(store, queue)
    known = {name for name, _ in _BLOCKED if queue in {None, name}}
    for name in sorted(known | queues.keys() | ({queue} if queue is not None else set())):
        ids = queues.get(name, ())
        blocked = await Escalations(CallQueue(store, name, policy=policy)).look(ids) if ids else Counter[str]()
        for reason in (NO_WORKER, HELD, NOT_SENT):
            if blocked[reason] and not _BLOCKED.get((name, reason)):
                _log.error("nobody can be called for alarms", queue=name, reason=reason, escalations=blocked[reason])
            _BLOCKED[name, reason] = blocked[reason]


def advancing(
    store: Store, *, queue: str | None = None, policy: CallPolicy | None = None
) -> AbstractAsyncContextManager[None]:
    """Carry on with the open escalations of a queue, or of all queues, each second while the block lasts."""
    look = partial(advance_all, store, queue=queue, policy=policy)
    return BackgroundTasks(store.clock).repeated("escalations were not continued", look, every=LOOK_EVERY)


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
