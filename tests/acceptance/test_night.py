"""Faults of a night, each under ten calls a second: what is reported while it lasts and after it, at every interface.

`NIGHT=/tmp/night pytest tests/acceptance/test_night.py` writes all reports into that folder.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from unittest.mock import patch

import httpx
import pytest

from tests.support.alerts import pages, prometheus
from tests.support.processes import Process, voiceflow
from tests.support.redis_server import RedisServer, standalone
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

RATE = "10"
FAKETIME = os.environ.get("LIBFAKETIME") or next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")
"""The library that gives a process another clock, of Debian's package libfaketime."""
FIVE_MINUTES_OFF = {"LD_PRELOAD": FAKETIME, "FAKETIME": "-5m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@dataclass
class Night:
    """A stage with two workers at work."""

    on: Stage
    room: Path
    workers: list[Process]
    server: RedisServer | None = None


@contextmanager
def all_posts(night: Night, **fault: object) -> Generator[None]:
    night.on.order("faults", {"times": None, **fault})
    try:
        yield
    finally:
        night.on.order("reset", {})


@contextmanager
def throttled(night: Night) -> Generator[None]:
    with all_posts(night, fault="status", status=429):
        yield


@contextmanager
def bad_gateway(night: Night) -> Generator[None]:
    with all_posts(night, fault="status", status=502):
        yield


@contextmanager
def black_hole(night: Night) -> Generator[None]:
    with all_posts(night, fault="delay", seconds=3600, place="before"):
        yield


@contextmanager
def full_disk(night: Night) -> Generator[None]:
    with suppress(OSError), (night.room / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        (night.room / "full").unlink()


@contextmanager
def wrong_key(night: Night) -> Generator[None]:
    with ExitStack() as stack:
        env = dict(night.on.env)
        night.on.env["VOICEFLOW_API_KEY"] = "another-key"
        worker = stack.enter_context(night.on.worker("--rate", RATE))
        night.on.env.update(env)
        night.workers.append(worker)
        worker.wait_for("the queue is held until somebody resumes it")
        yield
        assert worker.end() == 0
    night.on.run("resume")


@contextmanager
def store_away(night: Night) -> Generator[None]:
    assert night.server is not None
    night.server.kill()
    try:
        yield
    finally:
        night.server.start()


@contextmanager
def no_more(_night: Night) -> Generator[None]:
    yield


@contextmanager
def killed(night: Night) -> Generator[None]:
    night.workers[0].end(signal.SIGKILL)
    yield


@contextmanager
def one_after_another(night: Night) -> Generator[None]:
    """A pause, errors, one event with a wrong secret, and a worker that is killed, each after a minute of calm."""
    is_over = Event()

    def play() -> None:
        for fault, lasts in (
            (throttled, 75),
            (no_more, 70),
            (bad_gateway, 40),
            (no_more, 70),
            (stranger, 1),
            (killed, 60),
        ):
            with fault(night):
                is_over.wait(lasts)

    player = Thread(target=play)
    player.start()
    try:
        yield
    finally:
        is_over.set()
        player.join()


@contextmanager
def stranger(night: Night) -> Generator[None]:
    headers = {"Authorization": "Bearer another-secret-0123"}
    assert httpx.post(f"{night.on.receiver}/webhooks/8x8", headers=headers, json={}, trust_env=False).status_code == 401
    yield


@dataclass
class Row:
    """A fault, for how long, and the texts that `status`, `doctor` and the console have ten seconds and a minute later.

    None is there of `never`. `paged` are the pages while it lasts and in the minute after; others are none.
    """

    fault: Callable[[Night], AbstractContextManager[None]]
    seconds: float
    early: Sequence[str]
    late: Sequence[str] = ()
    never: Sequence[str] = ("no worker is running", "a worker stopped")
    paged: frozenset[str] = frozenset()
    logged: str = ""
    own_disk: bool = False
    own_server: bool = False
    second: dict[str, str] = field(default_factory=dict[str, str])
    """Of the environment of the second worker."""
    settings: dict[str, str] = field(default_factory=dict)


ROWS = {
    "79 s of 429": Row(
        throttled, 79, [r"8x8 asks for a lower rate \(429\)"], [r"8x8 asks for a lower rate \(429\)"],
        paged=frozenset({"VoiceflowThrottled"}),
    ),
    "30 s of 502": Row(
        bad_gateway, 30, ["8x8 answered 502"], ["8x8 answered 502"], paged=frozenset({"VoiceflowNoAnswers"}),
    ),
    "a black hole at 8x8": Row(
        black_hole, 75, [], ["8x8 gave no clear answer, call after call"],
        paged=frozenset({"VoiceflowNoAnswers"}), settings={"read_timeout": "30s"},
    ),
    "one worker with a wrong key": Row(
        wrong_key, 75, [r"8x8 does not accept the API key \(401\)"], [r"8x8 does not accept the API key \(401\)"],
        paged=frozenset({"VoiceflowQueueHeld"}), logged="the queue is held until somebody resumes it",
    ),
    "a full disk under SQLite": Row(
        full_disk, 75,
        [r"the disk of the store .{0,300}is full", r"worker [\w-]+-{pid}-\w+ until "],
        [r"the disk of the store .{0,300}is full"], paged=frozenset({"VoiceflowStoreAway"}), own_disk=True,
    ),
    "a Redis that is away for a minute": Row(
        store_away, 60, ["cannot be reached"], paged=frozenset({"VoiceflowStoreAway"}), own_server=True,
    ),
    "a worker whose clock is five minutes off": Row(
        no_more, 60,
        [r"[Tt]he clock of a machine is not that of the store \(since .* is 5 min behind .*-{pid}-"],
        paged=frozenset({"VoiceflowClock"}), own_server=True, second=FIVE_MINUTES_OFF,
    ),
    "a killed worker": Row(killed, 30, [], paged=frozenset({"VoiceflowFewerProcesses"})),
    "several, one after another": Row(
        one_after_another, 310, [r"8x8 asks for a lower rate \(429\)"], [r"8x8 asks for a lower rate \(429\)"],
        paged=frozenset({"VoiceflowThrottled", "VoiceflowNoAnswers", "VoiceflowFewerProcesses", "VoiceflowLate"}),
    ),
}  # fmt: skip


@pytest.fixture
def room(tmp_path: Path) -> Generator[Path]:
    """A folder with a disk of its own."""
    folder = tmp_path / "room"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def own_server(tmp_path: Path) -> Generator[RedisServer]:
    server = standalone(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.mark.parametrize("name", ROWS)
def test_a_fault_is_named_while_it_lasts_and_is_one_page(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no Prometheus")
    row = ROWS[name]
    if not row.second.get("LD_PRELOAD", "unused"):
        pytest.skip("there is no libfaketime")
    folder = request.getfixturevalue("room") if row.own_disk else tmp_path
    notes = Path(os.environ["NIGHT"]) / re.sub(r"\W+", "-", name) if "NIGHT" in os.environ else tmp_path / "reports"
    notes.mkdir(parents=True, exist_ok=True)
    settings = {"state_dir": str(tmp_path / "state"), "rate": RATE, "lease": "60s", "ui_secret": "console-secret-0123"}
    server = request.getfixturevalue("own_server") if row.own_server else None
    with ExitStack() as stack:
        on = stack.enter_context(
            stage(
                tmp_path,
                store=f"sqlite:///{folder / 'calls.db'}" if server is None else server.url,
                speed=20,
                api_key="test-key",
                **settings,
                **row.settings,
            )
        )
        on.campaign(int(RATE) * round(row.seconds + 120))
        first = stack.enter_context(on.worker("--metrics-port", "0"))
        with patch.dict(on.env, row.second):
            workers = [first, stack.enter_context(on.worker("--metrics-port", "0"))]
        addresses = [each.wait_for(r"metrics are on http://(\S+)/metrics")[1] for each in workers]
        watch = stack.enter_context(
            prometheus(tmp_path, workers=addresses, receivers=[on.receiver.removeprefix("http://")])
        )
        night = Night(on, folder, list(workers), server)

        def reports(when: str) -> dict[str, str]:
            found = {
                "status": voiceflow("status", "--wait-for-store", "2s", env=on.env).printed,
                "doctor": voiceflow("doctor", env=on.env, seconds=60).printed,
                "console": console(on),
                "metrics": "".join(
                    httpx.get(f"http://{each}/metrics", trust_env=False).text for each in addresses if alive(each)
                ),
                "firing": "\n".join(map(str, watch.firing())),
                "log": "".join(each.printed for each in night.workers),
            }
            for part, text in found.items():
                (notes / f"{when} {part}.txt").write_text(text, "utf-8")
            return {part: " ".join(text.split()) for part, text in found.items()}

        time.sleep(10)  # at work
        paged, began = set[str](), 0.0

        def wait_and_watch(seconds: float) -> None:
            while time.monotonic() < began + seconds:
                time.sleep(1)  # the fault lasts, and Prometheus looks
                paged.update(pages(watch.firing()))

        with row.fault(night):
            began, pid = time.monotonic(), str(night.workers[-1].pid)
            wait_and_watch(10)
            early = reports("at 10 s")
            wait_and_watch(min(row.seconds, 60))
            late = reports("at 60 s")
            wait_and_watch(row.seconds)
        wait_and_watch(row.seconds + 65)
        after = reports("a minute after")
        for interface in ("status", "doctor", "console"):
            for wanted, found in [*((each, early) for each in row.early), *((each, late) for each in row.late)]:
                pattern = wanted.replace("{pid}", pid)
                assert re.search(pattern, found[interface]), (interface, wanted)
            for text in row.never:
                assert text not in early[interface] + late[interface] + after[interface], (interface, text)
        assert row.logged in late["log"]
        assert paged == row.paged, after["firing"]


def alive(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def console(on: Stage) -> str:
    """The words of the console's first page."""
    here = {"Sec-Fetch-Site": "same-origin", "Origin": on.receiver}
    with httpx.Client(base_url=on.receiver, headers=here, trust_env=False, follow_redirects=True) as person:
        person.post("/ui/sign-in", data={"name": "Night", "secret": "console-secret-0123", "way": ""})
        return re.sub(r"<[^>]+>", " ", person.get("/ui").text)
