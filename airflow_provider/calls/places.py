"""Which of its task's calls to one number an instance of a mapped task means: the ordinal, once per clear.

The map index does not tell: after a clear, `expand` over [X, A, B] instead of [A, B] gives A and B other indexes. The
number does not tell either: two of the instances may call one number. So each takes an ordinal of its number, and keeps
it from try to try; after a clear, the ordinals of a number are dealt anew, to so many instances as ask for it now.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue

NAMESPACE = "airflow-places"
KEPT_FOR = timedelta(days=400)
"""As long as a store keeps unique keys."""
AT_ONCE = 500


@dataclass(slots=True)
class _Claim:
    """One call that looks for its ordinal."""

    called: str
    claimant: str
    ordinal: int
    is_preferred: bool

    def lost(self) -> None:
        """Go on to the next ordinal, from the first one on."""
        self.ordinal = 0 if self.is_preferred else self.ordinal + 1
        self.is_preferred = False


async def places(queue: CallQueue, identity: TaskIdentity, called: Sequence[str]) -> list[int]:
    """The ordinals of these calls, each among its task's calls to the same number (or row's key), in this order.

    No two instances of one expansion hold the same ordinal. Who held one before the clear prefers it.
    """
    seen: Counter[str] = Counter()
    local: list[int] = []
    for each in called:
        local.append(seen[each])
        seen[each] += 1
    if not identity.is_mapped:
        return local
    claims = [
        _Claim(each, f"{identity.map_index}/{place}", 0, is_preferred=False)
        for each, place in zip(called, local, strict=True)
    ]
    for start in range(0, len(claims), AT_ONCE):
        await _settle(queue, identity, claims[start : start + AT_ONCE])
    return [claim.ordinal for claim in claims]


async def _settle(queue: CallQueue, identity: TaskIdentity, claims: Sequence[_Claim]) -> None:
    records, now = queue.store.records, queue.store.clock.now()
    earlier = await records.get(NAMESPACE, [_own(identity, claim) for claim in claims], now=now)
    for claim in claims:
        if (before := earlier.get(_own(identity, claim))) is not None:
            claim.ordinal, claim.is_preferred = int(before), True
    waiting = list(claims)
    while waiting:
        asked: dict[str, str] = {}
        for claim in waiting:
            asked.setdefault(_place(identity, claim), claim.claimant)
        now = queue.store.clock.now()
        standing = await records.put_if_absent(NAMESPACE, asked, expires_at=now + KEPT_FOR, now=now)
        lost = [claim for claim in waiting if standing[_place(identity, claim)] != claim.claimant]
        for claim in lost:
            claim.lost()
        waiting = lost
    kept = {_own(identity, claim): str(claim.ordinal) for claim in claims}
    await records.put(NAMESPACE, kept, expires_at=now + KEPT_FOR, now=now)


def _place(identity: TaskIdentity, claim: _Claim) -> str:
    return f"{identity.scope()}/{identity.clear_number}/{claim.ordinal}/{_short(claim.called)}"


def _own(identity: TaskIdentity, claim: _Claim) -> str:
    return f"{identity.scope()}/of/{claim.claimant}/{_short(claim.called)}"


def _short(called: str) -> str:
    return hashlib.sha256(called.encode("utf-8", "surrogatepass")).hexdigest()[:32]
