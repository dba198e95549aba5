"""Rows and calls as they are read: values that were rendered to None are bad, and a source may have countries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider.calls.arguments import read_flow
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import TaskOrders
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from airflow_provider.sensors.voice import IvrApprovalSensor
from tests.airflow.scene import context
from voiceflow_worker import Campaign
from voiceflow_worker.errors import InvalidInputError


@pytest.mark.parametrize("name", ["None", "Ms None", "None, dear", "Ana", "None of the Tans", "Nonez"])
@pytest.mark.anyio
async def test_a_row_with_a_value_that_was_rendered_to_none_is_bad(name: str) -> None:
    is_good = name in {"Ana", "None of the Tans", "Nonez"}
    rows = [{"destination": "+6587654321", "name": "Ben"}, {"destination": "+6587654322", "name": name}]
    said = {
        "say": "Hello {{ name }}.",
        "window": "any",
        "source": "+6531234567",
        "voice_profile": "en-IE-EmilyNeural",
        "batch": "b",
    }
    campaign = Campaign.of({**said, "rows": rows})
    report = await replace(
        campaign, options=replace(campaign.options, orders=TaskOrders(TaskIdentity.of(context())))
    ).preview()
    assert report.valid == 1 + is_good
    errors = [(found.row, found.column) for found in report.findings if found.is_error]
    assert errors == ([] if is_good else [(2, "name")])


def test_a_name_twice_in_the_json_of_a_flow_is_refused() -> None:
    body = '{"callflow": [{"action": "hangup", "action": "makeCall"}]}'
    with pytest.raises(InvalidInputError, match="the name 'action' twice in one object"):
        read_flow(body)


SENDER = {"source": "'+6531234567'", "voice_profile": "en-IE-EmilyNeural"}
RENDERED = [
    (kind, name, options)
    for kind, options in (
        (VoiceCallOperator, {"destination": "'+4722334455'", "say": "Hello.", **SENDER}),
        (VoiceCampaignOperator, {"rows": [], "say": "Hello.", **SENDER}),
        (IvrApprovalSensor, {"destination": "'+4722334455'", "question": "Shall we?", **SENDER}),
    )
    for name in kind.template_fields
    if name not in {"flow", "data", "rows", "parameters", "sql", "conn_id"}
]


@pytest.mark.parametrize(("kind", "name", "options"), RENDERED)
def test_a_field_that_jinja_renders_to_a_number_is_refused(kind: Any, name: str, options: dict[str, Any]) -> None:
    """`render_template_as_native_obj` makes a number of +4722334455: of another country, or with a country refused."""
    with DAG("native", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), render_template_as_native_obj=True):
        task = kind(task_id="t", **{**options, name: "{{ params.number }}"})
        quoted = kind(task_id="q", **{**options, name: "'{{ params.number }}'"})
    for each in (task, quoted):
        each.render_template_fields({"params": {"number": "+4722334455"}})
    assert (getattr(task, name), getattr(quoted, name)) == (4722334455, "+4722334455")
    with pytest.raises(AirflowFailException, match=f"{name} is 4722334455, a number and not a text.*Put quotes around"):
        task.execute(context("native", dag=task.dag))


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("destination", {}),
        ("Destination", {}),
        ("source", {}),
        ("SOURCE", {}),
        ("Handy", {"columns": {"destination": ["mobile", "handy"]}}),
        ("handy", {"columns": "destination=mobile,destination=Handy"}),
    ],
)
def test_a_number_in_a_row_of_a_native_dag_is_refused(column: str, options: dict[str, Any]) -> None:
    native = SimpleNamespace(render_template_as_native_obj=True)
    rows = [{column: "+4722334455"}, {column: 4722334455}]
    task = VoiceCampaignOperator(task_id="t", say="Hi.", rows=rows, country="US", **options)
    with pytest.raises(AirflowFailException, match=rf"rows\[1\].{column} is 4722334455, a number and not a text"):
        task.execute(context("native", dag=native))


def test_rows_that_native_rendering_makes_a_number_are_refused_as_rows(connect: Callable[..., None]) -> None:
    connect(password="a-key", extra={"sub_account": "tests", "store": "redis://127.0.0.1:1"})
    task = VoiceCampaignOperator(task_id="t", say="Hi.", rows=5)
    with pytest.raises(AirflowFailException, match="rows: they are a number; give mappings"):
        task.execute(context("native", dag=SimpleNamespace(render_template_as_native_obj=True)))
