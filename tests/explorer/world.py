"""One moment of the explored world: jobs in the store, POSTs on the network and at 8x8, workers, clocks."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from tests.explorer.jobs import JobBook
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind


class Line(IntEnum):
    """Where a POST, and the call that it asks for, are in truth."""

    JOURNALLED = 0
    FLYING = 1
    TAKEN = 2
    RANG = 3
    REACHED = 4
    WAS_BUSY = 5
    DROPPED = 6
    NOTHING = 7


class Answer(IntEnum):
    """An answer on its way to the worker that waits for it, or what the worker made of the silence."""

    NONE = 0
    CREATED = 1
    REFUSED = 2
    MISSED = 3
    TURNED_AWAY = 4
    NOT_SENT = 5
    UNKNOWN = 6


class Phase(IntEnum):
    """What a worker is about to do."""

    IDLE = 0
    LEASED = 1
    UNSURE = 2
    READY = 3
    WAITING = 4
    ANSWERED = 5


class WorkerAt(NamedTuple):
    """A worker: with which job and POST it is busy. `extra` is an Answer when ANSWERED."""

    phase: int
    job: int
    post: int
    extra: int


IDLE = WorkerAt(Phase.IDLE, 0, 0, 0)


class Left(NamedTuple):
    """What may still happen of what is bounded."""

    jumps: int
    cancels: int
    resolves: int
    calls_again: int


class World(NamedTuple):
    """A state. A line is `place of the call | answer << 3 | summaries to come << 6 | one parked << 8 | unclear << 9`.

    `off` is how far worker A's clock is off.
    """

    jobs: tuple[int, ...]
    lines: tuple[tuple[int, ...], ...]
    workers: tuple[WorkerAt, ...]
    off: int
    left: Left


ANSWER, COPY, PARKED, UNCLEAR = 1 << 3, 1 << 6, 1 << 8, 1 << 9


def place(line: int) -> int:
    """The `Line` of a line."""
    return line & 7


def answer(line: int) -> int:
    """The `Answer` on its way."""
    return line >> 3 & 7


def copies(line: int) -> int:
    """How many summaries are still to come."""
    return line >> 6 & 3


def with_line(lines: tuple[tuple[int, ...], ...], job: int, post: int, line: int) -> tuple[tuple[int, ...], ...]:
    """The lines with one of them replaced."""
    its = lines[job]
    return (*lines[:job], (*its[:post], int(line), *its[post + 1 :]), *lines[job + 1 :])


def line_to(world: World, job: int, post: int, line: int) -> World:
    """The world with one line replaced."""
    return world._replace(lines=with_line(world.lines, job, post, line))


def busy(world: World, who: int, worker: WorkerAt) -> World:
    """The world with one worker replaced."""
    return world._replace(workers=(*world.workers[:who], worker, *world.workers[who + 1 :]))


RANG = frozenset({Line.RANG, Line.REACHED, Line.WAS_BUSY})

VERDICTS = {
    Answer.CREATED: Verdict(kind=VerdictKind.CREATED, message="created", code=1, session_id="session"),
    Answer.REFUSED: Verdict(kind=VerdictKind.REFUSED, message="refused", code=-1014),
    Answer.MISSED: Verdict(kind=VerdictKind.REFUSED, message="validity period has expired", code=-1015),
    Answer.TURNED_AWAY: Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests", http_status=429),
    Answer.NOT_SENT: Verdict(kind=VerdictKind.NOT_SENT, message="connection refused"),
    Answer.UNKNOWN: Verdict(kind=VerdictKind.UNKNOWN, message="read timeout"),
}

_SAID = {
    Line.JOURNALLED: "is journalled",
    Line.FLYING: "is on its way to 8x8",
    Line.TAKEN: "was taken by 8x8",
    Line.RANG: "RANG",
    Line.REACHED: "RANG and was answered",
    Line.WAS_BUSY: "RANG busy",
    Line.DROPPED: "was dropped by 8x8 unrung",
    Line.NOTHING: "is nowhere",
}


def told(world: World, book: JobBook) -> str:
    """The world in one line for people."""
    parts: list[str] = []
    for number, (job, lines) in enumerate(zip(world.jobs, world.lines, strict=True), 1):
        facts = book.facts[job]
        posts = ", ".join(
            f"POST {place_of} {_SAID[Line(place(line))]}"
            + (f" (verdict {post.verdict})" if post.verdict else "")
            + (f" (outcome {post.outcome.status_text})" if post.outcome else "")
            for place_of, (line, post) in enumerate(zip(lines, facts.posts, strict=True), 1)
        )
        name = f"job {number}" if len(world.jobs) > 1 else "job"
        parts.append(f"{name} {facts.state.upper()}{'; ' + posts if posts else ''}")
    if world.off:
        parts.append(f"worker A's clock is off by {world.off:+d} min")
    return " | ".join(parts)
