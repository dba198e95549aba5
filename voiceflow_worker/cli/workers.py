"""Workers made from the settings: in this process, and in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

from voiceflow_worker.backends.registry import journal_files
from voiceflow_worker.backends.sqlite.file.opening import Identities
from voiceflow_worker.cli.messages import ExitCode, error_line, explained
from voiceflow_worker.cli.opening import opened_queue, settings_from, voice_client
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.process import collect_less, log_to_stderr, signals_to
from voiceflow_worker.core.options import WorkerOptions
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.worker import Worker
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings


def worker_of(settings: Settings, store: Store, voice: VoiceClient, *, batch_id: str | None = None) -> Worker:
    """A worker with these settings, for all batches or for one. The worker searches 8x8's log for calls in doubt."""
    return Worker(
        store,
        voice,
        queue=settings.queue,
        rate=settings.rate,
        concurrency=settings.concurrency,
        options=WorkerOptions(
            burst=settings.burst,
            max_active=settings.max_active,
            lease=settings.lease,
            shutdown_grace=settings.shutdown_grace,
            batch_id=batch_id,
            policy=settings.policy(),
        ),
        call_log=voice,
        witness=journal_files(settings),
        voices=voice,
    )


class Crew:
    """The worker processes of one queue. `exit_code` is the exit code of the command that started them."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self.exit_code: ExitCode = ExitCode.DONE
        self.stopping: bool = False

    def stop(self) -> None:
        """Ask every process to stop. If called again, ask them to stop at once."""
        self.stopping = True
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until every process has ended. A failed process is reported, and the others go on."""
        async with anyio.create_task_group() as group:
            for process in self._processes:
                group.start_soon(self._see_off, process)

    async def _see_off(self, process: Process) -> None:
        code = await process.wait()
        # A process that is still starting dies of the signal. It has sent nothing.
        if code == 0 or (self.stopping and code == -signal.SIGTERM):
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        failed = ExitCode.OUT_OF_REACH if code == ExitCode.OUT_OF_REACH else ExitCode.UNDONE
        self.exit_code = max(self.exit_code, failed)
        Output().note(
            f"the worker in process {process.pid} {how}; its calls in flight may be in doubt, and the other workers go "
            "on"
        )


@asynccontextmanager
async def crew(
    count: int, *, options: Mapping[str, object], drain: bool, files: Identities | None
) -> AsyncGenerator[Crew]:
    """Start `count` workers with these options, each in a process of its own.

    They open no store in other files than `files`.
    The workers are stopped and awaited at the end of the block. If this process is killed, they stop by themselves.
    """
    # -P: the child imports nothing from the working directory. It is left out if this process imports from there.
    safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
    command = [sys.executable, *safe, "-m", "voiceflow_worker.cli.workers"]
    order = json.dumps({"options": dict(options), "drain": drain, "files": files}).encode() + b"\n"
    processes: list[Process] = []
    group = Crew(processes)
    try:
        for _ in range(count):
            # Each child has its own session: Ctrl-C reaches only this process, and this process signals each child.
            process = await anyio.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=None, start_new_session=True
            )
            processes.append(process)
            if process.stdin is not None:
                await process.stdin.send(order)
        yield group
    finally:
        with anyio.CancelScope(shield=True):
            if any(process.returncode is None for process in processes):
                group.stop()
                await group.ended()


async def _work(order: str) -> None:
    wanted = json.loads(order)
    settings = settings_from(**wanted["options"])
    log_to_stderr(form=settings.log_format, level=settings.log_level, process=os.getpid(), secrets=settings.secrets())
    files = wanted["files"] and Identities(*(each and tuple(each) for each in wanted["files"]))
    voice = voice_client(settings)
    async with opened_queue(settings, makes=True, files=files) as calls, voice:
        worker = worker_of(settings, calls.store, voice)
        collect_less()
        async with signals_to(lambda _: worker.stop()), anyio.create_task_group() as group:
            group.start_soon(_stop_with_leader, worker)
            if wanted["drain"]:
                await worker.drain()
            else:
                await worker.run()
            group.cancel_scope.cancel()


async def _stop_with_leader(worker: Worker) -> None:
    while True:
        await anyio.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            break
    worker.stop()


def main() -> int:
    """Run one process of a crew, and return its exit code.

    The process reads its options from the first line of stdin, and stops at the end of stdin.
    """
    try:
        anyio.run(_work, sys.stdin.buffer.readline().decode())
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        print(error_line(f"process {os.getpid()}: {known[1]}"), file=sys.stderr)
        return known[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
