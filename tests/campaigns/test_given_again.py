"""A list that is given again: what of it is the same, new, changed or missing; also of two starts at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace as copied

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.reading import file_of, saying
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.started import enqueue_file, report_of
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallQueue
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.campaigns.called_before import TRIAL
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue import CHUNK, EnqueueOptions
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.plan import LOCK_LENGTH
from voiceflow_worker.core.admission import AdmissionResult, Admitter
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import IntakeError, InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.jobs.job import Job, JobState, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio
ANA, BEN, CHO = "+6587654321", "+6587654322", "+6587654323"
ROWS = f"destination,name\n{ANA},Ana\n{BEN},Ben\n"
KEYED = "destination,name,unique_key"


FIRST = saying("Your visit is on Monday, {{name}}.", batch_id=None)
CORRECTED = saying("Your visit is on Tuesday, {{name}}.", batch_id=None)
AtThatMoment = Callable[[Callable[[], object]], None]


async def enqueue(
    queue: CallQueue, path: Path, options: CampaignOptions = FIRST, **how: Unpack[EnqueueOptions]
) -> EnqueueReport:
    return await enqueue_file(queue, path, options, **how)


class Give:
    """Gives a list, which is a text or its rows below a header, as a file of this name."""

    def __init__(self, queue: CallQueue, folder: Path) -> None:
        self.queue, self.folder = queue, folder

    async def __call__(
        self, rows: str | Sequence[str], options: CampaignOptions = FIRST, *, name: str = "visits.csv",
        columns: str = "destination,name", **how: Unpack[EnqueueOptions],
    ) -> EnqueueReport:  # fmt: skip
        text = rows if isinstance(rows, str) else "\n".join([columns, *rows, ""])
        return await enqueue_file(self.queue, file_of(self.folder, text, name), options, **how)


@pytest.fixture
def give(queue: CallQueue, tmp_path: Path) -> Give:
    return Give(queue, tmp_path)


def asked(what: str) -> CampaignOptions:
    """The options with one thing changed of those that decide what rings, and when."""
    at = datetime(2030, 1, 8, 15, tzinfo=UTC)
    changed: dict[str, Any] = {
        "text": {"template": CORRECTED.template}, "source": {"source": "+6531234568"}, "priority": {"priority": 3},
        "not_before": {"not_before": at}, "valid_until": {"valid_for": timedelta(hours=3)},
        "window": {"window": CallWindow.parse("09:00-18:00")},
        "redial": {"redial": RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=2, after=timedelta(minutes=5))},
    }  # fmt: skip
    return replace(FIRST, **changed[what])


CHANGES = ["text", "source", "priority", "not_before", "valid_until", "window", "redial"]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("what", CHANGES)
async def test_a_row_that_differs_and_waits_is_an_error_that_names_what_differs_until_it_is_replaced(
    queue: CallQueue, give: Give, what: str, keyed: bool
) -> None:
    names, numbers = ("Ana", "Ben", "Cho"), (ANA, BEN, CHO)
    rows = [f"{numbers[n]},{name},{f'v-{n}' if keyed else ''}" for n, name in enumerate(names)]
    await give(rows[:2], columns=KEYED)
    old = await queue.find()
    report = await give(rows, asked(what), columns=KEYED)
    assert (report.refused, report.changed, report.rejected, len(await queue.find(limit=None))) == (True, 2, 0, 2)
    assert (await give(rows, asked(what), columns=KEYED, skip_bad=True)).refused, "it skips bad rows alone"
    assert all(what in found.message and "replace" in found.fields for found in report.findings)
    report = await give(rows, asked(what), columns=KEYED, dry_run=True, replace=True)
    assert report.plan_in_words() == "0 the same, 1 new, 2 changed"
    report = await give(rows, asked(what), columns=KEYED, replace=True)
    assert (report.enqueued, report.replaced, report.is_valid) == (1, 2, True)
    found = await queue.find(limit=None)
    assert {job.id for job in old} <= {job.id for job in found}, "a call that is changed stays the same call"
    assert sorted(job.destination for job in found) == [*numbers]
    report = await give(rows, asked(what), columns=KEYED, replace=True)
    assert (report.enqueued, report.replaced, report.duplicates) == (0, 0, 3)


async def test_the_same_file_again_is_the_same_however_its_times_are_counted(give: Give, clock: StillClock) -> None:
    starts, window = ColumnTime.read("visit - 24h"), CallWindow.parse("09:00-18:00")
    options = replace(FIRST, valid_for=timedelta(days=700), not_before=starts, window=window)
    for duplicates in (0, 1):
        report = await give([f"{ANA},Ana,2030-01-08 15:00+00:00"], options, columns="destination,name,visit")
        clock.advance(timedelta(hours=5))
        assert (report.duplicates, report.findings) == (duplicates, ())


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.SUBMITTED])
@pytest.mark.parametrize("keyed", [False, True])
async def test_one_that_is_under_way_or_over_is_told_with_its_state_and_the_rest_goes_on(
    queue: CallQueue, give: Give, state: JobState, keyed: bool
) -> None:
    row = f"{ANA},Ana,{'v-77' if keyed else ''}"
    await give([row], columns=KEYED)
    await Changes(queue.store, CallPolicy()).change_all(await queue.find(), lambda job: copied(job, state=state))
    for replaces in (False, True):
        report = await give([row, f"+658765432{3 + replaces},Cho,"], CORRECTED, columns=KEYED, replace=replaces)
        assert (report.in_progress, report.enqueued, report.rejected, report.replaced) == (1, 1, 0, 0)
        (found,) = report.findings
        assert (found.is_error, state in found.message, "text" in found.message) == (False, True, True)


@pytest.mark.parametrize("replaces", [False, True])
async def test_rows_of_one_number_that_nobody_can_tell_apart_are_told_and_nothing_is_done(
    queue: CallQueue, give: Give, replaces: bool
) -> None:
    async def visits(first: str, second: str, **how: Any) -> EnqueueReport:
        rows = f"{ANA},Ana,{first}", f"{ANA},Ana,{second}", f"{BEN},Ben,Monday"
        options = saying("Come on {{visit}}, {{name}}.", batch_id=None)
        return await give(rows, options, columns="destination,name,visit", **how)

    await visits("Monday", "Tuesday")
    before = [job.id for job in await queue.find()]
    report = await visits("Wednesday", "Thursday", replace=replaces, skip_bad=True)
    assert (report.rejected, report.duplicates, report.replaced, report.enqueued, report.missing) == (2, 1, 0, 0, 0)
    assert [job.id for job in await queue.find()] == before
    report = await visits("Tuesday", "Thursday", replace=replaces, skip_bad=True)
    assert (report.refused, report.changed, report.duplicates, report.replaced) == (not replaces, 1, 2, replaces)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_text_that_goes_back_to_what_it_was_is_a_new_call_in_place_of_the_one_that_waits(
    queue: CallQueue, give: Give, *, is_cancelled: bool
) -> None:
    await give(ROWS)
    if is_cancelled:
        await queue.cancel_many([job.id for job in await queue.find()])
        assert (await give(ROWS, CORRECTED)).plan["cancelled_by_person"] == 2, "for good, whatever the rows say"
        assert (await give(ROWS, CORRECTED, again=frozenset({JobState.CANCELLED}))).enqueued == 2
    for options in (CORRECTED, FIRST, CORRECTED, FIRST):
        report = await give(ROWS, options, replace=True, again=frozenset({JobState.CANCELLED}))
        assert report.replaced + report.duplicates == 2
        text = "Monday" if options is FIRST else "Tuesday"
        assert [text in job.body for job in await queue.find(states=[JobState.QUEUED])] == [True, True]


async def test_a_visit_that_has_moved_is_replaced_in_the_batch_of_last_week(queue: CallQueue, give: Give) -> None:
    row = [f"{ANA},Ana,v-77"]
    await give(row, name="monday.csv", columns=KEYED)
    report = await give(row, asked("not_before"), name="tuesday.csv", columns=KEYED)
    assert (report.refused, report.changed, "batch monday" in report.findings[0].message) == (True, 1, True)
    report = await give(row, asked("not_before"), name="tuesday.csv", columns=KEYED, replace=True)
    (job,) = await queue.find(states=[JobState.QUEUED])
    assert (report.replaced, job.batch_id, job.unique_key) == (1, "tuesday", "v-77")
    (moved,) = report.findings
    assert "of batch monday is the one of this row: it ends there, and is made anew in batch tuesday" in moved.message
    same = await give([*row, "+6587654322,Ben,v-78"], asked("not_before"), name="wednesday.csv", columns=KEYED)
    assert (same.enqueued, same.duplicates) == (1, 1)
    assert "of batch tuesday is the one of this row: it stays there" in same.findings[0].message


@pytest.mark.parametrize("keyed", [False, True])
async def test_what_is_no_longer_in_the_list_is_told_and_cancelled_while_it_waits(
    queue: CallQueue, give: Give, keyed: bool
) -> None:
    numbers = [ANA, BEN, CHO, "+6587654324"]
    rows = [f"{number},P,{'k' + number if keyed else ''}" for number in numbers]
    await give(rows, columns=KEYED)
    first = (await queue.find())[0]
    await Changes(queue.store, CallPolicy()).change_all([first], lambda job: copied(job, state=JobState.SUBMITTED))
    report = await give(rows[2:], columns=KEYED, dry_run=True)
    assert report.plan_in_words() == "2 the same, 0 new, 1 in no row"
    report = await give([*rows[2:], "none,P,"], columns=KEYED, remove_missing=True, skip_bad=True)
    assert (report.missing, report.removed, report.stays) == (1, 0, 1)
    assert "P (default." in report.findings[-1].message, "it is named"
    report = await give(rows[2:], columns=KEYED, remove_missing=True)
    assert (report.missing, report.removed, report.duplicates) == (1, 1, 2)
    assert sorted(job.destination for job in await queue.find(states=[JobState.QUEUED])) == numbers[2:]
    assert (await queue.get(first.id)).state is JobState.SUBMITTED
    assert (await give(rows, columns=KEYED)).enqueued == 1, "whoever is in the list again is called"


async def test_calls_of_rows_that_wait_behind_a_limit_are_not_removed(queue: CallQueue, give: Give) -> None:
    await give(ROWS)
    report = await give(ROWS, replace(CORRECTED, limit=1), replace=True, remove_missing=True)
    assert (report.replaced, report.removed, report.missing) == (1, 0, 0)
    assert len(await queue.find(states=[JobState.QUEUED])) == 2


LEAVES, RETURNS = (JobState.QUEUED, JobState.SUBMITTED), (JobState.SENDING, JobState.QUEUED)


@EACH_STORE
@pytest.mark.parametrize(
    ("who", "states", "counts"),
    [
        (ANA, LEAVES, (1, 1, 1)), (ANA, RETURNS, (2, 0, 1)), (ANA, (JobState.QUEUED, *RETURNS), (2, 0, 1)),
        (CHO, LEAVES, (2, 0, 0)), (CHO, RETURNS, (2, 0, 1)), (CHO, (JobState.QUEUED, *RETURNS), (2, 0, 1)),
    ],
)  # fmt: skip
async def test_a_call_that_leaves_or_returns_while_it_is_replaced_or_removed_rings_once_and_the_row_says_so(
    queue: CallQueue, give: Give, before_rows_are_stored: AtThatMoment, *, who: str, states: Sequence[JobState],
    counts: tuple[int, int, int],
) -> None:  # fmt: skip
    async def move(*states: JobState) -> None:
        for state in states:
            moved = [job for job in await queue.find() if job.destination == who]
            await Changes(queue.store, CallPolicy()).change_all(moved, lambda job: copied(job, state=state))  # noqa: B023

    await give(f"{ROWS}{CHO},Cho\n")
    await move(states[0])
    before_rows_are_stored(partial(move, *states[1:]))
    report = await give(ROWS, CORRECTED, replace=True, remove_missing=True)
    assert (report.replaced, report.in_progress, report.removed) == counts
    assert f"{counts[0]} changed" in report.plan_in_words()
    assert [any(f"is {each}," in found.message for each in ("sending", "submitted")) for found in report.findings] == (
        [True] * counts[1]
    )
    await Engine(queue.store, ScriptedVoice()).send()
    rang = await queue.find(states=[JobState.SUBMITTED])
    assert Counter(job.destination for job in rang) == {ANA: 1, BEN: 1} | ({CHO: 1} if counts[2] == 0 else {})


@pytest.mark.parametrize(("key", "again"), [(f"{TRIAL}1", 0), ("order-1", 1)])
async def test_a_trial_at_ones_own_telephone_is_no_call_before(give: Give, key: str, again: int) -> None:
    hello, trial = saying("Hello.", batch_id=None), [f"{ANA},{key}"]
    assert (await give(trial, hello, name="people-trial.csv", columns="destination,unique_key")).enqueued == 1
    report = await give(ROWS, hello)
    assert (report.again, report.enqueued) == (again, 0 if again else 2)


async def test_a_long_file_goes_on_after_a_killed_run_that_stored_its_first_part(give: Give) -> None:
    """The rows are read a thousand at a time, and all rows of the first part exist already."""
    rows = [f"+65{90000000 + place},Ana" for place in range(CHUNK)]
    await give(rows)
    report = await give([*rows, "+6590000000,Ben"])
    assert (report.refused, report.enqueued, report.duplicates) == (False, 1, CHUNK)


async def test_other_words_in_another_batch_are_not_asked_about(give: Give) -> None:
    await give(ROWS)
    assert (await give([f"{ANA},Anna,april"], CORRECTED, columns="destination,name,batch_id")).enqueued == 1


@pytest.mark.parametrize("first", [True, False], ids=["keys-first", "keys-later"])
async def test_a_row_and_a_call_with_keys_of_a_user_are_two_visits_and_of_all_others_the_number_says_who_it_is(
    queue: CallQueue, give: Give, *, first: bool
) -> None:
    rows = {True: [f"{ANA},Ana,v-1", f"{BEN},Ben,v-2"], False: [f"{ANA},Ana,", f"{BEN},Ben,"]}
    await give(rows[first], columns=KEYED)
    report = await give(rows[not first], CORRECTED, columns=KEYED, replace=True, remove_missing=True)
    assert (report.replaced, report.enqueued, report.missing) == (2, 0, 0)
    assert len(await queue.find(limit=None)) == 2
    assert (await give([f"{ANA},Ana,v-3"], CORRECTED, columns=KEYED)).enqueued == 1, "another visit"


@pytest.mark.parametrize("people", [2, 900])
async def test_a_renamed_file_is_refused_with_its_count_for_a_week(
    queue: CallQueue, give: Give, clock: StillClock, people: int
) -> None:
    """Of a long file only some rows are looked up, and the batch that one of them names is compared with all rows."""
    rows = [f"+65{90000000 + place},Ana" for place in range(people)]
    copy, name = [*rows, "+6587654329,Ben"], "people (1).csv"
    await give(rows, name="people.csv")
    clock.advance(timedelta(days=2))
    report = await give(copy, name=name)
    assert (report.refused, report.again, len(await queue.find(limit=None))) == (True, people, people)
    (found,) = [found for found in report.findings if found.is_error]
    assert (found.row, "again" in found.fields, "2 d ago" in found.message) == (2, True, True)
    clock.advance(timedelta(days=6))
    assert (await give(copy, name=name)).enqueued == people + 1


async def test_the_old_text_in_another_batch_of_the_file_hides_no_call(queue: CallQueue, give: Give) -> None:
    options, columns = saying("Your visit is on {{visit}}, {{name}}.", batch_id=None), "destination,name,visit,batch_id"
    await give([f"{ANA},Ana,Monday,april"], options, columns=columns)
    report = await give([f"{ANA},Ana,Monday,march", f"{ANA},Ana,Tuesday,april"], options, columns=columns)
    assert (report.refused, report.enqueued, len(await queue.find(limit=None))) == (True, 0, 1)
    assert sorted(found.row or 0 for found in report.findings if found.is_error) == [2, 3]


async def test_a_batch_of_many_pages_is_read_to_its_end(give: Give, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.campaigns.called_before.PAGE", 2)
    many = [f"+65{87654300 + place},Ana" for place in range(5)]
    await give(many)
    assert (await give(many, CORRECTED)).changed == 5
    assert (await give(many, CORRECTED, replace=True)).replaced == 5
    assert (await give(many[:1], CORRECTED, remove_missing=True)).removed == 4


async def test_another_spelling_of_a_number_is_a_call_to_the_same_phone(queue: CallQueue, give: Give) -> None:
    await give(["+541143211234,Ana"])
    report = await give(["+5491143211234,Ana"])
    assert (report.refused, report.changed, report.enqueued, len(await queue.find(limit=None))) == (True, 1, 0, 1)
    assert (await give(["+5491143211234,Ana"], again=True)).enqueued == 1


@EACH_STORE
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replace_that_is_killed_at_any_write_leaves_each_row_old_or_new_never_both_never_neither(
    queue: CallQueue, tmp_path: Path, clock: StillClock, when: str
) -> None:
    people = [f"+6587654{place:03}" for place in range(8)]
    rows = [f"{person},P,{'k' + person if place % 2 else ''}" for place, person in enumerate(people)]
    header, killed = "destination,name,unique_key", 0
    for step in range(1, 10):
        batch = f"b{step}"
        await enqueue(
            queue, file_of(tmp_path, "\n".join([header, *rows[:6]])), replace(FIRST, batch_id=batch), replace=True
        )
        writes = 0

        async def die(call: StoreCall) -> None:
            nonlocal writes
            writes += call.name == "write"
            if writes == step:  # noqa: B023 - it is called within this turn
                raise StoreUnavailableError("killed")

        dying = CallQueue(FaultyStore(queue.store, **{when: die}))
        path = file_of(tmp_path, "\n".join([header, *rows[2:]]))
        given: EnqueueOptions = {"replace": True, "remove_missing": True}
        try:
            await enqueue(dying, path, replace(CORRECTED, batch_id=batch), **given)
        except StoreUnavailableError:
            killed += 1
            calls = [job for job in await queue.find(batch_id=batch, limit=None) if job.may_call]
            found = Counter(job.destination for job in calls)
            assert max(found.values()) == 1, "never both"
            assert set(people[2:6]) <= found.keys(), "never neither"
            clock.advance(LOCK_LENGTH + timedelta(seconds=1))
            await enqueue(queue, path, replace(CORRECTED, batch_id=batch), **given)
        waiting = await queue.find(batch_id=batch, states=[JobState.QUEUED])
        assert sorted(job.destination for job in waiting) == people[2:]
        assert all("Tuesday" in job.body for job in waiting)
        await queue.cancel_many([job.id for job in waiting])
        await Changes(queue.store, CallPolicy()).change_all(
            await queue.find(limit=None, states=[JobState.CANCELLED]), lambda job: copied(job, unique_key=None)
        )
    assert 4 <= killed < 9, "every write was cut, and the last turns were whole"


@EACH_STORE
@pytest.mark.parametrize("newer", [False, True])
async def test_a_list_that_is_cut_between_two_changes_can_only_be_completed_and_the_status_says_how_far_it_is(
    queue: CallQueue, give: Give, tmp_path: Path, clock: StillClock, *, newer: bool
) -> None:
    rows = [f"+6587654{place:03},P" for place in range(30)]
    await give(rows)
    edits = 0

    async def die(call: StoreCall) -> None:
        nonlocal edits
        edits += any("Tuesday" in job.body for job in call.stores)
        if edits == 3:
            raise StoreUnavailableError("killed")

    with suppress(StoreUnavailableError):
        await Give(CallQueue(FaultyStore(queue.store, before=die)), tmp_path)(
            [*rows, f"{ANA},Ana"], CORRECTED, replace=True
        )
    clock.advance(LOCK_LENGTH + timedelta(seconds=1))
    (cut,) = (await queue.status()).imports
    assert f"list of {cut.gate.since:%H:%M} half applied: 20 of 30 changes" in cut.gate.reason
    assert (cut.calls, [ANA in job.numbers for job in await queue.find(batch_id="visits", limit=None)].count(True)) == (
        1,
        1,
    )
    (told,) = [each for each in (await read_queue(queue)).conditions if "half applied" in each.message]
    assert told.remedy == "start the same list again, or a newer one with `--replace`, which completes it"
    with pytest.raises(InvalidInputError, match=r"nothing was discarded: .* half applied"):
        await queue.discard_staged("visits")
    assert (await give(rows, CORRECTED)).refused, "it says nothing of what it changes"
    people = rows if newer else [*rows, f"{ANA},Ana"]
    report = await give(people, CORRECTED, replace=True)
    assert (report.replaced, report.duplicates, report.missing) == (10, 20 + (not newer), int(newer))
    assert (await queue.status()).imports == ()
    calls = await queue.find(limit=None)
    assert all("Tuesday" in job.body for job in calls)
    assert len(calls) == len({job.destination for job in calls}) == 31


@pytest.mark.parametrize("state", [JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT])
async def test_calls_on_their_way_are_looked_at_again_and_follow_the_list_in_their_next_attempt(
    queue: CallQueue, give: Give, state: JobState
) -> None:
    redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=2, after=timedelta(minutes=5))
    first, corrected = replace(FIRST, redial=redial), replace(CORRECTED, redial=redial)
    await give(ROWS, first)
    engine = Engine(queue.store, ScriptedVoice(answers=[unknown()] * 2 if state is JobState.IN_DOUBT else []))
    await (engine.journal() if state is JobState.SENDING else engine.send())
    report = await give([f"{ANA},Ana"], corrected, replace=True, remove_missing=True)
    assert (report.replaced, report.on_the_way, report.missing, report.removed) == (0, 1, 1, 0)
    told = [found.message for found in report.findings]
    assert [f"is {state.value}, and may ring with the old text" in each for each in told] == [True, False]
    assert "1 call may still ring, and are not called again" in told[1]
    again = await give([f"{ANA},Ana"], corrected, replace=True, remove_missing=True)
    assert (again.on_the_way, again.missing) == (1, 0)
    for job in await queue.find():
        await engine.summarise(job, SessionStatus.BUSY, number=1)
    ana, ben = await queue.find()
    assert (ana.state, "Tuesday" in ana.body, ben.state) == (JobState.QUEUED, True, JobState.UNREACHED)


# -- one list under two names, started at once: the search alone is no guard -------------------------------------------


@pytest.fixture
def before_rows_are_stored(monkeypatch: pytest.MonkeyPatch) -> AtThatMoment:
    """Do something once, at the moment at which the first rows that were looked up are about to be stored."""

    def at_that_moment(act: Callable[[], object]) -> None:
        acts = [act]
        admit = Admitter.admit

        async def delayed(self: Admitter, *arguments: object, **options: object) -> Sequence[AdmissionResult]:
            while acts:
                await acts.pop()()  # type: ignore[misc]
            return await admit(self, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Admitter, "admit", delayed)

    return at_that_moment


async def telephones(queue: CallQueue) -> Counter[str]:
    return Counter(job.destination for job in await queue.find(limit=None))


@EACH_STORE
async def test_the_second_waits_and_is_then_refused_with_the_name_of_the_first(
    queue: CallQueue, give: Give, before_rows_are_stored: AtThatMoment
) -> None:
    """The first one's turn is renewed by nobody while it waits here, so it would end after a while by itself."""
    refused: list[str] = []

    async def second() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("voiceflow_worker.campaigns.plan.TIMEOUT", LOCK_LENGTH / 2)
            with pytest.raises(IntakeError) as caught:
                await give(ROWS, name="people (1).csv")
        refused.append(str(caught.value))

    before_rows_are_stored(second)
    assert (await give(ROWS, name="people.csv")).enqueued == 2
    assert "batch people," in refused[0]
    assert set((await telephones(queue)).values()) == {1}
    report = await give(ROWS, name="people (1).csv")
    assert (report.refused, report.again) == (True, 2)


@EACH_STORE
async def test_one_that_stood_still_stores_nothing_beside_its_successor(
    queue: CallQueue, give: Give, clock: StillClock, before_rows_are_stored: AtThatMoment
) -> None:
    async def second() -> None:
        clock.advance(LOCK_LENGTH + timedelta(seconds=1))
        assert (await give(ROWS, name="people (1).csv")).enqueued == 2

    before_rows_are_stored(second)
    with pytest.raises(IntakeError, match="Enqueue the same rows again"):
        await give(ROWS, name="people.csv")
    assert set((await telephones(queue)).values()) == {1}


@EACH_STORE
@pytest.mark.parametrize("keyed", [False, True])
async def test_of_two_lists_that_begin_a_batch_at_once_with_keys_and_without_them_nobody_has_two_calls(
    queue: CallQueue, give: Give, tmp_path: Path, *, keyed: bool
) -> None:
    """Whatever one of them is about to write when the other one is given: the one that begins later is refused."""
    step, writes, passed = 0, 0, list[int]()

    async def given(each: Give, *, has_keys: bool) -> None:
        rows = [f"{number},Ana,{f'{step}{number}' if has_keys else ''}" for number in (ANA, BEN)]
        with suppress(IntakeError):
            await each(rows, name=f"{step}.csv", columns=KEYED)

    async def meanwhile(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if (call.name, writes) == ("write", step):
            passed.append(step)
            await given(give, has_keys=not keyed)

    first = Give(CallQueue(FaultyStore(queue.store, before=meanwhile)), tmp_path)
    for step in range(1, 9):
        writes = 0
        for each, has_keys in ((first, keyed), (give, not keyed), (give, keyed)):
            await given(each, has_keys=has_keys)
        found = await queue.find(batch_id=str(step))
        assert Counter(job.destination for job in found) == {ANA: 1, BEN: 1}, step
        await queue.cancel_many([job.id for job in found])
    assert 3 <= len(passed) < 8, "the other one was given before each write"


@EACH_STORE
async def test_rows_with_keys_of_their_own_wait_for_nobody(give: Give, before_rows_are_stored: AtThatMoment) -> None:
    async def second() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("voiceflow_worker.campaigns.plan.TIMEOUT", timedelta())
            assert (await give(["+6587654399,Ana,k1"], name="keyed.csv", columns=KEYED)).enqueued == 1

    before_rows_are_stored(second)
    assert (await give(ROWS)).enqueued == 2


# -- lists in any order of orders: who rings, and when -----------------------------------------------------------------

PEOPLE = [f"+658765432{place}" for place in range(5)]
HAS_KEY = frozenset(PEOPLE[:2])
HOUR = timedelta(hours=1)
VERSIONS = {"first": ("Hello.", 0), "corrected": ("Good day.", 0), "moved": ("Hello.", 1)}
"""What a row may say, and how many hours after the beginning the phone may ring."""
LISTS = st.dictionaries(st.sampled_from(PEOPLE), st.sampled_from([*VERSIONS]), max_size=5)


class Lists(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock, self.voice = StillClock(), ScriptedVoice()
        self.begin = self.clock.now()
        self.store = MemoryStore(clock=self.clock)
        self.engine = Engine(self.store, self.voice)
        self.waits: dict[str, str] = {}  # the model: what waits, what has rung, whether the queue is held
        self.rang: list[tuple[str, str]] = []
        self.is_held = False

    def campaign(self, listed: dict[str, str], **more: object) -> Campaign:
        rows = [
            {
                "destination": person, "text": VERSIONS[version][0], "unique_key": person if person in HAS_KEY else "",
                "not_before": (self.begin + VERSIONS[version][1] * HOUR).isoformat(),
            }
            for person, version in listed.items()
        ]  # fmt: skip
        fields = {
            "say": "{{text}}",
            "window": "any",
            "source": "+6531234567",
            "voice_profile": "en-US-JennyNeural",
            "batch": "today",
        }
        return Campaign.of({**fields, "rows": rows, **more}, now=self.clock.now())

    @rule(listed=LISTS, replaces=st.booleans(), removes=st.booleans(), dies=st.integers(0, 12))
    def give(self, listed: dict[str, str], *, replaces: bool, removes: bool, dies: int) -> None:
        campaign = self.campaign(listed, replace=replaces, remove_missing=removes)
        report = anyio.run(self.started, campaign, dies)
        if removes and not (listed and (self.waits or self.rang)):
            assert report.refused, "nothing can be missing from a new batch, nor from a list without a row"
            return
        differ = {person for person, version in listed.items() if self.waits.get(person, version) != version}
        assert report.refused == (bool(differ) and not replaces), report
        assert report.changed == len(differ) or dies
        if report.refused:
            return
        over = {person for person, _ in self.rang}
        gone = {person for person in self.waits if person not in listed}
        assert (report.missing, report.replaced) == (len(gone), len(differ)) or dies
        for person in gone if removes else ():
            del self.waits[person]
        self.waits |= {person: version for person, version in listed.items() if person not in over}

    async def started(self, campaign: Campaign, dies: int) -> EnqueueReport:
        left = dies

        async def die(call: StoreCall) -> None:
            nonlocal left
            left -= call.name == "write"
            if dies and left == 0:
                raise StoreUnavailableError("killed")

        try:
            return await report_of(campaign.start(CallQueue(FaultyStore(self.store, before=die))))
        except StoreUnavailableError:
            await self.nobody_has_two()
            self.clock.advance(timedelta(seconds=20))  # the lock of the killed one ends
            return await report_of(campaign.start(CallQueue(self.store)))

    async def sends(self) -> None:
        await self.engine.send(limit=100)

    async def jobs(self) -> list[Job]:
        return list(await CallQueue(self.store).find(limit=None))

    async def nobody_has_two(self) -> None:
        people = [job.destination for job in await self.jobs() if job.may_call]
        assert len(people) == len({*people}), "old or new, never both"

    @rule()
    def ring(self) -> None:
        anyio.run(self.sends)
        if not self.is_held:
            due = [each for each in self.waits.items() if self.begin + VERSIONS[each[1]][1] * HOUR <= self.clock.now()]
            self.rang += due
            for person, _ in due:
                del self.waits[person]

    @rule(held=st.booleans())
    def hold_or_resume(self, *, held: bool) -> None:
        queue = CallQueue(self.store)
        anyio.run(queue.hold if held else queue.resume)
        self.is_held = held

    @rule()
    def an_hour_passes(self) -> None:
        self.clock.advance(HOUR)

    @invariant()
    def each_person_has_the_call_that_was_asked_for(self) -> None:
        jobs = [job for job in anyio.run(self.jobs) if job.state is JobState.QUEUED and not job.attempt]
        found = {job.destination: next(v for v, (text, hours) in VERSIONS.items() if text in job.body and job.not_before
                 == self.begin + hours * HOUR) for job in jobs}  # fmt: skip
        assert (found, len(jobs)) == (self.waits, len(self.waits))
        assert sorted(self.voice.rang) == sorted(person for person, _ in self.rang), "each once"


Lists.TestCase.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLists = Lists.TestCase
