"""The ordinals of a mapped task's calls to one number, claimed by its instances.

A map index does not identify a call: after a clear, `expand` over [X, A, B] instead of [A, B] gives A and B other
indexes. Nor does the number: two instances may call the same one. So each instance claims an ordinal of its number, and
keeps it from try to try. After a clear the ordinals are claimed anew. Those whose calls rang come first, so that fewer
instances than before do not call a number again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.slots import Condition, Slot
from voiceflow_worker import CallQueue

NAMESPACE = "airflow-places"
KEPT_FOR = timedelta(days=400)
"""As long as a store keeps unique keys."""
AT_ONCE = 500


@dataclass(slots=True)
class _Claim:
    """A call without an ordinal, and the ordinals that it may have, best first."""

    called: str
    claimant: str
    wanted: list[int]

    def lost(self, known: int) -> None:
        """Go on to the next ordinal; behind the `known` ones they are all new."""
        last = self.wanted.pop(0)
        if not self.wanted:
            self.wanted.append(max(last + 1, known))


async def places(
    queue: CallQueue,
    identity: TaskIdentity,
    called: Sequence[str],
    slots: Mapping[str, Sequence[Slot]],
    expansion: Expansion,
) -> list[int]:
    """The ordinals of these calls of an instance, each among its task's calls to the same number (or row's key).

    `slots` are the calls that the task has made: all ordinals in use, from 0 on. No two instances of one expansion get
    the same ordinal.
    """
    seen: Counter[str] = Counter()
    claims: list[_Claim] = []
    for each in called:
        claims.append(_Claim(each, f"{identity.map_index}/{seen[each]}", []))
        seen[each] += 1
    for start in range(0, len(claims), AT_ONCE):
        await _settle(queue, identity, claims[start : start + AT_ONCE], slots, expansion)
    return [claim.wanted[0] for claim in claims]


async def _settle(
    queue: CallQueue,
    identity: TaskIdentity,
    claims: Sequence[_Claim],
    slots: Mapping[str, Sequence[Slot]],
    expansion: Expansion,
) -> None:
    records, now = queue.store.records, queue.store.clock.now()
    earlier = await records.get(NAMESPACE, [_own(identity, claim) for claim in claims], now=now)
    known = {_place(identity, claim.called, slot.ordinal): slot for claim in claims for slot in slots[claim.called]}
    standing = await records.get(NAMESPACE, list(known), now=now)
    kept = await _kept(queue, identity, {slot.map_index for slot in known.values()}, expansion)
    for claim in claims:
        before = int(earlier.get(_own(identity, claim), -1))
        places = {
            slot.ordinal: standing.get(_place(identity, claim.called, slot.ordinal)) for slot in slots[claim.called]
        }
        claim.wanted = [ordinal for ordinal, claimant in places.items() if claimant == claim.claimant] or [
            slot.ordinal
            for slot in sorted(slots[claim.called], key=lambda slot: _rank(slot, before))
            if places[slot.ordinal] is None and (slot.map_index not in kept or slot.ordinal == before)
        ]
        if not claim.wanted:
            claim.wanted = [len(places)]
    waiting = list(claims)
    while waiting:
        asked: dict[str, str] = {}
        for claim in waiting:
            asked.setdefault(_place(identity, claim.called, claim.wanted[0]), claim.claimant)
        now = queue.store.clock.now()
        standing = await records.put_if_absent(NAMESPACE, asked, expires_at=now + KEPT_FOR, now=now)
        waiting = [
            claim for claim in waiting if standing[_place(identity, claim.called, claim.wanted[0])] != claim.claimant
        ]
        for claim in waiting:
            claim.lost(len(slots[claim.called]))
    made = {_own(identity, claim): str(claim.wanted[0]) for claim in claims}
    made[_present(identity, identity.map_index)] = "1"
    await records.put(NAMESPACE, made, expires_at=now + KEPT_FOR, now=now)


async def _kept(
    queue: CallQueue, identity: TaskIdentity, indexes: Collection[int | None], expansion: Expansion
) -> set[int | None]:
    """Those of these instances that keep the calls they made: they were not cleared with this one."""
    others = [
        index for index in indexes if index is not None and index != identity.map_index and expansion.has_run(index)
    ]
    keys = {_present(identity, index): index for index in others}
    cleared = await queue.store.records.get(NAMESPACE, list(keys), now=queue.store.clock.now())
    return {index for key, index in keys.items() if key not in cleared}


def _rank(slot: Slot, before: int) -> tuple[bool, bool, int, int]:
    """The order of ordinals for a claimant that held `before`: calls that rang, its own, and the rest by condition."""
    return slot.condition is not Condition.RANG, slot.ordinal != before, slot.condition.value, slot.ordinal


def _place(identity: TaskIdentity, called: str, ordinal: int) -> str:
    return f"{identity.scope()}/{identity.clear_number}/{ordinal}/{_short(called)}"


def _own(identity: TaskIdentity, claim: _Claim) -> str:
    return f"{identity.scope()}/of/{claim.claimant}/{_short(claim.called)}"


def _present(identity: TaskIdentity, index: int) -> str:
    """The key of the record that an instance has claimed its calls since the newest clear."""
    return f"{identity.scope()}/{identity.clear_number}/claimed/{index}"


def _short(called: str) -> str:
    return hashlib.sha256(called.encode("utf-8", "surrogatepass")).hexdigest()[:32]
