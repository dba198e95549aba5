"""Alerts of Alertmanager and Grafana: each that begins to fire has one ladder, which ends when it is resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json, is_list, is_object
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.service.escalation import Escalation, Escalations, StartedLadder

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

RESOLVED = "the alert is resolved"
LONGEST_SAID = 500
"""The most characters that are spoken of an alert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """The alerts of one notification: those that fire and those that are resolved, each by what makes it that alert."""

    firing: Mapping[str, Mapping[str, object]]
    resolved: Sequence[str]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The alerts in the body of a webhook of Alertmanager (version 4), or of Grafana, which has the same fields.

        An alert is that alert by the key of its group, its fingerprint, and the time at which it began to fire. Raises
        InvalidInputError for another body.
        """
        given = body.get("alerts")
        alerts = [alert for alert in given if is_object(alert)] if is_list(given) else []
        if not alerts or not is_list(given) or len(alerts) < len(given):
            raise _misfit("alerts", "give the list of alerts, as Alertmanager sends it")
        firing: dict[str, Mapping[str, object]] = {}
        resolved: list[str] = []
        for alert in alerts:
            status, began = alert.get("status") or body.get("status"), alert.get("startsAt")
            if status not in ("firing", "resolved"):
                raise _misfit("status", "it is neither firing nor resolved")
            if not isinstance(began, str):
                raise _misfit("startsAt", "each alert needs the time at which it began to fire")
            cause = canonical_json([body.get("groupKey"), alert.get("fingerprint") or alert.get("labels"), began])
            if status == "firing":
                firing[cause] = alert
            elif not body.get("truncatedAlerts"):  # else one that is left out may fire
                resolved.append(cause)
        return cls(firing=firing, resolved=resolved)

    async def ring(
        self, ladders: Escalations, fields: Mapping[str, object], *, settings: Settings
    ) -> StartedLadder | None:
        """Start one ladder, with these fields, for the alerts that have none; end that of alerts that are resolved.

        Returns the ladder of the alerts that fire, and None if none does. A notification that comes again changes
        nothing. Raises the errors of `Escalation.of`, and StoreError.
        """
        await self._end(ladders)
        if not self.firing:
            return None
        while True:
            known = await ladders.with_causes(self.firing)
            new = {cause: alert for cause, alert in self.firing.items() if cause not in known}
            if not new:
                return StartedLadder(await ladders.climb(known[next(iter(self.firing))]), created=False)
            told = {"say": _said(list(new.values())), **fields}
            escalation = Escalation.of(told, settings=settings, any_number=True)
            key = f"alerts-{hashlib.sha256(canonical_json(sorted(new)).encode()).hexdigest()[:40]}"
            started = await ladders.start(escalation, key=key, asked=key, causes=new)
            if started.created or started.ladder.unique_key == key:
                return started

    async def _end(self, ladders: Escalations) -> None:
        """End the ladders of resolved alerts, unless an alert that fires has the same one."""
        still = set((await ladders.with_causes(self.firing)).values())
        for ladder_id in sorted(set((await ladders.with_causes(self.resolved)).values()) - still):
            await ladders.stop(ladder_id, reason=RESOLVED)


def _said(alerts: Sequence[Mapping[str, object]]) -> str:
    """A sentence about the first of these alerts, and how many more there are."""
    name = _text_in(alerts[0].get("labels"), "alertname").replace("_", " ")
    about = _text_in(alerts[0].get("annotations"), "summary", "description")
    written = f"Alert: {name or 'without a name'}. {about}"
    text = " ".join("".join(each if each.isprintable() else " " for each in written).split())
    more = f" And {count_of(len(alerts) - 1, 'more alert')}." if len(alerts) > 1 else ""
    return f"{text[:LONGEST_SAID]}{more}"


def _text_in(texts: object, *names: str) -> str:
    """The first of these texts; an empty one if there is none."""
    found = [texts.get(name) for name in names] if is_object(texts) else []
    return next((text for text in found if isinstance(text, str) and text), "")


def _misfit(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{name}: {why}").found(Finding(column=name, message=why))
