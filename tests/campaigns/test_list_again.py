"""The list is the truth: who rings after a list was imported again, and the word for each row that says so first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.desk import NUMBERS, Deed, Desk, Row, nothing, row
from voiceflow_worker import InvalidInputError, JobState, SuppressionList, open_store
from voiceflow_worker.campaigns.enqueue_report import END_WORDS, End
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


REDIAL = {"redial_on": "busy", "redial_max": 2, "redial_after": "0s"}
THIS_COUNTS: dict[str, Any] = {"replace": True, "remove_missing": True}
FIRST = (row("Ana"), row("Bob"), row("Cat"))
GONE = {"leave_out": "status=Gone"}
BAD_DAN = {"destination": "none", "name": "Dan", "hour": "9:30", "status": "Booked"}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    second: Sequence[Row]
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    first: Sequence[Row] = FIRST
    begun: Mapping[str, Any] = field(default_factory=dict[str, Any])
    deed: Deed = nothing
    plan: Mapping[End, int]
    refused: bool = False
    removed: int = 0
    stays: int = 0
    heard: Mapping[str, str]


ALL = {"Ana": "9:30", "Bob": "9:30", "Cat": "9:30"}
CASES = [
    Case(name="the same list", second=FIRST, plan={End.SAME: 3}, heard=ALL),
    Case(
        name="another hour, without an order", second=(row("Ana", "10"), *FIRST[1:]), how={"skip_bad": True},
        plan={End.SAME: 2, End.CHANGED: 1}, refused=True, heard=ALL,
    ),
    Case(
        name="another hour", second=(row("Ana", "10"), *FIRST[1:]), how={"replace": True},
        plan={End.SAME: 2, End.CHANGED: 1}, heard=ALL | {"Ana": "10"},
    ),
    Case(
        name="cancelled by hand, and another text", second=(row("Ana", "10"), *FIRST[1:]), how=THIS_COUNTS,
        deed=lambda desk: desk.cancel("Ana"), plan={End.SAME: 2, End.BY_PERSON: 1},
        heard={"Bob": "9:30", "Cat": "9:30"},
    ),
    Case(
        name="cancelled by hand, and called again", second=(row("Ana", "10"), *FIRST[1:]),
        how={**THIS_COUNTS, "again": "cancelled"}, deed=lambda desk: desk.cancel("Ana"),
        plan={End.SAME: 2, End.NEW: 1}, heard=ALL | {"Ana": "10"},
    ),
    Case(
        name="of two with a cancelled number, nobody knows which is meant",
        first=(row("Ana"),), second=(row("Ana", "10"), row("Ana", "11")), how={"replace": True, "skip_bad": True},
        deed=lambda desk: desk.cancel("Ana"), plan={End.BAD: 2}, heard={},
    ),
    Case(
        name="of two with a cancelled number, the one with its words is meant",
        first=(row("Ana"),), second=(row("Ana"), row("Ana", "11")), how={"replace": True},
        deed=lambda desk: desk.cancel("Ana"), plan={End.BY_PERSON: 1, End.NEW: 1}, heard={"Ana": "11"},
    ),
    Case(
        name="left out while his call waits", second=(FIRST[0], row("Bob", status="Gone"), FIRST[2]),
        how={**GONE, "skip_bad": True}, plan={End.SAME: 2, End.LEFT_OUT_WAITING: 1}, refused=True, heard=ALL,
    ),
    Case(
        name="left out by order", second=(FIRST[0], row("Bob", status="Gone"), FIRST[2]), how={**GONE, **THIS_COUNTS},
        plan={End.SAME: 2, End.LEFT_OUT_WAITING: 1}, removed=1, heard={"Ana": "9:30", "Cat": "9:30"},
    ),
    Case(
        name="left out who has never been called", first=(FIRST[0],), second=(FIRST[0], row("Bob", status="Gone")),
        how=GONE, plan={End.SAME: 1}, heard={"Ana": "9:30"},
    ),
    Case(
        name="left out, changed, and a bad row that may be anybody", first=(row("Bob"), row("Cat"), row("Dan")),
        second=(row("Bob", status="Gone"), row("Cat", "10"), BAD_DAN), how={**GONE, **THIS_COUNTS, "skip_bad": True},
        plan={End.LEFT_OUT_WAITING: 1, End.CHANGED: 1, End.BAD: 1, End.IN_NO_ROW: 1}, removed=1, stays=1,
        heard={"Cat": "10", "Dan": "9:30"},
    ),
    Case(
        name="a bad row whose number can be read has its call", first=(row("Bob"), row("Cat")),
        second=(row("Bob", hour=""), row("Cat")), how={**THIS_COUNTS, "skip_bad": True},
        plan={End.SAME: 1, End.BAD: 1}, heard={"Bob": "9:30", "Cat": "9:30"},
    ),
    Case(
        name="no longer in the list, and a redial that waits", first=FIRST[:2], begun=REDIAL, second=(FIRST[2],),
        how={**REDIAL, **THIS_COUNTS}, deed=lambda desk: desk.busy("Ana"), plan={End.NEW: 1, End.IN_NO_ROW: 2},
        removed=2, heard={"Cat": "9:30"},
    ),
    Case(
        name="in no row, without an order", second=FIRST[1:], plan={End.SAME: 2, End.IN_NO_ROW: 1}, heard=ALL,
    ),
    Case(
        name="a redial that waits gets another text", first=FIRST[:1], begun=REDIAL, second=(row("Ana", "10"),),
        how={**REDIAL, **THIS_COUNTS}, deed=lambda desk: desk.busy("Ana"), plan={End.CHANGED: 1}, heard={"Ana": "10"},
    ),
    Case(
        name="keys find the people whose numbers changed",
        first=(row("Ana", unique_key="a"), row("Bob", unique_key="b")),
        second=(row("Ana", unique_key="a", status="Gone") | {"destination": "+6581239009"}, row("Bob", unique_key="b")),
        how={**GONE, **THIS_COUNTS}, plan={End.SAME: 1, End.LEFT_OUT_WAITING: 1}, removed=1, heard={"Bob": "9:30"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_row_ends_as_one_word_and_the_phones_obey(store: Store, case: Case) -> None:
    desk = Desk(store)
    assert (await desk.give(case.first, **case.begun)).plan["new"] == len(case.first)
    await case.deed(desk)
    report = await desk.give(case.second, **case.how)
    assert {end: count for end, count in report.plan.items() if count} == case.plan
    assert (report.refused, report.removed, report.stays) == (case.refused, case.removed, case.stays)
    assert await desk.heard() == case.heard
    if case.refused:
        order = "replace" if End.CHANGED in case.plan else "remove_missing"
        assert all(order in found.fields for found in report.findings if found.is_error)
    words = report.plan_in_words()
    assert not words or all(f"{count} {END_WORDS[end]}" in words for end, count in case.plan.items())
    if case.stays:
        assert "Dan (default." in report.findings[-1].message, "it is named"


@pytest.mark.parametrize("key", ["", "k1"])
@pytest.mark.parametrize("replace", [False, True])
async def test_a_call_that_ended_without_a_ring_is_over_for_a_row_with_other_words(
    store: Store, key: str, *, replace: bool
) -> None:
    """Removing a number from the suppression list restores no call."""
    desk, listed = Desk(store), SuppressionList(store)
    await desk.give([row("Ana", unique_key=key), row("Bob")])
    await listed.add(NUMBERS["Ana"])
    assert await desk.heard() == {"Bob": "9:30"}
    for hour in ("9:30", "10"):
        report = await desk.give([row("Ana", hour, unique_key=key), row("Bob")], replace=replace)
        assert (report.suppressed, report.duplicates, report.ended, report.over) == (1, 1, {}, 0), "it is still listed"
    await listed.remove(NUMBERS["Ana"])
    report = await desk.give([row("Ana", "10", unique_key=key), row("Bob")], replace=replace)
    assert {end: count for end, count in report.plan.items() if count} == {End.OVER: 1, End.SAME: 1}
    assert (dict(report.ended), await desk.heard()) == ({JobState.CANCELLED: 1}, {})


@pytest.mark.parametrize("more", [{}, {"replace": True}])
async def test_the_preview_of_a_list_for_a_cancelled_batch_says_what_the_import_says(
    store: Store, more: Mapping[str, Any]
) -> None:
    desk = Desk(store)
    await desk.give([row("Ana")])
    await desk.queue.cancel_batch("b1")
    campaign = desk.campaign([row("Ana"), row("Bob")], **more)
    for does in (campaign.preview, campaign.start):
        with pytest.raises(InvalidInputError, match="batch b1 was cancelled"):
            await does(desk.queue)


async def completed(desk: Desk) -> None:
    for job in await desk.engine.send():
        await desk.engine.summarise(job, SessionStatus.COMPLETED)


KEYS_LATER: Mapping[str, tuple[Deed, End]] = {
    "waits": (nothing, End.CHANGED), "by hand": (lambda desk: desk.cancel("Ana"), End.BY_PERSON),
    "completed": (completed, End.OVER),
}  # fmt: skip


@pytest.mark.parametrize("end", KEYS_LATER)
@pytest.mark.parametrize("replace", [False, True])
async def test_a_key_that_comes_later_finds_the_call_in_any_batch(store: Store, end: str, *, replace: bool) -> None:
    desk, (deed, word) = Desk(store), KEYS_LATER[end]
    await desk.give([row("Ana")])
    await deed(desk)
    report = await desk.give([row("Ana", unique_key="ana-1")], replace=replace)
    assert report.duplicates == report.rows == 1
    (job,) = await desk.queue.find()
    assert job.keys[1:] == ("ana-1",)
    report = await desk.give([row("Ana", "10", unique_key="ana-1")], batch="b2", replace=True)
    assert {name: count for name, count in report.plan.items() if count} == {word: 1}
    assert await desk.heard() == ({"Ana": "10"} if word is End.CHANGED else {})


async def test_of_two_calls_of_one_number_that_both_are_over_no_row_has_to_say_which_is_its_own(
    clock: StillClock,
) -> None:
    async with open_store("memory://", clock=clock) as store:
        desk = Desk(store)
        await desk.give([row("Ana", "9"), row("Ana", "11")])
        for _ in range(2):
            (job,) = await desk.engine.send()
            await desk.engine.summarise(job, SessionStatus.COMPLETED)
            clock.advance(timedelta(hours=1))
        report = await desk.give([row("Ana", "10"), row("Ana", "12"), row("Bob")], replace=True)
        assert {end: count for end, count in report.plan.items() if count} == {End.OVER: 2, End.NEW: 1}
        assert (report.refused, await desk.heard()) == (False, {"Bob": "9:30"})


@pytest.mark.parametrize("has_keys", [False, True])
async def test_nothing_is_missing_from_a_new_batch_and_a_list_without_a_row_removes_nobody(
    store: Store, *, has_keys: bool
) -> None:
    """Each dated export is a batch of its own."""
    desk = Desk(store)
    monday = [row(name, unique_key=f"k-{name}" if has_keys else "") for name in ("Ana", "Bob")]
    assert (await desk.give(monday, batch="visits-mon")).enqueued == 2
    report = await desk.give(monday[:1], batch="visits-tue", again=not has_keys, **THIS_COUNTS)
    (found,) = [each for each in report.findings if each.is_error]
    assert "nothing can be missing from batch visits-tue, which is new; 1 of these people waits in visits-mon" in (
        found.message
    )
    assert (report.refused, "`batch: visits-mon`" in found.message) == (True, True)
    report = await desk.give([row("Dan")], batch="visits-wed", **THIS_COUNTS)
    assert (report.refused, "which is new" in report.findings[0].message) == (True, True)
    report = await desk.give([], batch="visits-mon", **THIS_COUNTS)
    assert (report.refused, "each waiting call of its batch" in report.findings[-1].message) == (True, True)
    assert (await desk.give(monday[:1], batch="visits-mon", **THIS_COUNTS)).removed == 1
    assert await desk.heard() == {"Ana": "9:30"}
