"""Rows and calls as they are read: values that were rendered to None are bad, and a source may have countries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider.calls.campaign_calls import check_rows
from airflow_provider.calls.single_call import read_flow
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.errors import InvalidInputError

OPTIONS = CampaignOptions(
    template=FlowTemplate.speaking("Hello {{ name }}."),
    source="+6531234567",
    voice_profile="en-IE-EmilyNeural",
    batch_id="b",
)


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
def test_a_row_with_a_value_that_was_rendered_to_none_is_bad(name: str, is_good: bool) -> None:
    rows = [{"destination": "+6587654321", "name": "Ben"}, {"destination": "+6587654322", "name": name}]
    checked = check_rows(rows, OPTIONS, now=datetime.now(UTC))
    assert [row.place for row in checked.requested] == ([0, 1] if is_good else [0])
    assert [(found.row, found.column) for found in checked.errors] == ([] if is_good else [(2, "name")])


def test_a_name_twice_in_the_json_of_a_flow_is_refused() -> None:
    body = '{"callflow": [{"action": "hangup", "action": "makeCall"}]}'
    with pytest.raises(InvalidInputError, match="flow has the name 'action' twice in one object"):
        read_flow(body)
