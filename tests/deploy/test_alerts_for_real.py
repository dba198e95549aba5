"""Prometheus with the shipped files, beside a worker and a receiver: faults are made, and the right alerts fire."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.eight_by_eight import running as eight_by_eight
from tests.deploy.proxies import DEPLOY, tool
from tests.support.processes import Process, running, voiceflow
from tests.support.redis_server import free_port, standalone
from tests.support.waiting import wait_until
from voiceflow_worker.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def prometheus(folder: Path, *, worker: int, receiver: int) -> Iterator[str]:
    """Prometheus as it is shipped, but that it looks each second, and that no alert waits. Yields its address."""
    config = (DEPLOY / "prometheus.yml").read_text("utf-8").replace("10s", "1s")
    config = config.replace("127.0.0.1:9464", f"127.0.0.1:{worker}").replace("127.0.0.1:8080", f"127.0.0.1:{receiver}")
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    alerts = re.sub(r"for: \w+", "for: 1s", (DEPLOY / "alerts.yml").read_text("utf-8"))
    (folder / "alerts.yml").write_text(alerts, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [tool("prometheus", "prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"http://{address}"
        finally:
            process.kill()
            process.wait()


def asked(address: str, query: str) -> list[dict[str, str]]:
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?query={quote(query)}", timeout=5) as answer:
            return [each["metric"] for each in json.load(answer)["data"]["result"]]
    except OSError:
        return []


def firing(address: str) -> set[tuple[str, str]]:
    """The alerts that fire, each with its job, if it has one."""
    # Whether calls miss their times depends on what else this machine does.
    found = asked(address, 'ALERTS{alertstate="firing",alertname!="VoiceflowSlotsMissed"}')
    return {(each["alertname"], each.get("job", "")) for each in found}


def test_faults_that_are_made_for_real_fire_the_right_alerts_and_no_wrong_one(tmp_path: Path) -> None:
    tool("prometheus", "prometheus")
    redis = standalone(tmp_path / "redis").start()
    with ExitStack() as stack:
        stack.callback(redis.kill)
        eight = stack.enter_context(eight_by_eight(Sandbox(api_key="key-1", sub_accounts=["acme"])))
        environment = {
            **eight.environment, "VOICEFLOW_STORE": redis.url, "VOICEFLOW_OUTCOMES": "webhook",
            "VOICEFLOW_SUMMARY_DEADLINE": "20s", "VOICEFLOW_WEBHOOK_SECRET": "Bearer of-news-of-calls-1",
        }  # fmt: skip
        worker, receiver = free_port(), free_port()
        served = stack.enter_context(running("serve", "--port", str(receiver), env=environment))
        served.wait_for("is ready")

        def sends() -> Process:
            process = stack.enter_context(running("worker", "--metrics-port", str(worker), env=environment))
            process.wait_for("voiceflow worker sends")
            return process

        first = sends()
        address = stack.enter_context(prometheus(tmp_path, worker=worker, receiver=receiver))

        def fires(*expected: tuple[str, str]) -> None:
            wait_until(lambda: firing(address) == set(expected), lambda: f"{expected}: {firing(address)}", within=60)

        wait_until(lambda: len(asked(address, "up == 1")) == 2, "targets that are up", within=60)
        fires()

        # The store is silent: the processes still tell of themselves, and nobody is sent to start a worker.
        redis.pause()
        fires(("VoiceflowStoreAway", "voiceflow-worker"), ("VoiceflowStoreAway", "voiceflow-receiver"))
        assert len(asked(address, "voiceflow_worker_in_flight")) == 1
        assert not asked(address, "voiceflow_queue_jobs")
        redis.go_on()
        fires()

        # The webhook was never registered, so that no outcome comes.
        (tmp_path / "people.csv").write_text("destination\n+6581234567\n")
        say = ("--say", "Hello", "--voice-profile", "en-SG-LunaNeural", "--source", "+6531234567")
        assert voiceflow("enqueue", str(tmp_path / "people.csv"), *say, env=environment).wait() == 0
        wait_until(lambda: ("VoiceflowOutcomesOverdue", "") in firing(address), "an alert on outcomes", within=60)
        fires()  # after its deadline, it is told as accepted

        assert voiceflow("hold", env=environment).wait() == 0
        fires(("VoiceflowQueueHeld", ""))
        assert voiceflow("resume", env=environment).wait() == 0
        fires()

        first.end(signal.SIGKILL)
        wait_until(lambda: ("VoiceflowNoWorker", "") in firing(address), "an alert on workers", within=60)
        sends()
        wait_until(lambda: ("VoiceflowNoWorker", "") not in firing(address), "a worker", within=60)
