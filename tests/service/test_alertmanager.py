"""Debian's Alertmanager, two of them in a cluster: 500 alerts that flap and end, with outages of all that is ours.

Judged by what rang: each alert that fires until somebody acknowledges is heard, nobody hears one after acknowledging,
and nobody is called for one that is over.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.redis_server import free_port
from voiceflow_worker import CallQueue, Sandbox, SessionStatus, Store, VoiceClient, Worker, load_settings, open_store
from voiceflow_worker.asgi import serving
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.sandbox import Script
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations
from voiceflow_worker.webhooks import PATH
from voiceflow_worker.webhooks.receiver import Receiver

PROGRAM = shutil.which("prometheus-alertmanager")
SECRET, WEBHOOK_SECRET = "a-secret-of-alertmanager", "Bearer of-the-sandbox"
TEAMS, GROUPS, IN_A_GROUP = 25, 4, 5
RESEND = 4.0
"""Seconds after which the source of the alerts tells those that fire again, as Prometheus does."""
AFTER_AN_ORDER = 2.5
"""Seconds after an order in which a call that was leaving may still be accepted."""


def numbers_of(team: int) -> tuple[str, str]:
    """The two people of a team: the first does not answer, the second presses the key."""
    return f"+65876{team:02}001", f"+65876{team:02}002"


def config_of(address: str) -> str:
    routes = "".join(f"    - {{receiver: team{team}, matchers: ['team=\"{team}\"']}}\n" for team in range(TEAMS))
    receivers = "".join(
        f"- name: team{team}\n  webhook_configs:\n  - url: {address}/v1/hooks/alertmanager/?numbers="
        f"{','.join(number.replace('+', '%2B') for number in numbers_of(team))}&answer_within=5s&rest=1h\n"
        f"    http_config: {{basic_auth: {{username: am, password: {SECRET}}}}}\n"
        for team in range(TEAMS)
    )
    return (
        "route:\n  receiver: team0\n  group_by: [team, group]\n  group_wait: 1s\n  group_interval: 2s\n"
        f"  repeat_interval: 15s\n  routes:\n{routes}receivers:\n{receivers}"
    )


@asynccontextmanager
async def alertmanagers(folder: Path, written: str) -> AsyncGenerator[Sequence[str]]:
    """Two Alertmanagers in a cluster with this configuration, by the addresses of their API."""
    config = folder / "alertmanager.yml"
    config.write_text(written)
    ports = [free_port() for _ in range(4)]
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    async with anyio.create_task_group() as group:
        for place in range(2):
            command = [
                str(PROGRAM), f"--config.file={config}", f"--storage.path={folder / str(place)}",
                f"--web.listen-address=127.0.0.1:{ports[place]}",
                f"--cluster.listen-address=127.0.0.1:{ports[2 + place]}",
                f"--cluster.peer=127.0.0.1:{ports[3 - place]}", "--cluster.peer-timeout=1s",
                "--cluster.settle-timeout=2s", "--log.level=error",
            ]  # fmt: skip
            group.start_soon(_runs, command)
        async with httpx.AsyncClient() as client:
            with anyio.fail_after(30):
                for url in urls:
                    while not await _is_ready(client, url):  # noqa: ASYNC110 - another process
                        await anyio.sleep(0.1)
        yield urls
        group.cancel_scope.cancel()


async def _runs(command: Sequence[str]) -> None:
    async with await anyio.open_process(command, stdout=None, stderr=None) as process:
        try:
            await anyio.sleep_forever()
        finally:
            process.kill()


async def _is_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


class Weather:
    """Stands before the receiver: it is away at times, fails, and loses answers of the hook after they were given.

    It notes when the end of each alert was answered by 200: from then on, nobody may be called for it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.is_away = False
        self.dice = random.Random(51)
        self.faults = 0.0
        self.told_over: dict[str, float] = {}
        self.answers: dict[int, int] = defaultdict(int)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/v1/hooks/" not in scope["path"]:
            await self.app(scope, receive, send)
            return
        if self.is_away or self.dice.random() < self.faults:
            await PlainTextResponse("away", 503)(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        told: list[Message] = []

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def kept(message: Message) -> None:
            told.append(message)

        await self.app(scope, again, kept)
        status = int(told[0]["status"])
        self.answers[status] += 1
        if status < 300:
            for alert in orjson.loads(body)["alerts"]:
                name = alert["labels"]["alertname"]
                if alert["status"] == "resolved":
                    self.told_over[name] = time.time()
        if self.dice.random() < self.faults:
            await PlainTextResponse("the answer was lost", 502)(scope, receive, send)
            return
        for message in told:
            await send(message)


class Source:
    """The alerts, as a Prometheus that tells both Alertmanagers about them again and again."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.firing: dict[str, dict[str, Any]] = {}
        self.over: dict[str, dict[str, Any]] = {}
        self.last: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        """When each alert began to fire (True) and ended."""

    def fires(self, name: str) -> None:
        number = int(name[1:-1])
        labels = {"alertname": name, "team": str(number % TEAMS), "group": str(number // TEAMS % GROUPS)}
        self.over.pop(name, None)
        self.firing[name] = {"labels": labels, "startsAt": _now()}
        self.last[name].append((time.time(), True))

    def ends(self, name: str) -> None:
        self.over[name] = {**self.firing.pop(name), "endsAt": _now()}
        self.last[name].append((time.time(), False))

    async def tell(self) -> None:
        in_time = (datetime.now(UTC) + timedelta(minutes=3)).isoformat()
        alerts = [*({**each, "endsAt": in_time} for each in self.firing.values()), *self.over.values()]
        async with httpx.AsyncClient(timeout=30) as client:
            for url in self.urls:
                (await client.post(f"{url}/api/v2/alerts", json=alerts)).raise_for_status()

    async def tells(self) -> None:
        while True:
            await self.tell()
            await anyio.sleep(RESEND)


def _now() -> str:
    return datetime.now(UTC).isoformat()


NAMES = [f"a{number}x" for number in range(TEAMS * GROUPS * IN_A_GROUP)]


async def _lives_through(source: Source, weather: Weather, store: Store, base_url: str) -> None:
    """What happens to the alerts: no worker at first, ends, flaps, faults of the receiver, a worker that restarts."""
    dice = random.Random(7)
    for name in NAMES:
        source.fires(name)
    await source.tell()
    await anyio.sleep(6)
    assert weather.answers[503], "without a worker, Alertmanager is told to ask again"
    for name in dice.sample(NAMES, 100):  # these are over before anybody can be called
        source.ends(name)
    await source.tell()
    await anyio.sleep(8)
    weather.faults = 0.2
    async with VoiceClient("any-key", "demo", base_url=base_url) as voice:
        for lasts in (12, 25):
            worker = Worker(store, voice, rate=None)
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                for _ in range(lasts):
                    await anyio.sleep(1)
                    some = dice.sample(NAMES, 4)
                    for name in some:
                        if name in source.firing:
                            source.ends(name)
                            await source.tell()
                            await anyio.sleep(0.2)
                            source.fires(name)
                    await source.tell()
                    weather.is_away = dice.random() < 0.2
                worker.stop()
            weather.is_away = False
            await anyio.sleep(3)
        weather.faults = 0.0
        worker = Worker(store, voice, rate=None)
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            with anyio.move_on_after(150):
                while await _open_names(store, source):  # noqa: ASYNC110 - other tasks take them
                    await anyio.sleep(2)
            worker.stop()


async def _open_names(store: Store, source: Source) -> set[str]:
    """The alerts that fire, and that nobody has acknowledged."""
    taken = {name for status in await _all(store) if status.acknowledged is not None for name in _names(status)}
    return set(source.firing) - taken


async def _all(store: Store) -> list[EscalationStatus]:
    return await Escalations(CallQueue(store)).recent(since=datetime.now(UTC) - timedelta(hours=1))


def _names(status: EscalationStatus) -> set[str]:
    return {name for alarm in status.alarms for name in re.findall(r"\ba\d+x\b", alarm.text)}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.anyio
@pytest.mark.skipif(PROGRAM is None, reason="prometheus-alertmanager is not installed (Debian: apt-get install it)")
async def test_500_alerts_are_heard_until_acknowledged_and_by_nobody_after_that(tmp_path: Path) -> None:
    settings = load_settings(source="+6531234567", voice_profile="en-IE-EmilyNeural", api_secret=SECRET)
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store:
        receiver = Receiver(settings, store)
        weather = Weather(receiver.app)
        async with serving(weather) as address:
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=WEBHOOK_SECRET, speed=200)
            for team in range(TEAMS):
                first, second = numbers_of(team)
                sandbox.scripts.add(Script(destination=first, outcome=SessionStatus.NO_ANSWER))
                sandbox.scripts.add(Script(destination=second, outcome=SessionStatus.COMPLETED, keys=["1"]))
            async with (
                sandbox.running() as base_url,
                alertmanagers(tmp_path, config_of(address.url)) as urls,
                receiver.running(),
                anyio.create_task_group() as group,
            ):
                source = Source(urls)
                group.start_soon(source.tells)
                await _lives_through(source, weather, store, base_url)
                unheard = await _open_names(store, source)
                group.cancel_scope.cancel()
        statuses = await _all(store)
        bodies = {job.id: job.body for job in await CallQueue(store).find(limit=None)}
    assert not unheard, f"nobody heard {sorted(unheard)[:10]}"
    rang: dict[str, list[float]] = defaultdict(list)
    for entry in sandbox.ledger:
        about = re.findall(r"\ba\d+x\b", bodies[str(entry.client_request_id).rpartition(".")[0]])
        assert about
        if entry.rang:
            assert any(_fires(source, weather, name, at=entry.at) for name in about), f"{about} were over"
        for name in about:
            rang[name].append(entry.at)
    assert set(source.firing) <= set(rang), "what fires has rung"
    for status in statuses:
        if status.acknowledged is not None:
            taken = status.acknowledged.at.timestamp()
            for name in _names(status):
                again = [at for at in rang[name] if at > taken + AFTER_AN_ORDER]
                assert not again, f"{name} was heard {again[0] - taken:.1f} s after it was acknowledged"


def _fires(source: Source, weather: Weather, name: str, *, at: float) -> bool:
    """Whether an alert may be called for at this time: it fires, or its end was told to us only just before."""
    states = [fires for when, fires in source.last[name] if when <= at]
    if states and states[-1]:
        return True
    told = weather.told_over.get(name)
    return told is None or at <= told + AFTER_AN_ORDER


ONE = "+6587654321"
NIGHTS, STORM = 7, [f"a{number}x" for number in range(50)]


class Shifted(SystemClock):
    """The clock of the machine, with days that are left out."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


async def _silence(urls: Sequence[str], name: str, seconds: float) -> None:
    """Silence an alert at both, so that its end is never told."""
    begins = datetime.now(UTC)
    matchers = [{"name": "alertname", "value": name, "isRegex": False}]
    times = {"startsAt": begins.isoformat(), "endsAt": (begins + timedelta(seconds=seconds)).isoformat()}
    silence = {"matchers": matchers, **times, "createdBy": "Li", "comment": "seen"}
    async with httpx.AsyncClient(timeout=30) as client:
        for url in urls:
            (await client.post(f"{url}/api/v2/silences", json=silence)).raise_for_status()


async def _rang(store: Store, *, alerts: int, firings: int) -> int:
    """Wait until so many alerts were acknowledged, in so many firings at least; returns the number of calls so far."""
    with anyio.fail_after(90):
        while True:
            heard = [each.mark for status in await _all(store) if status.acknowledged for each in status.alarms]
            if len(set(heard)) >= alerts and len(heard) >= firings:
                return len(await CallQueue(store).find(limit=None))
            await anyio.sleep(0.2)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.anyio
@pytest.mark.skipif(PROGRAM is None, reason="prometheus-alertmanager is not installed (Debian: apt-get install it)")
async def test_a_week_of_nights_with_silences_and_a_storm_each_alert_is_heard(tmp_path: Path) -> None:
    settings = load_settings(source="+6531234567", voice_profile="en-IE-EmilyNeural", api_secret=SECRET)
    clock = Shifted()
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as store:
        receiver = Receiver(settings, store)
        async with serving(receiver.app) as address:
            written = (
                "route: {receiver: phone, group_by: [alertname], group_wait: 1s, group_interval: 2s, "
                "repeat_interval: 15s}\nreceivers:\n- name: phone\n  webhook_configs:\n"
                f"  - url: {address.url}/v1/hooks/alertmanager?numbers={ONE.replace('+', '%2B')}&answer_within=5s\n"
                f"    http_config: {{basic_auth: {{username: am, password: {SECRET}}}}}\n"
            )
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=WEBHOOK_SECRET, speed=20)
            sandbox.scripts.add(Script(destination=ONE, outcome=SessionStatus.COMPLETED, keys=["1"]))
            async with (
                sandbox.running() as base_url,
                alertmanagers(tmp_path, written) as urls,
                receiver.running(),
                VoiceClient("any-key", "demo", base_url=base_url) as voice,
                anyio.create_task_group() as group,
            ):
                source, worker = Source(urls), Worker(store, voice, rate=None)
                group.start_soon(worker.run)
                for night in range(1, NIGHTS + 1):
                    source.fires("a100x")
                    await source.tell()
                    assert await _rang(store, alerts=1, firings=night) == night, "each night rings, and once"
                    await _silence(urls, "a100x", 8)
                    source.ends("a100x")
                    await source.tell()
                    await anyio.sleep(9)
                    clock.ahead += timedelta(days=1)
                for name in STORM:
                    source.fires(name)
                await source.tell()
                calls = await _rang(store, alerts=1 + len(STORM), firings=NIGHTS + len(STORM))
                assert calls - NIGHTS <= 10, "each alert is heard, and not by a call of its own"
                worker.stop()
                group.cancel_scope.cancel()
