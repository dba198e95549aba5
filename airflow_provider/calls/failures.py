"""What a task tells when a call did not go as asked: ordinary failure where a retry can help, else final failure."""

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

_HOPELESS = (
    InvalidInputError,
    RedisForgetsError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
    UnknownBackendError,
)
"""The same again would end the same: somebody must change something first."""


@contextmanager
def told_to_airflow(what: str) -> Generator[None]:
    """Errors of the library as Airflow's: final where a retry cannot help. `what` begins the sentence."""
    try:
        yield
    except _HOPELESS as error:
        nothing = " Nobody was called." if isinstance(error, CallFlowError) else ""
        raise AirflowFailException(f"{what}: {error}{nothing}") from error
    except VoiceflowError as error:
        raise AirflowException(f"{what}: {error}") from error


def fails(job: Job, fail_on: Iterable[str]) -> bool:
    """Whether this outcome is one that the task should fail for: a state, or the status of the call, of `fail_on`.

    Of two legs the person's own counts: the other party may have been busy, and the person served.
    """
    status = job.outcome.text_of(job.destination) if job.outcome is not None else None
    known = job.outcome.status_text if job.outcome is not None and len(job.outcome.legs) < 2 else None
    told = {job.state.value.casefold(), *(each.casefold() for each in (status, known) if each)}
    return any(name.casefold() in told for name in fail_on)


def checked_fail_on(fail_on: Iterable[str]) -> tuple[str, ...]:
    """The names as given, if each is a final state or a session status. Raises ValueError naming one that is not."""
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
    """Whether it is certain that nobody's phone rang for this job, and that none will.

    Of a job that was pruned the store knows the state and no POSTs: nothing is certain then.
    """
    ended_unsent = job.state in {JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED}
    return ended_unsent and job.attempt == 0 and bool(job.body)


def story(job: Job, *, store: str) -> str:
    """How the call ended, in a sentence or two, and what can be done about it."""
    outcome = job.outcome
    told = job.state.value
    if outcome is not None:
        told += f" ({outcome.status_text}{f', {outcome.code} {outcome.message}' if outcome.code else ''})"
    elif job.last_post is not None and job.last_post.code is not None:
        told += f" ({job.last_post.code} {job.last_post.message})"
    elif job.reason:
        told += f" ({job.reason})"
    said = f"call {job.id} to {job.destination} ended as {told}."
    if never_rang(job):
        return (
            f"{said} Nobody was called. Correct what was wrong, then clear this task: it makes a new call. (A retry "
            "would find this one again.)"
        )
    again = f"voiceflow calls redial {job.id} --store {store} --queue {job.queue}"
    return f"{said} A retry does not call again; to call this person again: {again}, then clear this task."


def doubt(job: Job, *, store: str) -> str:
    """What a doubt is, and how it is resolved."""
    began = job.open_post.began_at if job.open_post is not None else job.created_at
    where = f"--store {store} --queue {job.queue}"
    return (
        f"call {job.id} to {job.destination} is in doubt: it was sent at {began:%Y-%m-%d %H:%M:%S} UTC, and nothing "
        "tells whether it was placed. It is not called again by itself, and not by a retry. Look at `voiceflow calls "
        f"show {job.id} {where}` and at the calls of your 8x8 account, then say which it is: `voiceflow calls resolve "
        f"{job.id} --placed|--not-placed --note '…' {where}`, and clear this task: it goes on with the same call."
    )


def judge(jobs: Sequence[Job], *, fail_on: Sequence[str], store: str) -> None:
    """Raise for calls in doubt, and for outcomes that the task should fail for."""
    bad = [job for job in jobs if job.state.is_final and fails(job, fail_on)]
    if bad:
        more = f" ({len(bad)} of {len(jobs)} calls ended so; this is the first)" if len(bad) > 1 else ""
        raise AirflowFailException(story(bad[0], store=store) + more)
    doubtful = [job for job in jobs if job.state is JobState.IN_DOUBT]
    if doubtful:
        more = f" ({len(doubtful)} of {len(jobs)} calls are in doubt; this is the first)" if len(doubtful) > 1 else ""
        raise AirflowException(doubt(doubtful[0], store=store) + more)
