"""A short soak; the long ones are ordered by hand: `./dev soak --kills 2000 --calls 40000`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.asked import Kind
from tests.crash.report import Report
from tests.crash.rollbacks import opened
from tests.crash.seeded_defects import DEFECTS
from tests.crash.soak import Plan, soak
from tests.support.stores import DURABLE

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(900),
]  # the laboratory has limits of its own, and says what is open


def soaked(plan: Plan, store: str, folder: Path) -> Report:
    with opened(store, folder) as there:
        return soak(plan, there, folder=folder, told=lambda _: None)


@pytest.mark.parametrize("kills", [12, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("store", DURABLE)
def test_killed_at_random_moments_nothing_rings_twice_and_nothing_is_lost_or_late(
    store: str, kills: int, tmp_path: Path
) -> None:
    report = soaked(Plan(seed=20261120, kills=kills, calls=15 * kills), store, tmp_path)
    assert report.is_good, str(report)
    assert report.strikes.kills >= kills
    assert report.verdicts.doubts >= kills // 8, f"it hardly ever hit `sending`:\n{report}"
    assert set(report.kinds) == {kind.value for kind in Kind}
    assert report.strikes.slow_commits
    assert report.strikes.tasks
    assert report.after.rings_per_destination == 1
    assert not report.after.open_doubts


@pytest.mark.slow
@pytest.mark.parametrize(("name", "store"), [(name, each) for name in DEFECTS for each in DEFECTS[name].stores])
def test_a_product_that_is_broken_on_purpose_is_found(name: str, store: str, tmp_path: Path) -> None:
    """Without this nobody knows whether the soak would see anything."""
    times = DEFECTS[name].times
    plan = Plan(seed=7, kills=30 * times, calls=600 * times, rollbacks=int(name == "no-guard"), seeded_defect=name)
    report = soaked(plan, store, tmp_path)
    words = {violation.word for violation in report.violations}
    assert DEFECTS[name].word in words, f"found was {sorted(words)}:\n{report}"
