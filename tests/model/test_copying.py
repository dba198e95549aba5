"""Copies of records with some fields changed."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from voiceflow_worker.backends.contract.enqueue import full_job
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import RedialPolicy


def test_a_copy_is_what_dataclasses_would_have_made_and_the_record_stays() -> None:
    job = full_job()
    before = dataclasses.replace(job)
    changed = {"revision": "other", "posts": (), "batch_id": None}
    assert replace(job, **changed) == dataclasses.replace(job, **changed)  # type: ignore[arg-type]
    assert replace(job) == job == before
    assert replace(job) is not job


def test_a_copy_cannot_be_changed() -> None:
    copy = replace(full_job(), revision="other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.revision = "another"  # type: ignore[misc]


def test_a_field_that_the_record_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Job has no field 'colour'"):
        replace(full_job(), colour="red")  # type: ignore[call-arg]


def test_a_class_that_checks_its_fields_is_refused() -> None:
    with pytest.raises(TypeError, match="RedialPolicy checks its fields"):
        replace(RedialPolicy(on=frozenset(), limit=1, after=timedelta()), limit=-1)
