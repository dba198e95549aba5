"""The image, a receiver, two workers, PostgreSQL, nginx with TLS and a prefix: a campaign by curl, a rolling update."""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.eight_by_eight import EightByEight, running
from tests.deploy.image import Stage, built
from tests.deploy.proxies import CERTIFICATE, DEPLOY, nginx, tool
from tests.support.postgres import PostgresServer
from tests.support.redis_server import free_port
from tests.support.waiting import wait_until
from voiceflow_worker.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SECRETS = {
    "8x8": "key-1",
    "webhook": "Bearer of-news-of-calls-1",
    "api": "a-secret-of-programs-1",
    "readers": "for-readers-of-pages",
    "operators": "for-operators-of-pages",
}
CALLS = 60
SCHEDULE = 'file = "people.csv"\nsay = "Hello {{name}}"\ncron = "* * * * *"\ntime_zone = "Asia/Singapore"\n'
FIRST_CALL_WITHIN = 120.0


@dataclass
class Service:
    """A process of one of compose's services, in the image."""

    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as told:
            self.log.extend(told)

    def says(self, text: str) -> None:
        wait_until(
            lambda: self.process.poll() is not None or any(text in line for line in self.log),
            lambda: f"{text!r}, only: {''.join(self.log)}",
            within=FIRST_CALL_WITHIN,
        )
        assert self.process.poll() is None, "".join(self.log)

    def terminate(self) -> None:
        """End it as a rolling update does: in order, within its time."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(45) == 0, "".join(self.log)

    def kill(self) -> None:
        """End it, if it has not ended, and what reads its log."""
        self.process.kill()
        self.process.wait()
        self._reader.join()


def settings_of(name: str) -> dict[str, str]:
    """The environment of one of compose's services."""
    service = COMPOSE["services"][name]
    lines = (DEPLOY / service["env_file"]).read_text("utf-8").splitlines()
    found = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return {**found, **service["environment"]}


@contextmanager
def deployment(image: Stage, more: dict[str, str]) -> Iterator[Callable[..., Service]]:
    """A function that starts a service of compose in the image, on a port of its own or on the given one."""
    started: list[Service] = []

    def start(name: str, *options: str, port: int = 0) -> Service:
        port = port or free_port()
        command = [re.sub(r"^(8080|9464)$", str(port), word) for word in COMPOSE["services"][name]["command"]]
        started.append(Service(image.run(*image.entry, *command, *options, **{**settings_of(name), **more}), port))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.kill()


@pytest.fixture
def eight() -> Iterator[EightByEight]:
    """A sandbox that trusts the certificate of this test's proxy."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    sandbox = Sandbox(
        api_key="key-1", sub_accounts=["AcmeCorp_Voice"], speed=60, webhook_retries=20, ssl_context=trusting
    )
    with running(sandbox) as found:
        yield found


def test_a_campaign_by_curl_rings_once_through_a_rolling_update(
    tmp_path: Path, postgres_server: PostgresServer, eight: EightByEight
) -> None:
    curl = tool("curl", "curl")
    image = built(tmp_path)
    postgres_server.ask("CREATE ROLE deployed LOGIN")
    postgres_server.ask("CREATE SCHEMA deployed AUTHORIZATION deployed")
    store = postgres_server.url(user="deployed", schema="deployed")
    secrets = image.root / "run" / "secrets"
    secrets.mkdir()
    for name, secret in {**SECRETS, "store": store}.items():
        (secrets / name).write_text(secret + "\n")
        (secrets / name).chmod(0o400)
        shutil.chown(secrets / name, 10001, 10001)
    more = {"VOICEFLOW_BASE_URL": eight.url, "VOICEFLOW_RATE": "10", "VOICEFLOW_TRUSTED_PROXIES": "127.0.0.1"}

    def asked(method: str, path: str, body: object = None, **headers: str) -> Any:
        words = [word for name, value in headers.items() for word in ("-H", f"{name.replace('_', '-')}: {value}")]
        given = ["-d", json.dumps(body), "-H", "Content-Type: application/json"] if body is not None else []
        secret = ["-H", f"Authorization: Bearer {SECRETS['api']}", "--cacert", str(CERTIFICATE)]
        done = subprocess.run(
            [curl, "-sS", "--fail-with-body", "-X", method, *secret, *words, *given, address + path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def states() -> dict[str, int]:
        return dict(postgres_server.ask("SELECT state, count(*) FROM deployed.jobs GROUP BY state"))

    began = time.monotonic()
    with ExitStack() as stack:
        start = stack.enter_context(deployment(image, more))
        first, second = free_port(), free_port()
        receiver = start("receiver", port=first)
        workers = [start("worker"), start("worker")]
        receiver.says("voiceflow serve is ready")
        upstream = f"127.0.0.1:{first} max_fails=0;\n    server 127.0.0.1:{second}"
        address = stack.enter_context(nginx("nginx-prefix.conf", upstream, tmp_path)) + "/calls"
        registered = image.done(
            *image.entry, "account", "webhooks", "set", address, **{**settings_of("receiver"), **more}
        )
        assert "8x8 now sends SESSION_SUMMARY events to" in registered or "VSS" in registered, registered

        numbers = [f"+6581{number:06}" for number in range(CALLS)]
        rows = [{"destination": number, "name": f"Person {place}"} for place, number in enumerate(numbers)]
        campaign = {"batch": "march", "say": "Hello {{name}}, your order is ready.", "rows": rows}
        for is_new in (True, False):  # an answer that was lost is asked for again
            told = asked("POST", "/v1/campaigns", campaign, Idempotency_Key="march-2027")
            assert told["enqueued"] == (CALLS if is_new else 0)
        wait_until(lambda: any(entry.rang for entry in eight.sandbox.ledger), "the first call")
        assert time.monotonic() - began < FIRST_CALL_WITHIN

        # The check of health that the image has, on the ports of these processes.
        for each in (receiver, *workers):
            image.done("sh", "-c", re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{each.port}", image.health))

        # A rolling update, while calls are sent and summaries come.
        newer = start("receiver", port=second)
        newer.says("voiceflow serve is ready")
        receiver.terminate()
        for place, old in enumerate(workers):
            old.terminate()
            workers[place] = start("worker")
            workers[place].says("voiceflow worker sends")
        ends = {"completed", "unreached", "failed"}
        wait_until(lambda: set(states()) <= ends, "outcomes of all calls", within=300)
        assert sum(states().values()) == CALLS
        assert asked("GET", "/v1/batches/march?wait=30")["done"] == CALLS
        for each in (*workers, newer):
            each.terminate()

        # A schedule, from the folder that compose mounts: the run that is due starts.
        schedules = image.root / "schedules"
        schedules.mkdir()
        (schedules / "reminder.toml").write_text(SCHEDULE)
        (schedules / "people.csv").write_text(f"destination,name\n{numbers[0]},Ana\n")
        schedule = start("schedule")
        schedule.says('"state": "started"')
        schedule.terminate()

    rang = Counter(entry.destination for entry in eight.sandbox.ledger if entry.rang)
    placed = Counter(entry.destination or "" for entry in eight.sandbox.ledger if entry.session_id)
    assert sorted(placed) == numbers
    assert set(placed.values()) == {1}
    assert set(rang.values()) <= {1}

    # A root that is mounted read-only would be enough: nothing else belongs to the user of the processes.
    find = ["find", str(image.root), "-xdev", "-user", "10001", "-not", "-type", "d"]
    written = subprocess.run(find, capture_output=True, text=True, check=True).stdout.split()
    places = {"/" + "/".join(Path(each).relative_to(image.root).parts[:2]) for each in written}
    assert places <= {"/var/lib", "/run/secrets", "/tmp"}, places
