"""Escalations: whom to call until somebody presses a key. Each is a batch of calls with times; the key cancels it.

The calls are stored at once, and each is due at its own time, so nothing has to advance an escalation. What a worker
adds is `follow`: when each call of a step has ended without the key, the next step of its round is called now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self, TypeAlias

import structlog
from anyio import to_thread

from voiceflow_worker.core.admission import Admitter, CallRequest, CheckedCall
from voiceflow_worker.core.audit import Actor, AuditEntry, audited
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.identity import BATCH
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.base.record_set import record_pages
from voiceflow_worker.core.ports.controls import CANCELLED
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Key, Put, Record, Result, Same, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.errors import (
    CallFlowError,
    InvalidInputError,
    KeyConflictError,
    OtherRequestError,
    SuppressedNumberError,
)
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.menu_data import acknowledgement
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, certain_zone, first_opening
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.jobs.admission import text_findings
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.arguments import checked_duration
from voiceflow_worker.model.text.json_text import read_toml
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.speakable import shortened, speakable
from voiceflow_worker.model.text.wording import quoted
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.settings import Settings, read_small
from voiceflow_worker.watched_file import WatchedFile

MOST_CALLS: Final = 50
VALID_FOR: Final = timedelta(hours=1)
"""The time for which a call of an escalation is valid after it is due."""
ON_CALL: Final = "on-call"
"""Namespace of the escalations of which a call may still ring: batches, in the group of their queue, with the most
calls that they have."""
LOOK_EVERY, WITHOUT_ANY = 1.0, 5.0
Policies: TypeAlias = Mapping[str, Mapping[str, object]]
"""The fields of each policy, as `Escalation.of` reads them, by its name."""
_PRIORITY: Final = 1_000
_ANY_TEXT: Final = "An alert."
_KEPT: Final = timedelta(days=1)
_NO_REDIAL = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
_OPEN = (JobState.QUEUED, JobState.LEASED, JobState.SENDING, JobState.SUBMITTED)
_MARK: Final = "."
"""The sign in a call's digest between that of its body and that of the request for its escalation."""
_CLOSED: Final = "its calling window is closed in a round, or in all"
_COUNTED: Counter[str] = Counter()

_log = structlog.get_logger("voiceflow.on_call")


class NobodyToCallError(InvalidInputError):
    """Raised when an escalation has no number that can be called; nothing was stored."""


class Turn(NamedTuple):
    """One call of an escalation: its number in E.164 form, its time, and its round and step, from 1."""

    number: str
    at: datetime
    round: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Whom to call until somebody presses `key`, and what to say.

    `say` is spoken, as `speakable` makes it and cut after 500 characters, and then "Press 1 to acknowledge." A step is
    one of the `numbers`, or a list of numbers that are called at once; one step is called after the other, `every` so
    often, in so many `rounds`. A number is there once in a round, and an escalation has at most 50 calls. National
    numbers need `country`. Left out are numbers that cannot be called, that are on the suppression list, and whose
    `window` is closed when their turn comes. `policy` is the name of the policy that this is from. Raises
    InvalidInputError.
    """

    numbers: Sequence[str | Sequence[str]]
    say: str
    source: str
    voice_profile: str
    key: str = "1"
    every: timedelta = timedelta(minutes=2)
    rounds: int = 3
    country: str | None = None
    window: CallWindow | CountryWindows | None = None
    policy: str | None = None
    _steps: Sequence[Sequence[str]] = field(init=False, repr=False)
    _misfits: Sequence[tuple[int, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Here and below: a worker needs nothing of campaigns.
        from voiceflow_worker.campaigns.reading import refused

        checked_duration("every", self.every, positive=True)
        object.__setattr__(self, "say", shortened(speakable(self.say)))
        if problem := next(self._problems(), None):
            raise refused([problem])
        if findings := text_findings({"say": self.say, "source": self.source, "voice_profile": self.voice_profile}):
            raise CallFlowError(findings)
        place, steps, misfits = 0, list[Sequence[str]](), list[tuple[int, str]]()
        for each in self.numbers:
            step: list[str] = []
            for given in (each,) if isinstance(each, str) else each:
                place += 1
                try:
                    step.append(self._callable(given))
                except InvalidInputError as error:
                    why = "; ".join(found.message for found in error.findings) or str(error)
                    misfits.append((place, why))
            steps += [tuple(step)] if step else []
        twice = [number for number, count in Counter(number for step in steps for number in step).items() if count > 1]
        if twice:
            raise refused([("numbers", f"{twice[0]} is there twice; each round calls a number once")])
        object.__setattr__(self, "_steps", tuple(steps))
        object.__setattr__(self, "_misfits", tuple(misfits))

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yield the fields that are wrong, each with the reason."""
        count = sum(1 if isinstance(each, str) else len(each) for each in self.numbers)
        if not count or any(not each for each in self.numbers):
            yield "numbers", "give a list of numbers, in the order of the calls"
        for name in ("say", "source", "voice_profile"):
            if not getattr(self, name).strip():
                yield name, "it is empty; give a text"
        if len(self.key) != 1 or self.key not in "0123456789":
            yield "key", f"{self.key[:60]!r} is not a key that can acknowledge; give one digit"
        if self.rounds < 1 or count * self.rounds > MOST_CALLS:
            calls = f"{count * self.rounds} calls in {self.rounds} rounds"
            yield "rounds", f"{calls} are not 1 to {MOST_CALLS}; give fewer numbers or rounds"

    def _callable(self, given: str) -> str:
        """Return a number in E.164 form. Raises InvalidInputError if it cannot be called."""
        number = read_number(given, self.country)
        self._flow(number).validated()
        window = None if self.window is None else CountryWindows.of(self.window).to([number])
        if window is not None and window.time_zone is None:
            certain_zone([number])
        return number

    @classmethod
    def of(
        cls,
        given: Mapping[str, object],
        *,
        settings: Settings | None = None,
        policies: Policies | None = None,
    ) -> Self:
        """Return the escalation with these fields, as texts or values; `numbers` is a list, or has commas.

        The fields that a campaign has too have its names and forms (`Campaign.of`). `policy` names one of `policies`,
        by default those of the file in the settings; its fields count where they are not given here. What is given
        nowhere comes from the `settings`. Raises InvalidInputError, with a finding for each unknown and wrong field.
        """
        from voiceflow_worker.campaigns.campaign import read_fields, window_of
        from voiceflow_worker.campaigns.fields import HOURS
        from voiceflow_worker.campaigns.reading import Of

        if policies is None and given.get("policy") is not None and settings is not None and settings.escalations:
            policies = read_policies(settings.escalations, settings=settings)
        reading = read_fields(Of.ESCALATION, _with_policy(given, policies), settings=settings, foreign=True)
        for name, why in _NEEDED.items():
            is_empty = not reading.has(name) or (name == "numbers" and reading.value(name) is None)
            if is_empty and reading.shown(name) not in dict(reading.problems):
                reading.problem(name, why)
        values = {each.sets or name: reading.value(name) for name, each in reading.fields.items() if reading.has(name)}
        for name in ("source", "voice_profile"):
            if not reading.has(name):
                values[name] = reading.default(name)
                if not values[name]:
                    reading.problem(name, f"it is missing; give it, or set VOICEFLOW_{name.upper()}")
        window = window_of(reading)
        reading.refuse()
        for name in HOURS:
            values.pop(name, None)
        return cls(**values, window=window)

    @property
    def misfits(self) -> Sequence[tuple[int, str]]:
        """Numbers that cannot be called, by their place from 1, and why."""
        return self._misfits

    @property
    def callable(self) -> Sequence[str]:
        """Numbers that can be called, in E.164 form."""
        return [number for step in self._steps for number in step]

    def turns(self, *, begin: datetime, without: Collection[str] = ()) -> list[Turn]:
        """Return the calls that can be made to numbers but those `without`, in the order of their times.

        Each round begins at its time. In it, a step of which nobody can be called is left out, and the next takes its
        time.
        """
        kept = ([number for number in step if number not in without] for step in self._steps)
        steps, found = [step for step in kept if step], list[Turn]()
        for round_number in range(1, self.rounds + 1):
            step = (round_number - 1) * len(steps)
            for numbers in steps:
                at = begin + step * self.every
                called = [number for number in numbers if is_open(self.window, number, at=at)]
                found += [Turn(number, at, round_number, step + 1) for number in called]
                step += bool(called)
        return found

    def request(self, turn: Turn, *, batch: str, place: int) -> CallRequest:
        """Return the call of a turn, as number `place` of its batch."""
        return CallRequest(
            self._flow(turn.number),
            unique_key=f"{batch}/{place}",
            batch=batch,
            priority=_PRIORITY,
            not_before=turn.at,
            valid_until=turn.at + VALID_FOR,
            redial=_NO_REDIAL,
            window=None if self.window is None else CountryWindows.of(self.window),
            data={**self._data, "round": turn.round, "step": turn.step},
            menu=acknowledgement(self.key, voice_profile=self.voice_profile).name,
        )

    def _flow(self, number: str) -> Any:
        menu = acknowledgement(self.key, voice_profile=self.voice_profile)
        return menu.call(number, source=self.source, data=self._data)

    @property
    def _data(self) -> dict[str, object]:
        return {"question": self.say}

    def menu_put(self) -> Put:
        """Return the record of the menu of the calls."""
        menu = acknowledgement(self.key, voice_profile=self.voice_profile)
        return Put(MENUS, menu.name, menu.definition, None)


_NEEDED: Final = {
    "numbers": "it is missing; give a list of numbers, in the order of the calls, or a policy",
    "say": "it is missing; give a text",
}


def is_open(window: CallWindow | CountryWindows | None, number: str, *, at: datetime) -> bool:
    """Return whether a window is open at this time for a number."""
    found = None if window is None else CountryWindows.of(window).to([number])
    if found is None:
        return True
    opening = first_opening(found, numbers=[number], time_zone=None, at=at, valid_until=None)
    return opening.problem is None and opening.at <= at


def _report_left_out(escalation: Escalation, turns: Sequence[Turn], listed: Mapping[str, str], *, batch: str) -> None:
    """Warn of the numbers of which no call, or not one in each round, was made, and count them."""
    calls = Counter(turn.number for turn in turns)
    closed = {number: _CLOSED for number in escalation.callable if calls[number] < escalation.rounds}
    misfits = {f"number {place}": why for place, why in escalation.misfits}
    for number, why in {**misfits, **closed, **listed}.items():
        _COUNTED["left_out"] += 1
        _log.warning("a number of an escalation is left out", batch=batch, number=number, reason=why)


# -- starting ---------------------------------------------------------------------------------------------------------


async def start_escalation(
    queue: CallQueue,
    escalation: Escalation,
    *,
    name: str,
    begin: datetime | None = None,
    request: str = "",
    by: Actor | None = None,
) -> bool:
    """Store the calls of an escalation as batch `name`; return whether it is new. The same again adds nothing.

    All calls that can be made are stored in one write, and rung from `begin` on, by default now. `request` is a digest
    of what was asked for, and `by` is who asked, for the audit log. Raises NobodyToCallError, OtherRequestError if the
    batch was started by another request, InvalidInputError if it was cancelled before, and StoreError.
    """
    store, now = queue.store, queue.store.clock.now()
    if (await read_states(queue, [name]))[name] is not State.MISSING:
        await require_same(queue, name, request)
        return False
    begin, listed = now if begin is None else begin, dict[str, str]()
    while turns := escalation.turns(begin=begin, without=listed):
        requests = [escalation.request(turn, batch=name, place=place) for place, turn in enumerate(turns, 1)]
        calls = [CheckedCall.of(each, at=now) for each in requests]
        calls = [each._replace(digest=f"{each.digest}{_MARK}{request}") for each in calls]
        until = max(turn.at for turn in turns) + VALID_FOR + _KEPT
        index = Put(ON_CALL, queue.name, str(len(calls)), until, member=name)
        await store.write(BulkWrite(writes=(Write(puts=(escalation.menu_put(), index)),)), now=now)
        try:
            await _store_calls(queue, calls, name=name, by=by)
        except SuppressedNumberError as error:
            listed |= {turns[each.index].number: each.reason for each in error.suppressed}
        except KeyConflictError:  # somebody else was quicker
            await require_same(queue, name, request)
            return False
        else:
            _report_left_out(escalation, turns, listed, batch=name)
            return True
    why = "; ".join(f"number {place}: {why}" for place, why in escalation.misfits)
    raise NobodyToCallError(
        "no number can be called: each is no number, on the suppression list, or outside of its calling window"
        f"{f' ({why})' if why else ''}. Give a number that can be called"
    )


async def _store_calls(queue: CallQueue, calls: Sequence[CheckedCall], *, name: str, by: Actor | None) -> None:
    """Store these calls, all or none; the audit log has who ordered them. Raises the errors of `admit_all`."""
    if by is None:
        await queue.admitter.admit_all(calls)
        return
    numbers = tuple(dict.fromkeys(each.destination for each in calls))
    now, result = queue.store.clock.now(), f"began escalation {name}"
    entry = AuditEntry.of(by, "escalate", at=now, queue=queue.name, batch=name, numbers=numbers, result=result)
    async with audited(queue.store, entry) as store:
        await Admitter(store.store, queue.name, redial=None, policy=queue.policy).admit_all(calls)


async def require_same(queue: CallQueue, name: str, request: str) -> None:
    """Raise OtherRequestError if a batch was started by another request."""
    for job in await find_jobs(queue.store, ByKey((f"{name}/1",))):
        if job.body_digest.partition(_MARK)[2] != request:
            raise OtherRequestError(
                f"the key belongs to another request, whose batch is {name}. Nothing was done; give this request a key "
                "of its own"
            )


class State(Enum):
    """The state of an escalation: without calls, with calls that may ring, cancelled (by key too), or unanswered."""

    MISSING = "missing"
    OPEN = "open"
    CANCELLED = "cancelled"
    UNANSWERED = "unanswered"


async def read_states(queue: CallQueue, batches: Sequence[str]) -> dict[str, State]:
    """Return the state of each of these escalations. Calls in doubt do not count as open. Raises StoreError."""
    if not (names := sorted(set(batches))):
        return {}
    keys: list[str | Key] = [(queue.name, name) for name in names]
    found = await queue.store.records({BATCH: keys, CANCELLED: keys}, now=queue.store.clock.now())
    made, cancelled = ({record.member for record in found[each]} for each in (BATCH, CANCELLED))
    totals = await queue.store.totals(queue.name, batches=names)

    def state(name: str, states: Mapping[JobState, int]) -> State:
        if name in cancelled:
            return State.CANCELLED
        if name not in made:
            return State.MISSING
        return State.OPEN if any(states.get(each) for each in _OPEN) else State.UNANSWERED

    return {name: state(name, each.states) for name, each in zip(names, totals, strict=True)}


# -- following --------------------------------------------------------------------------------------------------------


async def follow(queue: CallQueue) -> bool:
    """Call the next step now where each call of a step has ended; report what nobody acknowledged. Raises StoreError.

    Return whether there is any escalation. The first step of a round keeps its time. Any number of processes may
    follow.
    """
    has_any = False
    async for page in record_pages(queue.store, ON_CALL, group=queue.name):
        has_any = has_any or bool(page)
        states = await read_states(queue, [record.member for record in page])
        for record in page:
            state = states[record.member]
            if state is State.OPEN:
                await _move(queue, record)
                continue
            if state is State.CANCELLED:  # its waiting calls end now, not with the next sweep
                changes = Changes(queue.store, queue.policy)
                await Sweeper(queue.store, queue=queue.name, policy=queue.policy, changes=changes).end_cancelled()
            if state is not State.MISSING and await _is_dropped(queue, record) and state is State.UNANSWERED:
                _COUNTED["unanswered"] += 1
                _log.warning("nobody has acknowledged an escalation", queue=queue.name, batch=record.member)
    return has_any


async def _is_dropped(queue: CallQueue, record: Record) -> bool:
    """Drop the record of an escalation of which no call may ring; return whether this process did."""
    condition = Same(ON_CALL, record.group, record.value, record.member)
    write = Write(conditions=(condition,), drops=(Drop(ON_CALL, record.group, record.value, record.member),))
    (answer,) = await queue.store.write(BulkWrite(writes=(write,)), now=queue.store.clock.now())
    return answer.result is Result.DONE


async def _move(queue: CallQueue, record: Record) -> None:
    """Make the step due now that follows one of whose calls each has ended, in the same round."""
    keys = tuple(f"{record.member}/{place}" for place in range(1, int(record.value) + 1))
    jobs = [job for job in await find_jobs(queue.store, ByKey(keys)) if job.data]
    now = queue.store.clock.now()
    steps = [list(calls) for _, calls in groupby(sorted(jobs, key=_turn_of), key=_turn_of)]
    for before, step in pairwise(steps):
        is_next = _turn_of(before[0])[0] == _turn_of(step[0])[0] and all(_is_over(job) for job in before)
        waiting = [job for job in step if job.state is JobState.QUEUED and job.due_at > now and not job.posts]
        if is_next and len(waiting) == len(step):
            due = [job for job in waiting if is_open(job.window, job.number, at=now)]
            await Changes(queue.store, queue.policy).change_all(due, partial(_due_now, at=now))


def _turn_of(job: Job) -> tuple[int, int]:
    """Return the round and the step of a call."""
    data = job.data or {}
    return int(str(data.get("round", 0))), int(str(data.get("step", 0)))


def _is_over(job: Job) -> bool:
    return job.state.is_final or job.state is JobState.IN_DOUBT


def _due_now(job: Job, *, at: datetime) -> Job:
    """Return a call that waits for its time as one that is due."""
    return replace(job, not_before=at, due_at=at) if job.state is JobState.QUEUED and job.due_at > at else job


def following(queue: CallQueue) -> AbstractAsyncContextManager[None]:
    """Follow the escalations of a queue while the block lasts: each second, more seldom while there are none."""
    what, every = "the steps of escalations were not looked at", LOOK_EVERY

    async def look() -> None:
        nonlocal every
        every = LOOK_EVERY if await follow(queue) else WITHOUT_ANY

    return BackgroundTasks(queue.store.clock).repeated(what, look, every=lambda: every)


def counted_here() -> Mapping[str, int]:
    """Return how many escalations this process found `unanswered`, and how many calls it has `left_out`."""
    return {name: _COUNTED[name] for name in ("unanswered", "left_out")}


# -- policies ---------------------------------------------------------------------------------------------------------


def read_policies(path: Path, *, settings: Settings | None) -> Policies:
    """Return the policies in a TOML file: each table is one, with fields of an escalation. `say` may be left out.

    Raises InvalidInputError, with a finding for each fault of a policy.
    """
    findings: list[Finding] = []
    found: dict[str, Mapping[str, object]] = {}
    for name, fields in read_toml(read_small(path, str(path), str), place=str(path)).items():
        if not is_object(fields) or storing_problem(name) is not None or not name.strip():
            why = "it is no table; write the fields of a policy below its name in brackets, such as [db]"
            findings.append(Finding(file=str(path), column=name[:60], message=why))
            continue
        if "policy" in fields:
            findings.append(Finding(file=str(path), column=f"{name}.policy", message="a policy cannot name another"))
            continue
        try:
            misfits = Escalation.of({"say": _ANY_TEXT, **fields}, settings=settings).misfits
            wrong = [Finding(column="numbers", message=f"number {place}: {why}") for place, why in misfits]
        except InvalidInputError as error:
            wrong = list(error.findings) or [Finding(message=str(error))]
        findings += [
            Finding(file=str(path), column=".".join(filter(None, (name, each.column))), message=each.message)
            for each in wrong
        ]
        found[name] = MappingProxyType(dict(fields))
    if findings:
        said = "; ".join(f"{each.column}: {each.message}" if each.column else each.message for each in findings)
        raise InvalidInputError(f"{path}: {said}").found(*findings)
    return MappingProxyType(found)


def _with_policy(given: Mapping[str, object], policies: Policies | None) -> Mapping[str, object]:
    """Return the given fields, and those of their policy. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.reading import refused

    if (name := given.get("policy")) is None:
        return given
    if not isinstance(name, str) or policies is None or name not in policies:
        known = ", ".join(sorted(policies)) if policies else ""
        none = "there are none: name their file by `serve --escalations`, or VOICEFLOW_ESCALATIONS"
        why = f"the policies are {known}" if known else none
        raise refused([("policy", f"{quoted(name, most=60)} is no policy; {why}")])
    if given.get("numbers") is not None:
        raise refused([("numbers", "give the numbers or a policy, not both")])
    return {**policies[name], **{each: value for each, value in given.items() if value is not None}, "policy": name}


class PolicyFile:
    """The policies of a file, as it last was right. Without a path, there are none.

    Raises InvalidInputError if the file is wrong at the start. Later, a wrong file is logged and shown by `problem`,
    and the policies stay as they were.
    """

    def __init__(self, path: Path | None, *, settings: Settings | None) -> None:
        self._file: WatchedFile[Policies] | None = None
        if path is not None:
            read = partial(read_policies, path, settings=settings)
            self._file = WatchedFile(path, read, first=read())

    @property
    def problem(self) -> str | None:
        """Fault of the file as it is now; None if there is none."""
        return None if self._file is None else self._file.problem

    async def current(self) -> Policies:
        """Return the policies as they are now; the file is read again if it has changed."""
        return {} if self._file is None else await to_thread.run_sync(self._file)
