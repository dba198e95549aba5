"""What is stored together keeps its promises whatever happens in between, and the explorer notices when it does not.

Small scenes run every day; the large ones are marked slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.explorer.store_world import OTHER, PERSON, Explorer, Scene, explore
from tests.support.everyday import spread
from tests.support.seeded import seed
from voiceflow_worker.backends.writing import Writing
from voiceflow_worker.core import writes
from voiceflow_worker.model.copying import replace

ONE = (PERSON,)
ANSWERS = Scene(numbers=ONE, posts=1, ticks=2)
REPEATS = Scene(numbers=ONE, workers=1, ticks=1, kills=0, lost_answers=1, late_repeats=1)
HOLD = Scene(numbers=ONE, workers=1, ticks=2, holds=1, kills=0, posts=1)
OPT_OUT = replace(HOLD, holds=0, opt_outs=1)
CANCEL = replace(HOLD, holds=0, cancels=1)
REPLACED = replace(HOLD, holds=0, replaces=1, posts=2, ticks=1)
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
    "a call that is replaced": REPLACED,
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


ENTRY, SETTLED = writes.journal_entry, writes.settled
CROWDED, LIMIT, LEAVES, KEPT, TWICE = (
    "two phones ring", "more often than the limit", "leaves after", "still kept", "twice",
)  # fmt: skip
DEFECTS: dict[str, tuple[Scene, Callable[..., Any], str, str, str]] = {
    "a number that is called does not refuse the entry": (
        TWO_CALLS, ENTRY, "AtMost(NUMBER, numbers, 0, job.id),", "", CROWDED,
    ),
    "a number is not locked": (TWO_CALLS, writes._locks, "return [", "return [][:0] and [", CROWDED),
    "a lock ends before its call": (
        TWO_CALLS, writes._locks, "post.began_at + policy.submit_window + policy.ringing", "post.began_at", CROWDED,
    ),
    "a verdict gives every lock of the number back": (
        TWO_CALLS, SETTLED, "drops: list[Drop] = []",
        "drops = [Drop(NUMBER, number_digest(new.destination, store_id=store_id), None)]", CROWDED,
    ),
    "a verdict gives no lock back": (ANSWERS, SETTLED, "in (NUMBER, SECOND_PARTY)", "in (SECOND_PARTY,)", KEPT),
    "a closed gate does not refuse the entry": (
        HOLD, ENTRY, "*gates_open(job.queue, job.batch_id),", "", "leaves after the hold",
    ),
    "a call leaves long after its entry": (HOLD, Explorer._send, "if world.now == worker.asked:", "if True:", LEAVES),
    "a hold does not wait for the calls that are on their way": (
        HOLD, Explorer._people, "(not sending or world.now > tick or is_of_one)", "True", LEAVES,
    ),
    "a call that is replaced does not end": (
        REPLACED, writes.given_up, "lifecycle.superseded(owner, successor=successor, at=at, policy=policy)",
        "replace(owner, reason='replaced')", "leaves after the replace",
    ),
    "the suppression list does not refuse the entry": (
        OPT_OUT, ENTRY, "AtMost(SUPPRESSED, listed_groups(job.parties, store_id=store_id), 0),", "",
        "leaves after the opt-out",
    ),
    "an opt-out is not stored with its summary": (
        OPT_OUT_IN_A_CALL, SETTLED, "puts += entry_puts(entry, token=token)", "", "leaves after the opt-out in a call",
    ),
    "a call that was given back loses its place": (
        THREE_CALLS, Explorer._ask, "_, back = writes.changed(held, released, at=START)",
        "_, back = writes.changed(held, replace(released, goes_first=False, first_due_at=released.due_at), at=START)",
        "is leased before",
    ),
    "no revision is compared": (
        CANCEL, Writing._refused_changes,
        "revision != (change.revision if isinstance(change, Replace) else job.revision)",
        "not isinstance(change, Replace) and revision != job.revision", "the counters are",
    ),
    "a person's attempts are not counted": (
        LIMITED, ENTRY, "conditions.append(AtMost(PERSON, tuple(_persons(job, store_id)), most))", "", LIMIT,
    ),
    "an attempt is not stored": (LIMITED, writes._attempt, "return [Put(", "return [] and [Put(", LIMIT),
    "the attempt of a call in doubt is given back": (
        LIMITED, SETTLED, "puts += _attempt(new, post, policy.max_per_person.span, store_id)",
        "drops += [Drop(PERSON, one, None, post.client_request_id) for one in _persons(new, store_id)]", LIMIT,
    ),
    "a bridge does not refuse the entry": (BRIDGES, ENTRY, "AtMost(BRIDGE, numbers, 0, job.id),", "", CROWDED),
    "a number that is called does not refuse a bridge": (
        BRIDGES, writes._bridge_conditions, "conditions.append(AtMost(NUMBER, locked, 0, except_owner))", "pass",
        CROWDED,
    ),
    "a bridge is not stored": (
        BRIDGES, writes._bridge_conditions, "return conditions, [", "return conditions, [] and [", CROWDED,
    ),
    "a summary does not give the bridged number back": (
        BRIDGES, SETTLED, "drops += [Drop(BRIDGE, number, None, post.client_request_id) for number in bridged]", "",
        KEPT,
    ),
    "evidence has a condition": (
        ANSWERS, SETTLED, "at=at, conditions=conditions,",
        "at=at, conditions=[AtMost(NUMBER, (number_digest(new.number, store_id=store_id),), 0)],",
        "evidence was refused",
    ),
    "a repeat is counted again": (
        REPEATS, Writing.answer, "        return DONE\n    refusal",
        "        [self._count(one.job, one.tally) for one in write.changes]\n        return DONE\n    refusal",
        "the counters are",
    ),
    "what the store had is not compared": (
        ROLLED_BACK, Explorer._ask, "known = Same(writes.WRITERS, f\"w{place}\", worker.known)", "pass", TWICE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("scene", "function", "was", "now", "told"), spread(DEFECTS, every=5))
def test_the_explorer_finds_that(
    scene: Scene, function: Callable[..., Any], was: str, now: str, *, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(monkeypatch, function, was, now)
    _, way = explore(scene)
    assert way, "the broken rule went unnoticed"
    assert told in way[-1], "\n".join(way)
