"""Debian's Alertmanager, two of them in a cluster, judged by what rang: who is called, and for nothing that is over."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.support.redis_server import free_port
from voiceflow_worker import CallQueue, Sandbox, SessionStatus, Store, VoiceClient, Worker, load_settings, open_store
from voiceflow_worker.asgi import serving
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH
from voiceflow_worker.webhooks.receiver import Receiver

PROGRAM = shutil.which("prometheus-alertmanager")
SECRET, WEBHOOK_SECRET = "a-secret-of-alertmanager", "Bearer of-the-sandbox"
TEAMS = range(12)
NAMES = [f"a{number}x" for number in range(5 * len(TEAMS))]


def numbers_of(team: int) -> tuple[str, str]:
    """The two people of a team: the first does not answer, the second presses the key."""
    return f"+65876{team:02}001", f"+65876{team:02}002"


def config_of(address: str) -> str:
    routes = "".join(f"  - {{receiver: team{team}, matchers: ['team=\"{team}\"']}}\n" for team in TEAMS)
    receivers = "".join(
        f"- name: team{team}\n  webhook_configs:\n  - url: {address}/v1/hooks/alertmanager?numbers="
        f"{','.join(numbers_of(team)).replace('+', '%2B')}&every=5s\n"
        f"    http_config: {{authorization: {{credentials: {SECRET}}}}}\n"
        for team in TEAMS
    )
    times = "  group_wait: 1s\n  group_interval: 2s\n  repeat_interval: 5s\n"
    return f"route:\n  receiver: team0\n  group_by: [team]\n{times}  routes:\n{routes}receivers:\n{receivers}"


@asynccontextmanager
async def alertmanagers(folder: Path, address: str) -> AsyncGenerator[Sequence[str]]:
    """Two Alertmanagers in a cluster, which tell this address, by the addresses of their API."""
    config = folder / "alertmanager.yml"
    config.write_text(config_of(address))
    ports = [free_port() for _ in range(4)]
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    async with anyio.create_task_group() as group, httpx.AsyncClient() as client:
        for place in range(2):
            command = [
                str(PROGRAM), f"--config.file={config}", f"--storage.path={folder / str(place)}",
                f"--web.listen-address=127.0.0.1:{ports[place]}",
                f"--cluster.listen-address=127.0.0.1:{ports[2 + place]}",
                f"--cluster.peer=127.0.0.1:{ports[3 - place]}", "--cluster.peer-timeout=1s",
                "--cluster.settle-timeout=2s", "--log.level=error",
            ]  # fmt: skip
            group.start_soon(_runs, command)
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


class Source:
    """The alerts, as a Prometheus that tells both Alertmanagers about them again and again."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.alerts: dict[str, dict[str, Any]] = {}

    async def tells(self, *names: str, fire: bool) -> None:
        for name in names:
            now = datetime.now(UTC).isoformat()
            labels = {"alertname": name, "team": str(int(name[1:-1]) % len(TEAMS))}
            self.alerts[name] = {"labels": labels, "startsAt": now} if fire else {**self.alerts[name], "endsAt": now}
        later = (datetime.now(UTC) + timedelta(minutes=3)).isoformat()
        alerts = [{"endsAt": later, **each} for each in self.alerts.values()]
        async with httpx.AsyncClient(timeout=30) as client:
            for url in self.urls:
                (await client.post(f"{url}/api/v2/alerts", json=alerts)).raise_for_status()


async def named_by(store: Store, *, acknowledged: bool) -> Counter[str]:
    """In how many batches each alert is; or, of those that somebody has acknowledged."""
    texts: dict[str, str] = {}
    heard: set[str] = set()
    for job in await CallQueue(store).find(limit=None):
        texts[job.batch_id or ""] = str(job.data and job.data["question"])
        heard |= {job.batch_id or ""} if job.answer == "acknowledged" else set()
    found = [text for batch, text in texts.items() if not acknowledged or batch in heard]
    return Counter(name for text in found for name in re.findall(r"\ba\d+x\b", text))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.anyio
@pytest.mark.skipif(PROGRAM is None, reason="prometheus-alertmanager is not installed (Debian: apt-get install it)")
async def test_alerts_are_heard_until_acknowledged_once_and_by_nobody_after_their_end(tmp_path: Path) -> None:
    settings = load_settings(source="+6531234567", voice_profile="en-IE-EmilyNeural", api_secret=SECRET)
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store:
        receiver = Receiver(settings, store)
        async with serving(receiver.app) as address:
            sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=WEBHOOK_SECRET, speed=200)
            for first, second in map(numbers_of, TEAMS):
                sandbox.scripts.add(Script(destination=first, outcome=SessionStatus.NO_ANSWER))
                sandbox.scripts.add(Script(destination=second, outcome=SessionStatus.COMPLETED, keys=["1"]))
            async with (
                sandbox.running() as base_url,
                alertmanagers(tmp_path, address.url) as urls,
                receiver.running(),
                VoiceClient("any-key", "demo", base_url=base_url) as voice,
                anyio.create_task_group() as group,
            ):
                source, over, firing = Source(urls), NAMES[::3], {*NAMES} - {*NAMES[::3]}
                await source.tells(*NAMES, fire=True)
                with anyio.fail_after(30):
                    while len(await named_by(store, acknowledged=False)) < len(NAMES):  # noqa: ASYNC110
                        await anyio.sleep(0.2)
                heartbeat = Heartbeat(store, queue="default", worker_id="worker-1", in_flight=lambda: 0)
                for fires in (True, False):  # once a worker is there, the notifications are taken; it sends nothing yet
                    await heartbeat.beat()
                    await source.tells(*([] if fires else over), fire=fires)
                    await anyio.sleep(8)
                worker = Worker(store, voice, rate=None)
                group.start_soon(worker.run)
                with anyio.fail_after(120):
                    while not firing <= (await named_by(store, acknowledged=True)).keys():  # noqa: ASYNC110
                        await anyio.sleep(0.5)
                calls = len(await CallQueue(store).find(limit=None))
                await anyio.sleep(12)  # both tell everything again, twice
                worker.stop()
                group.cancel_scope.cancel()
        texts = {job.id: str(job.data and job.data["question"]) for job in await CallQueue(store).find(limit=None)}
        heard = await named_by(store, acknowledged=True)
    assert len(texts) == calls, "nobody hears of what was acknowledged"
    assert {heard[name] for name in firing} == {1}, "each is acknowledged once, whichever of the two has told it"
    rang = [texts[str(entry.client_request_id).rpartition(".")[0]] for entry in sandbox.ledger if entry.rang]
    assert rang
    assert all(firing & {*re.findall(r"\ba\d+x\b", text)} for text in rang), "nobody is called for what is over alone"
