"""Errors and outcomes of calls as failures of Airflow tasks: final where a retry cannot help."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from voiceflow_worker import (
    CallFlowError,
    InvalidInputError,
    Job,
    JobState,
    RedisForgetsError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
    UnknownBackendError,
    VoiceflowError,
)

_FINAL = (
    InvalidInputError,
    RedisForgetsError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
    UnknownBackendError,
)
"""Errors that a retry would meet again."""


@contextmanager
def as_airflow_errors(subject: str) -> Generator[None]:
    """Raise the library's errors as Airflow's. Their messages begin with `subject`."""
    try:
        yield
    except _FINAL as error:
        nothing = " Nobody was called." if isinstance(error, CallFlowError) else ""
        raise AirflowFailException(f"{subject}: {error}{nothing}") from error
    except VoiceflowError as error:
        raise AirflowException(f"{subject}: {error}") from error


def fails(job: Job, fail_on: Iterable[str]) -> bool:
    """Whether `fail_on` names the state of this job or the status of its call.

    With two legs, the status of the person called counts: the other party may have been busy.
    """
    found = {job.state.value}
    if (outcome := job.outcome) is not None:
        found |= {outcome.text_of(job.destination) or "", outcome.status_text if len(outcome.legs) < 2 else ""}
    return not {name.casefold() for name in fail_on}.isdisjoint(each.casefold() for each in found)


def checked_fail_on(fail_on: Iterable[str]) -> tuple[str, ...]:
    """The names, if each is a final state or a session status. Raises ValueError for the first that is neither."""
    from voiceflow_worker import SessionStatus

    states = [state.value for state in JobState if state.is_final]
    statuses = [status.value for status in SessionStatus]
    names = (fail_on,) if isinstance(fail_on, str) else tuple(fail_on)
    for name in names:
        if name.casefold() not in {each.casefold() for each in (*states, *statuses)}:
            raise ValueError(
                f"fail_on has {name!r}; states are {', '.join(states)}; session statuses are {', '.join(statuses)}"
            )
    return names


def never_rang(job: Job) -> bool:
    """Whether it is certain that this job rang nobody's phone and never will.

    The store keeps no requests of a pruned job, so nothing is certain about it.
    """
    ended_unsent = job.state in {JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED}
    return ended_unsent and job.attempt == 0 and bool(job.body)


def ending(job: Job, *, store: str) -> str:
    """A sentence on how the call ended, and what to do."""
    details = ""
    if (outcome := job.outcome) is not None:
        details = f" ({outcome.status_text}{f', {outcome.code} {outcome.message}' if outcome.code else ''})"
    elif job.last_post is not None and job.last_post.code is not None:
        details = f" ({job.last_post.code} {job.last_post.message})"
    elif job.reason:
        details = f" ({job.reason})"
    ended = f"call {job.id} to {job.destination} ended as {job.state.value}{details}."
    if never_rang(job):
        return (
            f"{ended} Nobody was called. Correct the cause, then clear this task: it makes a new call. (A retry would "
            "find this one again.)"
        )
    again = f"voiceflow calls redial {job.id} --store {store} --queue {job.queue}"
    return f"{ended} A retry does not call again; to call this person again: {again}, then clear this task."


def doubt(job: Job, *, store: str) -> str:
    """A sentence on a call in doubt, and how to resolve it."""
    began = job.open_post.began_at if job.open_post is not None else job.created_at
    where = f"--store {store} --queue {job.queue}"
    return (
        f"call {job.id} to {job.destination} is in doubt: it was sent at {began:%Y-%m-%d %H:%M:%S} UTC, and it is not "
        "known whether it was placed. Neither a worker nor a retry calls again. Look at `voiceflow calls show "
        f"{job.id} {where}` and at the calls of your 8x8 account, then resolve it with `voiceflow calls resolve "
        f"{job.id} --placed|--not-placed --note '…' {where}`, and clear this task: it goes on with the same call."
    )


def judge(jobs: Sequence[Job], *, fail_on: Sequence[str], store: str) -> None:
    """Raise for the first outcome in `fail_on`, else for the first call in doubt."""
    bad = [job for job in jobs if job.state.is_final and fails(job, fail_on)]
    if bad:
        more = f" ({len(bad)} of {len(jobs)} calls ended so; this is the first)" if len(bad) > 1 else ""
        raise AirflowFailException(ending(bad[0], store=store) + more)
    doubtful = [job for job in jobs if job.state is JobState.IN_DOUBT]
    if doubtful:
        more = f" ({len(doubtful)} of {len(jobs)} calls are in doubt; this is the first)" if len(doubtful) > 1 else ""
        raise AirflowException(doubt(doubtful[0], store=store) + more)
