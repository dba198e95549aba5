"""Escalations over HTTP, and the webhooks of Alertmanager and Grafana that start them."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.api.clients import program
from tests.api.test_door import findings_of
from tests.docs.pages import DOCS, blocks
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.service.escalation import Escalations
from voiceflow_worker.service.ladder import FIELDS

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
        ladder = first.json()
        assert first.headers["location"] == f"/v1/escalations/{ladder['id']}"
        assert (ladder["state"], [place["number"] for place in ladder["places"]]) == ("open", [ANA, BEN])
        assert (await escalate(client)).status_code == 200
        assert (await escalate(client, say="Flood.")).status_code == 422
        shown = await client.get(f"/v1/escalations/{ladder['id']}")
        assert shown.json() == ladder
        await CallQueue(memory).cancel_batch(ladder["batch_id"])
        ended = await client.get(f"/v1/escalations/{ladder['id']}?wait=5")
        assert (ended.status_code, ended.json()["state"]) == (200, "unanswered")
        assert (await client.get("/v1/escalations/default.ladder-1")).status_code == 404
        assert (await client.get("/v1/escalations/other.1?wait=1")).status_code == 404
    assert len(await CallQueue(memory).find()) == 1


async def test_the_same_request_is_the_same_escalation_whatever_the_settings_are_now(memory: Store) -> None:
    async with program(memory) as client:
        assert (await escalate(client)).status_code == 201
    async with program(memory, source="+6531234568") as client:
        assert (await escalate(client)).status_code == 200


async def test_what_is_wrong_has_findings_and_nobody_is_called(memory: Store) -> None:
    async with program(memory) as client:
        refused = await escalate(client, numbers=[ANA, "nobody"], key="12", colour="red", answer_within=90)
        assert refused.status_code == 422
        assert {found["column"] for found in findings_of(refused)} == {"colour", "answer_within"}
        refused = await escalate(client, numbers=[ANA, "nobody"])
        assert "place 2" in str(findings_of(refused)[0]["message"])
        (long,) = findings_of(await escalate(client, say="x" * 9000))
        assert (long["column"], "too long" in str(long["message"])) == ("say", True)
        assert (await escalate(client, None)).status_code == 400
    assert await CallQueue(memory).find() == []


ODD: list[object] = [
    None, 1, 1.5, -1, True, False, "", " ", "x" * 9999, "\U0001f600", [], [[]], [None], [1], {}, {"a": []},
    "+1,,", "1e9", "-5s",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
async def test_no_value_of_a_field_is_a_fault_of_the_server(memory: Store, field: str) -> None:
    async with program(memory) as client:
        for place, value in enumerate(ODD):
            answer = await escalate(client, f"{field}-{place}", **{field: value})
            assert answer.status_code in {201, 422}, (value, answer.text)
            if answer.status_code == 422:
                findings_of(answer)


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


def notification(*alerts: dict[str, Any], status: str = "firing", group: str = '{}:{alertname="Disk_full"}') -> Any:
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


async def test_alerts_that_come_again_add_nothing_and_new_ones_get_a_ladder(memory: Store) -> None:
    async with program(memory) as client:
        first = await client.post(f"{HOOK}?numbers=%2B6587654321", json=notification(alert("a"), alert("b")))
        assert first.status_code == 201
        ladder = first.json()
        assert (ladder["say"], ladder["places"][0]["number"]) == (
            "Alert: Disk full. a has no space left. And 1 more alert.",
            ANA,
        )
        again = notification(alert("b"), alert("a"))
        solved = notification(alert("a", status="resolved"), alert("b"))  # the group still fires
        for body in (again, solved, notification(alert("a"))):
            answer = await client.post(f"{HOOK}?numbers=%2B6587654322", json=body)
            assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (200, ladder["id"], "open")
        further = await client.post(f"{HOOK}?numbers=%2B6587654321", json=notification(alert("a"), alert("c")))
        assert (further.status_code, "c has no space" in further.json()["say"]) == (201, True)
        relapse = alert("a", starts_at="2026-11-26T05:00:00Z")
        assert (await client.post(f"{HOOK}?numbers=%2B6587654321", json=notification(relapse))).status_code == 201


async def test_when_it_is_resolved_nobody_is_called_and_its_ladder_ends(memory: Store) -> None:
    ladders = Escalations(CallQueue(memory))
    resolved = notification(alert("a", status="resolved"), status="resolved")
    async with program(memory) as client:
        assert (await client.post(f"{HOOK}?numbers=%2B6587654321", json=resolved)).status_code == 200
        assert await CallQueue(memory).find() == []
        begun = (await client.post(f"{HOOK}?numbers=%2B6587654321", json=notification(alert("a")))).json()
        answer = await client.post(f"{HOOK}?numbers=%2B6587654321", json=resolved)
        cut = await client.post(f"{HOOK}?numbers=%2B6587654321", json=notification(alert("b"), alert("c")))
        with_more = {**notification(alert("b", status="resolved"), status="resolved"), "truncatedAlerts": 1}
        await client.post(f"{HOOK}?numbers=%2B6587654321", json=with_more)
        assert (await ladders.get(cut.json()["id"])).is_open, "the alert that is left out may fire"
        await ladders.stop(cut.json()["id"], reason="the end")
    assert (answer.status_code, answer.json()) == (200, {"message": "the alerts are resolved; nobody is called"})
    ladder = await ladders.get(begun["id"])
    assert (ladder.state, ladder.reason) == ("stopped", "the alert is resolved")
    assert [job.state for job in await CallQueue(memory).find()] == ["cancelled", "cancelled"]


async def test_grafana_sends_the_same_shape(memory: Store) -> None:
    async with program(memory) as client:
        for status in (201, 200):
            answer = await client.post(f"{HOOK}?numbers=%2B6587654321&key=5&answer_within=1m", json=GRAFANA)
            told = answer.json()
            assert (answer.status_code, told["say"], told["key"]) == (
                status,
                "Alert: High memory usage. Zone us-1 is full",
                "5",
            )


async def test_the_configuration_on_the_page_works(memory: Store) -> None:
    (config,) = blocks(DOCS / "escalation.md", language="yaml")
    (url,) = re.findall(r"url: https://calls.example.com(\S+)", config.text)
    async with program(memory) as client:
        answer = await client.post(url, json=notification(alert("a")))
    assert (answer.status_code, [place["number"] for place in answer.json()["places"]]) == (201, [ANA, BEN])


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
async def test_the_numbers_stand_in_the_query(memory: Store, query: str, numbers: list[str]) -> None:
    async with program(memory) as client:
        answer = await client.post(f"{HOOK}?{query}", json=GRAFANA)
        assert answer.status_code == 201, answer.text
        assert [place["number"] for place in answer.json()["places"]] == numbers


async def test_a_number_in_a_query_that_may_be_two_is_refused(memory: Store) -> None:
    async with program(memory) as client:
        answer = await client.post(f"{HOOK}?numbers=+6587654321&country=JM", json=GRAFANA)
        (finding,) = findings_of(answer)
        assert (answer.status_code, finding["column"]) == (422, "numbers")
        assert finding["message"] == "+6587654321 may also be 6587654321 in JM; write %2B for +"
        assert await CallQueue(memory).find() == []
        sure = await client.post(f"{HOOK}?numbers=%2B6587654321&country=JM", json=GRAFANA)
        assert sure.json()["places"][0]["number"] == ANA


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
