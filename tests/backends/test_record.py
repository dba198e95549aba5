"""A job taken apart and put together again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.contract.samples import full_job
from tests.contract.suite import NOW, sample_job
from tests.support.flows import flow, number
from tests.webhooks.payload_forms import LEG, leg
from tests.webhooks.receiving import summary
from voiceflow_worker.backends.record import Head, from_micros, head_of, job_from, record_of, to_micros
from voiceflow_worker.core.admission import CallRequest, CheckedCall, new_job
from voiceflow_worker.core.settling.settle import outcome_of
from voiceflow_worker.errors import CallFlowError, InvalidInputError, StoreVersionError
from voiceflow_worker.model.jobs.job import Job, Post, RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import Charge, Outcome
from voiceflow_worker.model.reports.status import SessionStatus

TIMES = st.datetimes(timezones=st.just(UTC))


def again(job: Job) -> Job:
    return job_from(head_of(job), record_of(job), job.body)


def test_a_job_that_uses_every_field_comes_back_as_it_was() -> None:
    """Whoever adds a field to a job must add it to the record too, or this fails: the sample's fields all differ."""
    job, plain = full_job(), sample_job()
    same = {"id", "queue", "destination", "body", "body_digest", "source", "created_at"}
    names = [field.name for field in structs.fields(Job)]
    assert {name for name in names if getattr(job, name) == getattr(plain, name)} == same
    for post_field in structs.fields(Post):
        assert all(getattr(post, post_field.name) is not None for post in job.posts[:1])
    for outcome_field in structs.fields(Outcome):
        outcomes = [post.outcome for post in job.posts if post.outcome is not None]
        assert any(getattr(outcome, outcome_field.name) is not None for outcome in outcomes)
    assert again(job) == job


def test_a_time_of_another_zone_stays_the_same_instant() -> None:
    there = timezone(timedelta(hours=8))
    job = sample_job(due_at=NOW.astimezone(there), created_at=NOW.astimezone(there))
    assert again(job) == job
    assert again(job).due_at.tzinfo is UTC


def test_what_a_newer_version_says_of_a_price_is_left_out() -> None:
    job = job_from(
        head_of(sample_job()), f'{{{KNOWN},"posts":[{{{POST},"charge":{{"price":"0.0400","tax":"7"}}}}]}}', "{}"
    )
    assert job.posts[0].charge == Charge(price=Decimal("0.0400"))


KNOWN = '"source":"s","created_at":"2026-01-05T12:00:00Z"'
POST = '"number":1,"client_request_id":"x","began_at":"2026-01-05T12:00:00Z","valid_until":"2026-01-05T12:00:00Z"'


@pytest.mark.parametrize(
    "record",
    [
        f'{{{KNOWN},"colour":"red"}}',
        f'{{{KNOWN},"posts":[{{{POST},"colour":"red"}}]}}',
        f'{{{KNOWN},"posts":[{{{POST},"outcome":{{"status_text":"BUSY","colour":"red"}}}}]}}',
        f'{{{KNOWN},"posts":[{{{POST},"verdict":"painted"}}]}}',
        f'{{{KNOWN},"notes":[{{"at":"2026-01-05T12:00:00Z","kind":"painted","text":"red"}}]}}',
        f'{{{KNOWN},"reason":"red","reason_kind":"painted"}}',
        '{"source":"s"}',
        "not JSON",
    ],
)
def test_what_a_newer_version_wrote_is_refused_and_not_dropped(record: str) -> None:
    with pytest.raises(StoreVersionError, match=rf"{sample_job().id}.*[Uu]pgrade"):
        job_from(head_of(sample_job()), record, "")


def test_a_state_of_a_newer_version_is_refused() -> None:
    head = list(head_of(sample_job()))
    head[2] = "daydreaming"
    newer: Head = tuple(head)  # type: ignore[assignment]
    with pytest.raises(StoreVersionError, match="daydreaming"):
        job_from(newer, record_of(sample_job()), "")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.sampled_from(["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "1e400", "-0", "\ud800", "NaN"]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(sorted(LEG)), each, max_size=3),
    max_leaves=4,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["sessionStatus", "startTime", "endTime", "lastAction", "callCount", "errorCode", "errorMessage", "details"]
)


@given(
    changes=st.dictionaries(FIELDS, ANYTHING, max_size=4),
    of_leg=st.dictionaries(st.sampled_from(sorted(LEG)), ANYTHING, max_size=4),
)
def test_whatever_a_summary_says_is_read_again_as_it_was_stored(
    changes: dict[str, object], of_leg: dict[str, object]
) -> None:
    """Evidence is never dropped: what the types of the record do not allow would be refused as a newer version's."""
    said = summary(**{"details": {"callA": leg(**of_leg)}, **changes})
    summarised = parse_event(said)
    assert isinstance(summarised, SessionSummary)
    job = full_job()
    post = structs.replace(job.posts[-1], outcome=outcome_of(summarised))
    job = structs.replace(job, posts=(*job.posts[:-1], post))
    assert again(job) == job


class Marked(str):
    """A text of a class of its own, as templates of web pages make them."""

    __slots__ = ()


class Reason(StrEnum):
    ASKED = "asked"


@pytest.mark.parametrize("field", ["unique_key", "batch_id", "menu", "time_zone"])
@pytest.mark.parametrize("text", [Marked("Asia/Singapore"), Reason.ASKED, 7, True, ZoneInfo("UTC"), ["a"], b"a"])
def test_what_a_program_hands_in_is_refused_or_read_again(field: str, text: Any) -> None:
    options: Any = {field: text}
    call = CallRequest(flow(number(1)), **options)
    try:
        job = new_job(
            CheckedCall.of(call, at=NOW), job_id="default.1", revision="r", queue="default", at=NOW, redial=None
        )
    except CallFlowError as error:
        assert not isinstance(text, str)
        assert f"{field}: {field} is" in str(error)  # noqa: PT017 - whether it is refused depends on the case
    else:
        assert isinstance(text, str)
        assert getattr(again(job), field) == str(text)


@pytest.mark.parametrize("fields", [{"limit": 2.0}, {"limit": True}, {"limit": "2"}, {"on": {"NOT_A_STATUS"}}])
def test_a_redial_policy_that_could_not_be_read_again_is_refused(fields: dict[str, Any]) -> None:
    given_fields: Any = {"on": {SessionStatus.BUSY}, "limit": 2, "after": timedelta(minutes=1), **fields}
    with pytest.raises(InvalidInputError, match="a redial policy needs a whole number"):
        RedialPolicy(**given_fields)


@pytest.mark.parametrize("text", [Marked("half \ud800"), Marked("a mark"), Reason.ASKED])
def test_a_text_of_a_class_of_its_own_is_stored_as_a_text(text: str) -> None:
    job = structs.replace(full_job(), reason=text)
    assert again(job).reason == str(text)


@given(TIMES)
def test_a_time_survives_to_the_microsecond(time: datetime) -> None:
    assert from_micros(to_micros(time)) == time


def test_a_naive_time_is_not_an_instant() -> None:
    with pytest.raises(TypeError):
        to_micros(datetime(2026, 1, 5))  # noqa: DTZ001 - on purpose
