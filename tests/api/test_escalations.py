"""Escalations over HTTP, and the webhooks of Alertmanager and Grafana that start them."""

from __future__ import annotations

import copy
import gzip
import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from tests.api.clients import SECRET, program
from tests.api.test_http_api import findings_of
from tests.docs.pages import DOCS, blocks
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.errors import EscalationNotFoundError, JobNotFoundError, StaleJobError, StoreUnavailableError
from voiceflow_worker.service.escalations import Escalations

pytestmark = pytest.mark.anyio

ANA, BEN = "+6587654321", "+6587654322"
FIRE: Mapping[str, Any] = {"numbers": [ANA, BEN], "say": "The disk is full."}


async def escalate(client: httpx.AsyncClient, named: str | None = "incident-42", **fields: object) -> httpx.Response:
    headers = {} if named is None else {"Idempotency-Key": named}
    return await client.post("/v1/escalations", json={**FIRE, **fields}, headers=headers)


async def test_it_is_started_once_shown_and_waited_for(memory: Store) -> None:
    async with program(memory) as client:
        first = await escalate(client)
        assert first.status_code == 201
        status = first.json()
        assert first.headers["location"] == f"/v1/escalations/{status['id']}"
        assert (status["state"], [place["number"] for place in status["steps"]]) == ("open", [ANA, BEN])
        assert (await escalate(client)).status_code == 200
        assert (await escalate(client, say="Flood.")).status_code == 422
        shown = await client.get(f"/v1/escalations/{status['id']}")
        assert shown.json() == status
        (entry,) = await entries_on(memory)
        assert (entry.action, entry.on, entry.batch) == ("escalate", "api", status["batch_id"])
        assert (entry.numbers, entry.result) == ((ANA, BEN), f"began escalation {status['id']}")
        await CallQueue(memory).cancel_batch(status["batch_id"])
        ended = await client.get(f"/v1/escalations/{status['id']}?wait=5")
        assert (ended.status_code, ended.json()["state"]) == (200, "stopped")
        assert (await client.get("/v1/escalations/default.escalation-1")).status_code == 404
        assert (await client.get("/v1/escalations/other.1?wait=1")).status_code == 404
    assert len(await CallQueue(memory).find()) == 1


async def test_numbers_are_called_at_once_by_programs_and_by_the_hook(memory: Store, works: object) -> None:
    async with program(memory) as client:
        status = (await escalate(client, numbers=[[ANA, BEN], ANA])).json()
        assert [(step["step"], step["number"]) for step in status["steps"]] == [(1, ANA), (1, BEN), (2, ANA)]
        assert [step["result"] for step in status["steps"]] == ["open", "open", "not_called"]
        query = f"numbers={ANA}|{BEN},{ANA}&country=SG"
        alarm = (await client.post(f"{HOOK}?{query}", json=notification(alert("a")))).json()
        assert [(step["step"], step["number"]) for step in alarm["steps"]] == [(1, ANA), (1, BEN), (2, ANA)]
        assert (await escalate(client, "other", numbers=[ANA, [BEN, "nobody"]])).status_code == 422
    assert len(await CallQueue(memory).find()) == 4


async def test_what_is_wrong_has_findings_and_nobody_is_called(memory: Store) -> None:
    async with program(memory) as client:
        refused = await escalate(client, numbers=[ANA, "nobody"], key="12", colour="red", answer_within=90)
        assert refused.status_code == 422
        assert {found["pointer"] for found in findings_of(refused)} == {"/colour", "/answer_within"}
        refused = await escalate(client, numbers=[ANA, "nobody"])
        assert "number 2" in str(findings_of(refused)[0]["detail"])
        (long,) = findings_of(await escalate(client, say="x" * 9000))
        assert (long["pointer"], "too long" in str(long["detail"])) == ("/say", True)
        assert (await escalate(client, None)).status_code == 400
    assert await CallQueue(memory).find() == []


# -- alerts -----------------------------------------------------------------------------------------------------------

HOOK = "/v1/hooks/alertmanager"


def alert(fingerprint: str, *, status: str = "firing", starts_at: str = "2026-11-26T03:10:00.000Z") -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "Disk_full", "instance": fingerprint},
        "annotations": {"summary": f"{fingerprint} has no space\nleft."},
        "startsAt": starts_at,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": fingerprint,
    }


def notification(*alerts: object, status: str = "firing", group: str = '{}:{alertname="Disk_full"}') -> Any:
    """The body that Alertmanager posts."""
    return {
        "version": "4", "groupKey": group, "truncatedAlerts": 0, "status": status, "receiver": "phone",
        "groupLabels": {"alertname": "Disk_full"}, "commonLabels": {"alertname": "Disk_full"}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example", "alerts": list(alerts),
    }  # fmt: skip


GRAFANA = {
    "receiver": "phone",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "High memory usage", "team": "blue", "zone": "us-1"},
            "annotations": {"description": "The system has high memory usage", "summary": "Zone us-1 is full"},
            "startsAt": "2026-11-26T09:51:03.157076+02:00",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "https://grafana.example/alerting/1afz29v7z/edit",
            "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "https://grafana.example/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
            "values": {"B": 44.23943737541908, "C": 1},
        }
    ],
    "groupLabels": {},
    "commonLabels": {"team": "blue"},
    "commonAnnotations": {},
    "externalURL": "https://grafana.example/",
    "version": "1",
    "groupKey": "{}:{}",
    "truncatedAlerts": 0,
    "title": "[FIRING:1] (blue)",
    "state": "alerting",
    "message": "**Firing**",
}
"""The body that a webhook contact point of Grafana posts."""


ANY = f"{HOOK}?numbers=%2B6587654321"


@pytest.fixture
async def works(memory: Store) -> Callable[[], Awaitable[None]]:
    """A worker of the queue is alive, and gives a sign of it again when called."""
    beat = Heartbeat(memory, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat
    await beat()
    return beat


async def test_alerts_that_come_again_add_nothing_and_new_ones_get_an_escalation(memory: Store, works: object) -> None:
    async with program(memory) as client:
        first = await client.post(ANY, json=notification(alert("a"), alert("b")))
        assert first.status_code == 201
        status = first.json()
        assert (status["say"], status["steps"][0]["number"]) == (
            "2 alarms: Disk full. a has no space left. Disk full. b has no space left.",
            ANA,
        )
        (call,) = await CallQueue(memory).find()
        assert "Press 1 for all." in call.body
        for body in (notification(alert("b"), alert("a")), notification(alert("a"))):
            answer = await client.post(ANY, json=body)
            assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (200, status["id"], "open")
        further = await client.post(ANY, json=notification(alert("a"), alert("c")))
        three = " ".join(f"Disk full. {name} has no space left." for name in "abc")
        assert (further.status_code, further.json()["say"]) == (201, f"3 alarms: {three}")
        assert further.json()["escalations"] == [status["id"]], "its call had not left"
    (call,) = await CallQueue(memory).find()
    assert "3 alarms" in call.body


SAME: dict[str, Callable[[dict[str, Any]], object]] = {
    "another group": lambda one: notification(one, group='{}:{severity="page"}'),
    "milliseconds": lambda one: notification({**one, "startsAt": "2026-11-26T03:10:00Z"}),
    "another zone": lambda one: notification({**one, "startsAt": "2026-11-26T11:10:00+08:00"}),
    "nanoseconds": lambda one: notification({**one, "startsAt": "2026-11-26T03:10:00.000000001Z"}),
    "an earlier start": lambda one: notification({**one, "startsAt": "2026-11-26T03:09:30Z"}),
    "a later start": lambda one: notification({**one, "startsAt": "2026-11-26T03:19:30Z"}),
    "no group": lambda one: {**notification(one), "groupKey": None},
    "other labels of the group": lambda one: {**notification(one), "commonLabels": {}, "receiver": "other"},
}


@pytest.mark.parametrize("how", SAME)
async def test_the_same_alert_told_in_another_way_has_one_escalation(memory: Store, works: object, how: str) -> None:
    async with program(memory) as client:
        first = await client.post(ANY, json=notification(alert("a")))
        again = await client.post(ANY, json=SAME[how](alert("a")))
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        gone = notification({**alert("a", status="resolved"), "startsAt": "2026-11-26T03:12:00Z"})
        assert (await client.post(f"{HOOK}?numbers=%2B6587654322", json=gone)).status_code == 200
        assert (await client.get(f"/v1/escalations/{first.json()['id']}")).json()["state"] == "stopped"
    assert [job.state for job in await CallQueue(memory).find()] == ["cancelled"]


async def test_two_receivers_are_two_escalations_and_resolved_ends_both(memory: Store, works: object) -> None:
    async with program(memory) as client:
        answers = [
            await client.post(f"{HOOK}?numbers={numbers}", json=notification(alert("a")))
            for numbers in ("%2B6587654321", "%2B6587654322", "%2B6587654322,%2B6587654321", "6587654321&country=SG")
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 200]
        await client.post(ANY, json=notification(alert("a", status="resolved"), status="resolved"))
        states = [(await client.get(f"/v1/escalations/{each.json()['id']}")).json()["state"] for each in answers]
        assert states == ["stopped"] * 4


async def test_when_it_is_resolved_nobody_is_called_and_its_escalation_ends(memory: Store, works: object) -> None:
    escalations = Escalations(CallQueue(memory))
    resolved = notification({**alert("a", status="resolved"), "endsAt": "2026-11-26T03:12:00Z"}, status="resolved")
    async with program(memory) as client:
        assert (await client.post(ANY, json=resolved)).status_code == 200
        late = await client.post(ANY, json=notification(alert("a")))
        assert (late.status_code, "nobody is called yet for 1 alert" in late.json()["detail"]) == (503, True)
        assert "Retry-After" in late.headers, "a sender that still sees it fire asks again, and is heard in the end"
        assert await CallQueue(memory).find() == []
        again = {**alert("a"), "startsAt": "2026-11-26T03:12:30Z"}
        begun = (await client.post(ANY, json=notification(again))).json()
        gone = notification({**alert("a", status="resolved"), "endsAt": "2026-11-26T03:14:00Z"})
        early = await client.post(ANY, json=resolved)
        assert (await escalations.get(begun["id"])).is_open, "it has begun to fire again since that"
        answer = await client.post(ANY, json=gone)
    for each in (early, answer):
        assert (each.status_code, each.json()) == (200, {"message": "the alerts are resolved; nobody is called"})
    status = await escalations.get(begun["id"])
    assert (status.state, status.reason) == ("stopped", "the alert is resolved")
    assert [job.state for job in await CallQueue(memory).find()] == ["cancelled"]


@pytest.mark.parametrize("bad", [{"startsAt": None}, {"startsAt": 5}, {"status": "odd"}, None], ids=str)
async def test_an_alert_that_cannot_be_read_is_named_and_the_others_are_called_for(
    memory: Store, works: object, bad: dict[str, Any] | None
) -> None:
    misfit = "a" if bad is None else {**alert("a"), **bad}
    with structlog.testing.capture_logs() as logs:
        async with program(memory) as client:
            answer = await client.post(ANY, json=notification(misfit, alert("b"), alert("c", status="resolved")))
            gone = await client.post(ANY, json=notification(alert("b", status="resolved"), misfit))
    assert (answer.status_code, answer.json()["say"]) == (201, "Alert: Disk full. b has no space left.")
    assert gone.json()["message"] == "the alerts are resolved; nobody is called"
    for told, place in ((answer.json(), 1), (gone.json(), 2)):
        (named,) = told["not_taken"]
        assert named.startswith(f"alert {place} ")
        assert bad is None or "Disk_full" in named
    assert [each["alerts"] for each in logs if "cannot be read" in each["event"]] == [
        answer.json()["not_taken"], gone.json()["not_taken"],
    ]  # fmt: skip


async def test_grafana_sends_the_same_shape(memory: Store, works: object) -> None:
    async with program(memory) as client:
        for status in (201, 200):
            answer = await client.post(f"{ANY}&key=5&answer_within=1m", json=GRAFANA)
            told = answer.json()
            assert (answer.status_code, told["say"], told["key"]) == (
                status,
                "Alert: High memory usage. Zone us-1 is full",
                "5",
            )


async def test_while_nobody_can_be_called_the_sender_asks_again_and_the_alert_is_stored(memory: Store) -> None:
    await Heartbeat(memory, queue="default", worker_id="w2", in_flight=lambda: 0, batch_id="campaign").beat()
    async with program(memory) as client:
        for _ in range(3):
            answer = await client.post(ANY, json=notification(alert("a")))
            assert answer.status_code == 503
            assert "no worker of queue default runs" in answer.json()["detail"]
            assert "retry-after" in answer.headers
        await Heartbeat(memory, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()
        assert (await client.post(ANY, json=notification(alert("a")))).status_code == 200
        await CallQueue(memory).hold(reason="a wrong number")
        held = await client.post(ANY, json=notification(alert("a")))
        assert (held.status_code, "a wrong number" in held.json()["detail"]) == (503, True)
    assert len(await CallQueue(memory).find()) == 1


async def test_the_hook_takes_a_slash_at_its_end_compression_and_basic_authentication(
    memory: Store, works: object
) -> None:
    body = json.dumps(notification(alert("a"))).encode()
    forms: list[tuple[str, bytes, dict[str, str]]] = [
        (f"{HOOK}/?numbers=%2B6587654321", body, {}),
        (ANY, gzip.compress(body), {"Content-Encoding": "gzip"}),
        (ANY, body, {"Authorization": f"Basic {b64encode(f'alertmanager:{SECRET}'.encode()).decode()}"}),
        (ANY, body, {"Authorization": f"basic {b64encode(f':{SECRET}'.encode()).decode()}"}),
    ]
    async with program(memory) as client:
        for place, (url, content, headers) in enumerate(forms):
            answer = await client.post(url, content=content, headers={"Content-Type": "application/json", **headers})
            assert answer.status_code == (200 if place else 201), (place, answer.text)
        for wrong in ("Basic !", f"Basic {b64encode(b'a:wrong').decode()}", "Basic"):
            refused = await client.post(ANY, content=body, headers={"Authorization": wrong})
            assert refused.status_code == 401
        bomb = gzip.compress(b" " * 3_000_000)
        too_long = await client.post(ANY, content=bomb, headers={"Content-Encoding": "gzip"})
        assert too_long.status_code == 413


async def test_whatever_may_pass_is_answered_so_that_the_sender_asks_again(memory: Store, works: object) -> None:
    for error in (
        StaleJobError("default.1"), StoreUnavailableError("gone"), EscalationNotFoundError("default.alarm-1"),
        JobNotFoundError("default.1"), TimeoutError(), RuntimeError("a fault"),
    ):  # fmt: skip

        async def fails(call: StoreCall, error: Exception = error) -> None:
            if call.name == "write":
                raise error

        async with program(FaultyStore(memory, before=fails)) as client:
            assert (await client.post(ANY, json=notification(alert("a")))).status_code >= 500, error
    async with program(memory) as client:
        assert (await client.post(ANY, json=notification(alert("a")))).status_code == 201


# -- policies ---------------------------------------------------------------------------------------------------------

POLICIES = """
[db]
numbers = ["+6587654321", "+6587654322"]
answer_within = "90s"
rounds = "until acknowledged"
rest = "10m"

[web]
numbers = "+6587654323"
say = "The web shop is down."
window = "00:00-24:00"
"""


async def test_a_policy_is_named_by_the_hook_and_by_programs(memory: Store, works: object, tmp_path: Path) -> None:
    file = tmp_path / "escalations.toml"
    file.write_text(POLICIES)
    async with program(memory, escalations=file) as client:
        alarm = (await client.post(f"{HOOK}?policy=db", json=notification(alert("a")))).json()
        assert (alarm["policy"], alarm["answer_within"], alarm["rounds"], alarm["rest"]) == (
            "db", "90s", "until acknowledged", "10m",
        )  # fmt: skip
        assert [step["number"] for step in alarm["steps"]] == [ANA, BEN]
        both = await client.post(f"{HOOK}?policy=web", json=notification(alert("a")))
        assert (both.status_code, both.json()["say"]) == (201, "The web shop is down.")
        named = await client.post(
            "/v1/escalations", json={"policy": "db", "say": "Fire."}, headers={"Idempotency-Key": "k"}
        )
        assert (named.status_code, named.json()["policy"], named.json()["say"]) == (201, "db", "Fire.")
        for query in ("policy=nobody", "policy=db&numbers=%2B6587654321", "policy="):
            refused = await client.post(f"{HOOK}?{query}", json=notification(alert("z")))
            assert refused.status_code == 422, query
        assert "the policies are db, web" in (await client.post(f"{HOOK}?policy=x", json=GRAFANA)).text


async def test_the_file_is_read_again_when_it_changes_and_a_wrong_one_changes_nothing(
    memory: Store, works: object, tmp_path: Path
) -> None:
    file = tmp_path / "escalations.toml"
    file.write_text(POLICIES)
    registry = CollectorRegistry()

    def refused() -> float | None:
        return registry.get_sample_value("voiceflow_escalation_policies_refused")

    async def called(client: httpx.AsyncClient, fingerprint: str) -> list[str]:
        answer = await client.post(f"{HOOK}?policy=db", json=notification(alert(fingerprint)))
        return [step["number"] for step in answer.json()["steps"]]

    async with program(memory, escalations=file, registry=registry) as client:
        assert await called(client, "a") == [ANA, BEN]
        file.write_text(POLICIES.replace("+6587654321", "+6587654329"))
        assert await called(client, "b") == ["+6587654329", BEN]
        for place, wrong in enumerate(("[db", "db = 1", '[db]\nnumbers = "nobody"', "[db]\nnumbers = '+65'\nrest = 1")):
            file.write_text(wrong)
            assert await called(client, f"wrong {place}") == ["+6587654329", BEN]
            assert refused() == 1
        file.unlink()
        assert await called(client, "no file") == ["+6587654329", BEN]
        file.write_text(POLICIES, "utf-16")
        assert await called(client, "right") == [ANA, BEN]
        assert refused() == 0


# -- what people do ---------------------------------------------------------------------------------------------------


async def test_escalations_are_listed_acknowledged_and_stopped(memory: Store, works: object) -> None:
    async with program(memory) as client:
        ids = [(await escalate(client, f"incident-{number}")).json()["id"] for number in range(5)]
        listed = (await client.get("/v1/escalations")).json()
        assert [each["id"] for each in listed["escalations"]] == ids[::-1]
        taken = (await client.post(f"/v1/escalations/{ids[0]}/acknowledge", json={"by": "Li"})).json()
        assert (taken["state"], taken["acknowledged"]["by"], taken["acknowledged"]["number"]) == (
            "acknowledged", "Li", None,
        )  # fmt: skip
        assert taken["message"].startswith("Li acknowledged at ")
        ended = (await client.post(f"/v1/escalations/{ids[1]}/stop", json={"note": "a drill"})).json()
        assert (ended["state"], ended["reason"]) == ("stopped", "a drill")
        for path in (f"{ids[0]}/stop", f"{ids[1]}/acknowledge"):
            again = (await client.post(f"/v1/escalations/{path}")).json()
            assert again["state"] == ("acknowledged" if path.startswith(ids[0]) else "stopped")
        assert (await client.post("/v1/escalations/default.escalation-0/stop")).status_code == 404
        listed = (await client.get("/v1/escalations")).json()["escalations"]
        assert [each["id"] for each in listed] == [ids[1], ids[0], *ids[:1:-1]], "the newest change comes first"
    calls = await CallQueue(memory).find()
    assert sorted(str(job.state) for job in calls) == ["cancelled"] * 2 + ["queued"] * 3
    entries = [each for each in await entries_on(memory) if each.action != "escalate"]
    kept = [(each.action, each.on, each.by, each.name, each.note, each.result) for each in entries]
    assert kept == [
        ("stop", "api", "api", "api", "a drill", f"stopped escalation {ids[1]}"),
        ("acknowledge", "api", "api", "Li", None, f"acknowledged escalation {ids[0]}"),
    ], "each once, and none for what changed nothing"


async def test_the_configuration_on_the_page_works(memory: Store, works: object) -> None:
    (config,) = blocks(DOCS / "escalation.md", language="yaml")
    (url,) = re.findall(r"url: https://calls.example.com(\S+)", config.text)
    async with program(memory) as client:
        answer = await client.post(url, json=notification(alert("a")))
    assert (answer.status_code, [place["number"] for place in answer.json()["steps"]]) == (201, [ANA, BEN])


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("numbers=+6587654321,+6587654322", [ANA, BEN]),
        ("numbers=%2B6587654321,%20%2B6587654322", [ANA, BEN]),
        ("numbers=8765%204321,+9123%204567&country=SG", ["8765 4321", "9123 4567"]),
        ("numbers=nobody,+6587654321", ["nobody", ANA]),
        ("numbers=+6587654321,+9123%204567&country=SG", [ANA, "9123 4567"]),
    ],
)
async def test_the_numbers_stand_in_the_query(memory: Store, works: object, query: str, numbers: list[str]) -> None:
    async with program(memory) as client:
        answer = await client.post(f"{HOOK}?{query}", json=GRAFANA)
        assert answer.status_code == 201, answer.text
        assert [place["number"] for place in answer.json()["steps"]] == numbers


async def test_a_number_in_a_query_that_may_be_two_is_refused(memory: Store, works: object) -> None:
    async with program(memory) as client:
        answer = await client.post(f"{HOOK}?numbers=+6587654321&country=JM", json=GRAFANA)
        (finding,) = findings_of(answer)
        assert (answer.status_code, finding["parameter"]) == (422, "numbers")
        assert finding["detail"] == "+6587654321 may also be 6587654321 in JM; write %2B for +"
        assert await CallQueue(memory).find() == []
        sure = await client.post(f"{HOOK}?numbers=%2B6587654321&country=JM", json=GRAFANA)
        assert sure.json()["steps"][0]["number"] == ANA


@pytest.mark.parametrize(
    "wrong",
    [
        {"alerts": []}, {"alerts": None}, {"alerts": ["a"]}, {"alerts": [{"startsAt": "x", "status": "odd"}]},
        {"alerts": [{"status": "firing"}]},
    ],
)  # fmt: skip
async def test_another_body_is_refused(memory: Store, wrong: dict[str, Any]) -> None:
    async with program(memory) as client:
        answer = await client.post(f"{HOOK}?numbers=%2B6587654321", json={**copy.deepcopy(GRAFANA), **wrong})
        assert answer.status_code == 422
        findings_of(answer)
        assert (await client.post(HOOK, json=GRAFANA)).status_code == 422
    assert await CallQueue(memory).find() == []
