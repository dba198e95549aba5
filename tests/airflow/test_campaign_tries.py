"""A campaign task that is tried again, with rows that were changed, removed or put in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.calls.made_calls import STOPPED_BY_AIRFLOW
from airflow_provider.operators.voice import VoiceCampaignOperator
from tests.airflow.scene import TaskState, context, drain, in_queue, jobs_to, surroundings
from tests.support.everyday import combinations
from tests.support.stage import Stage
from voiceflow_worker import Job, JobState
from voiceflow_worker.campaigns.imports import Import
from voiceflow_worker.core.admission import Admitter
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs import lifecycle

Row = dict[str, Any]


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("tries")) as staged:
        staged.order("script", {"outcome": "COMPLETED"})
        yield staged


_taken = iter(range(10, 1000))


@pytest.fixture
def number() -> Callable[[], str]:
    """Numbers that no other test calls."""
    return lambda: f"+6587664{next(_taken):03d}"


def campaign(rows: list[Row], **options: Any) -> VoiceCampaignOperator:
    given = {"task_id": "t", "say": "Hello {{ name }}.", "deferrable": False, "poll_interval": 0.2, **options}
    return VoiceCampaignOperator(rows=rows, **given)


def left_waiting(rows: list[Row], here: dict[str, Any], **options: Any) -> VoiceCampaignOperator:
    """A try that enqueued its rows and was killed before anything was sent."""
    task = campaign(rows, send="worker", wait_for=None, **options)
    task.execute(here)
    return task


def row(number: str, name: str = "Ann", **more: object) -> Row:
    return {"destination": number, "name": name, **more}


def rings(on: Stage, *numbers: str) -> list[int]:
    called = [entry["destination"] for entry in on.ledger()]
    return [called.count(number) for number in numbers]


def states(on: Stage, number: str) -> list[str]:
    return sorted(job.state.value for job in jobs_to(on, number))


def run_of(task_id: str, run_id: str, **more: Any) -> dict[str, Any]:
    here = context(task_id, **more)
    here["ti"].run_id = run_id
    return here


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "killed"])
def test_what_a_first_try_has_stored_stands_unless_it_was_stopped(
    on: Stage, number: Callable[[], str], is_stopped: bool
) -> None:
    stays, goes, new, here = number(), number(), number(), context(f"stands{is_stopped}")
    task = left_waiting([row(goes, "Bo"), row(stays, "Anm")], here)
    if is_stopped:
        task.on_kill()
    report = campaign([row(stays, "Ann"), row(new)]).execute(here)
    assert report["rows"] == {"enqueued": 1 + is_stopped, "duplicates": 1 - is_stopped, "left_out": 0, "rejected": 0}
    assert rings(on, goes, stays, new) == [not is_stopped, 1, 1]
    assert states(on, goes) == ["cancelled" if is_stopped else "completed"]
    (call,) = [call for call in jobs_to(on, stays) if call.state is JobState.COMPLETED]
    assert ("Hello Ann." if is_stopped else "Hello Anm.") in call.body


def test_other_rows_and_another_order_call_nobody_again(on: Stage, number: Callable[[], str]) -> None:
    people, here = [number() for _ in range(4)], context("order")
    campaign([row(each) for each in people[:3]]).execute(here)
    campaign([row(each) for each in reversed(people)]).execute(here)
    assert rings(on, *people) == [1, 1, 1, 1]


def test_two_calls_to_one_number_stay_two_in_any_order(on: Stage, number: Callable[[], str]) -> None:
    person, here = number(), context("twice")
    first, second = row(person, "order 1"), row(person, "order 2")
    campaign([first, second]).execute(here)
    for people in ([second, first], [second], [second, first, second], [row(person, "order 3"), first, second]):
        campaign(people).execute(here)
    assert rings(on, person) == [2]
    texts = sorted(str((call.data or {})["name"]) for call in jobs_to(on, person))
    assert texts == ["order 1", "order 2"], "nobody hears the same again, in whatever order the rows come"


def test_when_every_row_has_changed_the_new_ones_are_called(on: Stage, number: Callable[[], str]) -> None:
    called, waiting, now, here = number(), number(), number(), context("other", task_state_store=TaskState())
    campaign([row(called)]).execute(here)
    left_waiting([row(waiting)], here)
    campaign([row(now)]).execute(here)
    assert rings(on, called, waiting, now) == [1, 1, 1]


def test_a_row_is_identified_by_its_own_key_which_its_text_may_speak(on: Stage, number: Callable[[], str]) -> None:
    wrong, person, here = number(), number(), context("keys")
    left_waiting([row(wrong, unique_key="order-7")], here, say="Order {{ unique_key }}.").on_kill()
    for name in ("Ann", "Bo"):
        campaign([row(person, name, unique_key="order-7")], say="{{ name }}, order {{ unique_key }}.").execute(here)
    assert rings(on, wrong, person) == [0, 1]
    bodies = [call for call in jobs_to(on, person) if call.state is JobState.COMPLETED]
    assert "order order-7." in bodies[0].body


def test_a_constant_batch_belongs_to_every_run_and_its_calls_to_their_own(on: Stage, number: Callable[[], str]) -> None:
    monday, tuesday, more = number(), number(), number()
    left_waiting([row(monday)], run_of("constant", "monday"), batch="reminders").on_kill()
    here = run_of("constant", "tuesday")
    left_waiting([row(tuesday)], here, batch="reminders")
    campaign([row(tuesday), row(more)], batch="reminders").execute(here)
    assert rings(on, monday, tuesday, more) == [0, 1, 1]
    campaign([row(monday)], batch="reminders").execute(run_of("constant", "monday"))
    assert rings(on, monday, tuesday, more) == [1, 1, 1]


@pytest.mark.parametrize("is_deferred", [True, False])
def test_stopping_one_run_cancels_only_its_own_calls(on: Stage, number: Callable[[], str], is_deferred: bool) -> None:
    monday, tuesday, batch_id = number(), number(), f"stopping{is_deferred}"
    here = run_of("stopping", "monday")
    if is_deferred:
        with pytest.raises(TaskDeferred) as deferred:
            campaign([row(monday)], send="worker", deferrable=True, batch=batch_id).execute(here)
        stop: Callable[[], object] = partial(anyio.run, deferred.value.trigger.on_kill)
    else:
        stop = left_waiting([row(monday)], here, batch=batch_id).on_kill
    left_waiting([row(tuesday)], run_of("stopping", "tuesday"), batch=batch_id)
    stop()
    assert (states(on, monday), states(on, tuesday)) == (["cancelled"], ["queued"])


def test_a_batch_with_a_new_name_in_each_try_calls_nobody_again(on: Stage, number: Callable[[], str]) -> None:
    called, waiting, goes, here = number(), number(), number(), context("renamed")
    campaign([row(called)], batch="renamed-1").execute(here)
    left_waiting([row(called), row(waiting), row(goes)], here, batch="renamed-2")
    campaign([row(called), row(waiting)], batch="renamed-3").execute(here)
    assert rings(on, called, waiting, goes) == [1, 1, 0]
    assert states(on, goes) == ["cancelled"]


def test_a_call_for_later_is_not_made_sooner_by_a_stop_and_a_retry(on: Stage, number: Callable[[], str]) -> None:
    person, here = number(), context("later")
    people = [row(person, not_before=(datetime.now(UTC) + timedelta(hours=3)).isoformat())]
    left_waiting(people, here).on_kill()
    left_waiting(people, here)
    (call,) = [call for call in jobs_to(on, person) if call.state is JobState.QUEUED]
    assert call.due_at > datetime.now(UTC) + timedelta(hours=2)


def test_a_call_that_a_person_cancelled_is_not_made_by_a_retry(on: Stage, number: Callable[[], str]) -> None:
    person, here = number(), context("taken out")
    left_waiting([row(person)], here)
    (call,) = jobs_to(on, person)
    in_queue(on, lambda queue: queue.cancel(call.id))
    campaign([row(person, "another text")]).execute(here)
    assert rings(on, person) == [0]
    for _ in range(2):
        campaign([row(person, "another text")], again="cancelled").execute(here)
    assert (rings(on, person), states(on, person)) == ([1], ["cancelled", "completed"]), "it is told to, and once"


@pytest.mark.parametrize(("changed", "waits"), combinations([False, True], [False, True]))
def test_chunks_of_a_mapped_campaign_are_identified_by_their_numbers(
    on: Stage, number: Callable[[], str], changed: bool, waits: bool
) -> None:
    a, b, c, x = (number() for _ in range(4))
    make = left_waiting if waits else lambda rows, here: campaign(rows).execute(here)

    def run(chunks: list[list[str]], cleared: int) -> None:
        for index, chunk in enumerate(chunks):
            here = context(f"chunks{changed}{waits}", map_index=index, dag_run=SimpleNamespace(clear_number=cleared))
            make([row(each, f"try {cleared if changed else 0}") for each in chunk], here)

    run([[a, b], [c]], 0)
    run([[x], [a, b], [c]], 1)
    run([[c, x], [b], [a]], 2)
    drain(on)
    assert rings(on, a, b, c, x) == [1, 1, 1, 1]


def test_chunks_of_a_mapped_campaign_share_a_call_and_refuse_another_text(on: Stage, number: Callable[[], str]) -> None:
    a, b = number(), number()

    def here(index: int, cleared: int = 0) -> dict[str, Any]:
        return context("shared", map_index=index, dag_run=SimpleNamespace(clear_number=cleared))

    left_waiting([row(a), row(b)], here(0))
    left_waiting([row(a)], here(1))
    assert states(on, a) == ["queued"]
    with pytest.raises(AirflowFailException, match=r"row 1: another instance .* give each row a unique_key"):
        left_waiting([row(a, "Another")], here(2))
    left_waiting([row(a, "Another", unique_key="second")], here(2))
    assert states(on, a) == ["queued", "queued"]
    campaign([row(a)]).execute(here(0, cleared=1))
    drain(on)
    assert rings(on, a, b) == [2, 1]


@pytest.mark.parametrize("listed", [0, 1, 2], ids=["no row then", "one row then", "both rows then"])
@pytest.mark.parametrize("stored", [1, 2], ids=["some rows", "all rows"])
def test_a_try_that_was_killed_while_it_stored_its_calls_is_completed_by_the_next(
    on: Stage, number: Callable[[], str], monkeypatch: pytest.MonkeyPatch, stored: int, listed: int
) -> None:
    first, second, here = number(), number(), context(f"cut{stored}{listed}")
    rows, writes, admit = [row(first), row(second)], iter(range(9)), Admitter.admit

    async def dies(self: Admitter, *given: Any, **more: Any) -> Any:
        if next(writes) == stored:
            raise StoreUnavailableError("killed")
        return await admit(self, *given, **more)

    async def dies_last(self: Import, *given: Any) -> Any:
        raise StoreUnavailableError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("voiceflow_worker.campaigns.enqueue.CHUNK", 1)
        patched.setattr(Admitter, "admit", dies)
        patched.setattr(Import, "end", dies_last)
        with pytest.raises(Exception, match="killed"):
            campaign(rows, send="worker", wait_for=None).execute(here)
    drain(on)
    assert rings(on, first, second) == [0, 0]
    for _ in range(2):
        campaign(rows[2 - listed :]).execute(here)
        assert rings(on, first, second) == [listed > 1, listed > 0], "a row that is listed no more rings nobody"


def test_cancelled_calls_do_not_dilute_the_ratio_of_failures(on: Stage, number: Callable[[], str]) -> None:
    person, here = number(), context("diluted")
    for name in ("Anm", "Annn"):
        left_waiting([row(person, name)], here)
    with pytest.raises(AirflowFailException, match="1 of 1 calls ended as completed"):
        campaign([row(person)], fail_on="completed", fail_ratio=0.9).execute(here)
    assert rings(on, person) == [1]


def deferred(rows: list[Row], here: dict[str, Any], **options: Any) -> Any:
    """The trigger of a try that has enqueued its rows and waits."""
    with pytest.raises(TaskDeferred) as found:
        campaign(rows, **{"send": "worker", "deferrable": True, **options}).execute(here)
    return found.value.trigger


def next_try(here: dict[str, Any], number: int = 2) -> dict[str, Any]:
    return {**here, "ti": SimpleNamespace(**{**vars(here["ti"]), "try_number": number})}


@pytest.mark.parametrize("is_deferred", [True, False])
def test_a_stop_that_comes_after_the_next_try_leaves_it_its_calls(
    on: Stage, number: Callable[[], str], is_deferred: bool
) -> None:
    person, here = number(), context(f"overtaken{is_deferred}")
    old = deferred([row(person)], here)
    if not is_deferred:
        old = campaign([row(person)], send="worker", wait_for=None)
        old.execute(here)
    new = deferred([row(person)], next_try(here))
    stop = partial(anyio.run, old.on_kill) if is_deferred else old.on_kill
    stop()
    assert states(on, person) == ["queued"]
    drain(on)
    assert rings(on, person) == [1]
    report = campaign([row(person)]).execute_complete(next_try(here), {"status": "over", "batch_id": new.batch_id})
    assert report["states"]["completed"] == 1


@pytest.mark.parametrize("is_deferred", [True, False])
def test_a_stop_that_is_cut_after_its_first_write_has_stopped_all_calls_of_its_task(
    on: Stage, number: Callable[[], str], monkeypatch: pytest.MonkeyPatch, is_deferred: bool
) -> None:
    first, again, other = number(), number(), number()
    batch_id, here = f"cut{is_deferred}", run_of("cut", "monday")
    on.order("script", {"destination": again, "outcome": "BUSY"})
    rows, options = [row(first), row(again)], {"batch": batch_id, "redial_on": "busy", "redial_after": "15m"}
    trigger = deferred(rows, here, **options)
    task = campaign(rows, send="worker", wait_for=None, **options)
    left_waiting([row(other)], run_of("cut", "tuesday"), batch=batch_id)

    def back(job: Job) -> Job:
        return lifecycle.release(lifecycle.lease(job, worker_id="w", until=job.due_at), at=job.due_at, reason=None)

    (came_back,) = jobs_to(on, again)
    in_queue(on, lambda queue: Changes(queue.store, queue.policy).change(came_back.id, back))

    async def cut(*_: object, **__: object) -> int:
        raise StoreUnavailableError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("voiceflow_worker.core.imports.discard_imports", cut)
        if is_deferred:
            anyio.run(trigger.on_kill)
        else:
            task.execute(here)
            task.on_kill()
    # It does not wait for the batch, which does not end while calls of the other task are staged.
    campaign([row(other)], batch=batch_id, send="worker", wait_for=None).execute(run_of("cut", "tuesday"))
    drain(on)
    assert rings(on, first, again, other) == [0, 0, 1]
    assert (states(on, first), states(on, again)) == (["queued"], ["queued"])
    on.order("script", {"destination": again, "outcome": "COMPLETED"})
    campaign([row(first, "Anna"), row(again)], batch=batch_id).execute(next_try(here))
    assert rings(on, first, again, other) == [1, 1, 1]
    (made,) = (call for call in jobs_to(on, first) if call.state is JobState.COMPLETED)
    assert "Hello Anna." in made.body, "a task that was stopped, and corrected, says what it says now"


@pytest.mark.parametrize("way", ["by a task", "by a person", "one of three"])
def test_a_campaign_whose_calls_were_cancelled_while_it_waited_fails(
    on: Stage, number: Callable[[], str], way: str
) -> None:
    people, here = [number() for _ in range(3)], context(f"lost {way}")
    rows = [row(each) for each in people]
    left_waiting(rows, here).on_kill()  # what was cancelled before the wait does not count
    trigger = deferred(rows, next_try(here))
    reason = STOPPED_BY_AIRFLOW if way == "by a task" else "cancelled by a person"
    waiting = [job.id for each in people for job in jobs_to(on, each) if job.state is JobState.QUEUED]
    lost = waiting[:1] if way == "one of three" else waiting
    in_queue(on, lambda queue: queue.cancel_many(lost, reason=reason))
    drain(on)
    complete = partial(
        campaign(rows).execute_complete,
        next_try(here),
        {"status": "over", "batch_id": trigger.batch_id, "began": trigger.began},
    )
    if way == "one of three":
        assert complete()["states"]["completed"] == 2
        return
    said = {"by a task": "3 calls of batch .* Nobody was called", "by a person": "3 of 3 calls .* cancelled while"}
    with pytest.raises(AirflowException, match=said[way]) as raised:
        complete()
    assert isinstance(raised.value, AirflowFailException) == (way == "by a person")
    assert rings(on, *people) == [0, 0, 0]
