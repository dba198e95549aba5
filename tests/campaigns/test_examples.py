"""The example data: a campaign with everything that people get wrong, and the bodies of the messaging guide."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.campaigns.reading import calls_of, flow_of, read
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.model.numbers.phone import country_of

EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGN = EXAMPLES / "reminder-campaign.csv"


@pytest.fixture
def options() -> CampaignOptions:
    template = FlowTemplate.load(EXAMPLES / "reminder-flow.json")
    return CampaignOptions(template=template, source="+6531234567", voice_profile="en-IE-EmilyNeural")


def test_the_example_campaign_has_good_rows_in_five_countries(options: CampaignOptions) -> None:
    good = calls_of(read(CAMPAIGN, options))
    assert len(good) == 26
    countries = {country_of(flow_of(request).destination or "") for request in good}
    assert countries == {"SG", "PH", "ID", "GB", "US"}


def test_the_example_campaign_is_wrong_in_each_way_that_people_get_wrong(options: CampaignOptions) -> None:
    found = [found for row in read(CAMPAIGN, options) for found in row.findings]
    assert [(each.row, each.column, each.code) for each in found if each.is_error] == [
        (29, "destination", -1017),  # a national number
        (30, "destination", -1017),  # scientific notation
        (31, "destination", -1017),  # letters
        (32, "destination", -1017),  # too short
        (33, "destination", -1017),  # too long
        (34, "destination", -1011),  # two numbers
        (35, "destination", -1009),  # none
        (36, "name", -1009),  # nothing for the template
        (37, "repetition", -1009),  # out of range
        (38, "valid_until", -1015),  # past
        (39, "time_zone", None),  # no such zone
        (40, "not_before", None),  # no zone at all
        (41, "not_before", None),  # when the clocks go back
        (42, "valid_until", None),  # another order of day and month
        (43, "priority", None),  # no number
        (44, "unique_key", None),  # taken by another row
        (45, None, None),  # a comma without quotes
        (46, None, None),  # cells missing
        (47, None, None),  # a quote not closed
    ]
    assert [each.row for each in found if not each.is_error] == [28]  # twice


@pytest.mark.parametrize("name", ["text-to-speech.json", "play-file.json"])
def test_the_bodies_of_the_guide_are_valid(name: str) -> None:
    report = asyncio.run(check_file(EXAMPLES / name, now=datetime.now(UTC)))
    assert report.is_valid
    assert [found.path for found in report.findings] == ["$.callflow[0].params.source"], "6512345678 is not assigned"
