"""The life of a forked process: a real worker, receiver or sandbox, over ports that are watched and may strike."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from prometheus_client import CollectorRegistry

from tests.crash import menu
from tests.crash.orders import Order, ReceiverOrder, SandboxOrder, TaskOrder, WorkerOrder
from tests.crash.points import Fuse
from tests.crash.seeded_defects import with_seeded_defect
from tests.crash.watched import WatchedJournal, WatchedStore, WatchedVoice, watch_entries
from tests.webhooks.receiving import events_app
from voiceflow_worker import CallQueue, CallRequest, VoiceClient, Worker, WorkerOptions, open_store
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.backends.local_journal import JournalFiles, journal_folder
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import LocalJournal
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import KeyConflictError, StoreUnavailableError
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.webhooks.menu_events import MenuEvents
from voiceflow_worker.webhooks.readiness import present

SECRET = "Bearer of-the-laboratory"
TAKEN_BACK = "stopped by its task"
STORE_WITHIN = 30.0
"""Seconds for which a starting process tries to reach its store, as the command line does."""
Tell = Callable[..., None]
"""Tells the parent something: a word, and what belongs to it."""


SSL_CONTEXT = ssl.create_default_context()
"""Made once, before all forks: it takes longer than everything else that a worker starts with."""


def live(order: Order, tell: Tell) -> None:
    """Be what the order says, to the end. Everything is opened here, after the fork."""
    match order:
        case WorkerOrder():
            anyio.run(_worker, order, tell)
        case ReceiverOrder():
            anyio.run(_receiver, order, tell)
        case TaskOrder():
            anyio.run(_task, order, tell)
        case SandboxOrder():
            anyio.run(_sandbox, order, tell)


async def _worker(order: WorkerOrder, tell: Tell) -> None:
    with_seeded_defect(order.seeded_defect)
    client = VoiceClient(
        "laboratory-key",
        "laboratory",
        base_url=order.base_url,
        ssl_context=SSL_CONTEXT,
        read_timeout=order.read_timeout,
        concurrency=order.concurrency,
    )
    async with _opened(order.store) as store, client as voice:
        fuse = Fuse(order.triggers)
        watch_entries(fuse)
        worker = Worker(
            WatchedStore(store, fuse),
            WatchedVoice(voice, fuse),
            rate=order.rate,
            concurrency=order.concurrency,
            options=WorkerOptions(lease=order.lease, shutdown_grace=order.grace, policy=order.policy),
            call_log=voice,
            local_journal=_journal_files(order, store, fuse),
        )

        def stop() -> None:
            worker.stop()
            tell("stopping")

        async with _stopped_by(signal.SIGTERM, stop), anyio.create_task_group() as group:
            group.start_soon(_end_with_parent)
            tell("ready")
            if order.drain:
                result = await worker.drain()
                tell("drained", doubts=result.doubts, held=result.held, later=result.later, submitted=result.submitted)
            else:
                await worker.run()
            group.cancel_scope.cancel()


async def _receiver(order: ReceiverOrder, tell: Tell) -> None:
    with_seeded_defect(order.seeded_defect)
    async with _opened(order.store) as store:
        watched = WatchedStore(store, Fuse(order.triggers))
        settler = Settler(watched, order.policy)
        events = MenuEvents(store, menu.main, policy=order.policy, registry=CollectorRegistry())
        app = events_app(settler, secret=SECRET, on_action=events)
        told = anyio.Event()
        async with (
            _stopped_by(signal.SIGTERM, told.set),
            present(Heartbeats(store), name="receiver"),
            serving(app, port=order.port),
        ):
            tell("ready")
            await _until(told)


async def _task(order: TaskOrder, tell: Tell) -> None:
    async with _opened(order.store) as store:
        queue = CallQueue(store, policy=order.policy)
        told = anyio.Event()
        async with _stopped_by(signal.SIGTERM, told.set):
            ids = await _handed_in(queue, order.requests)
            gate = await standing_gate(store, queue.name, order.batch_id)
            if gate is not None and gate.reason == TAKEN_BACK:
                await queue.resume(batch_id=order.batch_id)
            tell("handed", ids=[ids[key_of(each)] for each in order.requests])
            if not order.stays:
                return
            await _until(told)
            await queue.hold(batch_id=order.batch_id, reason=TAKEN_BACK)
            tell("taken back")


def key_of(request: CallRequest) -> str:
    return str(request.options.get("unique_key"))


async def _handed_in(queue: CallQueue, requests: Sequence[CallRequest]) -> dict[str, str]:
    """Enqueue calls; return the ids by key, also of those that ended without a ring."""
    over = dict[str, str]()
    while True:
        try:
            enqueued = await queue.enqueue_many([each for each in requests if key_of(each) not in over])
        except KeyConflictError as error:
            over |= {each.unique_key: each.owner_id for each in error.conflicts}
        else:
            return over | {str(each.job.unique_key): each.job.id for each in enqueued}


async def _sandbox(order: SandboxOrder, tell: Tell) -> None:
    sandbox = Sandbox(
        seed=order.seed,
        webhook=order.webhook,
        webhook_secret=SECRET,
        webhook_retries=order.retries,
        speed=order.speed,
        clock_offset=order.clock_offset,
    )
    told = anyio.Event()
    async with _stopped_by(signal.SIGTERM, told.set), sandbox.running() as url, anyio.create_task_group() as group:

        async def tell_when_idle() -> None:
            await sandbox.idle()
            tell("idle")

        async with _stopped_by(signal.SIGUSR1, lambda: group.start_soon(tell_when_idle)):
            tell("ready", url=url)
            await _until(told)
        group.cancel_scope.cancel()


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Store]:
    """The store, once it is there and not locked: a process that starts tries for a while."""
    async with contextlib.AsyncExitStack() as stack:
        yield await _open_at_last(stack, url)


async def _open_at_last(stack: contextlib.AsyncExitStack, url: str) -> Store:
    ends = time.monotonic() + STORE_WITHIN
    while True:
        try:
            return await stack.enter_async_context(open_store(url))
        except StoreUnavailableError:
            if time.monotonic() > ends:
                raise
        await anyio.sleep(0.1)  # between two tries to open the store


async def _until(told: anyio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_end_with_parent)
        await told.wait()
        group.cancel_scope.cancel()


async def _end_with_parent() -> None:
    """Nobody waits for what an orphan does."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells an orphan that it is one
        await anyio.sleep(1)  # between two looks: no event announces the end of the parent
    os._exit(3)


def _journal_files(order: WorkerOrder, store: Store, fuse: Fuse) -> LocalJournal | None:
    if order.state_dir is None:
        return None
    return WatchedJournal(JournalFiles(journal_folder(store, order.store, order.state_dir), shares=True), fuse)


@asynccontextmanager
async def _stopped_by(number: signal.Signals, stop: Callable[[], Any]) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(number) as signals:
                listening.set()
                async for _ in signals:
                    stop()

        listening = anyio.Event()
        group.start_soon(listen)
        await listening.wait()
        yield
        group.cancel_scope.cancel()
