"""What queues do with a call whose worker is killed in the middle of its POST: how often they send it.

    ./dev bench peers_killed [--rounds 3] [--patience 660] [--signal TERM] [--only arq] [--json]

A worker takes one task, which is one POST. Once the sink has read the request, the worker and its children are killed,
as by a machine that loses power; the answer never comes. With `--signal TERM`, all of them get SIGTERM, as from a
service manager, and SIGKILL once `GRACE` is over. A second worker runs for `--patience` seconds, then another task is
enqueued, because some libraries look for what a dead worker left only when they have work. POSTs of the first task are
counted by the sink. Each library has its own server and virtual environment, with the release of `PINS`, and the
defaults of its first page but for what `killed_peer.py` names. All run at once: no time is measured but waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Event, Thread

from bench.throughput import environment, store

ROOT = Path(__file__).resolve().parents[1]
OURS = "voiceflow-worker"
PINS = {
    "arq": ("redis", "arq==0.28.0"),
    "awa-pg": ("postgres", "awa-pg==0.6.9"),
    "celery": ("redis", "celery[redis]==5.7.0"),
    "celery, acks_late": ("redis", "celery[redis]==5.7.0"),
    "chancy": ("postgres", "chancy==0.26.0", "psycopg[binary]==3.3.9"),
    "dbos": ("postgres", "dbos==3.4.0"),
    "dramatiq": ("redis", "dramatiq[redis]==2.2.1"),
    "huey": ("redis", "huey==3.5.4", "redis==8.1.0"),
    "pgqueuer": ("postgres", "pgqueuer==1.6.0", "asyncpg==0.32.0"),
    "procrastinate": ("postgres", "procrastinate==3.10.0"),
    "rq": ("redis", "rq==3.0.0", "redis==8.1.0"),
    "saq": ("redis", "saq[redis]==0.26.4"),
    "streaq": ("redis", "streaq==7.2.0"),
    "taskiq-redis": ("redis", "taskiq-redis==1.2.4", "taskiq==0.13.0"),
}
"""Each peer's kind of store, and what is installed for it."""
WITHIN = 60.0
"""Seconds until the first POST of a worker."""
GRACE = 30.0
"""Seconds that a worker and its children have after SIGTERM, until SIGKILL: as long as Kubernetes waits."""
FIRST, ANOTHER = "+6581234501", "+6581234502"
"""The two tasks: numbers, since ours calls them."""


@dataclass
class Sink:
    """Counts POSTs by their task. The first of all is never answered while `is_open` is not set."""

    came: list[tuple[str, float]] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)
    is_open: Event = field(default_factory=Event)

    def take(self, text: str) -> bool:
        """Count a POST; True if it is the first."""
        task = FIRST if FIRST in text else ANOTHER
        with self.changed:
            self.came.append((task, time.monotonic()))
            self.changed.notify_all()
            return len(self.came) == 1

    def times(self, task: str) -> list[float]:
        """When its POSTs came."""
        return [at for each, at in self.came if each == task]

    def wait(self, task: str, count: int, within: float) -> bool:
        """Whether so many POSTs of the task have come in time."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.times(task)) >= count, within)


@contextmanager
def listening() -> Iterator[tuple[Sink, int]]:
    """A sink, and its port."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            if sink.take(self.path + body):
                sink.is_open.wait()
                return
            answer = b'{"sessionId":"s-1","sessionStatus":"CREATED","statusCode":1,"statusMessage":"Created"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield sink, server.server_port
    finally:
        sink.is_open.set()
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Commands:
    """What enqueues a task, runs a worker, and says what became of a task."""

    enqueue: Callable[[str], list[str]]
    work: list[str]
    state: Callable[[str], list[str]]
    env: dict[str, str]
    folder: Path


def python_of(name: str) -> str:
    """The interpreter of a peer's virtual environment, made if it is missing."""
    _, *pins = PINS[name]
    folder = ROOT / "build" / "venv-killed" / pins[0].replace("[", "-").replace("]", "")
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "httpx", *pins], check=True)
        (folder / "installed").touch()
    return str(folder / "bin" / "python")


def of_peer(name: str, url: str, port: int, folder: Path) -> Commands:
    """The commands of a peer."""
    script = [python_of(name), str(ROOT / "bench" / "killed_peer.py"), name]
    on = ["--port", str(port), "--store", url]
    return Commands(
        lambda task: [*script, "enqueue", *on, "--task", task],
        [*script, "work", *on],
        lambda task: [*script, "state", *on, "--task", task],
        environment(),
        folder,
    )


def of_ours(url: str, port: int, folder: Path) -> Commands:
    """The commands of this product: a call by `voiceflow enqueue`, one file each."""
    command = [sys.executable, "-m", "voiceflow_worker"]
    env = environment() | {
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder),
        "VOICEFLOW_STORE": url,
        "VOICEFLOW_BASE_URL": f"http://127.0.0.1:{port}",
        "VOICEFLOW_API_KEY": "bench",
        "VOICEFLOW_SUB_ACCOUNT": "bench",
        "VOICEFLOW_SOURCE": "+6531234567",
        "VOICEFLOW_VOICE_PROFILE": "en-US-JennyNeural",
        "VOICEFLOW_OUTCOMES": "none",
    }
    for task in (FIRST, ANOTHER):
        (folder / f"{task}.csv").write_text(f"destination\n{task}\n", encoding="utf-8")
    return Commands(
        lambda task: [*command, "enqueue", f"{task}.csv", "--say", "Hello.", "--valid-for", "2h"],
        [*command, "worker", "--rate", "10"],
        lambda task: [*command, "calls", "list", "--batch", task, "--json"],
        env,
        folder,
    )


def family(pid: int) -> set[int]:
    """A process and all that come from it, in whatever group."""
    printed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(each): int(parent) for each, parent in map(str.split, printed.splitlines())}
    found = {pid} & set(parents)
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def send(pids: set[int], by: signal.Signals) -> None:
    """A signal to each that is there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, by)


@contextmanager
def worker(commands: Commands) -> Iterator[Callable[..., float]]:
    """A worker in a process group of its own, and what ends all of it: the seconds that it took."""
    process = subprocess.Popen(
        commands.work, env=commands.env, cwd=commands.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def end(by: signal.Signals = signal.SIGKILL) -> float:
        began = time.monotonic()
        every = family(process.pid)
        send(every, by)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        took = time.monotonic() - began
        send(every | family(process.pid), signal.SIGKILL)
        process.wait()
        return took

    try:
        yield end
    finally:
        end()


def done(commands: Commands, command: list[str]) -> str:
    """What a command printed on stdout; raises if it failed."""
    found = subprocess.run(command, env=commands.env, cwd=commands.folder, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{' '.join(command)}: {found.stderr[-2000:]}")
    return found.stdout


def killed(name: str, patience: float, by: signal.Signals) -> dict[str, object]:
    """What happened to the first task of one library, in one run."""
    kind = "sqlite" if name == OURS else PINS[name][0]
    with listening() as (sink, port), store(kind) as url, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        commands = of_ours(url, port, folder) if name == OURS else of_peer(name, url, port, folder)
        done(commands, commands.enqueue(FIRST))
        with worker(commands) as end:
            if not sink.wait(FIRST, 1, WITHIN):
                raise SystemExit(f"{name}: no POST came within {WITHIN:g} s")
            ended = end(by)
        with worker(commands):
            began = time.monotonic()
            again = sink.wait(FIRST, 2, patience)
            after = sink.times(FIRST)[1] - began if again else None
            done(commands, commands.enqueue(ANOTHER))
            sink.wait(ANOTHER, 1, WITHIN)
            with_another = not again and sink.wait(FIRST, 2, WITHIN)
            state = said(done(commands, commands.state(FIRST)))
            return {
                "posts": len(sink.times(FIRST)),
                "seconds": None if after is None else round(after),
                "with_another": with_another,
                "other_posts": len(sink.times(ANOTHER)),
                "state": state,
                "ended": round(ended),
            }


def said(printed: str) -> str:
    """The state of a task: a text in JSON, or the first line of ours."""
    first = json.loads(printed.splitlines()[0])
    return str(first["state"] if isinstance(first, dict) else first)


def table(found: dict[str, list[dict[str, object]]]) -> str:
    """All runs as a Markdown table."""
    lines = [
        "| queue | POSTs of the call, each run | when the second came | what the queue says of the call |",
        "|---|---|---|---|",
    ]
    for name, runs in found.items():
        seconds = [f"after {run['seconds']} s" for run in runs if run["seconds"] is not None]
        seconds += ["when another task came" for run in runs if run["with_another"]]
        release = "" if name == OURS else " " + PINS[name][1].partition("==")[2]
        posts = ", ".join(str(run["posts"]) for run in runs)
        states = ", ".join(dict.fromkeys(str(run["state"]) for run in runs))
        lines.append(f"| {name}{release} | {posts} | {', '.join(dict.fromkeys(seconds)) or 'never'} | {states} |")
    return "\n".join(lines)


def main() -> None:
    """Run every library at once, round by round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=660.0, help="seconds that a second worker gets")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--only", choices=[OURS, *PINS], action="append")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names: list[str] = given.only or [OURS, *PINS]
    for name in names:
        if name != OURS:
            python_of(name)
    one = partial(killed, patience=given.patience, by=signal.Signals[f"SIG{given.signal}"])
    found: dict[str, list[dict[str, object]]] = {name: [] for name in names}
    with ThreadPoolExecutor(len(names)) as threads:
        for _ in range(given.rounds):
            for name, run in zip(names, threads.map(one, names), strict=True):
                found[name].append(run)
    print(json.dumps(found, indent=1) if given.json else table(found))  # noqa: T201


if __name__ == "__main__":
    main()
