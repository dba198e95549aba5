"""The log of a process: a line at level info for each answer and outcome of its calls, and masked telephone numbers.

Lines are written within `logged`: in somebody else's program, or in a command that shows its calls otherwise, they
would only fill the output. They carry ids, verdicts, states and codes, and no phone number, text, key press or name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from traceback import format_exception
from types import TracebackType
from typing import Any

import structlog

from voiceflow_worker.model.jobs.job import Job, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.text.printable import masked_event, without_numbers

_calls = structlog.get_logger("voiceflow.calls")


class _Lines:
    are_wanted = False


@contextmanager
def logged() -> Generator[None]:
    """Log the steps of the calls of this process, at level info, while the block lasts."""
    _Lines.are_wanted = True
    try:
        yield
    finally:
        _Lines.are_wanted = False


def mask_logs() -> None:
    """Mask telephone numbers in all logs of this process from now on, also of a program that has set them up itself."""
    sys.excepthook = _masked_traceback
    chains = [structlog.get_config()["processors"]]
    if not isinstance(chains[0], list):
        structlog.configure(processors=list(chains[0]))
        chains = [structlog.get_config()["processors"]]
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            chains.append(processors := list(handler.formatter.processors))
            handler.formatter.processors = processors
    for chain in chains:
        if _masked_whole not in chain:
            chain.insert(-1, _masked_whole)  # in place: loggers that were used keep their list


def _masked_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(without_numbers("".join(format_exception(kind, error, where))))


def _masked_whole(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return an event masked with its traceback, which the last of a chain would write out itself."""
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(logger, method, event)
        event["stack"] = event.pop("exception")
    return masked_event(logger, method, event)


def answered(job: Job, number: int, verdict: Verdict) -> None:
    """Log the answer of 8x8 to the POST with this number, or that nothing was sent, or that nobody knows."""
    in_doubt = verdict.kind is VerdictKind.UNKNOWN
    if not (in_doubt or _Lines.are_wanted):
        return
    fields = _ids(job, job.post(number))
    fields["verdict"] = verdict.kind.value
    for name in ("http_status", "code", "session_id", "cause"):
        if (value := getattr(verdict, name)) is not None:
            fields[name.removesuffix("_id")] = value
    if in_doubt:
        _calls.warning("the call is in doubt", **fields, error=verdict.message)
    else:
        _calls.info("8x8 answered", **fields)


def summarised(job: Job, number: int, outcome: Outcome) -> None:
    """Log that a summary has settled the POST with this number."""
    if _Lines.are_wanted:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        fields = {"outcome": status, "state": job.state.value, "seconds": outcome.seconds}
        _calls.info("an outcome came", **_ids(job, job.post(number)), session=outcome.session_id, **fields)


def _ids(job: Job, post: Post | None) -> dict[str, object]:
    """Return the fields by which the lines of a call are found."""
    fields: dict[str, object] = {"job": job.id, "post": None if post is None else post.client_request_id}
    if job.batch_id is not None:
        fields["batch"] = job.batch_id
    return fields
