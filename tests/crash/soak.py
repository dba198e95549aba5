"""The soak: workers and the receiver are killed at random moments, over many calls, and the ledger is the judge.

`python -m tests.crash.soak --kills 1000 --calls 20000`, or `./dev soak --minutes 10 --seed 7 --store redis://…`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from signal import Signals

from tests.crash.aftermath import aftermath
from tests.crash.children import Children, zygote
from tests.crash.laboratory import Laboratory
from tests.crash.phases import Board
from tests.crash.report import Report, Strikes
from tests.crash.weather import weather
from tests.support.redis_server import standalone
from voiceflow_worker import CallPolicy, JobState

LEASE = timedelta(seconds=1.5)
POLICY = CallPolicy(
    submit_window=timedelta(seconds=15),
    ringing=timedelta(seconds=5),
    clock_skew=timedelta(seconds=1),
    summary_deadline=timedelta(seconds=8),
)
RECEIVER = 0
"""The receiver's seat; the workers' come after it."""
SPEED = 40
"""A phone rings and talks for 0.1 to 2 s: some summaries come before the sweep has doubted a call, some after."""
FREEZES = 0.02
LOST_SUMMARIES = 0.1
"""How often, ten times a second, the summary of the next call is ordered never to come: the log must tell of it."""
PACED = 0.3
"""The share of workers with a rate: they journal calls some time before these may leave."""
FED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much: until `kills` were made and `calls` handed in, or, where `minutes` are given, for so long."""

    seed: int
    kills: int
    calls: int
    minutes: float | None = None
    workers: int = 2
    concurrency: int = 8
    life: float = 0.25
    """Seconds that a worker lives on average, to begin with."""


class Soak:
    """One run. Each seat has a thread that starts a process there and kills it, again and again."""

    def __init__(self, lab: Laboratory, plan: Plan, board: Board, told: Callable[[str], None]) -> None:
        self._lab = lab
        self._plan = plan
        self._board = board
        self._tell = told
        self._began = time.monotonic()
        self._strikes = Strikes()
        self._taken = 0
        self._life = plan.life
        self._lived = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._failed: list[BaseException] = []

    def run(self) -> Report:
        """Kill until the plan is done; then drain, judge, have a person resolve what is open, and judge again."""
        self._feed()
        tasks: list[Callable[[], None]] = [self._feed_on, self._weather, self._kill_receivers]
        tasks += [partial(self._kill_workers, seat) for seat in range(1, self._plan.workers + 1)]
        threads = [threading.Thread(target=self._guarded, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        try:
            while not self._over.wait(5):
                self._tell(
                    f"{self._strikes.kills} kills, {self._taken} calls taken up, {self._life * 1000:.0f} ms a life"
                )
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._failed:
            raise self._failed[0]
        if self._plan.minutes is None and (missing := self._plan.calls - len(self._lab.enqueued)):
            self._lab.enqueue(missing)
        verdicts = aftermath(self._lab, lease=LEASE, concurrency=2 * self._plan.concurrency, tell=self._tell)
        return Report(
            seed=self._plan.seed,
            store=self._lab.store.partition("?")[0],
            seconds=time.monotonic() - self._began,
            strikes=self._strikes,
            verdicts=verdicts,
        )

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised again where the threads are joined
            self._failed.append(error)
            self._over.set()

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed}/{name}")

    def _kill_workers(self, seat: int) -> None:
        dice = self._dice(f"worker {seat}")
        while not self._over.is_set():
            began = time.monotonic()
            self._board.clear(seat)
            child = self._lab.worker(concurrency=self._plan.concurrency, lease=LEASE, seat=self._board.order(seat))
            if dice.random() < FREEZES:
                self._over.wait(dice.uniform(0.1, 2 * self._life))
                child.signal(Signals.SIGSTOP)
                self._over.wait(LEASE.total_seconds() * dice.uniform(1, 2))
                child.signal(Signals.SIGCONT)
                with self._lock:
                    self._strikes.freezes += 1
            self._over.wait(dice.uniform(0, 2 * self._life))
            assert not child.has_ended, f"a worker ended by itself:\n{child.log[-5000:]}"
            child.end(Signals.SIGKILL)
            with self._lock:
                self._strikes.workers += 1
                self._strikes.met(self._board.read(seat))
                self._lived += time.monotonic() - began
                self._steer()

    def _kill_receivers(self) -> None:
        dice = self._dice("receiver")
        while True:
            self._over.wait(dice.uniform(0.1, 10 * self._life))
            if self._over.is_set():
                return
            self._lab.receiver.end(Signals.SIGKILL)
            with self._lock:
                self._strikes.receivers += 1
                self._strikes.met(self._board.read(RECEIVER))
            self._board.clear(RECEIVER)
            self._lab.start_receiver()

    def _steer(self) -> None:
        """Let workers live longer or shorter, so that calls and kills come to their end together."""
        plan = self._plan
        if plan.minutes is not None:
            if time.monotonic() - self._began > plan.minutes * 60:
                self._over.set()
            return
        if self._strikes.kills >= plan.kills:
            self._over.set()
        calls_of_a_life = (plan.calls - self._taken) / max(plan.kills - self._strikes.kills, 1)
        self._life = min(max(calls_of_a_life * self._lived / max(self._taken, 1), 0.03), 3.0)

    def _feed_on(self) -> None:
        while not self._over.wait(0.2):
            self._feed()

    def _feed(self) -> None:
        """Keep some calls waiting: an empty queue is no test, and a full one is not needed."""
        waiting = self._lab.states().get(JobState.QUEUED.value, 0)
        wanted = FED_AT_ONCE if waiting < FED_AT_ONCE else 0
        if self._plan.minutes is None:
            wanted = min(wanted, self._plan.calls - len(self._lab.enqueued))
        self._taken = len(self._lab.enqueued) - waiting
        if wanted:
            self._lab.enqueue(wanted)

    def _weather(self) -> None:
        dice = self._dice("weather")
        while not self._over.wait(0.1):
            self._lab.faults(weather(dice))
            if dice.random() < LOST_SUMMARIES:
                self._lab.order_of_sandbox("script", {"times": 1, "drop": True})


def soak(plan: Plan, *, children: Children, store: str, folder: Path, told: Callable[[str], None]) -> Report:
    """Soak an empty store. Raises `AssertionError` where the laboratory itself fails."""
    board = Board(folder / "phases", seats=plan.workers + 1)
    board.clear(RECEIVER)
    lab = Laboratory(children, store, folder, policy=POLICY, speed=SPEED)
    with lab.running(receiver_seat=board.order(RECEIVER)):
        if sum(lab.states().values()):
            raise AssertionError(f"the store {store} is not empty: a soak begins with an empty one")
        return Soak(lab, plan, board, told).run()


@contextmanager
def _opened(store: str | None, folder: Path) -> Iterator[str]:
    """The store to soak: a new file, a server of our own for `redis`, or what the URL names."""
    match store:
        case None | "sqlite":
            yield f"sqlite:///{folder / 'calls.db'}"
        case "redis":
            server = standalone(folder / "redis").start()
            try:
                yield server.url
            finally:
                server.kill()
        case url:
            yield url


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long to go on killing, instead of --kills and --calls")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--store", help="sqlite, redis (a server of its own), or the URL of an empty store")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="the report as one JSON document on stdout")
    given = parser.parse_args(arguments)
    plan = Plan(seed=given.seed, kills=given.kills, calls=given.calls, minutes=given.minutes, workers=given.workers)
    began = time.monotonic()

    def told(text: str) -> None:
        sys.stderr.write(f"soak: {time.monotonic() - began:6.0f} s  {text}\n")

    with tempfile.TemporaryDirectory(prefix="voiceflow-soak-") as name:
        folder = Path(name)
        with _opened(given.store, folder) as store, zygote() as children:
            told(f"seed {plan.seed} on {store}")
            report = soak(plan, children=children, store=store, folder=folder, told=told)
    sys.stdout.write(f"{json.dumps(report.as_json()) if given.json else report}\n")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
