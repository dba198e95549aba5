"""Real processes for tests: the command line, started, watched and ended by their own id."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A running `voiceflow` command (or another Python module) with its output read as it comes."""

    def __init__(
        self,
        *arguments: str,
        module: str = "voiceflow_worker",
        env: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        in_session: bool = False,
        descriptors: int | None = None,
        host: str | None = None,
    ) -> None:
        """The module is that of the working directory `folder`, if there is one. It may lead a session of its own.

        `descriptors` is the number of files that it may have open, and `host` the name that its machine has for it.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}
        clean["VOICEFLOW_WINDOW"] = "any"
        # Our own commands tell things in time by themselves.
        clean["PYTHONUNBUFFERED"] = "" if module == "voiceflow_worker" else "1"
        limited = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
        if host is not None:
            limited = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *limited]
        self._process = subprocess.Popen(
            [*limited, sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=in_session,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**clean, **(env or {})},
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, pattern: str, *, seconds: float = 120) -> re.Match[str]:
        """Wait until a line of either stream matches, and give the match."""
        ends = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(ends - time.monotonic(), 0.001))
            except queue.Empty:
                raise AssertionError(f"no line matched {pattern!r} in {seconds} s:\n{self.printed}") from None
            if line is None:
                if not self.is_running:
                    raise AssertionError(f"the process ended before a line matched {pattern!r}:\n{self.printed}")
                continue
            if found := re.search(pattern, line):
                return found

    def end(self, sent: signal.Signals = signal.SIGTERM, *, seconds: float = 60) -> int:
        """Send a signal and wait for the end."""
        if self.is_running:
            self._process.send_signal(sent)
        return self.wait(seconds=seconds)

    def signal(self, sent: signal.Signals) -> None:
        self._process.send_signal(sent)

    def wait(self, *, seconds: float = 60) -> int:
        code = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return code

    @property
    def printed(self) -> str:
        return "".join([*self.stdout, *self.stderr])

    def _read(self, stream: Iterator[str] | None, kept: list[str]) -> None:
        for line in stream or ():
            kept.append(line)
            self._lines.put(line)
        self._lines.put(None)


def waited_for_a_processor(pids: Iterable[int]) -> float:
    """Seconds for which the threads of these processes were ready to run and had no processor, all together.

    /proc/PID/task/TID/schedstat, Linux: on a machine that has other work a time limit may be missed through nobody's
    fault. 0 where the kernel does not tell.
    """
    waited = 0
    for path in [path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]:
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            waited += int(path.read_text(encoding="ascii").split()[1])
    return waited / 1e9


@contextmanager
def running(
    *arguments: str,
    module: str = "voiceflow_worker",
    env: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    descriptors: int | None = None,
    host: str | None = None,
) -> Iterator[Process]:
    """A process that is ended with the block, whatever happens in it."""
    process = Process(*arguments, module=module, env=env, folder=folder, descriptors=descriptors, host=host)
    try:
        yield process
    finally:
        if process.is_running:
            process.end(signal.SIGKILL)


def voiceflow(
    *arguments: str, env: Mapping[str, str] | None = None, seconds: float = 120, folder: Path = ROOT
) -> Process:
    """Run a command to its end."""
    process = Process(*arguments, env=env, folder=folder)
    try:
        process.wait(seconds=seconds)
    finally:
        if process.is_running:
            process.end(signal.SIGKILL)
    return process
