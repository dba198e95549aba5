"""Gates, holds and limits: the records by which calls are held back.

`lease` and send slots read them in the store itself. To do so, a store needs to know three things
of their texts, each in one function: whether a gate is closed (`is_closed`), that a batch has a hold (`HOLDS`), and the
four numbers of a queue's limits (`limits_from`). What cannot be read lets no call leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from voiceflow_worker.core.ports.store import AtMost, Condition, Put, Record, Same
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateScope, GateState, HoldKind
from voiceflow_worker.model.text.wording import SLOWEST

GATES = "gate"
"""Namespace of gates. A gate is `<state> <since, µs> <token>[:<token>…][:<kind>…] <reason>`, and the end of a hold is
the end of its record: no record means open. A gate is closed unless its state is `open`. It is opened by writing
`open`, never by dropping."""
LIMITS = "limit"
"""Namespace of limits, by queue: `<rate> <burst> <max_active>`, with `-` for no limit."""
OPEN_STAYS = timedelta(days=1)
"""How long an opened gate stays as a record, so that the repeat of an earlier order finds that it is out of date."""

_KINDS = frozenset(GateKind)
_MOST_ORDERS = 8
"""The most orders whose repeats a gate knows."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def gate_member(batch: str | None) -> str:
    """Return the member of the gate of a queue (empty) or of one of its batches (`=<batch>`)."""
    return "" if batch is None else f"={batch}"


def member_of(gate: Gate) -> str:
    """Return the member of this gate in the group of its queue."""
    return gate_member(None if gate.scope is GateScope.QUEUE else gate.name)


def gate_put(gate: Gate, *, token: str, before: Sequence[str] = ()) -> Put:
    """Return the record of a gate. `token` is new with each order, and has no spaces and no colons.

    `before` are the tokens of the orders that came before it, the newest first.
    """
    since = (gate.since - _EPOCH) // _MICROSECOND
    ends = gate.since + OPEN_STAYS if gate.state is GateState.OPEN else gate.until
    words = ":".join([token, *before[: _MOST_ORDERS - 1], *sorted(gate.kinds)])
    value = f"{gate.state.value} {since} {words} {gate.reason}"
    return Put(GATES, gate.queue, value, ends, member=member_of(gate))


def orders_in(record: Record | Put) -> Sequence[str]:
    """Return the tokens of the orders that made the gate in a record, the newest first."""
    words = record.value.split(" ", 3)[2:3]
    return [token for token in ":".join(words).split(":") if token and token not in _KINDS]


BACKUP, MADE, PLACE = "backup", "made", "place"
"""The namespace of the mark of a backup. One record says when it was made, in microseconds since 1970 UTC, or null; and
one of each path and inode under which somebody has written to it since, when its queues were held for that."""


def marked_at(record: Record) -> datetime | None:
    """Return the time in a record of the mark of a backup; None if it is not known."""
    return _EPOCH + int(record.value) * _MICROSECOND if record.value.isdecimal() else None


CANCELLED = "cancelled"
"""Namespace of cancelled batches, in the group of their queue; the value is that of the gate. Such a record exists when
the gate has gone, with the last open call of the batch, and no call is stored or sent against it. So the gates that are
looked through are those of batches with open calls."""
CANCELLED_KEPT = timedelta(days=400)


def cancelled_put(gate: Gate, *, token: str) -> Put:
    """Return the record of a cancelled batch."""
    ends = gate.since + CANCELLED_KEPT
    return Put(CANCELLED, gate.queue, gate_put(gate, token=token).value, ends, member=gate.name)


def cancelled_from(record: Record) -> Gate:
    """Return the gate of a cancelled batch, from its record of `CANCELLED`."""
    return gate_from(Record(record.group, record.value, None, gate_member(record.member)))


@lru_cache(maxsize=256)  # each call of a list has it
def not_cancelled(queue: str, batch: str) -> Same:
    """Return the condition that a batch is not cancelled."""
    return Same(CANCELLED, queue, None, batch)


HOLDS = "hold"
"""Namespace of the holds of batches that are no person's: in the group `<queue>=<batch>`, by `HoldKind`. Each ends only
by the order that knows its value. Under one, no call of the batch is leased or sent. The value has the form of a
gate's, and `token` is that of who holds."""


def hold_group(queue: str, batch: str) -> str:
    """Return the group of the holds of a batch."""
    return f"{queue}={batch}"


def hold_put(gate: Gate) -> Put:
    """Return the record of a hold, which has no end: it is dropped by who holds."""
    held = gate_put(gate, token=gate.token or "")
    return Put(HOLDS, hold_group(gate.queue, gate.name), held.value, None, member=str(gate.holder))


def hold_from(record: Record | Put) -> Gate:
    """Return the hold in a record of `HOLDS`, as a gate with its `holder` and its `token`."""
    queue, _, batch = record.group.partition("=")
    gate = gate_from(Record(queue, record.value, None, gate_member(batch)))
    return replace(
        gate, state=GateState.HELD, holder=HoldKind(record.member), token=next(iter(orders_in(record)), None)
    )


UNREADABLE_GATE = "its hold cannot be read, perhaps because a newer version of voiceflow-worker wrote it"
"""The reason of a hold whose record cannot be read."""


def gate_from(record: Record | Put) -> Gate:
    """Return the gate in a record of `GATES`, or in what stores it.

    A state that only a newer version knows, and a record that cannot be read, count as held: stores let no call pass
    (`is_closed`), and an order must be able to replace each gate.
    """
    batch = record.member.removeprefix("=") if record.member else None
    try:
        named, since, token, reason = record.value.split(" ", 3)
        state = GateState(named)
        kinds = frozenset(GateKind(kind) for kind in token.split(":")[1:] if kind in _KINDS)
        at = _EPOCH + int(since) * _MICROSECOND
    except (ValueError, OverflowError):
        state = GateState.HELD if is_closed(record) else GateState.OPEN
        at, reason, kinds = _EPOCH, UNREADABLE_GATE, frozenset[GateKind]()
    until = record.ends_at if state is GateState.HELD else None
    return Gate.of(record.group, batch, state, since=at, until=until, reason=reason, kinds=kinds)


def is_closed(record: Record | Put | None) -> bool:
    """Return whether the gate with this record is closed; None is a gate without a record."""
    return record is not None and not record.value.startswith(f"{GateState.OPEN.value} ")


def gates_open(queue: str, batch: str | None = None) -> tuple[Condition, ...]:
    """Return the conditions that neither the gate of a queue nor that of a batch is closed, and that has no hold."""
    scopes = (None,) if batch is None else (None, batch)
    gates = tuple(Same(GATES, queue, None, gate_member(scope), GateState.OPEN.value) for scope in scopes)
    return gates if batch is None else (*gates, AtMost(HOLDS, (hold_group(queue, batch),), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a queue.

    `rate` is in calls per second, for all workers together. `burst` is the most calls that leave at once after a pause,
    and `max_active` the most open calls. None means no limit.
    """

    rate: float | None = None
    burst: int = 1
    max_active: int | None = None

    @property
    def are_unreadable(self) -> bool:
        """True if these replace a record that cannot be read: no call is sent until they are set again."""
        return self.max_active == 0


def limits_put(queue: str, limits: Limits) -> Put:
    """Return the record of a queue's limits."""
    rate, most = limits.rate, limits.max_active
    text = f"{'-' if rate is None else repr(rate)} {limits.burst} {'-' if most is None else most}"
    return Put(LIMITS, queue, text, None)


UNREADABLE_LIMITS = Limits(rate=SLOWEST, max_active=0)
"""The limits of a queue whose record cannot be read."""


def limits_from(record: Record | None) -> Limits:
    """Return the limits in a record of `LIMITS`; no limits without a record.

    A record that cannot be read, such as one of a newer version, lets no call leave, until the limits are set again.
    """
    if record is None:
        return Limits()
    try:
        rate, burst, most = record.value.split(" ")
        found = Limits(
            rate=None if rate == "-" else float(rate),
            burst=int(burst),
            max_active=None if most == "-" else int(most),
        )
    except ValueError:
        return UNREADABLE_LIMITS
    has_rate = found.rate is None or 0 < found.rate < math.inf
    has_most = found.max_active is None or found.max_active > 0
    return found if has_rate and has_most and found.burst > 0 else UNREADABLE_LIMITS
