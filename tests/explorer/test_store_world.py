"""What is stored together keeps its promises whatever happens in between, and the explorer notices when it does not.

Small scenes run every day; the large ones are marked slow.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.explorer.store_world import OTHER, PERSON, POLICY, Rules, Scene, explore
from tests.support.everyday import spread
from voiceflow_worker.backends.memory.store import Memory
from voiceflow_worker.core import writes
from voiceflow_worker.core.edits import BatchEdits
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.store import AtMost, Condition, Drop, Put, Replace, Write
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job

ONE = (PERSON,)
ANSWERS = Scene(numbers=ONE, posts=1, ticks=2)
REPEATS = Scene(numbers=ONE, workers=1, ticks=1, kills=0, lost_answers=1, late_repeats=1)
HOLD = Scene(numbers=ONE, workers=1, ticks=2, holds=1, kills=0, posts=1)
OPT_OUT = replace(HOLD, holds=0, opt_outs=1)
CANCEL = replace(HOLD, holds=0, cancels=1)
EDIT = replace(HOLD, holds=0, edits=1, posts=2, ticks=1)
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
    "an edit": EDIT,
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


# --- Mutations ---

Builder = Callable[..., tuple[Job, Write]]


def without_condition(build: Builder, drops: Callable[[Condition], bool]) -> Builder:
    """The builder, whose writes lack some conditions."""

    def built(*args: Any, **kwargs: Any) -> tuple[Job, Write]:
        job, write = build(*args, **kwargs)
        return job, replace(
            write, conditions=tuple(condition for condition in write.conditions if not drops(condition))
        )

    return built


def in_namespace(*namespaces: str) -> Callable[[Condition], bool]:
    return lambda condition: getattr(condition, "namespace", None) in namespaces


def with_puts(build: Builder, change: Callable[[Put], Put | None]) -> Builder:
    """The builder, whose records are changed or left out."""

    def built(*args: Any, **kwargs: Any) -> tuple[Job, Write]:
        job, write = build(*args, **kwargs)
        puts = tuple(new for put in write.puts if (new := change(put)) is not None)
        return job, replace(write, puts=puts)

    return built


def with_drops(build: Builder, change: Callable[[Drop], Drop | None]) -> Builder:
    """The builder, whose releases are changed or left out."""

    def built(*args: Any, **kwargs: Any) -> tuple[Job, Write]:
        job, write = build(*args, **kwargs)
        drops = tuple(new for drop in write.drops if (new := change(drop)) is not None)
        return job, replace(write, drops=drops)

    return built


def without(namespace: str) -> Callable[[Any], Any]:
    return lambda part: None if part.namespace == namespace else part


def settled_and_conditional(*args: Any, **kwargs: Any) -> tuple[Job, Write]:
    job, write = writes.settled(*args, **kwargs)
    return job, replace(write, conditions=(AtMost(writes.NUMBER, (number_digest(job.number, store_id="store"),), 0),))


def lock_too_short(put: Put) -> Put:
    end = put.ends_at
    return (
        replace(put, ends_at=end - POLICY.ringing - POLICY.submit_window) if end and put.namespace == "number" else put
    )


def settled_and_released_early(old: Job, new: Job, **kwargs: Any) -> tuple[Job, Write]:
    job, write = writes.settled(old, new, **kwargs)
    return job, replace(
        write, drops=(*write.drops, Drop(writes.NUMBER, number_digest(job.destination, store_id="store"), None))
    )


def attempt_given_back_in_doubt(old: Job, new: Job, **kwargs: Any) -> tuple[Job, Write]:
    job, write = writes.settled(old, new, **kwargs)
    over = tuple(
        Drop(put.namespace, put.group, None, put.member) for put in write.puts if put.namespace == writes.PERSON
    )
    return job, replace(
        write, puts=tuple(put for put in write.puts if put.namespace != writes.PERSON), drops=(*write.drops, *over)
    )


def taken_without_its_values(edits: BatchEdits, job: Job, **_: Any) -> Job:
    return replace(job, edit="e") if any(edits.ordered.values()) else job


def released_behind_all_others(job: Job, *, at: datetime, **more: Any) -> Job:
    return replace(lifecycle.release(job, at=at, **more), goes_first=False, first_due_at=at + timedelta(minutes=1))


class ARepeatIsCountedAgain(Memory):
    def answer(self, write: Write, at: Any) -> Any:
        for change in write.changes if self._was_written(write, self._revisions_of(write), at) else ():
            self._count(change.job, change.tally)
        return super().answer(write, at)


class NoRevisionIsCompared(Memory):
    def _refused_changes(self, write: Write, revisions: Any, at: Any) -> Any:
        is_next = any(isinstance(each, Replace) for each in write.changes)
        return None if is_next else super()._refused_changes(write, revisions, at)


ENTRY, SETTLED, BRIDGE = writes.journal_entry, writes.settled, writes.bridge
CROWDED, LIMIT, LEAVES, KEPT, TWICE = (
    "two phones ring",
    "more often than the limit",
    "leaves after",
    "still kept",
    "twice",
)

MUTATIONS: dict[str, tuple[Scene, Rules, str]] = {
    "a number that is called does not refuse the entry": (
        TWO_CALLS, Rules(entry=without_condition(ENTRY, in_namespace(writes.NUMBER))), CROWDED,
    ),
    "a number is not locked": (TWO_CALLS, Rules(entry=with_puts(ENTRY, without(writes.NUMBER))), CROWDED),
    "a lock ends before its call": (
        TWO_CALLS, Rules(entry=with_puts(ENTRY, lock_too_short)), CROWDED,
    ),
    "a verdict gives every lock of the number back": (TWO_CALLS, Rules(settled=settled_and_released_early), CROWDED),
    "a verdict gives no lock back": (ANSWERS, Rules(settled=with_drops(SETTLED, without(writes.NUMBER))), KEPT),
    "a closed gate does not refuse the entry": (
        HOLD, Rules(entry=without_condition(ENTRY, in_namespace(GATES))), "leaves after the hold",
    ),
    "a call leaves long after its entry": (HOLD, Rules(leaves_in_time=False), LEAVES),
    "a hold does not wait for the calls that are on their way": (HOLD, Rules(order_waits=False), LEAVES),
    "an edit that was not taken does not refuse the entry": (
        EDIT, Rules(entry=without_condition(ENTRY, in_namespace(writes.EDITED))), "leaves after the edit",
    ),
    "a call that comes back is taken to have taken the edit": (
        EDIT, Rules(taken=taken_without_its_values),
        "leaves after the edit",
    ),
    "the suppression list does not refuse the entry": (
        OPT_OUT, Rules(entry=without_condition(ENTRY, in_namespace(SUPPRESSED))), "leaves after the opt-out",
    ),
    "an opt-out is not stored with its summary": (
        OPT_OUT_IN_A_CALL, Rules(settled=with_puts(SETTLED, without(SUPPRESSED))), "leaves after the opt-out in a call",
    ),
    "a call that was given back loses its place": (
        THREE_CALLS, Rules(release=released_behind_all_others), "is leased before",
    ),
    "no revision is compared": (CANCEL, Rules(memory=NoRevisionIsCompared), "the counters are"),
    "a person's attempts are not counted": (
        LIMITED, Rules(entry=without_condition(ENTRY, in_namespace(writes.PERSON))), LIMIT,
    ),
    "an attempt is not stored": (
        LIMITED,
        Rules(entry=with_puts(ENTRY, without(writes.PERSON)), settled=with_puts(SETTLED, without(writes.PERSON))),
        LIMIT,
    ),
    "the attempt of a call in doubt is given back": (LIMITED, Rules(settled=attempt_given_back_in_doubt), LIMIT),
    "a bridge does not refuse the entry": (
        BRIDGES, Rules(entry=without_condition(ENTRY, in_namespace(writes.BRIDGE))), CROWDED,
    ),
    "a number that is called does not refuse a bridge": (
        BRIDGES, Rules(bridge=without_condition(BRIDGE, in_namespace(writes.NUMBER))), CROWDED,
    ),
    "a bridge is not stored": (BRIDGES, Rules(bridge=with_puts(BRIDGE, without(writes.BRIDGE))), CROWDED),
    "a summary does not give the bridged number back": (
        BRIDGES, Rules(settled=with_drops(SETTLED, without(writes.BRIDGE))), KEPT,
    ),
    "evidence has a condition": (ANSWERS, Rules(settled=settled_and_conditional), "evidence was refused"),
    "a repeat is counted again": (REPEATS, Rules(memory=ARepeatIsCountedAgain), "the counters are"),
    "what the store had is not compared": (ROLLED_BACK, Rules(knows=False), TWICE),
}  # fmt: skip


@pytest.mark.parametrize(("scene", "rules", "told"), spread(MUTATIONS, every=5))
def test_the_explorer_finds_that(scene: Scene, rules: Rules, told: str) -> None:
    _, way = explore(scene, rules)
    assert way, "the broken rule went unnoticed"
    assert told in way[-1], "\n".join(way)
