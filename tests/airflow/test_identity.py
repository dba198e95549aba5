"""The key of a call: one task instance, whatever happens to its tries."""

from __future__ import annotations

from types import SimpleNamespace

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.notifications.voice import occasion_of

TASK = TaskIdentity(dag_id="reminders", run_id="manual__2026-11-20", task_id="call", map_index=3)


def context(**changes: object) -> dict[str, object]:
    ti = {
        "dag_id": "reminders",
        "run_id": "manual__2026-11-20",
        "task_id": "call",
        "map_index": 3,
        "max_tries": 2,
        "try_number": 1,
        "id": "0191-first",
    }
    return {"ti": SimpleNamespace(**{**ti, **changes}), "logical_date": None}


def test_the_key_is_the_same_for_each_try_and_after_a_clear() -> None:
    first = TaskIdentity.of(context())
    again = TaskIdentity.of(context(try_number=2, id="0191-second", max_tries=5))
    assert first.call_key("", 0) == again.call_key("", 0)
    assert first.batch_id() == again.batch_id()


def test_another_task_or_run_has_another_key_and_batch() -> None:
    for other in ({"dag_id": "others"}, {"run_id": "manual__2026-11-21"}, {"task_id": "call2"}):
        assert TaskIdentity.of(context(**other)).call_key("", 0) != TASK.call_key("", 0)
    one, two = (TaskIdentity(dag_id=dag, run_id=run, task_id="d") for dag, run in (("a", "b,c"), ("a,b", "c")))
    assert one.call_key("", 0) != two.call_key("", 0), "parts of a name cannot be moved to the next"
    long, shorter = (TaskIdentity(dag_id="d" * 250, run_id="r" * size, task_id="t" * 250) for size in (250, 249))
    assert (len(long.batch_id()), long.batch_id() == shorter.batch_id()) == (50, False)


def looped(index: int, **more: object) -> dict[str, object]:
    """The context of a task in a loop, as Airflow 3.4 documents it."""
    loop = SimpleNamespace(index=index, node_id="refine", region_id="r-1", trajectory=1, resumes_from_index=1)
    vars(loop).update(more)
    return {**context(), "loop": loop}


def test_each_iteration_of_a_loop_is_an_instance_of_its_own() -> None:
    identities = [TaskIdentity.of(looped(index)) for index in range(3)] + [TaskIdentity.of(context())]
    for part in (lambda each: each.call_key("", 0), TaskIdentity.batch_id):
        assert len({part(each) for each in identities}) == 4
    assert len({occasion_of(looped(index)) for index in range(3)}) == 3
    for one in identities:
        assert [one.owns(other.data()) for other in identities] == [one is other for other in identities]
        assert TaskIdentity(**one.as_json()).call_key("", 0) == one.call_key("", 0)


def test_a_retry_in_a_loop_has_the_same_key_and_a_clear_that_forks_the_loop_is_a_clear() -> None:
    before = TaskIdentity.of(looped(2))
    retried = TaskIdentity.of(looped(2))
    forked = TaskIdentity.of(looped(2, trajectory=2, region_id="r-2"))
    other_region = TaskIdentity.of(looped(2, region_id="r-2"))
    assert {each.call_key("", 0) for each in (retried, forked)} == {before.call_key("", 0)}
    assert not retried.was_cleared_since(before.data())
    assert forked.was_cleared_since(before.data())
    assert other_region.was_cleared_since(before.data())
    assert not before.was_cleared_since(forked.data())
    assert forked.owns(before.data())
    assert occasion_of(looped(2)) != occasion_of(looped(2, trajectory=2, region_id="r-2"))
