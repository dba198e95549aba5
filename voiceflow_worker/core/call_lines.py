"""Lines of the log at level info for each step of a call: its POST, what 8x8 answered, how it ended.

They carry ids, states and codes, and no phone number, text, key press or name of a person. A service turns them on: in
a program of somebody else, or in a command that shows its calls otherwise, they would only fill the output.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import structlog

from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import Verdict

_log = structlog.get_logger("voiceflow.calls")


class _Lines:
    are_on = False


@contextmanager
def logged() -> Generator[None]:
    """Log the calls of this process while the block lasts."""
    _Lines.are_on = True
    try:
        yield
    finally:
        _Lines.are_on = False


def post_begun(job: Job) -> None:
    """The POST of a journalled call is handed to the gateway."""
    if _Lines.are_on:
        _log.info("a call is sent", **_ids(job, job.posts[-1].number))


def answered(job: Job, verdict: Verdict) -> None:
    """8x8 has answered the last POST of a call, or nothing was sent, or nobody knows."""
    if _Lines.are_on:
        found = {
            "http_status": verdict.http_status,
            "code": verdict.code,
            "session": verdict.session_id,
            "cause": verdict.cause,
        }
        fields = {name: value for name, value in found.items() if value is not None}
        _log.info("8x8 answered", **_ids(job, job.posts[-1].number), verdict=verdict.kind.value, **fields)


def ended(job: Job, number: int, outcome: Outcome) -> None:
    """A summary has settled a POST of a call, which is now as `job` says."""
    if _Lines.are_on:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        _log.info(
            "an outcome came",
            **_ids(job, number),
            session=outcome.session_id,
            outcome=status,
            state=job.state.value,
            seconds=outcome.seconds,
        )


def _ids(job: Job, number: int) -> dict[str, object]:
    post = job.post(number)
    batch = {} if job.batch_id is None else {"batch": job.batch_id}
    return {"job": job.id, "post": None if post is None else post.client_request_id, **batch}
