"""Those who hand in calls while processes are killed: a feeder, and tasks that are started again and again."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from signal import Signals

import anyio

from tests.crash.asked import Asked, Kind, Register
from tests.crash.fault_injection import FaultInjection
from tests.crash.lights import Lights
from tests.crash.menu import NEVER_CALLED
from tests.crash.mix import REDIAL, Mix, is_never_reached, suppressed_in
from voiceflow_worker import CallFlowError, JobState, SuppressionList, open_store
from voiceflow_worker.errors import KeyConflictError, StoreUnavailableError, SuppressedNumberError

FED_AT_ONCE = 400
ROWS = 20
TRIES = (2, 5)
TOGETHER = 200
"""The most calls that are handed in in one step."""
NEVER_REFUSED = frozenset(Kind) - {Kind.SUPPRESSED, Kind.BRIEF}
"""Those that are never refused, too late or on the list."""


class Hands:
    """Hands in the mix: `wanted` calls, or without end where it is None."""

    def __init__(self, lab: FaultInjection, lights: Lights, dice: random.Random, *, wanted: int | None) -> None:
        self._lab = lab
        self._lights = lights
        self._dice = dice
        self._wanted = wanted
        self._making = threading.Lock()
        self._mix = Mix(random.Random(dice.random()))
        self._open: list[Asked] = []
        """Asked for, and the store did not answer."""
        lab.register = self.register = Register({NEVER_CALLED})
        self.waiting = 0
        self.tasks_killed = 0
        self.tasks_stopped = 0
        self.handed_in_again = 0

    def begin(self) -> None:
        """Put the number that the menu still has on the list, and hand in the first calls."""
        anyio.run(self._suppress, [NEVER_CALLED])
        self.feed()

    @property
    def missing(self) -> int:
        """How many calls are still to be handed in."""
        return 0 if self._wanted is None else max(self._wanted - len(self.register), 0)

    # -- the feeder --------------------------------------------------------------------------------------------------

    def feed_on(self) -> None:
        """Feed to the end of the run."""
        while not self._lights.sleep(0.2):
            if not self._lights.may_start():
                return
            try:
                self.feed()
            finally:
                self._lights.ended()

    def feed(self) -> None:
        """Keep some calls waiting: an empty queue is no test, and a full one is not needed."""
        try:
            self.waiting = self._lab.states().get(JobState.QUEUED.value, 0)
            wanted = FED_AT_ONCE if self.waiting < FED_AT_ONCE else 0
            self.hand_in(wanted if self._wanted is None else min(wanted, self.missing))
        except StoreUnavailableError:
            pass  # it is being rolled back, or busy: next time

    def hand_in(self, count: int) -> None:
        """Hand in so many calls. Raises `StoreUnavailableError`; they are handed in again with the next."""
        with self._making:
            new = self._mix.calls(count, now=datetime.now(UTC))
            settled = self.register.settled
            left = [each for each in self._open if each.key not in settled or each.kind is Kind.SUPPRESSED]
            calls, self._open = [*left, *new], [*left, *new]
        if not calls:
            return
        scripts = [
            {"destination": each.destination, "outcome": "BUSY", "times": REDIAL.limit + 1}
            for each in new
            if is_never_reached(each)
        ]
        if scripts:
            self._lab.order_of_sandbox("script", *scripts)
        anyio.run(self._taken, calls)
        self._open = []

    def hand_in_the_rest(self, tell: Callable[[str], None]) -> None:
        """Hand in what is missing when the run is over, and before it what the store has not answered for."""
        self.hand_in(0)
        for left in range(self.missing, 0, -FED_AT_ONCE):
            tell(f"{left} calls are left to hand in")
            self.hand_in(min(left, FED_AT_ONCE))

    async def _taken(self, calls: Sequence[Asked]) -> None:
        await _in_parts(self._lab, calls)
        numbers = [suppressed_in(each) for each in calls if each.kind is Kind.SUPPRESSED]
        if numbers:
            await self._suppress(numbers)
            self.register.suppress(numbers)

    async def _suppress(self, numbers: Sequence[str]) -> None:
        async with open_store(self._lab.store) as store:
            await SuppressionList(store).add(*numbers, reason="asked to be left alone")

    # -- after the store was rolled back -------------------------------------------------------------------------------

    def hand_in_everything_again(self) -> None:
        """What a person does with their files once a backup is in place, the list of suppressed numbers first."""
        anyio.run(self._everything)

    async def _everything(self) -> None:
        await self._suppress(sorted(self.register.suppressed))
        await _in_parts(self._lab, self.register.calls)

    def hand_in_again_on(self) -> None:
        """To the end of the run, hand in a few calls again that were handed in before: nothing may come of it."""
        dice = random.Random(self._dice.random())
        while not self._lights.sleep(dice.uniform(0.3, 1.0)):
            if not self._lights.may_start():
                return
            try:
                known = self.register.confirmed
                calls = [each for each in self.register.calls if each.key in known and each.kind in NEVER_REFUSED]
                again = dice.sample(calls, min(len(calls), 10))
                with contextlib.suppress(StoreUnavailableError):
                    anyio.run(_in_parts, self._lab, again)
                    self.handed_in_again += len(again)
            finally:
                self._lights.ended()

    # -- tasks -------------------------------------------------------------------------------------------------------

    def run_tasks(self) -> None:
        """One task after the other: tried, killed or stopped, tried again, and at last left to its end."""
        dice = random.Random(self._dice.random())
        number = 0
        while not self._lights.is_over:
            number += 1
            with self._making:
                rows = self._mix.rows(ROWS, batch_id=f"task-{number}")
            for left in range(dice.randint(*TRIES), -1, -1):
                if left == 0 or self._lights.is_over:
                    self._to_its_end(rows)
                    break
                self._tried(rows, dice)

    def _tried(self, rows: Sequence[Asked], dice: random.Random) -> None:
        if not self._lights.may_start():
            return
        try:
            child = self._lab.task(rows, stays=True)
            self._lights.wait(dice.uniform(0, 0.5))
            if dice.random() < 0.5:
                child.end(Signals.SIGKILL)
                self.tasks_killed += 1
            else:
                child.end(Signals.SIGTERM)
                self.tasks_stopped += 1
            self._hear(rows, child.word("handed"))
        finally:
            self._lights.ended()

    def _to_its_end(self, rows: Sequence[Asked]) -> None:
        """Also when the run is over: what was taken back is to be called in the end."""
        log = ""
        for _ in range(5):
            counted = self._lights.may_start()
            try:
                child = self._lab.task(rows, stays=False)
                if child.wait() == 0:
                    self._hear(rows, child.word("handed"))
                    return
                log = child.log
            finally:
                if counted:
                    self._lights.ended()
        raise AssertionError(f"a task could not hand in its rows:\n{log[-3000:]}")

    def _hear(self, rows: Sequence[Asked], told: dict[str, list[str]] | None) -> None:
        if told is not None:
            pairs = zip((each.key for each in rows), told["ids"], strict=True)
            self.register.confirm(pairs)


async def _in_parts(lab: FaultInjection, calls: Sequence[Asked]) -> None:
    for start in range(0, len(calls), TOGETHER):
        await _handed_in(lab, calls[start : start + TOGETHER])


async def _handed_in(lab: FaultInjection, calls: Sequence[Asked]) -> None:
    """Hand in calls; those that are refused by now and that the store has not are left out."""
    try:
        await lab.hand_in(calls)
    except (CallFlowError, SuppressedNumberError, KeyConflictError):
        if len(calls) > 1:
            # In halves: a few of many are refused, and each trip opens the store.
            for half in (calls[: len(calls) // 2], calls[len(calls) // 2 :]):
                await _handed_in(lab, half)
            return
        owners = await lab.owners([calls[0].key])
        lab.register.confirm(owners.items())
        if not owners:
            lab.register.drop([calls[0].key])
