"""A whole stage for acceptance tests: the sandbox and the receiver as processes, and a worker to be started and
killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import Process, running, voiceflow
from tests.support.redis_server import free_port

SECRET = "Bearer of-the-tests-of-calls"
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}
"""How the sandbox is asked, over HTTP: to read all certificates would take 0.05 s each time."""


@dataclass
class Stage:
    """One store, one sandbox, one receiver."""

    store: str
    sandbox: str
    receiver: str
    folder: Path
    env: dict[str, str]
    pids: list[int]
    """Of all its processes."""
    serving: Process
    """The process of the receiver."""

    def campaign(self, calls: int, *options: str, name: str = "campaign", first: int = 0) -> None:
        """Enqueue `calls` calls to numbers that are all different: so many of them, from the `first` on."""
        file = self.folder / f"{name}.csv"
        rows = "".join(f"+65{80000000 + place},Customer {place}\n" for place in range(first, first + calls))
        file.write_text(f"destination,name\n{rows}", encoding="utf-8")
        say = ("--say", "Hello {{name}}.", "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567")
        done = voiceflow("enqueue", str(file), *say, *options, "--json", env=self.env)
        assert json.loads("".join(done.stdout))["enqueued"] == calls, done.printed

    @contextmanager
    def worker(self, *options: str) -> Iterator[Process]:
        """A worker process."""
        with running("worker", *options, env=self.env) as process:
            self.pids.append(process.pid)
            yield process

    def status(self) -> dict[str, Any]:
        """What `voiceflow status --json` says."""
        status: dict[str, Any] = json.loads("".join(voiceflow("status", "--json", env=self.env).stdout))
        return status

    def states(self) -> dict[str, int]:
        """The states that hold any jobs."""
        return {state: count for state, count in self.status()["states"].items() if count}

    def calls(self, *options: str) -> list[dict[str, Any]]:
        """What `voiceflow calls list --json` says."""
        done = voiceflow("calls", "list", "--limit", "0", "--json", *options, env=self.env)
        return [json.loads(line) for line in done.stdout]

    def ledger(self) -> list[dict[str, Any]]:
        """What the sandbox says that it was asked to call."""
        entries: list[dict[str, Any]] = httpx.get(f"{self.sandbox}/_sandbox/calls", **PLAIN).json()
        return entries

    def rang(self) -> list[str]:
        """The numbers that rang, in order."""
        return [entry["destination"] for entry in self.ledger() if entry["rang"]]

    def run(self, *words: str) -> None:
        """Run a command of `voiceflow`."""
        voiceflow(*words, env=self.env)

    def order(self, path: str, body: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Order something of the sandbox: a fault, a script, or a list of such."""
        httpx.post(f"{self.sandbox}/_sandbox/{path}", json=body, **PLAIN).raise_for_status()


@contextmanager
def stage(
    folder: Path,
    *,
    store: str | None = None,
    speed: float = 100,
    ivr: str | None = None,
    webhook: str | None = None,
    api_key: str | None = None,
    **settings: str,
) -> Iterator[Stage]:
    """Set a stage; everything on it is ended with the block. With `webhook`, the sandbox sends that URL its events.

    With `api_key`, it accepts no other one.
    """
    url = store or f"sqlite:///{folder / 'calls.db'}"
    env = {
        "VOICEFLOW_STORE": url,
        "VOICEFLOW_API_KEY": "test-key",
        "VOICEFLOW_SUB_ACCOUNT": "tests",
        "VOICEFLOW_WEBHOOK_SECRET": SECRET,
        "VOICEFLOW_LEASE": "3s",
        **{f"VOICEFLOW_{name.upper()}": value for name, value in settings.items()},
    }
    port = free_port()
    env["VOICEFLOW_BASE_URL"] = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        menus = () if ivr is None else ("--ivr", ivr)
        api = ("--api",) if "api_secret" in settings else ()
        serve = ("serve", "--port", "0", *menus, *api)
        receiver = stack.enter_context(running(*serve, env=env))
        address = receiver.wait_for(r"(http://127\.0\.0\.1:\d+)/webhooks/8x8")[1]
        key = () if api_key is None else ("--api-key", api_key)
        url = webhook or f"{address}/webhooks/8x8"
        callers = stack.enter_context(
            running("sandbox", "--port", str(port), "--webhook", url, "--speed", str(speed), *key, env=env)
        )
        url = callers.wait_for(r"ready on (http://127\.0\.0\.1:\d+)")[1]
        pids = [receiver.pid, callers.pid]
        yield Stage(env["VOICEFLOW_STORE"], url, address, folder, env, pids, receiver)
