"""A short soak; the long ones are ordered by hand: `./dev soak --kills 2000 --calls 40000`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.asked import Kind
from tests.crash.report import Report
from tests.crash.rollbacks import opened
from tests.crash.seeded_defects import SABOTAGE
from tests.crash.soak import Plan, soak
from tests.support.stores import DURABLE, SERVERS

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(900),
]  # the laboratory has limits of its own, and says what is open

FOUND_BY = {
    "requeue-sending": "INCIDENT",
    "no-number-lock": "TWO CALLS",
    "no-expiry": "LATE",
    "no-suppression": "SUPPRESSED",
    "endless-redials": "TWICE",
    "no-redials": "REDIAL LOST",
    "lost-keys": "KEYS LOST",
    "lost-jobs": "LOST",
    "no-guard": "SET BACK",
    "guard-reads-first": "TWO CALLS",
}
MORE = {"requeue-sending": 2, "no-expiry": 2}
"""How many times as many kills and calls a defect needs: most summaries come before the sweep has anything to send
again, and on a busy machine most brief calls expire before they are leased. Runs of thirty kills found nothing."""


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
    assert report.verdicts.doubts.opened >= kills // 8, f"it hardly ever hit `sending`:\n{report}"
    assert set(report.kinds) == {kind.value for kind in Kind}
    assert report.strikes.slow_commits
    assert report.strikes.tasks
    assert report.after.rings_per_destination == 1
    assert not report.after.open_doubts


BROKEN = [(name, store) for name in SABOTAGE for store in (SERVERS if name == "no-guard" else ["sqlite"])]
"""Each, where it can be found: a person alone rolls the file of a store back; a server does that to its data too."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "store"), BROKEN)
def test_a_product_that_is_broken_on_purpose_is_found(name: str, store: str, tmp_path: Path) -> None:
    """Without this nobody knows whether the laboratory would see anything."""
    times = MORE.get(name, 1)
    plan = Plan(seed=7, kills=30 * times, calls=600 * times, rollbacks=int(name == "no-guard"), seeded_defect=name)
    report = soaked(plan, store, tmp_path)
    words = {violation.word for violation in report.violations}
    assert FOUND_BY[name] in words, f"found was {sorted(words)}:\n{report}"
