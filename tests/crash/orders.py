"""Orders for forked processes: a worker, a receiver, a task that hands in calls, a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.crash.points import Trigger
from voiceflow_worker import CallPolicy, CallRequest

POLICY = CallPolicy(clock_skew=timedelta(seconds=2))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """A worker on `store` that calls through `base_url`; it ends when the queue is drained, or never."""

    store: str
    base_url: str
    drain: bool = False
    concurrency: int = 8
    rate: float | None = None
    lease: timedelta = timedelta(seconds=0.5)
    grace: timedelta = timedelta(seconds=10)
    read_timeout: timedelta = timedelta(seconds=10)
    policy: CallPolicy = POLICY
    state_dir: Path | None = None
    """Where it keeps a journal file of its own; None: it keeps none."""
    triggers: tuple[Trigger, ...] = ()
    seeded_defect: str | None = None
    """What of the product is broken on purpose, to see the laboratory find it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder:
    """A task as Airflow runs them: it hands its rows in, arms again what an earlier try took back, and, if it `stays`,
    waits until it is told to stop, and then takes back what was not sent."""

    store: str
    requests: tuple[CallRequest, ...]
    batch_id: str
    stays: bool
    policy: CallPolicy = POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverOrder:
    """A receiver of webhooks on `port`."""

    store: str
    port: int
    policy: CallPolicy = POLICY
    triggers: tuple[Trigger, ...] = ()
    seeded_defect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOrder:
    """A sandbox; it tells its URL when it is ready, and at SIGUSR1 when every event has been delivered."""

    webhook: str
    speed: float = 300
    seed: str = "0"
    retries: int = 100
    clock_offset: timedelta = field(default=timedelta())


Order = WorkerOrder | ReceiverOrder | TaskOrder | SandboxOrder
