"""Ordinals of a mapped task's calls to one number, claimed by the instances of the task.

A map index does not identify a call: if a cleared task expands [X, A, B] instead of [A, B], A and B get other indexes.
A phone number does not identify a call either: two instances may call the same one. Each instance therefore claims an
ordinal for its number, and keeps the ordinal in all tries. After a clear, the instances claim ordinals again, beginning
with the ordinals of calls that rang. So a number does not ring again, even if fewer instances call it than before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.earlier.prior_calls import AT_ONCE, Condition, PriorCall
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_record import KEPT_FOR
from voiceflow_worker import CallQueue

NAMESPACE = "airflow-places"


@dataclass(slots=True)
class _Claim:
    """A claim of a task instance, with the ordinals that the instance may get, the preferred one first."""

    called: str
    claimant: str
    ordinals: list[int]

    def next_ordinal(self, known: int) -> None:
        """Drop the first ordinal, which another instance has claimed. If it was the last one, add a higher ordinal.

        Calls were looked up for the ordinals below `known`, so the added ordinal is `known` or higher.
        """
        last = self.ordinals.pop(0)
        if not self.ordinals:
            self.ordinals.append(max(last + 1, known))


async def claim_ordinals(
    queue: CallQueue,
    identity: TaskIdentity,
    called: Sequence[str],
    made: Mapping[str, Sequence[PriorCall]],
    expansion: Expansion,
) -> list[int]:
    """Claim an ordinal for each of these calls of an instance, and return the ordinals.

    Ordinals number the task's calls to one phone number, or for one row key, from 0. `made` has the calls that the task
    has made so far. Two instances of one expansion never get the same ordinal.
    """
    seen: Counter[str] = Counter()
    claims: list[_Claim] = []
    for each in called:
        claims.append(_Claim(each, f"{identity.map_index}/{seen[each]}", []))
        seen[each] += 1
    for start in range(0, len(claims), AT_ONCE):
        await _settle(queue, identity, claims[start : start + AT_ONCE], made, expansion)
    return [claim.ordinals[0] for claim in claims]


async def _settle(
    queue: CallQueue,
    identity: TaskIdentity,
    claims: Sequence[_Claim],
    made: Mapping[str, Sequence[PriorCall]],
    expansion: Expansion,
) -> None:
    records, now = queue.store.records, queue.store.clock.now()
    earlier = await records.get(NAMESPACE, [_own(identity, claim) for claim in claims], now=now)
    known = {_place(identity, call.called, call.ordinal): call for claim in claims for call in made[claim.called]}
    claimed = await records.get(NAMESPACE, list(known), now=now)
    kept = await _kept(queue, identity, {call.map_index for call in known.values()}, expansion)
    for claim in claims:
        before = int(earlier.get(_own(identity, claim), -1))
        holders = {
            call.ordinal: claimed.get(_place(identity, claim.called, call.ordinal)) for call in made[claim.called]
        }
        own = [ordinal for ordinal, holder in holders.items() if holder == claim.claimant]
        open_to_it = [
            call.ordinal
            for call in sorted(made[claim.called], key=lambda call: _rank(call, before))
            if holders[call.ordinal] is None
            and (call.map_index not in kept or call.ordinal == before or (before < 0 and _may_be_left(call, expansion)))
        ]
        claim.ordinals = own or open_to_it or [len(holders)]
    waiting = list(claims)
    while waiting:
        wanted: dict[str, str] = {}
        for claim in waiting:
            wanted.setdefault(_place(identity, claim.called, claim.ordinals[0]), claim.claimant)
        now = queue.store.clock.now()
        claimed = await records.put_if_absent(NAMESPACE, wanted, expires_at=now + KEPT_FOR, now=now)
        waiting = [
            each for each in waiting if claimed[_place(identity, each.called, each.ordinals[0])] != each.claimant
        ]
        for claim in waiting:
            claim.next_ordinal(len(made[claim.called]))
    result = {_own(identity, claim): str(claim.ordinals[0]) for claim in claims}
    result[_claimed_key(identity, identity.map_index)] = "1"
    await records.put(NAMESPACE, result, expires_at=now + KEPT_FOR, now=now)


async def _kept(
    queue: CallQueue, identity: TaskIdentity, indexes: Collection[int | None], expansion: Expansion
) -> set[int | None]:
    """Return the other instances that keep their calls, because they have run and were not cleared with this one."""
    others = [index for index in indexes if index is not None and index != identity.map_index]
    keys = {_claimed_key(identity, index): index for index in others if expansion.has_run(index)}
    cleared = await queue.store.records.get(NAMESPACE, list(keys), now=queue.store.clock.now())
    return {index for key, index in keys.items() if key not in cleared}


def _may_be_left(call: PriorCall, expansion: Expansion) -> bool:
    """Return whether the instance of a call that rang may have been cleared, and may now call another number.

    An instance without an earlier call to the number takes over such a call. If the instance of the call was not
    cleared, and tries again, it makes a new call. So the number rings once for each instance that calls it.
    """
    return call.condition is Condition.RANG and call.map_index is not None and expansion.may_be_cleared(call.map_index)


def _rank(call: PriorCall, before: int) -> tuple[bool, bool, int, int]:
    """Return the sort key of a call. Calls that rang come first, then the call with ordinal `before`, then the rest."""
    return call.condition is not Condition.RANG, call.ordinal != before, call.condition.value, call.ordinal


def _place(identity: TaskIdentity, called: str, ordinal: int) -> str:
    return f"{identity.scope()}/{identity.clear_number}/{ordinal}/{_short(called)}"


def _own(identity: TaskIdentity, claim: _Claim) -> str:
    return f"{identity.scope()}/of/{claim.claimant}/{_short(claim.called)}"


def _claimed_key(identity: TaskIdentity, index: int) -> str:
    """Return the key of a record. The record exists if the instance has claimed its calls since the last clear."""
    return f"{identity.scope()}/{identity.clear_number}/claimed/{index}"


def _short(called: str) -> str:
    return hashlib.sha256(called.encode("utf-8", "surrogatepass")).hexdigest()[:32]
