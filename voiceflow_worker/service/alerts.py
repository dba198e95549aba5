"""Notifications of Alertmanager and Grafana: the news of each becomes one escalation; what is resolved ends its own.

Of each group of alerts, for whom it is called, the store has one record: the batch, the start and the end of each
alert. Each change of it is a compare-and-swap, so of two notifications at once, one begins the escalation and the other
finds it. The calls are stored after the record; a process that finds a batch without calls there stores them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from voiceflow_worker.campaigns.reading import steps
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.gates import order_gate, until_left
from voiceflow_worker.core.heartbeats import FRESH, Heartbeats
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Same, Write
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json, is_list, is_object
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.speakable import UNKNOWN, shortened, speakable
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words
from voiceflow_worker.service.on_call import (
    VALID_FOR,
    Escalation,
    NobodyToCallError,
    Policies,
    State,
    read_states,
    start_escalation,
)
from voiceflow_worker.settings import Settings

GROUPS: Final = "alert-group"
"""Namespace of what is known of groups of alerts, in the group of their queue."""
RESOLVED: Final = "its alerts are resolved"
_NO_START = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_OF_MANY = 120
_ADDRESS = re.compile(r"\w+://\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of a notification. `ended_at` is None while it fires. An alert without a start never rings twice."""

    text: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """The alerts of a notification, by digests of their fingerprints, and the `key` of their group.

    `left_out` is the number of alerts that the sender has cut off. `not_taken` names those that cannot be read.
    """

    key: object
    firing: Mapping[str, Alert]
    resolved: Mapping[str, Alert]
    left_out: int = 0
    not_taken: Sequence[str] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Return the alerts in the body of a webhook of Alertmanager (version 4), or of Grafana, with the same fields.

        Raises InvalidInputError for another body, and if none of its alerts can be read.
        """
        given = body.get("alerts")
        if not is_list(given) or not given:
            raise _misfit("alerts", "give the list of alerts, as Alertmanager sends it")
        alerts: dict[str, dict[str, Alert]] = {"firing": {}, "resolved": {}}
        misfits: list[tuple[str, str]] = []
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
            alerts[status][_digest(each.get("fingerprint") or each.get("labels"))] = Alert(
                text=_spoken(each),
                started_at=_time(began) or _NO_START,
                ended_at=_time(each.get("endsAt")) if status == "resolved" else None,
            )
        if not alerts["firing"] and not alerts["resolved"]:
            raise _misfit(*misfits[0])
        cut = body.get("truncatedAlerts")
        return cls(
            key=body.get("groupKey") or body.get("groupLabels"), **alerts,
            left_out=cut if isinstance(cut, int) else 0, not_taken=[why for _, why in misfits],
        )  # fmt: skip

    def words(self, batch: str, known: Mapping[str, KnownAlert]) -> str:
        """Return what is said of the firing alerts that have this batch."""
        texts = [each.text for mark, each in self.firing.items() if known[mark].batch == batch]
        count = len(texts) + self.left_out
        if count == 1:
            return shortened(f"Alert: {texts[0]}")
        return shortened(" ".join([f"{count} alarms:", *(shortened(text, _LONGEST_OF_MANY) for text in texts)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAlert:
    """What is known of an alert: its batch, when that begins, the newest start in a notification, and its end.

    `batch` is empty if the alert was resolved before it was known to fire. `notified_at` is its last notification.
    """

    batch: str
    begin: datetime
    started_at: datetime
    ended_at: datetime | None = None
    notified_at: datetime

    @property
    def began(self) -> datetime:
        """Since when it fires: no later than its notification, whichever clock is ahead."""
        return min(self.started_at, self.begin)

    def is_news(self, alert: Alert, state: State, *, at: datetime) -> bool:
        """Return whether a firing alert has begun again, or nobody has acknowledged it.

        A firing that was delayed behind its end is no news, and neither is a start that lies ahead.
        """
        if alert.started_at != self.started_at and self.began < alert.started_at <= at:
            return True
        if self.ended_at is not None:
            return alert.started_at > self.ended_at
        if alert.started_at == _NO_START:
            return False
        is_lost = state is State.MISSING and self.begin + VALID_FOR <= at
        return state is State.UNANSWERED or is_lost


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertGroup:
    """What is known of the alerts of one group, for whom it is called. `token` is new with each write."""

    alerts: Mapping[str, KnownAlert] = field(default_factory=dict[str, KnownAlert])
    token: str = field(default_factory=new_revision)

    @property
    def batches(self) -> set[str]:
        """Batches of its alerts."""
        return {each.batch for each in self.alerts.values() if each.batch}

    @property
    def firing(self) -> set[str]:
        """Batches of its alerts that fire."""
        return {each.batch for each in self.alerts.values() if each.batch and each.ended_at is None}

    def with_resolved(self, resolved: Mapping[str, Alert], *, at: datetime) -> AlertGroup:
        """Return the group without these alerts; one that has begun to fire again since its end fires on."""
        alerts = dict(self.alerts)
        for mark, alert in resolved.items():
            known, ended_at = alerts.get(mark), min(alert.ended_at or at, at)
            if known is None:
                alerts[mark] = KnownAlert(
                    batch="", begin=at, started_at=alert.started_at, ended_at=ended_at, notified_at=at
                )  # fmt: skip
            elif known.began <= ended_at:
                alerts[mark] = replace(known, ended_at=known.ended_at or ended_at, notified_at=at)
        return AlertGroup(alerts=alerts)

    def with_firing(
        self, firing: Mapping[str, Alert], states: Mapping[str, State], *, member: str, at: datetime
    ) -> AlertGroup:
        """Return the group with these alerts; all that is news has one batch, whose name is computed from it."""
        alerts, news = dict(self.alerts), dict[str, Alert]()
        for mark, alert in firing.items():
            known = alerts.get(mark)
            if known is None or known.is_news(alert, states.get(known.batch, State.MISSING), at=at):
                news[mark] = alert
            else:
                alerts[mark] = replace(known, notified_at=at)
        before = {mark: alerts[mark].batch if mark in alerts else "" for mark in news}
        named = [[mark, alert.started_at.isoformat(), before[mark]] for mark, alert in sorted(news.items())]
        batch = f"oncall-{_digest([member, at.isoformat(), named])}"
        for mark, alert in news.items():
            alerts[mark] = KnownAlert(batch=batch, begin=at, started_at=alert.started_at, notified_at=at)
        return AlertGroup(alerts=alerts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationResult:
    """The escalations of the firing alerts, new ones first; `created` says whether there is a new one.

    `blocked` says why nobody can be called for one of them now. `not_taken` names alerts that cannot be read.
    """

    batches: Sequence[str] = ()
    created: bool = False
    blocked: str | None = None
    not_taken: Sequence[str] = ()


async def handle_notification(
    queue: CallQueue,
    body: Mapping[str, Any],
    fields: Mapping[str, object],
    *,
    settings: Settings,
    policies: Policies | None = None,
) -> NotificationResult:
    """Begin one escalation, with these fields, for what is news in a notification, and end those of resolved alerts.

    The same notification again changes nothing. Without `say`, the alerts are spoken. What is resolved has ended when
    this returns. Raises InvalidInputError for another body and for wrong fields, and StoreError.
    """
    notification, store = Notification.of(body), queue.store
    member = _digest([notification.key, _target(fields)])
    while True:
        now = store.clock.now()
        found = (await store.records({GROUPS: [(queue.name, member)]}, now=now))[GROUPS]
        text = found[0].value if found else None
        stored = AlertGroup() if text is None else json_codec(AlertGroup).value(text)
        kept = {mark: each for mark, each in stored.alerts.items() if now < each.notified_at + queue.policy.retention}
        group = AlertGroup(alerts=kept).with_resolved(notification.resolved, at=now)
        states = await read_states(queue, [*stored.batches])
        group = group.with_firing(notification.firing, states, member=member, at=now)
        for batch in sorted(stored.batches - group.firing):
            if states[batch] is not State.CANCELLED:
                await _cancel(queue, batch)
        wanted = {group.alerts[mark].batch for mark in notification.firing} & group.firing
        escalations = {
            batch: Escalation.of(
                {**fields, "say": _words_in(fields, policies) or notification.words(batch, group.alerts)},
                settings=settings, policies=policies,
            )
            for batch in wanted
        }  # fmt: skip
        put = Put(GROUPS, queue.name, json_codec(AlertGroup).text(group), now + queue.policy.retention, member=member)
        write = Write(conditions=(Same(GROUPS, queue.name, text, member),), puts=(put,))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is Result.DONE:
            break
    begins = {each.batch: each.begin for each in group.alerts.values()}
    created: list[str] = []
    blocked: str | None = None
    for batch, escalation in sorted(escalations.items()):
        try:
            if await start_escalation(queue, escalation, name=batch, begin=begins[batch]):
                created.append(batch)
            blocked = blocked or await _why_blocked(queue, batch, within=escalation.every)
        except NobodyToCallError as error:
            blocked = str(error)
        except InvalidInputError:  # resolved by another notification meanwhile
            if (await read_states(queue, [batch]))[batch] is not State.CANCELLED:
                raise
    return NotificationResult(
        batches=[*created, *sorted(wanted - {*created})], created=bool(created), blocked=blocked,
        not_taken=notification.not_taken,
    )  # fmt: skip


async def _cancel(queue: CallQueue, batch: str) -> None:
    """Cancel an escalation, also one whose calls are about to be stored; no call of it leaves after this."""
    now = queue.store.clock.now()
    gate = Gate.of(queue.name, batch, GateState.CANCELLED, since=now, until=None, reason=RESOLVED)
    await order_gate(queue.store, gate)
    await until_left(queue.store, [queue.name], batch_id=batch)


async def _why_blocked(queue: CallQueue, batch: str, *, within: timedelta) -> str | None:
    """Return why nobody can be called now for an escalation that goes on; None if somebody can."""
    if (await read_states(queue, [batch]))[batch] is not State.OPEN:
        return None
    until = queue.store.clock.now() + within
    for gate in (await gates_at(queue.store, queue.name, [None, batch])).values():
        if gate.keeps_back(batch, at=until):
            return closed_in_words(gate)
    workers = await Heartbeats(queue.store).workers(queue.name, within=FRESH)
    is_sent = any(each.batch_id in {None, batch} for each in workers)
    return None if is_sent else f"no worker of queue {queue.name} runs"


def _words_in(fields: Mapping[str, object], policies: Policies | None) -> object:
    """Return what these fields, or their policy, say themselves; None if it is the alerts that are spoken."""
    name = fields.get("policy")
    own = policies.get(name) if policies is not None and isinstance(name, str) else None
    return fields.get("say") or (None if own is None else own.get("say"))


def _target(fields: Mapping[str, object]) -> str:
    """Return for whom a notification is: a policy, or numbers, whatever their order."""
    if (policy := fields.get("policy")) is not None:
        return f"policy {policy}"
    country, numbers = fields.get("country"), list[str]()
    for step in steps(fields.get("numbers")) or ():
        for number in (step,) if isinstance(step, str) else step:
            try:
                numbers.append(read_number(number, country if isinstance(country, str) else None))
            except InvalidInputError:
                numbers.append(number)
    return f"numbers {' '.join(sorted(numbers))}"


def _digest(value: object) -> str:
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _time(value: object) -> datetime | None:
    """Return the time in a text, whatever its zone; None if there is none, or the zero time of Go."""
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    try:
        found = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None
    return found if found.year > 1 else None


def _spoken(alert: Mapping[str, object]) -> str:
    """Return what is spoken of an alert: its name, and its annotation or, if it has none, its labels."""
    labels, annotation = alert.get("labels"), _annotation(alert)
    others = sorted(each for each in labels if each != "alertname" and each[:2] != "__") if is_object(labels) else []
    texts = [(name.replace("_", " "), _text_in(labels, name)) for name in others if not annotation]
    name = _text_in(labels, "alertname").replace("_", " ") or "without a name"
    return f"{', '.join([name, *(f'{label} {text}' for label, text in texts if text)])}. {annotation}".strip()


def _annotation(alert: Mapping[str, object]) -> str:
    """Return the summary, else the description, else the first other annotation that is a text."""
    texts = alert.get("annotations")
    others = [
        name
        for name, text in (texts.items() if is_object(texts) else ())
        if isinstance(text, str) and not name.startswith("__") and not _ADDRESS.fullmatch(text.strip())
    ]
    return _text_in(texts, "summary", "description", *others)


def _text_in(texts: object, *names: str) -> str:
    """Return the first of these texts in which there is anything to speak; an empty one if there is none."""
    found = [texts.get(name) for name in names] if is_object(texts) else []
    spoken = (speakable(text) for text in found if isinstance(text, str))
    return next((said for said in spoken if said and said != UNKNOWN), "")


def _misfit(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{name}: {why}").found(Finding(column=name, message=why))
