"""The laboratory: a store, a sandbox and a receiver, workers to strike, and a judge."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import Signals
from typing import Any

import anyio
import httpx

from tests.crash.asked import Asked, Kind, Register, pairs_of
from tests.crash.children import WITHIN, Child
from tests.crash.judge import Judgement, Row, judge
from tests.crash.mix import said
from tests.crash.orders import POLICY, ReceiverOrder, SandboxOrder, TaskOrder, WorkerOrder
from tests.crash.points import Trigger
from tests.support.flows import number
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, Job, JobState, open_store
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateKind
from voiceflow_worker.model.jobs.job import FINAL_STATES

AT_REST = {state.value for state in (*FINAL_STATES, JobState.IN_DOUBT)}


@dataclass
class FaultInjection:
    """One store; its sandbox and its receiver run in processes of their own."""

    store: str
    folder: Path
    policy: CallPolicy = POLICY
    speed: float = 300
    retries: int = 100
    register: Register = field(default_factory=Register)
    """What was asked for: the judge goes by it."""
    seeded_defect: str | None = None

    @contextmanager
    def running(self) -> Generator[FaultInjection]:
        """Start the sandbox and the receiver; everything is ended with the block."""
        self._numbers = itertools.count()
        self._receiver_order = ReceiverOrder(
            store=self.store,
            port=_free_port(),
            policy=self.policy,
            seeded_defect=self.seeded_defect,
        )
        self.receiver = self.start_receiver()
        webhook = f"http://127.0.0.1:{self._receiver_order.port}/webhooks/8x8"
        self.sandbox = Child(
            SandboxOrder(webhook=webhook, speed=self.speed, retries=self.retries), log=self.log("sandbox")
        )
        self.url: str = self.sandbox.wait_for("ready")["url"]
        self.journals = self.folder / "journals"
        self.order = WorkerOrder(
            store=self.store,
            base_url=self.url,
            policy=self.policy,
            state_dir=self.journals,
            seeded_defect=self.seeded_defect,
        )
        self._started: list[Child] = []
        with httpx.Client(trust_env=False, timeout=60) as self._client:
            try:
                yield self
            finally:
                for child in (*self._started, self.receiver, self.sandbox):
                    child.end(Signals.SIGKILL)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start_receiver(self, *triggers: Trigger) -> Child:
        """Start the receiver, on the port that the sandbox knows, and wait until it listens."""
        order = replace(self._receiver_order, triggers=triggers)
        self.receiver = Child(order, log=self.log("receiver"))
        self.receiver.wait_for("ready")
        return self.receiver

    def enqueue(self, count: int) -> None:
        """Hand in calls to numbers that are all different."""
        places = itertools.islice(self._numbers, count)
        requests = {
            number(place): CallRequest(flow=said(number(place)), unique_key=f"plain/{place}") for place in places
        }
        calls = [Asked(kind=Kind.PLAIN, request=each, destination=to) for to, each in requests.items()]
        anyio.run(self.hand_in, calls)

    async def hand_in(self, calls: Sequence[Asked]) -> None:
        """Hand in calls of the mix, in one step.

        Raises `StoreUnavailableError`: they are then asked for, and may be there or not.
        """
        self.register.ask(calls)
        async with open_store(self.store) as store:
            enqueued = await CallQueue(store, policy=self.policy).enqueue_many([each.request for each in calls])
        self.register.confirm(pairs_of(calls, enqueued))

    async def owners(self, keys: Sequence[str]) -> dict[str, str]:
        """Which jobs have these keys in the store; those that are free are absent."""
        async with open_store(self.store) as store:
            found = await owners_of(store, keys)
        return {key: owner.id for key, owner in found.items()}

    def task(self, rows: Sequence[Asked], *, stays: bool) -> Child:
        """Start a task that hands these rows in."""
        batch_id = rows[0].request.options.get("batch")
        assert batch_id is not None
        self.register.ask(rows)
        requests = tuple(each.request for each in rows)
        order = TaskOrder(store=self.store, requests=requests, batch_id=batch_id, stays=stays, policy=self.policy)
        child = Child(order, log=self.log("task"))
        self._started = [*(other for other in self._started if not other.has_ended), child]
        return child

    def worker(self, *triggers: Trigger, **fields: Any) -> Child:
        """Start a worker that strikes where the triggers say."""
        order = replace(self.order, triggers=triggers, **fields)
        child = Child(order, log=self.log("worker"))
        self._started = [*(other for other in self._started if not other.has_ended), child]
        return child

    @property
    def workers(self) -> list[Child]:
        """The workers that were started, those that have ended long ago left out."""
        return [child for child in self._started if isinstance(child.order, WorkerOrder)]

    def killed(self, *triggers: Trigger, **fields: Any) -> None:
        """Run a worker to the point at which it kills itself."""
        child = self.worker(*triggers, **fields)
        assert child.wait() == -Signals.SIGKILL, f"it was not struck at {triggers}:\n{child.log}"

    def drain(self, *, seconds: float = WITHIN, **fields: Any) -> dict[str, Any]:
        """Start a worker, and let it drain the queue."""
        child = self.worker(drain=True, **fields)
        told = child.wait_for("drained", seconds=seconds)
        assert child.wait() == 0, child.log
        return told

    def finish(self, *, and_wait_for_summaries: bool = True, seconds: float = WITHIN, **fields: Any) -> dict[str, int]:
        """Let others finish what is left: start a worker and stop it when every job has ended or is in doubt.

        It begins when the leases of dead workers are over, so that its first sweep finds what they left. Gives the
        states. What `drain` does waits for the same, a second at a time.
        """
        leases = [job.due_at for job in self.jobs() if job.state in {JobState.LEASED, JobState.SENDING}]
        left = max(leases) - datetime.now(UTC) if leases else timedelta(0)
        time.sleep(max(left.total_seconds(), 0))  # the leases of killed workers run out with time alone
        worker = self.worker(**fields)
        worker.wait_for("ready")
        rest = AT_REST if and_wait_for_summaries else AT_REST | {JobState.SUBMITTED.value}
        self.wait_until(lambda: self.states().keys() <= rest, "end of all calls", seconds=seconds)
        assert worker.end(Signals.SIGTERM) == 0, worker.log
        return self.states()

    def come_to_rest(self) -> None:
        """Wait until every call has ended and every summary was delivered."""
        self.sandbox.forget("idle")
        self.sandbox.signal(Signals.SIGUSR1)
        self.sandbox.wait_for("idle")

    def order_of_sandbox(self, path: str, *orders: dict[str, Any]) -> None:
        """Order something of the sandbox: faults, scripts."""
        self._client.post(f"{self.url}/_sandbox/{path}", json=list(orders)).raise_for_status()

    def faults(self, *faults: dict[str, Any]) -> None:
        self.order_of_sandbox("faults", *faults)

    def ledger(self) -> list[Row]:
        """Every POST that came in, and whether it rang."""
        rows: list[Row] = self._client.get(f"{self.url}/_sandbox/calls").json()
        return rows

    def jobs(self) -> list[Job]:
        """Every job of the store."""
        return anyio.run(self._jobs)[0]

    def states(self) -> dict[str, int]:
        """How many jobs are in each state that holds any."""
        return {state.value: count for state, count in anyio.run(self._states).items() if count}

    async def _states(self) -> dict[JobState, int]:
        async with open_store(self.store) as store:
            return dict((await CallQueue(store).status()).states)

    async def _jobs(self) -> tuple[list[Job], dict[JobState, int]]:
        async with open_store(self.store) as store:
            queue = CallQueue(store, policy=self.policy)
            return list(await queue.find(limit=None)), dict((await queue.status()).states)

    def holds(self) -> str:
        """Why the queue is held; empty if it is not."""
        return anyio.run(self._holds)

    def awaits_a_person(self) -> bool:
        """Whether a hold says that the store was rolled back, taken over or restored: a person must resume."""
        return anyio.run(self._awaits_a_person)

    async def _holds(self) -> str:
        return "; ".join(gate.reason for gate in await self._gates())

    async def _awaits_a_person(self) -> bool:
        return any(GateKind.MAY_LACK in gate.kinds or "restored from" in gate.reason for gate in await self._gates())

    async def _gates(self) -> Sequence[Gate]:
        async with open_store(self.store) as store:
            return (await CallQueue(store).status()).holds

    def summaries(self, *, after: float, apart: float = 0.0) -> None:
        """Have the summaries of the calls that are enqueued come so many seconds after each was placed."""
        self.order_of_sandbox(
            "script",
            *(
                {
                    "destination": number(place),
                    "ring_seconds": 0,
                    "talk_seconds": 0,
                    "delay_seconds": (after + place * apart) * self.speed,
                }
                for place in range(len(self.register))
            ),
        )

    def wait_until(self, holds: Callable[[], bool], what: str, *, seconds: float = WITHIN) -> None:
        """Look again and again: a process that is tested tells nobody."""
        ends = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > ends:
                held = f"; held: {held}" if (held := self.holds()) else ""
                raise AssertionError(f"in {seconds:.0f} s there was no {what}; the jobs are {self.states()}{held}")
            time.sleep(0.05)  # between two looks at another process

    def wait_for_posts(self, count: int) -> None:
        """Wait until the sandbox has so many POSTs."""
        self.wait_until(lambda: len(self.ledger()) >= count, f"{count} POSTs")

    def wait_for(self, state: str, count: int) -> None:
        """Wait until so many jobs are in a state."""
        self.wait_until(lambda: self.states().get(state, 0) >= count, f"{count} jobs that are {state}")

    def judge(self) -> Judgement:
        """Judge what happened, once everything has come to rest."""
        self.come_to_rest()
        jobs, counted = anyio.run(self._jobs)
        return judge(jobs, self.ledger(), self.register, counted=counted)

    def accept(self) -> Judgement:
        """Judge, and fail with the stories where a promise is broken."""
        judgement = self.judge()
        assert not judgement.violations, str(judgement)
        return judgement


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
