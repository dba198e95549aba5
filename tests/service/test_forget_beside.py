"""Erasing a person while others act: every other act runs between any two of its trips to the store, and it in theirs.

Nothing that has returned is lost: an opt-out, an acknowledgement, a call. What limits calls to the number stands. The
number itself is nowhere afterwards, unless somebody ordered something for it after the erasure had begun.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE
from tests.support.stores import EVERY
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, CallPolicy, Job, JobState, Store, SuppressionList, open_store
from voiceflow_worker.actions import ActionRefusedError, Operator
from voiceflow_worker.actions.calls import Redial
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.core import writes
from voiceflow_worker.core.audit import AUDIT
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.progress import INCOMING, CallProgress
from voiceflow_worker.core.settling.changes import EARLY, Sessions
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import ChangedSinceError, JobError, SuppressedNumberError, TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.model.reports.events import CallStatus, Direction
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service.forget import Forget, Trail

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(max_per_person=PersonLimit(2, timedelta(hours=24)))
HOUR = timedelta(hours=1)
NAMESPACES = (
    AUDIT, SUPPRESSED, writes.NUMBER, writes.SECOND_PARTY, writes.BRIDGE, writes.PERSON, INCOMING, EARLY,
)  # fmt: skip
_places = itertools.count()


@dataclass
class Life:
    """A person with two calls of today, one that waits, and a friend in a call."""

    store: Store
    clock: ManualClock
    number: str = field(default_factory=lambda: f"+659{next(_places):07}")
    voice: ScriptedVoice = field(default_factory=ScriptedVoice)
    called: Any = None

    def engine(self, queue: str = "default") -> Engine:
        return Engine(self.store, self.voice, queue=queue, policy=POLICY)

    async def lived(self) -> Life:
        engine = self.engine()
        for _ in range(2):
            self.called = await engine.enqueue(self.number)
            assert [job.id for job in await engine.send()] == [self.called.id]
            await engine.summarise(self.called)
            self.clock.advance(timedelta(seconds=1))  # so that the calls have an order
        await engine.enqueue(self.number, not_before=self.clock.now() + 9 * HOUR)
        friend = f"+658{self.number[4:]}"
        bridged = CallFlow.call(friend, source=SOURCE).say("-", voice_profile="x").then_call(self.number, source=SOURCE)
        await self.engine("friends").queue.enqueue(bridged)
        await self.engine("friends").send()
        await CallProgress(self.store).status(
            CallStatus(session_id=f"in-{self.number}", direction=Direction.INBOUND, source=self.number, call_status="X")
        )
        leg = CallLeg(destination=self.number, status="COMPLETED")
        early = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", legs=(leg,))
        await Sessions(self.store).early.add({f"early-{self.number[3:]}": early})
        return self

    def over(self, store: Store) -> Life:
        """The same, over a store that something happens to."""
        return replace(self, store=store)

    def order(self) -> Forget:
        return Forget(operator=Operator(self.store, POLICY, name="Li"), number=self.number, note=f"{self.number} asked")

    async def named_in(self) -> set[str]:
        """The namespaces with the number in clear, alone or with its country code."""
        found = await self.store.records({name: Page(limit=100_000) for name in NAMESPACES}, now=self.clock.now())
        clear = re.compile(rf"(?<![0-9A-Za-z])(?:{re.escape(self.number)}|{self.number[3:]})(?![0-9A-Za-z])")
        return {name for name, records in found.items() if any(clear.search(f"{each}") for each in records)}

    async def listed(self) -> bool:
        return bool(await SuppressionList(self.store).entries_of([self.number]))

    async def calls(self) -> list[Job]:
        return await Trail(self.store, self.number, policy=POLICY).calls()

    async def rings_again(self) -> bool:
        """Whether a call that is enqueued now is sent, in a queue of its own or in that of the calls of today."""
        rang = len(self.voice.placed)
        for queue in ("default", "other"):
            engine = self.engine(queue)
            with suppress(SuppressedNumberError):
                job = await engine.enqueue(self.number)
                await engine.send()
                with suppress(TooLateError):  # it does not stand before those of the next life
                    await engine.queue.cancel(job.id)
        return len(self.voice.placed) > rang


Happens = Callable[[Life], Awaitable[object]]


async def erases(life: Life) -> Any:
    return (await life.order().do()).documents[0]


async def is_put_on_the_list(life: Life) -> None:
    who = Operator(life.store, POLICY, name="Li")
    await Suppress(operator=who, numbers=[life.number], note=f"{life.number} asked").do()


async def is_taken_off_the_list(life: Life) -> None:
    await Unsuppress(operator=Operator(life.store, POLICY), numbers=[life.number]).do()


async def is_enqueued(life: Life) -> Job:
    return await life.engine("new").enqueue(life.number)


async def is_redialled(life: Life) -> None:
    who = Operator(life.store, POLICY)
    await Redial(operator=who, call=life.called.id, note=f"{life.number} asked", force=True).do()


# --- what must hold afterwards ---


async def the_person_stays_on_the_list(life: Life, done: Mapping[str, Any]) -> None:
    listed = (await SuppressionList(life.store).entries_of([life.number])).get(life.number)
    assert listed is not None, "an opt-out that had returned is gone"
    assert listed.until is None, "an opt-out for good that had returned is gone"


async def the_list_is_as_it_was_ordered(life: Life, done: Mapping[str, Any]) -> None:
    assert await life.listed() is isinstance(done["other"], Exception)


async def the_call_waits_or_was_cancelled(life: Life, done: Mapping[str, Any]) -> None:
    left = {job.id for job in await life.calls() if job.state is JobState.QUEUED}
    receipt = done["erasure"]
    assert isinstance(receipt, Exception) or done["other"].id in left or receipt["cancelled"] >= 2


async def no_call_is_left(life: Life, done: Mapping[str, Any]) -> None:
    assert isinstance(done["erasure"], Exception) or await life.calls() == []


Check = Callable[[Life, Mapping[str, Any]], Awaitable[None]]
ACTS: Mapping[str, tuple[Happens, Check, frozenset[str]]] = {
    "suppress": (is_put_on_the_list, the_person_stays_on_the_list, frozenset({SUPPRESSED, AUDIT})),
    "unsuppress": (is_taken_off_the_list, the_list_is_as_it_was_ordered, frozenset({AUDIT})),
    "enqueue": (is_enqueued, the_call_waits_or_was_cancelled, frozenset()),
    "redial": (is_redialled, no_call_is_left, frozenset({AUDIT})),
    "another erasure": (erases, no_call_is_left, frozenset()),
}
"""What happens beside the erasure; what must hold then; and where the number may be, if the act began later."""
REFUSED = (ActionRefusedError, ChangedSinceError, JobError)


class Explored:
    """One of two acts is stopped before its n-th trip to the store, and the other runs as a whole."""

    def __init__(self, life: Life, name: str, *, erasure_first: bool, place: int) -> None:
        self.life = life
        self.act, self.check, self.may_name = ACTS[name]
        self.place = place
        self.first, self.second = ("erasure", "other") if erasure_first else ("other", "erasure")
        self.done: dict[str, Any] = {}
        self.trips = 0

    async def runs(self) -> bool:
        """Returns False if the first act had fewer trips."""
        if self.act in {is_put_on_the_list, is_taken_off_the_list}:
            await SuppressionList(self.life.store).add(self.life.number, until=self.life.clock.now() + HOUR)
        await self._run(self.first, self.life.over(FaultyStore(self.life.store, before=self._before)))
        if self.second not in self.done:
            return False
        await self._judge()
        return True

    async def _before(self, _: StoreCall) -> None:
        self.trips += 1
        if self.trips == self.place:
            await self._run(self.second, self.life)

    async def _run(self, name: str, life: Life) -> None:
        try:
            self.done[name] = await (erases if name == "erasure" else self.act)(life)
        except REFUSED as error:
            self.done[name] = error

    async def _judge(self) -> None:
        life, refused = self.life, isinstance(self.done["erasure"], Exception)
        await self.check(life, self.done)
        if not refused:
            named = await life.named_in()
            assert named <= self.may_name, f"the number is in {named}"
            assert AUDIT not in named or named & {SUPPRESSED} or self.act is not is_put_on_the_list, (
                "in the audit alone"
            )
        assert not await life.rings_again(), "a phone rang that is limited, in a call, or on the list"


async def explored(life_of: Callable[[], Awaitable[Life]], name: str, *, every: int = 1) -> int:
    """All places of both directions; returns how many."""
    places = 0
    for erasure_first in (True, False):
        for place in itertools.count(1, every):
            if not await Explored(await life_of(), name, erasure_first=erasure_first, place=place).runs():
                break
            places += 1
    return places


@pytest.fixture
async def lives(backend: str, fresh_url: Callable[[str], str], clock: ManualClock) -> AsyncIterator[Any]:
    async with open_store(fresh_url(backend), clock=clock) as store:
        yield lambda: Life(store, clock).lived()


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("backend", ["memory"])
async def test_an_erasure_and_another_act_do_not_undo_each_other(lives: Any, name: str) -> None:
    assert await explored(lives, name, every=11) >= 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("backend", EVERY)
async def test_at_no_place_do_an_erasure_and_another_act_undo_each_other(lives: Any, name: str) -> None:
    assert await explored(lives, name) >= 20
