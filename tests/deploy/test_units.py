"""The shipped units under a real systemd, with the user, the filters and the folders that they name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.console.signing_in import Form
from tests.deploy.machine import Machine, machine
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SANDBOX = "http://127.0.0.1:8088"
RECEIVER = "http://127.0.0.1:8080"
RECEIVER_UNIT = "/etc/systemd/system/voiceflow-receiver.service"
SECRETS = ("8x8", "webhook", "api", "readers", "operators", "store")
SAID = {"say": "Hello {{name}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567"}
PEOPLE = "destination,name\n+6581000001,Ana\n+6581000002,Bob\n"


@pytest.fixture
def booted() -> Iterator[Machine]:
    with machine() as made:
        yield made


@pytest.fixture
def installed(booted: Machine) -> Machine:
    """A machine with the units of the page, and the sandbox in the place of 8x8."""
    booted.install(VOICEFLOW_BASE_URL=SANDBOX, VOICEFLOW_ALLOW_PLAIN_HTTP="yes", VOICEFLOW_WAIT_FOR_STORE="0s")
    booted.write("/etc/voiceflow/8x8", "key-1\n")
    booted.done("systemd-run", "--unit=sandbox", "/opt/voiceflow/bin/voiceflow", "sandbox", "--speed", "60")
    return booted


def test_a_campaign_an_upload_and_an_export_work_under_the_shipped_units(installed: Machine) -> None:
    installed.done("systemctl", "start", "voiceflow-worker", "voiceflow-worker@9465", "voiceflow-receiver")
    installed.waits_for("voiceflow-receiver", "voiceflow serve is ready")
    installed.waits_for("voiceflow-worker@9465", "voiceflow worker sends")
    webhook = ["account", "webhooks", "set", RECEIVER, "--force", "--type", "VSS", "--type", "VCA"]
    installed.done("voiceflow", *webhook, user="voiceflow")
    api, operators = (installed.done("cat", f"/etc/voiceflow/{name}").strip() for name in ("api", "operators"))
    with installed.network(), httpx.Client(base_url=RECEIVER, headers={"Origin": RECEIVER}, timeout=60) as client:
        rows = [{"destination": f"+65820000{place:02}", "name": "Cleo"} for place in range(3)]
        program = {"Authorization": f"Bearer {api}"}
        campaign = {"batch": "march", "rows": rows, **SAID}
        started = client.post("/v1/campaigns", json=campaign, headers=program | {"Idempotency-Key": "march"})
        assert (started.status_code, started.json().get("enqueued")) == (201, 3), started.text

        client.post("/ui/sign-in", data={"name": "Mary Tan", "secret": operators, "way": ""})
        shown = client.get("/ui/campaign")
        typed: dict[str, str] = {}
        for do in ("look", "preview", "start"):
            files = {"file": ("may.csv", PEOPLE.encode())} if do == "look" else None
            typed |= {} if do == "look" else SAID
            shown = client.post("/ui/campaign", data={**dict(Form(shown.text).hidden), **typed, "do": do}, files=files)
            assert shown.status_code in {200, 303}, shown.text

        # The worker, which is another unit, sends what the receiver has stored.
        wait_until(
            lambda: len({each["destination"] for each in client.get(f"{SANDBOX}/_sandbox/calls").json()}) == 5,
            lambda: installed.log("voiceflow-receiver") + installed.log("voiceflow-worker"),
            within=60,
        )
        exports = [client.get(f"/ui/export/{kind}", params={"batch": "may"}) for kind in ("csv", "xlsx")]
        assert [each.status_code for each in exports] == [200] * 2, exports[-1].text

        # Where a machine refuses the lower priority, too, the work is done.
        installed.write(f"{RECEIVER_UNIT}.d/stricter.conf", "[Service]\nSystemCallFilter=~setpriority\n")
        installed.done("systemctl", "daemon-reload")
        installed.done("systemctl", "restart", "voiceflow-receiver")
        wait_until(lambda: installed.log("voiceflow-receiver").count("serve is ready") == 2, "the receiver")
        assert client.get("/ui/export/csv", params={"batch": "may"}).status_code == 200


def test_each_unit_reads_only_the_secrets_of_its_process_and_sudo_is_in_the_audit(installed: Machine) -> None:
    read = {"voiceflow-worker": {"8x8", "store"}, "voiceflow-receiver": set(SECRETS), "voiceflow-schedule": {"store"}}
    for name, expected in read.items():
        text = installed.done("cat", f"/etc/systemd/system/{name}.service")
        hidden = [line for line in text.splitlines() if line.startswith(("User=", "InaccessiblePaths="))]
        asked = [f"--property={line}" for line in hidden]
        script = "cd /etc/voiceflow; for each in *; do cat $each >/dev/null 2>&1 && echo $each; done; true"
        told = installed.done("systemd-run", "--quiet", "--pipe", "--wait", *asked, "sh", "-c", script).split()
        assert set(told) & set(SECRETS) == expected, name

    installed.done("systemctl", "start", "voiceflow-receiver")
    installed.waits_for("voiceflow-receiver", "voiceflow serve is ready")
    installed.done("env", "SUDO_USER=mary", "voiceflow", "hold", "--note", "lunch", user="voiceflow")
    assert "voiceflow, sudo by mary" in installed.done("voiceflow", "audit", user="voiceflow")


def test_a_wrong_setting_ends_a_unit_and_a_store_that_is_away_is_tried_again(installed: Machine) -> None:
    installed.done("systemctl", "start", "voiceflow-worker", "voiceflow-receiver")
    installed.waits_for("voiceflow-receiver", "voiceflow serve is ready")
    time.sleep(3)  # a unit that ends at once would have been started again
    for name in ("voiceflow-worker", "voiceflow-receiver"):
        assert (installed.unit(name)["ActiveState"], installed.unit(name)["NRestarts"]) == ("active", "0"), (
            installed.log(name)
        )

    installed.done("systemctl", "stop", "voiceflow-worker", "voiceflow-receiver")
    settings = installed.done("cat", "/etc/voiceflow/voiceflow.env")
    installed.write("/etc/voiceflow/voiceflow.env", settings + "VOICEFLOW_STORE=redis://127.0.0.1:9/0\n")
    installed.run("systemctl", "start", "voiceflow-worker")
    wait_until(lambda: int(installed.unit("voiceflow-worker")["NRestarts"]) >= 2, "another start", within=60)
    assert "cannot be reached" in installed.log("voiceflow-worker")
    installed.done("systemctl", "stop", "voiceflow-worker")

    installed.write("/etc/voiceflow/voiceflow.env", settings + "VOICEFLOW_RATE=fast\n")
    installed.run("systemctl", "start", "voiceflow-worker")
    wait_until(lambda: installed.unit("voiceflow-worker")["ActiveState"] == "failed", "its end", within=60)
    assert (installed.unit("voiceflow-worker")["ExecMainStatus"], installed.unit("voiceflow-worker")["NRestarts"]) == (
        "2",
        "0",
    )
