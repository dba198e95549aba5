"""Processes that do something with a store and are killed in the middle, so that its log is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT

SEND = """
import asyncio, os, signal, sys
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store

async def main(url, count):
    async with open_store(url) as store:
        engine, voice = Engine(store, ScriptedVoice()), ScriptedVoice()
        leased_at = store.clock.monotonic()
        for flight in await engine.submitter.prepare(await engine.lease(count), leased_at=leased_at):
            await engine.submitter.fly(flight)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def sent_and_killed(path: Path, count: int) -> None:
    """A process sends so many calls of the store, and is killed: they are in its log alone."""
    run = subprocess.run(
        [sys.executable, "-c", SEND, f"sqlite:///{path}", str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
