"""The alerts of docs/deploy: a Prometheus that evaluates them, and what Alertmanager keeps back of those that fire."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import httpx
import yaml

from tests.support.processes import ROOT
from tests.support.redis_server import free_port
from tests.support.waiting import wait_until

DEPLOY = ROOT / "docs" / "deploy"
Alert = Mapping[str, str]
"""The labels of an alert."""


def matches(matchers: Sequence[str], labels: Alert) -> bool:
    """Whether an alert has these labels, as Alertmanager reads them."""
    found = [re.fullmatch(r'(\w+) (=~?) "?([^"]+)"?', each) for each in matchers]
    return all(
        each and re.fullmatch(each[3] if each[2] == "=~" else re.escape(each[3]), labels.get(each[1], ""))
        for each in found
    )


def kept_back(alerts: Sequence[Alert]) -> list[Alert]:
    """Those of the alerts that fire which another one of them keeps back, by the inhibition rules."""
    rules = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text("utf-8"))["inhibit_rules"]

    def keeps(rule: Mapping[str, Any], source: Alert, target: Alert) -> bool:
        sources, targets = rule["source_matchers"], rule["target_matchers"]
        # Such as match both sides do not silence each other.
        is_both = matches(targets, source) and matches(sources, target)
        is_equal = all(source.get(name) == target.get(name) for name in rule.get("equal", ()))
        return matches(sources, source) and matches(targets, target) and is_equal and not is_both

    return [each for each in alerts if any(keeps(rule, other, each) for rule in rules for other in alerts)]


def pages(alerts: Sequence[Alert]) -> set[str]:
    """The names of the alerts that reach a person: Alertmanager groups them by name."""
    silent = kept_back(alerts)
    return {each["alertname"] for each in alerts if each not in silent}


class Prometheus:
    """A Prometheus that looks each five seconds."""

    def __init__(self, url: str) -> None:
        self._url = url

    def firing(self) -> list[dict[str, str]]:
        """The labels of the alerts that fire now."""
        found = httpx.get(f"{self._url}/api/v1/alerts", trust_env=False).json()["data"]["alerts"]
        return [each["labels"] for each in found if each["state"] == "firing"]


@contextmanager
def prometheus(folder: Path, *, workers: Iterable[str], receivers: Iterable[str]) -> Generator[Prometheus]:
    """A Prometheus with the alerts of docs/deploy, which asks these addresses; it ends with the block."""
    shutil.copy(DEPLOY / "alerts.yml", folder)
    jobs = {"voiceflow-worker": workers, "voiceflow-receiver": receivers}
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": list(targets)}]} for name, targets in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    server = Popen(["prometheus", *words, f"--web.listen-address={address}"], stdout=DEVNULL, stderr=DEVNULL)
    try:
        wait_until(lambda: _is_ready(f"http://{address}/-/ready"), "a Prometheus that is ready")
        yield Prometheus(f"http://{address}")
    finally:
        server.kill()
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        time.sleep(0.1)
        return False
