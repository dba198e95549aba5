"""What processes keep that use one store at once: real ones, of which one is killed."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import ClassVar

import anyio

from voiceflow_worker import CallFlow, CallPolicy, CallQueue, Worker, WorkerOptions
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict, VerdictKind

from .samples import Opener

_POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
_AT_ONCE = 5
_WITHIN = 30.0


class ProcessContract:
    """Two processes enqueue, lease and settle on one store, and one of them is killed meanwhile."""

    seconds: ClassVar[float] = 10.0

    def test_processes_ring_each_call_once_and_lose_none(self, opener: Opener, tmp_path: Path) -> None:
        processes = [_started(opener, tmp_path, name, self.seconds) for name in "ab"]
        time.sleep(self.seconds / 2)
        processes[0].kill()
        processes.append(_started(opener, tmp_path, "c", self.seconds / 2))
        for each in processes:
            each.join(self.seconds + _WITHIN)
            each.kill()
        states = anyio.run(_finished, opener, tmp_path)
        rang, asked = Counter(_lines(tmp_path / "rang")), _lines(tmp_path / "asked")
        assert [each.exitcode for each in processes[1:]] == [0, 0], "a process has failed: see its output"
        assert [number for number, times in rang.items() if times > 1] == [], "these rang twice"
        assert not states.keys() - {"accepted", "in_doubt"}, "these calls are stuck"
        assert states["in_doubt"] <= _AT_ONCE, "no more are in doubt than the killed process had in flight"
        assert len(set(asked) - set(rang)) <= states["in_doubt"], "calls were lost"
        assert sum(states.values()) >= len(asked), "calls that were confirmed are not in the store"
        assert len(asked) > 10


class _Ledger:
    """A gateway that notes which numbers ring."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        await before_first_byte()
        _append(self._path, str(CallFlow.parse(placement.body).destination))
        await anyio.sleep(0.01)
        session = f"session-{placement.client_request_id}"
        return Verdict(kind=VerdictKind.CREATED, message="Created", code=1, session_id=session, http_status=200)


def _started(opener: Opener, folder: Path, name: str, seconds: float) -> ForkProcess:
    process = get_context("fork").Process(target=anyio.run, args=(_work, opener, folder, name, seconds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the child uses none of them
        process.start()
    return process


def _worker(store: Store, folder: Path) -> Worker:
    options = WorkerOptions(lease=timedelta(seconds=2), policy=_POLICY)
    return Worker(store, _Ledger(folder / "rang"), rate=None, concurrency=_AT_ONCE, options=options, local_journal=None)


async def _work(opener: Opener, folder: Path, name: str, seconds: float) -> None:
    ends = time.monotonic() + seconds
    async with opener() as store, _worker(store, folder).running():
        place, queue = 0, CallQueue(store, policy=_POLICY)
        while time.monotonic() < ends:
            number = f"+658{ord(name) % 10}{place:06}"
            flow = CallFlow.call(number, source="+6531234567").say("Hello.", voice_profile="en-IE-EmilyNeural")
            await queue.enqueue(flow, unique_key=number)
            _append(folder / "asked", number)
            place += 1
            await anyio.sleep(0.02)


async def _finished(opener: Opener, folder: Path) -> Counter[str]:
    """Send what is left, and count the states at the end."""
    async with opener() as store, _worker(store, folder).running():
        queue, ends = CallQueue(store, policy=_POLICY), time.monotonic() + _WITHIN
        while True:
            found = Counter[str]({state.value: count for state, count in (await queue.status()).states.items()})
            if not +(found - Counter(accepted=10**9, in_doubt=10**9)) or time.monotonic() > ends:
                return +found
            await anyio.sleep(0.1)


def _append(path: Path, line: str) -> None:
    """Add a line, which no other process can break."""
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123 - one write of one line
        os.write(file.fileno(), f"{line}\n".encode())


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split() if path.exists() else []
