"""Rows of a campaign whose values were rendered to None: bad, by row and column."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider.calls.campaign_calls import check_rows
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate

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
