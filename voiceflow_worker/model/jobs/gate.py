"""Gates, which hold the sending of a queue or a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.arguments import LONGEST_KEY, checked_time
from voiceflow_worker.model.text.printable import checked_text

THEN = "; then: "
"""The text between the reasons of holds that were ordered one after the other."""
MOST_REASONS = 8
"""The most reasons that a hold keeps: the first and the newest."""


class GateScope(StrEnum):
    """The kind of thing that a gate holds."""

    QUEUE = "queue"
    BATCH = "batch"


class GateState(StrEnum):
    """The state of a gate."""

    OPEN = "open"
    HELD = "held"
    """Closed until the time `until`; if it is None, until a person opens the gate."""
    CANCELLED = "cancelled"
    """For batches only, and permanent: the queued jobs of the batch end as cancelled."""


class GateKind(StrEnum):
    """What the reason of a hold says, for programs. Other reasons are for people alone, and have no kind."""

    MAY_LACK = "may_lack"
    """The store was rolled back or taken over, and may lack what it had stored."""
    UNREAD_FILES = "unread_files"
    """Nobody could read journal files, so calls and orders that are in them may be missing."""


class HoldKind(StrEnum):
    """Whose hold of a batch it is, if it is no person's: only they end it."""

    IMPORT = "import"
    """A list is being stored, or was when its process died: a list of the same batch completes it."""
    TASK = "task"
    """A task was stopped; a later try of it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The gate of a queue or of one of its batches. `name` is the name of the queue or of the batch."""

    queue: str
    scope: GateScope
    name: str
    state: GateState
    until: datetime | None = None
    reason: str = ""
    kinds: frozenset[GateKind] = frozenset()
    since: datetime
    holder: HoldKind | None = None
    """Whose hold it is; None for that of a person, or of a worker."""
    token: str | None = field(default=None, compare=False, repr=False)
    """Identity of an order that may be given again after an error."""

    @classmethod
    def of(
        cls,
        queue: str,
        batch_id: str | None,
        state: GateState,
        *,
        since: datetime,
        until: datetime | None = None,
        reason: str = "",
        kinds: frozenset[GateKind] = frozenset(),
    ) -> Self:
        """Return the gate of a queue, or of one of its batches, as ordered at `since`.

        Raises InvalidInputError for a batch id or a reason that no store can keep.
        """
        scope, name = (GateScope.QUEUE, queue) if batch_id is None else (GateScope.BATCH, batch_id)
        checked_text("the batch id", name)
        if len(name) > LONGEST_KEY:
            raise InvalidInputError(f"the batch id has {len(name)} characters; give at most {LONGEST_KEY}")
        until = checked_time("until", until)
        checked_text(f"the reason for {scope} {name}", reason)
        return cls(
            queue=queue, scope=scope, name=name, state=state, until=until, reason=reason, kinds=kinds, since=since
        )

    def is_closed(self, *, at: datetime) -> bool:
        """Return whether the gate stops calls at this time."""
        match self.state:
            case GateState.OPEN:
                return False
            case GateState.CANCELLED:
                return True
            case GateState.HELD:
                return self.until is None or at < self.until

    def keeps_back(self, batch_id: str | None, *, at: datetime) -> bool:
        """Return whether the gate is closed at this time for the calls of this batch."""
        return self.is_closed(at=at) and (self.scope is GateScope.QUEUE or self.name == batch_id)


def merged(standing: Gate | None, ordered: Gate, *, at: datetime) -> Gate:
    """Return the gate that a store keeps after an order.

    An order to open ends a hold. A hold never shortens an earlier one: a 429 must not end the hold of a person. If
    neither has an end, the reasons are joined, for the person who resumes. A cancelled batch stays cancelled.
    """
    if standing is None or not standing.is_closed(at=at) or ordered.state is GateState.CANCELLED:
        return ordered
    if standing.state is GateState.CANCELLED:
        return standing
    if ordered.state is GateState.OPEN:
        return ordered
    if standing.until is None:
        return standing if ordered.until is not None else _with_reason(standing, ordered)
    if ordered.until is None or ordered.until > standing.until:
        return replace(ordered, since=standing.since) if ordered.reason == standing.reason else ordered
    return standing


def _with_reason(standing: Gate, ordered: Gate) -> Gate:
    if not ordered.kinds <= standing.kinds:
        standing = replace(standing, kinds=standing.kinds | ordered.kinds)
    reason = ordered.reason
    if reason == standing.reason:
        return standing
    reasons = standing.reason.split(THEN) if standing.reason else []
    if not reason or all(part in reasons for part in reason.split(THEN)):
        return standing
    reasons = [*reasons[:1], *reasons[1:][2 - MOST_REASONS :], reason]
    return replace(standing, reason=THEN.join(reasons), since=ordered.since)
