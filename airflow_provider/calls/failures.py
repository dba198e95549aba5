"""Failures of Airflow tasks, made of errors and of the ends of calls. A final failure is not tried again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout

from voiceflow_worker import InvalidInputError, Job, JobState, VoiceflowError
from voiceflow_worker import errors as library

FINAL = (
    InvalidInputError, library.StoreCorruptError, library.StoreForgetsError, library.StoreReadOnlyError,
    library.StoreVersionError, library.UnknownBackendError,
)  # fmt: skip
"""Errors that each retry would meet again."""


@contextmanager
def as_airflow_errors(subject: object) -> Generator[None]:
    """Raise errors of the library as Airflow exceptions, with messages that begin with `subject`."""
    try:
        yield
    except VoiceflowError as error:
        kind = AirflowFailException if isinstance(error, FINAL) else AirflowException
        raise kind(f"{subject}: {error}") from error


def refuse_event(event: Mapping[str, Any], *, subject: object, late: type[AirflowException]) -> None:
    """Raise what an event of the trigger, or the end of a wait, means to a task that was to wait for `subject`."""
    status = event["status"]
    if status == "error":
        kind = AirflowFailException if event["is_final"] else AirflowException
        raise kind(f"the wait for {subject} failed: {event['error']}")
    if status in {"late", "timeout"}:
        ends: type[BaseException] = AirflowTaskTimeout if status == "timeout" else late
        raise ends(
            f"{subject} has not ended in the {'execution_timeout' if status == 'timeout' else 'time'} of the task. It "
            "goes on without the task, and what is queued may still be sent; clear the task to wait for it again"
        )


def checked_fail_on(fail_on: Iterable[str], *, answers: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names as a tuple. Raises ValueError for one that is neither a final state nor one of the `answers`.

    None are answers that are not known: any name may be one.
    """
    names = (fail_on,) if isinstance(fail_on, str) else tuple(fail_on)
    states = [state.value for state in JobState if state.is_final]
    if answers is not None and (unknown := set(names).difference(states, answers)):
        raise ValueError(f"fail_on has {min(unknown)!r}, which is no final state ({', '.join(states)}) and no answer")
    return names


def described(job: Job) -> str:
    """Return how a call ended, or its present state, as a clause."""
    outcome = job.outcome.status_text if job.outcome is not None else job.reason
    details = ", ".join(filter(None, (outcome, job.answer and f"answer {job.answer}")))
    return f"call {job.id} to {job.number} is {job.state.value.replace('_', ' ')}{details and f' ({details})'}"


def judge(jobs: Sequence[Job], *, fail_on: Sequence[str], store: str) -> None:
    """Raise an Airflow exception for the first call whose state or answer is in `fail_on`, else for the first doubt."""
    bad = [job for job in jobs if job.state.is_final and not {job.state.value, job.answer}.isdisjoint(fail_on)]
    doubts = [job for job in jobs if job.state is JobState.IN_DOUBT]
    more = f" (The first of {len(bad or doubts)} such calls.)" if len(bad or doubts) > 1 else ""
    if bad:
        remedy = "No retry and no clear calls again: give another key, or start a new run of the DAG"
        raise AirflowFailException(f"{described(bad[0])}. {remedy}.{more}")
    if doubts:
        job = doubts[0]
        post = "" if job.open_post is None else f" --post {job.open_post.number}"
        raise AirflowException(
            f"{described(job)}: nobody knows whether 8x8 placed it, and neither a worker nor a retry calls again. Look "
            f"for it in your 8x8 account, run `voiceflow calls resolve {job.id} --placed|--not-placed{post} --note '…' "
            f"--store {store} --queue {job.queue}`, and clear this task: it goes on with the same call.{more}"
        )
