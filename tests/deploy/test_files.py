"""The files of docs/deploy are what the programs that read them expect, and name only what exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy.proxies import DEPLOY, tool
from tests.docs.pages import ROOT, blocks
from tests.support.alerts import kept_back
from voiceflow_worker.asgi import limits
from voiceflow_worker.cli.program import program
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.service import metrics
from voiceflow_worker.settings import PREFIX, defaults

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KUBERNETES = sorted(path.name for path in DEPLOY.glob("kubernetes*.yaml"))
MANIFESTS: list[dict[str, Any]] = [
    each for name in KUBERNETES for each in yaml.safe_load_all((DEPLOY / name).read_text("utf-8"))
]
PODS = [each["spec"]["template"] for each in MANIFESTS if each["kind"] in {"Deployment", "StatefulSet"}]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
GRACE = defaults()["shutdown_grace"].total_seconds()
SECRETS = {"8x8", "webhook", "api", "readers", "operators", "store"}
NEEDED = {"serve": SECRETS, "worker": {"8x8", "store"}}
"""The secrets of each command."""
OF_PROMETHEUS = {"up", "process_start_time_seconds", "probe_ssl_earliest_cert_expiry", "probe_success"}
"""Metrics of Prometheus itself, of its client in a process, and of the blackbox exporter."""


def done(*command: str | Path, folder: Path = DEPLOY) -> str:
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def module(name: str) -> str:
    """A module of Python that checks files; skips the test where it is not installed."""
    if find_spec(name) is None:
        pytest.skip(f"there is no {name} here: pip install 'voiceflow-worker[deploy]'")
    return name


class Process(NamedTuple):
    """A process as one of the files starts it: its command, the secrets it can read and is told of, its time to end."""

    where: str
    command: list[str]
    can_read: set[str]
    told_of: set[str]
    grace: float


def processes() -> Iterator[Process]:
    (shared,) = (each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap")
    for pod in (each["spec"] for each in PODS):
        (container,), (volume,) = pod["containers"], [each for each in pod["volumes"] if each["name"] == "secrets"]
        read = re.findall(r"/run/secrets/voiceflow/([\w-]+)", str(shared) + str(container.get("env")))
        keys = {item["key"] for item in volume["secret"]["items"]}
        yield Process("kubernetes", container["args"], keys, set(read), pod["terminationGracePeriodSeconds"])
    for service in (each for each in COMPOSE["services"].values() if "command" in each):
        read = re.findall(r"/run/secrets/([\w-]+)", str(service["environment"]))
        grace = read_duration(service["stop_grace_period"]).total_seconds()
        yield Process("compose", service["command"], set(service["secrets"]), set(read), grace)
    for unit in UNITS:
        text = unit.read_text("utf-8")
        (line,) = re.findall(r"^ExecStart=/opt/voiceflow/bin/voiceflow (.*)$", text, re.MULTILINE)
        (grace,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        hidden = "".join(re.findall(r"^InaccessiblePaths=(.*)$", text, re.MULTILINE))
        told = set(re.findall(r"(?<!ENV)_FILE=/etc/voiceflow/([\w-]+)", text))
        can_read = SECRETS - set(re.findall(r"/etc/voiceflow/([\w-]+)", hidden))
        yield Process(unit.name, line.replace("%i", "9465").split(), can_read, told, float(grace))


# -- metrics -----------------------------------------------------------------------------------------------------------


def names_in(query: str) -> set[str]:
    """The metrics of a query."""
    plain = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|on|without) *\([^)]*\)', " ", query)
    words = re.findall(r"\b[a-z_][a-z_0-9]+\b(?! *\()", plain)
    return {word for word in words if word not in {"or", "and", "unless", "by", "on", "offset"}}


def known() -> set[str]:
    """Every name under which Prometheus has a metric of ours."""
    found = set(OF_PROMETHEUS)
    for metric in [each for each in vars(metrics).values() if isinstance(each, metrics.MetricOf)]:
        parts = ("_bucket", "_count", "_sum") if metric.bounds else ("",)
        found |= {metric.name + part for part in parts}
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def queries_of_dashboard() -> list[str]:
    panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 15
    return [query.replace("$__rate_interval", "1m").replace("$queue", "default") for query in queries]


def test_every_metric_of_the_alerts_and_of_the_dashboard_exists() -> None:
    queries = [*(rule["expr"] for rule in rules()), *queries_of_dashboard()]
    unknown = {name for query in queries for name in names_in(query)} - known()
    assert not unknown


def test_every_task_and_every_job_of_the_alerts_exists() -> None:
    text = (DEPLOY / "alerts.yml").read_text("utf-8")
    tasks = {task for named in re.findall(r'task[!=~]+"([^"]+)"', text) for task in named.split("|")}
    assert tasks <= {task.name.lower() for task in Task}
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert set(re.findall(r'job="([^"]+)"', text)) == {each["job_name"] for each in scraped}


def test_every_alert_says_what_to_do() -> None:
    known = set(program())
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "remedy", "runbook_url"}, rule["alert"]
        commands = re.findall(r"`voiceflow (\w+)", str(rule["annotations"]))
        assert set(commands) <= known, commands


def test_each_alert_is_seen_to_fire() -> None:
    tested = Path(__file__).with_name("alerts.test.yml").read_text("utf-8")
    firing = set(re.findall(r'labels: \'\w*\{alertname="(\w+)"', tested))
    assert firing == {rule["alert"] for rule in rules()}


@pytest.mark.slow
def test_prometheus_reads_its_files_and_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    promtool = tool("promtool", "prometheus")
    done(promtool, "check", "config", "prometheus.yml")
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts.test.yml"), tmp_path)
    done(promtool, "test", "rules", "alerts.test.yml", folder=tmp_path)
    dashboard = [{"record": f"query:{number}", "expr": each} for number, each in enumerate(queries_of_dashboard())]
    (tmp_path / "dashboard.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": dashboard}]}))
    done(promtool, "check", "rules", "dashboard.yml", folder=tmp_path)


# What fires, and what of it is sent to nobody.
TOGETHER = (
    ("StoreAway NoReceiver TaskFails QueueHeld:default", "NoReceiver TaskFails QueueHeld:default"),
    ("QueueHeld:default Late:default", "Late:default"),
    ("QueueHeld:default BatchHeld:default BatchHeld:night Late:night", "BatchHeld:default"),
    ("QueueHeld:default Throttled", ""),
    ("Throttled Late:default SlotsMissed", "Late:default SlotsMissed"),
    ("NoWorker FewerProcesses CrashLoop Doubts:default", "FewerProcesses CrashLoop"),
    ("NoReceiver FewerProcesses NotReached", "FewerProcesses NotReached"),
    ("DiskFull JournalNotWritten Late:default", "JournalNotWritten Late:default"),
    ("JournalNotWritten TaskFails", "TaskFails"),
    ("NoAnswers SlowAnswers Doubts:default QueueHeld:default", "SlowAnswers Doubts:default"),
    ("StoreAway FewerProcesses NoReceiver VerdictsWait", "FewerProcesses NoReceiver VerdictsWait"),  # a full disk
    (
        "StoreAway NoAnswers Throttled QueueHeld:default Doubts:default Late:default",
        "Throttled QueueHeld:default Doubts:default Late:default",
    ),
)


def test_one_cause_is_one_page_and_a_hold_keeps_back_no_page_of_another_queue() -> None:
    for fires, silent in TOGETHER:
        alerts = [
            dict(zip(("alertname", "queue"), f"Voiceflow{each}".split(":"), strict=False)) for each in fires.split()
        ]
        found = kept_back(alerts)
        assert {name for name, alert in zip(fires.split(), alerts, strict=True) if alert in found} == set(
            silent.split()
        ), fires


# -- connections -------------------------------------------------------------------------------------------------------


def test_every_proxy_closes_a_connection_before_the_receiver_does() -> None:
    kept = limits.CONNECTION.total_seconds()
    assert kept == 75
    for name in ("nginx.conf", "nginx-prefix.conf"):
        upstream = re.findall(r"upstream \w+ \{(.*?)\n\}", (DEPLOY / name).read_text("utf-8"), re.DOTALL)
        assert [re.findall(r"keepalive_timeout (\d+)s;", each) for each in upstream] == [["60"]], name
    caddy = (DEPLOY / "Caddyfile").read_text("utf-8")
    times = re.findall(r"\n\t*keepalive (\d+s|off)\n", caddy)
    assert len(times) == len(re.findall(r"\treverse_proxy ", caddy))
    assert [each for each in times if each == "off" or int(each[:-1]) >= kept] == ["off"], "only events"
    # The defaults of ingress-nginx and of an ALB are 60 s: no manifest raises them.
    text = "".join((DEPLOY / name).read_text("utf-8") for name in KUBERNETES)
    assert not re.findall("upstream-keepalive|idle_timeout", text)
    page = (DEPLOY / "README.md").read_text("utf-8")
    assert all(each in page for each in ("AWS ALB", "ingress-nginx", "nginx", "Caddy"))
    assert f"--timeout-keep-alive {kept:.0f}" in page


def test_no_proxy_waits_shorter_than_a_receiver_may_take() -> None:
    known = [value for value in vars(limits).values() if isinstance(value, timedelta)]
    assert f"within {max(known).total_seconds():.0f} s" in (DEPLOY / "README.md").read_text("utf-8").replace("\n", " ")
    text = "".join(path.read_text("utf-8") for path in DEPLOY.rglob("*.*"))
    waits = [int(each) for each in re.findall(r'proxy[_-]read[_-]timeout:? "?(\d+)', text)]
    assert len(waits) >= 3
    assert min(waits) > max(known).total_seconds()


# -- settings, commands and times --------------------------------------------------------------------------------------


def settings_in(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[A-Z_0-9]+\b", text))


def test_every_setting_in_the_files_exists() -> None:
    ours = {"VOICEFLOW_DOMAIN", "VOICEFLOW_RECEIVER"}  # of compose.yaml, the Caddyfile
    for path in (each for each in DEPLOY.rglob("*") if each.is_file()):
        names = {name.removeprefix(PREFIX).lower() for name in settings_in(path.read_text("utf-8")) - ours}
        unknown = {name for name in names if not {name, name.removesuffix("_file")} & set(defaults())}
        assert not unknown, path.name


def test_every_command_in_the_files_can_be_read_and_has_longer_to_end_than_its_calls() -> None:
    found, app = list(processes()), program()
    assert len(found) == 7
    for each in found:
        _, bound, _ = app.parse_args(each.command, print_error=False, exit_on_error=False)
        assert bound.arguments, each
        assert each.grace >= GRACE + 10, each


def test_each_process_can_read_the_secrets_of_its_command_and_no_others() -> None:
    for each in processes():
        assert each.can_read == NEEDED[each.command[0]], each
        of_env = {"store"} if each.where.endswith(".service") else set()  # in the file of settings
        assert each.told_of | of_env == each.can_read, each


def test_the_page_makes_each_secret_that_a_process_reads(tmp_path: Path) -> None:
    making = blocks(DEPLOY / "README.md", language="sh")[0]
    done("sh", "-eu", "-c", making.text, folder=tmp_path)
    made = {path.name: path.read_text("utf-8").strip() for path in (tmp_path / "secrets").iterdir()}
    assert all(re.fullmatch(r"[\x21-\x7e ]{10,}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made)
    assert f":{made['postgres']}@" in made["store"]
    assert made.keys() == set(COMPOSE["secrets"]) == SECRETS | {"postgres"}
    assert COMPOSE["services"]["postgres"]["secrets"] == ["postgres"]


def test_the_image_copies_what_is_there_and_starts_the_program() -> None:
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text("utf-8"))
    copied = re.findall(r"^COPY (?!--from)(.+) /src\S*$", text, re.MULTILINE)
    assert all((ROOT / source).exists() for line in copied for source in line.split())
    assert {"pyproject.toml", "voiceflow_worker", "tests/contract"} <= {
        each for line in copied for each in line.split()
    }
    assert re.findall(r"^(?:ENTRYPOINT|USER) (.+)$", text, re.MULTILINE) == ["10001:10001", '["voiceflow"]']
    asked = set(re.findall(r"http://127\.0\.0\.1:(\d+)/healthz", text))
    ports = {"--port", "--metrics-port"}
    told = {
        port
        for each in processes()
        for name, port in zip(each.command, each.command[1:], strict=False)
        if name in ports
    }
    assert asked == told - {"9465"}


def test_pods_are_ready_before_others_go_and_lie_on_several_machines() -> None:
    for pod in PODS:
        (spread,) = pod["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        assert ("readinessProbe" in container) == ("ports" in container)
    events, ingress = (each for each in MANIFESTS if each["kind"] == "Ingress")
    assert events["metadata"]["annotations"] == {
        "nginx.ingress.kubernetes.io/proxy-next-upstream": "error timeout non_idempotent"
    }
    for each in (events, ingress):
        assert each["spec"]["ingressClassName"]
    limits = ingress["metadata"]["annotations"]
    assert limits["nginx.ingress.kubernetes.io/proxy-body-size"] == "25m", "as in nginx.conf"
    assert "client_max_body_size 25m;" in (DEPLOY / "nginx.conf").read_text("utf-8")
    (policy,) = (each for each in MANIFESTS if each["kind"] == "NetworkPolicy")
    named = {each["port"] for rule in policy["spec"]["ingress"] for each in rule["ports"]}
    ports = {port["name"] for pod in PODS for port in pod["spec"]["containers"][0].get("ports", ())}
    assert named == ports


def test_no_address_of_a_network_is_fixed_in_compose() -> None:
    assert "networks" not in COMPOSE
    assert not any("networks" in service for service in COMPOSE["services"].values())


def test_an_update_by_compose_cannot_forget_the_public_name() -> None:
    variables = re.findall(r"\$\{(\w+)(:\?)?", (DEPLOY / "compose.yaml").read_text("utf-8"))
    assert variables == [("VOICEFLOW_DOMAIN", ":?")]


# -- the programs that read them ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_manifests_are_valid_and_run_as_nobody_with_a_root_that_cannot_be_written() -> None:
    done(sys.executable, "-m", module("kubernetes_validate"), "--strict", *KUBERNETES)
    assert len(PODS) == 3
    for pod in (each["spec"] for each in PODS):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert {"secrets", "tmp"} <= mounts


@pytest.mark.slow
def test_compose_is_valid() -> None:
    command = [sys.executable, "-m", module("check_jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done(*command, "compose.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    verify = tool("systemd-analyze", "systemd")
    text = unit.read_text("utf-8").replace("/opt/voiceflow/bin/voiceflow", sys.executable)
    (tmp_path / unit.name).write_text(text, encoding="utf-8")
    process = subprocess.run(
        [verify, "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    told = [line for line in process.stderr.splitlines() if unit.name in line]
    assert not told, process.stderr


def test_another_worker_on_a_machine_is_as_the_first_but_for_its_port() -> None:
    one, more = ((DEPLOY / "systemd" / f"voiceflow-worker{each}.service").read_text("utf-8") for each in ("", "@"))
    assert set(one.replace("9464", "%i").splitlines()) ^ set(more.splitlines()) == {
        "# One more worker on this machine: systemctl enable --now voiceflow-worker@9465",
        "Description=voiceflow worker: sends the calls of a queue",
        "Description=voiceflow worker beside another one, with its metrics on port %i",
    }


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_units_leave_little_to_whoever_breaks_in(unit: Path) -> None:
    analyze = tool("systemd-analyze", "systemd")
    # The threshold is in tenths: 4.0 and above is "MEDIUM".
    done(analyze, "security", "--offline=true", "--no-pager", "--threshold=39", unit)


def environment_of(name: str) -> Mapping[str, str]:
    lines = (DEPLOY / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", ["voiceflow.env", "systemd/voiceflow.env"])
def test_one_file_of_settings_is_read_alike_by_shells_systemd_and_compose(name: str) -> None:
    values = environment_of(name)
    # No quotes, blanks or `$`, which each of the three reads in its own way.
    assert all(re.fullmatch(r"[\w:/.,+-]+", value) for value in values.values())
    told = done("sh", "-c", f"set -a; . ./{name}; env")
    assert set(values.items()) <= {tuple(line.split("=", 1)) for line in told.splitlines() if "=" in line}
