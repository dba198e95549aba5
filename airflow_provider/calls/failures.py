"""Conversion of errors and call outcomes to failures of Airflow tasks. A failure is final if a retry cannot help."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from voiceflow_worker import CallFlowError, InvalidInputError, Job, JobState, VoiceflowError
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreForgetsError,
    StoreReadOnlyError,
    StoreVersionError,
    UnknownBackendError,
)

FINAL = (
    InvalidInputError,
    StoreCorruptError,
    StoreForgetsError,
    StoreReadOnlyError,
    StoreVersionError,
    UnknownBackendError,
)
"""Errors that occur again in each retry."""


SECOND_RUN = (
    "No new call was made. Each run of a DAG calls on its own: when it is unpaused, started by hand, caught up, "
    "backfilled, and in each `dags test`. If these people are to hear the same again, set again=True; or say other "
    "words, such as the date; or set once_per='dag', which calls each number or unique_key once in all runs"
)
"""The remedies for a run that would call people again."""


class LateTaskError(InvalidInputError):
    """Raised when a task would make calls although its `valid_until` has passed."""

    def __init__(self, valid_until: datetime, *, calls: int) -> None:
        what = "the call of this task has" if calls == 1 else f"{calls} calls of this task have"
        super().__init__(
            f"valid_until has passed, at {valid_until:%Y-%m-%d %H:%M:%S} UTC, and {what} not been enqueued by then. "
            "Nobody is called for a run that is this late (an unpaused DAG, a catch-up, a backfill). If it is still "
            "wanted, give a later valid_until and clear this task"
        )


@contextmanager
def as_airflow_errors(subject: str) -> Generator[None]:
    """Raise errors of the library as Airflow exceptions, with messages that begin with `subject`."""
    try:
        yield
    except FINAL as error:
        nothing = " Nobody was called." if isinstance(error, CallFlowError) else ""
        raise AirflowFailException(f"{subject}: {error}{nothing}") from error
    except VoiceflowError as error:
        raise AirflowException(f"{subject}: {error}") from error


def fails(job: Job, fail_on: Iterable[str]) -> bool:
    """Return whether `fail_on` names the state of this job or the session status of its call.

    If a call has two legs, only the leg to the person counts: a busy other party is not a failure. If a person has
    several numbers, that of the newest outcome counts.
    """
    found = {job.state.value}
    if (post := job.ended_post) is not None and (outcome := post.outcome) is not None:
        found |= {outcome.text_of(job.number_of(post)), outcome.status_text if len(outcome.legs) < 2 else ""}
    return not {name.casefold() for name in fail_on}.isdisjoint(each.casefold() for each in found)


def checked_fail_on(fail_on: Iterable[str]) -> tuple[str, ...]:
    """Return the names as a tuple. Raises ValueError for a name that is neither a final state nor a session status."""
    from voiceflow_worker import SessionStatus

    states = [state.value for state in JobState if state.is_final]
    statuses = [status.value for status in SessionStatus]
    names = (fail_on,) if isinstance(fail_on, str) else tuple(fail_on)
    for name in names:
        if name.casefold() not in {each.casefold() for each in (*states, *statuses)}:
            raise ValueError(
                f"fail_on has {name!r}, which is neither a final state ({', '.join(states)}) nor a session status "
                f"({', '.join(statuses)})"
            )
    return names


def never_rang(job: Job) -> bool:
    """Return whether it is certain that this job rang nobody's phone and never will.

    Returns False for a pruned job, which has no body: too little is known about it.
    """
    ended_unsent = job.state in {JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED}
    return ended_unsent and job.attempt == 0 and bool(job.body)


def ended(job: Job) -> str:
    """Return how the call ended, or its present state."""
    details = ""
    if (outcome := job.outcome) is not None:
        details = f" ({outcome.status_text}{f', {outcome.code} {outcome.message}' if outcome.code else ''})"
    elif job.last_post is not None and job.last_post.code is not None:
        details = f" ({job.last_post.code} {job.last_post.message})"
    elif job.reason:
        details = f" ({job.reason})"
    how = "ended as" if job.state.is_final else "is"
    return f"call {job.id} to {job.number} {how} {job.state.value}{details}"


def ending(job: Job, *, store: str) -> str:
    """Return a message that says how the call ended and what to do."""
    said = f"{ended(job)}."
    if never_rang(job):
        return (
            f"{said} Nobody was called. Correct the cause, then clear this task to make a new call. (A retry does not "
            "make a new call.)"
        )
    again = f"voiceflow calls redial {job.id} --post {job.post_count} --store {store} --queue {job.queue}"
    return f"{said} A retry does not call again. To call this person again, run `{again}`, then clear this task."


def doubt(job: Job, *, store: str) -> str:
    """Return a message about a call in doubt that says how to resolve the doubt."""
    began = job.open_post.began_at if job.open_post is not None else job.created_at
    post = "" if job.open_post is None else f" --post {job.open_post.number}"
    where = f"--store {store} --queue {job.queue}"
    return (
        f"call {job.id} to {job.number} is in doubt: its request was sent at {began:%Y-%m-%d %H:%M:%S} UTC, and "
        "it is not known whether 8x8 placed the call. Neither a worker nor a retry calls again. Check `voiceflow "
        f"calls show {job.id} {where}` and at the calls of your 8x8 account. Then run `voiceflow calls resolve "
        f"{job.id} --placed|--not-placed{post} --note '…' {where}`, and clear this task, which goes on with the same "
        "call."
    )


def judge(jobs: Sequence[Job], *, fail_on: Sequence[str], store: str) -> None:
    """Raise an Airflow exception for the first call with an outcome in `fail_on`, else for the first call in doubt."""
    bad = [job for job in jobs if job.state.is_final and fails(job, fail_on)]
    doubtful = [job for job in jobs if job.state is JobState.IN_DOUBT]
    for found, error, message in ((bad, AirflowFailException, ending), (doubtful, AirflowException, doubt)):
        if found:
            more = f" (This is the first of {len(found)} such calls, out of {len(jobs)}.)" if len(found) > 1 else ""
            raise error(message(found[0], store=store) + more)
