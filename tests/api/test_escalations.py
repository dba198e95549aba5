"""Escalations over HTTP, and the webhooks of Alertmanager and Grafana that start them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import structlog

from tests.api.clients import Client, findings_of, program
from tests.docs.pages import DOCS, blocks
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Store, SuppressionList
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.errors import JobNotFoundError, StaleJobError, StoreUnavailableError

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("works")]

ANA, BEN = "+6587654321", "+6587654322"
FIRE: Mapping[str, Any] = {"numbers": [ANA, BEN], "say": "The disk is full."}


async def escalate(client: Client, named: str | None = "incident-42", **fields: object) -> httpx.Response:
    headers = {} if named is None else {"Idempotency-Key": named}
    return await client.post("/v1/escalations", json={**FIRE, **fields}, headers=headers)


async def numbers_of(store: Store, batch: str, queue: str = "default") -> list[str]:
    """Whom the calls of a batch call, in their order."""
    jobs = await CallQueue(store, queue).find(batch_id=batch, limit=None)
    return [job.number for job in sorted(jobs, key=lambda job: int(str(job.unique_key).rpartition("/")[2]))]


async def says(store: Store, batch: str) -> str:
    """What the calls of a batch say."""
    (text,) = {job.data["question"] for job in await CallQueue(store).find(batch_id=batch) if job.data}
    return str(text)


async def test_it_is_one_batch_that_is_shown_and_cancelled(memory: Store, client: Client) -> None:
    first = await escalate(client, rounds=1)
    assert first.status_code == 201
    batch = first.json()["batch_id"]
    assert first.headers["location"] == f"/v1/batches/{batch}"
    assert (first.json()["total"], await numbers_of(memory, batch)) == (2, [ANA, BEN])
    again = await escalate(client, rounds=1)
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await escalate(client, say="Flood.")).status_code == 422
    (entry,) = await entries_on(memory)
    assert (entry.action, entry.on, entry.batch, entry.numbers) == ("escalate", "api", batch, (ANA, BEN))
    ended = await client.post(f"/v1/batches/{batch}/cancel", json={"note": "seen"})
    assert (ended.status_code, ended.json()["cancelled"]) == (200, 2)
    shown = (await client.get(f"/v1/batches/{batch}?wait=5")).json()
    assert (shown["ended"], shown["states"]["cancelled"]) == (True, 2)
    assert (await escalate(client, rounds=1)).status_code == 200, "the key is the same escalation, though it has ended"


async def test_what_is_wrong_has_findings_and_nobody_is_called(memory: Store, client: Client) -> None:
    refused = await escalate(client, key="12", colour="red", answer_within=90)
    assert refused.status_code == 422
    assert {found["pointer"] for found in findings_of(refused)} == {"/colour", "/answer_within"}
    for numbers in (["nobody"], [ANA, ANA], []):
        assert (await escalate(client, numbers=numbers)).status_code == 422
    assert (await escalate(client, rounds=26)).status_code == 422
    await SuppressionList(memory).add(ANA)
    nobody = await escalate(client, numbers=[ANA, "nobody"])
    assert (nobody.status_code, "no number can be called" in nobody.text) == (422, True)
    assert (await escalate(client, None)).status_code == 422
    assert await CallQueue(memory).find() == []
    left = await escalate(client, numbers=[ANA, "nobody", BEN], rounds=1)
    assert await numbers_of(memory, left.json()["batch_id"]) == [BEN], "the others are left out"


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


@pytest.fixture
async def works(memory: Store) -> None:
    """A worker of the queue is alive."""
    await Heartbeat(memory, queue="default", worker_id="worker-1", in_flight=lambda: 0).beat()


SAME = {
    "milliseconds": notification(alert("a", startsAt="2026-11-26T03:10:00Z")),
    "another zone": notification(alert("a", startsAt="2026-11-26T11:10:00+08:00")),
    "nanoseconds": notification(alert("a", startsAt="2026-11-26T03:10:00.000000001Z")),
    "an earlier start": notification(alert("a", startsAt="2026-11-26T03:09:30Z")),
    "other labels of the group": notification(alert("a"), commonLabels={}, receiver="other"),
}


@pytest.mark.parametrize("how", SAME)
async def test_the_same_alert_told_in_another_way_is_no_news(client: Client, how: str) -> None:
    first = await tell(client, notification(alert("a")))
    assert (await tell(client, SAME[how], status=200))["batches"] == first["batches"]
    again = await tell(client, SAME[how], to="numbers=6587654321&country=SG", status=200)
    assert again["batches"] == first["batches"]


@pytest.mark.parametrize("bad", [{"startsAt": None}, {"startsAt": 5}, {"status": "odd"}, None], ids=str)
async def test_an_alert_that_cannot_be_read_is_named_and_the_others_are_called_for(
    memory: Store, client: Client, bad: dict[str, Any] | None
) -> None:
    misfit, ended = "a" if bad is None else alert("a", **bad), {"status": "resolved"}
    with structlog.testing.capture_logs() as logs:
        told = await tell(client, notification(misfit, alert("b"), alert("c", **ended)))
        gone = await tell(client, notification(alert("b", **ended), misfit), status=200)
    assert await says(memory, told["batches"][0]) == "Alert: Disk full. b has no space left."
    assert gone["batches"] == []
    for each, place in ((told, 1), (gone, 2)):
        (named,) = each["not_taken"]
        assert named.startswith(f"alert {place} ")
        assert bad is None or "Disk_full" in named
    logged = [each["alerts"] for each in logs if "cannot be read" in each["event"]]
    assert logged == [told["not_taken"], gone["not_taken"]]


async def test_grafana_sends_the_same_shape(memory: Store, client: Client) -> None:
    for status in (201, 200):
        told = await tell(client, GRAFANA, to=f"{ONE}&key=5&every=1m", status=status)
        assert await says(memory, told["batches"][0]) == "Alert: High memory usage. Zone us-1 is full"
    assert "Press 5 to acknowledge" in (await CallQueue(memory).find())[0].body


LONG = " ".join(f"line {number}:" for number in range(400))


async def test_a_text_is_made_speakable_and_cut_whichever_way_it_comes(memory: Store, client: Client) -> None:
    written = {"summary": "<no value>", "description": "disk  full, 0.9453333333 s"}
    for place, (text, query) in enumerate(((written, "disk%20full,%200.9453333333%20s"), ({"summary": LONG}, LONG))):
        told = [
            (await tell(client, notification(alert(f"a{place}", annotations=text))))["batches"][0],
            (await tell(client, notification(alert(f"b{place}")), to=f"{ONE}&say={query}"))["batches"][0],
            (await escalate(client, f"{place}", say=unquote(query))).json()["batch_id"],
        ]
        for batch in told:
            said = await says(memory, batch)
            assert said.lower().endswith("disk full, 0.945 s") or re.search(r"line( \d+)?…$", said), said
            assert len(said) <= 500


HEARD: Sequence[tuple[list[dict[str, Any]], str]] = (
    ([{"labels": {"alertname": "DiskFull", "instance": "web2:9100", "mountpoint": "/var"}}],
     "Alert: DiskFull, instance web2:9100, mountpoint /var."),
    ([{"labels": {"alertname": "DatasourceNoData", "rulename": "No orders", "__alert_rule_uid__": "f8"}}],
     "Alert: DatasourceNoData, rulename No orders."),
    ([{"labels": {"alertname": "Crash", "pod": "cart-1"}, "annotations": {"message": "Pod cart-1 crashes."}}],
     "Alert: Crash. Pod cart-1 crashes."),
    ([{"labels": {"alertname": "A"}, "annotations": {"runbook_url": "https://r/1", "Error": "no such query"}}],
     "Alert: A. no such query"),
    ([{"labels": {"alertname": "Cpu"}, "annotations": {"summary": "{{ $labels.x }}", "description": "97% on [nil]"}}],
     "Alert: Cpu. 97% on unknown"),
    ([{"labels": {"alertname": "Disk", "host": host, "env": "prod"}} for host in ("a", "b")],
     "2 alarms: Disk, env prod, host a. Disk, env prod, host b."),
)  # fmt: skip


async def test_the_name_of_an_alert_is_spoken_with_its_annotation_or_its_labels(memory: Store, client: Client) -> None:
    for place, (alerts, said) in enumerate(HEARD):
        body = notification(
            *(alert(f"{place}-{number}", **{"annotations": {}} | each) for number, each in enumerate(alerts))
        )
        told = await tell(client, body, to=f"numbers=%2B65876543{place:02}")
        assert await says(memory, told["batches"][0]) == said


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
    assert len(await CallQueue(memory, "night").find()) == 3


async def test_whatever_may_pass_is_answered_so_that_the_sender_asks_again(memory: Store) -> None:
    for error in (
        StaleJobError("default.1"), StoreUnavailableError("gone"), JobNotFoundError("default.1"), TimeoutError(),
        RuntimeError("a fault"),
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
every = "90s"
rounds = 1

[web]
numbers = "+6587654323"
say = "The web shop is down."
window = "00:00-24:00"
rounds = 1
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (file := tmp_path / "escalations.toml").write_text(POLICIES)
    return file


async def test_a_policy_is_named_by_the_hook_and_by_programs(memory: Store, policies: Path) -> None:
    async with program(memory, escalations=policies) as client:
        alarm = await tell(client, notification(alert("a")), to="policy=db")
        assert await numbers_of(memory, alarm["batches"][0]) == [ANA, BEN]
        first, second = await CallQueue(memory).find(batch_id=alarm["batches"][0])
        assert abs(abs((second.due_at - first.due_at).total_seconds()) - 90) < 1
        web = await tell(client, notification(alert("a")), to="policy=web")
        assert await says(memory, web["batches"][0]) == "The web shop is down."
        named = await client.post(
            "/v1/escalations", json={"policy": "db", "say": "Fire."}, headers={"Idempotency-Key": "k"}
        )
        assert (named.status_code, await says(memory, named.json()["batch_id"])) == (201, "Fire.")


# -- the query ---------------------------------------------------------------------------------------------------------


async def test_the_configuration_on_the_page_works(memory: Store, client: Client) -> None:
    (config,) = blocks(DOCS / "escalation.md", language="yaml")
    (url,) = re.findall(r"url: https://calls.example.com(\S+)", config.text)
    answer = await client.post(url, json=notification(alert("a")))
    assert answer.status_code == 201
    assert (await numbers_of(memory, answer.json()["batches"][0]))[:2] == [ANA, BEN]


QUERIES: list[tuple[str, list[str] | str]] = [
    ("numbers=+6587654321,+6587654322", [ANA, BEN]), ("numbers=%2B6587654322,%20%2B6587654321", [BEN, ANA]),
    ("numbers=8765%204321,9123%204567&country=SG", [ANA, "+6591234567"]),
    ("numbers=nobody,+6587654321", [ANA]), ("numbers=%2B6587654321&country=JM", [ANA]),
    ("numbers=+6587654321,9123%204567&country=SG", "write %2B for +"), ("policy=db", [ANA, BEN]),
    ("numbers=+6587654321&country=JM", "write %2B for +"), ("", "numbers"),
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
            to = query if "policy" in query else f"{query}&rounds=1"
            told = await tell(client, notification(alert(str(place))), to=to, status=201 if is_right else 422)
            assert not is_right or await numbers_of(memory, told["batches"][0]) == expected, query
            assert is_right or str(expected) in str(told["findings"])
        for wrong in BODIES:
            assert (await tell(client, {**GRAFANA, **wrong}, status=422))["findings"], wrong
    batches = {job.batch_id for job in await CallQueue(memory).find(limit=None)}
    assert len(batches) == sum(isinstance(each, list) for _, each in QUERIES)
