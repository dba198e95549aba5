"""Alerts of Alertmanager and Grafana: what fires, for whom, has an escalation, until it is acknowledged or resolved.

An alert is known by its fingerprint; who tells it, and in which group, make no other of it. For each fingerprint there
is a record: when it was over, and for each who is to be called, its newest escalation with the start of which that
tells. An acknowledgement holds for this start: one that is later has an escalation again, after the `rest`. What fires
anew for the same people joins the escalation that waits for their phone, until its call leaves: what one call may tell
together has such a record too. Every change is a compare-and-swap of these records, in one write with the escalation.
So of two notifications at once, one begins the escalation, and the other finds it; and nothing is lost if the process
dies, or its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Put, Result, Same, Write
from voiceflow_worker.core.writes import LONG_KEPT
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.text.speakable import UNKNOWN, speakable
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    Alarm,
    AlarmRecord,
    EscalationRecord,
    EscalationState,
    EscalationStatus,
    Heard,
    Wording,
)
from voiceflow_worker.service.escalation_store import ALARMS, EscalationStore, unchanged
from voiceflow_worker.service.escalations import Escalations, digest_of

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

REMEMBERED = timedelta(minutes=5)
"""For so long, a firing of an alert that was over before it began is a delayed one, and calls nobody."""
_OVER_KEPT = timedelta(days=7)
_NO_START = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_LABELS = 100
_ADDRESS = re.compile(r"\w+://\S+")
_CODE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z\d]{16,}$|[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it was told: by its `mark`, a digest of its fingerprint.

    One without a start is an event: whoever tells it again means the same, and nobody is called for it anew.
    """

    mark: str
    text: str
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """The alerts of one notification: those that fire and those that are resolved, by their marks.

    `left_out` is the number of alerts that the sender has cut off the notification. `not_taken` names those that cannot
    be read, with the reason.
    """

    firing: Mapping[str, Alert]
    resolved: Mapping[str, Alert] = field(default_factory=dict[str, Alert])
    left_out: int = 0
    not_taken: Sequence[str] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The alerts in the body of a webhook of Alertmanager (version 4), or of Grafana, which has the same fields.

        Raises InvalidInputError for another body, and if none of its alerts can be read.
        """
        given = body.get("alerts")
        if not is_list(given) or not given:
            raise _misfit("alerts", "give the list of alerts, as Alertmanager sends it")
        firing: dict[str, Alert] = {}
        resolved: dict[str, Alert] = {}
        misfits: list[tuple[str, str]] = []
        shared = _shared([_labels(each) for each in given if is_object(each)])
        for place, each in enumerate(given, 1):
            if not is_object(each):
                misfits.append(("alerts", f"alert {place} is no object"))
                continue
            status, began = each.get("status") or body.get("status"), each.get("startsAt")
            name = f"alert {place} ({_text_in(each.get('labels'), 'alertname') or 'without a name'})"
            if status not in ("firing", "resolved"):
                misfits.append(("status", f"{name} is neither firing nor resolved"))
                continue
            if not isinstance(began, str):
                misfits.append(("startsAt", f"{name} has no startsAt, the time at which it began to fire"))
                continue
            alert = Alert(
                mark=digest_of(each.get("fingerprint") or each.get("labels")),
                text=_said(each, shared),
                started_at=_time(began) or _NO_START,
                ended_at=_time(each.get("endsAt")) if status == "resolved" else None,
            )
            (firing if status == "firing" else resolved)[alert.mark] = alert
        if not firing and not resolved:
            raise _misfit(*misfits[0])
        cut = body.get("truncatedAlerts")
        return cls(
            firing=firing, resolved=resolved, left_out=cut if isinstance(cut, int) else 0,
            not_taken=[why for _, why in misfits],
        )  # fmt: skip

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


class _Judged(Enum):
    """What a firing alert needs."""

    KNOWN = "its escalation is open, or somebody has acknowledged or stopped it"
    LATE = "it was over before its notification came"
    NEW = "an escalation"
    AGAIN = "further rounds of its escalation"


_Known = Mapping[str, tuple[str | None, AlarmRecord]]
"""The text of each record, None if there is none, and what it says, by the mark of the alert or the group."""


@dataclass(frozen=True, slots=True)
class _Told:
    """The alerts that fire in a notification for whom its escalation calls, and what is stored of them."""

    firing: Mapping[str, Alert]
    known: _Known
    escalation: Escalation
    wording: Wording | None
    target: str

    def heard(self, mark: str) -> Heard | None:
        """The escalation that the alert has had for these people."""
        return self.known[mark][1].heard.get(self.target)

    def until(self, now: datetime) -> datetime | None:
        """When the rounds end unless the alerts are named again. An event is named once."""
        is_named_again = any(each.started_at is not None for each in self.firing.values())
        return now + self.escalation.forget_after if is_named_again else None


class Alarms:
    """The alerts of one queue."""

    def __init__(self, escalations: Escalations) -> None:
        self._escalations = escalations
        self._records = EscalationStore(escalations.queue)
        self._store = escalations.queue.store
        self._queue = escalations.queue.name

    async def resolve(self, alerts: Mapping[str, Alert]) -> None:
        """End the escalations that are about resolved alerts alone, whoever was to be called. It may be repeated.

        When this returns, nobody is called any more for an alert that is over. It is remembered, so that a firing that
        was delayed calls nobody. Raises StoreError.
        """
        left = dict(alerts)
        while left:
            known, now = await self._records.alarms(left), self._store.clock.now()
            writes: dict[str, Write] = {}
            for mark, alert in left.items():
                text, record = known[mark]
                over = now if alert.ended_at is None else min(alert.ended_at, now)
                began = [each.began for each in record.heard.values() if each.began is not None]
                if (began and max(began) > over) or (record.over_at is not None and record.over_at >= over):
                    continue  # it has begun to fire again since, or this is known
                condition, put = self._swapped(mark, text, replace(record, over_at=over, over=now), now + _OVER_KEPT)
                writes[mark] = Write(conditions=(condition,), puts=(put,))
            done = await self._written(writes.values())
            left = {mark: left[mark] for mark, is_done in zip(writes, done, strict=True) if not is_done}
        known = await self._records.alarms(alerts)
        ids = set[str]().union(*(each.escalations for _, each in known.values() if each.over_at))
        for each in await self._records.read(ids):
            await self._escalations.advance(each)
            await self._escalations.until_left(await self._records.get(each))

    async def fire(
        self,
        alerts: Alerts,
        escalation: Escalation,
        *,
        wording: Wording | None,
        key: str | None = None,
        within: timedelta = timedelta(),
    ) -> HeardAlerts:
        """See to it that each alert that fires has an escalation for whom this one calls.

        What fires anew joins the escalation of such alerts whose first call has not left, or gets one together, which
        says what `wording` makes of them, and calls when `within` has passed. Alerts that nobody has acknowledged in
        their rounds get further rounds. A notification that comes again changes nothing else. With `key`, only those
        of this key are called together. Raises StoreError.
        """
        target, begun = key or escalation.target(), dict[str, None]()
        plain, resting = (_group(escalation, wording, target, rests=rests) for rests in (False, True))
        while True:
            known = await self._records.alarms([*alerts.firing, plain, resting])
            told = _Told(alerts.firing, known, escalation, wording, target)
            ids = {mark: heard.escalation for mark in known if (heard := told.heard(mark)) is not None}
            found = await self._records.read(ids.values())
            now, judged = self._store.clock.now(), dict[_Judged, list[str]]()
            writes: list[tuple[str | None, Write]] = []
            again: dict[str, list[str]] = {}
            new: dict[str, dict[str, tuple[datetime, str | None]]] = {plain: {}, resting: {}}
            for mark, alert in alerts.firing.items():
                standing = found.get(ids.get(mark, ""))
                judgement = _judged(alert, known[mark][1], told.heard(mark), standing, now)
                judged.setdefault(judgement, []).append(mark)
                if judgement is _Judged.NEW:
                    until = _rest(standing, escalation, now)
                    new[plain if until is None else resting][mark] = until or (now + within, None)
                elif judgement is _Judged.AGAIN and standing is not None:
                    again.setdefault(standing.id, []).append(mark)
                elif judgement is _Judged.KNOWN and _is_news(alert, told.heard(mark), standing, now):
                    unread = [unchanged(found[ids[mark]])]
                    conditions, puts = self._firing(told, [mark], ids[mark])
                    writes.append((None, Write(conditions=(*conditions, *unread), puts=tuple(puts))))
            for group, marks in new.items():
                if marks:
                    writes.append(self._joined(told, group, marks, found.get(ids.get(group, ""))))
            for standing_id, some in again.items():
                each = found[standing_id]
                on = each.record.begun_again(rounds=escalation.rounds, at=now, until=told.until(now))
                conditions, puts = self._firing(told, some, each.id)
                writes.append((each.id, self._records.change(each.id, each, on, conditions=conditions, puts=puts)))
            done = await self._written(write for _, write in writes)
            begun |= {each: None for (each, _), was in zip(writes, done, strict=True) if was and each is not None}
            if all(done):
                break
        others = [ids[mark] for mark in judged.get(_Judged.KNOWN, ())]
        for known_id in dict.fromkeys(others):
            await self._names(found[known_id], told.until(now))
        statuses = [await self._escalations.advance(each) for each in dict.fromkeys([*begun, *others])]
        return HeardAlerts(statuses=statuses, begun=bool(begun), late=len(judged.get(_Judged.LATE, ())))

    async def _names(self, found: EscalationStatus, until: datetime | None) -> None:
        """Let the rounds of an escalation go on until then: a notification has named its alerts again."""
        while found.is_open and until is not None:
            stored = found.record.until
            if stored is not None and until < stored + found.ordered.forget_after / 50:
                break  # no write at each notification
            await self._written([self._records.change(found.id, found, replace(found.record, until=until))])
            found = await self._records.get(found.id)

    def _joined(
        self,
        told: _Told,
        group: str,
        marks: Mapping[str, tuple[datetime, str | None]],
        found: EscalationStatus | None,
    ) -> tuple[str, Write]:
        """The write after which these alerts have the newest escalation of their group, or one that begins now."""
        now, wording = self._store.clock.now(), told.wording
        until, why = max(marks.values(), key=lambda each: each[0])
        alarms = [Alarm(mark=mark, text=told.firing[mark].text) for mark in marks]
        if found is not None and found.can_be_joined and (why is None or (found.record.not_before or now) >= until):
            conditions, puts = self._firing(told, marks, found.id)
            left_out = 0 if wording is None else wording.left_out
            write = self._records.joining(
                found, alarms, left_out=left_out, until=told.until(now), conditions=conditions, puts=puts
            )
            return found.id, write
        escalation_id = f"{self._queue}.alarm-{new_revision()}"
        conditions, puts = self._firing(told, [*marks, group], escalation_id)
        record = EscalationRecord.new(
            told.escalation if wording is None else replace(told.escalation, say=wording.of(alarms)),
            unique_key=escalation_id.partition(".")[2], request_digest="", at=now, alarms=alarms, wording=wording,
            not_before=until, not_before_reason=why or "others like it may follow", until=told.until(now),
        )  # fmt: skip
        return escalation_id, self._records.change(escalation_id, None, record, conditions=conditions, puts=puts)

    def _firing(self, told: _Told, marks: Iterable[str], escalation_id: str) -> tuple[list[Condition], list[Put]]:
        """The conditions and the records of alerts that fire, and of their group, which have this escalation now."""
        conditions: list[Condition] = []
        puts: list[Put] = []
        for mark in marks:
            text, record = told.known[mark]
            alert = told.firing.get(mark)
            now, began = self._store.clock.now(), None if alert is None else alert.started_at
            heard = Heard(escalation=escalation_id, started_at=began, told_at=now)
            new = AlarmRecord(heard={**record.heard, told.target: heard})
            condition, put = self._swapped(mark, text, new, now + LONG_KEPT)
            conditions.append(condition)
            puts.append(put)
        return conditions, puts

    def _swapped(self, mark: str, text: str | None, record: AlarmRecord, ends_at: datetime) -> tuple[Same, Put]:
        """The compare-and-swap of a record."""
        written = json_codec(AlarmRecord).text(replace(record, token=new_revision()))
        return Same(ALARMS, self._queue, text, mark), Put(ALARMS, self._queue, written, ends_at, member=mark)

    async def _written(self, writes: Iterable[Write]) -> list[bool]:
        """Try these writes; returns which were done. The others were refused, because something has changed."""
        if not (all_of := tuple(writes)):
            return []
        answers = await self._store.write(BulkWrite(writes=all_of), now=self._store.clock.now())
        return [answer.result is Result.DONE for answer in answers]


def _group(escalation: Escalation, wording: Wording | None, target: str, *, rests: bool) -> str:
    """The alerts that one call may tell together: for the same people, by the same fields, all at rest or none."""
    fields = escalation.as_json()
    how = None if wording is None else (wording.one, wording.many, wording.between)
    return digest_of([target, fields if how is None else {**fields, "say": None}, how, rests])


def _rest(found: EscalationStatus | None, escalation: Escalation, now: datetime) -> tuple[datetime, str] | None:
    """Until when nobody is called for an alert that fires anew, after this escalation of it, and why."""
    if found is None:
        return None
    until, why = found.record.not_before, found.record.not_before_reason
    if (done := found.end) is not None and done.reason is None:
        until, why = done.at + escalation.rest, f"{done.who} acknowledged this alert at {in_words(done.at)}"
    return None if until is None or until <= now else (until, why or "")


def _judged(
    alert: Alert, record: AlarmRecord, heard: Heard | None, found: EscalationStatus | None, now: datetime
) -> _Judged:
    """What an alert that fires needs, by what is known of it, and its newest escalation for whom is to be called."""
    over_at, over, began = record.over_at, record.over, alert.started_at
    if over_at and over and began is not None and began <= over_at and now < over + REMEMBERED:
        return _Judged.LATE
    if found is None or record.over_at is not None:
        return _Judged.NEW
    if not found.is_open and _is_news(alert, heard, found, now):
        return _Judged.NEW
    is_unanswered = found.state is EscalationState.UNANSWERED and alert.started_at is not None
    return _Judged.AGAIN if is_unanswered else _Judged.KNOWN


def _is_news(alert: Alert, heard: Heard | None, found: EscalationStatus | None, now: datetime) -> bool:
    """Whether an alert has begun after the start that its escalation was told of, which a clock may have told ahead."""
    began, told = alert.started_at, None if heard is None else heard.started_at
    if began is None or told is None or found is None:
        return began is not told
    if began > now:
        return False  # it tells of no start: the alert fires on
    ended_at = found.ended_at
    return began > told or (began < told and ended_at is not None and told > ended_at)


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


def _said(alert: Mapping[str, object], shared: frozenset[tuple[str, str]]) -> str:
    """What is spoken of an alert: its name, the labels that tell it from the others, and its annotation.

    The labels that all alerts of its notification share are spoken too if it has no annotation.
    """
    name, annotation = _text_in(alert.get("labels"), "alertname").replace("_", " "), _annotation(alert)
    labels = sorted(_labels(alert).items(), key=lambda each: each in shared)
    said, room = [name or "without a name"], _LONGEST_LABELS
    for label, value in labels:
        text = f"{label.replace('_', ' ')} {value}"
        is_told = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", annotation) is not None
        if not is_told and len(text) <= room and not (annotation and (label, value) in shared):
            said.append(text)
            room -= len(text)
    return f"{', '.join(said)}. {annotation}".strip()


def _labels(alert: Mapping[str, object]) -> Mapping[str, str]:
    """The labels that a person can understand by ear, without the name: `__…__` and codes are for machines."""
    labels = alert.get("labels")
    said = {name: _text_in(labels, name) for name in labels if name != "alertname"} if is_object(labels) else {}
    return {name: text for name, text in said.items() if text and not name.startswith("__") and not _CODE.match(text)}


def _shared(labels: Sequence[Mapping[str, str]]) -> frozenset[tuple[str, str]]:
    """The labels that all of several alerts have."""
    items = [frozenset(each.items()) for each in labels]
    return frozenset[tuple[str, str]]() if len(items) < 2 else items[0].intersection(*items)


def _annotation(alert: Mapping[str, object]) -> str:
    """The summary, else the description, else the first other annotation that is a text."""
    texts = alert.get("annotations")
    others = [
        name
        for name, text in (texts.items() if is_object(texts) else ())
        if isinstance(text, str) and not name.startswith("__") and not _ADDRESS.fullmatch(text.strip())
    ]
    return _text_in(texts, "summary", "description", *others)


def _text_in(texts: object, *names: str) -> str:
    """The first of these texts in which there is anything to speak; an empty one if there is none."""
    found = [texts.get(name) for name in names] if is_object(texts) else []
    spoken = (speakable(text) for text in found if isinstance(text, str))
    return next((said for said in spoken if said and said != UNKNOWN), "")


def _misfit(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{name}: {why}").found(Finding(column=name, message=why))
