"""The soak: workers, the receiver and tasks are killed at random moments, over calls of all kinds; the ledger judges.

`python -m tests.crash.soak --kills 1000 --calls 20000`, or `./dev soak --minutes 10 --seed 7 --store redis`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from signal import Signals

import structlog

from tests.crash import slow
from tests.crash.aftermath import aftermath
from tests.crash.fault_injection import FaultInjection
from tests.crash.hands import Hands
from tests.crash.judge import Violation, moment
from tests.crash.lights import Light, Lights
from tests.crash.person import Person
from tests.crash.report import Report, Strikes
from tests.crash.rollbacks import Opened, Rollback, opened
from tests.crash.seeded_defects import DEFECTS
from tests.crash.slow import stall_of
from tests.crash.weather import odd_summaries, weather
from voiceflow_worker import CallPolicy
from voiceflow_worker.core.gates import SENT_WITHIN

LEASE = timedelta(seconds=1.5)
POLICY = CallPolicy(
    submit_window=timedelta(seconds=8),
    ringing=timedelta(seconds=5),
    clock_skew=timedelta(seconds=1),
    summary_deadline=timedelta(seconds=8),
    longest_call=timedelta(seconds=10),
)
LIFE = 0.25
"""Seconds that a worker lives on average, to begin with."""
SHORTEST, NOTICES = 0.03, 0.5
"""The shortest average, in seconds; and that after a rollback, which only a worker that has begun can notice."""
CONCURRENCY = 8
SPEED = 40
"""A phone rings and talks for 0.1 to 2 s: some summaries come before the sweep has doubted a call, some after."""
FREEZES = 0.02
ODD_SUMMARIES = 0.1
"""How often, ten times a second, the summary of the next call is ordered never to come, or to come several times."""
PACED = 0.3
"""The share of workers with a rate: they journal calls some time before these may leave."""
OPENED_WITHIN = 5.0
ENDS_WITHIN = 20.0
"""Seconds within which workers must end whose store was taken away."""
RATES = (60.0, 300.0)
SETBACK_EVERY = 250
"""Kills between two rollbacks of the store, with one at least in every run."""
LOG_EVERY = 60.0
"""Seconds between two commands of a person who reads the log of 8x8: no worker lives long enough to do it."""
CRASH_EVERY = (2.0, 10.0)
"""Seconds between two crashes of a server that recovers."""
AT_ONCE = timedelta(seconds=SENT_WITHIN)
"""The time within which a POST leaves after its journal entry."""
OLD = (1.0, 4.0)
"""The age in seconds of the copy that a store is rolled back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much: until `kills` were made and `calls` handed in, or, where `minutes` are given, for so long."""

    seed: int
    kills: int
    calls: int
    workers: int = 2
    minutes: float | None = None
    rollbacks: int | None = None
    """How often the store is rolled back, where it can be; None: by the number of kills."""
    seeded_defect: str | None = None


class Soak:
    """One run. Each worker, and the receiver, has a thread that starts a process and kills it, again and again."""

    def __init__(
        self,
        lab: FaultInjection,
        plan: Plan,
        told: Callable[[str], None],
        store: Opened,
    ) -> None:
        self._lab = lab
        self._crash = store.crash
        self._plan = plan
        self._tell = told
        self._rollbacks = store.rollbacks
        self._began = time.monotonic()
        self._strikes = Strikes()
        self._life = LIFE
        self._shortest = SHORTEST
        self._lived = 0.0
        self._lock = threading.Lock()
        self._person_at_work = threading.Lock()
        self._lights = Lights()
        self._hand_lights = Lights()
        wanted = plan.calls if plan.minutes is None else None
        self._hands = Hands(lab, self._hand_lights, self._dice("hands"), wanted=wanted)
        self._found: list[Violation] = []
        self._failed: list[BaseException] = []

    def run(self) -> Report:
        """Kill until the plan is done; then drain, judge, have a person resolve what is open, and judge again."""
        self._hands.begin()
        tasks: list[Callable[[], None]] = [self._hands.feed_on, self._hands.run_tasks, self._hands.hand_in_again_on]
        tasks += [self._weather, self._slow_commits, self._kill_receivers, self._reconcile]
        tasks += [partial(self._kill_workers, place) for place in range(self._plan.workers)]
        if self._rollbacks:
            tasks.append(self._rollback_on)
        if self._crash is not None:
            tasks.append(partial(self._crash_servers, self._crash))
        threads = [threading.Thread(target=self._guarded, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        try:
            while not self._lights.sleep(5):
                self._tell(self._progress())
        finally:
            self._end()
            for thread in threads:
                thread.join()
        if self._failed:
            raise self._failed[0]
        self._hands.hand_in_the_rest(self._tell)
        if self._lab.holds():
            # By a worker that began while the person settled a rollback, or after refusals in a row without a receiver.
            self._settle(Person(self._lab, self._tell), "the last hold")
        verdicts = aftermath(self._lab, lease=LEASE, concurrency=2 * CONCURRENCY, tell=self._tell)
        strikes = self._strikes
        strikes.tasks, strikes.tasks_stopped = self._hands.tasks_killed, self._hands.tasks_stopped
        strikes.handed_in_again = self._hands.handed_in_again
        return Report(
            seed=self._plan.seed,
            store=self._lab.store.partition("?")[0],
            seconds=time.monotonic() - self._began,
            strikes=strikes,
            kinds=Counter(each.kind.value for each in self._hands.register.calls),
            verdicts=verdicts,
            found=tuple(self._found),
        )

    def _end(self) -> None:
        self._lights.end()
        self._hand_lights.end()

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised again where the threads are joined
            self._failed.append(error)
            self._end()

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed}/{name}")

    def _progress(self) -> str:
        plan, kills, seconds = self._plan, self._strikes.kills, time.monotonic() - self._began
        total = f" of {plan.kills}" if plan.minutes is None else ""
        left = plan.minutes * 60 - seconds if plan.minutes is not None else seconds * (plan.kills / max(kills, 1) - 1)
        return (
            f"{kills}{total} kills, {len(self._hands.register)} calls, "
            f"{self._strikes.rollbacks} rollbacks; {max(left, 0):.0f} s left, then the judgement"
        )

    _carried_out = 0

    def _kill_workers(self, place: int) -> None:
        dice = self._dice(f"worker {place}")
        while self._lights.may_start():
            try:
                self._one_life(dice)
            finally:
                self._lights.ended()

    def _one_life(self, dice: random.Random) -> None:
        began = time.monotonic()
        rate = dice.uniform(*RATES) if dice.random() < PACED else None
        child = self._lab.worker(concurrency=CONCURRENCY, lease=LEASE, rate=rate)
        if dice.random() < FREEZES:
            self._lights.wait(dice.uniform(0.1, 2 * self._life))
            child.signal(Signals.SIGSTOP)
            self._lights.wait(LEASE.total_seconds() * dice.uniform(1, 2))
            child.signal(Signals.SIGCONT)
            with self._lock:
                self._strikes.freezes += 1
        self._lights.wait(dice.uniform(0, 2 * self._life))
        counts = self._lights.may_kill()
        ended = child.has_ended
        # A worker whose store goes away while it starts ends with an error, and its supervisor starts it again.
        lost = self._strikes.rollbacks or self._strikes.crashes
        assert not ended or lost, f"a worker ended by itself:\n{child.log[-5000:]}"
        child.end(Signals.SIGKILL if counts else Signals.SIGTERM)
        with self._lock:
            self._strikes.ended += ended
            self._strikes.workers += counts and not ended
            self._lived += time.monotonic() - began
            self._steer()

    def _kill_receivers(self) -> None:
        dice = self._dice("receiver")
        counted = self._lights.may_start()
        try:
            while counted and not self._lights.wait(dice.uniform(0.1, 10 * self._life)):
                counts = self._lights.may_kill()
                if self._lights.is_over:
                    return
                self._lab.receiver.end(Signals.SIGKILL if counts else Signals.SIGTERM)
                with self._lock:
                    self._strikes.receivers += counts
                self._lights.ended()
                counted = self._lights.may_start()
                self._lab.start_receiver()
        finally:
            if counted:
                self._lights.ended()

    def _steer(self) -> None:
        """Let workers live longer or shorter, so that calls and kills come to their end together."""
        plan = self._plan
        if plan.minutes is not None:
            if time.monotonic() - self._began > plan.minutes * 60:
                self._end()
            return
        if self._strikes.kills >= plan.kills and not self._owed():
            self._end()
        taken = len(self._hands.register) - self._hands.waiting
        calls_of_a_life = (plan.calls - taken) / max(plan.kills - self._strikes.kills, 1)
        self._life = min(max(calls_of_a_life * self._lived / max(taken, 1), self._shortest), 3.0)

    def _weather(self) -> None:
        dice = self._dice("weather")
        while not self._lights.sleep(0.1):
            self._lab.faults(weather(dice))
            if dice.random() < ODD_SUMMARIES:
                self._lab.order_of_sandbox("script", odd_summaries(dice))

    def _slow_commits(self) -> None:
        dice, stall = self._dice("slow commits"), stall_of(self._lab.store)
        while not self._lights.sleep(dice.uniform(*slow.EVERY)):
            if not self._lights.may_start():
                return
            try:
                self._strikes.slow_commits += stall(dice.uniform(*slow.SECONDS))
            finally:
                self._lights.ended()

    def _reconcile(self) -> None:
        person = Person(self._lab, self._tell)
        while not self._lights.sleep(LOG_EVERY):
            if not self._lights.may_start():
                return
            try:
                person.does("reconcile")
            finally:
                self._lights.ended()

    def _crash_servers(self, crash: Callable[[], None]) -> None:
        dice = self._dice("crashes")
        while not self._lights.sleep(dice.uniform(*CRASH_EVERY)):
            with self._person_at_work:
                self._strikes.crashes += 1  # before it: a worker may end at once
                crash()

    # -- rollbacks ---------------------------------------------------------------------------------------------------

    def _owed(self) -> int:
        """How many rollbacks are still to come."""
        if not self._rollbacks or self._plan.minutes is not None:
            return 0
        wanted = self._plan.rollbacks
        return (max(self._plan.kills // SETBACK_EVERY, 1) if wanted is None else wanted) - self._carried_out

    def _rollback_on(self) -> None:
        dice = self._dice("rollbacks")
        owed = self._owed()
        every = self._plan.kills / (owed + 1) if owed else SETBACK_EVERY
        while not self._lights.sleep(0.1):
            if self._strikes.kills < every * (self._strikes.rollbacks + 1) or (owed and not self._owed()):
                continue
            self._roll_back(self._rollbacks[self._strikes.rollbacks % len(self._rollbacks)], dice)
            self._carried_out += 1  # the run does not end before it: what is left of the tasks would open the store

    def _roll_back(self, rollback: Rollback, dice: random.Random) -> None:
        """Copy, go on for a while, strike, and let the person put it right, who alone hands calls in meanwhile."""
        person = Person(self._lab, self._tell)
        copied = datetime.now(UTC)
        rollback.copy(person.does)
        since = datetime.now(UTC) + AT_ONCE
        if self._lights.sleep(dice.uniform(*OLD)):
            return
        self._life = self._shortest = NOTICES  # a worker that is killed as soon as it begins sends nothing
        while not any(moment(row["at"]) > since for row in self._lab.ledger()):  # else nothing tells of the rollback
            if self._lights.sleep(0.1):
                return
        self._shortest = SHORTEST
        with self._hand_lights.switched(Light.STOP):
            if self._lights.is_over:
                return
            self._strikes.rollbacks += 1
            with self._lights.switched(rollback.light):
                if rollback.must_end:
                    # Who is about to open the store does so before: SQLite would read the log of one into the other.
                    time.sleep(OPENED_WITHIN)  # a process that opens the store gives no sign of it
                    for child in self._lab.workers:
                        if not child.has_ended:
                            child.wait_for("ready")
                rollback.strike(person.does)
                if rollback.must_end:
                    self._see_all_workers_end(rollback)
                    self._lights.turn(Light.STOP)
                    rollback.undo()
                    return
            # The sandbox tells again and again what nobody took: events of before come for some time after.
            self._hands.register.rolled_back(copied=copied, struck=datetime.now(UTC))
            self._tell(f"the store was rolled back: {rollback.name}")
            self._life = self._shortest = NOTICES
            noticed = person.sees_a_hold()
            self._shortest = SHORTEST
            if not noticed:
                self._found.append(Violation(f"SET BACK: {rollback.name}: the queue was not held", None, ()))
            with self._person_at_work, self._lights.switched(Light.LIVE):
                self._hands.hand_in_everything_again()
                if noticed:
                    self._settle(person, rollback.name)

    def _settle(self, person: Person, what: str) -> None:
        if left := person.settles():
            self._found.append(Violation(f"SET BACK: {what}: the store was not put right: {left}", None, ()))

    def _see_all_workers_end(self, rollback: Rollback) -> None:
        """Whoever has the old file open must notice, and end."""
        self._tell(f"the store was taken away: {rollback.name}")
        ends = time.monotonic() + ENDS_WITHIN
        while alive := [child for child in self._lab.workers if not child.has_ended]:
            if time.monotonic() > ends:
                self._found.append(Violation(f"GOES ON: {rollback.name}: {len(alive)} workers did not end", None, ()))
                return
            time.sleep(0.05)  # between two looks at other processes


def soak(
    plan: Plan,
    store: Opened,
    *,
    folder: Path,
    told: Callable[[str], None],
) -> Report:
    """Soak an empty store. Raises `AssertionError` where the laboratory itself fails."""
    lab = FaultInjection(store.url, folder, policy=POLICY, speed=SPEED, seeded_defect=plan.seeded_defect)
    with lab.running():
        if sum(lab.states().values()):
            raise AssertionError(f"the store {store.url} is not empty: a soak begins with an empty one")
        return Soak(lab, plan, told, store).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long to go on killing, instead of --kills and --calls")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2, help="how many call at once")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--store", help="sqlite, redis or postgres (a server of its own), or the URL of an empty store")
    parser.add_argument(
        "--seeded-defect",
        choices=list(DEFECTS),
        help="break the product on purpose: the report must be bad",
    )
    given = parser.parse_args(arguments)
    plan = Plan(
        seed=given.seed,
        kills=given.kills,
        calls=given.calls,
        workers=given.workers,
        minutes=given.minutes,
        seeded_defect=given.seeded_defect,
    )
    began = time.monotonic()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the report

    def told(text: str) -> None:
        sys.stderr.write(f"soak: {time.monotonic() - began:6.0f} s  {text}\n")

    with tempfile.TemporaryDirectory(prefix="voiceflow-soak-") as name:
        folder = Path(name)
        with opened(given.store, folder) as there:
            told(f"seed {plan.seed} on {there.url}")
            report = soak(plan, there, folder=folder, told=told)
    sys.stdout.write(f"{report}\n")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
