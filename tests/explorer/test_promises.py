"""Never twice, never lost, never late: everything that can happen to a call, walked through the real rules.

`pytest -rP` shows how many states each scene has.
"""

from __future__ import annotations

import sys

import pytest

from tests.explorer.search import explore
from tests.explorer.world import FAR, Scene

SCENES = {
    "a person who looks, and one who cancels, while the call is valid": Scene(
        valid_for=4, cancels=1, resolves=1, lost_replies=False
    ),
    "a clock that jumps while the call is valid": Scene(valid_for=3, jumps=(-FAR, FAR), lost_replies=False),
    "summaries twice, late, without their id, with unknown statuses, and a redial": Scene(
        redials=1, copies=2, without_id=True, unclear=True, lost_replies=False
    ),
    "a store that commits and is not heard, summaries twice, and a redial": Scene(redials=1, copies=2),
    "a person with two numbers, summaries twice, late and without their id": Scene(
        numbers=2, copies=2, without_id=True, lost_replies=False
    ),
    "a person with two numbers, and a redial": Scene(numbers=2, redials=1, lost_replies=False, refusals=False),
    "a person who looks, and one who calls again": Scene(resolves=1, calls_again=1, lost_replies=False, refusals=False),
    "a person who looks, and a redial": Scene(redials=1, resolves=1, lost_replies=False),
    "a person who asks to be called back, and summaries twice": Scene(
        asks=True, copies=2, refusals=False, lost_replies=False
    ),
    "a person who asks to be called back, and one who looks": Scene(
        asks=True, resolves=1, refusals=False, lost_replies=False
    ),
    "a person who asks to be called back while the call is valid, and one who cancels": Scene(
        asks=True, valid_for=4, cancels=1, refusals=False, lost_replies=False
    ),
    "a person who cancels and calls again while the call is valid": Scene(
        valid_for=5, cancels=1, calls_again=1, lost_replies=False
    ),
    "rows of the log that come late, and a person who is mistaken": Scene(
        resolves=1, mistaken=True, without_id=True, unclear=True, export=True, refusals=False, lost_replies=False
    ),
    "a person who is mistaken twice": Scene(resolves=2, mistaken=True, busy=False, lost_replies=False),
    "lines that are full, summaries twice, a redial, and a person who cancels and looks": Scene(
        full=True, valid_for=4, redials=1, copies=2, cancels=1, resolves=1, lost_replies=False, refusals=False
    ),
    "a clock that jumps, and a person who looks": Scene(resolves=1, jumps=(-FAR, FAR), lost_replies=False),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_no_call_rings_twice_or_late_or_is_lost(scene: Scene) -> None:
    report = explore(scene)
    sys.stdout.write(f"{report}\n")
    assert report.broken is None, str(report)
    assert report.states > 1000, "so small a world proves nothing"


def test_a_world_that_grows_beyond_its_limit_is_an_error_and_no_success() -> None:
    with pytest.raises(RuntimeError, match="more than 100 states"):
        explore(Scene(), most=100)
