"""The queue: hand in calls, look at them, take them back, say what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core.numbers.suppression import SuppressionList, why_refused
from voiceflow_worker.core.outcomes.stream import OutcomeStream
from voiceflow_worker.core.outcomes.wait import OutcomeWatch
from voiceflow_worker.core.overview.status import QueueStatus, read_status
from voiceflow_worker.core.ports import Enqueued, KeyOwner, Query, Store
from voiceflow_worker.core.ports.batch_names import BatchNames
from voiceflow_worker.core.ports.identity import checked_queue, checked_reader, new_job_ids, new_revision
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import (
    CallFlowError,
    InvalidInputError,
    JobNotFoundError,
    SuppressedNumber,
    SuppressedNumberError,
)
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.canonical import body_digest, canonical_body, stored_body
from voiceflow_worker.model.hours.opening import first_opening
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.admission import admission_findings, checked_time, end_of
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import usual_form
from voiceflow_worker.model.records.data import checked_data


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One call to be enqueued.

    What the flow's own body says (`clientRequestId` as the unique key, `clientBatchId`, `validUntil`) is used where the
    field here is None. Times are aware; a larger `priority` (-1,000,000 to 1,000,000) goes first. `data` is the
    caller's own: it reaches menu handlers, hooks and reports, never 8x8. `menu` names the IVR menu that the call begins
    with. `window` is when the phone may ring, by the clocks of `time_zone`, else of the number's own zone if that is
    certain. `redial` None is what the queue does.
    """

    flow: CallFlow
    unique_key: str | None = None
    batch_id: str | None = None
    priority: int = 0
    not_before: datetime | None = None
    valid_until: datetime | None = None
    time_zone: str | None = None
    redial: RedialPolicy | None = None
    window: CallWindow | None = None
    data: Mapping[str, object] | None = None
    menu: str | None = None


class CallQueue:
    """One queue of a store: a lane of calls to one sub-account.

    `redial` is for the calls that are enqueued here and bring no policy of their own; without one nobody is called
    again. `RedialPolicy(on=frozenset(), limit=0, after=timedelta())` keeps one call out of it.
    """

    def __init__(
        self,
        store: Store,
        name: str = "default",
        *,
        policy: CallPolicy | None = None,
        redial: RedialPolicy | None = None,
    ) -> None:
        self.name = checked_queue(name)
        self.store = store
        self._policy = policy or CallPolicy()
        self._redial = redial
        self._suppression = SuppressionList(store)
        self._changes = Changes(store, self._policy)
        self._batch_names = BatchNames(store, self.name)
        self._outcome_watch = OutcomeWatch(store)

    async def enqueue(
        self,
        flow: CallFlow | Mapping[str, object],
        *,
        unique_key: str | None = None,
        batch_id: str | None = None,
        priority: int = 0,
        not_before: datetime | None = None,
        valid_until: datetime | None = None,
        valid_for: timedelta | None = None,
        time_zone: str | None = None,
        redial: RedialPolicy | None = None,
        window: CallWindow | None = None,
        data: Mapping[str, object] | None = None,
        menu: str | None = None,
    ) -> Job:
        """Hand in one call; gives its job, or the job that already owns the `unique_key`.

        `valid_for` counts from now and replaces `valid_until`; the others as in `CallRequest`. Raises `CallFlowError`
        with every finding (a window that does not open while the call is valid among them), `SuppressedNumberError` for
        a number on the suppression list, `InvalidInputError` for data that is no flat JSON, `KeyConflictError` when the
        key belongs to another body, `StoreUnavailableError`: asking again with the same unique key is then safe.
        """
        if valid_for is not None:
            valid_until = end_of(valid_for, at=self.store.clock.now())
        request = CallRequest(
            flow=flow if isinstance(flow, CallFlow) else CallFlow.parse(flow),
            unique_key=unique_key,
            batch_id=batch_id,
            priority=priority,
            not_before=not_before,
            valid_until=valid_until,
            time_zone=time_zone,
            redial=redial,
            window=window,
            data=data,
            menu=menu,
        )
        return (await self.enqueue_many([request]))[0].job

    async def enqueue_many(self, requests: Iterable[CallRequest]) -> Sequence[Enqueued]:
        """Hand in many calls in one step: all or none. Raises as `enqueue` does; findings tell the place by `row`."""
        now = self.store.clock.now()
        wanted = list(requests)
        ids = new_job_ids(self.name, len(wanted), at=now)
        jobs: list[Job] = []
        findings: list[Finding] = []
        for place, (job_id, request) in enumerate(zip(ids, wanted, strict=True)):
            try:
                if request.redial is None and self._redial is not None:
                    request = replace(request, redial=self._redial)  # noqa: PLW2901 (completed, not another one)
                jobs.append(new_job(request, job_id=job_id, queue=self.name, at=now))
            except CallFlowError as error:
                if len(wanted) == 1:
                    raise
                findings += [_numbered(finding, place) for finding in error.findings]
        if findings:
            raise CallFlowError(findings)
        await self._refuse_suppressed(jobs)
        await self._refuse_cancelled_batches({job.batch_id for job in jobs if job.batch_id is not None})
        await self._batch_names.keep(job.batch_id for job in jobs)
        return await self.store.jobs.enqueue(jobs, now=now) if jobs else []

    async def get(self, job_id: str) -> Job:
        """The job with this id. Raises `JobNotFoundError`."""
        found = await self.store.jobs.get([job_id])
        if job_id not in found:
            raise JobNotFoundError(job_id)
        return found[job_id]

    async def find(
        self,
        *,
        states: Iterable[JobState] | None = None,
        batch_id: str | None = None,
        destination: str | None = None,
        unique_key: str | None = None,
        after: str | None = None,
        limit: int | None = 100,
    ) -> Sequence[Job]:
        """Jobs of this queue in the order of their creation; `after` continues a listing behind that job id."""
        return await self.store.jobs.find(
            Query(
                queue=self.name,
                states=frozenset(states) if states is not None else None,
                batch_id=batch_id,
                destination=None if destination is None else usual_form(destination),
                unique_key=unique_key,
                after=after,
                limit=limit,
            )
        )

    async def cancel(self, job_id: str, *, reason: str = "cancelled by a person") -> Job:
        """Take a job back. Raises `TooLateError` once the call may have left, `JobNotFoundError`."""
        now = self.store.clock.now()
        cancel = partial(lifecycle.cancel, at=now, reason=reason, policy=self._policy)
        return (await self._changes.change(job_id, cancel)).new

    async def cancel_batch(self, batch_id: str, *, reason: str = "the batch was cancelled by a person") -> int:
        """Cancel a batch for good: its queued jobs end now, what comes back to the queue ends then.

        Says how many ended.
        """
        await self._order(GateState.CANCELLED, batch_id=batch_id, until=None, reason=reason)
        return (
            await Sweeper(self.store, queue=self.name, policy=self._policy, changes=self._changes).sweep()
        ).cancelled

    async def redial(self, job_id: str, *, note: str = "called again by a person", force: bool = False) -> Job:
        """Call again: a new POST of the same job.

        Jobs in doubt must be resolved first; completed and accepted ones need `force`. Raises `IllegalMoveError`,
        `JobNotFoundError`.
        """
        now = self.store.clock.now()
        redial = partial(lifecycle.redial, at=now, note=note, force=force)
        return (await self._changes.change(job_id, redial)).new

    async def resolve(self, job_id: str, *, placed: bool, note: str, witnessed: datetime | None = None) -> Job:
        """Say whether a call in doubt was placed. "Not placed" puts it back in the queue.

        `witnessed` is the time by 8x8's own clock (`VoiceClient.server_time`), if it could be asked; else the store's
        clock must do. Raises `TooEarlyError` while 8x8 may still place the call, `IllegalMoveError`,
        `JobNotFoundError`.
        """
        now = self.store.clock.now()
        if witnessed is not None:
            checked_time("witnessed", witnessed)
        resolve = partial(
            lifecycle.resolve, placed=placed, at=now, witnessed=witnessed or now, note=note, policy=self._policy
        )
        return (await self._changes.change(job_id, resolve)).new

    async def hold(self, *, batch_id: str | None = None, until: datetime | None = None, reason: str = "") -> Gate:
        """Hold the queue, or one batch of it: nothing new is sent. Without `until` somebody must `resume` it.

        Raises `InvalidInputError` for an `until` without a zone.
        """
        if until is not None:
            checked_time("until", until)
        return await self._order(GateState.HELD, batch_id=batch_id, until=until, reason=reason)

    async def resume(self, *, batch_id: str | None = None) -> Gate:
        """Open a held queue or batch. A cancelled batch stays cancelled: look at the gate that comes back."""
        return await self._order(GateState.OPEN, batch_id=batch_id, until=None, reason="")

    async def status(self) -> QueueStatus:
        """Where the queue stands."""
        return await read_status(self.store, self.name)

    async def wait_for_outcome(self, job_id: str, *, timeout: timedelta | None = None) -> Job:  # noqa: ASYNC109 - raises an error of its own
        """The job once it has ended; at once if it has. Any number may wait: they share one look per 200 ms.

        An attempt that is followed by a redial is no end, and neither is a doubt, which only evidence or a person ends:
        both are waited through. `accepted` is one, though a late summary may still tell more. Raises
        `OutcomeTimeoutError` (a `TimeoutError`) when `timeout` has passed, `JobNotFoundError`. A store that is away is
        waited for.
        """
        return await self._outcome_watch.wait(job_id, timeout=timeout)

    def outcomes(
        self, *, consumer: str | None = None, since: datetime | None = None, attempts: bool = True
    ) -> OutcomeStream:
        """What becomes of the calls of this queue, as it happens: `async for outcome in queue.outcomes()`.

        Each outcome is told at least once, and in order per call; its `id` is the same each time. Without `consumer` it
        begins now, or at the aware time `since`. A `consumer` begins there when it is new, and then goes on where it
        was, also after a crash: an outcome counts as done when the next one is asked for. Of several with one name, one
        at a time is served. `attempts=False` leaves out attempts that are followed by a redial. What happened longer
        ago than the retention (30 days) is forgotten; a consumer that comes too late finds a warning in the log. Raises
        `InvalidInputError` for a name that cannot be one, and for a `since` without a zone.
        """
        if consumer is not None:
            checked_reader(consumer)
        if since is not None:
            checked_time("since", since)
        return OutcomeStream(
            self.store, self.name, consumer=consumer, since=since or self.store.clock.now(), attempts=attempts
        )

    async def _refuse_suppressed(self, jobs: Sequence[Job]) -> None:
        listed = await self._suppression.standing([number for job in jobs for number in job.parties])
        if not listed:
            return
        refused = [
            SuppressedNumber(index=place, number=found[0], reason=found[1])
            for place, job in enumerate(jobs)
            if (found := why_refused(job, listed, at=job.due_at)) is not None
        ]
        if not refused:
            return
        # Who asks again with the key of a call that was made is told of that call, also when it ended in an opt-out.
        keys = [key for each in refused if (key := jobs[each.index].unique_key) is not None]
        owned: Mapping[str, KeyOwner] = {}
        if keys:
            owned = await self.store.jobs.owners(self.name, keys, now=self.store.clock.now())
        new = [each for each in refused if jobs[each.index].unique_key not in owned]
        if new:
            raise SuppressedNumberError(new)

    async def _refuse_cancelled_batches(self, batch_ids: set[str]) -> None:
        if not batch_ids:
            return
        for gate in await self.store.control.gates(self.name):
            if gate.scope is GateScope.BATCH and gate.state is GateState.CANCELLED and gate.name in batch_ids:
                raise InvalidInputError(
                    f"batch {gate.name} was cancelled for good, and its calls are never sent; use another batch id "
                    "(--batch). Nothing was enqueued."
                )

    async def _order(self, state: GateState, *, batch_id: str | None, until: datetime | None, reason: str) -> Gate:
        return await self.store.control.gate(
            Gate(
                queue=self.name,
                scope=GateScope.QUEUE if batch_id is None else GateScope.BATCH,
                name=batch_id or self.name,
                state=state,
                until=until,
                reason=reason,
                since=self.store.clock.now(),
            )
        )


def new_job(request: CallRequest, *, job_id: str, queue: str, at: datetime) -> Job:
    """The job of a request, with the body that is sent: validated and encoded here, and never again.

    Raises `CallFlowError` with every finding: a `valid_until` that has passed or that ends before `not_before` (-1015),
    a time without a zone, a priority out of range.
    """
    flow = request.flow.validated()
    if flow.destination is None or flow.source is None:  # pragma: no cover - a validated call begins with makeCall
        raise InvalidInputError("a call needs a source and a destination")
    valid_until = request.valid_until or flow.valid_until
    batch_id = request.batch_id or flow.client_batch_id
    findings = admission_findings(request.priority, not_before=request.not_before, valid_until=valid_until, at=at)
    if batch_id is not None and len(batch_id) > MAX_ID_CHARACTERS:
        message = f"the batch id {batch_id!r} has {len(batch_id)} characters; 8x8 takes at most {MAX_ID_CHARACTERS}"
        findings.append(Finding(message=message, code=-1009, path="$.clientBatchId"))
    if findings:
        raise CallFlowError(findings)
    due_at = max(at, request.not_before) if request.not_before else at
    opening = first_opening(
        request.window, number=flow.destination, time_zone=request.time_zone, at=due_at, valid_until=valid_until
    )
    if opening.problem is not None:
        raise CallFlowError([opening.problem])
    return Job(
        id=job_id,
        queue=queue,
        state=JobState.QUEUED,
        due_at=opening.at,
        revision=new_revision(),
        priority=request.priority,
        batch_id=batch_id,
        # One phone, one number: locks and the suppression list go by it, however the body spells it (+4402… is +442…).
        destination=usual_form(flow.destination),
        unique_key=request.unique_key or flow.client_request_id,
        valid_until=valid_until,
        body=stored_body(flow),
        body_digest=body_digest(canonical_body(flow)),
        source=flow.source,
        created_at=at,
        not_before=request.not_before,
        time_zone=opening.time_zone,
        redial=request.redial,
        window=request.window,
        data=checked_data(request.data),
        menu=request.menu,
    )


def _numbered(finding: Finding, place: int) -> Finding:
    return Finding(
        message=f"call {place}: {finding.message}", severity=finding.severity, code=finding.code, path=finding.path
    )
