"""The judge: the jobs of a store against the ledger of what rang."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.reports.verdict import VerdictKind

Row = Mapping[str, Any]
"""One row of the sandbox's ledger."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, with the whole story of its call."""

    sentence: str
    call: dict[str, object] | None
    rows: Sequence[Row]

    @property
    def word(self) -> str:
        """The promise, in one word or two."""
        return self.sentence.partition(":")[0]

    def __str__(self) -> str:
        """The story, for people."""
        rows = "\n".join(f"  ledger: {json.dumps(row)}" for row in self.rows) or "  ledger: nothing"
        return f"{self.sentence}\n  call: {json.dumps(self.call)}\n{rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the ledger and the store say of a run."""

    calls: int
    rang: int
    rings_per_destination: int
    """At most. Where calls were asked for with redials or to one number: how often one rang for each ring allowed."""
    lost: int
    states: dict[str, int]
    open_doubts: tuple[str, ...]
    """Jobs in doubt that had not rung: listed, and for a person to resolve."""
    unanswered: int
    """Jobs one of whose POSTs has an outcome and no clear answer: only the summary told that it was placed."""
    violations: tuple[Violation, ...] = field(default=())
    alarms: int = 0
    """Jobs of which a person was told, after a rollback, that they may have rung twice."""
    forgotten: int = 0
    """Earlier attempts that rang and have no outcome: the store was rolled back to before their summaries."""

    def __str__(self) -> str:
        """The judgement, for people."""
        counts = (
            f"{self.calls} calls: {self.states}; {self.rang} rang, at most {self.rings_per_destination} times each; "
            f"of {self.unanswered} only the summary told; {len(self.open_doubts)} doubts are open and had not rung; "
            f"{self.lost} lost"
        )
        return "\n".join([counts, *map(str, self.violations)])


def judge(
    jobs: Sequence[Job],
    ledger: Sequence[Row],
    *,
    enqueued: Collection[str],
    may_wait: Collection[JobState] = (),
    counted: Mapping[JobState, int] | None = None,
) -> Judgement:
    """Judge a run that has come to rest, with every summary delivered.

    `enqueued` are the ids of all jobs handed in; each had a destination of its own and no redials. Jobs may have been
    left in the states `may_wait`; otherwise each must have ended or be in doubt. `counted` is what the store counts.
    """
    bench = Bench(jobs, ledger)
    bench.nothing_is_lost(enqueued)
    bench.nothing_rang_twice()
    bench.nothing_was_sent_twice()
    bench.each_job_is_judged(may_wait)
    return bench.judgement(
        calls=len(enqueued),
        lost=len(set(enqueued) - bench.jobs.keys()),
        rings=max(bench.rings_by_destination.values(), default=0),
        counted=counted,
    )


class Bench:
    """The rules for single jobs, and what they found."""

    def __init__(self, jobs: Sequence[Job], ledger: Sequence[Row]) -> None:
        self.violations: list[Violation] = []
        self.alarms: set[str] = set()
        self.forgotten: set[str] = set()
        self.ledger = ledger
        self.rang = [row for row in ledger if row["rang"]]
        self.rings_by_destination = Counter(row["destination"] for row in self.rang)
        self.jobs = {job.id: job for job in jobs}
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in ledger:
            self._rows[job_id_of(row)].append(row)

    def judgement(
        self, *, calls: int, lost: int, rings: int, counted: Mapping[JobState, int] | None = None
    ) -> Judgement:
        """What was found, with its counts."""
        jobs = self.jobs.values()
        states = Counter(job.state for job in jobs)
        if counted is not None and {state: count for state, count in counted.items() if count} != states:
            self.found(f"the store counts {dict(counted)}, and lists {dict(states)}", None)
        return Judgement(
            calls=calls,
            rang=len(self.rang),
            rings_per_destination=rings,
            lost=lost,
            states={state.value: count for state, count in sorted(states.items())},
            open_doubts=tuple(job.id for job in jobs if job.state is JobState.IN_DOUBT and not self._open_ring(job)),
            unanswered=sum(
                any(post.outcome is not None and post.answered_at is None for post in job.posts) for job in jobs
            ),
            violations=tuple(self.violations),
            alarms=len(self.alarms),
            forgotten=len(self.forgotten),
        )

    def found(self, sentence: str, job: Job | None, rows: Iterable[Row] | None = None) -> None:
        """A promise was broken; `rows` are those of the job unless others tell of it."""
        if rows is None:
            rows = self._rows[job.id] if job is not None else ()
        self.violations.append(Violation(sentence, call_as_json(job) if job is not None else None, tuple(rows)))

    def rings_of(self, job: Job) -> list[Row]:
        """The POSTs of a job that rang."""
        return [row for row in self._rows[job.id] if row["rang"]]

    def forgotten_outcomes(self, job: Job, rang: Sequence[Row]) -> set[str]:
        """The POSTs of a job whose summaries the store may have forgotten; here the store was never rolled back."""
        del job, rang
        return set()

    def _open_ring(self, job: Job) -> bool:
        """Whether the POST that a job in doubt speaks of rang."""
        post = job.open_post
        return post is not None and any(
            row["client_request_id"] == post.client_request_id for row in self.rings_of(job)
        )

    def nothing_is_lost(self, enqueued: Collection[str]) -> None:
        for job_id in sorted(set(enqueued) - self.jobs.keys()):
            self.found(f"LOST: {job_id} was enqueued and is not in the store", None, self._rows[job_id])
        for job_id in sorted(self.jobs.keys() - set(enqueued)):
            self.found(f"MADE UP: {job_id} is in the store and was never enqueued", self.jobs[job_id])

    def nothing_rang_twice(self) -> None:
        for destination, count in self.rings_by_destination.items():
            if count > 1:
                rows = [row for row in self.ledger if row["destination"] == destination]
                self.found(f"TWICE: {destination} rang {count} times", self.jobs.get(job_id_of(rows[0])), rows)

    def nothing_was_sent_twice(self) -> None:
        for client_request_id, count in Counter(row["client_request_id"] for row in self.ledger).items():
            if count > 1:
                job = self.jobs.get(str(client_request_id).rpartition(".")[0])
                self.found(f"SENT TWICE: the POST {client_request_id} arrived {count} times", job)

    def each_job_is_judged(self, may_wait: Collection[JobState] = ()) -> None:
        for job in self.jobs.values():
            self._knows_what_rang(job, may_wait)
            self._rang_in_time(job)

    def _knows_what_rang(self, job: Job, may_wait: Collection[JobState]) -> None:
        rang = self.rings_of(job)
        if not job.state.is_final and job.state is not JobState.IN_DOUBT and job.state not in may_wait:
            self.found(f"STUCK: {job.id} is {job.state.value} when everything is over", job)
        if job.state is JobState.IN_DOUBT and self._open_ring(job):
            self.found(f"UNSETTLED: {job.id} rang, its summary was delivered, and it is in doubt", job)
        elif rang and not job.has_outcome and not _resolved(job):
            self.found(f"UNKNOWN RING: {job.destination} rang, and {job.id} has no outcome", job)
        if job.has_outcome and not rang:
            self.found(f"MADE UP: {job.id} has an outcome, and nothing rang", job)
        ids = {row["client_request_id"] for row in rang}
        outcomes = {post.client_request_id for post in job.posts if post.outcome is not None and post.was_placed}
        forgotten = self.forgotten_outcomes(job, rang)
        self.forgotten |= forgotten
        outcomes |= _resolved(job) | forgotten
        if job.has_outcome and rang and ids != outcomes and not (job.state is JobState.IN_DOUBT and outcomes < ids):
            self.found(f"WRONG POST: {sorted(ids)} rang, and the outcome stands with {sorted(outcomes)}", job)
        for note in job.notes:
            if note.kind is not NoteKind.RANG_TWICE:
                continue
            # A worker that was killed before its POST left has told its journal of it. After a rollback nobody knows
            # whether it left: the person is told, and the ledger says here that there was nothing to tell.
            if "the store was rolled back" in note.text:
                self.alarms.add(job.id)
            else:
                self.found(f"INCIDENT: {job.id} has a rang_twice note", job)

    def _rang_in_time(self, job: Job) -> None:
        for row in self.rings_of(job):
            at = moment(row["at"])
            post = next((post for post in job.posts if post.client_request_id == row["client_request_id"]), None)
            if post is None:
                self.found(f"NO JOURNAL: {row['client_request_id']} rang, and {job.id} knows no such POST", job)
                continue
            # Of two POSTs with one number, the store knows one, and a note tells of the other, which may be this one.
            lost = f"POST {post.number} was begun at"
            is_noted = any(note.kind is NoteKind.RANG_TWICE and note.text.startswith(lost) for note in job.notes)
            until = moment(row["valid_until"]) if is_noted else post.valid_until
            if at > until or (job.valid_until is not None and at > job.valid_until):
                self.found(f"LATE: {job.id} rang at {row['at']}", job)


def _resolved(job: Job) -> set[str]:
    """The POSTs of which a person said that they were placed: where the log has several rows that fit, nobody else can.

    After the store was rolled back it has forgotten the summaries that came since, and they do not come again.
    """
    if not any(note.kind is NoteKind.RESOLVED for note in job.notes):
        return set()
    return {post.client_request_id for post in job.posts if post.verdict is VerdictKind.PLACED}


def job_id_of(row: Row) -> str:
    """The job that a POST says it is of."""
    return str(row["client_request_id"] or "").rpartition(".")[0]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
