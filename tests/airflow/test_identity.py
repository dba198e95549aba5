"""The key of a call: one task instance, whatever happens to its tries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider.calls.identity import TaskIdentity

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


@pytest.mark.parametrize("other", [{"dag_id": "others"}, {"run_id": "manual__2026-11-21"}, {"task_id": "call2"}])
def test_another_task_or_run_has_another_key(other: dict[str, object]) -> None:
    assert TaskIdentity.of(context(**other)).call_key("", 0) != TASK.call_key("", 0)


def test_parts_of_a_name_cannot_be_moved_to_the_next() -> None:
    one = TaskIdentity(dag_id="a", run_id="b,c", task_id="d")
    two = TaskIdentity(dag_id="a,b", run_id="c", task_id="d")
    assert one.call_key("", 0) != two.call_key("", 0)


def test_the_batch_fits_8x8_whatever_the_names_are() -> None:
    long = TaskIdentity(dag_id="d" * 250, run_id="r" * 250, task_id="t" * 250)
    assert len(long.batch_id()) <= 50
    assert long.batch_id() != TaskIdentity(dag_id="d" * 250, run_id="r" * 249, task_id="t" * 250).batch_id()
