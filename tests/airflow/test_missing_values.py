"""Rows and calls as they are read: values that were rendered to None are bad, and a source may have countries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider.calls.single_call import read_flow
from airflow_provider.calls.task_orders import TaskOrders
from tests.airflow.instances import TASK
from voiceflow_worker import Campaign
from voiceflow_worker.errors import InvalidInputError


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("None", False),
        ("Ms None", False),
        ("None, dear", False),
        ("Ana", True),
        ("None of the Tans", True),
        ("Nonez", True),
    ],
)
@pytest.mark.anyio
async def test_a_row_with_a_value_that_was_rendered_to_none_is_bad(name: str, is_good: bool) -> None:
    rows = [{"destination": "+6587654321", "name": "Ben"}, {"destination": "+6587654322", "name": name}]
    said = {"say": "Hello {{ name }}.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b"}
    campaign = Campaign.of({**said, "rows": rows})
    report = await replace(campaign, options=replace(campaign.options, orders=TaskOrders(TASK))).preview()
    assert report.valid == 1 + is_good
    errors = [(found.row, found.column) for found in report.findings if found.is_error]
    assert errors == ([] if is_good else [(2, "name")])


def test_a_name_twice_in_the_json_of_a_flow_is_refused() -> None:
    body = '{"callflow": [{"action": "hangup", "action": "makeCall"}]}'
    with pytest.raises(InvalidInputError, match="flow has the name 'action' twice in one object"):
        read_flow(body)
