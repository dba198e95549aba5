"""Escalations over HTTP, and the webhooks of Alertmanager and Grafana that start them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from tests.api.clients import Client, findings_of, program
from tests.docs.pages import DOCS, blocks
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.errors import EscalationNotFoundError, JobNotFoundError, StaleJobError, StoreUnavailableError
from voiceflow_worker.service.escalations import Escalations

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("works")]

ANA, BEN = "+6587654321", "+6587654322"
FIRE: Mapping[str, Any] = {"numbers": [ANA, BEN], "say": "The disk is full."}


async def escalate(client: Client, named: str | None = "incident-42", **fields: object) -> httpx.Response:
    headers = {} if named is None else {"Idempotency-Key": named}
    return await client.post("/v1/escalations", json={**FIRE, **fields}, headers=headers)


async def test_it_is_started_once_shown_and_waited_for(memory: Store, client: Client) -> None:
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


async def test_what_is_wrong_has_findings_and_nobody_is_called(memory: Store, client: Client) -> None:
    refused = await escalate(client, numbers=[ANA, "nobody"], key="12", colour="red", answer_within=90)
    assert refused.status_code == 422
    assert {found["pointer"] for found in findings_of(refused)} == {"/colour", "/answer_within"}
    refused = await escalate(client, numbers=[ANA, "nobody"])
    assert "number 2" in str(findings_of(refused)[0]["detail"])
    (long,) = findings_of(await escalate(client, how="x" * 9000))
    assert "too long" in str(long["detail"])
    assert (await escalate(client, None)).status_code == 400
    assert await CallQueue(memory).find() == []


# -- alerts -----------------------------------------------------------------------------------------------------------

HOOK = "/v1/hooks/alertmanager"
ONE, OTHER = "numbers=%2B6587654321", "numbers=%2B6587654322"


def alert(fingerprint: str, **fields: object) -> dict[str, Any]:
    return {
        "status": "firing", "labels": {"alertname": "Disk_full", "instance": fingerprint},
        "annotations": {"summary": f"{fingerprint} has no space\nleft."}, "startsAt": "2026-11-26T03:10:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus.example/graph",
        "fingerprint": fingerprint, **fields,
    }  # fmt: skip


def notification(*alerts: object, **fields: object) -> dict[str, Any]:
    """The body that Alertmanager posts."""
    return {
        "version": "4", "groupKey": '{}:{alertname="Disk_full"}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "phone", "groupLabels": {"alertname": "Disk_full"}, "commonLabels": {"alertname": "Disk_full"},
        "commonAnnotations": {}, "externalURL": "http://alertmanager.example", "alerts": list(alerts), **fields,
    }  # fmt: skip


GRAFANA = {
    "receiver": "phone", "status": "firing", "orgId": 1,
    "alerts": [
        {
            "status": "firing", "labels": {"alertname": "High memory usage", "team": "blue", "zone": "us-1"},
            "annotations": {"description": "The system has high memory usage", "summary": "Zone us-1 is full"},
            "startsAt": "2026-11-26T09:51:03.157076+02:00", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "https://grafana.example/alerting/1afz29v7z/edit", "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "https://grafana.example/alerting/silence/new", "dashboardURL": "", "panelURL": "",
            "values": {"B": 44.23943737541908, "C": 1},
        }
    ],
    "groupLabels": {}, "commonLabels": {"team": "blue"}, "commonAnnotations": {},
    "externalURL": "https://grafana.example/", "version": "1", "groupKey": "{}:{}", "truncatedAlerts": 0,
    "title": "[FIRING:1] (blue)", "state": "alerting", "message": "**Firing**",
}  # fmt: skip
"""The body that a webhook contact point of Grafana posts."""


async def tell(client: Client, body: dict[str, Any], *, to: str = ONE, status: int = 201) -> Any:
    """Post a notification, and return the answer, which has this status."""
    answer = await client.post(f"{HOOK}?{to}", json=body)
    assert answer.status_code == status, answer.text
    assert status != 503 or "retry-after" in answer.headers, "a sender that still sees it fire asks again"
    return answer.json()


async def state_of(client: Client, escalation: Mapping[str, Any]) -> Any:
    return (await client.get(f"/v1/escalations/{escalation['id']}")).json()["state"]


@pytest.fixture
async def works(memory: Store) -> None:
    """A worker of the queue is alive."""
    await Heartbeat(memory, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()


async def test_numbers_are_called_at_once_by_programs_and_by_the_hook(memory: Store, client: Client) -> None:
    status = (await escalate(client, numbers=[[ANA, BEN], ANA])).json()
    assert [(step["step"], step["number"]) for step in status["steps"]] == [(1, ANA), (1, BEN), (2, ANA)]
    assert [step["result"] for step in status["steps"]] == ["open", "open", "not_called"]
    alarm = await tell(client, notification(alert("a")), to=f"numbers={ANA}|{BEN},{ANA}&country=SG")
    assert [(step["step"], step["number"]) for step in alarm["steps"]] == [(1, ANA), (1, BEN), (2, ANA)]
    assert (await escalate(client, "other", numbers=[ANA, [BEN, "nobody"]])).status_code == 422
    assert len(await CallQueue(memory).find()) == 4


async def test_alerts_that_come_again_add_nothing_and_new_ones_get_an_escalation(memory: Store, client: Client) -> None:
    first = await tell(client, notification(alert("a"), alert("b")))
    assert first["say"] == "2 alarms: Disk full. a has no space left. Disk full. b has no space left."
    assert first["steps"][0]["number"] == ANA
    (call,) = await CallQueue(memory).find()
    assert "Press 1 for all." in call.body
    for body in (notification(alert("b"), alert("a")), notification(alert("a"))):
        again = await tell(client, body, status=200)
        assert (again["id"], again["state"]) == (first["id"], "open")
    further = await tell(client, notification(alert("a"), alert("c")))
    three = " ".join(f"Disk full. {name} has no space left." for name in "abc")
    assert (further["say"], further["escalations"]) == (f"3 alarms: {three}", [first["id"]]), "its call had not left"
    (call,) = await CallQueue(memory).find()
    assert "3 alarms" in call.body


SAME = {
    "another group": notification(alert("a"), groupKey='{}:{severity="page"}'),
    "milliseconds": notification(alert("a", startsAt="2026-11-26T03:10:00Z")),
    "another zone": notification(alert("a", startsAt="2026-11-26T11:10:00+08:00")),
    "nanoseconds": notification(alert("a", startsAt="2026-11-26T03:10:00.000000001Z")),
    "an earlier start": notification(alert("a", startsAt="2026-11-26T03:09:30Z")),
    "a later start": notification(alert("a", startsAt="2026-11-26T03:19:30Z")),
    "no group": notification(alert("a"), groupKey=None),
    "other labels of the group": notification(alert("a"), commonLabels={}, receiver="other"),
}


@pytest.mark.parametrize("how", SAME)
async def test_the_same_alert_told_in_another_way_has_one_escalation(memory: Store, client: Client, how: str) -> None:
    first = await tell(client, notification(alert("a")))
    assert (await tell(client, SAME[how], status=200))["id"] == first["id"]
    gone = notification(alert("a", status="resolved", startsAt="2026-11-26T03:12:00Z"))
    await tell(client, gone, to=OTHER, status=200)
    assert await state_of(client, first) == "stopped"
    assert [job.state for job in await CallQueue(memory).find()] == ["cancelled"]


async def test_two_receivers_are_two_escalations_and_resolved_ends_both(client: Client) -> None:
    receivers = {ONE: 201, OTHER: 201, f"{OTHER},%2B6587654321": 201, "numbers=6587654321&country=SG": 200}
    told = [await tell(client, notification(alert("a")), to=to, status=receivers[to]) for to in receivers]
    await tell(client, notification(alert("a", status="resolved"), status="resolved"), status=200)
    assert [await state_of(client, each) for each in told] == ["stopped"] * 4


async def test_when_it_is_resolved_nobody_is_called_and_its_escalation_ends(memory: Store, client: Client) -> None:
    silent = {"message": "the alerts are resolved; nobody is called"}
    resolved = notification(alert("a", status="resolved", endsAt="2026-11-26T03:12:00Z"), status="resolved")
    await tell(client, resolved, status=200)
    late = await tell(client, notification(alert("a")), status=503)
    assert "nobody is called yet for 1 alert" in late["detail"]
    assert await CallQueue(memory).find() == []
    begun = await tell(client, notification(alert("a", startsAt="2026-11-26T03:12:30Z")))
    assert await tell(client, resolved, status=200) == silent
    assert await state_of(client, begun) == "open", "it has begun to fire again since that"
    gone = notification(alert("a", status="resolved", endsAt="2026-11-26T03:14:00Z"))
    assert await tell(client, gone, status=200) == silent
    status = await Escalations(CallQueue(memory)).get(begun["id"])
    assert (status.state, status.reason) == ("stopped", "the alert is resolved")
    assert [job.state for job in await CallQueue(memory).find()] == ["cancelled"]


@pytest.mark.parametrize("bad", [{"startsAt": None}, {"startsAt": 5}, {"status": "odd"}, None], ids=str)
async def test_an_alert_that_cannot_be_read_is_named_and_the_others_are_called_for(
    client: Client, bad: dict[str, Any] | None
) -> None:
    misfit, ended = "a" if bad is None else alert("a", **bad), {"status": "resolved"}
    with structlog.testing.capture_logs() as logs:
        told = await tell(client, notification(misfit, alert("b"), alert("c", **ended)))
        gone = await tell(client, notification(alert("b", **ended), misfit), status=200)
    assert told["say"] == "Alert: Disk full. b has no space left."
    assert gone["message"] == "the alerts are resolved; nobody is called"
    for each, place in ((told, 1), (gone, 2)):
        (named,) = each["not_taken"]
        assert named.startswith(f"alert {place} ")
        assert bad is None or "Disk_full" in named
    logged = [each["alerts"] for each in logs if "cannot be read" in each["event"]]
    assert logged == [told["not_taken"], gone["not_taken"]]


async def test_grafana_sends_the_same_shape(client: Client) -> None:
    for status in (201, 200):
        told = await tell(client, GRAFANA, to=f"{ONE}&key=5&answer_within=1m", status=status)
        assert (told["say"], told["key"]) == ("Alert: High memory usage, team blue. Zone us-1 is full", "5")


async def test_a_text_is_made_speakable_whichever_way_it_comes(memory: Store, client: Client) -> None:
    written = {"summary": "<no value>", "description": "disk%20full, 0.9453333333 s"}
    for told in (
        await tell(client, notification(alert("a", annotations=written))),
        await tell(client, notification(alert("b")), to=f"{ONE}&say=Disk%2520full,%200.9453333333%20s"),
        (await escalate(client, say="disk%20full, 0.9453333333 s")).json(),
    ):
        assert told["say"].lower().endswith("disk full, 0.945 s"), told
    assert all("isk full, 0.945 s" in job.body for job in await CallQueue(memory).find())


LONG = " ".join(f"line {number}:" for number in range(400))


async def test_a_long_text_is_cut_whichever_way_it_comes(memory: Store, client: Client) -> None:
    for told in (
        await tell(client, notification(alert("a", annotations={"summary": LONG}))),
        await tell(client, notification(alert("b")), to=f"{ONE}&say={LONG}"),
        (await escalate(client, say=LONG)).json(),
    ):
        assert 400 < len(told["say"]) <= 500, told["say"]
        assert re.search(r"line( \d+)?…$", told["say"])
    assert all(re.search(r"line( \d+)?… Press 1", job.body) for job in await CallQueue(memory).find())


HEARD: Sequence[tuple[list[dict[str, Any]], str]] = (
    ([{"labels": {"alertname": "DiskFull", "instance": "web2:9100", "mountpoint": "/var"}}],
     "Alert: DiskFull, instance web2:9100, mountpoint /var."),
    ([{"labels": {"alertname": "DatasourceNoData", "datasource_uid": "PD8C576611E62080A", "rulename": "No orders",
                  "__alert_rule_uid__": "f8"}}],
     "Alert: DatasourceNoData, rulename No orders."),
    ([{"labels": {"alertname": "Crash", "pod": "cart-1"}, "annotations": {"message": "Pod cart-1 crashes."}}],
     "Alert: Crash. Pod cart-1 crashes."),
    ([{"labels": {"alertname": "A"}, "annotations": {"runbook_url": "https://r/1", "Error": "no such query"}}],
     "Alert: A. no such query"),
    ([{"labels": {"alertname": "Cpu"}, "annotations": {"summary": "{{ $labels.x }}", "description": "97% on [nil]"}}],
     "Alert: Cpu. 97% on unknown"),
    ([{"labels": {"alertname": "Disk", "host": host, "env": "prod"}} for host in ("a", "b")],
     "2 alarms: Disk, host a, env prod. Disk, host b, env prod."),
    ([{"labels": {"alertname": "Disk", "host": host, "env": "prod"}, "annotations": {"summary": "Full."}}
      for host in ("a", "b")],
     "2 alarms: Disk, host a. Full. Disk, host b. Full."),
    ([{"labels": {"alertname": "Disk"} | {f"label{place}": "x" * 30 for place in range(9)}}],
     f"Alert: Disk, label0 {'x' * 30}, label1 {'x' * 30}."),
)  # fmt: skip


async def test_what_tells_an_alert_from_the_others_is_spoken(client: Client) -> None:
    for place, (alerts, said) in enumerate(HEARD):
        body = notification(
            *(alert(f"{place}-{number}", **{"annotations": {}} | each) for number, each in enumerate(alerts))
        )
        assert (await tell(client, body, to=f"numbers=%2B65876543{place:02}"))["say"] == said


async def test_while_nobody_can_be_called_the_sender_asks_again_and_the_alert_is_stored(memory: Store) -> None:
    beats = partial(Heartbeat, memory, queue="night", in_flight=lambda: 0)
    await beats(worker_id="w2", batch_id="campaign").beat()
    async with program(memory, queue="night") as client:
        for _ in range(3):
            refused = await tell(client, notification(alert("a")), status=503)
            assert "no worker of queue night runs" in refused["detail"]
        await beats(worker_id="w1").beat()
        await tell(client, notification(alert("a")), status=200)
        await CallQueue(memory, "night").hold(reason="a wrong number")
        assert "a wrong number" in (await tell(client, notification(alert("a")), status=503))["detail"]
    assert len(await CallQueue(memory, "night").find()) == 1


async def test_the_hook_takes_a_slash_at_its_end_and_compression(client: Client) -> None:
    packed, bomb = (gzip.compress(each) for each in (json.dumps(notification(alert("a"))).encode(), b" " * 3_000_000))
    for path, content, status in ((f"{HOOK}/", packed, 201), (HOOK, packed, 200), (HOOK, bomb, 413)):
        answer = await client.post(f"{path}?{ONE}", content=content, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == status, answer.text


async def test_whatever_may_pass_is_answered_so_that_the_sender_asks_again(memory: Store) -> None:
    for error in (
        StaleJobError("default.1"), StoreUnavailableError("gone"), EscalationNotFoundError("default.alarm-1"),
        JobNotFoundError("default.1"), TimeoutError(), RuntimeError("a fault"),
    ):  # fmt: skip

        async def fails(call: StoreCall, error: Exception = error) -> None:
            if call.name == "write":
                raise error

        async with program(FaultyStore(memory, before=fails)) as client:
            answer = await client.post(f"{HOOK}?{ONE}", json=notification(alert("a")))
            assert answer.status_code >= 500, error
    async with program(memory) as client:
        await tell(client, notification(alert("a")))


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


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (file := tmp_path / "escalations.toml").write_text(POLICIES)
    return file


async def test_a_policy_is_named_by_the_hook_and_by_programs(memory: Store, policies: Path) -> None:
    async with program(memory, escalations=policies) as client:
        alarm = await tell(client, notification(alert("a")), to="policy=db")
        assert (alarm["policy"], alarm["answer_within"], alarm["rounds"], alarm["rest"]) == (
            "db", "90s", "until acknowledged", "10m",
        )  # fmt: skip
        assert [step["number"] for step in alarm["steps"]] == [ANA, BEN]
        assert (await tell(client, notification(alert("a")), to="policy=web"))["say"] == "The web shop is down."
        named = await client.post(
            "/v1/escalations", json={"policy": "db", "say": "Fire."}, headers={"Idempotency-Key": "k"}
        )
        assert (named.status_code, named.json()["policy"], named.json()["say"]) == (201, "db", "Fire.")


async def test_the_file_is_read_again_when_it_changes_and_a_wrong_one_changes_nothing(
    memory: Store, policies: Path, tmp_path: Path
) -> None:
    file, registry = tmp_path / policies.name, CollectorRegistry()

    def refused() -> float | None:
        return registry.get_sample_value("voiceflow_escalation_policies_refused")

    async def called(client: Client, fingerprint: str) -> list[str]:
        told = await tell(client, notification(alert(fingerprint)), to="policy=db")
        return [step["number"] for step in told["steps"]]

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


async def test_escalations_are_listed_acknowledged_and_stopped(memory: Store, client: Client) -> None:
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


async def test_the_configuration_on_the_page_works(client: Client) -> None:
    (config,) = blocks(DOCS / "escalation.md", language="yaml")
    (url,) = re.findall(r"url: https://calls.example.com(\S+)", config.text)
    answer = await client.post(url, json=notification(alert("a")))
    assert (answer.status_code, [place["number"] for place in answer.json()["steps"]]) == (201, [ANA, BEN])


QUERIES: list[tuple[str, list[str] | str]] = [
    ("numbers=+6587654321,+6587654322", [ANA, BEN]), ("numbers=%2B6587654322,%20%2B6587654321", [BEN, ANA]),
    ("numbers=8765%204321,+9123%204567&country=SG", ["8765 4321", "9123 4567"]),
    ("numbers=nobody,+6587654321", ["nobody", ANA]), ("numbers=%2B6587654321&country=JM", [ANA]),
    ("numbers=+6587654321,+9123%204567&country=SG", [ANA, "9123 4567"]), ("policy=db", [ANA, BEN]),
    ("numbers=+6587654321&country=JM", '+6587654321 may also be 6587654321 in JM; write %2B for +'), ("", "numbers"),
    ("policy=x", "the policies are db, web"), ("policy=db&numbers=%2B6587654321", "numbers"), ("policy=", "policy"),
]  # fmt: skip
"""Queries of the hook, each with the numbers that are called, or with what its refusal says."""
BODIES: list[dict[str, Any]] = [
    {"alerts": []}, {"alerts": None}, {"alerts": ["a"]}, {"alerts": [{"startsAt": "x", "status": "odd"}]},
    {"alerts": [{"status": "firing"}]},
]  # fmt: skip


async def test_the_query_says_who_is_called_and_nobody_is_for_one_or_a_body_that_cannot_be_read(
    memory: Store, policies: Path
) -> None:
    async with program(memory, escalations=policies) as client:
        for place, (query, expected) in enumerate(QUERIES):
            is_right = isinstance(expected, list)
            told = await tell(client, notification(alert(str(place))), to=query, status=201 if is_right else 422)
            assert not is_right or [each["number"] for each in told["steps"]] == expected, query
            assert is_right or str(expected) in str(told["findings"])
        for wrong in BODIES:
            assert (await tell(client, {**GRAFANA, **wrong}, status=422))["findings"], wrong
    assert len(await Escalations(CallQueue(memory)).recent()) == sum(isinstance(each, list) for _, each in QUERIES)
