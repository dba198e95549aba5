"""Alerts of Alertmanager and Grafana: what fires, for whom, has one escalation, until it is acknowledged or resolved.

An alert is known by its fingerprint alone. When it began, in which group it is told and who tells it make no other of
it: Prometheus and Alertmanager run in pairs, are restarted, and group as they like. For each fingerprint there is a
record: when it last began, whether it is over, and its escalation for each who is to be called. Every change is a
compare-and-swap of this record, in one write with the escalation that follows from it. So of two notifications at once,
one begins the escalation, and the other finds it; and nothing is lost if the process dies, or its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

import structlog

from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.record_set import json_codec
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Same, Write
from voiceflow_worker.core.writes import LONG_KEPT
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json, is_list, is_object
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    RESOLVED,
    Alarm,
    EscalationRecord,
    EscalationState,
    EscalationStatus,
    FoundEscalation,
    Wording,
)
from voiceflow_worker.service.escalation_store import EscalationStore
from voiceflow_worker.service.escalations import Escalations

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

ALARMS = "alarm"
"""Namespace, in the group of the queue: what is known of alerts, by a digest of their fingerprints."""
REMEMBERED = timedelta(minutes=5)
"""For so long, a firing of an alert that was over before it began is a delayed one, and calls nobody."""
FLAP = timedelta(minutes=10)
"""Within this time, an alert that nobody acknowledged and that was resolved goes on with its escalation."""
FORGOTTEN = timedelta(hours=24)
"""After this time without a word of an alert, a later start is another firing: its end may never have been told."""
_HEARD_EVERY = timedelta(hours=1)
_OVER_KEPT = timedelta(days=7)
_CLOCKS_DIFFER = timedelta(hours=1)
_TRIES = 20

_log = structlog.get_logger("voiceflow.escalation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it was told: by its `mark`, a digest of its fingerprint."""

    mark: str
    text: str
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """The alerts of one notification: those that fire and those that are resolved, by their marks.

    `left_out` is the number of alerts that the sender has cut off the notification.
    """

    firing: Mapping[str, Alert]
    resolved: Mapping[str, Alert]
    left_out: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The alerts in the body of a webhook of Alertmanager (version 4), or of Grafana, which has the same fields.

        Raises InvalidInputError for another body.
        """
        given = body.get("alerts")
        alerts = [alert for alert in given if is_object(alert)] if is_list(given) else []
        if not alerts or not is_list(given) or len(alerts) < len(given):
            raise _misfit("alerts", "give the list of alerts, as Alertmanager sends it")
        firing: dict[str, Alert] = {}
        resolved: dict[str, Alert] = {}
        for each in alerts:
            status, began = each.get("status") or body.get("status"), each.get("startsAt")
            if status not in ("firing", "resolved"):
                raise _misfit("status", "it is neither firing nor resolved")
            if not isinstance(began, str):
                raise _misfit("startsAt", "each alert needs the time at which it began to fire")
            alert = Alert(
                mark=_digest(each.get("fingerprint") or each.get("labels")),
                text=_said(each),
                started_at=_time(began),
                ended_at=_time(each.get("endsAt")) if status == "resolved" else None,
            )
            (firing if status == "firing" else resolved)[alert.mark] = alert
        left_out = body.get("truncatedAlerts")
        return cls(firing=firing, resolved=resolved, left_out=left_out if isinstance(left_out, int) else 0)

    def escalation(
        self, fields: Mapping[str, object], *, settings: Settings, policies: Mapping[str, Mapping[str, object]] | None
    ) -> tuple[Escalation, Wording | None]:
        """The escalation with these fields for the alerts that fire, and how they are spoken if no field says it.

        Raises the errors of `Escalation.of`; one number that can be called is enough.
        """
        wording = Wording(left_out=self.left_out)
        said = wording.of([Alarm(mark=each.mark, text=each.text) for each in self.firing.values()])
        policy = fields.get("policy")
        own = policies.get(policy) if policies is not None and isinstance(policy, str) else None
        has_words = fields.get("say") is not None or (own is not None and own.get("say") is not None)
        given = fields if has_words else {**fields, "say": said}
        read = Escalation.of(given, settings=settings, any_number=True, policies=policies)
        return read, wording if given is not fields else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardAlerts:
    """What became of the alerts that fire: their escalations, those first that were begun now.

    `blocked` says why nobody can be called for one of them now. `late` are alerts that were over before they were told.
    """

    statuses: Sequence[EscalationStatus] = ()
    begun: bool = False
    late: int = 0

    @property
    def blocked(self) -> str | None:
        """Why nobody can be called now for an open escalation of these alerts; None if somebody can."""
        return next((each.blocked for each in self.statuses if each.blocked is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRecord:
    """What is known of an alert. `escalations` has the newest one for each who is to be called (`Escalation.target`).

    `started_at` is the latest start. `over_at` is set while it does not fire: the time at which it ended, and `over` is
    when that was told.
    """

    started_at: datetime | None
    heard_at: datetime
    over_at: datetime | None = None
    over: datetime | None = None
    escalations: Mapping[str, str] = field(default_factory=dict[str, str])
    token: str = field(default_factory=new_revision)


class _Judged(Enum):
    """What a firing alert needs."""

    KNOWN = "its escalation is open, or somebody has acknowledged or stopped it"
    LATE = "it was over before its notification came"
    NEW = "a new escalation"
    AGAIN = "its escalation goes on"


@dataclass(slots=True)
class _Plan:
    """What the firing alerts of a notification need, by their marks."""

    new: dict[str, None] = field(default_factory=dict[str, None])
    not_before_reason: dict[str, tuple[datetime, str]] = field(default_factory=dict[str, tuple[datetime, str]])
    again: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    known: dict[str, None] = field(default_factory=dict[str, None])
    late: dict[str, None] = field(default_factory=dict[str, None])


_Known = Mapping[str, tuple[str | None, AlarmRecord | None]]
"""The text of each record and what it says, by the mark of the alert; None if there is none."""


class Alarms:
    """The alerts of one queue."""

    def __init__(self, escalations: Escalations) -> None:
        self._escalations = escalations
        self._records = EscalationStore(escalations.queue)
        self._store = escalations.queue.store
        self._group = escalations.queue.name

    async def resolve(self, alerts: Mapping[str, Alert]) -> None:
        """End the escalations that are about resolved alerts alone, whoever was to be called. It may be repeated.

        When this returns, nobody is called any more for an alert that is over. It is remembered, so that a firing that
        was delayed calls nobody. Raises StoreError.
        """
        left = dict(alerts)
        for _ in range(_TRIES):
            if not left:
                break
            known, now = await self._read(left), self._store.clock.now()
            writes: dict[str, Write] = {}
            for mark, alert in left.items():
                text, record = known[mark]
                over = now if alert.ended_at is None or alert.ended_at > now + _CLOCKS_DIFFER else alert.ended_at
                if record is not None and record.started_at is not None and record.started_at > over:
                    continue  # it has begun to fire again since
                if record is None:
                    record = AlarmRecord(started_at=alert.started_at, heard_at=now)
                elif record.over_at is not None and record.over_at >= over:
                    continue
                ended = replace(record, over_at=over, over=now, heard_at=now)
                writes[mark] = self._limits_write(mark, text, ended, ends_at=now + _OVER_KEPT)
            left = await self._refused(writes, left)
        else:
            raise _contended()
        known = await self._read(alerts)
        ids: dict[str, list[str]] = {}
        for mark, (_, record) in known.items():
            if record is not None and record.over_at is not None:
                for escalation_id in record.escalations.values():
                    ids.setdefault(escalation_id, []).append(mark)
        for found in (await self._records.read(ids)).values():
            await self._resolve_in(found, ids[found.id])

    async def _resolve_in(self, found: FoundEscalation, marks: Sequence[str]) -> None:
        """End these alarms of an escalation, and the escalation if it has no others."""
        for _ in range(_TRIES):
            record = found.record
            concerns = [each.mark for each in record.alarms if each.mark in marks and not each.ended]
            known = await self._read(concerns)
            over = {mark: text for mark, (text, each) in known.items() if each is not None and each.over_at is not None}
            if not over or record.state not in {EscalationState.OPEN, EscalationState.UNANSWERED}:
                break
            conditions = [Same(ALARMS, self._group, text, mark) for mark, text in over.items()]
            new = replace(found, record=record.with_alarms(dict.fromkeys(over, True)))
            if record.state is EscalationState.OPEN and new.record.has_ended_alarms:
                done = await self._escalations.end(new, EscalationState.STOPPED, reason=RESOLVED, conditions=conditions)
            else:
                done = await self._records.write(found, new.record, conditions=conditions)
            found = await self._records.get(found.id)
            if done:
                break
        else:
            raise _contended()
        await self._escalations.until_left(found)

    async def fire(self, alerts: Alerts, escalation: Escalation, *, wording: Wording | None) -> HeardAlerts:
        """See to it that each alert that fires has an escalation for whom this one calls.

        The new ones get one together, which says what `wording` makes of them. Those that nobody has acknowledged in
        their rounds get further rounds. A notification that comes again changes nothing else. Raises StoreError.
        """
        target = escalation.target()
        begun: dict[str, None] = {}
        for _ in range(_TRIES):
            known = await self._read(alerts.firing)
            ids = {mark: record.escalations.get(target) for mark, (_, record) in known.items() if record is not None}
            found = await self._records.read(each for each in ids.values() if each is not None)
            standing = {mark: found.get(each or "") for mark, each in ids.items()}
            plan = self._plan(alerts.firing, known, standing, escalation)
            done, ids_now = await self._carry_out(plan, alerts, known, found, escalation=escalation, wording=wording)
            begun |= dict.fromkeys(ids_now)
            if done:
                break
        else:
            raise _contended()
        statuses = [await self._escalations.advance(each) for each in begun]
        others = {each: None for mark in plan.known if (each := ids.get(mark)) is not None and each not in begun}
        snapshot = await self._records.snapshot({found[each].batch_id for each in others})
        for each in others:
            why = snapshot.blocked(found[each]) if found[each].record.state is EscalationState.OPEN else None
            statuses.append(replace(found[each], blocked=None if why is None else why[1]).shown())
        return HeardAlerts(statuses=statuses, begun=bool(begun), late=len(plan.late))

    def _plan(
        self,
        alerts: Mapping[str, Alert],
        known: _Known,
        found: Mapping[str, FoundEscalation | None],
        escalation: Escalation,
    ) -> _Plan:
        plan, now = _Plan(), self._store.clock.now()
        for mark, alert in alerts.items():
            record, standing = known[mark][1], found.get(mark)
            match _judged(alert, record, standing, now):
                case _Judged.KNOWN:
                    plan.known[mark] = None
                case _Judged.LATE:
                    plan.late[mark] = None
                case _Judged.AGAIN:
                    if standing is not None:
                        plan.again.setdefault(standing.id, []).append(mark)
                case _Judged.NEW:
                    done = None if standing is None else standing.record.acknowledged
                    if done is not None and now < done.at + escalation.rest:
                        why = f"{done.who} acknowledged this alert at {in_words(done.at)}"
                        plan.not_before_reason[mark] = (done.at + escalation.rest, why)
                    else:
                        plan.new[mark] = None
        return plan

    async def _carry_out(
        self,
        plan: _Plan,
        alerts: Alerts,
        known: _Known,
        found: Mapping[str, FoundEscalation],
        *,
        escalation: Escalation,
        wording: Wording | None,
    ) -> tuple[bool, list[str]]:
        """Write what a plan says. Returns whether all of it was written, and the ids of escalations that go on."""
        now, target = self._store.clock.now(), escalation.target()
        writes: list[Write] = []
        begun: list[str | None] = []
        for marks, rests in ((list(plan.new), False), (list(plan.not_before_reason), True)):
            if not marks:
                continue
            escalation_id = f"{self._group}.alarm-{new_revision()}"
            until, why = max(plan.not_before_reason[mark] for mark in marks) if rests else (None, None)
            alarms = [Alarm(mark=mark, text=alerts.firing[mark].text) for mark in marks]
            said = escalation if wording is None else replace(escalation, say=wording.of(alarms))
            record = EscalationRecord.new(
                said, key=escalation_id.partition(".")[2], request_digest="", at=now, alarms=alarms, wording=wording,
                not_before=until, not_before_reason=why,
            )  # fmt: skip
            conditions, puts = self._firing(marks, alerts, known, {target: escalation_id})
            writes.append(self._records.creation(escalation_id, record, conditions=conditions, puts=puts))
            begun.append(escalation_id)
        for escalation_id, marks in plan.again.items():
            each = found[escalation_id]
            on = each.record.with_alarms(dict.fromkeys(marks, False))
            if on.state is not EscalationState.OPEN:
                on = on.restarted(each.size, escalation.rounds, at=now)
            conditions, puts = self._firing(marks, alerts, known, {target: escalation_id})
            writes.append(self._records.replacement(each, on, conditions=conditions, puts=puts))
            begun.append(escalation_id)
        for mark in plan.known:
            heard = known[mark][1]
            if heard is not None and _is_news(alerts.firing[mark], heard, now):
                conditions, puts = self._firing([mark], alerts, known, {})
                writes.append(Write(conditions=tuple(conditions), puts=tuple(puts)))
                begun.append(None)
        if not writes:
            return True, []
        answers = await self._store.write(BulkWrite(writes=tuple(writes)), now=now)
        done = [answer.result is Result.DONE for answer in answers]
        return all(done), [each for each, is_done in zip(begun, done, strict=True) if is_done and each is not None]

    def _firing(
        self, marks: Iterable[str], alerts: Alerts, known: _Known, escalations: Mapping[str, str]
    ) -> tuple[list[Same], list[Put]]:
        """The conditions and the records of alerts that fire, with these escalations by their targets."""
        now = self._store.clock.now()
        conditions: list[Same] = []
        puts: list[Put] = []
        for mark in marks:
            text, record = known[mark]
            started = [each for each in (alerts.firing[mark].started_at, record and record.started_at) if each]
            new = AlarmRecord(
                # Of two clocks that tell, one may be ahead: no alert begins after it was told.
                started_at=min(max(started), now) if started else None,
                heard_at=now,
                escalations={**(record.escalations if record is not None else {}), **escalations},
            )
            write = self._limits_write(mark, text, new, ends_at=now + LONG_KEPT)
            conditions += [condition for condition in write.conditions if isinstance(condition, Same)]
            puts += write.puts
        return conditions, puts

    def _limits_write(self, mark: str, text: str | None, record: AlarmRecord, *, ends_at: datetime) -> Write:
        written = json_codec(AlarmRecord).text(replace(record, token=new_revision()))
        return Write(
            conditions=(Same(ALARMS, self._group, text, mark),),
            puts=(Put(ALARMS, self._group, written, ends_at, member=mark),),
        )

    async def _refused(self, writes: Mapping[str, Write], alerts: Mapping[str, Alert]) -> dict[str, Alert]:
        """Write these writes; returns the alerts of those that were refused, because something has changed."""
        if not writes:
            return {}
        answers = await self._store.write(BulkWrite(writes=tuple(writes.values())), now=self._store.clock.now())
        refused = [mark for mark, answer in zip(writes, answers, strict=True) if answer.result is not Result.DONE]
        return {mark: alerts[mark] for mark in refused}

    async def _read(self, marks: Iterable[str]) -> dict[str, tuple[str | None, AlarmRecord | None]]:
        wanted = list(marks)
        read: dict[str, tuple[str | None, AlarmRecord | None]] = dict.fromkeys(wanted, (None, None))
        if wanted:
            keys = {ALARMS: [(self._group, mark) for mark in wanted]}
            for each in (await self._store.records(keys, now=self._store.clock.now()))[ALARMS]:
                read[each.member] = (each.value, _recalled(each.value))
        return read


def _judged(alert: Alert, record: AlarmRecord | None, found: FoundEscalation | None, now: datetime) -> _Judged:
    """What an alert that fires needs, by what is known of it, and its newest escalation for whom is to be called."""
    if record is None:
        return _Judged.NEW
    began, is_over = alert.started_at, record.over_at is not None
    if began is not None and record.over_at is not None and began <= record.over_at:
        told = record.over or record.heard_at
        if now < told + REMEMBERED:
            return _Judged.LATE
    if found is None:
        return _Judged.NEW
    moved = began is not None and record.started_at is not None and min(began, now) > record.started_at
    is_another = is_over or (moved and now > record.heard_at + FORGOTTEN)
    was_recent = found.record.ended_at is not None and now < found.record.ended_at + FLAP
    match found.record.state:
        case EscalationState.OPEN:
            has_ended = any(each.ended for each in found.record.alarms if each.mark == alert.mark)
            return _Judged.AGAIN if has_ended else _Judged.KNOWN
        case EscalationState.ACKNOWLEDGED:
            return _Judged.NEW if is_another else _Judged.KNOWN
        case EscalationState.UNANSWERED:
            return _Judged.AGAIN if not is_another or was_recent else _Judged.NEW
        case EscalationState.STOPPED if found.record.is_resolved:
            return _Judged.AGAIN if was_recent else _Judged.NEW
        case _:
            return _Judged.NEW if is_another else _Judged.KNOWN


def _is_news(alert: Alert, record: AlarmRecord, now: datetime) -> bool:
    """Whether an alert that fires on is to be noted: it has another start, or was not noted for long."""
    began = None if alert.started_at is None else min(alert.started_at, now)
    moved = began is not None and (record.started_at is None or began > record.started_at)
    return moved or now > record.heard_at + _HEARD_EVERY


def _recalled(text: str) -> AlarmRecord | None:
    """What a record says; None for one of another version, which is replaced."""
    try:
        record: AlarmRecord = json_codec(AlarmRecord).value(text)
    except ValueError:
        return None
    return record


def _digest(fingerprint: object) -> str:
    return hashlib.blake2b(canonical_json(fingerprint).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _time(value: object) -> datetime | None:
    """The time in a text, whatever its zone; None if there is none, or the zero time of Go."""
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    try:
        found = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None
    return found if found.year > 1 else None


def _said(alert: Mapping[str, object]) -> str:
    """A sentence about an alert."""
    name = _text_in(alert.get("labels"), "alertname").replace("_", " ")
    about = _text_in(alert.get("annotations"), "summary", "description")
    written = f"{name or 'without a name'}. {about}"
    return " ".join("".join(each if each.isprintable() else " " for each in written).split())


def _text_in(texts: object, *names: str) -> str:
    """The first of these texts; an empty one if there is none."""
    found = [texts.get(name) for name in names] if is_object(texts) else []
    return next((text for text in found if isinstance(text, str) and text), "")


def _misfit(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{name}: {why}").found(Finding(column=name, message=why))


def _contended() -> StoreUnavailableError:
    return StoreUnavailableError("other requests kept changing the same alerts; send the notification again")
