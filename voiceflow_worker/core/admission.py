"""Admission of calls to a queue: each call is checked and encoded once, and becomes a job or gets a reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Self, TypedDict, Unpack

from msgspec.json import encode

from voiceflow_worker.core.base.identity import BATCH, new_job_ids, new_revisions
from voiceflow_worker.core.base.keys import KEYS, owners_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, not_cancelled
from voiceflow_worker.core.ports.store import (
    MOST_CHANGES,
    AtMost,
    BulkWrite,
    Condition,
    Owner,
    Record,
    Result,
    Write,
    WriteResult,
)
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import Suppression, listed_groups, why_refused
from voiceflow_worker.core.writes import all_or_none, edited, enqueued, remade, removed
from voiceflow_worker.errors import (
    CallFlowError,
    InvalidInputError,
    KeyConflict,
    KeyConflictError,
    SuppressedNumber,
    SuppressedNumberError,
    TakenOverError,
)
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening, read_holidays
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.bodies import second_parties
from voiceflow_worker.model.flows.callflow import CallFlow, EncodedBody, body_digest
from voiceflow_worker.model.jobs.admission import admission_findings, key_findings, text_findings
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.differences import asked_digest, differences, ended_without_ring, is_changeable
from voiceflow_worker.model.jobs.edits import edited as changed_job
from voiceflow_worker.model.jobs.job import MOST_NUMBERS, Job, JobState, RedialPolicy, usual_key
from voiceflow_worker.model.jobs.policy import USUAL_REDIALS, CallPolicy, read_redial_after, redial_policy
from voiceflow_worker.model.numbers.phone import canonical_number, phone_identity
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.arguments import checked_duration, plain_time, time_problem
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.model.times import read_time
from voiceflow_worker.model.window import CallWindow, read_days, read_window_zone
from voiceflow_worker.model.zones import read_zone


class CallOptions(TypedDict, total=False):
    """What may be said of one call beside its flow. All of it may be left out.

    These are the fields of a call, as Python's types, or as text: `valid_for="2h"`, `window="09:00-20:00"`,
    `redial_on="busy"`. `redial` is a policy in place of the three `redial_…`.
    If `unique_key`, `batch` or `valid_until` is None, it is read from the body of the flow (`clientRequestId`,
    `clientBatchId`, `validUntil`). `valid_for` counts from the enqueuing, or from `not_before` if that is later, and
    replaces `valid_until`. Times are aware, by a clock that exists. A larger `priority` (-1,000,000 to 1,000,000) goes
    first; by default it is 0. `data` is for your program: menu handlers and reports have it, and 8x8 does not.
    `menu` names the first IVR menu of the call. The phone rings only within `window`, whose hours are local time at the
    number. `time_zone` is the zone of the person, which a `window` needs if the digits of the number do not determine
    it. `window_time_zone` moves the window: its hours are then those of this zone, for every number. `redial` None
    means the policy of the queue.

    `further_numbers` are other numbers of the same person, in E.164 form. After a number that was busy or did not
    answer, the next one is called; a redial begins with the first again. The person is left out if any number is on the
    suppression list.
    """

    unique_key: str | None
    batch: str | None
    priority: int | str
    not_before: datetime | str | None
    valid_until: datetime | str | None
    valid_for: timedelta | str | None
    time_zone: str | None
    redial: RedialPolicy | None
    redial_on: str | Iterable[str] | None
    redial_max: int | str | None
    redial_after: timedelta | str | Mapping[str, timedelta | str] | None
    window: CallWindow | CountryWindows | str | None
    days: str | None
    holidays: str | None
    window_time_zone: str | None
    data: Mapping[str, object] | None
    menu: str | None
    further_numbers: Sequence[str]


_REDIALS: Final[Mapping[str, Any]] = {"redial_on": (), "redial_max": 1, "redial_after": timedelta(minutes=30)}
"""The fields of a redial policy, with their defaults."""


def _read(options: CallOptions, *, at: datetime) -> dict[str, Any]:
    """Return options with Python's types for texts. Raises CallFlowError with a finding for each that is wrong."""
    found, wrong = dict[str, Any](options), list[Finding]()
    zone = found.get("time_zone")

    def time(text: str) -> datetime:
        return read_time(text, zone=None if zone is None else read_zone(zone), now=at)

    readers: dict[str, Callable[[str], Any]] = {
        "priority": int, "not_before": time, "valid_until": time, "valid_for": read_duration,
        "window": CountryWindows.parse, "days": read_days, "holidays": read_holidays, "redial_max": int,
    }  # fmt: skip
    for name, read in readers.items():
        if isinstance(text := found.get(name), str):
            try:
                found[name] = read(text)
            except (ValueError, InvalidInputError) as error:
                wrong.append(Finding(column=name, message=f"{name} {text[:40]!r}: {error}"))
    if wrong:
        raise CallFlowError(wrong)
    for name in ("not_before", "valid_until"):
        if found.get(name) is not None:
            found[name] = plain_time(name, found[name])
    days, holidays = found.pop("days", None), found.pop("holidays", None)
    if days is not None or holidays is not None:
        whole = CountryWindows.of(found.get("window") or CountryWindows())
        found["window"] = CountryWindows(
            hours=whole.hours, days=days or whole.days, holidays=holidays or whole.holidays, time_zone=whole.time_zone
        )
    redials = {name: each for name in _REDIALS if (each := found.pop(name, None)) is not None}
    if redials:
        usual = {"redial_on": USUAL_REDIALS} if "redial_max" in redials else {}
        asked: dict[str, Any] = {**_REDIALS, **usual, **redials}
        on, limit, after = asked.values()
        found["redial"] = redial_policy(on, limit=limit, after=read_redial_after(after), spare=True)
    return found


@dataclass(frozen=True, slots=True, init=False)
class CallRequest:
    """One call to be enqueued: `CallRequest(flow, unique_key="order-42", batch="march")`.

    What was said of it is in the mapping `options`: `CallRequest(other, **request.options)` asks the same of another
    flow.
    """

    flow: CallFlow
    options: CallOptions

    def __init__(self, flow: CallFlow, **options: Unpack[CallOptions]) -> None:
        if unknown := sorted(options.keys() - CallOptions.__annotations__.keys()):
            raise TypeError(f"a call has no option {unknown[0]!r}")
        object.__setattr__(self, "flow", flow)
        object.__setattr__(self, "options", options)


class CheckedCall(NamedTuple):
    """A call whose flow keeps the rules of the 8x8 contract, encoded once.

    `body` is the text that is stored and sent, and `digest` is the digest of the canonical body. `destination` is in
    the usual form of its numbering plan, as are `further_numbers`. `window` is that of this person, with its zone if it
    was moved. `validity` is what was asked for, if `valid_until` was counted from the time at which that was done, and
    by which it is the same when it is asked for again. The other fields are those of `CallOptions`. This is a tuple,
    because files have millions of calls, and a dataclass takes longer to make.
    """

    source: str
    destination: str
    body: str
    digest: str
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
    further_numbers: tuple[str, ...] = ()
    validity: str | None = None

    @classmethod
    def of(cls, request: CallRequest, *, at: datetime) -> Self:
        """Check a request. Raises `CallFlowError` with every finding, and InvalidInputError for invalid data."""
        flow, options = request.flow, _read(request.options, at=at)
        # With an empty key, the call would be made again each time that it is enqueued again.
        if problems := key_findings(options.get("unique_key")):
            raise CallFlowError(problems)
        if flow.validated().destination is None:
            raise InvalidInputError("a call needs a source and a destination")
        encoded = EncodedBody.of(flow)
        further = further_numbers(encoded, options.get("further_numbers", ()))
        valid_for = options.get("valid_for")
        valid_until, begin = options.get("valid_until"), options.get("not_before")
        if valid_for is not None:
            valid_until = max(at, begin if begin and time_problem("not_before", begin) is None else at)
            valid_until += checked_duration("valid_for", valid_for)
        key = options.get("unique_key") or flow.client_request_id
        own: dict[str, Any] = {
            **{name: value for name, value in options.items() if name in cls._fields},
            "unique_key": key and usual_key(key),
            "batch_id": options.get("batch") or flow.client_batch_id,
            "valid_until": valid_until or flow.valid_until,
            "validity": None if valid_for is None else str(valid_for),
            "window": _window_of(options, (encoded.destination, *further)),
            "data": checked_data(options.get("data")),
            "further_numbers": further,
        }
        # One spelling for each telephone (+4402… becomes +442…), for locks and the suppression list.
        digest = call_digest(encoded.canonical, further)
        return cls(source=encoded.source, destination=encoded.destination, body=encoded.stored, digest=digest, **own)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Numbers of the person, in the order in which they are called."""
        return self.destination, *self.further_numbers

    @property
    def asked(self) -> str:
        """Digest of what is asked for: a span of validity counts as a span, and not as the time that it gives."""
        times = (self.not_before, None if self.validity else self.valid_until)
        begins, ends = (None if each is None else each.astimezone(UTC) for each in times)
        zone = None if self.window is None else self.time_zone
        terms = (begins, ends, self.validity, self.window, self.priority, self.redial, self.menu, zone)
        return body_digest(f"{self.digest}{encode(terms, order='deterministic').decode()}")


def _window_of(options: Mapping[str, Any], numbers: Sequence[str]) -> CallWindow | None:
    """Return the window of the person, with its zone if it was moved. Raises InvalidInputError."""
    window, zone = options.get("window"), options.get("window_time_zone")
    if window is None:
        if zone is not None:
            raise InvalidInputError("window_time_zone is the zone of a window, and there is none: give a window")
        return None
    found = window.to(numbers) if isinstance(window, CountryWindows) else window
    return found if zone is None or found is None else replace(found, time_zone=read_window_zone(zone))


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The result for one enqueued job. `job` is the job in the store, and `created` says whether it is new.

    If the job that owns the unique key was deleted, `job` is a tombstone, with only the id, state and times. If a newer
    version wrote it, `job` is this call with that id and state (`in_doubt` for a state that this version lacks).
    """

    job: Job
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionResult:
    """The result for one call: whether it is in the queue, or the reason why it was refused.

    `is_new` is False for a call whose job was in the queue before. The reason is `findings`, or a `suppressed` number.
    In a dry run, a call that could be enqueued has an empty result. `changed` is a stored call that says now what was
    asked for. If it `has_moved`, the stored call is not as it was judged, or another call has the key.
    """

    is_new: bool | None = None
    changed: Job | None = None
    findings: Sequence[Finding] = ()
    suppressed: SuppressedNumber | None = None
    has_moved: bool = False


class Standing(NamedTuple):
    """The stored calls that are changed in the write of a new call, each only as it is here.

    `changed` becomes what is asked for, and nothing is added. `before` has ended, and is made again as the new call.
    `removed` ones end.
    """

    changed: Job | None = None
    before: Job | None = None
    removed: Sequence[Job] = ()


_ALONE = Standing()


class Admitter:
    """Admits calls to one queue; `redial` is for calls without a redial policy of their own."""

    def __init__(
        self, store: Store, queue: str, *, redial: RedialPolicy | None, policy: CallPolicy | None = None
    ) -> None:
        self._store = store
        self._queue = queue
        self._redial = redial
        self._policy = policy or CallPolicy()
        self._suppression = SuppressionList(store)
        self._named: set[str | None] = set()

    def differences(self, call: CheckedCall, stored: Job) -> tuple[str, ...]:
        """Return the names of the fields in which a stored call differs; none if it cannot be asked for.

        See `model.jobs.differences`.
        """
        made = self._made(call)
        return differences(made, stored) if made is not None else ()

    def problems_of_change(self, call: CheckedCall, stored: Job) -> Sequence[Finding]:
        """Return why a call that waits cannot become what is asked for: no time is left for it."""
        made = self._made(call)
        if stored.valid_until is None or made is None:  # no need to make it, which takes as long as all else
            return ()
        try:
            changed_job(stored, made, at=self._store.clock.now())
        except CallFlowError as error:
            return error.findings
        return ()

    def _made(self, call: CheckedCall) -> Job | None:
        """Return the job of a call, to be compared: it has no id."""
        now = self._store.clock.now()
        with suppress(CallFlowError):
            return new_job(call, job_id="", revision="", queue=self._queue, at=now, redial=self._redial)
        return None

    async def admit_all(
        self,
        requests: Sequence[CallRequest | CheckedCall],
        *,
        replace: bool = False,
        takes_ended: bool = False,
    ) -> Sequence[Enqueued]:
        """Admit all of these requests or none. With `replace`, waiting calls with their keys that differ are changed.

        If it raises `CallFlowError`, `InvalidInputError`, `SuppressedNumberError` or `KeyConflictError`, nothing is
        enqueued. A call of a key that has ended without a ring is a KeyConflictError too, unless it `takes_ended` ones.
        """
        now = self._store.clock.now()
        calls: dict[int, CheckedCall] = {}
        errors: dict[int, InvalidInputError] = {}
        for index, request in enumerate(requests):
            try:
                calls[index] = request if isinstance(request, CheckedCall) else CheckedCall.of(request, at=now)
            except InvalidInputError as error:
                errors[index] = error
        jobs, refused = self._jobs(calls, now)
        if errors or refused:
            raise _joined({**errors, **refused}, len(requests))
        if len(jobs) > MOST_CHANGES:
            raise InvalidInputError(
                f"{len(jobs)} calls are too many to be enqueued all or none; pass at most {MOST_CHANGES} at a time"
            )
        done, owners = await self._write(jobs, now, standing={}, together=len(jobs) > 1)
        owned = await self._owned(jobs, owners)
        differ = {index: _differ(jobs[index], owner, owned.get(index)) for index, owner in owners.items()}
        wrong = [index for index, found in differ.items() if found]
        if wrong and replace and all(_may_become(owned.get(index), jobs[index]) for index in wrong):
            standing = {index: Standing(changed=owned[index]) for index in wrong}
            done, owners = await self._write(jobs, now, standing=standing, together=len(jobs) > 1)
            owned = await self._owned(jobs, owners) | {
                index: each.changed for index, each in done.items() if each.changed is not None
            }
            wrong = [index for index, each in done.items() if each.has_moved]
            if findings := {index: CallFlowError(each.findings) for index, each in done.items() if each.findings}:
                raise _joined(findings, len(requests))
        if suppressed := [each.suppressed for each in done.values() if each.suppressed is not None]:
            raise SuppressedNumberError(suppressed)
        if not (wrong or takes_ended):
            wrong = [index for index, job in owned.items() if ended_without_ring(job)]
        if wrong:
            conflicts = [self._conflict(each, jobs[each], owners[each], differ.get(each, ())) for each in wrong]
            raise KeyConflictError(conflicts, replaces=replace)
        known = owned | {index: owned.get(index) or _as_reported(owner, jobs[index]) for index, owner in owners.items()}
        return [
            Enqueued(known[index], created=False) if index in known else Enqueued(job, created=True)
            for index, job in jobs.items()
        ]

    def _conflict(self, index: int, job: Job, owner: Owner, differs: tuple[str, ...]) -> KeyConflict:
        return KeyConflict(index, job.unique_key or "", owner.job_id, differs, owner.state)

    async def _owned(self, jobs: Mapping[int, Job], owners: Mapping[int, Owner]) -> dict[int, Job]:
        """Return the jobs that own unique keys of these, by the indexes of these."""
        keys = {index: jobs[index].unique_key or "" for index in owners}
        found = await owners_of(self._store, keys.values()) if keys else {}
        new = {job.id: job for job in jobs.values()}
        owned = {index: found.get(key) or new.get(owners[index].job_id) for index, key in keys.items()}
        return {index: job for index, job in owned.items() if job is not None}

    async def _any_differs(self, jobs: Mapping[int, Job], owners: Mapping[int, Owner]) -> bool:
        owned = await self._owned(jobs, owners)
        return any(_differ(jobs[index], owner, owned.get(index)) for index, owner in owners.items())

    async def admit(
        self,
        calls: Sequence[CheckedCall],
        *,
        condition: Condition,
        token: str,
        standing: Mapping[int, Standing] | None = None,
    ) -> Sequence[AdmissionResult]:
        """Admit, in one bulk write, every call of an import that can be admitted. Returns one result per call.

        Each is stored only while the `condition` holds, and carries the `token` of the import; TakenOverError if it
        does not hold. `standing` has what is stored in the place of calls, by their indexes. Raises InvalidInputError
        if a call belongs to a cancelled batch, and `StoreUnavailableError`.
        """
        now = self._store.clock.now()
        jobs, refused = self._jobs(dict(enumerate(calls)), now, token=token)
        done = {index: AdmissionResult(findings=error.findings) for index, error in refused.items()}
        written, owners = await self._write(jobs, now, condition=condition, standing=standing or {})
        owned = await self._owned(jobs, owners)
        for index, owner in owners.items():
            differs = _differ(jobs[index], owner, owned.get(index), replaces=True)
            done[index] = AdmissionResult(has_moved=True) if differs else AdmissionResult(is_new=False)
        done |= written
        return [done.get(index) or AdmissionResult(is_new=True) for index in range(len(calls))]

    def _jobs(
        self, calls: Mapping[int, CheckedCall], now: datetime, *, token: str | None = None
    ) -> tuple[dict[int, Job], Mapping[int, CallFlowError]]:
        """Return the jobs of these calls, and the errors of the calls that cannot become jobs, by the same keys."""
        jobs: dict[int, Job] = {}
        errors: dict[int, CallFlowError] = {}
        ids = zip(new_job_ids(self._queue, len(calls), at=now), new_revisions(len(calls)), strict=True)
        for (index, call), (job_id, revision) in zip(calls.items(), ids, strict=True):
            try:
                jobs[index] = new_job(
                    call, job_id=job_id, revision=revision, queue=self._queue, at=now, redial=self._redial, token=token
                )
            except CallFlowError as error:
                errors[index] = error
        return jobs, errors

    async def _write(
        self,
        jobs: Mapping[int, Job],
        now: datetime,
        *,
        standing: Mapping[int, Standing],
        condition: Condition | None = None,
        together: bool = False,
    ) -> tuple[dict[int, AdmissionResult], dict[int, Owner]]:
        """Store jobs, or change those that stand in their places.

        Returns the results of those that are not stored, and the owners of the keys of others, by their indexes. A job
        whose key is taken is not refused, even if the person has opted out since, because it adds no call. Raises
        `InvalidInputError` for a cancelled batch, and `TakenOverError`.
        """
        await self.require_open({job.batch_id for job in jobs.values()})
        done, owners = dict[int, AdmissionResult](), _twice(jobs) if together else {}
        indexes = [index for index in jobs if index not in owners]
        while indexes and not (together and (_is_refused(done) or await self._any_differs(jobs, owners))):
            some = {index: jobs[index] for index in indexes}
            parts = self._parts(some, now, done, standing=standing, condition=condition)
            if not parts or (together and _is_refused(done)):
                break
            indexes, writes = list(parts), list(parts.values())
            bulk = BulkWrite(writes=(all_or_none(writes),) if together else tuple(writes))
            written = await self._store.write(bulk, now=now)
            again: list[int] = []
            listed: list[int] = []
            for index, answer in zip(indexes, _of_each(writes, written[0]) if together else written, strict=True):
                job = jobs[index]
                if answer is not None and answer.result is Result.DONE:
                    if index not in done:
                        self._named.add(job.batch_id)
                    continue
                done.pop(index, None)
                if answer is None:
                    again.append(index)
                elif (owner := answer.owners.get(job.id) or _owner_in_record(job, answer)) is not None:
                    owners[index] = owner
                elif answer.result is Result.STALE:
                    done[index] = AdmissionResult(has_moved=True)
                else:
                    self._refuse_lost(job, answer.condition, condition)
                    listed.append(index)
            concerned = sorted({*again, *listed}) if together and listed else listed
            for index, found in (await self._listed(jobs, concerned)).items():
                texts, job = ({each.group: each.value} for each in found), jobs[index]
                refused = (_refused(job, index, self._suppression.entries_in(text, job.parties)) for text in texts)
                if (why := next(filter(None, refused), None)) is not None:
                    done[index] = AdmissionResult(suppressed=why)
            indexes = sorted({*again, *listed} - done.keys())
        return done, owners

    def _parts(
        self,
        jobs: Mapping[int, Job],
        now: datetime,
        done: dict[int, AdmissionResult],
        *,
        standing: Mapping[int, Standing],
        condition: Condition | None,
    ) -> dict[int, Write]:
        """Return the writes of jobs, by their indexes; note in `done` what they change, and errors of others."""
        parts: dict[int, Write] = {}
        more = () if condition is None else (condition,)
        common: Mapping[str, Any] = {"at": now, "store_id": self._store.id, "conditions": more}
        for index, job in jobs.items():
            stored = standing.get(index, _ALONE)
            try:
                if stored.changed is not None:
                    changed, write = edited(stored.changed, job, **common)
                    done[index] = AdmissionResult(changed=changed)
                else:
                    named = job.batch_id in self._named
                    write = enqueued(job, is_named=named, is_campaign=condition is not None, **common)
            except CallFlowError as error:
                done[index] = AdmissionResult(findings=error.findings)
                continue
            others = [remade(stored.before, job, at=now)] if stored.before is not None else []
            others += [removed(each, at=now, policy=self._policy, store_id=self._store.id) for each in stored.removed]
            parts[index] = all_or_none([*others, write]) if others else write
        return parts

    def _refuse_lost(self, job: Job, failed: Condition | None, condition: Condition | None) -> None:
        """Raise an error if a job was refused because of its batch or its import, and not because of itself."""
        if job.batch_id is not None and failed == not_cancelled(job.queue, job.batch_id):
            raise _was_cancelled(job.batch_id)
        if failed is not None and failed == condition:
            raise TakenOverError(job.batch_id)

    async def _listed(self, jobs: Mapping[int, Job], indexes: Sequence[int]) -> Mapping[int, Sequence[Record]]:
        """Return the records of the suppression list that concern some of these jobs, by their indexes."""
        if not indexes:
            return {}
        groups = {index: listed_groups(jobs[index].parties, store_id=self._store.id) for index in indexes}
        keys = [(group, "") for group in dict.fromkeys(group for of_job in groups.values() for group in of_job)]
        found = (await self._store.records({SUPPRESSED: keys}, now=self._store.clock.now()))[SUPPRESSED]
        return {index: [each for each in found if each.group in of_job] for index, of_job in groups.items()}

    async def listed(self, calls: Sequence[CheckedCall]) -> Mapping[int, SuppressedNumber]:
        """Return the suppressed numbers because of which calls would be refused, by the indexes of the calls."""
        return await self._numbers_listed(self._jobs(dict(enumerate(calls)), self._store.clock.now())[0])

    async def _numbers_listed(self, jobs: Mapping[int, Job]) -> Mapping[int, SuppressedNumber]:
        listed = await self._suppression.entries_of([number for job in jobs.values() for number in job.parties])
        found = ((index, _refused(job, index, listed)) for index, job in jobs.items() if listed)
        return {index: why for index, why in found if why is not None}

    async def require_open(self, batch_ids: Collection[str | None]) -> None:
        """Raise InvalidInputError if one of these batches was cancelled."""
        keys = [(self._queue, batch_id) for batch_id in batch_ids if batch_id is not None]
        if not keys:
            return
        found = await self._store.records({CANCELLED: keys, BATCH: keys}, now=self._store.clock.now())
        self._named |= {record.member for record in found[BATCH]}
        for record in found[CANCELLED]:
            raise _was_cancelled(record.member)


def _refused(job: Job, index: int, listed: Mapping[str, Suppression]) -> SuppressedNumber | None:
    """Return why entries of the suppression list forbid a job, if they do."""
    found = why_refused(job, listed)
    return None if found is None else SuppressedNumber(index=index, number=found[0], reason=found[1])


def _was_cancelled(batch_id: str | None) -> InvalidInputError:
    return InvalidInputError(
        f"batch {batch_id} was cancelled, and its calls are never sent; nothing was enqueued. Take another `batch`."
    )


def further_numbers(encoded: EncodedBody, numbers: Sequence[str]) -> tuple[str, ...]:
    """Return the further numbers of a person in their usual form, each telephone once.

    Raises PhoneNumberError for a text that is not certainly a number, and CallFlowError for a number that the flow also
    bridges to the call, and for more than `MOST_NUMBERS`.
    """
    if not numbers:
        return ()
    kept = {phone_identity(encoded.destination): encoded.destination}
    for number in numbers:
        known = canonical_number(read_number(number))
        kept.setdefault(phone_identity(known), known)
    bridged = {phone_identity(number): number for number in second_parties(encoded.stored)}
    if both := [number for telephone, number in kept.items() if telephone in bridged]:
        raise CallFlowError(
            [Finding(message=f"{both[0]} is a number of the person, and the flow bridges the call to it")]
        )
    if len(kept) > MOST_NUMBERS:
        raise CallFlowError([Finding(message=f"a person with {len(kept)} numbers; at most {MOST_NUMBERS} are called")])
    return tuple(kept.values())[1:]


def call_digest(canonical: str, further: Sequence[str]) -> str:
    """Return the digest that distinguishes two calls with the same unique key: of the body, and of further numbers."""
    return body_digest("\n".join((canonical, *further)))


def new_job(
    call: CheckedCall,
    *,
    job_id: str,
    revision: str,
    queue: str,
    at: datetime,
    redial: RedialPolicy | None = None,
    token: str | None = None,
) -> Job:
    """Return the job of a checked call, with the `token` of its import; `redial` is for one without its own.

    Raises `CallFlowError` with every finding: a `valid_until` in the past or before `not_before` (-1015), a time
    without a zone, a priority out of range, a text that no store can keep.
    """
    findings = admission_findings(call.priority, not_before=call.not_before, valid_until=call.valid_until, at=at)
    texts = text_findings(
        {"unique_key": call.unique_key, "batch_id": call.batch_id, "time_zone": call.time_zone, "menu": call.menu}
    )
    if not texts and call.batch_id is not None and len(call.batch_id) > MAX_ID_CHARACTERS:
        message = (
            f"the batch id {call.batch_id!r} has {len(call.batch_id)} characters; 8x8 takes at most {MAX_ID_CHARACTERS}"
        )
        findings.append(Finding(message=message, code=-1009, path="$.clientBatchId"))
    findings += texts
    if findings:
        raise CallFlowError(findings)
    due_at = max(at, call.not_before) if call.not_before else at
    time_zone = call.time_zone
    if call.window is not None:
        opening = first_opening(
            call.window, numbers=call.numbers, time_zone=time_zone, at=due_at, valid_until=call.valid_until
        )
        if opening.problem is not None:
            raise CallFlowError([opening.problem])
        due_at, time_zone = opening.at, opening.time_zone
    return Job(
        id=job_id,
        queue=queue,
        state=JobState.QUEUED,
        due_at=due_at,
        revision=revision,
        worker_id=token,
        priority=call.priority,
        batch_id=call.batch_id,
        destination=call.destination,
        unique_key=call.unique_key,
        valid_until=call.valid_until,
        body=call.body,
        body_digest=call.digest,
        source=call.source,
        created_at=at,
        not_before=call.not_before,
        time_zone=time_zone,
        redial=call.redial if call.redial is not None else redial,
        window=call.window,
        data=call.data,
        menu=call.menu,
        further_numbers=call.further_numbers,
        validity=call.validity,
    )


def _is_refused(done: Mapping[int, AdmissionResult]) -> bool:
    return any(each.suppressed is not None or each.findings for each in done.values())


def _of_each(parts: Sequence[Write], answer: WriteResult) -> Sequence[WriteResult | None]:
    """Return the answer to new calls that are stored together for each: None if it was refused for another."""
    if answer.result is Result.NOT_FREE:
        return [answer if answer.condition in part.conditions else None for part in parts]
    if answer.result is Result.EXISTS:
        return [answer if part.changes[-1].job.id in answer.owners else None for part in parts]
    return [answer] * len(parts)


def _may_become(stored: Job | None, asked: Job) -> bool:
    """Return whether a stored call may be changed to what is asked for: it waits, in the same queue and batch."""
    is_same = stored is not None and (stored.queue, stored.batch_id) == (asked.queue, asked.batch_id)
    return is_same and stored is not None and is_changeable(stored)


def _twice(jobs: Mapping[int, Job]) -> dict[int, Owner]:
    """Return the jobs that another one before them has the unique key of, by their indexes."""
    first: dict[str, Job] = {}
    owners: dict[int, Owner] = {}
    for index, job in jobs.items():
        if job.unique_key is not None and (other := first.setdefault(job.unique_key, job)) is not job:
            owners[index] = Owner(other.id, other.body_digest, other.state)
    return owners


def _differ(job: Job, owner: Owner, owned: Job | None, *, replaces: bool = False) -> tuple[str, ...]:
    """In what the owner of the key of a job is not what is asked for; of one that cannot be read, by its digest.

    A call that was changed is still the one as which it was enqueued, unless the stored call is to be replaced.
    """
    if owned is None:
        return () if owner.body_digest == job.body_digest else ("text",)
    if owned.edits is not None and not replaces and asked_digest(job) == owned.edits.made:
        return ()
    return differences(job, owned)


def _owner_in_record(job: Job, answer: WriteResult) -> Owner | None:
    """Return the owner of the job's key, by the record of a call that was erased: that counts as this one."""
    if not isinstance(answer.condition, AtMost) or answer.condition.namespace != KEYS:
        return None
    job_id, state, *_ = ("" if answer.record is None else f"{answer.record.value}  ").split(" ")
    return Owner(job_id, job.body_digest, state)


def _as_reported(owner: Owner, job: Job) -> Job:
    """Return the job that owns the key of this job, from its head, because it has just been deleted."""
    known = owner.state in set(JobState)
    return replace(job, id=owner.job_id, state=JobState(owner.state) if known else JobState.IN_DOUBT)


def _joined(errors: Mapping[int, InvalidInputError], count: int) -> InvalidInputError:
    """Return the one error for `count` requests, from the errors of some of them, by their indexes."""
    if count == 1:
        return errors[0]
    findings: list[Finding] = []
    for index, error in sorted(errors.items()):
        found = error.findings if isinstance(error, CallFlowError) else [Finding(message=str(error))]
        findings += [replace(each, message=f"requests[{index}]: {each.message}") for each in found]
    return CallFlowError(findings)
