"""Copies of records with some fields changed."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from voiceflow_worker.backends.contract.samples import full_job
from voiceflow_worker.model.copying import maker, replace
from voiceflow_worker.model.jobs.job import Note, NoteKind, RedialPolicy


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
    with pytest.raises(TypeError, match="RedialPolicy has a __post_init__"):
        replace(RedialPolicy(on=frozenset(), limit=1, after=timedelta()), limit=-1)


MADE = maker(
    Note, {"at": datetime.fromisoformat, "kind": NoteKind, "text": str.strip}, given=("at",), defaults={"text": "-"}
)


@pytest.mark.parametrize("fields", [{"kind": "resolved", "text": " by hand "}, {"kind": "rang_twice"}])
def test_a_record_made_from_a_dict_is_what_its_class_would_have_made(fields: dict[str, str]) -> None:
    before = dict(fields)
    made = MADE(fields, ("2026-01-05T12:00:00+00:00",))
    text = fields["text"].strip() if "text" in fields else "-"
    assert made == Note(at=datetime(2026, 1, 5, 12, tzinfo=UTC), kind=NoteKind(fields["kind"]), text=text)
    assert (pickle.loads(pickle.dumps(made)), hash(made)) == (made, hash(dataclasses.replace(made)))
    assert type(made.kind) is NoteKind
    assert fields == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.text = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "at", "error"),
    [
        ({}, "2026-01-05", "missing 1 required keyword-only argument: 'kind'"),
        ({"kind": "resolved", "colour": "red"}, "2026-01-05", "unexpected keyword argument 'colour'"),
        ({"kind": "painted"}, "2026-01-05", "'painted' is not a valid NoteKind"),
        ({"kind": "resolved"}, "yesterday", "Invalid isoformat string: 'yesterday'"),
    ],
)
def test_a_dict_that_its_class_refuses_is_refused_with_the_same_error(
    fields: dict[str, str], at: str, error: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        MADE(fields, (at,))
