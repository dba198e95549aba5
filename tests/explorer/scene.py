"""Scenes to explore: the time limits in ticks, the faults that may happen, and the rules that decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from voiceflow_worker.model.jobs import evidence, lifecycle
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.verdict import VerdictKind

TICK = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""All times of a job are kept relative to now, so that waiting for ever is a finite set of states."""

WINDOW, RINGING, SKEW, LEASE, DEADLINE, REDIAL_AFTER = 2, 1, 1, 1, 2, 1
FAR = 4
"""A clock that jumped is off by this much: more than the window and the skew together."""

POLICY = CallPolicy(
    submit_window=WINDOW * TICK,
    ringing=RINGING * TICK,
    clock_skew=SKEW * TICK,
    summary_deadline=DEADLINE * TICK,
    first_look=TICK,
    longest_look=TICK,
    first_backoff=TICK,
    longest_backoff=TICK,
    missed_windows=1,
)


def moment(ticks: int) -> datetime:
    """The time so many ticks from now."""
    return NOW + ticks * TICK


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One bounded world. Numbers are budgets; what has none may happen any number of times.

    `copies`: how often a summary may come. `without_id`: it may come without its clientRequestId. `jumps`: by how many
    ticks the clock of worker A may jump, once. `mistaken`: a person may say "not placed" of a call that rang.
    `unclear`: a summary with an unknown status may come first. `lost_replies`: the store may commit and not be heard.
    `export`: the log of 8x8 may show a call, however late, while it is on or once it has ended.

    What is lost needs no step: it never comes. Whether a job ends when nothing ever comes is judged for each of them.
    """

    valid_for: int | None = None
    redials: int = 0
    copies: int = 1
    without_id: bool = False
    unclear: bool = False
    export: bool = False
    busy: bool = True
    refusals: bool = True
    jumps: tuple[int, ...] = ()
    cancels: int = 0
    resolves: int = 0
    calls_again: int = 0
    mistaken: bool = False
    lost_replies: bool = True
    posts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who decides. By default the real functions; a mutation replaces one, to see that the explorer notices.

    `timeout` is what a read timeout is taken for. `overdue_doubt` is what a sweep does to a job in doubt besides
    looking again. `witness` says whose clock a person's "not placed" is judged by: 8x8's, or worker A's.
    """

    lease: Callable[..., Job] = lifecycle.lease
    release: Callable[..., Job] = lifecycle.release
    begin: Callable[..., Job] = lifecycle.begin
    expire: Callable[..., Job] = lifecycle.expire
    overdue_sending: Callable[..., Job] = lifecycle.doubt
    overdue_submitted: Callable[..., Job] = lifecycle.give_up_waiting
    overdue_doubt: Callable[..., Job] | None = None
    cancel: Callable[..., Job] = lifecycle.cancel
    resolve: Callable[..., Job] = lifecycle.resolve
    redial: Callable[..., Job] = lifecycle.redial
    answered: Callable[..., Job] = evidence.answered
    summarised: Callable[..., Job] = evidence.summarised
    found_placed: Callable[..., Job] = evidence.found_placed
    timeout: VerdictKind = VerdictKind.UNKNOWN
    witness: str = "8x8"


REAL = Rules()
