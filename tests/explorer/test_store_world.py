"""What is stored together keeps its promises whatever happens in between; the large scenes are marked slow."""

from __future__ import annotations

import pytest

from tests.explorer.store_world import OTHER, PERSON, Scene, explore
from tests.support.everyday import spread
from voiceflow_worker.model.copying import replace

ONE = (PERSON,)
ANSWERS = Scene(numbers=ONE, posts=1, ticks=2)
REPEATS = Scene(numbers=ONE, workers=1, ticks=1, kills=0, lost_answers=1, late_repeats=1)
HOLD = Scene(numbers=ONE, workers=1, ticks=2, holds=1, kills=0, posts=1)
OPT_OUT = replace(HOLD, holds=0, opt_outs=1)
CANCEL = replace(HOLD, holds=0, cancels=1)
CHANGED = replace(HOLD, holds=0, changes=1, posts=2, ticks=1)
TWO_CALLS = Scene(ticks=1, kills=0, posts=1)
THREE_CALLS = replace(TWO_CALLS, numbers=(PERSON, PERSON, OTHER), plain=True, posts=2, workers=1)
OPT_OUT_IN_A_CALL = replace(TWO_CALLS, person_opts_out=True)
LIMITED = replace(TWO_CALLS, attempts=1)
BRIDGES = replace(TWO_CALLS, numbers=(PERSON, OTHER), bridges=OTHER, plain=True)
RESOLVED = Scene(numbers=ONE, resolves=1, ticks=2, workers=1)
ROLLED_BACK = Scene(numbers=ONE, workers=1, ticks=1, kills=0, rollbacks=1)

EVERYDAY = {
    "answers in any order, and deaths": ANSWERS,
    "lost answers of the store, and late repeats": REPEATS,
    "a hold": HOLD,
    "an opt-out": OPT_OUT,
    "a cancel": CANCEL,
    "a call that is changed": CHANGED,
    "two calls to one number": TWO_CALLS,
    "a call that was given back, and one that was never tried": THREE_CALLS,
    "a person who opts out in one of two calls": OPT_OUT_IN_A_CALL,
    "a limit per person": LIMITED,
    "a menu's bridge to a person who is called": BRIDGES,
    "a person who says that a call was not placed": RESOLVED,
    "a store that is rolled back": ROLLED_BACK,
}
LARGE = {name: replace(scene, ticks=scene.ticks + 1) for name, scene in EVERYDAY.items()}


@pytest.mark.parametrize("scene", spread(EVERYDAY, every=6))
def test_what_is_stored_together_keeps_its_promises(scene: Scene) -> None:
    judge(scene)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", LARGE.values(), ids=LARGE.keys())
def test_what_is_stored_together_keeps_its_promises_for_longer(scene: Scene) -> None:
    judge(scene)


def judge(scene: Scene) -> None:
    states, way = explore(scene)
    assert not way, "\n".join(way)
    assert states > 200, "so small a world proves nothing"
