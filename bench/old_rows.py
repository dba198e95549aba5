"""What time does to a PostgreSQL store: an old open transaction, and many lives of calls.

python -m bench.old_rows held [--minutes 30] [--rate 50]    the time of a lease while a transaction stays open
python -m bench.old_rows lives [--jobs 1000000]             the size of the tables, by autovacuum alone
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench.rung import client_of, request
from bench.throughput import sink
from tests.contract.samples import HOUR, NOW, add_jobs, commit, moved, new_job, sample_job
from tests.support.postgres import PostgresServer, connected
from voiceflow_worker import CallPolicy, CallQueue, JobState, Worker, open_store
from voiceflow_worker.core.heartbeats import WORKERS
from voiceflow_worker.core.ports.reads import ById
from voiceflow_worker.core.ports.store import Event, EventKind, Put, Store
from voiceflow_worker.core.worker import WorkerOptions
from voiceflow_worker.core.writes import NUMBER, WRITERS
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.policy import OutcomeSource

AT_ONCE = 100
LIFE = (JobState.LEASED, JobState.SENDING, JobState.SUBMITTED, JobState.COMPLETED)
SMALL = 1024 * 1024
"""Bytes of a table below which its growth is of no interest."""


@contextlib.contextmanager
def running(*settings: str) -> Iterator[PostgresServer]:
    """A server of its own."""
    server = PostgresServer(*settings)
    try:
        yield server.start()
    finally:
        server.close()


async def held(server: PostgresServer, port: int, *, minutes: int, rate: float) -> list[list[float]]:
    """The milliseconds of each lease, minute by minute, of a worker at `rate` beside a REPEATABLE READ transaction.

    Each minute also tells the median of a read of one job, which shows how busy the machine is.
    """
    policy = CallPolicy(outcomes=OutcomeSource.NONE)
    async with open_store(server.url(), advises=False) as store, client_of(port) as client:
        queue, spans = CallQueue(store, policy=policy), TimedLeases(store)
        await queue.enqueue_many([request(0)])
        with connected(server.url()) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM voiceflow.jobs")
            worker = Worker(store, client, rate=rate, concurrency=50, options=WorkerOptions(policy=policy))
            working = asyncio.create_task(worker.run())
            kept: list[list[float]] = []
            place = 1
            began = time.monotonic()
            for minute in range(minutes):
                spans.milliseconds, plain = [], list[float]()
                while time.monotonic() < began + 60 * (minute + 1):
                    ahead = int(rate * (time.monotonic() - began + 10)) - place
                    if ahead >= AT_ONCE:
                        await queue.enqueue_many([request(place + each) for each in range(ahead)])
                        place += ahead
                    await asyncio.sleep(0.5)
                    asked = time.perf_counter()
                    await store.jobs(ById(("default.nothing",)), now=store.clock.now())
                    plain.append(1000 * (time.perf_counter() - asked))
                kept.append(spans.milliseconds)
                lease, read = statistics.median(kept[-1]), statistics.median(plain)
                tell(f"minute {minute + 1}: {len(kept[-1])} leases, median {lease:.2f} ms; a read {read:.2f} ms")
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
    return kept


class TimedLeases:
    """The times of the leases of a store that found something, in milliseconds."""

    def __init__(self, store: Store) -> None:
        self.milliseconds: list[float] = []
        self._lease = store.lease
        store.lease = self  # type: ignore[method-assign]

    async def __call__(self, *arguments: Any, **options: Any) -> Sequence[Any]:
        """Lease."""
        began = time.perf_counter()
        found = await self._lease(*arguments, **options)
        if found:
            self.milliseconds.append(1000 * (time.perf_counter() - began))
        return found


async def lives(server: PostgresServer, *, jobs: int) -> None:
    """Carry so many calls through all their states, a hundred at a time."""
    began = time.monotonic()
    async with open_store(server.url(), advises=False) as store:
        for first in range(0, jobs, AT_ONCE):
            alive = [sample_job(first + place) for place in range(AT_ONCE)]
            await add_jobs(store, alive)
            for state in LIFE:
                writes = [
                    replace(
                        moved(job, _event(job.id, state), state=state),
                        puts=(
                            Put(NUMBER, job.destination, job.id, NOW + HOUR),
                            Put(WORKERS, "worker", job.id, NOW + HOUR),
                            Put(WRITERS, "worker", job.id, NOW + HOUR),
                        ),
                    )
                    for job in alive
                ]
                if not all(await commit(store, writes)):
                    raise SystemExit("a write was refused")
                alive = [new_job(write) for write in writes]
            await store.prune("default", now=NOW, events_before=NOW, limit=1000)
            if first % 50_000 == 0:
                tell(f"{first:,} lives after {time.monotonic() - began:.0f} s")


def _event(job_id: str, state: JobState) -> Event:
    return Event(job_id=job_id, kind=EventKind.ENDED, at=NOW, state=state, revision="r", post=1)


def sizes(server: PostgresServer) -> dict[str, int]:
    """The bytes of each table with its indexes."""
    return dict(
        server.ask(
            "SELECT relname::text, pg_total_relation_size(oid)::bigint FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'voiceflow'::regnamespace"
        )
    )


def growth(server: PostgresServer) -> dict[str, tuple[int, int]]:
    """The bytes of each table as it is and as VACUUM FULL leaves it; of those that are large enough to matter."""
    grown = sizes(server)
    server.ask("VACUUM FULL")
    least = sizes(server)
    return {table: (size, least[table]) for table, size in grown.items() if size > SMALL}


def tell(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["held", "lives"])
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    wanted = parser.parse_args()
    if wanted.what == "held":
        with running() as server, sink() as port:
            minutes = asyncio.run(held(server, port, minutes=wanted.minutes, rate=wanted.rate))
        first, last = (statistics.median(minutes[place]) for place in (0, -1))
        tell(f"first minute {first:.2f} ms, last {last:.2f} ms: {last / first:.2f} times")
        return
    with running() as server:
        asyncio.run(lives(server, jobs=wanted.jobs))
        for table, (size, least) in growth(server).items():
            tell(f"{table}: {size / 1e6:.0f} MB, {least / 1e6:.0f} MB after VACUUM FULL: {size / least:.2f} times")


if __name__ == "__main__":
    main()
