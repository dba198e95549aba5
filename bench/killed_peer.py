"""One peer for `peers_killed.py`: a queue library whose task is one POST, used as its first page shows it.

    killed_peer.py NAME enqueue|work|state --port PORT --store URL --task NAME

`enqueue` adds a task, `work` runs a worker for good, `state` prints what the library says of the task. Each runs in a
virtual environment of its own, with that library and httpx alone, and its defaults but for what is named here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

IN_PROGRESS = 3600.0
"""Seconds that a POST may take: no time limit of the client's comes before the kill."""


class Peer(ABC):
    """A library on its store. A task's id is its name."""

    def __init__(self, port: int, store: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.store = store

    def post(self, task: str) -> None:
        """The work of a task, for workers without a loop."""
        import_module("httpx").post(f"{self.url}/{task}", timeout=IN_PROGRESS, trust_env=False).raise_for_status()

    async def post_async(self, task: str) -> None:
        """The same, for those with a loop."""
        async with import_module("httpx").AsyncClient(timeout=IN_PROGRESS, trust_env=False) as client:
            (await client.post(f"{self.url}/{task}")).raise_for_status()

    def run_command(self, *words: str) -> None:
        """Become the library's own command, which finds its tasks by `named`."""
        env = os.environ | {"KILLED_PEER": json.dumps([type(self).__name__, self.port, self.store])}
        os.chdir(Path(__file__).parent)
        os.execve(sys.executable, [sys.executable, "-m", *words], env)

    @abstractmethod
    async def enqueue(self, task: str) -> None:
        """Add a task."""

    @abstractmethod
    async def work(self) -> None:
        """Run a worker, for good."""

    @abstractmethod
    async def state(self, task: str) -> object:
        """What the library says of the task."""


class Arq(Peer):
    """On Redis. Its time limit of a task is shortened from five minutes, so that the run ends sooner."""

    LIMIT: ClassVar[int] = 60

    def _settings(self) -> Any:
        return import_module("arq.connections").RedisSettings.from_dsn(self.store)

    async def enqueue(self, task: str) -> None:
        pool = await import_module("arq").create_pool(self._settings())
        await pool.enqueue_job("call", task, _job_id=task)

    async def work(self) -> None:
        async def call(_context: dict[str, Any], task: str) -> None:
            await self.post_async(task)

        found = import_module("arq.worker")
        functions = [found.func(call, name="call")]
        await found.Worker(functions, redis_settings=self._settings(), job_timeout=self.LIMIT).async_run()

    async def state(self, task: str) -> object:
        arq = import_module("arq")
        return (await import_module("arq.jobs").Job(task, await arq.create_pool(self._settings())).status()).value


class Awa(Peer):
    """On PostgreSQL."""

    def _client(self) -> tuple[Any, Any]:
        @dataclass
        class Call:
            task: str

        return import_module("awa").AsyncClient(self.store), Call

    async def enqueue(self, task: str) -> None:
        client, call = self._client()
        await client.migrate()
        await client.insert(call(task), queue="calls")

    async def work(self) -> None:
        client, call = self._client()

        @client.task(call, queue="calls")  # type: ignore[untyped-decorator]
        async def posted(job: Any) -> None:
            await self.post_async(job.args.task)

        await client.start([("calls", 4)])
        await asyncio.Event().wait()

    async def state(self, task: str) -> object:
        jobs = await self._client()[0].list_jobs()
        return ", ".join(str(each.state) for each in jobs if task in str(each.args))


class Streaq(Peer):
    """On Redis."""

    def _worker(self) -> tuple[Any, Any]:
        worker = import_module("streaq").Worker(redis_url=self.store)

        @worker.task(name="call")  # type: ignore[untyped-decorator]
        async def call(task: str) -> None:
            await self.post_async(task)

        return worker, call

    async def enqueue(self, task: str) -> None:
        worker, call = self._worker()
        async with worker:
            added = call.enqueue(task)
            added.id = task
            await added

    async def work(self) -> None:
        await self._worker()[0].run_async()

    async def state(self, task: str) -> object:
        worker, _ = self._worker()
        async with worker:
            return str(await worker.status_by_id(task))


class Taskiq(Peer):
    """On Redis, by the stream with acknowledgements."""

    def tasks(self) -> tuple[Any, Any]:
        redis = import_module("taskiq_redis")
        broker = redis.RedisStreamBroker(url=self.store)
        broker = broker.with_result_backend(redis.RedisAsyncResultBackend(redis_url=self.store))

        @broker.task(task_name="call")  # type: ignore[untyped-decorator]
        async def call(task: str) -> None:
            await self.post_async(task)

        return broker, call

    async def enqueue(self, task: str) -> None:
        broker, call = self.tasks()
        await broker.startup()
        await call.kicker().with_task_id(task).kiq(task)
        await broker.shutdown()

    async def work(self) -> None:
        self.run_command("taskiq", "worker", "killed_peer:named")

    async def state(self, task: str) -> object:
        broker, _ = self.tasks()
        await broker.startup()
        return "done" if await broker.result_backend.is_result_ready(task) else "no result"


class Saq(Peer):
    """On Redis. Its time limit of a task is 10 s by default."""

    async def enqueue(self, task: str) -> None:
        await import_module("saq").Queue.from_url(self.store).enqueue("call", key=task, task=task)

    async def work(self) -> None:
        async def call(_context: dict[str, Any], *, task: str) -> None:
            await self.post_async(task)

        saq = import_module("saq")
        await saq.Worker(saq.Queue.from_url(self.store), [("call", call)]).start()

    async def state(self, task: str) -> object:
        job = await import_module("saq").Queue.from_url(self.store).job(task)
        return str(job.status.value) if job else "gone"


class Huey(Peer):
    """On Redis."""

    def _huey(self) -> tuple[Any, Any]:
        huey = import_module("huey").RedisHuey("bench", url=self.store)
        return huey, huey.task(name="call")(self.post)

    async def enqueue(self, task: str) -> None:
        huey, call = self._huey()
        huey.enqueue(call.s(task, id=task))

    async def work(self) -> None:
        self._huey()[0].create_consumer().run()

    async def state(self, task: str) -> object:
        huey, _ = self._huey()
        waits = task in {each.id for each in huey.pending()}
        return "waiting" if waits else "lost: neither waiting nor a result" if huey.result(task) is None else "done"


class Celery(Peer):
    """On Redis, with early acknowledgements, as it comes; `acks_late` in the next."""

    SETTINGS: ClassVar[dict[str, object]] = {}

    def _app(self) -> tuple[Any, Any]:
        app = import_module("celery").Celery("bench", broker=self.store, backend=self.store)
        app.conf.update(task_track_started=True, **self.SETTINGS)

        @app.task(name="call")  # type: ignore[untyped-decorator]
        def call(task: str) -> None:
            self.post(task)

        return app, call

    async def enqueue(self, task: str) -> None:
        self._app()[1].apply_async((task,), task_id=task)

    async def work(self) -> None:
        self._app()[0].worker_main(["worker", "--concurrency", "2", "--loglevel", "WARNING"])

    async def state(self, task: str) -> object:
        return self._app()[0].AsyncResult(task).state


class CeleryLate(Celery):
    """With `acks_late`, and its visibility timeout shortened from an hour, so that the run ends sooner."""

    SETTINGS: ClassVar[dict[str, object]] = {
        "task_acks_late": True,
        "broker_transport_options": {"visibility_timeout": 60},
    }


class Dramatiq(Peer):
    """On Redis."""

    def tasks(self) -> tuple[Any, Any]:
        dramatiq = import_module("dramatiq")
        broker = import_module("dramatiq.brokers.redis").RedisBroker(url=self.store)
        dramatiq.set_broker(broker)
        return broker, dramatiq.actor(actor_name="call")(self.post)

    async def enqueue(self, task: str) -> None:
        self.tasks()[1].send(task)

    async def work(self) -> None:
        self.run_command("dramatiq", "killed_peer:named")

    async def state(self, task: str) -> object:  # noqa: ARG002 - messages have no names
        left = import_module("redis").Redis.from_url(self.store).hlen("dramatiq:default.msgs")
        return f"{left} messages not acknowledged" if left else "done: no message is left"


class Pgqueuer(Peer):
    """On PostgreSQL."""

    async def _open(self) -> tuple[Any, Any]:
        connection = await import_module("asyncpg").connect(self.store)
        queuer = import_module("pgqueuer").PgQueuer.from_asyncpg_connection(connection)

        @queuer.entrypoint("call")  # type: ignore[untyped-decorator]
        async def call(job: Any) -> None:
            await self.post_async(job.payload.decode())

        return connection, queuer

    async def enqueue(self, task: str) -> None:
        connection, queuer = await self._open()
        if await connection.fetchval("SELECT to_regclass('pgqueuer')") is None:
            await queuer.queries.install()
        await queuer.queries.enqueue("call", task.encode())

    async def work(self) -> None:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Any]:
            yield (await self._open())[1]

        await import_module("pgqueuer").run(opened)

    async def state(self, task: str) -> object:
        connection, _ = await self._open()
        rows = await connection.fetch("SELECT status::text FROM pgqueuer WHERE payload = $1", task.encode())
        return ", ".join(row["status"] for row in rows) or "done: no row is left"


class Procrastinate(Peer):
    """On PostgreSQL."""

    def _app(self) -> tuple[Any, Any]:
        found = import_module("procrastinate")
        app = found.App(connector=found.PsycopgConnector(conninfo=self.store))

        @app.task(name="call")  # type: ignore[untyped-decorator]
        async def call(task: str) -> None:
            await self.post_async(task)

        return app, call

    async def enqueue(self, task: str) -> None:
        app, call = self._app()
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            await call.defer_async(task=task)

    async def work(self) -> None:
        app, _ = self._app()
        async with app.open_async():
            await app.run_worker_async()

    async def state(self, task: str) -> object:
        app, _ = self._app()
        async with app.open_async():
            jobs = await app.job_manager.list_jobs_async()
            return ", ".join(str(job.status) for job in jobs if job.task_kwargs == {"task": task})


class Dbos(Peer):
    """On PostgreSQL: a workflow with one step, `retries_allowed=False`."""

    def _app(self, executor: str) -> Any:
        config = {
            "name": "bench",
            "system_database_url": self.store,
            "executor_id": executor,
            "run_admin_server": False,
        }
        return import_module("dbos").DBOS(config=config)

    def _client(self) -> Any:
        return import_module("dbos").DBOSClient(system_database_url=self.store)

    async def enqueue(self, task: str) -> None:
        app = self._app("enqueues")
        app.launch()  # which makes the tables
        app.destroy()
        self._client().enqueue({"workflow_name": "call", "queue_name": "calls", "workflow_id": task}, task)

    async def work(self) -> None:
        found, app = import_module("dbos"), self._app("works")

        @found.DBOS.step(retries_allowed=False)  # type: ignore[untyped-decorator]
        def call(task: str) -> None:
            self.post(task)

        @found.DBOS.workflow(name="call")  # type: ignore[untyped-decorator]
        def workflow(task: str) -> None:
            call(task)

        app.launch()
        await app.register_queue_async("calls")
        await asyncio.Event().wait()

    async def state(self, task: str) -> object:
        found = self._client().list_workflows(workflow_ids=[task])
        return ", ".join(each.status for each in found)


class Rq(Peer):
    """On Redis."""

    def _queue(self) -> Any:
        return import_module("rq").Queue(connection=import_module("redis").Redis.from_url(self.store))

    async def enqueue(self, task: str) -> None:
        self._queue().enqueue("killed_peer.posted", self.port, task, job_id=task.strip("+"))

    async def work(self) -> None:
        queue = self._queue()
        import_module("rq").Worker([queue], connection=queue.connection).work()

    async def state(self, task: str) -> object:
        job = self._queue().fetch_job(task.strip("+"))
        return str(job.get_status().value) if job else "gone"


class Chancy(Peer):
    """On PostgreSQL."""

    async def enqueue(self, task: str) -> None:
        found = import_module("chancy")
        async with found.Chancy(self.store) as chancy:
            await chancy.migrate()
            await chancy.declare(found.Queue("default"), upsert=True)
            call = import_module("killed_peer").posted
            await chancy.push(found.Job.from_func(call, kwargs={"port": self.port, "task": task}))

    async def work(self) -> None:
        found = import_module("chancy")
        async with found.Chancy(self.store) as chancy, found.Worker(chancy) as worker:
            await worker.wait_for_shutdown()

    async def state(self, task: str) -> object:
        async with await import_module("psycopg").AsyncConnection.connect(self.store) as connection:
            rows = await connection.execute("SELECT state, attempts, kwargs FROM chancy_jobs")
            return ", ".join(
                [f"{each[0]}, {each[1]} attempts" for each in await rows.fetchall() if each[2]["task"] == task]
            )


def posted(port: int, task: str) -> None:
    """The work of a task, for libraries that find it by its name."""
    Peer.post(cast("Peer", SimpleNamespace(url=f"http://127.0.0.1:{port}")), task)


def named() -> Any:
    """The broker of what `run_command` started."""
    name, port, store = json.loads(os.environ["KILLED_PEER"])
    return Taskiq(port, store).tasks()[0] if name == "Taskiq" else Dramatiq(port, store).tasks()[0]


PEERS: dict[str, type[Peer]] = {
    "arq": Arq,
    "awa-pg": Awa,
    "celery": Celery,
    "celery, acks_late": CeleryLate,
    "chancy": Chancy,
    "dbos": Dbos,
    "dramatiq": Dramatiq,
    "huey": Huey,
    "pgqueuer": Pgqueuer,
    "procrastinate": Procrastinate,
    "rq": Rq,
    "saq": Saq,
    "streaq": Streaq,
    "taskiq-redis": Taskiq,
}


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("what", choices=["enqueue", "work", "state"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--task", default="")
    given = parser.parse_args()
    peer = PEERS[given.name](given.port, given.store)
    if given.what == "enqueue":
        await peer.enqueue(given.task)
    elif given.what == "work":
        await peer.work()
    else:
        print(json.dumps(await peer.state(given.task)))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
