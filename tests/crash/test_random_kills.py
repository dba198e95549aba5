"""A short soak; the long ones are ordered by hand: `./dev soak --kills 1000 --calls 20000`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.children import Children
from tests.crash.phases import Phase
from tests.crash.soak import Plan, soak

pytestmark = pytest.mark.crash

SENDING = (Phase.JOURNALLED, Phase.POSTING, Phase.SENT, Phase.ANSWERED, Phase.SETTLING)


def test_killed_at_random_moments_nothing_rings_twice_and_nothing_is_lost(
    children: Children, store_url: str, tmp_path: Path
) -> None:
    plan = Plan(seed=20261120, kills=40, calls=800)
    report = soak(plan, children=children, store=store_url, folder=tmp_path, told=lambda _: None)
    assert report.is_good, str(report)
    assert report.strikes.kills >= 40
    assert sum(report.strikes.kills_in[phase] for phase in SENDING) >= 5, f"it hardly ever hit `sending`:\n{report}"
    assert report.after.rings_per_destination == 1
    assert not report.after.open_doubts
