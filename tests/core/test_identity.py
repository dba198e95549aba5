"""Names for things: unique, ordered, and readable back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from voiceflow_worker.core.ports.identity import checked_queue, job_of, new_job_ids, queue_of
from voiceflow_worker.errors import InvalidInputError

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def test_ids_of_many_calls_in_one_millisecond_are_all_different() -> None:
    ids = [job_id for _ in range(200) for job_id in new_job_ids("default", 50, at=NOW)]
    assert len(set(ids)) == 200 * 50


def test_ids_of_one_call_grow_and_later_ones_are_larger() -> None:
    ids = new_job_ids("default", 1000, at=NOW)
    assert ids == sorted(ids)
    assert ids[-1] < new_job_ids("default", 1, at=NOW.replace(second=1))[0]


def test_a_client_request_id_fits_fifty_characters_and_names_its_post() -> None:
    queue = "a-queue-of-16-ch"
    (job_id,) = new_job_ids(queue, 1, at=NOW)
    assert len(f"{job_id}.999999") == 50
    assert job_of(f"{job_id}.12") == (job_id, 12)
    assert queue_of(job_id) == queue


@pytest.mark.parametrize(
    "foreign",
    ["", "crm-4711", "crm-4711.x", "Default.01ABC.1", "default.01ABC.1234567", ".1", "a.1", "default.01ABC.²"],
)
def test_a_client_request_id_of_somebody_else_names_no_post_of_ours(foreign: str) -> None:
    assert job_of(foreign) is None


@pytest.mark.parametrize("name", ["", "Default", "-a", "a_b", "a" * 17, "a.b"])
def test_a_bad_queue_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidInputError, match="1 to 16"):
        checked_queue(name)
