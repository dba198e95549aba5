"""A day on call: the shipped units on a machine with all that stands around them, and one fault after the other.

PostgreSQL with a standby, two workers, two receivers, a schedule, nginx, Prometheus and Alertmanager run as they are
shipped, beside a sandbox in the place of 8x8. Each fault is made for real, in random order. It must page by its cause
within 150 s, with no more than two pages, and clear within 60 s of its repair, by the commands of its runbook. At the
end nobody's phone has rung twice, and no call is lost.

    ./dev day [--only FAULT] [--seed N] [--calls N] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.cli.eight_by_eight import running
from tests.deploy.machine import Machine, machine
from tests.deploy.proxies import CERTIFICATE, DEPLOY
from tests.docs.pages import DOCS, blocks
from tests.support.waiting import wait_until
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Fault

PAGES_WITHIN, CLEARS_WITHIN, MOST_PAGES = 150.0, 60.0, 2
SAID = ("--say", "Hello", "--voice-profile", "en-SG-LunaNeural", "--source", "+6531234567")
WORKERS = ("voiceflow-worker", "voiceflow-worker@9465")
RECEIVERS = ("voiceflow-receiver", "voiceflow-receiver-2")
SCHEDULE = """file = "people.csv"
say = "Hello"
cron = "0 0 1 1 *"
time_zone = "Asia/Singapore"
voice_profile = "en-SG-LunaNeural"
source = "+6531234567"
"""
HOSTS = "127.0.0.1 localhost calls.example.com"
POSTGRES = "/usr/lib/postgresql/15/bin"
PROBE = """
import http.server, ssl, urllib.request
class Probe(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            trusting = ssl._create_unverified_context()
            up = urllib.request.urlopen("https://localhost/ui/sign-in", timeout=5, context=trusting).status == 200
        except OSError:
            up = False
        self.send_response(200); self.end_headers(); self.wfile.write(b"probe_success %d\\n" % up)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9115), Probe).serve_forever()
"""
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *); long ahead = 0;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    FILE *file = id == CLOCK_REALTIME ? fopen("/opt/clock/ahead", "r") : 0;
    if (file) { if (fscanf(file, "%ld", &ahead) == 1) at->tv_sec += ahead; fclose(file); }
    return done;
}
"""


@dataclass
class Found:
    """What one fault led to."""

    fault: str
    pages: dict[str, float] = field(default_factory=dict[str, float])
    status: list[str] = field(default_factory=list[str])
    commands: list[str] = field(default_factory=list[str])
    cleared: float | None = None
    last: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])


class Day:
    """The machine with everything, and the person on call."""

    def __init__(self, host: Machine, sandbox: Sandbox, pages: list[tuple[float, str]], *, calls: int) -> None:
        self.host, self.sandbox, self.pages, self.calls = host, sandbox, pages, calls
        self.primary, self.standby = 5432, 5433
        self.enqueued: list[str] = []
        self.batch = "none"

    def voiceflow(self, *words: str, within: float = 180) -> subprocess.CompletedProcess[str]:
        return self.host.run("voiceflow", *words, user="voiceflow", within=within)

    def calls_in(self, *states: str) -> int:
        """The calls in these states."""
        told: dict[str, int] = json.loads(self.voiceflow("status", "--json").stdout)["states"]
        return sum(told[state] for state in states)

    def systemctl(self, *words: str) -> None:
        self.host.done("systemctl", *words)

    def enqueue(self, name: str) -> None:
        """A batch of calls to people whom nobody has called yet."""
        first = len(self.enqueued)
        numbers = [f"+6581{number:06}" for number in range(first, first + self.calls)]
        self.host.write(f"/tmp/{name}.csv", "destination\n" + "\n".join(numbers) + "\n")
        done = self.voiceflow("enqueue", f"/tmp/{name}.csv", "--batch", name, *SAID)
        assert done.returncode == 0, done.stderr
        self.enqueued += numbers
        self.batch = name

    def wal(self) -> int:
        """The bytes that the primary has written into its WAL."""
        asks = ["psql", "-h", "127.0.0.1", "-p", str(self.primary), "-U", "postgres", "-Atc"]
        return int(self.host.done(*asks, "SELECT pg_current_wal_lsn() - '0/0'"))

    def firing(self) -> set[str]:
        """The alerts that fire in Prometheus."""
        query = {"query": 'ALERTS{alertstate="firing"}'}
        with self.host.network():
            found = httpx.get("http://127.0.0.1:9090/api/v1/query", params=query, timeout=10).json()
        return {each["metric"]["alertname"] for each in found["data"]["result"]}

    # -- faults, each with its repair --------------------------------------------------------------------------------

    def _8x8(self, **fault: Any) -> Callable[[], None]:
        self.sandbox.faults.add(Fault(times=None, **fault))
        return self.sandbox.faults.clear

    def _stopped(self, *units: str) -> Callable[[], None]:
        self.systemctl("kill", "--signal=SIGKILL", *units)
        self.systemctl("stop", *units)
        return lambda: self.systemctl("start", *units)

    def database(self) -> Callable[[], None]:
        return self._stopped(f"postgres@{self.primary}")

    def worker(self) -> Callable[[], None]:
        return self._stopped(*WORKERS)

    def one_worker(self) -> Callable[[], None]:
        return self._stopped(WORKERS[1])

    def receivers(self) -> Callable[[], None]:
        return self._stopped(*RECEIVERS)

    def _again(self, *command: str, every: float) -> Callable[[], None]:
        """Run a command again and again, until the repair."""
        ends = threading.Event()

        def run() -> None:
            while not ends.wait(every):
                self.host.run(*command)

        thread = threading.Thread(target=run)
        thread.start()

        def repair() -> None:
            ends.set()
            thread.join()

        return repair

    def crash_loop(self) -> Callable[[], None]:
        return self._again("systemctl", "kill", "--signal=SIGKILL", WORKERS[0], every=12)

    def key(self) -> Callable[[], None]:
        right = self.host.done("cat", "/etc/voiceflow/8x8")
        self.host.done("sh", "-c", "echo wrong-key > /etc/voiceflow/8x8")
        self.systemctl("restart", *WORKERS)  # a worker reads its key when it starts

        def repaired() -> None:
            self._does("sh", "-c", "cat > /etc/voiceflow/8x8", given=right)
            self.systemctl("restart", *WORKERS)

        return repaired

    def wrong_secret(self) -> Callable[[], None]:
        to = "https://localhost/webhooks/8x8"
        return self._again("curl", "-kso", "/dev/null", "-H", "Authorization: Bearer wrong", "-d", "{}", to, every=2)

    def throttled(self) -> Callable[[], None]:
        return self._8x8(fault="throttle", retry_after=10)

    def unavailable(self) -> Callable[[], None]:
        return self._8x8(fault="status", status=503)

    def slow(self) -> Callable[[], None]:
        return self._8x8(fault="delay", seconds=8)

    def silent(self) -> Callable[[], None]:
        return self._8x8(fault="stall")

    def disk(self) -> Callable[[], None]:
        self.host.run("dd", "if=/dev/zero", "of=/var/lib/voiceflow/large", "bs=64k")
        return partial(self._does, "rm", "/var/lib/voiceflow/large")

    def clock(self) -> Callable[[], None]:
        self.host.done("sh", "-c", "echo 30 > /opt/clock/ahead")
        return partial(self._does, "rm", "/opt/clock/ahead")

    def _does(self, *command: str, given: str = "") -> None:
        self.host.done(*command, given=given)

    def _hosts(self, text: str) -> None:
        self.host.done("sh", "-c", f"echo '{text}' > /etc/hosts")

    def dns(self) -> Callable[[], None]:
        self._hosts(HOSTS)
        return lambda: self._hosts(f"{HOSTS} voice.example.com")

    def proxy(self) -> Callable[[], None]:
        return self._stopped("proxy")

    def lost_primary(self) -> Callable[[], None]:
        self.systemctl("kill", "--signal=SIGKILL", f"postgres@{self.primary}")
        self.systemctl("stop", f"postgres@{self.primary}")

        def repair() -> None:
            self.primary, self.standby = self.standby, self.primary
            self.host.done(
                "/usr/lib/postgresql/15/bin/pg_ctl", "promote", "-D", f"/var/lib/pg/{self.primary}", user="postgres"
            )
            self.follow()

        return repair

    def wrong_list(self) -> Callable[[], None]:
        self.voiceflow("hold", "--batch", self.batch, "--note", "wrong list")
        held, before = set(self.enqueued[-self.calls :]), len(self.sandbox.ledger)
        time.sleep(10)
        left = [entry.destination for entry in list(self.sandbox.ledger)[before:] if entry.destination in held]
        assert not left, f"calls left after the hold had returned: {left}"
        return lambda: None

    def follow(self) -> None:
        """Make the standby anew, from the primary."""
        self.host.done("rm", "-rf", f"/var/lib/pg/{self.standby}")
        where = ["-h", "127.0.0.1", "-p", str(self.primary), "-U", "postgres", "-D", f"/var/lib/pg/{self.standby}"]
        self.host.done(f"{POSTGRES}/pg_basebackup", *where, "-R", "-X", "stream", "-c", "fast", user="postgres")
        self.systemctl("start", f"postgres@{self.standby}")

    # -- the person on call ------------------------------------------------------------------------------------------

    def carried_out(self, found: Found, alert: str, *, diagnosis: bool) -> None:
        """Type what the runbook of an alert says: what looks, or the rest of it."""
        rules = (DEPLOY / "alerts.yml").read_text("utf-8")
        (anchor,) = re.findall(rf"alert: {alert}\n(?:.*\n)*?.*runbooks\.md#(\S+)", rules)[:1] or [""]
        page = (DOCS / "runbooks.md").read_text("utf-8")
        titled = {part.partition("\n")[0].lower(): part for part in page.split("\n## ")}
        parts = {re.sub(r"[^\w -]", "", title).replace(" ", "-"): part for title, part in titled.items()}
        shell = [each.text for each in blocks(DOCS / "runbooks.md", language="sh") if each.text in parts[anchor]]
        lines = [line for text in shell for line in text.splitlines()]
        for line in lines:
            command = line.replace("march", self.batch)
            looks = re.match(r"voiceflow (status|doctor|audit|account|rate)|journalctl|df|du|timedatectl", command)
            if "01JB" in command or command.startswith("timedatectl") or (diagnosis and not looks):
                continue
            if command in found.commands:
                continue
            done = self.host.run("sh", "-c", command, user="voiceflow" if command.startswith("voiceflow") else "root")
            found.commands.append(command)
            # The doctor says by 1 that something is wrong; while the store is away, by 3.
            if done.returncode not in {0, 1, *({3} if diagnosis else ())}:
                found.wrong.append(f"{command}: exit {done.returncode}: {done.stderr[-300:]}")

    def goes_through(self, fault: str) -> Found:
        """Make a fault, be paged, look, repair, and wait until all is well again."""
        found = Found(fault)
        # What the fault before has kept back is late, and would page for this one.
        wait_until(lambda: self.calls_in("queued") < self.calls, lambda: self.voiceflow("status").stdout, within=900)
        self.enqueue(f"{fault.replace('_', '-')}-{len(self.enqueued)}")
        began, seen = time.monotonic(), len(self.pages)
        repair = getattr(self, fault)()
        pages_nobody = fault == "wrong_list"  # a person has noticed it

        def new_pages() -> dict[str, float]:
            first: dict[str, float] = {}
            for at, name in self.pages[seen:]:
                first.setdefault(name, round(at - began))
            return first

        while not pages_nobody and not new_pages() and time.monotonic() - began < PAGES_WITHIN + 60:
            time.sleep(1)
        time.sleep(15)  # what else would page beside it
        told = self.voiceflow("status")
        found.status = [
            line
            for line in (told.stdout + told.stderr).splitlines()
            if re.search("failing|held|cannot|away|clock|no receiver|by 0 workers|waiting", line)
            and not line.startswith("ordered")
        ]
        first = next(iter(new_pages()), None)
        if first is not None:
            self.carried_out(found, first, diagnosis=True)
        repair()
        repaired = time.monotonic()
        if fault in {"key", "lost_primary", "unavailable", "silent", "wrong_list"}:
            self.systemctl("start", *RECEIVERS)
            time.sleep(12)  # until a hold by a worker that has just met the fault stands, too
            self.voiceflow("reconcile", "--submitted")
            self.voiceflow("resume", "--note", "repaired")
            self.voiceflow("resume", "--batch", self.batch, "--note", "repaired")
        if fault in {"key", "lost_primary"}:  # held until somebody resumes it: a part of the repair
            repaired = time.monotonic()
        until = repaired + 240
        while (now := self.firing()) and time.monotonic() < until:
            found.last = sorted(now)
            if fault == "lost_primary" and "VoiceflowQueueHeld" in now:  # by workers, once they have met the new server
                self.voiceflow("resume", "--note", "opt-outs and doubts are done")
                repaired = time.monotonic()
            time.sleep(1)
        found.cleared = round(time.monotonic() - repaired) if not now else None
        found.pages = new_pages()
        if first is not None:
            self.carried_out(found, first, diagnosis=False)
        self.voiceflow("resume", "--note", "repaired")
        self.voiceflow("calls", "resolve", "--all", "--placed", "--note", "nobody knows", "--yes")
        if not pages_nobody:
            late = min(found.pages.values(), default=None)
            found.wrong += [f"no page within {PAGES_WITHIN:.0f} s"] if late is None or late > PAGES_WITHIN else []
            found.wrong += [f"{len(found.pages)} pages"] if len(found.pages) > MOST_PAGES else []
        if found.cleared is None or found.cleared > CLEARS_WITHIN + 12:
            found.wrong.append(f"cleared after {found.cleared} s: {', '.join(sorted(now))}")
        return found

    def ends(self) -> list[str]:
        """Let all calls end; what is wrong with them then."""
        open_states = ("queued", "leased", "sending", "submitted")
        wait_until(lambda: self.calls_in(*open_states) == 0, lambda: self.voiceflow("status").stdout, within=900)
        before = self.wal()
        time.sleep(60)
        say(f"without calls, {(self.wal() - before) // 60} bytes of WAL a second")
        states = json.loads(self.voiceflow("status", "--json").stdout)["states"]
        rang = Counter(entry.destination for entry in self.sandbox.ledger if entry.rang)
        twice = [number for number, count in rang.items() if count > 1]
        lost = len(self.enqueued) - sum(states.values())
        say(f"{len(self.enqueued)} calls, {len(self.sandbox.ledger)} POSTs: {states}; {len(twice)} twice, {lost} lost")
        return [f"{len(twice)} rang twice: {twice[:5]}"] * bool(twice) + [f"{lost} calls are lost"] * bool(lost)


FAULTS = (
    "database", "worker", "one_worker", "crash_loop", "receivers", "key", "wrong_secret", "throttled", "unavailable",
    "slow", "silent", "disk", "clock", "dns", "proxy", "wrong_list", "lost_primary",
)  # fmt: skip


def unit(command: str, *, more: str = "") -> str:
    return (
        f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart={command}\nRestart=on-failure\nRestartSec=1\n{more}\n"
    )


@contextmanager
def paged(host: Machine) -> Generator[list[tuple[float, str]]]:
    """What Alertmanager sends to the person on call: when, and the alert."""
    pages: list[tuple[float, str]] = []

    class Phone(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if told["status"] == "firing":
                pages.append((time.monotonic(), told["groupLabels"]["alertname"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with host.network():
        server = ThreadingHTTPServer(("127.0.0.1", 9095), Phone)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def day(*, calls: int) -> Generator[Day]:
    """Everything, started in the order of the page, and well."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    sandbox = Sandbox(
        api_key="key-1", sub_accounts=["AcmeCorp_Voice"], speed=20, webhook_retries=20, ssl_context=trusting
    )
    with ExitStack() as stack:
        host = stack.enter_context(machine())
        with host.network():
            eight = stack.enter_context(running(sandbox))
        # The disk of the state, small enough to be filled; a clock that can be put wrong.
        host.done("mkdir", "-p", "/var/lib/voiceflow", "/opt/clock")
        host.done("mount", "-t", "tmpfs", "-o", "size=40m,mode=0755", "tmpfs", "/var/lib/voiceflow")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(host.root / "opt/clock/clock.so"), "-ldl"],
            input=CLOCK,
            text=True,
            check=True,
        )
        url = f"http://voice.example.com:{urlsplit(eight.url).port}"
        host.install(
            VOICEFLOW_BASE_URL=url, VOICEFLOW_ALLOW_PLAIN_HTTP="yes", VOICEFLOW_RATE="4", VOICEFLOW_STORE="",
            VOICEFLOW_STORE_FILE="/etc/voiceflow/store", VOICEFLOW_READ_TIMEOUT="20s",
        )  # fmt: skip
        host.done("sh", "-c", f"echo '{HOSTS} voice.example.com' > /etc/hosts; echo key-1 > /etc/voiceflow/8x8")
        where = "127.0.0.1:5432,127.0.0.1:5433/postgres?target_session_attrs=read-write&schema=calls"
        host.done("sh", "-c", f"echo 'postgresql://voiceflow@{where}' > /etc/voiceflow/store")
        host.done("install", "-d", "-o", "postgres", "/var/lib/pg")
        host.done(
            f"{POSTGRES}/initdb",
            "-D",
            "/var/lib/pg/5432",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            user="postgres",
        )
        server = f"{POSTGRES}/postgres -D /var/lib/pg/%i -p %i -k /tmp -c listen_addresses=127.0.0.1"
        text = unit(server, more="User=postgres\nKillMode=mixed\nKillSignal=SIGINT")
        host.write("/etc/systemd/system/postgres@.service", text)
        host.done("systemctl", "start", "postgres@5432")
        asks = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-c"]
        wait_until(lambda: host.run(*asks, "SELECT 1").returncode == 0, "PostgreSQL", within=30)
        host.done(*asks, "CREATE ROLE voiceflow LOGIN", "-c", "CREATE SCHEMA calls AUTHORIZATION voiceflow")
        pages = stack.enter_context(paged(host))
        found = Day(host, sandbox, pages, calls=calls)
        found.follow()

        receiver = host.done("cat", "/etc/systemd/system/voiceflow-receiver.service")
        host.write("/etc/systemd/system/voiceflow-receiver-2.service", receiver.replace("8080", "8081"))
        clock = "[Service]\nEnvironment=LD_PRELOAD=/opt/clock/clock.so\n"
        host.write("/etc/systemd/system/voiceflow-worker.service.d/clock.conf", clock)
        host.write(
            "/etc/voiceflow/schedules/reminder.toml",
            SCHEDULE,
        )
        host.write("/etc/voiceflow/schedules/people.csv", "destination\n+6580000000\n")
        host.write("/etc/nginx.pem", CERTIFICATE.read_text("utf-8"))
        shipped = (DEPLOY / "nginx.conf").read_text("utf-8")
        shipped = shipped.replace(
            "server 127.0.0.1:8080 max_fails=0;",
            "server 127.0.0.1:8080 max_fails=0;\n    server 127.0.0.1:8081 max_fails=0;",
        )
        shipped = re.sub(r"(ssl_certificate(?:_key)?) \S+;", r"\1 /etc/nginx.pem;", shipped)
        host.done("mkdir", "-p", "/var/lib/nginx", "/var/log/nginx")
        host.write("/etc/nginx.conf", f"daemon off;\npid /run/nginx.pid;\nevents {{}}\nhttp {{\n{shipped}\n}}\n")
        host.write("/etc/systemd/system/proxy.service", unit("/usr/sbin/nginx -c /etc/nginx.conf"))
        host.write("/etc/probe.py", PROBE)
        host.write("/etc/systemd/system/probe.service", unit("/usr/bin/python3 /etc/probe.py"))
        config = (DEPLOY / "prometheus.yml").read_text("utf-8")
        config = config.replace("[127.0.0.1:9464]", "[127.0.0.1:9464, 127.0.0.1:9465]").replace(
            "[127.0.0.1:8080]", "[127.0.0.1:8080, 127.0.0.1:8081]"
        )
        host.write("/etc/prometheus/prometheus.yml", config)
        for name in ("alerts.yml", "alertmanager.yml"):
            host.write(f"/etc/prometheus/{name}", (DEPLOY / name).read_text("utf-8"))
        data = "--storage.tsdb.path=/var/lib/prometheus"
        more = "--storage.path=/var/lib/alertmanager --cluster.listen-address="
        host.write(
            "/etc/systemd/system/prometheus.service",
            unit(f"/usr/bin/prometheus --config.file=/etc/prometheus/prometheus.yml {data}"),
        )
        host.write(
            "/etc/systemd/system/alertmanager.service",
            unit(f"/usr/bin/prometheus-alertmanager --config.file=/etc/prometheus/alertmanager.yml {more}"),
        )
        host.done("systemctl", "daemon-reload")
        host.done("systemctl", "start", *RECEIVERS, "proxy", "probe")
        host.waits_for("voiceflow-receiver", "voiceflow serve is ready")
        host.done(
            "voiceflow",
            "account",
            "webhooks",
            "set",
            "https://localhost",
            "--force",
            "--type",
            "VSS",
            "--type",
            "VCA",
            user="voiceflow",
        )
        host.done("systemctl", "start", *WORKERS, "voiceflow-schedule", "alertmanager")
        host.waits_for(WORKERS[1], "voiceflow worker sends")
        host.done("systemctl", "start", "prometheus")
        time.sleep(75)  # a minute of all is well, as the alerts see it
        assert not found.firing(), found.firing()
        yield found


def main(words: Sequence[str]) -> int:
    """Go through the faults; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=FAULTS)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    faults = list(given.only or FAULTS)
    random.Random(given.seed).shuffle(faults)
    say(f"seed {given.seed}: {', '.join(faults)}")
    wrong: list[str] = []
    with day(calls=given.calls) as found:
        for fault in faults:
            each = found.goes_through(fault)
            wrong += [f"{fault}: {line}" for line in each.wrong]
            say(json.dumps(asdict(each)) if given.json else in_words(asdict(each)))
        wrong += found.ends()
    say("\n".join(wrong) or "all is well")
    return int(bool(wrong))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def in_words(found: Mapping[str, Any]) -> str:
    pages = ", ".join(f"{name} after {seconds:.0f} s" for name, seconds in found["pages"].items()) or "no page"
    last = f" (last {', '.join(found['last'])})" if found["last"] else ""
    cleared = f"cleared {found['cleared']} s after the repair{last}"
    lines = [f"{found['fault']}: {pages}; {cleared}; {len(found['commands'])} commands"]
    return "\n".join(
        [
            *lines,
            *(f"    status: {line}" for line in found["status"]),
            *(f"    WRONG: {line}" for line in found["wrong"]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
