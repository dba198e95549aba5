"""Worker processes of `voiceflow worker --processes N`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

from voiceflow_worker.backends.sqlite.file.same_files import Identities
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.output import Output


class Crew:
    """The worker processes of one queue. `exit_code` is the exit code of the command that started them."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self.exit_code = ExitCode.DONE
        self.stopping = False

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
    command = [sys.executable, *safe, "-m", "voiceflow_worker.cli.crew_member"]
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
